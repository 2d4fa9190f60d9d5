//! The hypervisor, as the agent needs it: it starts, watches and ends guests, and finds those
//! that run already. It decides nothing; the per-server plan does. The real adapter is `qemu`; a
//! simulated host implements the same trait.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use host_protocol::{PowerState, ServerSpec};
use tokio::sync::mpsc;

use crate::BoxFuture;
use crate::pool::DiskFile;

/// Why the hypervisor could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The process ended before or while it was asked; the message holds the end of its output.
    #[error("{0}")]
    Exited(String),
    /// A guest of this server runs already; it must be adopted, not started again.
    #[error("a guest of this server is already running on this host")]
    AlreadyRunning,
    /// The guest does not run.
    #[error("the server has no running guest on this host")]
    NotRunning,
    /// The process lives and does not do what it should within its time.
    #[error("{0}")]
    Unresponsive(String),
    /// The machine refused: a missing binary, a full disk, a wrong permission.
    #[error("{0}")]
    Host(String),
}

/// What the hypervisor is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HypervisorFacts {
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// QEMU's version, `7.2.22`.
    pub version: String,
}

/// A NIC's end on the host.
#[derive(Debug)]
pub struct GuestNic {
    /// The tap's name.
    pub device: String,
    /// The tap, opened for this guest; `None` on a simulated host.
    pub tap: Option<OwnedFd>,
}

/// Everything a start needs. The caller has made disks, devices and flows before.
#[derive(Debug)]
pub struct StartRequest {
    /// The server.
    pub spec: ServerSpec,
    /// Which start this is; stored durably by the caller before the call.
    pub incarnation: u64,
    /// Disks in the order of the spec.
    pub disks: Vec<DiskFile>,
    /// The config drive, when the server has one.
    pub config_drive: Option<PathBuf>,
    /// NICs in the order of the spec.
    pub nics: Vec<GuestNic>,
    /// User and group that the guest runs as.
    pub uid: u32,
}

/// A guest that runs, as seen at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSeen {
    /// The server.
    pub server_id: String,
    /// Which start it came from.
    pub incarnation: u64,
    /// Running, paused, or (process still there, machine powered off by the guest) shutdown.
    pub power: PowerState,
    /// Process id, for logs; 0 on a simulated host.
    pub pid: u32,
}

/// A guest that has just been started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The guest.
    pub seen: GuestSeen,
    /// Time spent in each stage of the start, in order.
    pub stages: Vec<(String, Duration)>,
}

/// What happened to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestEvent {
    /// The server.
    pub server_id: String,
    /// Which start of it.
    pub incarnation: u64,
    /// What.
    pub what: GuestChange,
}

/// A change of a guest's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestChange {
    /// Its processors run.
    Resumed,
    /// Its processors stand still.
    Paused,
    /// The guest switched its machine off. The process waits to be ended, so that this is not
    /// missed by an agent that was away.
    PoweredOff,
    /// The guest reset its machine.
    Reset,
    /// The process is gone. Whether that was asked for is the plan's to know.
    Exited {
        /// The exit status and the end of its output.
        detail: String,
    },
}

/// How to end a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// QMP `quit`, so that disks are flushed; SIGKILL when that takes too long.
    Quit,
    /// SIGKILL at once: the disks are about to be deleted.
    Kill,
}

/// Starts, watches and ends guests.
pub trait Hypervisor: Send + Sync + 'static {
    /// Finds out what the hypervisor is. Fails when it cannot run guests at all.
    fn describe(&self) -> BoxFuture<'_, Result<HypervisorFacts, HypervisorError>>;

    /// Finds the guests that run, and watches those that are not watched yet. Called before
    /// anything is started, and again when a start finds that a guest lives. Ends nothing.
    fn adopt(&self) -> BoxFuture<'_, Result<Vec<GuestSeen>, HypervisorError>>;

    /// Starts a guest. Returns when its processors run. Refuses with
    /// [`HypervisorError::AlreadyRunning`] when one of this server lives.
    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, HypervisorError>>;

    /// Presses the power button (ACPI). Returns at once; a guest that listens powers off.
    fn power_button<'a>(&'a self, server_id: &'a str)
    -> BoxFuture<'a, Result<(), HypervisorError>>;

    /// Lets a paused guest go on.
    fn resume<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), HypervisorError>>;

    /// Ends the process. Returns `Ok` only when it is proven gone; a guest that does not run is
    /// done.
    fn end<'a>(
        &'a self,
        server_id: &'a str,
        ending: Ending,
    ) -> BoxFuture<'a, Result<(), HypervisorError>>;

    /// The end of the serial console: this many lines, or all that is kept.
    fn console_log<'a>(
        &'a self,
        server_id: &'a str,
        lines: Option<u32>,
    ) -> BoxFuture<'a, Result<String, HypervisorError>>;

    /// Takes the stream of guests' events; there is one, and the first caller has it.
    fn events(&self) -> Option<mpsc::UnboundedReceiver<GuestEvent>>;
}
