//! A PostgreSQL server of the test process's own: Debian's binaries, a directory that goes with
//! it, a private socket, no network.

use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

/// How long the server may take to start; a loaded machine needs some seconds.
const START: Duration = Duration::from_secs(60);

/// Runs the server, and ends it and removes its directory when the standard input closes, which
/// is when the test process ends in whatever way. `$1` binaries, `$2` directory.
const SUPERVISOR: &str = "
\"$1/postgres\" -D \"$2/data\" -k \"$2\" -c listen_addresses= -c fsync=off \
    -c full_page_writes=off -c max_connections=200 -c shared_buffers=32MB \
    >\"$2/log\" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT $server 2>/dev/null
wait $server
cd /
rm -rf \"$2\"
";

/// A server that ends with the process.
pub struct PostgresServer {
    directory: PathBuf,
    user: String,
    _supervisor: Child,
}

impl PostgresServer {
    /// The one server of this process, started when first wanted. Panics when it cannot start.
    pub fn shared() -> &'static PostgresServer {
        static SERVER: OnceLock<PostgresServer> = OnceLock::new();
        SERVER.get_or_init(PostgresServer::start)
    }

    /// Starts a server. Blocks for some seconds.
    pub fn start() -> PostgresServer {
        let binaries = binaries();
        let account = account();
        let directory = std::env::temp_dir().join(format!("pg-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).expect("a directory");
        if let Some((_, uid, gid)) = account {
            chown(&directory, Some(uid), Some(gid)).expect("root may change owners");
        }
        let run = |program: &Path| {
            let mut command = Command::new(program);
            if let Some((_, uid, gid)) = account {
                command.gid(gid).uid(uid);
            }
            command.current_dir(&directory).env("LC_ALL", "C.UTF-8");
            command
        };
        let user = account.map_or_else(
            || std::env::var("USER").unwrap_or_else(|_| "postgres".to_owned()),
            |(name, ..)| name.to_owned(),
        );
        let made = run(&binaries.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--username", &user])
            .arg("--pgdata")
            .arg(directory.join("data"))
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let supervisor = run(Path::new("/bin/sh"))
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&binaries)
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let server = PostgresServer { directory, user, _supervisor: supervisor };
        server.wait();
        server
    }

    fn wait(&self) {
        let deadline = Instant::now() + START;
        let socket = self.directory.join(".s.PGSQL.5432");
        // The last line of postmaster.pid says `ready` once connections are taken.
        let status = self.directory.join("data/postmaster.pid");
        while !(socket.exists()
            && std::fs::read_to_string(&status).is_ok_and(|text| text.contains("ready")))
        {
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(self.directory.join("log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// The directory of the socket.
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// How to connect to a database of this server.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user={} dbname={database}", self.directory.display(), self.user)
    }

    /// [`PostgresServer::create_database`] for a configuration file: a `postgres://` URL with the
    /// socket's directory where a host's name would be.
    pub async fn create_database_url(&self) -> String {
        let made = self.create_database().await;
        let name = made.rsplit('=').next().unwrap_or_default();
        let directory = self.directory.to_string_lossy().replace('/', "%2F");
        format!("postgres://{}@{directory}/{name}", self.user)
    }

    /// Makes an empty database, and says how to connect to it.
    pub async fn create_database(&self) -> String {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        self.administer(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        self.url(&name)
    }

    /// Runs a statement as the server's owner, outside of the database under test.
    pub async fn administer(&self, sql: &str) {
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls)
            .await
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        let driver = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        driver.abort();
    }
}

/// The directory of the newest PostgreSQL of Debian's packages.
pub(super) fn binaries() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| path.join("bin/postgres").exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .expect("PostgreSQL is not installed: apt-get install postgresql-15")
        .1
        .join("bin")
}

/// The account to run the server as: it refuses root. `None` when we are not root ourselves.
pub(super) fn account() -> Option<(&'static str, u32, u32)> {
    let own = std::fs::metadata("/proc/self").ok().map(|meta| {
        use std::os::unix::fs::MetadataExt;
        meta.uid()
    });
    if own != Some(0) {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((name, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
