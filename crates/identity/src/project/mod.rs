//! Projects: what owns servers, networks and images. Disabling or deleting one ends the tokens
//! that are scoped to it, by its serial. What other services keep for a project stays until its
//! owner there deletes it: a deleted project's name can be taken again, its id never.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
