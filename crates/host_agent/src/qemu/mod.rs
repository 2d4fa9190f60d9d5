//! QEMU behind [`Hypervisor`].
//!
//! ```text
//!              start                      greeting, running
//!   nothing ───────────► process started ───────────────────► watched ──exit──► nothing
//!      ▲                      │ exits, or no greeting in time     │  ▲
//!      └──────────────────────┘ (error with QEMU's own words)     │  │ monitor lost: connect again
//!                                                                 └──┘
//!   adopt: a process that holds the server's lock ─────────────► watched
//! ```
//! A guest is a process, and only the end of the process ends it: a lost monitor, a lost record or
//! a restarted agent does not. The process outlives the agent: it has a session, a user and a
//! control group of its own, and writes to files, never to the agent.

mod adopt;
mod cgroup;
pub mod command;
mod files;
pub mod probe;
pub mod process;
pub mod qmp;
mod start;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloud_types::ServerId;
use host_protocol::PowerState;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::cgroup::Cgroup;
use self::files::RunFiles;
use self::process::{Process, RunLock};
use self::qmp::{Qmp, QmpError};
use crate::BoxFuture;
use crate::config::Accelerator;
use crate::hypervisor::{
    Ending, GuestEvent, GuestSeen, Hypervisor, HypervisorError, HypervisorFacts, StartRequest,
    Started,
};

/// How long QEMU may take from its start to its monitor's greeting. It is tens of milliseconds on
/// an idle machine; many guests starting together on few cores take their turns.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long `quit` may take before SIGKILL: QEMU flushes its disks first.
const QUIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the kernel may take to end a killed process. One that waits for storage takes longer
/// and is reported, never taken for gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often logs are looked at for length.
const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Where and how guests run.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// QEMU's binary.
    pub binary: PathBuf,
    /// How instructions are executed.
    pub accelerator: Accelerator,
    /// The folder that holds one folder for each server.
    pub servers: PathBuf,
    /// The users of this host's guests.
    pub uids: std::ops::Range<u32>,
    /// Name of this host's branch among control groups.
    pub cgroup_owner: String,
}

/// A guest that is watched.
struct Guest {
    incarnation: u64,
    process: Arc<Process>,
    qmp: Mutex<Option<Qmp>>,
    state: Mutex<PowerState>,
    files: RunFiles,
    cgroup: Cgroup,
}

impl Guest {
    fn qmp(&self) -> Option<Qmp> {
        lock(&self.qmp).clone()
    }
}

struct Inner {
    config: QemuConfig,
    guests: Mutex<HashMap<String, Arc<Guest>>>,
    events: mpsc::UnboundedSender<GuestEvent>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<GuestEvent>>>,
    /// Ends the watches with the adapter, and with them the monitors' connections: a monitor
    /// serves one client.
    dropped: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.dropped.cancel();
    }
}

/// The real hypervisor.
#[derive(Clone)]
pub struct Qemu {
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that holds these locks can leave a value half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host_error(what: &str) -> impl Fn(std::io::Error) -> HypervisorError + '_ {
    move |error| HypervisorError::Host(format!("{what}: {error}"))
}

impl From<QmpError> for HypervisorError {
    fn from(error: QmpError) -> Self {
        HypervisorError::Unresponsive(error.to_string())
    }
}

impl Qemu {
    /// Prepares the adapter. Starts nothing, and finds nothing before [`Hypervisor::adopt`].
    pub fn new(config: QemuConfig) -> Qemu {
        let (events, receiver) = mpsc::unbounded_channel();
        Qemu {
            inner: Arc::new(Inner {
                config,
                guests: Mutex::default(),
                events,
                receiver: Mutex::new(Some(receiver)),
                dropped: CancellationToken::new(),
            }),
        }
    }

    /// Keeps logs short for as long as the adapter lives.
    pub async fn keep_logs_short(&self) {
        let mut interval = tokio::time::interval(LOG_CHECK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let files: Vec<RunFiles> =
                lock(&self.inner.guests).values().map(|guest| guest.files.clone()).collect();
            let cut = tokio::task::spawn_blocking(move || {
                for files in files {
                    if let Err(error) = files.cut_logs() {
                        tracing::warn!(log = %files.console_log().display(), %error, "cannot cut a log");
                    }
                }
            });
            let _ = cut.await;
        }
    }

    fn files(&self, server_id: &str) -> Result<RunFiles, HypervisorError> {
        server_directory(&self.inner.config.servers, server_id)
            .map(|directory| RunFiles::of(&directory))
    }

    fn guest(&self, server_id: &str) -> Option<Arc<Guest>> {
        lock(&self.inner.guests).get(server_id).cloned()
    }

    /// The guest's monitor, or why there is none to talk to.
    fn monitor(&self, server_id: &str) -> Result<Qmp, HypervisorError> {
        let guest = self.guest(server_id).ok_or(HypervisorError::NotRunning)?;
        guest.qmp().ok_or_else(|| {
            HypervisorError::Unresponsive(
                "the connection to the guest's monitor is lost; it is being opened again"
                    .to_owned(),
            )
        })
    }

    /// Runs guests as users of their own only when the agent may change users.
    fn user(&self, uid: u32) -> Option<u32> {
        nix::unistd::geteuid().is_root().then_some(uid)
    }

    async fn end_guest(&self, server_id: &str, ending: Ending) -> Result<(), HypervisorError> {
        let mut guest = self.guest(server_id);
        if guest.is_none() {
            // Nothing is watched. Only a free lock proves that nothing runs.
            let files = self.files(server_id)?;
            let held = tokio::task::spawn_blocking(move || RunLock::is_held(&files.lock()))
                .await
                .map_err(|error| HypervisorError::Host(error.to_string()))?
                .map_err(host_error("the guest's lock"))?;
            if !held {
                return Ok(());
            }
            adopt::adopt(self).await?;
            guest = self.guest(server_id);
        }
        let Some(guest) = guest else {
            return Err(HypervisorError::Unresponsive(
                "a process that the agent does not know holds this server's lock; look at `fuser` of run/lock in the server's folder".to_owned(),
            ));
        };
        if ending == Ending::Quit
            && let Some(qmp) = guest.qmp()
        {
            let quit = async {
                // QEMU may close the monitor before it answers.
                let _ = qmp.execute("quit", Value::Null).await;
                guest.process.ended().await
            };
            if tokio::time::timeout(QUIT_TIMEOUT, quit).await.is_err() {
                tracing::warn!(server = %server_id, pid = guest.process.pid, "QEMU did not quit in time and is killed");
            }
        }
        end_process(&guest.process).await?;
        forget(&self.inner, server_id, &guest);
        Ok(())
    }
}

/// Takes a guest that has ended off the list.
fn forget(inner: &Inner, server_id: &str, guest: &Arc<Guest>) {
    let mut guests = lock(&inner.guests);
    if guests.get(server_id).is_some_and(|current| Arc::ptr_eq(current, guest)) {
        guests.remove(server_id);
    }
    drop(guests);
    guest.cgroup.remove();
}

/// Opens the monitor and sees that the guest runs.
async fn greet(
    stream: tokio::net::UnixStream,
) -> Result<(Qmp, mpsc::UnboundedReceiver<qmp::QmpEvent>, PowerState), HypervisorError> {
    let (qmp, events) = Qmp::open(stream, GREETING_TIMEOUT).await?;
    let power = query_power(&qmp).await?;
    Ok((qmp, events, power))
}

async fn query_power(qmp: &Qmp) -> Result<PowerState, HypervisorError> {
    let status = qmp.execute("query-status", Value::Null).await?;
    Ok(power_of(status["status"].as_str().unwrap_or_default()))
}

/// QEMU's run states, as far as they differ for us.
fn power_of(status: &str) -> PowerState {
    match status {
        "shutdown" => PowerState::Shutdown,
        "paused" | "io-error" | "internal-error" | "guest-panicked" | "watchdog" | "suspended" => {
            PowerState::Paused
        }
        _ => PowerState::Running,
    }
}

/// Kills a process unless it has ended, and waits for the proof.
async fn end_process(process: &Process) -> Result<(), HypervisorError> {
    if !process.has_ended() {
        process.kill().map_err(host_error("killing the guest's process"))?;
    }
    tokio::time::timeout(KILL_TIMEOUT, process.ended())
        .await
        .map(|_| ())
        .map_err(|_| {
            HypervisorError::Unresponsive(format!(
                "process {} was killed and has not ended within {} seconds; it most likely waits for storage",
                process.pid,
                KILL_TIMEOUT.as_secs()
            ))
        })
}

/// A server's folder. Its id must be one: it becomes part of a path.
pub fn server_directory(servers: &Path, server_id: &str) -> Result<PathBuf, HypervisorError> {
    let id: ServerId =
        server_id.parse().map_err(|error| HypervisorError::Host(format!("{error}")))?;
    Ok(servers.join(id.to_string()))
}

/// QEMU's version, `7.2.22`, from its own words.
pub fn parse_version(output: &str) -> Option<String> {
    let version = output.split("version ").nth(1)?;
    let version = version.split([' ', '\n', '(']).next()?;
    (!version.is_empty()).then(|| version.to_owned())
}

impl Hypervisor for Qemu {
    fn describe(&self) -> BoxFuture<'_, Result<HypervisorFacts, HypervisorError>> {
        Box::pin(async move {
            let binary = &self.inner.config.binary;
            let output =
                tokio::process::Command::new(binary).arg("--version").output().await.map_err(
                    |error| {
                        HypervisorError::Host(format!(
                            "cannot run {}: {error}; install the package qemu-system-x86",
                            binary.display()
                        ))
                    },
                )?;
            let text = String::from_utf8_lossy(&output.stdout);
            let version = parse_version(&text).ok_or_else(|| {
                HypervisorError::Host(format!("{} does not say its version", binary.display()))
            })?;
            Ok(HypervisorFacts {
                accelerator: self.inner.config.accelerator.as_str().to_owned(),
                version,
            })
        })
    }

    fn adopt(&self) -> BoxFuture<'_, Result<Vec<GuestSeen>, HypervisorError>> {
        Box::pin(adopt::adopt(self))
    }

    fn start(&self, request: StartRequest) -> BoxFuture<'_, Result<Started, HypervisorError>> {
        Box::pin(self.start_guest(request))
    }

    fn power_button<'a>(
        &'a self,
        server_id: &'a str,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        Box::pin(async move {
            let qmp = self.monitor(server_id)?;
            qmp.execute("system_powerdown", Value::Null).await?;
            Ok(())
        })
    }

    fn resume<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), HypervisorError>> {
        Box::pin(async move {
            let qmp = self.monitor(server_id)?;
            qmp.execute("cont", json!({})).await?;
            Ok(())
        })
    }

    fn end<'a>(
        &'a self,
        server_id: &'a str,
        ending: Ending,
    ) -> BoxFuture<'a, Result<(), HypervisorError>> {
        Box::pin(self.end_guest(server_id, ending))
    }

    fn console_log<'a>(
        &'a self,
        server_id: &'a str,
        lines: Option<u32>,
    ) -> BoxFuture<'a, Result<String, HypervisorError>> {
        Box::pin(async move {
            let files = self.files(server_id)?;
            tokio::task::spawn_blocking(move || files.read_console(lines))
                .await
                .map_err(|error| HypervisorError::Host(error.to_string()))?
                .map_err(host_error("the console's log"))
        })
    }

    fn events(&self) -> Option<mpsc::UnboundedReceiver<GuestEvent>> {
        lock(&self.inner.receiver).take()
    }
}
