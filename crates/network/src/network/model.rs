//! What a network is. Pure.

use cloud_types::{NetworkId, ProjectId, SubnetId, Timestamp};
use serde::Serialize;

/// MTU of every network until tunnels exist, in bytes: rewriting adds nothing to a frame.
pub const MTU: u16 = 1500;
/// Highest network number: it must fit in a flood locator.
pub const NETWORK_NUMBER_MAX: u32 = 0x00ff_ffff;

/// A network as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkRow {
    /// Its id.
    pub id: NetworkId,
    /// The owner.
    pub project_id: ProjectId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether its ports forward.
    pub admin_state_up: bool,
    /// Whether every project may use it.
    pub shared: bool,
    /// What new ports have.
    pub port_security_enabled: bool,
    /// Fixed at creation, in bytes.
    pub mtu: u16,
    /// Its number in the region, 24 bits.
    pub network_number: u32,
    /// Search domain that hosts hand out.
    pub dns_domain: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A network with what a list shows beside its own row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// The row.
    pub row: NetworkRow,
    /// Its subnets.
    pub subnets: Vec<SubnetId>,
}
