//! What a host says of the documents it was given.

use serde::{Deserialize, Serialize};

use crate::{DocumentKind, Generation, PlacementEpoch};

/// How far a host is with one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportState {
    /// Work is under way; `facts` may say how far.
    Working,
    /// The world is as the document says.
    Done,
    /// It cannot be done as written; `error` says why. The host keeps trying where that can help.
    Failed,
    /// The tombstone has been carried out: nothing of the object is left on the host.
    Gone,
}

impl ReportState {
    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            ReportState::Working => "working",
            ReportState::Done => "done",
            ReportState::Failed => "failed",
            ReportState::Gone => "gone",
        }
    }
}

/// Why a host could not do what a document says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportError {
    /// A stable word: `image_corrupt`, `disk_full`, `qemu_exited`, `no_such_image`, …
    pub code: String,
    /// What happened and why, for the owner and the operator.
    pub message: String,
    /// Whether the host goes on trying by itself.
    pub retrying: bool,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The document's kind.
    pub kind: DocumentKind,
    /// The document's identifier.
    pub id: String,
    /// The generation that this is about; a report on an older one than stored is refused.
    pub generation: Generation,
    /// The placement epoch of the document.
    #[serde(default)]
    pub epoch: PlacementEpoch,
    /// Orders a host's reports on one document: a later one has a higher number, across restarts.
    pub sequence: u64,
    /// How far the host is.
    pub state: ReportState,
    /// What the host sees, by kind: [`ServerFacts`], [`HostFacts`], [`PortFacts`], or null.
    #[serde(default)]
    pub facts: serde_json::Value,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<ReportError>,
}

/// Body of `POST /host/v1/reports`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reports {
    /// The lineage that the host follows.
    pub lineage: String,
    /// The session of the stream that the host reads; 0 when it does not know.
    #[serde(default)]
    pub session: u64,
    /// At most [`MAX_REPORTS`], in order.
    pub reports: Vec<Report>,
}

/// The most reports in one request.
pub const MAX_REPORTS: usize = 500;

/// The control plane's word on each report, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportResults {
    /// One for each report.
    pub results: Vec<ReportResult>,
}

/// What became of one report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ReportResult {
    /// Stored, or already known.
    Accepted,
    /// The object is not this host's, or a newer word is stored. The host drops the report.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Whether a server's guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// QEMU runs and its CPUs are not paused.
    Running,
    /// QEMU runs, CPUs are paused.
    Paused,
    /// No QEMU: stopped as asked, or by the guest itself.
    Shutdown,
    /// QEMU ended without being asked.
    Crashed,
}

/// Facts of a server report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// What the guest does now.
    pub power_state: PowerState,
    /// Which start this is: counts QEMU processes of this server on this host.
    #[serde(default)]
    pub incarnation: u64,
    /// Milliseconds spent in each stage of the last start, in order; for the timing table.
    #[serde(default)]
    pub stages: Vec<(String, u64)>,
    /// SHA-256 of the image file that the root disk stands on, as verified on this host.
    #[serde(default)]
    pub image_checksum: Option<String>,
}

/// Facts of the host's own report, sent at start and when they change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The machine's name.
    pub hostname: String,
    /// Logical processors.
    pub vcpus: u32,
    /// Memory in MiB that guests may use.
    pub memory_mib: u64,
    /// Disk in GiB of the pool for guests' disks.
    pub disk_gib: u64,
    /// Free space of that pool in GiB.
    pub disk_free_gib: u64,
    /// `kvm` or `tcg`, as found by a probe guest.
    pub accelerator: String,
    /// QEMU's version, `7.2.0`.
    pub qemu_version: String,
    /// Open vSwitch's version.
    pub ovs_version: String,
    /// Address for operators.
    pub host_ip: String,
    /// Model of the processor, for display.
    #[serde(default)]
    pub cpu_model: String,
    /// The agent's version.
    pub agent_version: String,
    /// When the machine was started, in seconds since the epoch; a fact that stays, unlike how long
    /// it has run.
    #[serde(default)]
    pub booted_at: Option<i64>,
    /// Flows that others changed in the switch and the agent put right, since it started.
    #[serde(default)]
    pub flows_mended: u64,
    /// When it last had to, in seconds since the epoch.
    #[serde(default)]
    pub flows_mended_at: Option<i64>,
}

/// Facts of a port report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortFacts {
    /// Whether the device is on the bridge and its flows are in force.
    pub bound: bool,
    /// Name of the tap or veth on the host.
    pub device: String,
}
