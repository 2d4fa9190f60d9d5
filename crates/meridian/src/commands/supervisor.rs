//! `supervise`, `status`, `down`: the processes of this machine.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use control_plane::layout::Layout;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::supervise::{self, Role, Status};

/// Longest that `down` waits: the guests' grace, the roles' grace, and some.
const DOWN_DEADLINE: Duration = Duration::from_secs(180);

/// Runs the roles named.
pub async fn supervise(
    layout: &Layout,
    names: &[String],
    host_namespace: Option<&str>,
    postgresql: Option<&Path>,
) -> Result<()> {
    let state = layout.root().to_string_lossy().into_owned();
    let mut roles = Vec::new();
    if let Some(directory) = postgresql {
        roles.push(postgresql_role(directory)?);
    }
    let own = names
        .iter()
        .map(|name| match name.as_str() {
            "control-plane" => Ok(Role {
                name: "control-plane",
                program: None,
                arguments: vec!["control-plane".into(), "--state".into(), state.clone()],
                owns_guests: false,
                network_namespace: None,
            }),
            "host" => Ok(Role {
                name: "host",
                program: None,
                arguments: vec!["host".into(), "run".into(), "--state".into(), state.clone()],
                owns_guests: true,
                network_namespace: host_namespace.map(str::to_owned),
            }),
            other => bail!("there is no role {other:?}; there are control-plane and host"),
        })
        .collect::<Result<Vec<_>>>()?;
    roles.extend(own);
    supervise::run(layout, roles).await
}

/// A PostgreSQL server over the cluster in `directory`/data, as the account that owns it, reached
/// by a socket in `directory`. SIGTERM has it take no new connections and end when the control
/// plane has closed its own.
fn postgresql_role(directory: &Path) -> Result<Role> {
    let data = directory.join("data");
    let version = std::fs::read_to_string(data.join("PG_VERSION"))
        .with_context(|| format!("{} holds no cluster of PostgreSQL", data.display()))?;
    let owner = std::fs::metadata(&data)?;
    let server = format!("/usr/lib/postgresql/{}/bin/postgres", version.trim());
    Ok(Role {
        name: "postgresql",
        program: Some("setpriv".into()),
        arguments: vec![
            format!("--reuid={}", owner.uid()),
            format!("--regid={}", owner.gid()),
            "--clear-groups".to_owned(),
            server,
            "-D".to_owned(),
            data.to_string_lossy().into_owned(),
            "-k".to_owned(),
            directory.to_string_lossy().into_owned(),
            "-c".to_owned(),
            "listen_addresses=".to_owned(),
        ],
        owns_guests: false,
        network_namespace: None,
    })
}

/// The supervisor that runs now, if one does.
fn running(layout: &Layout) -> Option<Pid> {
    let text = std::fs::read_to_string(layout.supervisor_pid()).ok()?;
    let pid = Pid::from_raw(text.trim().parse().ok()?);
    // A pid alone may have been given to another process since.
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = command.split(|byte| *byte == 0).any(|argument| argument == b"supervise");
    (ours && kill(pid, None) != Err(Errno::ESRCH)).then_some(pid)
}

/// Shows what runs; fails when a role does not.
pub fn status(layout: &Layout, json: bool) -> Result<()> {
    let Some(pid) = running(layout) else {
        bail!("nothing runs in {}", layout.root().display());
    };
    let text =
        std::fs::read_to_string(layout.status()).context("reading the supervisor's status")?;
    if json {
        println!("{text}");
        return Ok(());
    }
    let status: Status = serde_json::from_str(&text).context("reading the supervisor's status")?;
    println!("supervisor     running  pid {pid}");
    let mut all_run = true;
    for (name, role) in &status.roles {
        all_run &= role.state == "running";
        let pid = role.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        print!("{name:<14} {:<8} pid {pid}, started {} time(s)", role.state, role.starts);
        match &role.last_exit {
            Some(exit) => println!(", last ended by itself: {exit}"),
            None => println!(),
        }
    }
    if !all_run {
        bail!("not every role runs; see {}", layout.log().display());
    }
    Ok(())
}

/// Ends the supervisor and what it runs, and waits until that is done.
pub async fn down(layout: &Layout, leave_guests: bool) -> Result<()> {
    let Some(pid) = running(layout) else {
        println!("Nothing runs in {}.", layout.root().display());
        return Ok(());
    };
    let how = if leave_guests { Signal::SIGTERM } else { Signal::SIGUSR1 };
    kill(pid, how).with_context(|| format!("signalling the supervisor, process {pid}"))?;
    let begun = Instant::now();
    let mut told = begun;
    while running(layout).is_some() {
        if begun.elapsed() > DOWN_DEADLINE {
            bail!(
                "the supervisor (process {pid}) has not ended after {DOWN_DEADLINE:?}; see {}",
                layout.log().display()
            );
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            println!("  waiting for guests and services to end ({} s)", begun.elapsed().as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
