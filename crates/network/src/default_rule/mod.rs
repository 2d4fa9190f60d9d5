//! What new security groups begin with: rules that operators set for the default groups of
//! projects, for all other groups, or for both. Groups that exist keep what they have.

pub mod api;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;
