//! Measures a running cloud over its public API.
//!
//! ```text
//! cargo run --release -p bench -- --state DIR [--clients 1,16] [--seconds 5] [SUITE…]
//! ```
//!
//! Each suite repeats one request from a number of clients at once for a while, and prints how
//! many a second were answered and how long the middle one and the slowest of a hundred took.
//! Figures mean something only on a quiet machine and a release build; the table says which
//! machine it was.

mod memory;
mod suites;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use suites::{SUITES, World};

#[derive(Parser)]
#[command(about = "Measures a running cloud over its public API")]
struct Cli {
    /// State directory of the cloud, for its clouds.yaml and authority.
    #[arg(long, env = "MERIDIAN_STATE")]
    state: PathBuf,
    /// Clients at once.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    clients: Vec<usize>,
    /// Seconds for each suite and number of clients.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Suites to run; all when none is named.
    suites: Vec<String>,
}

/// What one suite showed with one number of clients.
struct Figures {
    answered: usize,
    failed: usize,
    elapsed: Duration,
    /// Sorted.
    times: Vec<Duration>,
}

impl Figures {
    fn quantile(&self, part: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        // Truncation is meant: the index of a sorted list.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let index = (part * last as f64).round() as usize;
        self.times.get(index).copied().unwrap_or_default()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        bail!("a provider of cryptography is already installed");
    }
    let known: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
    for name in &cli.suites {
        if !known.contains(&name.as_str()) {
            bail!("there is no suite {name:?}; there are {}", known.join(", "));
        }
    }
    let world = Arc::new(World::prepare(&cli.state).await?);
    println!("machine: {}", memory::machine());
    println!(
        "{:<16} {:>7} {:>9} {:>10} {:>10} {:>7}",
        "suite", "clients", "per s", "p50 ms", "p99 ms", "failed"
    );
    for (name, request) in SUITES {
        if !cli.suites.is_empty() && !cli.suites.iter().any(|wanted| wanted == name) {
            continue;
        }
        for &clients in &cli.clients {
            let figures = run(&world, *request, clients, Duration::from_secs(cli.seconds)).await?;
            println!(
                "{name:<16} {clients:>7} {:>9.0} {:>10.2} {:>10.2} {:>7}",
                figures.answered as f64 / figures.elapsed.as_secs_f64(),
                millis(figures.quantile(0.5)),
                millis(figures.quantile(0.99)),
                figures.failed,
            );
        }
    }
    memory::print(&cli.state);
    world.clean_up().await
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn run(
    world: &Arc<World>,
    request: suites::Request,
    clients: usize,
    length: Duration,
) -> Result<Figures> {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                let (mut times, mut failed) = (Vec::new(), 0);
                while begun.elapsed() < length {
                    let sent = Instant::now();
                    match request(&world).await {
                        Ok(()) => times.push(sent.elapsed()),
                        Err(error) => {
                            if failed == 0 {
                                eprintln!("first failure: {error:#}");
                            }
                            failed += 1;
                        }
                    }
                }
                (times, failed)
            })
        })
        .collect();
    let (mut times, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (some, bad) = task.await.context("a client panicked")?;
        times.extend(some);
        failed += bad;
    }
    let elapsed = begun.elapsed();
    times.sort_unstable();
    Ok(Figures { answered: times.len(), failed, elapsed, times })
}
