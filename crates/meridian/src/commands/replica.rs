//! `meridian replica`: several control planes over one PostgreSQL.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use control_plane::config::Config;
use control_plane::init;
use control_plane::layout::Layout;

use crate::State;

/// Commands about replicas.
#[derive(Subcommand)]
pub enum ReplicaCommand {
    /// Write the file from which another replica is made. It holds every secret of the cloud.
    Bundle {
        #[command(flatten)]
        state: State,
        /// The file, made with mode 0600.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Make this state directory another replica of a control plane.
    Join {
        #[command(flatten)]
        state: State,
        /// The file that `replica bundle` wrote.
        #[arg(long, value_name = "FILE")]
        bundle: PathBuf,
        /// Address and port of this replica's API.
        #[arg(long, default_value = "127.0.0.1:5000")]
        listen: SocketAddr,
        /// Address and port where hosts connect to it.
        #[arg(long, default_value = "127.0.0.1:5001")]
        gateway_listen: SocketAddr,
        /// Name under which hosts reach it; the address it listens on unless said.
        #[arg(long)]
        name: Option<String>,
        /// How clients reach the region: `https://NAME:PORT`; as on the first replica unless said.
        #[arg(long)]
        public_url: Option<String>,
        /// Where the shared image store is mounted; as on the first replica unless said.
        #[arg(long, value_name = "DIR")]
        images: Option<PathBuf>,
        /// How this replica reaches the database; as the first one unless said.
        #[arg(long)]
        database: Option<String>,
    },
    /// Show the replicas and who of them lives.
    List {
        #[command(flatten)]
        state: State,
    },
}

/// Runs a command.
pub async fn run(command: ReplicaCommand) -> Result<()> {
    match command {
        ReplicaCommand::Bundle { state, to } => {
            init::write_bundle(&state.layout()?, &to)?;
            println!(
                "{} holds every secret of this cloud: copy it over a safe way, and delete it once \
                 the replica has joined.",
                to.display()
            );
            Ok(())
        }
        ReplicaCommand::Join {
            state,
            bundle,
            listen,
            gateway_listen,
            name,
            public_url,
            images,
            database,
        } => {
            let options =
                init::ReplicaOptions { listen, gateway_listen, name, public_url, images, database };
            join(&state.layout()?, &bundle, &options)
        }
        ReplicaCommand::List { state } => list(&state.layout()?).await,
    }
}

fn join(layout: &Layout, bundle: &Path, options: &init::ReplicaOptions) -> Result<()> {
    let config = init::join_replica(layout, bundle, options)?;
    println!("API      {}", config.api.listen);
    println!("gateway  {}", config.gateway.url);
    println!("images   {}", config.zone.images.display());
    println!(
        "Start it: meridian supervise --state {} --roles control-plane",
        layout.root().display()
    );
    Ok(())
}

async fn list(layout: &Layout) -> Result<()> {
    let config = Config::read(&layout.config())?;
    let db = init::open_database(layout, &config).await?;
    let replicas =
        db.read(|tx| Box::pin(async move { control_plane::replica::list(tx).await })).await?;
    println!(
        "{:<36}  {:<8} {:<28} {:<22} {:<8} last seen",
        "replica", "state", "gateway", "API", "release"
    );
    for replica in replicas {
        println!(
            "{:<36}  {:<8} {:<28} {:<22} {:<8} {}",
            replica.id,
            if replica.serving { "serving" } else { "silent" },
            replica.gateway,
            replica.api,
            replica.version,
            replica.seen_at.rfc3339_seconds(),
        );
    }
    Ok(())
}
