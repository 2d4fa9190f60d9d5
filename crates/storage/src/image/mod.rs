//! Images: what servers boot from. Glance v2 on the wire, files in the zone beneath.
//!
//! ```text
//!            PUT file                  complete, format checked
//!   queued ───────────▶ saving ───────────────────────────────▶ active ◀──▶ deactivated
//!     ▲                   │ failed, cut short, or its process died      actions
//!     └───────────────────┘
//!   any ──DELETE──▶ gone      its file is a leftover, removed at once or by the sweeper
//! ```
//!
//! A `saving` image belongs to one upload, which says every few seconds that it lives; one that
//! has been silent for [`model::UPLOAD_SILENCE`] has died, and the sweeper returns its image to
//! `queued`. The file is written beside its place, synced, checked and renamed before the row says
//! `active`, so an active image is whole and on disk. A file is removed only when it is written
//! down as a leftover, or when it was being written by an upload that no row knows. An image that is
//! in use can be deleted, as in Glance: hosts keep copies of their own, so that no server that has
//! started from it is disturbed, and one that is being built holds the file, which then goes with
//! the last such build.

mod api;
mod files;
mod format;
mod model;
mod patch;
mod policy;
mod quota;
mod schema;
mod service;
mod store;
mod upload;

pub use api::routes;
pub use files::{FileStore, ImageFile, ImageStore};
pub use format::DiskFormat;
pub use model::{BootImage, Image, ImageStatus, Visibility};
pub use policy::POLICY;
pub use quota::DEFAULTS as QUOTA_DEFAULTS;
pub use service::Images;

#[cfg(test)]
mod tests;
