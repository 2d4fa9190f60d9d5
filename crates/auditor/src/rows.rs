//! Rows as the checks see them: the columns that matter, of one slice, from one snapshot.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::Timestamp;
use serde_json::Value;

/// A row of `servers`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerRow {
    /// Its id.
    pub id: String,
    /// The host that it is placed on.
    pub host: Option<String>,
    /// Its placement epoch.
    pub epoch: i64,
    /// `building`, `active`, …
    pub vm_state: String,
    /// What is under way.
    pub task_state: Option<String>,
    /// Nova's number of the power state.
    pub power_state: i64,
    /// Whether its guest should run: `running`, `stopped`.
    pub desired: Option<String>,
    /// Whether it is gone for its owner.
    pub deleted: bool,
}

/// A row of `allocations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The server that holds it.
    pub server: String,
    /// On this host.
    pub host: String,
    /// For this placement.
    pub epoch: i64,
}

/// A row of `host_documents`, with the host's last word on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DocumentRow {
    /// The host.
    pub host: String,
    /// The object.
    pub id: String,
    /// Its version.
    pub generation: i64,
    /// The placement epoch.
    pub epoch: i64,
    /// Whether the object must go.
    pub tombstone: bool,
    /// The description, where the check needs it.
    pub spec: Value,
    /// What the host said of it last.
    pub report: Option<ReportRow>,
}

/// A row of `host_reports`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportRow {
    /// The version that it is about.
    pub generation: i64,
    /// `working`, `done`, `failed`, `gone`.
    pub state: String,
    /// What the host sees.
    pub facts: Value,
    /// When it arrived.
    pub at: Timestamp,
}

/// A workflow that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowRow {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The kind of its owner.
    pub owner_kind: String,
    /// The object that it works on.
    pub owner: String,
    /// `runnable`, `waiting`, `parked`.
    pub status: String,
    /// The step that it is at.
    pub step: String,
    /// What it waits for.
    pub wait_event: Option<String>,
    /// Whether a worker has it.
    pub leased: bool,
    /// When a worker may look next.
    pub due_at: Timestamp,
    /// When it should have ended.
    pub deadline: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// The newest epoch that was given out.
    pub lease_epoch: i64,
}

/// A line of a workflow's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepRow {
    /// The workflow.
    pub workflow: String,
    /// Whether it was undone, rather than done.
    pub undo: bool,
    /// The step's place in the list.
    pub index: i64,
    /// The epoch that it was last run under.
    pub epoch: i64,
    /// The worker that ran it; empty when it was not written down.
    pub worker: String,
    /// The newest epoch of the workflow, and the worker that it was given to.
    pub lease: (i64, String),
}

/// A port, as far as servers and hosts are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRow {
    /// Its id.
    pub id: String,
    /// Its network.
    pub network: String,
    /// What uses it.
    pub device: String,
    /// What kind of user that is.
    pub device_owner: String,
    /// The host that it is bound to.
    pub host: Option<String>,
    /// The L2 domain of that host.
    pub domain: Option<String>,
    /// Its number there.
    pub number: Option<i64>,
}

impl PortRow {
    /// Whether a server has it.
    pub fn is_of_server(&self) -> bool {
        self.device_owner.starts_with("compute:")
    }
}

/// Servers of a slice, and what is written about them elsewhere.
#[derive(Clone, Debug, Default)]
pub struct ServerSlice {
    /// The rows.
    pub servers: BTreeMap<String, ServerRow>,
    /// Claims.
    pub claims: Vec<Claim>,
    /// Server documents, with reports.
    pub documents: Vec<DocumentRow>,
    /// Workflows that have not ended, of these servers.
    pub workflows: Vec<WorkflowRow>,
    /// Ports whose user is one of these servers.
    pub ports: Vec<PortRow>,
}

/// A row of `locator_numbers`, with what waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberRow {
    /// A host, or `region`.
    pub scope: String,
    /// The number.
    pub number: i64,
    /// The port, or network, that has it.
    pub owner: String,
    /// Whether its owner has given it back.
    pub released: bool,
    /// Documents that must be gone first.
    pub waits: i64,
}

/// Ports of a slice, and what is written about them elsewhere.
#[derive(Clone, Debug, Default)]
pub struct PortSlice {
    /// The rows.
    pub ports: BTreeMap<String, PortRow>,
    /// Port documents, with their descriptions.
    pub documents: Vec<DocumentRow>,
    /// Neighbour documents.
    pub neighbours: Vec<DocumentRow>,
    /// Numbers whose owner is a port of the slice.
    pub numbers: Vec<NumberRow>,
    /// Who has the addresses that are in documents of ports which must go, by subnet and address.
    pub holders: BTreeMap<(String, String), String>,
}

/// Networks of a slice.
#[derive(Clone, Debug, Default)]
pub struct NetworkSlice {
    /// The networks that there are.
    pub networks: BTreeSet<String>,
    /// All ports on them.
    pub ports: Vec<PortRow>,
    /// Network documents.
    pub documents: Vec<DocumentRow>,
    /// Hosts that have a wanted neighbour document, by port.
    pub neighbours: BTreeMap<String, BTreeSet<String>>,
    /// Numbers whose owner is a network of the slice.
    pub numbers: Vec<NumberRow>,
}

/// An address that a port has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRow {
    /// The subnet.
    pub subnet: String,
    /// The address.
    pub ip: String,
    /// The port.
    pub port: String,
    /// The network, as the allocation says.
    pub network: String,
    /// The port's network; absent when there is no such port.
    pub port_network: Option<String>,
    /// Whether the subnet is there.
    pub subnet_exists: bool,
    /// Whether it is among the released ones as well.
    pub released: bool,
}

/// A released address that waits for a port which has nothing quarantined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForgottenAddress {
    /// The subnet.
    pub subnet: String,
    /// The address's key.
    pub key: String,
    /// The port.
    pub port: String,
}

/// A wait for a document of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitRow {
    /// The host.
    pub host: String,
    /// The document's kind.
    pub kind: String,
    /// The document's id.
    pub document: String,
    /// The number's scope.
    pub scope: String,
    /// The number.
    pub number: i64,
    /// Who has the number now, if anybody.
    pub owner: Option<String>,
    /// Whether the number has been given back.
    pub released: bool,
    /// Whether the host still has the document.
    pub document_exists: bool,
}

/// A host, its sums and its claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRow {
    /// Its id.
    pub id: String,
    /// Sums as written: processors, MiB, GiB, servers.
    pub written: [i64; 4],
    /// Sums of the claims.
    pub claimed: [i64; 4],
    /// What the machine has: processors, MiB, GiB; absent until it has said so.
    pub capacity: Option<[i64; 3]>,
}

/// A project's usage of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The project.
    pub project: String,
    /// The resource.
    pub resource: String,
    /// As written.
    pub written: i64,
    /// As counted.
    pub counted: i64,
}

/// A row that refers to something that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanRow {
    /// The reference, by its name in `store::ORPHANS`.
    pub reference: &'static str,
    /// What is missing.
    pub missing: String,
    /// Whether the rows mean nothing without it, so that they may be deleted.
    pub disposable: bool,
}

/// An entry of the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalRow {
    /// The kind of object.
    pub kind: String,
    /// The object.
    pub id: String,
    /// `create`, `update`, `delete`.
    pub action: String,
    /// Before.
    pub before: Option<Value>,
    /// After.
    pub after: Option<Value>,
    /// The request that did it.
    pub request_id: String,
}
