//! More replicas of a cloud's control plane: processes with state directories of their own over the
//! same PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::client::Client;
use crate::cloud::{Cloud, Process, free_port, wait_until_healthy};

/// A replica.
pub struct Replica {
    directory: tempfile::TempDir,
    binary: PathBuf,
    process: Option<Process>,
    base: String,
    gateway: String,
    environment: Vec<(String, String)>,
}

impl Replica {
    /// Makes a replica of a cloud, which reaches the database in its own way where one is given.
    /// It is not started.
    ///
    /// # Errors
    /// When a command fails; the message holds its output.
    pub fn join(cloud: &Cloud, database: Option<&str>) -> Result<Replica> {
        let directory = tempfile::Builder::new().prefix("meridian-replica-").tempdir()?;
        let bundle = directory.path().join("bundle");
        let made = cloud.command().args(["replica", "bundle", "--to"]).arg(&bundle).output()?;
        if !made.status.success() {
            bail!("meridian replica bundle failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let (api, gateway) = (free_port()?, free_port()?);
        let replica = Replica {
            binary: cloud.binary("meridian"),
            process: None,
            base: format!("https://127.0.0.1:{api}"),
            gateway: format!("https://127.0.0.1:{gateway}"),
            environment: Vec::new(),
            directory,
        };
        let mut command = replica.command();
        command
            .args(["replica", "join", "--bundle"])
            .arg(&bundle)
            .args(["--listen", &format!("127.0.0.1:{api}")])
            .args(["--gateway-listen", &format!("127.0.0.1:{gateway}")]);
        if let Some(database) = database {
            command.args(["--database", database]);
        }
        let made = command.output()?;
        if !made.status.success() {
            bail!("meridian replica join failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        std::fs::remove_file(bundle)?;
        Ok(replica)
    }

    /// `meridian`, with the replica's state directory in its environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("MERIDIAN_STATE", self.state());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Adds to the environment of what is started from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it, and waits until it is in touch with the database.
    ///
    /// # Errors
    /// When it does not start; the message holds the end of its log.
    pub async fn start(&mut self) -> Result<()> {
        let log = self.state().join("control-plane.log");
        let mut process = Process::start("replica", self.command().arg("control-plane"), &log)?;
        wait_until_healthy(&self.anonymous()?, &mut process, &log).await?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it again if it does not run.
    ///
    /// # Errors
    /// As [`Replica::start`].
    pub async fn ensure_running(&mut self) -> Result<()> {
        if self.process.as_mut().is_some_and(Process::runs) {
            return Ok(());
        }
        self.process = None;
        self.start().await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGSTOP, SIGCONT, or another.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Its process, while it was started.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        self.directory.path()
    }

    /// `https://127.0.0.1:PORT` of its API.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where hosts connect to it.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state().join("control-plane.log")).unwrap_or_default()
    }

    /// A client of this replica without a token.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn anonymous(&self) -> Result<Client> {
        Client::new(&self.base, &std::fs::read(self.state().join("pki/ca.pem"))?)
    }

    /// A client of this replica with somebody's token.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn client(&self, token: &Client) -> Result<Client> {
        Ok(self.anonymous()?.with_token(token.token().map(str::to_owned)))
    }
}
