//! Projects: what owns servers, networks and images. Disabling or deleting one ends the tokens
//! that are scoped to it, by its serial. What other services keep for a project stays until its
//! owner there deletes it: a deleted project's name can be taken again, its id never.
//!
//! Projects of a domain form trees. The domain itself can be seen as the project at the root:
//! `is_domain` is true of it, and what is done to it as a project is done to the domain. A project
//! below a disabled one cannot be enabled, and one above enabled ones not disabled, unless the
//! whole tree is (`…/cascade`).

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
pub(crate) mod tree;
