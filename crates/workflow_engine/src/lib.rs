//! Durable work in steps: what crosses hosts or takes time, and must be undone when it fails.
//!
//! A workflow is a type that lists its steps. It is started in the transaction of the change that
//! asked for it; from then on it ends, whoever dies in between. Every step is **one database
//! transaction**: hosts are reached by documents, which are rows, so a step's effect and the
//! record that it happened are stored together or not at all.
//!
//! ```text
//!  start ─▶ forward 0 ─▶ forward 1 ─ ─ ─▶ forward n ─▶ finished(Succeeded)        succeeded
//!               │  ▲ Wait, Retry: the same step again, later
//!               │  └──┘
//!               │ fault, cancel or deadline, before the point of no return
//!               ▼
//!           undo i ─▶ undo i-1 ─ ─ ─▶ undo 0 ─▶ finished(Undone | Cancelled)    undone, cancelled
//!               │ fault: again with backoff; after many attempts
//!               ▼
//!             parked, an alarm, until an operator resumes it
//!
//!  past the point of no return a fault is tried again for ever, and an alarm after the deadline
//! ```
//! Workers take a workflow with a lease, whose **epoch** every write of theirs checks in the same
//! transaction: a worker that was thought dead cannot write.
//!
//! See `examples/three_steps.rs` for a whole workflow with its tests.

mod engine;
mod execute;
mod interfere;
mod model;
mod outcome;
mod requests;
mod runner;
mod step;
mod store;
#[cfg(feature = "test_support")]
pub mod test_support;

pub use engine::{Engine, EngineConfig};
pub use model::{Direction, Status, WorkflowView};
pub use requests::{
    Start, abandon, active_of_owner, cancel, find_by_owner, get, overdue_count, parked_count,
    resume, start, succeed, wake,
};
pub use step::{End, EventKey, Outcome, Step, StepContext, StepFn, Workflow};
pub use store::MIGRATIONS;
