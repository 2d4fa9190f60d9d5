//! What a host is.

use cloud_types::{HostId, Timestamp};
use host_protocol::HostFacts;

/// A host that was not seen for this long gets no new work: three missed words of its stream.
pub const ALIVE_SECONDS: u64 = 45;
/// How long a join token may be used.
pub const JOIN_TOKEN_HOURS: u64 = 24;
/// Numbers are 16 bits in a locator; 0 is never given out.
pub const MAX_HOST_NUMBER: i64 = 65_535;

/// Whether a host may be given new servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It may.
    Enabled,
    /// It may not; what runs there goes on.
    Disabled {
        /// Why, in an operator's words.
        reason: String,
    },
}

/// A machine that runs an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its identity; also the common name of its certificate.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its number in the L2 domain, 1 to 65535.
    pub host_number: u16,
    /// The L2 domain that its underlay stands in.
    pub l2_domain: String,
    /// The zone: the availability zone that users see.
    pub zone: String,
    /// The cluster within the zone.
    pub cluster: String,
    /// Whether it may be given new servers.
    pub state: HostState,
    /// What it said of itself.
    pub facts: Option<HostFacts>,
    /// When it last said anything.
    pub last_seen: Option<Timestamp>,
    /// When it joined.
    pub created_at: Timestamp,
    /// When an operator, or its facts, last changed it.
    pub updated_at: Timestamp,
    /// Version of the row.
    pub generation: i64,
}

impl Host {
    /// Whether it was seen lately.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.last_seen.is_some_and(|seen| now.since(seen).as_secs() < ALIVE_SECONDS)
    }

    /// Whether it may be given new servers.
    pub fn is_enabled(&self) -> bool {
        self.state == HostState::Enabled
    }
}

/// Whether a text can be a host's name: letters, digits, dots and dashes, at most 63.
pub fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}
