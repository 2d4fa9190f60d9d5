//! Application credentials: names and secrets with which a program acts in one project, with some
//! of its user's roles there. Restricted ones, which all are unless said otherwise, make no further
//! credentials and trusts. With access rules, only the requests that these name are allowed; they
//! travel in the token, so that every service checks them without asking anybody
//! (`docs/decisions/0009`).
//!
//! A credential cannot be changed. It ends when it is deleted, when its time is over, and with its
//! user, its project or a role's deletion. While its user lacks some of its roles, tokens that are
//! got with it have the others only.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
