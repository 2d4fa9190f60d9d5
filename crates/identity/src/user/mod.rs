//! Users: people and programs, each in a domain. A user has a **serial**, raised in the same
//! transaction as anything that must end tokens: a new password, disabling, deleting, a role or a
//! membership taken away.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
