//! What a domain is configured to where it differs from the cloud: where its users are kept. Values
//! that are secret can be written and never read: they are in no answer and in no journal, and sealed
//! before they are stored.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
