//! Where a server goes. The scheduler is a pure function from a request and a view of the hosts
//! to a decision that explains itself, or to a refusal that says which filter turned how many
//! hosts away and what would have fitted. Nothing here reads a clock, a row or a socket; the
//! workflow that asks claims what was decided, and asks again when somebody was faster.
//!
//! ```text
//!   hosts ──enabled──alive──zone──asked-for──tried──L2 domain──architecture──vCPU──RAM──disk──▶ weigh ──▶ one
//!            │         │      │                                        │
//!            └─────────┴──────┴── counted, for the refusal ────────────┘
//! ```

mod model;
#[cfg(test)]
mod tests;

pub use model::{
    Capacity, Decision, Filter, HostView, LargestFit, Ratios, Refusal, Request, Resources, schedule,
};
