//! The catalogue: regions, services, and the endpoints at which clients reach them. It is made at
//! bootstrap from the configuration, and can be changed by an administrator.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
