//! `simulate`: runs a region as a seed says, and says what is wrong.
//!
//! ```text
//! simulate --seed 7 --hosts 50                 one run; again with the same seed: the same run
//! simulate --seeds 1-200 --hosts 20            many, each in a process of its own
//! simulate --seeds 1-200 --bug commit_twice    until a seed finds the planted bug
//! simulate --table                             every planted bug, as a table for the docs
//! ```
//! The binary answers its own process's calls for randomness and for the time while a run is under
//! way: what libraries draw (the order of hash maps, identifiers, nonces) then comes from the seed,
//! and what they ask the clock is simulated time. Each run has a process to itself, so that nothing
//! is left from the one before.

mod command;
mod system;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
