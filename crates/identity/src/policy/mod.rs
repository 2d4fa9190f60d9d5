//! Policies kept for services outside the cloud, and which endpoint should follow which: by
//! endpoint, by service in a region, or by service. Nothing here is asked by this cloud's own
//! services; theirs is the operator's policy file.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
