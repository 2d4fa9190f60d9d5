//! The connection to the control plane.
//!
//! ```text
//!   no identity ──enrol──► enrolled ──connect──► streaming ──lost, or silent──► waiting ─┐
//!                                        ▲                                               │
//!                                        └───────── after a random time, 1 to 30 s ◄─────┘
//! ```
//! The control plane may have several replicas, each with a gateway; [`gateways`] chooses.
//!
//! Three tasks work over it: [`stream`] reads documents into the store and only then tells the
//! agent; [`outbox`] sends reports until each is answered; queries are answered as they come.
//! None of them ever changes what runs: losing the control plane stops nothing.

mod backoff;
pub mod enrol;
pub mod gateways;
mod http;
#[cfg(test)]
mod http_tests;
pub mod outbox;
pub mod stream;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures::stream::BoxStream;
use host_protocol::{Frame, HostAnswer, Position, ReportResults, Reports};

use crate::BoxFuture;
use crate::image_cache::ImageError;

pub use backoff::Backoff;
pub use gateways::Gateways;
pub use http::HttpControlPlane;

/// Why an exchange with the control plane failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It cannot be reached, or broke off.
    #[error("the control plane cannot be reached: {0}")]
    Unreachable(String),
    /// It answered, and refused.
    #[error("the control plane refused with status {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words, cut.
        message: String,
    },
    /// What came is not what the protocol says.
    #[error("the control plane sent something unreadable: {0}")]
    Protocol(String),
}

/// The control plane as a host sees it. The real one is [`HttpControlPlane`]; a simulation plays
/// it in the same process.
pub trait ControlPlane: Send + Sync + 'static {
    /// The gateways among which it chooses; `None` where there is one way to it.
    fn gateways(&self) -> Option<&Gateways> {
        None
    }

    /// Opens the stream of documents after `position` in `lineage`.
    fn documents(
        &self,
        lineage: Option<String>,
        position: Position,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Frame, LinkError>>, LinkError>>;

    /// Sends reports.
    fn report<'a>(
        &'a self,
        reports: &'a Reports,
    ) -> BoxFuture<'a, Result<ReportResults, LinkError>>;

    /// Answers a query.
    fn answer<'a>(
        &'a self,
        id: &'a str,
        answer: &'a HostAnswer,
    ) -> BoxFuture<'a, Result<(), LinkError>>;

    /// An image's bytes from `offset` on.
    fn image<'a>(
        &'a self,
        image_id: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>>;
}
