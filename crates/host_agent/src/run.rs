//! The host role: the real edges put together, and the agent run over them until it is told to
//! end.
//!
//! ```text
//!   enrol (first start) ─▶ what accelerates ─▶ edges ─▶ agent: adopts, keeps, follows
//!                                                          │ leave_guests: the agent ends
//!                                                          │ end_guests: guests end, then it
//! ```

use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentConfig, AgentError, Edges, UID_SLOTS};
use crate::config::{Accelerator, HostConfig};
use crate::edges::{LinkError, Links, ResponderTables, Responders};
use crate::image_cache::ImageCache;
use crate::link::HttpControlPlane;
use crate::link::enrol::{self, EnrolError};
use crate::links::HostLinks;
use crate::open_vswitch::OpenVswitch;
use crate::pool::{DirectoryPool, PoolError};
use crate::private;
use crate::qemu::process::boot_id;
use crate::qemu::{Qemu, QemuConfig, probe};
use crate::responders::HostResponders;
use crate::store::{DocumentStore, StoreError};

/// Where blocks of guests' user ids begin: above what distributions and containers use.
const UID_FIRST: u32 = 1_000_000_000;
/// How many blocks a machine has; a state directory picks one by its path.
const UID_BLOCKS: u32 = 10_000;
/// How long tasks have to end once they were told.
const END_GRACE: Duration = Duration::from_secs(10);

/// How the role is to end. Cheap to clone; the first word holds.
#[derive(Clone, Debug)]
pub struct Shutdown {
    wish: watch::Sender<Option<Wish>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    LeaveGuests,
    EndGuests,
}

impl Shutdown {
    /// Nobody has asked for the end.
    pub fn new() -> Self {
        Shutdown { wish: watch::Sender::new(None) }
    }

    /// The role ends, guests go on: an upgrade or a restart.
    pub fn leave_guests(&self) {
        self.ask(Wish::LeaveGuests);
    }

    /// Guests end in an orderly way, then the role: the machine goes down. What they should be
    /// doing stays as it was, so the next start brings them back.
    pub fn end_guests(&self) {
        self.ask(Wish::EndGuests);
    }

    fn ask(&self, wish: Wish) {
        self.wish.send_if_modified(|asked| {
            let first = asked.is_none();
            *asked = asked.or(Some(wish));
            first
        });
    }

    async fn asked(&self) -> Wish {
        let mut wish = self.wish.subscribe();
        match wish.wait_for(Option::is_some).await {
            Ok(wish) => wish.unwrap_or(Wish::LeaveGuests),
            Err(_) => Wish::LeaveGuests,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::new()
    }
}

/// Why the host role cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine is not a host, and could not become one.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The connection to the control plane cannot be prepared.
    #[error("the link to the control plane: {0}")]
    Link(#[from] crate::link::LinkError),
    /// The agent's own memory cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pool of disks cannot be opened.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A namespace or device cannot be made.
    #[error(transparent)]
    Device(#[from] LinkError),
    /// A directory or socket of the host's own.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// The agent cannot begin.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Answers nobody; for a host without responders.
struct Silence;

impl Responders for Silence {
    fn update(&self, _: ResponderTables) {}
}

/// Runs the host role.
///
/// # Errors
/// When it cannot begin. Once it runs, nothing but `shutdown` ends it.
pub async fn run(config: HostConfig, shutdown: Shutdown) -> Result<(), RunError> {
    let io = |what: &Path| {
        let what = what.display().to_string();
        move |error| RunError::Io(what, error)
    };
    private::passage(&config.state_dir).map_err(io(&config.state_dir))?;
    raise_file_limit();
    let identity = tokio::select! {
        identity = enrol::identity(&config) => identity?,
        _ = shutdown.asked() => return Ok(()),
    };
    tracing::info!(host = %identity.host_id, "this machine is a host");
    let store = DocumentStore::open(&config.state_dir.join("agent.db"))?;
    let accelerator = accelerator(&config).await;
    let control_plane = Arc::new(HttpControlPlane::new(&config.gateways(), &identity)?);

    let servers = config.state_dir.join("servers");
    let uids = uids(&config);
    let qemu = Qemu::new(QemuConfig {
        binary: config.qemu.clone(),
        accelerator,
        servers: servers.clone(),
        uids: uids.clone(),
        cgroup_owner: config.device_prefix.clone(),
    });
    let images = config.state_dir.join("images");
    let links = HostLinks::new(&config.device_prefix, &config.responders.namespace);
    let responders: Arc<dyn Responders> = if config.responders.enabled {
        links.ensure_responder_link().await?;
        let started = HostResponders::start(&config.responders);
        Arc::new(started.map_err(|e| RunError::Io("starting the responders".to_owned(), e))?)
    } else {
        Arc::new(Silence)
    };
    let edges = Edges {
        hypervisor: Arc::new(qemu.clone()),
        switch: OpenVswitch::start(&config.switch),
        pool: Arc::new(DirectoryPool::open(&servers)?),
        links: Arc::new(links),
        responders,
        images: Arc::new(ImageCache::open(&images, control_plane.clone()).map_err(io(&images))?),
    };
    let agent_config = AgentConfig {
        device_prefix: config.device_prefix.clone(),
        underlay: config.underlay.clone(),
        responders: config.responders.enabled,
        uid_base: uids.start,
        reserved_memory_mib: config.reserved_memory_mib,
        host_ip: config.host_ip.or_else(own_address),
        underlay_ageing: Some(Duration::from_secs(config.switch.underlay_ageing_seconds.max(3))),
        machine: None,
    };

    let stop = CancellationToken::new();
    let agent = Agent::start(agent_config, edges, store, stop.clone()).await?;
    let logs = tokio::spawn(async move { qemu.keep_logs_short().await });
    let wish = tokio::select! {
        () = agent.follow(control_plane) => Wish::LeaveGuests,
        wish = shutdown.asked() => wish,
    };
    if wish == Wish::EndGuests {
        tracing::info!("ending guests");
        agent.end_guests().await;
    }
    stop.cancel();
    logs.abort();
    if tokio::time::timeout(END_GRACE, agent.ended()).await.is_err() {
        tracing::warn!("some tasks did not end in time; nothing of theirs is lost");
    }
    Ok(())
}

/// Each guest needs a few descriptors of the agent; the usual limit of 1,024 is for programs that
/// use `select`.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct lives across the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } < 0 {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the struct lives across the call; a refusal leaves the limit as it was.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// What the operator says, or what a probe guest finds out. The probe's answer holds for a boot of
/// the machine, so that a restarted agent takes its guests over at once.
async fn accelerator(config: &HostConfig) -> Accelerator {
    if let Some(accelerator) = config.accelerator {
        return accelerator;
    }
    let path = config.state_dir.join("accelerator");
    let boot = boot_id().unwrap_or_default();
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
        if found == format!("{} {boot}\n", accelerator.as_str()) {
            return accelerator;
        }
    }
    let probed = probe::probe_kvm(&config.qemu).await;
    let name = probed.accelerator.as_str();
    tracing::info!(accelerator = name, reason = %probed.reason, "probed");
    let written =
        private::file(&path).and_then(|()| std::fs::write(&path, format!("{name} {boot}\n")));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the next start probes again");
    }
    probed.accelerator
}

/// The users of this host's guests: a block of its own for each state directory, so that two hosts
/// on one machine share none (one chance in ten thousand that they do; `uid_base` decides then).
fn uids(config: &HostConfig) -> Range<u32> {
    let first = config.uid_base.unwrap_or_else(|| {
        let sum = Sha256::digest(config.state_dir.as_os_str().as_encoded_bytes());
        let pick = u32::from_be_bytes([sum[0], sum[1], sum[2], sum[3]]) % UID_BLOCKS;
        UID_FIRST + pick * UID_SLOTS
    });
    first..first.saturating_add(UID_SLOTS)
}

/// The address that this machine would use towards others; nothing is sent to find out.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // TEST-NET-3 (RFC 5737): connecting a datagram socket only looks up the route.
    socket.connect("203.0.113.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_word_on_how_to_end_holds() {
        let shutdown = Shutdown::new();
        shutdown.end_guests();
        shutdown.leave_guests();
        assert_eq!(shutdown.asked().await, Wish::EndGuests);
    }
}
