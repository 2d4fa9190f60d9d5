//! A host's own ovsdb-server and ovs-vswitchd: where everything lies, which commands start them, and
//! starting and stopping them.
//!
//! ```text
//!   STATE/openvswitch/   conf.db                      the database; outlives a restart of the machine
//!                        system-id.conf, *.log
//!   RUN/                 db.sock  BRIDGE.mgmt         what the adapter connects to
//!                        ovsdb-server.pid  ovs-vswitchd.pid  *.ctl
//! ```
//!
//! Both are detached, in a session of their own, under Open vSwitch's own monitor process, which
//! starts a crashed one again: forwarding does not depend on the agent. Under a service manager
//! they must also not be in a group of processes that is ended together with the agent.
//!
//! - `ovsdb-server` down stops forwarding after a moment in the userspace data path, so it is
//!   started first and stopped last.
//! - `other_config:flow-restore-wait` left true means no traffic at all. It exists for the kernel's
//!   data path, whose flows outlive vswitchd; here there are none to keep, so it is cleared.
//! - The userspace data path takes the device name `ovs-netdev`: one instance for each network
//!   namespace.
//! - A path of a unix socket has at most 107 octets.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovsdb::vswitch::DATABASE;
use ovsdb::{Condition, Mutation, Mutator, Operation, Options, OvsDb, OvsdbError};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::private;

/// How long a daemon may take to start or to end. Starting returns when it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest path of a unix socket (`sockaddr_un`, without the final zero).
const MAX_SOCKET_PATH: usize = 107;
/// Longest name of a bridge, and what follows it in its management socket's name.
const MAX_SOCKET_NAME: usize = 15 + ".mgmt".len();

/// Why a daemon could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A directory or file could not be made or read.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The run directory's name leaves no room for a socket's.
    #[error(
        "{0} is too long: a socket in it would exceed 107 octets; choose a shorter run directory"
    )]
    PathTooLong(PathBuf),
    /// A program could not be run.
    #[error("{program} could not be run: {why}; is the package openvswitch-switch installed?")]
    Spawn {
        /// Which.
        program: &'static str,
        /// What the system said.
        why: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed: {message}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A daemon does not end.
    #[error("{program} (process {pid}) has not ended within {PATIENCE:?}")]
    DoesNotEnd {
        /// Which.
        program: &'static str,
        /// Its process id.
        pid: i32,
    },
    /// The database could not be prepared.
    #[error(transparent)]
    Database(#[from] OvsdbError),
}

/// A command as it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonCommand {
    /// Name of the program, found on the path.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables added to its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Where it writes its process id.
    pub pid_file: PathBuf,
}

/// What [`Daemons::start`] found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Started {
    /// ovsdb-server was not running.
    pub database: bool,
    /// ovs-vswitchd was not running.
    pub switch: bool,
}

/// Where a host's Open vSwitch lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemons {
    /// Database and logs; kept.
    pub state_dir: PathBuf,
    /// Sockets and process ids; may be empty after a restart of the machine.
    pub run_dir: PathBuf,
    /// What the database is made from.
    pub schema: PathBuf,
    /// Network namespace to run in, by its name under `/run/netns`; that of the caller if absent.
    /// Several hosts on one machine need one each.
    pub namespace: Option<String>,
}

impl Daemons {
    /// The usual layout: `STATE/openvswitch` and the given run directory.
    pub fn new(state_dir: &Path, run_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.join("openvswitch"),
            run_dir: run_dir.to_owned(),
            schema: PathBuf::from("/usr/share/openvswitch/vswitch.ovsschema"),
            namespace: None,
        }
    }

    /// The database's socket.
    pub fn database_socket(&self) -> PathBuf {
        self.run_dir.join("db.sock")
    }

    fn database_file(&self) -> PathBuf {
        self.state_dir.join("conf.db")
    }

    /// The command that starts ovsdb-server. It returns when the database serves.
    pub fn database_command(&self) -> DaemonCommand {
        let first = vec![
            self.database_file().display().to_string(),
            format!("--remote=punix:{}", self.database_socket().display()),
        ];
        self.command("ovsdb-server", first)
    }

    /// The command that starts ovs-vswitchd. It returns when the switch has its first configuration.
    pub fn switch_command(&self) -> DaemonCommand {
        // The kernel's data path is not used, and probing for it would load a module.
        let first =
            vec![format!("unix:{}", self.database_socket().display()), "--disable-system".into()];
        self.command("ovs-vswitchd", first)
    }

    fn command(&self, program: &'static str, mut arguments: Vec<String>) -> DaemonCommand {
        let pid_file = self.run_dir.join(format!("{program}.pid"));
        arguments.extend([
            "--detach".into(),
            "--no-chdir".into(),
            "--monitor".into(),
            format!("--pidfile={}", pid_file.display()),
            format!("--unixctl={}", self.run_dir.join(format!("{program}.ctl")).display()),
            format!("--log-file={}", self.state_dir.join(format!("{program}.log")).display()),
            "-vconsole:off".into(),
        ]);
        DaemonCommand { program, arguments, environment: self.environment(), pid_file }
    }

    /// Where the daemons and Open vSwitch's own tools look.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("OVS_RUNDIR", self.run_dir.clone()),
            ("OVS_DBDIR", self.state_dir.clone()),
            ("OVS_LOGDIR", self.state_dir.clone()),
            ("OVS_SYSCONFDIR", self.state_dir.clone()),
        ]
    }

    /// Starts what is not running; what runs is left as it is. `system_id` names this switch in its
    /// own database.
    ///
    /// # Errors
    /// With what could not be done and why; what was started stays.
    pub async fn start(&self, system_id: &str) -> Result<Started, DaemonError> {
        let longest = self.run_dir.as_os_str().len() + 1 + MAX_SOCKET_NAME;
        if longest > MAX_SOCKET_PATH {
            return Err(DaemonError::PathTooLong(self.run_dir.clone()));
        }
        for directory in [&self.state_dir, &self.run_dir] {
            private::directory(directory)
                .map_err(|why| DaemonError::File { path: directory.clone(), why })?;
        }
        let mut started = Started::default();
        let command = self.database_command();
        gone(&command).await?;
        if running(&command).is_none() {
            self.prepare_database().await?;
            self.run(&command).await?;
            started.database = true;
        }
        let database = OvsDb::connect(&self.database_socket(), Options::default()).await?;
        if database.system_id().as_deref() != Some(system_id) {
            database.set_system_id(system_id).await?;
        }
        let keys = ovsdb::set(["flow-restore-wait".into()]);
        let clear = Mutation::new("other_config", Mutator::Delete, keys);
        // No condition: the table has one row.
        let every: [Condition; 0] = [];
        let operation = Operation::mutate(DATABASE, &every, &[clear]);
        database.connection().transact(DATABASE, vec![operation]).await?;
        let command = self.switch_command();
        gone(&command).await?;
        if running(&command).is_none() {
            self.run(&command).await?;
            started.switch = true;
        }
        Ok(started)
    }

    /// Ends both daemons; guests lose their network. What is not running is done.
    ///
    /// # Errors
    /// When a daemon does not end.
    pub async fn stop(&self) -> Result<(), DaemonError> {
        for command in [self.switch_command(), self.database_command()] {
            let Some(pid) = running(&command) else { continue };
            match kill(Pid::from_raw(pid), Signal::SIGTERM) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(why) => {
                    return Err(DaemonError::File { path: command.pid_file, why: why.into() });
                }
            }
            let deadline = Instant::now() + PATIENCE;
            while running(&command) == Some(pid) {
                if Instant::now() > deadline {
                    return Err(DaemonError::DoesNotEnd { program: command.program, pid });
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Makes the database if there is none, or brings it to the installed version's schema.
    async fn prepare_database(&self) -> Result<(), DaemonError> {
        let (file, schema) =
            (self.database_file().display().to_string(), self.schema.display().to_string());
        if !self.database_file().exists() {
            // A half-made file from a crash must not look like a database.
            let new = self.state_dir.join("conf.db.new");
            match std::fs::remove_file(&new) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    return Err(DaemonError::File { path: new, why });
                }
                _ => {}
            }
            self.tool(&["create", &new.display().to_string(), &schema]).await?;
            return std::fs::rename(&new, self.database_file())
                .map_err(|why| DaemonError::File { path: new, why });
        }
        if self.tool(&["needs-conversion", &file, &schema]).await?.trim() == "yes" {
            tracing::info!(file, "the switch's database gets the installed version's schema");
            self.tool(&["convert", &file, &schema]).await?;
        }
        Ok(())
    }

    async fn tool(&self, arguments: &[&str]) -> Result<String, DaemonError> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.into()).collect();
        self.spawn("ovsdb-tool", &arguments, &self.environment(), None).await
    }

    async fn run(&self, command: &DaemonCommand) -> Result<(), DaemonError> {
        let namespace = self.namespace.as_deref();
        self.spawn(command.program, &command.arguments, &command.environment, namespace)
            .await
            .map(|_| ())
    }

    async fn spawn(
        &self,
        program: &'static str,
        arguments: &[String],
        environment: &[(&'static str, PathBuf)],
        namespace: Option<&str>,
    ) -> Result<String, DaemonError> {
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, program]);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).envs(environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null());
        // A daemon's child would hold a pipe open for ever, so what it says goes to a file.
        let log = self.state_dir.join(format!("{program}.start"));
        let file = |why| DaemonError::File { path: log.clone(), why };
        let output = std::fs::File::create(&log).map_err(file)?;
        command.stdout(output.try_clone().map_err(file)?).stderr(output);
        let status = command.status().await.map_err(|why| DaemonError::Spawn { program, why })?;
        let message = std::fs::read_to_string(&log).map_err(file)?;
        if status.success() {
            Ok(message)
        } else {
            let message = format!("{status}: {}", message.trim());
            Err(DaemonError::Failed { program, message })
        }
    }
}

/// The process of a daemon, if it runs: the pid file may be old and its number somebody else's, so
/// the process must be that program, started with that pid file.
fn running(command: &DaemonCommand) -> Option<i32> {
    let text = std::fs::read_to_string(&command.pid_file).ok()?;
    let pid: i32 = text.trim().parse().ok().filter(|&pid| pid > 1)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let wanted = format!("--pidfile={}", command.pid_file.display());
    let ours = arguments.split(|&octet| octet == 0).any(|argument| argument == wanted.as_bytes());
    (name.trim() == command.program && ours && !zombie).then_some(pid)
}

/// Waits for a process that is being killed: it has no memory any more, but until the kernel has
/// closed its files the data path's devices are busy, and a new daemon would come up without them.
async fn gone(command: &DaemonCommand) -> Result<(), DaemonError> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(pid) = dying(command) {
        if Instant::now() > deadline {
            return Err(DaemonError::DoesNotEnd { program: command.program, pid });
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The process of a pid file that has the program's name and no arguments left, and still holds
/// files.
fn dying(command: &DaemonCommand) -> Option<i32> {
    let text = std::fs::read_to_string(&command.pid_file).ok()?;
    let pid: i32 = text.trim().parse().ok().filter(|&pid| pid > 1)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let empty = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?.is_empty();
    (name == command.program && empty && !rest.starts_with('Z')).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_stay_inside_their_directories() {
        let daemons = Daemons::new(Path::new("/var/lib/m"), Path::new("/run/m"));
        let database = daemons.database_command();
        assert_eq!(database.arguments[0], "/var/lib/m/openvswitch/conf.db");
        assert_eq!(database.arguments[1], "--remote=punix:/run/m/db.sock");
        let switch = daemons.switch_command();
        assert_eq!(switch.arguments[0], "unix:/run/m/db.sock");
        assert_eq!(switch.pid_file, Path::new("/run/m/ovs-vswitchd.pid"));
        for (_, directory) in switch.environment {
            assert!(directory.starts_with("/run/m") || directory.starts_with("/var/lib/m"));
        }
    }

    #[test]
    fn somebody_elses_process_is_not_a_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(directory.path(), directory.path());
        let command = daemons.switch_command();
        assert_eq!(running(&command), None, "no pid file");
        for text in ["", "x", "-1", "1", "999999999", &std::process::id().to_string()] {
            std::fs::write(&command.pid_file, text).unwrap();
            assert_eq!(running(&command), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_run_directory_without_room_for_sockets_is_refused() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(100)));
        let daemons = Daemons::new(Path::new("/nonexistent"), &long);
        assert!(matches!(daemons.start("h").await, Err(DaemonError::PathTooLong(_))));
    }
}
