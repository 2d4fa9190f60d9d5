//! Which endpoints the tokens of a project show. A project may be given endpoints one by one, and
//! groups of endpoints that are chosen by what they are (service, region, interface). A project
//! that has neither shows the whole catalogue.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
