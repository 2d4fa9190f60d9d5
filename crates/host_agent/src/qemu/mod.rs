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
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cloud_types::ServerId;
use host_protocol::PowerState;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::cgroup::Cgroup;
use self::command::{Layout, command};
use self::files::RunFiles;
use self::process::{Process, RunLock, Spawn};
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

    async fn start_guest(&self, request: StartRequest) -> Result<Started, HypervisorError> {
        let begun = Instant::now();
        let server_id = request.spec.server_id.clone();
        if self.guest(&server_id).is_some() {
            return Err(HypervisorError::AlreadyRunning);
        }
        let files = self.files(&server_id)?;
        let incarnation = request.incarnation;
        let adapter = self.clone();
        let spawn_files = files.clone();
        let spawned = tokio::task::spawn_blocking(move || adapter.spawn(&request, &spawn_files))
            .await
            .map_err(|error| HypervisorError::Host(error.to_string()))??;
        let process = Arc::new(spawned.process);
        let spawn_ms = elapsed_ms(begun);
        tracing::info!(server = %server_id, pid = process.pid, incarnation, "started QEMU");

        let stream = tokio::net::UnixStream::from_std(spawned.monitor)
            .map_err(host_error("the guest's monitor"))?;
        let opened = tokio::select! {
            opened = greet(stream) => opened,
            how = process.ended() => Err(self.died(&files, &how)),
        };
        let (qmp, events, power) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // A process that ended has closed its monitor first: prefer its own words.
                let how = tokio::time::timeout(Duration::from_secs(1), process.ended()).await;
                let error = match (&error, how) {
                    (HypervisorError::Unresponsive(_), Ok(how)) => self.died(&files, &how),
                    _ => error,
                };
                if let Err(left) = end_process(&process).await {
                    tracing::error!(server = %server_id, pid = process.pid, error = %left, "a failed start left a process; its lock refuses another");
                }
                spawned.cgroup.remove();
                return Err(error);
            }
        };
        let guest = Arc::new(Guest {
            incarnation,
            process: Arc::clone(&process),
            qmp: Mutex::new(Some(qmp)),
            state: Mutex::new(power),
            files,
            cgroup: spawned.cgroup,
        });
        lock(&self.inner.guests).insert(server_id.clone(), Arc::clone(&guest));
        watch::watch(&self.inner, server_id.clone(), guest, Some(events));
        Ok(Started {
            seen: GuestSeen { server_id, incarnation, power, pid: process.pid },
            stages: vec![
                ("exec".to_owned(), spawn_ms),
                ("monitor".to_owned(), elapsed_ms(begun).saturating_sub(spawn_ms)),
            ],
        })
    }

    fn died(&self, files: &RunFiles, how: &str) -> HypervisorError {
        let words = files.output_tail();
        let words = if words.is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("it said: {words}")
        };
        HypervisorError::Exited(format!("QEMU ended ({how}) before the guest ran; {words}"))
    }

    /// The part of a start that makes system calls.
    fn spawn(&self, request: &StartRequest, files: &RunFiles) -> Result<Spawned, HypervisorError> {
        let config = &self.inner.config;
        let spec = &request.spec;
        let uid = self.user(request.uid);
        files.prepare(uid).map_err(host_error("preparing the guest's folder"))?;
        let held = RunLock::take(&files.lock()).map_err(host_error("locking the guest"))?;
        let Some(run_lock) = held else {
            return Err(HypervisorError::AlreadyRunning);
        };
        let listen = host_error("the guest's sockets");
        let console = files.console().listen().map_err(&listen)?;
        let operator = files.operator().listen().map_err(&listen)?;
        let qmp = files.qmp().listen().map_err(&listen)?;
        let directory = server_directory(&config.servers, &spec.server_id)?;
        let monitor = files.qmp().connect_blocking().map_err(&listen)?;
        let layout = Layout {
            incarnation: request.incarnation,
            disks: request.disks.clone(),
            config_drive: request.config_drive.clone(),
            console_log: files.console_log(),
            console_fd: console.as_raw_fd(),
            qmp_fd: qmp.as_raw_fd(),
            operator_fd: operator.as_raw_fd(),
            taps: request.nics.iter().map(|nic| nic.tap.as_ref().map(AsRawFd::as_raw_fd)).collect(),
        };
        let arguments = command(spec, &layout, config.accelerator)
            .map_err(|error| HypervisorError::Host(error.to_string()))?;
        let mut inherit = vec![
            layout.console_fd,
            layout.qmp_fd,
            layout.operator_fd,
            run_lock.as_fd().as_raw_fd(),
        ];
        inherit.extend(layout.taps.iter().flatten());
        let cgroup = Cgroup::of(&config.cgroup_owner, &spec.server_id);
        let cgroups = cgroup.prepare(spec.vcpus, spec.memory_mib).unwrap_or_else(|error| {
            tracing::warn!(server = %spec.server_id, %error, "no control group for this guest");
            Vec::new()
        });
        let groups: Vec<u32> = match config.accelerator {
            Accelerator::Kvm => kvm_group().into_iter().collect(),
            Accelerator::Tcg => Vec::new(),
        };
        let log = files.begin_log().map_err(host_error("QEMU's log"))?;
        let process = Process::spawn(&Spawn {
            binary: &config.binary,
            arguments: &arguments,
            uid,
            groups: &groups,
            inherit: &inherit,
            log: &log,
            cgroups: &cgroups,
        })
        .map_err(|error| {
            HypervisorError::Host(format!(
                "cannot start {} for {}: {error}",
                config.binary.display(),
                directory.display()
            ))
        })?;
        // From here on a process exists. Should its record fail, it is still found by its user.
        match process.record(request.incarnation) {
            Ok(record) => {
                if let Err(error) = files.write_record(&record) {
                    tracing::warn!(server = %spec.server_id, %error, "cannot write down the guest's process");
                }
            }
            Err(error) => tracing::debug!(%error, "a process ended at once"),
        }
        Ok(Spawned { process, monitor, cgroup })
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

/// What a spawn leaves behind.
struct Spawned {
    process: Process,
    monitor: std::os::unix::net::UnixStream,
    cgroup: Cgroup,
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

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A server's folder. Its id must be one: it becomes part of a path.
pub fn server_directory(servers: &Path, server_id: &str) -> Result<PathBuf, HypervisorError> {
    let id: ServerId =
        server_id.parse().map_err(|error| HypervisorError::Host(format!("{error}")))?;
    Ok(servers.join(id.to_string()))
}

/// The group that may use `/dev/kvm`, when the device is given to one.
fn kvm_group() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata("/dev/kvm").ok()?;
    (metadata.gid() != 0 && metadata.mode() & 0o060 == 0o060).then(|| metadata.gid())
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
