//! The `meridian` binary: every role of the cloud, and the operators' commands.

mod commands;
mod supervise;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use control_plane::layout::Layout;

/// An answer with thousands of rows is tens of thousands of small allocations, and whoever tears them
/// down should not search for neighbours to join them with, as the C library's does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "meridian", version, about = "A whole cloud in one binary", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The state directory, which every command needs.
#[derive(Args, Clone)]
struct State {
    /// State directory of this cloud or host.
    #[arg(long, env = "MERIDIAN_STATE", value_name = "DIR")]
    state: PathBuf,
}

impl State {
    fn layout(&self) -> anyhow::Result<Layout> {
        Ok(Layout::new(std::path::absolute(&self.state)?))
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make keys, certificates, database, first users and configuration; safe to run again.
    Init {
        #[command(flatten)]
        state: State,
        /// Address and port of the public API.
        #[arg(long, default_value = "127.0.0.1:5000")]
        listen: SocketAddr,
        /// Address and port where hosts connect; the port after the API's unless said.
        #[arg(long)]
        gateway_listen: Option<SocketAddr>,
        /// Name under which clients reach the API; the address it listens on unless said.
        #[arg(long)]
        public_name: Option<String>,
        /// Two to six lower-case letters or digits, first in the names of devices on this machine.
        #[arg(long, default_value = "mer")]
        prefix: String,
        /// `sqlite:PATH` or `postgres://…`.
        #[arg(long, default_value = "sqlite:db/meridian.sqlite")]
        database: String,
    },
    /// Run the control plane, with its zone.
    ControlPlane {
        #[command(flatten)]
        state: State,
    },
    /// Run this machine as a host, or manage hosts.
    Host {
        #[command(subcommand)]
        command: HostCommand,
    },
    /// Try out and repair who may log in.
    Identity {
        #[command(subcommand)]
        command: IdentityCommand,
    },
    /// Copy the database to a file while the cloud runs (SQLite).
    Backup {
        #[command(flatten)]
        state: State,
        /// The copy; must not be there yet.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Take a restored database into use: hosts change nothing until `adopt` has compared.
    Restore {
        #[command(flatten)]
        state: State,
        /// The copy that `backup` made; none for a PostgreSQL that its own tools have restored.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// After a restore: show what rows and hosts do not agree on, and adopt what you confirm.
    Adopt(commands::database::Adopt),
    /// Manage where rows are kept.
    Database {
        #[command(subcommand)]
        command: commands::database::DatabaseCommand,
    },
    /// Manage several control planes over one PostgreSQL.
    Replica {
        #[command(subcommand)]
        command: commands::replica::ReplicaCommand,
    },
    /// Rotate the keys that sign tokens and seal secrets.
    Keys {
        #[command(subcommand)]
        command: commands::keys::Keys,
    },
    /// Run the roles of this machine as separate processes and keep them running.
    Supervise {
        #[command(flatten)]
        state: State,
        /// Roles to run: control-plane, host.
        #[arg(long, value_delimiter = ',', default_value = "control-plane,host")]
        roles: Vec<String>,
        /// Network namespace (as `ip netns` names it) that the host role runs in, so that several
        /// hosts, or other users of Open vSwitch, can share a machine.
        #[arg(long, value_name = "NAME")]
        host_namespace: Option<String>,
        /// Run PostgreSQL, too: over the cluster in DIR/data, with its socket in DIR.
        #[arg(long, value_name = "DIR")]
        postgresql: Option<PathBuf>,
    },
    /// Show what runs.
    Status {
        #[command(flatten)]
        state: State,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// End guests politely, then the services.
    Down {
        #[command(flatten)]
        state: State,
        /// End the services only; guests go on.
        #[arg(long)]
        leave_guests: bool,
    },
    /// Look whether all that the cloud has written agrees, and print what does not. Ends with 1
    /// when something is wrong.
    Audit {
        #[command(flatten)]
        state: State,
        /// Put right what rows alone prove to be wrong.
        #[arg(long)]
        repair: bool,
    },
    /// Ask about the rules that decide who may do what.
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Find out, with a probe guest, whether KVM runs guests here.
    ProbeKvm {
        /// The QEMU binary.
        #[arg(long, default_value = "/usr/bin/qemu-system-x86_64")]
        qemu: PathBuf,
    },
}

#[derive(Subcommand)]
enum IdentityCommand {
    /// Make an administrator for an hour, whatever became of the others.
    Recover {
        #[command(flatten)]
        state: State,
    },
    /// Take over the people of a Keystone: domains, projects, users, groups, roles, assignments.
    Import(Box<commands::import::Import>),
    /// Mappings of identity providers.
    Mapping {
        #[command(subcommand)]
        command: MappingCommand,
    },
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Say whether somebody may do something, and why.
    Explain(commands::policy::Explain),
}

#[derive(Subcommand)]
enum MappingCommand {
    /// Show what rules make of what a provider says, and why; nothing is changed or asked.
    Test {
        /// The rules: a JSON list, or a mapping with its schema_version.
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// What the provider says: a JSON object, or lines NAME: VALUE with ';' between values.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
    },
}

#[derive(Subcommand)]
enum HostCommand {
    /// Run the host role.
    Run {
        #[command(flatten)]
        state: State,
    },
    /// Make a one-time token with which a machine joins as a host.
    Token {
        #[command(flatten)]
        state: State,
        /// The cluster it joins.
        #[arg(long, default_value = "cluster-1")]
        cluster: String,
        /// Its L2 domain: hosts that share an Ethernet segment.
        #[arg(long, default_value = "l2-1")]
        l2_domain: String,
        /// The zone; the control plane's own unless said.
        #[arg(long)]
        zone: Option<String>,
    },
    /// Write a host's configuration, with which `host run` joins a cloud.
    Join(Box<commands::host::Join>),
}

fn main() -> ExitCode {
    // The provider is chosen once, here; libraries below refuse to guess.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("meridian: a provider of cryptography is already installed");
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    start_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("meridian: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("meridian: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line an event on standard error; `MERIDIAN_LOG` chooses what (`info` unless said).
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MERIDIAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Init { state, listen, gateway_listen, public_name, prefix, database } => {
            let options =
                commands::init::Options { listen, gateway_listen, public_name, prefix, database };
            commands::init::run(&state.layout()?, options).await
        }
        Command::ControlPlane { state } => commands::control_plane::run(&state.layout()?).await,
        Command::Backup { state, to } => commands::database::backup(&state.layout()?, &to),
        Command::Restore { state, from } => {
            commands::database::restore(&state.layout()?, from).await
        }
        Command::Adopt(arguments) => commands::database::adopt(arguments).await,
        Command::Database { command } => commands::database::run(command).await,
        Command::Replica { command } => commands::replica::run(command).await,
        Command::Supervise { state, roles, host_namespace, postgresql } => {
            commands::supervisor::supervise(
                &state.layout()?,
                &roles,
                host_namespace.as_deref(),
                postgresql.as_deref(),
            )
            .await
        }
        Command::Status { state, json } => commands::supervisor::status(&state.layout()?, json),
        Command::Down { state, leave_guests } => {
            commands::supervisor::down(&state.layout()?, leave_guests).await
        }
        Command::Audit { state, repair } => commands::audit::audit(&state.layout()?, repair).await,
        Command::Policy { command: PolicyCommand::Explain(asked) } => {
            commands::policy::explain(asked).await
        }
        Command::Keys { command } => commands::keys::run(command).await,
        Command::ProbeKvm { qemu } => commands::host::probe_kvm(&qemu).await,
        Command::Identity { command } => match command {
            IdentityCommand::Recover { state } => commands::recover::run(&state.layout()?).await,
            IdentityCommand::Import(import) => commands::import::run(*import).await,
            IdentityCommand::Mapping { command: MappingCommand::Test { rules, input } } => {
                commands::identity::test_mapping(&rules, &input)
            }
        },
        Command::Host { command } => match command {
            HostCommand::Run { state } => commands::host::run(&state.layout()?).await,
            HostCommand::Token { state, cluster, l2_domain, zone } => {
                commands::host::token(&state.layout()?, &cluster, &l2_domain, zone.as_deref()).await
            }
            HostCommand::Join(join) => commands::host::join(*join),
        },
    }
}
