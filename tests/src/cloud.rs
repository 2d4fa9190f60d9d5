//! Processes of the cloud, started and killed as an operator or a power cut would.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Client;
use crate::until::DEADLINE;

/// Where a cloud under test keeps its rows.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file in the state directory.
    Sqlite,
    /// A file elsewhere.
    File(PathBuf),
    /// A PostgreSQL that the test runs.
    Postgres(String),
}

/// What a cloud under test is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where it keeps its rows.
    pub database: Database,
    /// Where its state directory is made.
    pub parent: PathBuf,
    /// Where the program was built; found beside the test unless said.
    pub binaries: Option<PathBuf>,
    /// The address on which hosts reach it.
    pub gateway: IpAddr,
    /// First in the names of devices.
    pub prefix: String,
}

impl Setup {
    /// What most tests want.
    pub fn new(database: Database) -> Self {
        Setup {
            database,
            parent: std::env::temp_dir(),
            binaries: None,
            gateway: IpAddr::from([127, 0, 0, 1]),
            prefix: "t0".to_owned(),
        }
    }
}

/// A process that is killed when the test forgets it.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts `command`, with its output in `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Process { child, name: name.to_owned() })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM);
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > DEADLINE {
                bail!("{} did not end after SIGTERM", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cloud in a directory of its own.
pub struct Cloud {
    directory: tempfile::TempDir,
    control_plane: Option<Process>,
    base: String,
    gateway: String,
    binaries: PathBuf,
    environment: Vec<(String, String)>,
}

impl Cloud {
    /// Makes a cloud and starts its control plane.
    ///
    /// # Errors
    /// When a command fails; the message holds its output.
    pub async fn start(database: &Database) -> Result<Self> {
        Self::start_with(Setup::new(database.clone())).await
    }

    /// Makes a cloud of this description and starts its control plane.
    ///
    /// # Errors
    /// When a command fails; the message holds its output.
    pub async fn start_with(setup: Setup) -> Result<Self> {
        // A test that installs the provider twice is none the worse.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory =
            tempfile::Builder::new().prefix("meridian-test-").tempdir_in(&setup.parent)?;
        let (api, gateway) = (free_port()?, free_port()?);
        let gateway = SocketAddr::new(setup.gateway, gateway);
        let database = match setup.database {
            Database::Sqlite => "sqlite:db/meridian.sqlite".to_owned(),
            Database::File(path) => format!("sqlite:{}", path.display()),
            Database::Postgres(url) => url,
        };
        let mut cloud = Cloud {
            directory,
            control_plane: None,
            base: format!("https://127.0.0.1:{api}"),
            gateway: format!("https://{gateway}"),
            binaries: setup.binaries.map_or_else(binaries, Ok)?,
            environment: Vec::new(),
        };
        let made = cloud
            .command()
            .arg("init")
            .args(["--listen", &format!("127.0.0.1:{api}")])
            .args(["--gateway-listen", &gateway.to_string()])
            .args(["--database", &database])
            .args(["--prefix", &setup.prefix])
            .output()?;
        if !made.status.success() {
            bail!("meridian init failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        cloud.start_control_plane().await?;
        Ok(cloud)
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        self.directory.path()
    }

    /// `https://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where hosts connect.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// A binary of the workspace, built beside the test.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// `meridian`, with the state directory in its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.binary("meridian"));
        command.env("MERIDIAN_STATE", self.state());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Adds to the environment of what is started from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the control plane and waits until it answers.
    ///
    /// # Errors
    /// When it does not start; the message holds the end of its log.
    pub async fn start_control_plane(&mut self) -> Result<()> {
        let log = self.state().join("control-plane.log");
        let mut process =
            Process::start("control-plane", self.command().arg("control-plane"), &log)?;
        wait_until_healthy(&self.anonymous()?, &mut process, &log).await?;
        self.control_plane = Some(process);
        Ok(())
    }

    /// SIGKILL to the control plane.
    pub fn kill_control_plane(&mut self) {
        if let Some(process) = self.control_plane.take() {
            process.kill();
        }
    }

    /// The control plane's process, to signal.
    pub fn control_plane(&self) -> Option<&Process> {
        self.control_plane.as_ref()
    }

    /// What the control plane has logged.
    pub fn control_plane_log(&self) -> String {
        std::fs::read_to_string(self.state().join("control-plane.log")).unwrap_or_default()
    }

    /// A client without a token.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn anonymous(&self) -> Result<Client> {
        Client::new(&self.base, &std::fs::read(self.state().join("pki/ca.pem"))?)
    }

    /// A client with the administrator's token.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn admin(&self) -> Result<Client> {
        self.login("meridian-admin", "admin", "admin").await
    }

    /// A client with the demo user's token.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn demo(&self) -> Result<Client> {
        self.login("meridian", "demo", "demo").await
    }

    async fn login(&self, cloud: &str, user: &str, project: &str) -> Result<Client> {
        let password = self.password(cloud)?;
        self.anonymous()?.login(user, &password, project).await
    }

    /// The password that `init` wrote for a cloud of `clouds.yaml`.
    ///
    /// # Errors
    /// When there is none.
    pub fn password(&self, cloud: &str) -> Result<String> {
        let text = std::fs::read_to_string(self.state().join("etc/clouds.yaml"))?;
        let after = text
            .split_once(&format!("  {cloud}:\n"))
            .with_context(|| format!("no cloud {cloud} in clouds.yaml"))?
            .1;
        let line = after
            .lines()
            .find_map(|line| line.trim().strip_prefix("password: "))
            .context("no password in clouds.yaml")?;
        Ok(line.to_owned())
    }
}

/// Waits until a control plane answers that it serves.
pub(crate) async fn wait_until_healthy(
    client: &Client,
    process: &mut Process,
    log: &Path,
) -> Result<()> {
    let begun = Instant::now();
    while !client.get("/healthz").await.is_ok_and(|answer| answer.status == 200) {
        if !process.runs() || begun.elapsed() > DEADLINE {
            bail!("the control plane did not start: {}", tail(log));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// The end of a log, for a failure's message.
fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where cargo put the workspace's binaries: two levels above the test's own.
fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().and_then(Path::parent).context("finding the build directory")?;
    if !directory.join("meridian").exists() {
        bail!(
            "{} is not built: run `cargo build --bins` first",
            directory.join("meridian").display()
        );
    }
    Ok(directory.to_owned())
}
