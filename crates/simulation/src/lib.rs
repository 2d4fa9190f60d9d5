//! A region in one process, on a clock of its own, with everything going wrong that a seed says.
//!
//! ```text
//!              load: every route of the API            faults: crashes, partitions, slow disks,
//!                     │                                skew, failing starts, late copies, …
//!          simulated network: delay, loss                         │
//!          ┌──────────▼──────────┐                                ▼
//!          │ replica  replica  … │  the real services, engine, gateway, over
//!          └──────────┬──────────┘  one SQLite in memory: the real SQL
//!          simulated network: delay, loss, duplicates, partitions
//!          ┌──────────▼──────────┐
//!          │ agent  agent  agent │  the real agent and its store, over
//!          └──────────┬──────────┘  machines that are played and outlive it
//!                     ▼
//!      auditor, machines, ledger: while it runs, and when all has come to rest
//! ```
//! One thread runs it all. Time stands still while anything can be done, and jumps to the next
//! timer when nothing can ([`tokio::time::pause`]), so hours pass in seconds. Every random number
//! comes from the seed: what is ours takes it from the world's source, and for what is not ours
//! (the order of hash maps, identifiers) the binary answers the system's calls for randomness and
//! time itself (`main.rs`). The same seed therefore makes the same run, to the last report, and the
//! hash of its trace shows it.

pub mod clock;
pub mod faults;
pub mod host;
pub mod ledger;
pub mod link;
pub mod load;
pub mod machines;
pub mod network;
pub mod operations;
pub mod replica;
pub mod store;
pub mod trace;
pub mod verdict;
pub mod world;

pub use world::{Options, Outcome, run};
