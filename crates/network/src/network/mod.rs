//! Networks: flat L2 segments of one tenant. A network exists as soon as its row does (status
//! `ACTIVE`); hosts learn of it with its first port there and forget it with the last.

pub mod api;
pub mod model;
pub mod service;
pub mod store;
