//! Frames of the document stream (one JSON object a line), enrolment, and questions that are
//! answered at once and stored nowhere.

use serde::{Deserialize, Serialize};

use crate::{Document, HostTrace, NetworkState, Position, TraceStart};

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
        /// How this stream is to be used.
        #[serde(default)]
        terms: StreamTerms,
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
    /// Sent when nothing else is for as long as the [`StreamTerms`] say, so that both ends notice
    /// a dead peer.
    Ping {
        /// How the stream is to be used from now on, when that has changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Box<StreamTerms>>,
    },
}

/// What a control plane says of a stream, at its beginning and when something changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamTerms {
    /// Counts the host's streams, over all replicas of the control plane. What the host sends names
    /// it, and is refused once a later stream was opened. 0: not counted.
    pub session: u64,
    /// Milliseconds between pings on a quiet stream.
    pub ping_millis: u64,
    /// Milliseconds without any frame after which the host gives the stream up.
    pub silence_millis: u64,
    /// The gateways of all replicas; empty where there is one control plane and no choice.
    pub gateways: Vec<GatewayState>,
}

impl Default for StreamTerms {
    fn default() -> Self {
        StreamTerms {
            session: 0,
            ping_millis: PING_SECONDS * 1000,
            silence_millis: STREAM_SILENCE_SECONDS * 1000,
            gateways: Vec::new(),
        }
    }
}

/// A gateway, as the replicas of the control plane see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayState {
    /// `https://name:port`.
    pub url: String,
    /// Whether its replica gave a sign of life lately.
    pub serving: bool,
}

/// Seconds between pings on a quiet stream, where there is one control plane.
pub const PING_SECONDS: u64 = 10;
/// Seconds without any frame after which a host gives the connection up and opens another, where
/// there is one control plane.
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
    /// Everything that the host has been told and what became of it: asked after the region's
    /// database was restored.
    Inventory,
    /// Whether the flow table is as it should be.
    NetworkState {
        /// One port of the host, instead of all.
        port_id: Option<String>,
    },
    /// Which way a packet takes through the flow table.
    Trace {
        /// What, and where from.
        start: TraceStart,
        /// Whether it is an answer within a connection that was let begin, not its first packet.
        is_answer: bool,
    },
}

/// The answer to a [`HostQuery`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum HostAnswer {
    /// The console's text; bytes that are not UTF-8 are replaced.
    ConsoleLog {
        /// The text.
        output: String,
    },
    /// What the host has.
    Inventory {
        /// Its documents, those of a former lineage too.
        held: Vec<Held>,
    },
    /// The flow table, as it should be and as it is.
    NetworkState {
        /// Both.
        state: Box<NetworkState>,
    },
    /// The way of a packet.
    Trace {
        /// Through this host.
        trace: Box<HostTrace>,
    },
    /// The host cannot answer.
    Failed {
        /// Why.
        message: String,
        /// Whether there is no such thing on the host.
        not_found: bool,
    },
}

/// A document that a host has, and its last report on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The document, in the version that it follows.
    pub document: Document,
    /// How far it is with it; absent before the first report.
    #[serde(default)]
    pub state: Option<crate::ReportState>,
    /// What it sees, by kind.
    #[serde(default)]
    pub facts: serde_json::Value,
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
