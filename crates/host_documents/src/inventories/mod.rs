//! What hosts have said that they have, after the database was restored: kept until an operator has
//! compared it with the rows.

mod store;

pub use store::{clear, list, put};
