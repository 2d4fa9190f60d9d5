//! Roles, and which role implies which: admin → manager → member → reader. A change is told to
//! every process, because tokens carry role ids and each process knows the names.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
