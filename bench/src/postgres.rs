//! A PostgreSQL of the bench's own, as one would be run for real: every commit reaches the disk.
//! Debian's binaries, a directory that goes with it, a private socket, no network.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long the server may take to start.
const START: Duration = Duration::from_secs(60);

/// Runs the server until the standard input closes, which is when the bench ends in whatever way.
/// `$1` binaries, `$2` directory.
const KEEPER: &str = "
\"$1/postgres\" -D \"$2/data\" -k \"$2\" -c listen_addresses= >\"$2/log\" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -INT $server 2>/dev/null
wait $server
";

/// The server, which ends with its handle.
pub struct Postgres {
    directory: PathBuf,
    binaries: PathBuf,
    account: Option<(u32, u32)>,
    keeper: Child,
}

impl Postgres {
    /// Starts a server whose rows are below `parent`.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start(parent: &Path) -> Result<Self> {
        let binaries = binaries()?;
        let account = account()?;
        let directory = parent.join("postgresql");
        std::fs::DirBuilder::new().mode(0o700).create(&directory)?;
        if let Some((uid, gid)) = account {
            chown(&directory, Some(uid), Some(gid))?;
        }
        let made = as_account(&binaries.join("initdb"), account, &directory)
            .args(["--auth=trust", "--encoding=UTF8", "--username=meridian", "--pgdata"])
            .arg(directory.join("data"))
            .output()
            .context("running initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let keeper = as_account(Path::new("/bin/sh"), account, &directory)
            .args(["-c", KEEPER, "keeper"])
            .arg(&binaries)
            .arg(&directory)
            // Ctrl-C is for the bench, which then ends this one in its turn.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Postgres { directory, binaries, account, keeper };
        let status = server.directory.join("data/postmaster.pid");
        let begun = Instant::now();
        while !std::fs::read_to_string(&status).is_ok_and(|text| text.contains("ready")) {
            if begun.elapsed() > START {
                let log = std::fs::read_to_string(server.directory.join("log"));
                bail!("PostgreSQL does not start: {}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// An empty database: its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self, name: &str) -> Result<String> {
        let made = as_account(&self.binaries.join("createdb"), self.account, &self.directory)
            .arg("-h")
            .arg(&self.directory)
            .args(["-U", "meridian", "-T", "template0", name])
            .output()?;
        ensure!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        let directory = self.directory.to_string_lossy().replace('/', "%2F");
        Ok(format!("postgres://meridian@{directory}/{name}"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// PostgreSQL refuses to run as root.
fn as_account(program: &Path, account: Option<(u32, u32)>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = account {
        command.gid(gid).uid(uid);
    }
    command.current_dir(directory).env("LC_ALL", "C.UTF-8");
    command
}

fn binaries() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| path.join("bin/postgres").exists())
        .collect();
    versions.sort();
    let newest =
        versions.pop().context("PostgreSQL is not installed: apt-get install postgresql-15")?;
    Ok(newest.1.join("bin"))
}

/// The account of Debian's package when we are root.
fn account() -> Result<Option<(u32, u32)>> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let line = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .context("there is no account `postgres`, which Debian's package makes")?;
    let mut fields = line.split(':').skip(2);
    let mut number = || -> Option<u32> { fields.next()?.parse().ok() };
    let (uid, gid) = (number(), number());
    Ok(uid.zip(gid))
}
