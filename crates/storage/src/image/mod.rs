//! Images: what servers boot from. Glance v2 on the wire, files in the zone beneath.
//!
//! ```text
//!            PUT file                  complete, format checked
//!   queued ───────────▶ saving ───────────────────────────────▶ active ◀──▶ deactivated
//!     ▲                   │ failed, cut short, or its process died      actions
//!     └───────────────────┘
//!   any ──DELETE──▶ deleted   a row without a name to the outside, until its file is gone
//! ```
//!
//! A `saving` image belongs to one upload, which says every few seconds that it lives; one that
//! has been silent for [`model::UPLOAD_SILENCE`] has died, and the sweeper returns its image to
//! `queued`. The file is written beside its place, synced, checked and renamed before the row says
//! `active`, so an active image is whole and on disk. A file is removed only when its row says
//! `deleted`, or when it is a leftover of an upload that no row knows.

mod api;
mod files;
mod format;
mod listing;
mod model;
mod patch;
mod policy;
mod schema;
mod service;
mod store;
mod upload;

pub use api::routes;
pub use files::{FileStore, ImageFile, ImageStore};
pub use format::DiskFormat;
pub use model::{BootImage, Image, ImageStatus, Visibility};
pub use policy::POLICY;
pub use service::Images;

#[cfg(test)]
mod tests;
