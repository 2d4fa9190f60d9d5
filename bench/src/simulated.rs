//! Simulated hosts: the real agents over machines that are played.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use black_box::{Client, Cloud, Process};

/// How long hosts may take to join.
const JOIN: Duration = Duration::from_secs(60);

/// Starts a process with `count` hosts, named after it.
///
/// # Errors
/// When it cannot be started.
pub fn start(cloud: &Cloud, name: &str, count: usize) -> Result<Process> {
    let tokens = (0..count).map(|_| cloud.join_token()).collect::<Result<Vec<_>>>()?;
    let directory = cloud.state().join(format!("hosts-{name}"));
    std::fs::create_dir_all(&directory)?;
    let mut command = Command::new(cloud.binary("simulated-host"));
    command
        .arg("--state")
        .arg(&directory)
        .args(["--control-plane", cloud.gateway()])
        .arg("--authority")
        .arg(cloud.state().join("pki/ca.pem"))
        .args(["--hosts", &count.to_string(), "--name", name])
        .args(["--token", &tokens.join(",")]);
    Process::start(name, &mut command, &directory.with_extension("log"))
}

/// Waits until `count` hosts are up and have said what they have.
///
/// # Errors
/// When they do not join in time.
pub async fn wait_until_up(admin: &Client, count: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = admin.get("/compute/v2.1/os-hypervisors/detail").await?.expect(200)?;
        let hosts = answer.json["hypervisors"].as_array().map_or(&[][..], Vec::as_slice);
        let up = hosts
            .iter()
            .filter(|host| host["state"] == "up" && host["vcpus"].as_u64().is_some_and(|n| n > 0))
            .count();
        if up >= count {
            return Ok(());
        }
        if begun.elapsed() > JOIN {
            bail!("{up} of {count} hosts joined within {} s", JOIN.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
