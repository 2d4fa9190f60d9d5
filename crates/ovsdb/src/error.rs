//! What can go wrong on the way to the database and in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OvsdbError {
    /// No connection could be made.
    #[error("cannot connect to {path}: {why}; is ovsdb-server running?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        why: Arc<io::Error>,
    },
    /// The connection ended. A transaction under way may or may not have been committed.
    #[error("the connection to ovsdb-server has ended: {0}")]
    Closed(Arc<str>),
    /// The server did not answer.
    #[error(
        "ovsdb-server has not answered for {0:?}; a transaction may or may not have been committed"
    )]
    Timeout(Duration),
    /// The server answered a request with an error.
    #[error("ovsdb-server refused the request: {0}")]
    Rpc(String),
    /// An operation of a transaction failed, so nothing was changed.
    #[error("operation {index} of the transaction failed, nothing was changed: {error}{}", in_parentheses(.details))]
    Transaction {
        /// Position in the list; one past its end where the commit itself failed.
        index: usize,
        /// RFC 7047's word, such as `constraint violation`.
        error: String,
        /// What the server says about it.
        details: String,
    },
    /// The answer is not what RFC 7047 says.
    #[error("ovsdb-server's answer makes no sense: {0}")]
    Protocol(String),
    /// The database took the change, and ovs-vswitchd has not acted on it.
    #[error(
        "ovs-vswitchd has not taken over the configuration within {0:?}: is it running? its log says why"
    )]
    NotApplied(Duration),
    /// Something that must be there is not.
    #[error("{0}")]
    Missing(String),
}

impl OvsdbError {
    /// Whether a new connection is needed.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Closed(_) | Self::Timeout(_))
    }
}

fn in_parentheses(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}
