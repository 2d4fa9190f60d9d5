//! After the database was restored from a backup, rows are of yesterday and hosts of today.
//!
//! ```text
//!   restore: a new lineage ──▶ review ──adopt: an operator confirms──▶ review ──finish──▶ serving
//! ```
//! During the review nothing is done: hosts are told nothing, their reports wait with them, no
//! workflow runs, and the API says why it does not serve. Each host that connects is asked what it
//! has. [`plan`] compares that with the rows, and says for each difference what adopting it does.
//! Guests run on through all of it.

mod model;
mod review;
mod service;

pub use model::{Difference, Remedy, plan};
pub(crate) use review::ask;
pub use review::review;
pub use service::{Standing, adopt, begin, finish, is_pending, standing};

#[cfg(test)]
mod tests;
