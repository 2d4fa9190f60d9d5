//! Keeps the roles of one machine running as separate processes.
//!
//! ```text
//!            start             exit, not asked           wait is over
//!   (none) ────────▶ running ───────────────▶ waiting ───────────────▶ running
//!                       │ asked to stop
//!                       ▼
//!                    stopping ──exit──▶ stopped
//! ```
//!
//! The supervisor knows nothing of what the roles do. It never touches guests or Open vSwitch:
//! those outlive it and everything under it. Two signals end it:
//! - `SIGTERM`, `SIGINT`: the roles end, guests go on (an upgrade, a restart);
//! - `SIGUSR1`: the host role first ends its guests politely, then the roles end (`meridian down`).
//!
//! A supervisor that is killed takes its roles with it, as `SIGTERM` to each: nobody would restart
//! them, and the next supervisor could not have their ports.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use control_plane::layout::Layout;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// First pause before a role that ended by itself is started again; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before a restart. A debug build is killed again and again by tests, on purpose.
const LONGEST_PAUSE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 1 } else { 10 });
/// A role that ran this long has recovered, and its pause starts from the first again.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);
/// How long a role has to end after `SIGTERM` before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How long the host role has to end its guests: their own grace and time for many at once.
const GUESTS_GRACE: Duration = Duration::from_secs(120);
/// A log larger than this is moved aside at start.
const LOG_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// A role that the supervisor runs.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name: of the log, and in the status.
    pub name: &'static str,
    /// What is run: our own binary unless said.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it owns guests, and so gets `SIGUSR1` when they are to end.
    pub owns_guests: bool,
    /// The network namespace that it runs in, by the name that `ip netns` knows; the supervisor's
    /// own unless said.
    pub network_namespace: Option<String>,
}

/// What the supervisor last saw of a role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoleStatus {
    /// `running`, `waiting`, `stopping` or `stopped`.
    pub state: String,
    /// The process, when there is one.
    pub pid: Option<u32>,
    /// How often it was started.
    pub starts: u32,
    /// How it last ended by itself.
    pub last_exit: Option<String>,
}

/// The file `run/status.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The supervisor's process.
    pub pid: u32,
    /// Each role.
    pub roles: BTreeMap<String, RoleStatus>,
}

/// How the roles are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    LeaveGuests,
    EndGuests,
}

struct Update {
    name: &'static str,
    status: RoleStatus,
}

/// Runs the roles until a signal ends them.
pub async fn run(layout: &Layout, roles: Vec<Role>) -> Result<()> {
    std::fs::create_dir_all(layout.run())?;
    std::fs::create_dir_all(layout.log())?;
    let _lock = take_lock(layout)?;
    write_atomically(&layout.supervisor_pid(), std::process::id().to_string().as_bytes())?;

    let (updates, mut inbox) = mpsc::unbounded_channel::<Update>();
    let (ending, ending_seen) = tokio::sync::watch::channel(None::<Ending>);
    let mut tasks = JoinSet::new();
    for role in roles {
        let layout = layout.clone();
        tasks.spawn(keep_running(layout, role, updates.clone(), ending_seen.clone()));
    }
    drop(updates);

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut end_guests = signal(SignalKind::user_defined1())?;
    let mut status = Status { pid: std::process::id(), roles: BTreeMap::new() };
    loop {
        tokio::select! {
            _ = terminate.recv() => { ending.send_if_modified(|e| begin(e, Ending::LeaveGuests)); }
            _ = interrupt.recv() => { ending.send_if_modified(|e| begin(e, Ending::LeaveGuests)); }
            _ = end_guests.recv() => { ending.send_if_modified(|e| begin(e, Ending::EndGuests)); }
            update = inbox.recv() => match update {
                Some(update) => {
                    status.roles.insert(update.name.to_owned(), update.status);
                    write_atomically(&layout.status(), &serde_json::to_vec_pretty(&status)?)?;
                }
                None => break,
            },
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let _ = std::fs::remove_file(layout.supervisor_pid());
    Ok(())
}

/// The first word on how to end holds.
fn begin(current: &mut Option<Ending>, wanted: Ending) -> bool {
    let first = current.is_none();
    if first {
        *current = Some(wanted);
    }
    first
}

async fn keep_running(
    layout: Layout,
    role: Role,
    updates: mpsc::UnboundedSender<Update>,
    mut ending: tokio::sync::watch::Receiver<Option<Ending>>,
) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut status = RoleStatus { state: "waiting".into(), pid: None, starts: 0, last_exit: None };
    let tell = |status: &RoleStatus| {
        let _ = updates.send(Update { name: role.name, status: status.clone() });
    };
    loop {
        if ending.borrow().is_some() {
            break;
        }
        let mut child = start(&layout, &role)?;
        let started = Instant::now();
        status.state = "running".into();
        status.pid = child.id();
        status.starts += 1;
        tell(&status);
        tokio::select! {
            exit = child.wait() => {
                let exit = exit?.to_string();
                tracing::warn!(role = role.name, %exit, "a role ended by itself; starting it again");
                status.last_exit = Some(exit);
            }
            how = wanted_ending(&mut ending) => {
                status.state = "stopping".into();
                tell(&status);
                stop(&mut child, &role, how).await?;
                break;
            }
        }
        if started.elapsed() > RECOVERED_AFTER {
            pause = FIRST_PAUSE;
        }
        status.state = "waiting".into();
        status.pid = None;
        tell(&status);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = wanted_ending(&mut ending) => break,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    status.state = "stopped".into();
    status.pid = None;
    tell(&status);
    Ok(())
}

/// Waits until somebody asks for the end.
async fn wanted_ending(ending: &mut tokio::sync::watch::Receiver<Option<Ending>>) -> Ending {
    match ending.wait_for(Option::is_some).await {
        Ok(how) => how.unwrap_or(Ending::LeaveGuests),
        // Nobody is left who could ask.
        Err(_) => Ending::LeaveGuests,
    }
}

fn start(layout: &Layout, role: &Role) -> Result<Child> {
    let log_path = layout.log().join(format!("{}.log", role.name));
    let log = open_log(&log_path).with_context(|| log_path.display().to_string())?;
    let binary = match &role.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("finding our own binary")?,
    };
    // `nsenter` becomes the role: the process is the same, and so are signals and the exit status.
    // Not `ip netns exec`: that gives the role mounts of its own, and namespaces that it makes
    // would be visible to nobody else.
    let mut command = match &role.network_namespace {
        None => Command::new(&binary),
        Some(name) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{name}")).arg("--").arg(&binary);
            command
        }
    };
    end_with(&mut command, nix::unistd::getpid());
    command
        .args(&role.arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting the {} role", role.name))
}

/// Has the kernel end the command when this process is gone.
fn end_with(command: &mut Command, supervisor: Pid) {
    let ask = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        // It may have been killed before the kernel was asked.
        if nix::unistd::getppid() != supervisor {
            return Err(nix::errno::Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: what runs between fork and exec makes two system calls and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

async fn stop(child: &mut Child, role: &Role, how: Ending) -> Result<()> {
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw) else {
        return Ok(());
    };
    if how == Ending::EndGuests && role.owns_guests {
        let _ = kill(pid, Signal::SIGUSR1);
        if tokio::time::timeout(GUESTS_GRACE, child.wait()).await.is_ok() {
            return Ok(());
        }
        tracing::warn!(role = role.name, "guests did not end in time; they go on, the role ends");
    }
    let _ = kill(pid, Signal::SIGTERM);
    if tokio::time::timeout(STOP_GRACE, child.wait()).await.is_err() {
        tracing::warn!(role = role.name, "did not end after SIGTERM; killed");
        child.kill().await?;
    }
    Ok(())
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT_BYTES) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

fn take_lock(layout: &Layout) -> Result<Flock<File>> {
    let path = layout.run().join("supervise.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, errno)) => bail!(
            "another supervisor already runs for {} ({errno}); `meridian status` shows it",
            layout.root().display()
        ),
    }
}

/// Writes through a temporary file, so that a reader never sees half.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)?;
    Ok(())
}
