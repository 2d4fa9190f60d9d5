//! Open vSwitch's configuration: bridges and ports as they should be, and what came of it.
//!
//! A replica of the tables of interest is kept by a monitor, so looking costs nothing. A change is
//! one transaction that also raises `next_cfg`; ovs-vswitchd answers by raising `cur_cfg` when it
//! has acted, and by then each interface has its OpenFlow port or an error.
//!
//! A controller is never set: under fail mode `secure` that would empty every flow table. Flows are
//! programmed over the bridge's management socket instead.

mod bridge;
mod replica;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::timeout;
use tracing::debug;

use crate::client::{Connection, Options};
use crate::error::OvsdbError;
use crate::operation::{Condition, Mutation, Mutator, Operation};
use crate::value::{Row, map, set};
use replica::Replica;

pub use bridge::{BridgeSpec, PortSpec};

/// Name of the database.
pub const DATABASE: &str = "Open_vSwitch";

/// How long ovs-vswitchd may take to act on a change. Adding a thousand ports takes it seconds.
const APPLY_LIMIT: Duration = Duration::from_secs(30);

/// A port of a bridge, as the database says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortStatus {
    /// Name of the port and of its (first) interface.
    pub name: String,
    /// Interface type; empty and `system` are the same.
    pub kind: String,
    /// OpenFlow port, once the switch has assigned one.
    pub ofport: Option<u32>,
    /// Why the switch could not set the interface up.
    pub error: Option<String>,
    /// Whether there is a link, where known.
    pub link_up: Option<bool>,
    /// Options of the interface.
    pub options: BTreeMap<String, String>,
    /// Notes on the port.
    pub external_ids: BTreeMap<String, String>,
}

/// A connection to Open vSwitch's database with a replica of what matters.
#[derive(Debug)]
pub struct OvsDb {
    connection: Connection,
    replica: watch::Receiver<Arc<Replica>>,
    /// Held from looking at the replica until it shows the change: two callers must not both see
    /// that something is missing and add it.
    deciding: Mutex<()>,
}

impl OvsDb {
    /// Connects and reads what is there.
    pub async fn connect(path: &Path, options: Options) -> Result<Self, OvsdbError> {
        let connection = Connection::connect(path, options).await?;
        let mut monitor = connection.monitor(DATABASE, &Replica::tables()).await?;
        let mut replica = Replica::default();
        replica.apply(monitor.initial());
        if replica.root().is_none() {
            // A database fresh from its schema. Whoever else has the same thought at this moment is
            // told that there may be only one such row, and finds it in the monitor as we do.
            let row = Operation::insert(DATABASE, None, Row::default());
            if let Err(e) = connection.transact(DATABASE, vec![row]).await
                && !matches!(e, OvsdbError::Transaction { .. })
            {
                return Err(e);
            }
            while replica.root().is_none() {
                let gone = || OvsdbError::Missing("the database takes no Open_vSwitch row".into());
                let updates = timeout(APPLY_LIMIT, monitor.next()).await.ok().flatten();
                replica.apply(&updates.ok_or_else(gone)?);
            }
        }
        let (sender, receiver) = watch::channel(Arc::new(replica));
        tokio::spawn(async move {
            // Ends with the connection, or when nobody looks any more.
            while let Some(updates) = monitor.next().await {
                sender.send_modify(|replica| Arc::make_mut(replica).apply(&updates));
                if sender.is_closed() {
                    break;
                }
            }
            debug!("the replica of the switch's configuration has ended");
        });
        Ok(Self { connection, replica: receiver, deciding: Mutex::new(()) })
    }

    /// The connection below, for what is not offered here.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Why the connection ended, once it has.
    pub async fn closed(&self) -> Arc<str> {
        self.connection.closed().await
    }

    /// Version of Open vSwitch, where whoever started the daemons has noted it: ovs-vswitchd does
    /// not do so by itself. Over OpenFlow the switch says it in its description.
    pub fn version(&self) -> Option<String> {
        self.replica.borrow().root().and_then(|(_, row)| row.text("ovs_version").map(String::from))
    }

    /// Identity of this switch in its own database, if one was set.
    pub fn system_id(&self) -> Option<String> {
        self.replica
            .borrow()
            .root()
            .and_then(|(_, row)| row.map("external_ids").remove("system-id"))
    }

    /// Gives this switch an identity in its own database; tunnels and logs show it.
    pub async fn set_system_id(&self, id: &str) -> Result<(), OvsdbError> {
        let root = self.replica.borrow().root().map(|(id, _)| id);
        let root =
            root.ok_or_else(|| OvsdbError::Missing("the Open_vSwitch row has gone".into()))?;
        let mutations = [
            Mutation::new("external_ids", Mutator::Delete, set(["system-id".into()])),
            Mutation::new("external_ids", Mutator::Insert, map([("system-id", id)])),
        ];
        let operation = Operation::mutate(DATABASE, &[Condition::row(root)], &mutations);
        self.connection.transact(DATABASE, vec![operation]).await.map(|_| ())
    }

    /// Whether a bridge exists in the configuration.
    pub fn has_bridge(&self, bridge: &str) -> bool {
        self.replica.borrow().bridge(bridge).is_some()
    }

    /// The ports of a bridge, sorted by name; empty where there is no such bridge.
    pub fn ports(&self, bridge: &str) -> Vec<PortStatus> {
        self.replica.borrow().ports(bridge)
    }

    /// Waits until something in the replica changes.
    pub fn changes(&self) -> Changes {
        Changes(self.replica.clone())
    }

    /// Makes a bridge as it should be, or changes an existing one to that, and waits until the switch has it.
    pub async fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), OvsdbError> {
        self.decide(|replica| bridge::ensure_bridge(replica, spec).map(changes_only)).await
    }

    /// Removes a bridge with its ports, and waits until the switch has done so.
    pub async fn remove_bridge(&self, name: &str) -> Result<(), OvsdbError> {
        self.decide(|replica| bridge::remove_bridge(replica, name).map(changes_only)).await
    }

    /// Adds or corrects ports and removes others of a bridge, in one transaction, waits until the
    /// switch has acted, and returns how the ports of `wanted` then are, in its order.
    pub async fn set_ports(
        &self,
        bridge: &str,
        wanted: &[PortSpec],
        remove: &[String],
    ) -> Result<Vec<PortStatus>, OvsdbError> {
        self.decide(|replica| {
            let operations = bridge::set_ports(replica, bridge, wanted, remove)?;
            let found: BTreeMap<String, PortStatus> =
                replica.ports(bridge).into_iter().map(|p| (p.name.clone(), p)).collect();
            let unready =
                |port: &PortSpec| found.get(&port.name).is_none_or(|p| p.ofport.is_none());
            // A port without a number may have been waiting for its device: have the switch look again.
            let look = !operations.is_empty() || wanted.iter().any(unready);
            Ok(look.then_some(operations))
        })
        .await?;
        let mut found: BTreeMap<String, PortStatus> =
            self.ports(bridge).into_iter().map(|p| (p.name.clone(), p)).collect();
        let gone = |name: &str| {
            OvsdbError::Missing(format!(
                "port {name} has been removed from {bridge} by somebody else"
            ))
        };
        wanted.iter().map(|port| found.remove(&port.name).ok_or_else(|| gone(&port.name))).collect()
    }

    /// Commits operations and waits until the switch has acted on them.
    pub async fn change(&self, operations: Vec<Operation>) -> Result<(), OvsdbError> {
        self.decide(|_| Ok(Some(operations))).await
    }

    /// Commits what `decision` makes of the replica, if anything, and waits until the switch has
    /// acted on it.
    async fn decide(
        &self,
        decision: impl FnOnce(&Replica) -> Result<Option<Vec<Operation>>, OvsdbError>,
    ) -> Result<(), OvsdbError> {
        let deciding = self.deciding.lock().await;
        let mut replica = self.replica.clone();
        let now = replica.borrow().clone();
        let Some(mut operations) = decision(&now)? else { return Ok(()) };
        let root = now.root().map(|(id, _)| id);
        drop(now);
        let root =
            root.ok_or_else(|| OvsdbError::Missing("the Open_vSwitch row has gone".into()))?;
        let here = [Condition::row(root)];
        let raise = Mutation::new("next_cfg", Mutator::Add, 1);
        operations.push(Operation::mutate(DATABASE, &here, &[raise]));
        operations.push(Operation::select(DATABASE, &here, &["next_cfg"]));
        let results = self.connection.transact(DATABASE, operations).await?;
        let rows = results.last().map(|r| r.rows()).unwrap_or_default();
        let wanted = rows.first().and_then(|row| row.integer("next_cfg"));
        let wanted =
            wanted.ok_or_else(|| OvsdbError::Protocol("next_cfg cannot be read".into()))?;
        self.reached(&mut replica, "next_cfg", wanted).await?;
        drop(deciding);
        self.reached(&mut replica, "cur_cfg", wanted).await
    }

    async fn reached(
        &self,
        replica: &mut watch::Receiver<Arc<Replica>>,
        column: &str,
        wanted: i64,
    ) -> Result<(), OvsdbError> {
        let reached = replica.wait_for(|r| {
            r.root().and_then(|(_, row)| row.integer(column)).is_some_and(|n| n >= wanted)
        });
        let reached = timeout(APPLY_LIMIT, reached).await.map(|seen| seen.map(drop));
        match reached {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(OvsdbError::Closed(self.connection.closed().await)),
            Err(_) => Err(OvsdbError::NotApplied(APPLY_LIMIT)),
        }
    }
}

/// No operations, no transaction.
fn changes_only(operations: Vec<Operation>) -> Option<Vec<Operation>> {
    Some(operations).filter(|list| !list.is_empty())
}

/// See [`OvsDb::changes`].
#[derive(Debug, Clone)]
pub struct Changes(watch::Receiver<Arc<Replica>>);

impl Changes {
    /// Returns after the next change; `false` when the connection has ended.
    pub async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// The ports of a bridge as of now.
    pub fn ports(&mut self, bridge: &str) -> Vec<PortStatus> {
        self.0.borrow_and_update().ports(bridge)
    }
}
