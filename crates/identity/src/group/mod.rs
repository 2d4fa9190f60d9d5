//! Groups: users of a domain that are given roles together. Losing a membership ends the user's
//! tokens, since any of them may rest on it.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
