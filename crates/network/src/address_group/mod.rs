//! Address groups: named lists of address ranges that rules of security groups refer to, so that a
//! list is written once. Hosts get the ranges inside the rules of their ports; a change of the list
//! is told to the hosts of every port whose rules name it, in the same transaction.

pub mod api;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
