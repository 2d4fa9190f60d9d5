//! Reports: what each host last said of its documents.
//!
//! A report is believed only about a document that is this host's, only when it is newer than the
//! one stored, and never about a generation that was not written yet.

mod model;
mod service;
mod store;

pub use model::{ReportSink, StoredReport};
pub use service::{apply, get};
pub(crate) use store::{delete as forget, delete_host as forget_host};

#[cfg(test)]
mod tests;
