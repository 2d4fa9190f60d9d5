//! Nova's quota sets and limits. What is counted (instances, cores, memory) is kept by
//! `service_kit::quota`, changed in the transaction of the server that takes it or gives it back.
//! The rest of a quota set are fixed limits of single requests, shown because clients ask.

pub mod api;
pub mod model;
pub mod service;

#[cfg(test)]
mod tests;
