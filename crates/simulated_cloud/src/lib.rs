//! Hosts whose machines are played, for tests and for scale: the real agent, with its enrolment,
//! its connection and its store, over a [`SimulatedMachine`] that lives in a directory. The
//! machine outlives the agent's process: kill it at any instant, start it again on the same
//! directory, and its guests are as they were.
//!
//! ```text
//!   DIR/sim-1/identity/          the host's key and certificate
//!   DIR/sim-1/agent.db           the agent's own memory
//!   DIR/sim-1/machine.journal    everything that ever happened on the machine
//!   DIR/sim-1/faults/            what goes wrong while a file stands there: qemu_dies, disk_full,
//!                                switch_down; the file's text is the reason given
//! ```
//! Nothing of it is in the released binary. From outside, [`Standing::read`] says what stands on
//! a machine and [`history`] what happened on it, while it runs or after.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use host_agent::HostConfig;
use host_agent::agent::{Agent, AgentConfig};
use host_agent::config::{JoinConfig, RespondersConfig, SwitchConfig};
use host_agent::image_cache::ImageCache;
use host_agent::link::HttpControlPlane;
use host_agent::link::enrol;
use host_agent::store::DocumentStore;
use tokio_util::sync::CancellationToken;

pub use host_agent::agent::MachineSize;
pub use host_agent::simulated::{Change, Entry, SimulatedMachine, Standing, history};

/// What a simulated host is told.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Everything of this host.
    pub directory: PathBuf,
    /// `https://host:port` of each gateway; at least one.
    pub control_planes: Vec<String>,
    /// The authority to trust on first contact: a PEM file.
    pub authority: PathBuf,
    /// For the first start; not needed once the host has its certificate.
    pub token: Option<String>,
    /// Its name.
    pub name: String,
    /// What the machine has.
    pub size: MachineSize,
    /// Whether images are really fetched, checked and kept; otherwise they are there.
    pub fetch_images: bool,
}

/// Runs a host until `stop`. Its guests stay.
///
/// # Errors
/// When it cannot begin.
pub async fn run(options: HostOptions, stop: CancellationToken) -> Result<()> {
    let HostOptions { directory, control_planes, authority, token, name, size, fetch_images } =
        options;
    let config = HostConfig {
        state_dir: directory.clone(),
        control_plane_url: control_planes.first().cloned().unwrap_or_default(),
        more_control_plane_urls: control_planes.iter().skip(1).cloned().collect(),
        authority,
        join: token.map(|token| JoinConfig { token, name: name.clone() }),
        underlay: Some("wire".to_owned()),
        accelerator: None,
        qemu: PathBuf::new(),
        uid_base: None,
        device_prefix: "sim".to_owned(),
        reserved_memory_mib: 0,
        host_ip: None,
        switch: SwitchConfig::default(),
        responders: RespondersConfig::default(),
    };
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("making {}", directory.display()))?;
    let identity = tokio::select! {
        identity = enrol::identity(&config) => identity.with_context(|| name.clone())?,
        () = stop.cancelled() => return Ok(()),
    };
    tracing::info!(host = %identity.host_id, %name, "a simulated machine is a host");
    let store = DocumentStore::open(&directory.join("agent.db"))?;
    let link = Arc::new(HttpControlPlane::new(&control_planes, &identity)?);
    let machine = SimulatedMachine::open(&directory)
        .with_context(|| format!("opening the machine in {}", directory.display()))?;
    let config = AgentConfig {
        device_prefix: config.device_prefix,
        underlay: config.underlay,
        responders: true,
        uid_base: 1_000_000_000,
        reserved_memory_mib: config.reserved_memory_mib,
        host_ip: None,
        underlay_ageing: None,
        machine: Some(size),
    };
    let mut edges = machine.edges();
    if fetch_images {
        let images = directory.join("images");
        edges.images = Arc::new(ImageCache::open(&images, link.clone())?);
    }
    let agent = Agent::start(config, edges, store, stop).await?;
    agent.follow(link).await;
    agent.ended().await;
    Ok(())
}

/// The directory of a host below the process's.
pub fn directory(root: &Path, name: &str) -> PathBuf {
    root.join(name)
}
