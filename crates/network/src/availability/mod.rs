//! How many addresses each network has, and how many are used.

pub mod api;
pub mod store;
#[cfg(test)]
mod tests;
