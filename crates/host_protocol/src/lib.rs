//! What a host and the control plane say to each other.
//!
//! The control plane writes **documents** (what should exist on the host); the host answers with
//! **reports** (what does). A document names a generation, so an older one never overwrites a
//! newer one, and a placement epoch, so a host that lost a server cannot act on it again. Absence
//! means nothing: only a tombstone deletes. Everything travels on one HTTP/2 connection that the
//! host opens, over mutual TLS:
//!
//! ```text
//!   POST /host/v1/enrol        one-time token + CSR  → certificate, host id     (no client cert)
//!   GET  /host/v1/documents    stream of frames: welcome, documents, pings, queries
//!   POST /host/v1/reports      what happened, each answered accepted or refused
//!   POST /host/v1/answers/{id} answer to a query frame
//!   GET  /host/v1/images/{id}  bytes of an image that a server on this host uses
//! ```

mod document;
mod frame;
mod network_state;
mod report;
mod spec;

pub use document::{Document, DocumentKind, Generation, PlacementEpoch, Position};
pub use frame::*;
pub use network_state::*;
pub use report::*;
pub use spec::*;
