//! Which operations lead from what the replica shows to what is wanted. Pure.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::DATABASE;
use super::replica::Replica;
use crate::error::OvsdbError;
use crate::operation::{Condition, Mutation, Mutator, Operation};
use crate::value::{Row, map, named, reference, references, set};

/// A bridge as it should be: no controller, no in-band control, OpenFlow 1.4, and nothing forwarded
/// but by flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Name, also of its internal port; up to 15 octets.
    pub name: String,
    /// The userspace data path (`netdev`) instead of the kernel's.
    pub userspace: bool,
}

impl BridgeSpec {
    /// The columns that make it so.
    fn row(&self) -> Row {
        Row::default()
            .with("datapath_type", if self.userspace { "netdev" } else { "" })
            .with("fail_mode", "secure")
            .with("protocols", "OpenFlow14")
            .with("controller", set([]))
    }

    const OTHER_CONFIG: [(&'static str, &'static str); 1] = [("disable-in-band", "true")];

    fn suits(&self, row: &Row) -> bool {
        let wanted = self.row();
        let config = row.map("other_config");
        ["datapath_type", "fail_mode", "protocols"].iter().all(|c| row.texts(c) == wanted.texts(c))
            && row.elements("controller").is_empty()
            && Self::OTHER_CONFIG
                .iter()
                .all(|(k, v)| config.get(*k).is_some_and(|found| found == v))
    }
}

/// A port with one interface, as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// Name; of a `system` interface, that of the device.
    pub name: String,
    /// `system` (a device that exists), `internal`, `patch`, `vxlan`.
    pub kind: String,
    /// Options of the interface, such as `peer` or `remote_ip`.
    pub options: BTreeMap<String, String>,
    /// OpenFlow port to ask for; the switch gives another where it is taken.
    pub ofport_request: Option<u32>,
    /// Notes on the port, for people and for telling whose it is. Others' notes stay.
    pub external_ids: BTreeMap<String, String>,
}

impl PortSpec {
    /// A device that exists.
    pub fn system(device: &str) -> Self {
        Self { name: device.into(), kind: "system".into(), ..Self::default() }
    }

    /// A device that the switch makes.
    pub fn internal(name: &str) -> Self {
        Self { name: name.into(), kind: "internal".into(), ..Self::default() }
    }

    /// One end of a patch to a port of another bridge.
    pub fn patch(name: &str, peer: &str) -> Self {
        let options = BTreeMap::from([("peer".to_owned(), peer.to_owned())]);
        Self { name: name.into(), kind: "patch".into(), options, ..Self::default() }
    }

    /// A VXLAN tunnel whose remote end and key the flows set.
    pub fn vxlan(name: &str) -> Self {
        let options = [("remote_ip", "flow"), ("key", "flow")];
        let options = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { name: name.into(), kind: "vxlan".into(), options, ..Self::default() }
    }

    /// With a note.
    pub fn note(mut self, key: &str, value: &str) -> Self {
        self.external_ids.insert(key.into(), value.into());
        self
    }

    fn interface(&self) -> Row {
        Row::default()
            .with("type", if self.kind == "system" { "" } else { &self.kind })
            .with("options", map(&self.options))
            .with("ofport_request", self.ofport_request.map_or_else(|| set([]), Value::from))
    }
}

fn plain_type(kind: &str) -> &str {
    if kind == "system" { "" } else { kind }
}

fn root(replica: &Replica) -> Result<Uuid, OvsdbError> {
    let missing = || OvsdbError::Missing("the Open_vSwitch row has gone".into());
    replica.root().map(|(id, _)| id).ok_or_else(missing)
}

fn bridge<'a>(replica: &'a Replica, name: &str) -> Result<(Uuid, &'a Row), OvsdbError> {
    replica.bridge(name).ok_or_else(|| OvsdbError::Missing(format!("there is no bridge {name}")))
}

/// Merges pairs into a map column: a key that is there is replaced, others stay.
fn merge(pairs: &[(&str, &str)], column: &str) -> [Mutation; 2] {
    let keys = pairs.iter().map(|(k, _)| Value::from(*k));
    [
        Mutation::new(column, Mutator::Delete, set(keys)),
        Mutation::new(column, Mutator::Insert, map(pairs.iter().copied())),
    ]
}

pub(super) fn ensure_bridge(
    replica: &Replica,
    spec: &BridgeSpec,
) -> Result<Vec<Operation>, OvsdbError> {
    if let Some((id, row)) = replica.bridge(&spec.name) {
        if spec.suits(row) {
            return Ok(Vec::new());
        }
        let here = [Condition::row(id)];
        return Ok(vec![
            Operation::comment(&format!("correct bridge {}", spec.name)),
            Operation::update("Bridge", &here, spec.row()),
            Operation::mutate("Bridge", &here, &merge(&BridgeSpec::OTHER_CONFIG, "other_config")),
        ]);
    }
    let row = spec
        .row()
        .with("name", spec.name.as_str())
        .with("other_config", map(BridgeSpec::OTHER_CONFIG))
        .with("ports", set([named("port")]));
    let interface = Row::default().with("name", spec.name.as_str()).with("type", "internal");
    let port = Row::default()
        .with("name", spec.name.as_str())
        .with("interfaces", set([named("interface")]));
    Ok(vec![
        Operation::comment(&format!("add bridge {}", spec.name)),
        Operation::insert("Interface", Some("interface"), interface),
        Operation::insert("Port", Some("port"), port),
        Operation::insert("Bridge", Some("bridge"), row),
        Operation::mutate(
            DATABASE,
            &[Condition::row(root(replica)?)],
            &[Mutation::new("bridges", Mutator::Insert, set([named("bridge")]))],
        ),
    ])
}

pub(super) fn remove_bridge(replica: &Replica, name: &str) -> Result<Vec<Operation>, OvsdbError> {
    let Some((id, _)) = replica.bridge(name) else { return Ok(Vec::new()) };
    // The rows that nothing refers to any more go by themselves.
    Ok(vec![
        Operation::comment(&format!("remove bridge {name}")),
        Operation::mutate(
            DATABASE,
            &[Condition::row(root(replica)?)],
            &[Mutation::new("bridges", Mutator::Delete, set([reference(id)]))],
        ),
    ])
}

pub(super) fn set_ports(
    replica: &Replica,
    bridge_name: &str,
    wanted: &[PortSpec],
    remove: &[String],
) -> Result<Vec<Operation>, OvsdbError> {
    let (bridge, _) = bridge(replica, bridge_name)?;
    let found: HashMap<&str, (Uuid, &Row, Uuid, &Row)> = replica
        .port_rows(bridge_name)
        .filter_map(|rows| Some((rows.1.text("name")?, rows)))
        .collect();
    let mut operations = Vec::new();
    let mut new = Vec::new();
    for (index, spec) in wanted.iter().enumerate() {
        match found.get(spec.name.as_str()) {
            Some(&(port, port_row, interface, interface_row)) => {
                let suits = plain_type(interface_row.text("type").unwrap_or_default())
                    == plain_type(&spec.kind)
                    && interface_row.map("options") == spec.options
                    && interface_row.integer("ofport_request")
                        == spec.ofport_request.map(i64::from);
                if !suits {
                    operations.push(Operation::update(
                        "Interface",
                        &[Condition::row(interface)],
                        spec.interface(),
                    ));
                }
                let notes = port_row.map("external_ids");
                if spec.external_ids.iter().any(|(k, v)| notes.get(k) != Some(v)) {
                    let pairs: Vec<(&str, &str)> =
                        spec.external_ids.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                    for (table, row) in [("Port", port), ("Interface", interface)] {
                        let here = [Condition::row(row)];
                        operations.push(Operation::mutate(
                            table,
                            &here,
                            &merge(&pairs, "external_ids"),
                        ));
                    }
                }
            }
            None => {
                let (port_name, interface_name) = (format!("p{index}"), format!("i{index}"));
                let interface = spec
                    .interface()
                    .with("name", spec.name.as_str())
                    .with("external_ids", map(&spec.external_ids));
                let port = Row::default()
                    .with("name", spec.name.as_str())
                    .with("interfaces", set([named(&interface_name)]))
                    .with("external_ids", map(&spec.external_ids));
                operations.push(Operation::insert("Interface", Some(&interface_name), interface));
                operations.push(Operation::insert("Port", Some(&port_name), port));
                new.push(named(&port_name));
            }
        }
    }
    let gone: Vec<Uuid> =
        remove.iter().filter_map(|name| found.get(name.as_str()).map(|rows| rows.0)).collect();
    let here = [Condition::row(bridge)];
    if !gone.is_empty() {
        let mutation = Mutation::new("ports", Mutator::Delete, references(gone));
        operations.push(Operation::mutate("Bridge", &here, &[mutation]));
    }
    if !new.is_empty() {
        let mutation = Mutation::new("ports", Mutator::Insert, set(new));
        operations.push(Operation::mutate("Bridge", &here, &[mutation]));
    }
    Ok(operations)
}
