//! Runs simulated hosts against a real control plane:
//!
//! ```text
//! simulated-host --state DIR --control-plane https://127.0.0.1:PORT --authority ca.pem \
//!     --hosts 2 --token TOKEN,TOKEN
//! ```
//! SIGTERM or SIGKILL ends the agents; the machines, in DIR, are as they were at the next start,
//! which needs no tokens.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures::future::try_join_all;
use simulated_cloud::{HostOptions, MachineSize, directory};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
#[command(about = "Runs hosts whose machines are simulated")]
struct Cli {
    /// Where the hosts' state is; one directory each.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Where hosts connect: `https://NAME:PORT` of the control plane's gateway; of several
    /// replicas, separated by commas.
    #[arg(long, required = true, value_name = "URL", value_delimiter = ',')]
    control_plane: Vec<String>,
    /// The cloud's certificate authority (PEM), from `pki/ca.pem` of its state directory.
    #[arg(long)]
    authority: PathBuf,
    /// One-time tokens of `meridian host token`, one for each host that has not joined yet.
    #[arg(long, value_delimiter = ',')]
    token: Vec<String>,
    /// How many hosts.
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// They are named NAME-1, NAME-2, …
    #[arg(long, default_value = "sim")]
    name: String,
    /// Processors of each.
    #[arg(long, default_value_t = 64)]
    vcpus: u32,
    /// Memory of each, in MiB.
    #[arg(long, default_value_t = 256 * 1024)]
    memory_mib: u64,
    /// Fetch images from the control plane, check and keep them, as real hosts do; otherwise they
    /// are simulated too.
    #[arg(long)]
    fetch_images: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a provider of cryptography is already installed");
    }
    let filter = tracing_subscriber::EnvFilter::try_from_env("MERIDIAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let cli = Cli::parse();
    let size = MachineSize { vcpus: cli.vcpus, memory_mib: cli.memory_mib };
    let mut tokens = cli.token.into_iter();
    let stop = CancellationToken::new();
    let mut hosts = Vec::with_capacity(cli.hosts);
    for number in 1..=cli.hosts {
        let name = format!("{}-{number}", cli.name);
        let directory = directory(&cli.state, &name);
        let joined = directory.join("identity/host_id").exists();
        let token = if joined { None } else { tokens.next() };
        if !joined && token.is_none() {
            bail!("{name} has not joined yet and there is no --token left for it");
        }
        let options = HostOptions {
            directory,
            control_planes: cli.control_plane.clone(),
            authority: cli.authority.clone(),
            token,
            name,
            size,
            fetch_images: cli.fetch_images,
        };
        hosts.push(tokio::spawn(simulated_cloud::run(options, stop.clone())));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    // The first that cannot go on ends all: a test that misses a host must hear of it.
    try_join_all(hosts.into_iter().map(|host| async move { host.await.context("a host")? }))
        .await?;
    Ok(())
}
