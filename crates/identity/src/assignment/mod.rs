//! Who has which role where: a user or a group, on a project, a domain or the system; on a domain
//! or project also handed down to the projects below. Taking a role away ends the tokens that may
//! rest on it.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
