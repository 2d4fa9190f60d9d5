//! Which address each port has.
//!
//! Every change happens under the lock of the network, and the primary key (subnet, address) is
//! the last word: two ports never have the same address. An automatic address is found without
//! looking at those that are taken:
//!
//! ```text
//!   fresh ──next_key reaches it──▶ allocated ──port goes──▶ released, waits for the old host
//!                                     ▲                         │ host confirms (or port was unbound)
//!                                     └──fresh ones used up─────┴──▶ released, reusable, oldest first
//! ```
//!
//! So an address rests as long as the pool allows before somebody else has it, which spares guests
//! stale neighbour caches, and it is never given while a host may still answer for it.

pub mod model;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
