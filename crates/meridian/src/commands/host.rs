//! Commands about hosts: running one, joining a cloud, tokens, the KVM probe.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use control_plane::layout::Layout;
use control_plane::pki;
use host_agent::HostConfig;
use host_agent::config::{Accelerator, JoinConfig, RespondersConfig, SwitchConfig};
use tokio::signal::unix::{SignalKind, signal};

/// What a machine needs to become a host.
#[derive(Args)]
pub struct Join {
    /// State directory of the host.
    #[arg(long, env = "MERIDIAN_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// Where hosts connect: `https://NAME:PORT` of the control plane's gateway; of several
    /// replicas, separated by commas.
    #[arg(long, required = true, value_delimiter = ',')]
    pub url: Vec<String>,
    /// The cloud's certificate authority (PEM), from `pki/ca.pem` of its state directory.
    #[arg(long)]
    pub authority: PathBuf,
    /// The one-time token of `meridian host token`.
    #[arg(long, env = "MERIDIAN_JOIN_TOKEN", hide_env_values = true)]
    pub token: String,
    /// The host's name: letters, digits, dots and dashes.
    #[arg(long)]
    pub name: String,
    /// Network device towards the other hosts of the L2 domain.
    #[arg(long)]
    pub underlay: Option<String>,
    /// How long the underlay's switches remember an address that is silent, in seconds: the
    /// shortest among them.
    #[arg(long, default_value_t = 300)]
    pub underlay_ageing: u64,
    /// Two to six lower-case letters or digits, first in the names of devices on this machine.
    #[arg(long, default_value = "mer")]
    pub prefix: String,
    /// `kvm` or `tcg`; a probe guest decides unless said.
    #[arg(long)]
    pub accelerator: Option<String>,
    /// Address shown to operators.
    #[arg(long)]
    pub host_ip: Option<IpAddr>,
    /// Name servers for guests' questions outside their own network.
    #[arg(long, value_delimiter = ',')]
    pub dns: Vec<IpAddr>,
}

/// The configuration of the host below a state directory.
pub fn config_path(layout: &Layout) -> PathBuf {
    layout.root().join("etc/host.toml")
}

/// Writes `etc/host.toml`, readable by its owner alone: it holds the join token.
pub fn join(join: Join) -> Result<()> {
    let layout = Layout::new(std::path::absolute(&join.state)?);
    let accelerator = match join.accelerator.as_deref() {
        None => None,
        Some("kvm") => Some(Accelerator::Kvm),
        Some("tcg") => Some(Accelerator::Tcg),
        Some(other) => bail!("--accelerator is {other:?}; it can be kvm or tcg"),
    };
    let config = HostConfig {
        state_dir: layout.host(),
        control_plane_url: join.url.first().cloned().unwrap_or_default(),
        more_control_plane_urls: join.url.iter().skip(1).cloned().collect(),
        authority: std::path::absolute(&join.authority)?,
        join: Some(JoinConfig { token: join.token, name: join.name }),
        underlay: join.underlay,
        accelerator,
        qemu: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        uid_base: None,
        device_prefix: join.prefix.clone(),
        reserved_memory_mib: 512,
        host_ip: join.host_ip,
        switch: SwitchConfig {
            run_dir: layout.run().join("ovs"),
            bridge: format!("{}-br", join.prefix),
            underlay_ageing_seconds: join.underlay_ageing,
        },
        responders: RespondersConfig {
            enabled: true,
            namespace: format!("{}-resp", join.prefix),
            upstream_dns: join.dns,
        },
    };
    write_config(&layout, &config)
}

/// Writes the host's configuration.
pub fn write_config(layout: &Layout, config: &HostConfig) -> Result<()> {
    let text = toml::to_string_pretty(config).context("writing the host's configuration")?;
    pki::write_private(&config_path(layout), &text)?;
    Ok(())
}

/// Runs the host role until `SIGTERM` (guests go on) or `SIGUSR1` (guests end first).
pub async fn run(layout: &Layout) -> Result<()> {
    let path = config_path(layout);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{}: run `meridian init` or `meridian host join` first", path.display())
    })?;
    let config: HostConfig = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let shutdown = host_agent::Shutdown::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut end_guests = signal(SignalKind::user_defined1())?;
    let asked = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => asked.leave_guests(),
            _ = interrupt.recv() => asked.leave_guests(),
            _ = end_guests.recv() => asked.end_guests(),
        }
    });
    host_agent::run(config, shutdown).await.context("the host role ended")
}

/// Prints a join token.
pub async fn token(
    layout: &Layout,
    cluster: &str,
    l2_domain: &str,
    zone: Option<&str>,
) -> Result<()> {
    println!("{}", control_plane::init::join_token(layout, zone, cluster, l2_domain).await?);
    Ok(())
}

/// Says whether KVM runs guests here.
pub async fn probe_kvm(qemu: &Path) -> Result<()> {
    let probed = host_agent::qemu::probe::probe_kvm(qemu).await;
    println!("{} {}", probed.accelerator.as_str(), probed.reason);
    Ok(())
}
