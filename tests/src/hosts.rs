//! Simulated hosts, started and killed like the control plane: one process that runs the real
//! agents over machines that live in a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cloud::{Cloud, Process};
use crate::until::until;

/// The agents' process, and what it takes to start it again.
pub struct Hosts {
    process: Option<Process>,
    count: usize,
    directory: PathBuf,
    tokens: Vec<String>,
    arguments: Vec<String>,
}

impl Hosts {
    /// Starts a process with `count` simulated hosts, and waits until all are up in the list of
    /// hypervisors.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn start(cloud: &Cloud, count: usize) -> Result<Hosts> {
        Hosts::start_with(cloud, count, &[]).await
    }

    /// The same, with more arguments of `simulated-host`.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn start_with(cloud: &Cloud, count: usize, arguments: &[&str]) -> Result<Hosts> {
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            tokens.push(cloud.join_token()?);
        }
        let directory = cloud.state().join("simulated");
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut hosts = Hosts { process: None, count, directory, tokens, arguments };
        hosts.restart(cloud, &[])?;
        hosts.wait_until_up(cloud).await?;
        Ok(hosts)
    }

    /// Starts the process again, with more in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart(&mut self, cloud: &Cloud, environment: &[(&str, &str)]) -> Result<()> {
        self.kill();
        std::fs::create_dir_all(&self.directory)?;
        let mut command = Command::new(cloud.binary("simulated-host"));
        command
            .arg("--state")
            .arg(&self.directory)
            .args(["--control-plane", cloud.gateway()])
            .arg("--authority")
            .arg(cloud.state().join("pki/ca.pem"))
            .args(["--hosts", &self.count.to_string()])
            .args(["--token", &self.tokens.join(",")])
            .args(&self.arguments)
            .envs(environment.iter().copied());
        let log = self.log_path();
        self.process = Some(Process::start("simulated-host", &mut command, &log)?);
        Ok(())
    }

    /// SIGKILL to the agents. Their machines stay as they are.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// The agents' process, to signal and to look at.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Where the machine of the host with this number, from 1, lives.
    pub fn machine(&self, number: usize) -> PathBuf {
        self.directory.join(format!("sim-{number}"))
    }

    /// Makes something go wrong on a machine, for as long as it is not mended: `qemu_dies`,
    /// `disk_full`, `switch_down`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn break_machine(&self, number: usize, what: &str, reason: &str) -> Result<()> {
        let faults = self.machine(number).join("faults");
        std::fs::create_dir_all(&faults)?;
        Ok(std::fs::write(faults.join(what), reason)?)
    }

    /// Mends it.
    ///
    /// # Errors
    /// When it was not broken.
    pub fn mend_machine(&self, number: usize, what: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.machine(number).join("faults").join(what))?)
    }

    /// Where all machines live.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the agents have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    /// Waits until every host is up and has said what it has.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn wait_until_up(&self, cloud: &Cloud) -> Result<()> {
        let admin = cloud.admin().await?;
        until(&format!("{} simulated hosts to be up", self.count), || async {
            let Ok(answer) = admin.get("/compute/v2.1/os-hypervisors/detail").await else {
                return false;
            };
            let up = |host: &&serde_json::Value| {
                host["state"] == "up" && host["vcpus"].as_u64().is_some_and(|count| count > 0)
            };
            let hosts = answer.json["hypervisors"].as_array().map_or(&[][..], Vec::as_slice);
            hosts.iter().filter(up).count() >= self.count
        })
        .await;
        Ok(())
    }
}

impl Cloud {
    /// Starts simulated hosts; see [`Hosts::start`].
    ///
    /// # Errors
    /// When a command fails.
    pub async fn simulated_hosts(&self, count: usize) -> Result<Hosts> {
        Hosts::start(self, count).await
    }

    /// A one-time token with which a host joins.
    ///
    /// # Errors
    /// When the command fails; the message holds its output.
    pub fn join_token(&self) -> Result<String> {
        let made = self.command().args(["host", "token"]).output()?;
        if !made.status.success() {
            bail!("meridian host token failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let text = String::from_utf8(made.stdout)?;
        text.lines().next_back().map(|line| line.trim().to_owned()).context("no token was printed")
    }
}
