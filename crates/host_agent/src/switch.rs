//! The host's virtual switch, as the agent needs it. The real adapter is `open_vswitch`; a
//! simulated host implements the same trait.

use std::collections::BTreeMap;

use openflow::Flow;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;

use crate::BoxFuture;

/// Why the switch could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SwitchError {
    /// Not reachable now: ovsdb-server or vswitchd is down or restarting. Tried again on
    /// [`SwitchEvent::Ready`] and on a timer.
    #[error("Open vSwitch cannot be reached: {0}")]
    Unreachable(String),
    /// It answered, and refused.
    #[error("Open vSwitch refused: {0}")]
    Refused(String),
}

/// What the bridge needs besides guests' ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchSetup {
    /// The device towards the other hosts; `None` on a machine that is alone.
    pub underlay: Option<String>,
    /// Host end of the veth to the responders.
    pub responder: Option<String>,
}

/// What is known once the bridge stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchReady {
    /// OpenFlow port of the underlay, if there is one.
    pub wire_ofport: Option<u32>,
    /// OpenFlow port of the responders' veth, if there is one.
    pub responder_ofport: Option<u32>,
    /// Open vSwitch's version.
    pub version: String,
}

/// A port that should be on the bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SwitchPort {
    /// The network device.
    pub device: String,
    /// The port's id, kept in `external_ids:iface-id` for operators.
    pub port_id: String,
}

/// What an apply did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Flows now wanted.
    pub total: usize,
    /// Added or modified in this call.
    pub changed: usize,
    /// Removed in this call.
    pub removed: usize,
}

/// What the table read back says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Flows found in the switch.
    pub found: usize,
    /// Wanted and not there, or different; they have been put right when this is returned.
    pub repaired: usize,
    /// Checksum over the table read back, the same for the same flows.
    pub checksum: String,
}

/// A flow that the switch has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedFlow {
    /// The flow.
    pub flow: Flow,
    /// Packets that it has matched.
    pub packets: u64,
}

/// The table as it is, read and left alone, and as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRead {
    /// What the switch has.
    pub flows: Vec<CountedFlow>,
    /// Flows of kinds that the agent cannot have written.
    pub foreign: usize,
    /// What was applied last.
    pub wanted: Vec<Flow>,
}

/// SHA-256 over the flows as text, in the order of what names each; the same for the same flows,
/// whoever computes it.
pub fn checksum<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> String {
    let mut flows: Vec<&Flow> = flows.into_iter().collect();
    flows.sort_by_key(|flow| flow.key());
    let mut sum = Sha256::new();
    for flow in flows {
        sum.update(flow.to_string().as_bytes());
        sum.update(b"\n");
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a switch says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchEvent {
    /// The connection is up, for the first time or again: the table may be empty and OpenFlow
    /// ports may have new numbers. Everything should be set again.
    Ready,
    /// The connection was lost. Guests are left alone.
    Lost,
    /// A port's OpenFlow number or link changed.
    PortsChanged,
}

/// The virtual switch. Calls are idempotent; one caller at a time.
pub trait Switch: Send + Sync + 'static {
    /// Makes the bridge as it should be and learns its fixed ports.
    fn ensure_ready<'a>(
        &'a self,
        setup: &'a SwitchSetup,
    ) -> BoxFuture<'a, Result<SwitchReady, SwitchError>>;

    /// Makes the guests' ports on the bridge exactly these, and returns device → OpenFlow port
    /// when the switch has taken them over.
    fn set_ports<'a>(
        &'a self,
        ports: &'a [SwitchPort],
    ) -> BoxFuture<'a, Result<BTreeMap<String, u32>, SwitchError>>;

    /// Makes the flow table exactly this, sending the difference as one bundle. Returns when the
    /// switch has confirmed it.
    fn apply(&self, flows: Vec<Flow>) -> BoxFuture<'_, Result<Applied, SwitchError>>;

    /// Reads the table back, compares it with what was applied last, and repairs it.
    fn verify(&self) -> BoxFuture<'_, Result<Verified, SwitchError>>;

    /// Reads the table and changes nothing.
    fn read(&self) -> BoxFuture<'_, Result<TableRead, SwitchError>>;

    /// Sends frames out of a port past the flow table: announcements of locators on the wire.
    fn announce(&self, ofport: u32, frames: Vec<Vec<u8>>)
    -> BoxFuture<'_, Result<(), SwitchError>>;

    /// Forgets the tracked connections of a conntrack zone, before the zone's number is used by
    /// another port.
    fn flush_zone(&self, zone: u16) -> BoxFuture<'_, Result<(), SwitchError>>;

    /// What the switch says from now on.
    fn events(&self) -> broadcast::Receiver<SwitchEvent>;
}
