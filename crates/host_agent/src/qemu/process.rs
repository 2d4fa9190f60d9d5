//! A guest's process: starting it as nobody in particular, watching it, ending it, and finding it
//! again. The process is watched and killed through a pidfd, so a number that the kernel has
//! given to somebody else can never be meant.
//!
//! Two things make sure that a server has at most one process, whatever is killed when:
//!
//! - an exclusive lock on `run/lock` that the process inherits and holds until it ends. It is
//!   taken before the fork and the start is refused when it is not free;
//! - a user id that belongs to this server alone, by which `/proc` is searched when the record of
//!   the process was lost.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often, and how far apart, a lock that seems held is looked at.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What is written down about a process, so that it is found again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`: with the boot id it
    /// tells a process from a later one with the same number.
    pub start_time: u64,
    /// The boot in which it was started.
    pub boot_id: String,
    /// Which start of the server.
    pub incarnation: u64,
}

/// What to start, and as whom.
pub struct Spawn<'a> {
    /// QEMU.
    pub binary: &'a Path,
    /// Its arguments.
    pub arguments: &'a [OsString],
    /// User and group of the guest; `None` keeps the agent's own (it is not root then).
    pub uid: Option<u32>,
    /// Groups besides, for `/dev/kvm`.
    pub groups: &'a [u32],
    /// Descriptors that stay open in the child under the same numbers.
    pub inherit: &'a [RawFd],
    /// Where its output goes.
    pub log: &'a File,
    /// `cgroup.procs` files that the child enters.
    pub cgroups: &'a [File],
}

/// A running process.
pub struct Process {
    /// Process id, for people; acts go through the pidfd.
    pub pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    is_child: bool,
    reaped: AtomicBool,
}

impl Process {
    /// Starts a process in a session of its own, without rights to gain any.
    pub fn spawn(spawn: &Spawn<'_>) -> io::Result<Process> {
        let mut command = Command::new(spawn.binary);
        command
            .args(spawn.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(spawn.log.try_clone()?)
            .stderr(spawn.log.try_clone()?);
        let inherit = spawn.inherit.to_vec();
        let groups: Vec<libc::gid_t> = spawn.groups.to_vec();
        let cgroups: Vec<RawFd> = spawn.cgroups.iter().map(AsRawFd::as_raw_fd).collect();
        let uid = spawn.uid;
        let prepare = move || {
            // SAFETY: setsid takes no arguments and touches no memory.
            unsafe { libc::setsid() };
            for fd in &cgroups {
                // SAFETY: the buffer is a static of two bytes; a failure leaves the guest in the
                // agent's group, which is allowed (limits are best effort).
                unsafe { libc::write(*fd, c"0\n".as_ptr().cast(), 2) };
            }
            for fd in &inherit {
                // SAFETY: fcntl on a number; an invalid one is an error, not undefined.
                if unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            let core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the struct lives across the call. Guest memory must not land in core files.
            unsafe { libc::setrlimit(libc::RLIMIT_CORE, &core) };
            if let Some(uid) = uid {
                // SAFETY: the list lives across the call and has the length given.
                if unsafe { libc::setgroups(groups.len(), groups.as_ptr()) } < 0 {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: plain numbers.
                if unsafe { libc::setresgid(uid, uid, uid) } < 0 {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: plain numbers. Leaving user 0 also drops every capability.
                if unsafe { libc::setresuid(uid, uid, uid) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            // SAFETY: plain numbers.
            if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only makes system calls and reads memory that
        // was allocated before.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn()?;
        let pid = child.id();
        // The child has not been waited for, so its number cannot have been given away.
        let pidfd = open_pidfd(pid)?;
        Ok(Process {
            pid,
            pidfd: watch_pidfd(pidfd)?,
            is_child: true,
            reaped: AtomicBool::new(false),
        })
    }

    /// Takes hold of a process that runs already. `None` when it is gone, a zombie, or not the
    /// one that was meant.
    pub fn adopt(pid: u32, start_time: u64) -> io::Result<Option<Process>> {
        let pidfd = match open_pidfd(pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Looked at after the pidfd was opened: if it is the right one now, the pidfd is its.
        match Stat::read(pid)? {
            Some(stat) if stat.alive && stat.start_time == start_time => {}
            _ => return Ok(None),
        }
        Ok(Some(Process {
            pid,
            pidfd: watch_pidfd(pidfd)?,
            is_child: is_own_child(pid),
            reaped: AtomicBool::new(false),
        }))
    }

    /// Waits until the process has ended, and says how where the agent can know.
    pub async fn ended(&self) -> String {
        loop {
            match self.pidfd.readable().await {
                Ok(mut guard) => {
                    if self.has_ended() {
                        return self.reap();
                    }
                    guard.clear_ready();
                }
                Err(error) => {
                    // Only at the shutdown of the runtime: nobody acts on the answer any more.
                    tracing::debug!(%error, "no longer watching a process");
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Whether the process has ended, without waiting.
    pub fn has_ended(&self) -> bool {
        if self.reaped.load(Ordering::SeqCst) {
            return true;
        }
        let mut poll =
            libc::pollfd { fd: self.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one struct that lives across the call, and its count.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        ready > 0 && poll.revents & libc::POLLIN != 0
    }

    /// Takes the exit status of a child, so that no zombie stays.
    fn reap(&self) -> String {
        if self.reaped.swap(true, Ordering::SeqCst) || !self.is_child {
            return "the process ended".to_owned();
        }
        // SAFETY: an all-zero siginfo_t is valid, and is what waitid asks for.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let fd = self.pidfd.as_raw_fd().unsigned_abs();
        // SAFETY: the struct lives across the call; the pidfd is open.
        let result =
            unsafe { libc::waitid(libc::P_PIDFD, fd, &mut info, libc::WEXITED | libc::WNOHANG) };
        if result < 0 {
            return "the process ended".to_owned();
        }
        // SAFETY: after a successful waitid the status field is set.
        let status = unsafe { info.si_status() };
        match info.si_code {
            libc::CLD_EXITED => format!("exit status {status}"),
            _ => format!("signal {status}"),
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: the pidfd is open, and a null siginfo is allowed.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        let error = io::Error::last_os_error();
        if result == 0 || error.raw_os_error() == Some(libc::ESRCH) {
            return Ok(());
        }
        Err(error)
    }

    /// What to write down about it.
    pub fn record(&self, incarnation: u64) -> io::Result<ProcessRecord> {
        let stat = Stat::read(self.pid)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process is gone"))?;
        Ok(ProcessRecord {
            pid: self.pid,
            start_time: stat.start_time,
            boot_id: boot_id()?,
            incarnation,
        })
    }
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers; the result is checked before it is owned.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn watch_pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the AsyncFd, and an OwnedFd never gives out another.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(Into::into)
}

fn is_own_child(pid: u32) -> bool {
    Stat::read(pid).ok().flatten().is_some_and(|stat| stat.parent == std::process::id())
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Neither a zombie nor dead.
    pub alive: bool,
    /// Its parent.
    pub parent: u32,
    /// Clock ticks since boot at its start.
    pub start_time: u64,
}

impl Stat {
    /// Reads it; `None` when there is no such process.
    pub fn read(pid: u32) -> io::Result<Option<Stat>> {
        match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(text) => Ok(Stat::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name in parentheses may hold anything, so fields are counted after the last one.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        Some(Stat {
            alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            start_time: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Names this boot of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A live process that runs as a guest's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Process id.
    pub pid: u32,
    /// Its start time.
    pub start_time: u64,
    /// Its user.
    pub uid: u32,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Searches `/proc` for live processes whose user is one of `uids`.
pub fn find_by_user(uids: std::ops::Range<u32>) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes come and go while they are listed: one that cannot be read is gone. The user
        // is taken from the status, because the directory of a process that may not be dumped
        // belongs to root.
        let Some(uid) = real_user(pid) else { continue };
        if !uids.contains(&uid) {
            continue;
        }
        let Ok(Some(stat)) = Stat::read(pid) else {
            continue;
        };
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if stat.alive {
            found.push(Found {
                pid,
                start_time: stat.start_time,
                uid,
                arguments: arguments
                    .split(|byte| *byte == 0)
                    .map(|part| String::from_utf8_lossy(part).into_owned())
                    .collect(),
            });
        }
    }
    Ok(found)
}

fn real_user(pid: u32) -> Option<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The lock that a server's process holds for as long as it lives.
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Takes the lock; `None` when a process holds it. Blocks for a moment before it says so:
    /// a child of ours that is between fork and exec still shares every descriptor.
    pub fn take(path: &Path) -> io::Result<Option<RunLock>> {
        for _ in 0..LOCK_TRIES {
            if let Some(lock) = RunLock::try_take(path)? {
                return Ok(Some(lock));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        RunLock::try_take(path)
    }

    fn try_take(path: &Path) -> io::Result<Option<RunLock>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        // Not through a guard that unlocks when dropped: the lock belongs to the open file, which
        // the child shares, and must outlive our own descriptor.
        // SAFETY: the descriptor is open.
        let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        if result == 0 {
            return Ok(Some(RunLock { file }));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::EWOULDBLOCK) {
            return Ok(None);
        }
        Err(error)
    }

    /// Whether some process holds it.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        Ok(RunLock::take(path)?.is_none())
    }
}

impl AsFd for RunLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let mut text = String::from("12 (a) R (b) Z 7");
        for field in 5..=21 {
            text.push_str(&format!(" {field}"));
        }
        text.push_str(" 4242 0 0\n");
        assert_eq!(Stat::parse(&text), Some(Stat { alive: false, parent: 7, start_time: 4242 }));
    }

    fn sleeper(inherit: &[RawFd], seconds: &str) -> Process {
        let log = File::options().write(true).open("/dev/null").unwrap();
        Process::spawn(&Spawn {
            binary: Path::new("/bin/sleep"),
            arguments: &[OsString::from(seconds)],
            uid: None,
            groups: &[],
            inherit,
            log: &log,
            cgroups: &[],
        })
        .unwrap()
    }

    #[tokio::test]
    async fn the_lock_lives_exactly_as_long_as_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = RunLock::take(&path).unwrap().unwrap();
        let process = sleeper(&[lock.as_fd().as_raw_fd()], "600");
        drop(lock);
        assert!(RunLock::is_held(&path).unwrap());
        process.kill().unwrap();
        assert_eq!(process.ended().await, "signal 9");
        assert!(!RunLock::is_held(&path).unwrap());
        assert!(process.has_ended());
    }

    #[tokio::test]
    async fn a_zombie_or_another_process_is_not_adopted() {
        let process = sleeper(&[], "600");
        let record = process.record(1).unwrap();
        assert!(
            Process::adopt(record.pid, record.start_time + 1).unwrap().is_none(),
            "the number was given to another process"
        );
        let again = Process::adopt(record.pid, record.start_time).unwrap().unwrap();
        process.kill().unwrap();
        // Not reaped yet, so it is a zombie once the kernel has ended it.
        while !process.has_ended() {
            tokio::task::yield_now().await;
        }
        assert!(Process::adopt(record.pid, record.start_time).unwrap().is_none());
        assert_eq!(again.ended().await, "signal 9");
    }
}
