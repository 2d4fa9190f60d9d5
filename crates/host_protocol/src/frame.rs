//! Frames of the document stream (one JSON object a line), enrolment, and questions that are
//! answered at once and stored nowhere.

use serde::{Deserialize, Serialize};

use crate::{Document, Position};

/// One line of `GET /host/v1/documents?position=N&lineage=L`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub enum Frame {
    /// Always first.
    Welcome {
        /// The database's lineage: a restored database has a new one, and a host that meets a
        /// new lineage reports everything it has and deletes nothing.
        lineage: String,
        /// Whether a whole snapshot follows (the host's position is unknown or too old).
        snapshot: bool,
    },
    /// A document, in order of position.
    Document(Box<Document>),
    /// The snapshot is complete; the host's position is now this.
    SnapshotEnd {
        /// The position of the newest document at the time of the snapshot.
        position: Position,
    },
    /// A question; answered by `POST /host/v1/answers/{id}`.
    Query {
        /// Names the answer.
        id: String,
        /// What is asked.
        query: HostQuery,
    },
    /// Sent every [`PING_SECONDS`] when nothing else is, so that both ends notice a dead peer.
    Ping,
}

/// Seconds between pings on a quiet stream.
pub const PING_SECONDS: u64 = 10;
/// Seconds without any frame after which a host gives the connection up and opens another.
pub const STREAM_SILENCE_SECONDS: u64 = 35;

/// A question to a host that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case")]
pub enum HostQuery {
    /// The end of a server's serial console.
    ConsoleLog {
        /// The server.
        server_id: String,
        /// How many lines from the end; all that is kept when absent.
        lines: Option<u32>,
    },
}

/// The answer to a [`HostQuery`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum HostAnswer {
    /// The console's text; bytes that are not UTF-8 are replaced.
    ConsoleLog {
        /// The text.
        output: String,
    },
    /// The host cannot answer.
    Failed {
        /// Why.
        message: String,
        /// Whether there is no such thing on the host.
        not_found: bool,
    },
}

/// What a new host sends to `POST /host/v1/enrol`.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The one-time join token.
    pub token: String,
    /// The host's name, shown to operators; letters, digits, dots and dashes.
    pub name: String,
    /// A certificate signing request (PEM); the key never leaves the host.
    pub csr: String,
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The answer to an enrolment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The host's identity from now on; also the certificate's common name.
    pub host_id: String,
    /// The host's certificate (PEM).
    pub certificate: String,
    /// The certificate authority to trust (PEM).
    pub authority: String,
}
