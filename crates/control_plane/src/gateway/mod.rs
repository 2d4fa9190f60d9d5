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
//! A host may open its stream again at any time, here or at another replica. Each stream has a
//! session, counted in the database: the newest gets the questions, reports that come through an
//! older one are refused, and whoever serves an older one ends it.

mod api;
mod connections;
pub mod heartbeat;
mod images;
mod listener;
mod relay;
mod reports;
mod stream;

pub use api::{Gateway, review_router, router};
pub use connections::Connections;
pub use listener::{PeerHost, serve, tls_config};
pub use relay::Relay;
pub use reports::ReportRouter;
