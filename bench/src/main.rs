//! Measures Meridian: its API on both databases, the way of a server to its QEMU, and memory.
//!
//! ```text
//! cargo run --release -p bench -- all --image guest.qcow2     throw-away clouds, everything
//! cargo run --release -p bench -- api --database sqlite       one part of it
//! cargo run --release -p bench -- cloud --state DIR           a cloud that runs already
//! ```
//! Nothing is asserted: the table says what was seen, on which machine, under which load. See
//! README.md for how each figure is taken.

mod api;
mod bare;
mod boot;
mod cloud;
mod flood;
mod host;
mod load;
mod logs;
mod memory;
mod postgres;
mod propagation;
mod simulated;
mod suites;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use black_box::Database;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use postgres::Postgres;
use suites::SUITES;
use table::Table;

#[derive(Parser)]
#[command(about = "Measures Meridian")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything, on throw-away clouds.
    All {
        #[command(flatten)]
        common: Common,
        /// The guest image (qcow2) of tools/guest_image/build; without it no guest is started.
        #[arg(long)]
        image: Option<PathBuf>,
    },
    /// The API of a throw-away cloud with simulated hosts.
    Api {
        #[command(flatten)]
        common: Common,
    },
    /// Checks of tokens while logins flood in, on a throw-away cloud.
    Flood {
        #[command(flatten)]
        common: Common,
    },
    /// How soon other replicas refuse a revoked token, on a throw-away cloud of three on PostgreSQL.
    Propagation {
        #[command(flatten)]
        common: Common,
    },
    /// Servers on this machine as the real host of a throw-away cloud; needs root.
    Boot {
        #[command(flatten)]
        common: Common,
        /// The guest image (qcow2) of tools/guest_image/build.
        #[arg(long)]
        image: PathBuf,
    },
}

#[derive(Args, Clone)]
struct Common {
    /// Where throw-away clouds keep their files, on the kind of disk that a real one would have.
    #[arg(long, default_value = "/var/lib")]
    directory: PathBuf,
    /// Databases to measure.
    #[arg(long, value_delimiter = ',', default_value = "sqlite,postgresql")]
    database: Vec<Kind>,
    /// Clients at once.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    clients: Vec<usize>,
    /// Seconds for each suite and number of clients.
    #[arg(long)]
    seconds: Option<u64>,
    /// Servers in the cloud.
    #[arg(long)]
    servers: Option<usize>,
    /// Suites of the API to run; all unless named.
    #[arg(long, value_delimiter = ',')]
    suites: Vec<String>,
    /// A tenth of everything, to see that it works.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Sqlite,
    Postgresql,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Sqlite => "sqlite",
            Kind::Postgresql => "postgresql",
        }
    }
}

impl Common {
    fn api(&self) -> Result<api::Amount> {
        for name in &self.suites {
            if !SUITES.iter().any(|suite| suite.name == name) {
                let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
                bail!("there is no suite {name:?}; there are {}", known.join(", "));
            }
        }
        Ok(api::Amount {
            clients: self.clients.clone(),
            time: Duration::from_secs(self.seconds.unwrap_or(if self.quick { 1 } else { 4 })),
            servers: self.servers.unwrap_or(if self.quick { 50 } else { 500 }),
            suites: self.suites.clone(),
        })
    }

    fn boot(&self) -> boot::Amount {
        if self.quick {
            boot::Amount { starts: 5, boots: 1 }
        } else {
            boot::Amount { starts: 40, boots: 3 }
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            _ => return ExitCode::FAILURE,
        };
    // Dropping what is under way ends its processes and removes its files.
    let result = tokio::select! {
        result = measure(cli.command) => result,
        _ = terminate.recv() => Err(anyhow::anyhow!("interrupted; nothing is left behind")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted; nothing is left behind")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(command: Command) -> Result<()> {
    let (common, parts, image) = match command {
        Command::All { common, image } => {
            (common, Parts { api: true, flood: true, propagation: true }, image)
        }
        Command::Api { common } => (common, Parts { api: true, ..Parts::default() }, None),
        Command::Flood { common } => (common, Parts { flood: true, ..Parts::default() }, None),
        Command::Propagation { common } => {
            let common = Common { database: vec![Kind::Postgresql], ..common };
            (common, Parts { propagation: true, ..Parts::default() }, None)
        }
        Command::Boot { common, image } => (common, Parts::default(), Some(image)),
    };
    let parent =
        tempfile::Builder::new()
            .prefix("meridian-bench-")
            .tempdir_in(&common.directory)
            .with_context(|| format!("making a directory in {}", common.directory.display()))?;
    // Everyone may pass: PostgreSQL and guests run as users of their own.
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    let machine = memory::machine();
    eprintln!("machine: {machine}");
    let mut table = Table::default();
    let result = everything(&mut table, &common, parent.path(), parts, image.as_deref()).await;
    println!("\nmachine: {machine}; at the end load {}", memory::load());
    table.print();
    result
}

/// What is measured besides the real host.
#[derive(Clone, Copy, Default)]
struct Parts {
    api: bool,
    flood: bool,
    propagation: bool,
}

async fn everything(
    table: &mut Table,
    common: &Common,
    parent: &Path,
    parts: Parts,
    image: Option<&Path>,
) -> Result<()> {
    let postgres = if common.database.contains(&Kind::Postgresql) {
        Some(Postgres::start(parent)?)
    } else {
        None
    };
    let database = |kind: Kind, name: &str| -> Result<Database> {
        Ok(match &postgres {
            Some(server) if kind == Kind::Postgresql => {
                Database::Postgres(server.create_database(name)?)
            }
            _ => Database::Sqlite,
        })
    };
    let mut failures = Vec::new();
    for &kind in &common.database {
        if parts.flood {
            let (place, time) = (database(kind, "flood")?, common.api()?.time);
            let done = flood::measure(table, kind.name(), place, parent, time).await;
            if let Err(error) = done {
                table.skip(format!("the flood of logins on {}: {error:#}", kind.name()));
                failures.push(error);
            }
        }
        if parts.propagation && kind == Kind::Postgresql {
            let times = if common.quick { 20 } else { 200 };
            let place = database(kind, "propagation")?;
            if let Err(error) = propagation::measure(table, place, parent, times).await {
                table.skip(format!("revocations at other replicas: {error:#}"));
                failures.push(error);
            }
        }
        if parts.api {
            let (place, amount) = (database(kind, "api")?, common.api()?);
            let done = api::measure(table, kind.name(), place, parent, &amount);
            if let Err(error) = done.await {
                table.skip(format!("the rest of the API on {}: {error:#}", kind.name()));
                failures.push(error);
            }
        }
        let Some(image) = image else { continue };
        let place = database(kind, "boot")?;
        let done = boot::measure(table, kind.name(), place, parent, image, common.boot());
        if let Err(error) = done.await {
            table.skip(format!("the rest of the real host on {}: {error:#}", kind.name()));
            failures.push(error);
        }
    }
    match failures.len() {
        0 => Ok(()),
        failed => bail!("{failed} part(s) were not measured"),
    }
}
