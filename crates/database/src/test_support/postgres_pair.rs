//! A PostgreSQL primary and its synchronous standby, of the test's own: Debian's binaries, streaming
//! replication, private sockets, no network. The primary acknowledges nothing that the standby has
//! not on its disk.

use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_postgres::NoTls;

use super::postgres_server::{account, binaries};

/// How long a server may take for anything; a loaded machine needs some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a server, and ends it when the standard input closes. `$1` binaries, `$2` directory, the
/// rest are more arguments.
const SUPERVISOR: &str = "
binaries=$1; directory=$2; shift 2
\"$binaries/postgres\" -D \"$directory/data\" -k \"$directory\" -c listen_addresses= \
    -c max_connections=100 -c shared_buffers=32MB \"$@\" >>\"$directory/log\" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT $server 2>/dev/null
wait $server
";

/// One of the two.
pub struct Server {
    directory: PathBuf,
    account: Option<(&'static str, u32, u32)>,
    supervisor: Option<Child>,
}

/// Primary and standby.
pub struct PostgresPair {
    root: PathBuf,
    /// The primary at the beginning.
    pub first: Server,
    /// Its standby, to be promoted.
    pub second: Server,
}

impl Server {
    fn new(root: &Path, name: &str) -> Server {
        let directory = root.join(name);
        let account = account();
        std::fs::DirBuilder::new().mode(0o700).create(&directory).expect("a directory");
        if let Some((_, uid, gid)) = account {
            chown(&directory, Some(uid), Some(gid)).expect("root may change owners");
        }
        Server { directory, account, supervisor: None }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((_, uid, gid)) = self.account {
            command.gid(gid).uid(uid);
        }
        command.current_dir(&self.directory).env("LC_ALL", "C.UTF-8");
        command
    }

    fn user(&self) -> String {
        match self.account {
            Some((name, ..)) => name.to_owned(),
            None => std::env::var("USER").unwrap_or_else(|_| "postgres".to_owned()),
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let made = self
            .command(binaries().join(program))
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(made.status.success(), "{program}: {}", String::from_utf8_lossy(&made.stderr));
    }

    /// Starts it, with more settings.
    pub fn start(&mut self, settings: &[&str]) {
        let _ = std::fs::remove_file(self.directory.join("data/postmaster.pid"));
        let mut command = self.command("/bin/sh");
        command.args(["-c", SUPERVISOR, "supervisor"]).arg(binaries()).arg(&self.directory);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        self.supervisor = Some(child);
        let deadline = Instant::now() + PATIENCE;
        let status = self.directory.join("data/postmaster.pid");
        // The last line of postmaster.pid says `ready`, or `standby`, once connections are taken.
        while !std::fs::read_to_string(&status)
            .is_ok_and(|text| text.contains("ready") || text.contains("standby"))
        {
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn postmaster(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.directory.join("data/postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// SIGKILL to every process of it.
    pub fn kill(&mut self) {
        let postmaster = self.postmaster().expect("it runs");
        let children =
            std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"))
                .unwrap_or_default();
        let _ = kill(Pid::from_raw(postmaster), Signal::SIGKILL);
        for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        if let Some(mut supervisor) = self.supervisor.take() {
            drop(supervisor.stdin.take());
            let _ = supervisor.wait();
        }
    }

    /// Makes the standby the primary. Answers when it takes writes.
    pub fn promote(&self) {
        let data = self.directory.join("data");
        self.run("pg_ctl", &["promote", "--wait", "--silent", "-D", &data.to_string_lossy()]);
    }

    /// How to connect to a database of this server alone.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user={} dbname={database}", self.directory.display(), self.user())
    }

    /// Runs statements on it.
    pub async fn administer(&self, database: &str, sql: &str) -> Vec<String> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        let driver = tokio::spawn(connection);
        let messages =
            client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        driver.abort();
        messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()
    }
}

impl PostgresPair {
    /// Starts both, and waits until the standby is synchronous. Blocks for some seconds: call it
    /// off the asynchronous threads.
    pub fn start() -> PostgresPair {
        let root = std::env::temp_dir().join(format!("pair-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o711).create(&root).expect("a directory");
        let (mut first, mut second) = (Server::new(&root, "a"), Server::new(&root, "b"));
        let data = first.directory.join("data");
        let user = first.user();
        first.run(
            "initdb",
            &[
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--username",
                &user,
                "--pgdata",
                &data.to_string_lossy(),
            ],
        );
        first.start(&["wal_level=replica"]);
        let standby = second.directory.join("data");
        let source = format!(
            "host={} user={user} application_name=standby",
            first.directory.to_string_lossy()
        );
        second.run(
            "pg_basebackup",
            &[
                "--dbname",
                &source,
                "--pgdata",
                &standby.to_string_lossy(),
                "--write-recovery-conf",
                "--wal-method=stream",
                "--checkpoint=fast",
                "--no-sync",
            ],
        );
        second.start(&["synchronous_standby_names="]);
        PostgresPair { root, first, second }
    }

    /// From now on the first acknowledges nothing that the second does not have.
    pub async fn synchronize(&self) {
        self.first
            .administer("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            .await;
        self.first.administer("postgres", "SELECT pg_reload_conf()").await;
        let deadline = Instant::now() + PATIENCE;
        let state = "SELECT sync_state FROM pg_stat_replication";
        while self.first.administer("postgres", state).await != ["sync"] {
            assert!(
                Instant::now() < deadline,
                "the standby does not follow:\n{}",
                self.second.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes an empty database on the primary.
    pub async fn create_database(&self, name: &str) {
        self.first
            .administer("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await;
    }

    /// A `postgres://` URL that names both servers and asks for the one that takes writes.
    pub fn url(&self, database: &str) -> String {
        let host = |server: &Server| server.directory.to_string_lossy().replace('/', "%2F");
        format!(
            "postgres://{}@{},{}/{database}?target_session_attrs=read-write",
            self.first.user(),
            host(&self.first),
            host(&self.second)
        )
    }
}

impl Drop for PostgresPair {
    fn drop(&mut self) {
        for server in [&mut self.first, &mut self.second] {
            if let Some(mut supervisor) = server.supervisor.take() {
                drop(supervisor.stdin.take());
                let _ = supervisor.wait();
            }
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
