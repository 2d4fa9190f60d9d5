//! Domains: name spaces of users, groups and projects. Disabling one ends the tokens of its users
//! and those scoped to it or its projects, by its serial. Only a disabled domain can be deleted,
//! with everything in it.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
