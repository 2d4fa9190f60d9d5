//! The envelope that everything a host is told travels in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Counts the versions of one document; a higher one replaces a lower one, never the reverse.
pub type Generation = u64;
/// Counts the placements of one server; raised only by the region.
pub type PlacementEpoch = u64;
/// Orders a host's documents; a host asks for what came after the position that it stored.
pub type Position = u64;

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// The host itself: its number, its L2 domain. Spec: [`crate::HostSpec`].
    Host,
    /// A network with a port on the host. Spec: [`crate::NetworkSpec`].
    Network,
    /// A port that lives on the host. Spec: [`crate::PortSpec`].
    Port,
    /// A port of one of the host's networks that lives on another host. Spec: [`crate::NeighbourSpec`].
    Neighbour,
    /// A server placed on the host. Spec: [`crate::ServerSpec`].
    Server,
    /// One act that a workflow asks for. Spec: [`crate::OperationSpec`].
    Operation,
}

impl DocumentKind {
    /// Every kind, in the order in which a host applies a snapshot.
    pub const ALL: [DocumentKind; 6] = [
        DocumentKind::Host,
        DocumentKind::Network,
        DocumentKind::Port,
        DocumentKind::Neighbour,
        DocumentKind::Server,
        DocumentKind::Operation,
    ];

    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            DocumentKind::Host => "host",
            DocumentKind::Network => "network",
            DocumentKind::Port => "port",
            DocumentKind::Neighbour => "neighbour",
            DocumentKind::Server => "server",
            DocumentKind::Operation => "operation",
        }
    }
}

impl fmt::Display for DocumentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DocumentKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        DocumentKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a kind of document"))
    }
}

/// One thing that should (or, as a tombstone, should no longer) exist on a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// What it describes.
    pub kind: DocumentKind,
    /// The object's identifier; unique within the kind.
    pub id: String,
    /// This version of it.
    pub generation: Generation,
    /// The server's placement epoch, or 0 where placement means nothing.
    #[serde(default)]
    pub epoch: PlacementEpoch,
    /// Where this version stands in the host's sequence.
    pub position: Position,
    /// Set when the object must go; `spec` is then the last one written, or null.
    #[serde(default)]
    pub tombstone: bool,
    /// The request that caused this version, for the host's log.
    #[serde(default)]
    pub request_id: String,
    /// The description, by kind.
    pub spec: serde_json::Value,
}

impl Document {
    /// Reads the description as its kind's type.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.spec)
    }
}
