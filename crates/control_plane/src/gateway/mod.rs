//! Where hosts connect.
//!
//! A listener of its own, apart from the public API, because it trusts differently: here a client
//! is a host and proves it with a certificate of the cloud's authority. Only enrolment works
//! without one. A host's certificate names it, and every route answers for that host alone.
//!
//! ```text
//!   no certificate ── POST enrol (one-time token) ──▶ certificate
//!   certificate ───── GET documents ──▶ welcome, [snapshot], documents …, queries, pings
//!                └─── POST reports, POST answers, GET images
//! ```
//!
//! A host may open its stream again at any time; the newest one gets the questions, and the older
//! one ends at its next failed write.

mod api;
mod connections;
mod images;
mod listener;
mod reports;
mod stream;

pub use api::{Gateway, router};
pub use connections::Connections;
pub use listener::{PeerHost, serve, tls_config};
pub use reports::ReportRouter;
