//! Limits: what a service may give a project or domain of a resource. A **registered limit** is
//! the cloud's default for a resource of a service (in a region); a **limit** is another number for
//! one project or domain, and must have a registered limit to differ from. Services read them; how
//! they are enforced over a tree of projects is the model:
//!
//! | model | |
//! |---|---|
//! | `flat` | each project counts for itself |
//! | `strict_two_level` | a project's limit is within its domain's; trees are two levels deep |

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
