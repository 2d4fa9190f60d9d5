//! Finding the guests that run already, after the agent was restarted.
//!
//! A folder's lock says whether a process lives; the record says which; a search by the guest's
//! user finds it when the record is missing or stale. Nothing is ended here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host_protocol::PowerState;

use super::cgroup::Cgroup;
use super::command::parse_process_name;
use super::files::RunFiles;
use super::process::{self, Found, Process, ProcessRecord, RunLock};
use super::{Guest, Qemu, greet, host_error, lock, watch};
use crate::hypervisor::{GuestSeen, HypervisorError};

/// How long a guest's monitor may take to answer before it is taken over without: the watch goes
/// on trying.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn adopt(qemu: &Qemu) -> Result<Vec<GuestSeen>, HypervisorError> {
    let config = qemu.inner.config.clone();
    let running = tokio::task::spawn_blocking(move || {
        find(&config.servers, config.uids.clone()).map_err(host_error("looking for running guests"))
    })
    .await
    .map_err(|error| HypervisorError::Host(error.to_string()))??;
    let new = running
        .into_iter()
        .filter(|(server_id, _, _)| qemu.guest(server_id).is_none())
        .map(|(server_id, directory, record)| take_over(qemu, server_id, directory, record));
    futures::future::join_all(new).await;
    let guests = lock(&qemu.inner.guests);
    Ok(guests
        .iter()
        .map(|(server_id, guest)| GuestSeen {
            server_id: server_id.clone(),
            incarnation: guest.incarnation,
            power: *lock(&guest.state),
            pid: guest.process.pid,
        })
        .collect())
}

/// Servers whose lock is held, with their processes.
fn find(
    servers: &Path,
    uids: std::ops::Range<u32>,
) -> std::io::Result<Vec<(String, PathBuf, ProcessRecord)>> {
    let boot_id = process::boot_id()?;
    let mut searched: Option<Vec<Found>> = None;
    let mut running = Vec::new();
    let entries = match std::fs::read_dir(servers) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(running),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let directory = entry?.path();
        let Some(server_id) = directory.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let files = RunFiles::of(&directory);
        if !RunLock::is_held(&files.lock())? {
            continue;
        }
        let recorded =
            files.read_record().filter(|record| record.boot_id == boot_id).filter(|record| {
                process::Stat::read(record.pid)
                    .ok()
                    .flatten()
                    .is_some_and(|stat| stat.alive && stat.start_time == record.start_time)
            });
        let record = match recorded {
            Some(record) => Some(record),
            None => {
                if searched.is_none() {
                    searched = Some(process::find_by_user(uids.clone())?);
                }
                searched.iter().flatten().find_map(|found| record_of(found, server_id, &boot_id))
            }
        };
        match record {
            Some(record) => running.push((server_id.to_owned(), directory.clone(), record)),
            None => tracing::error!(
                server = %server_id, folder = %directory.display(),
                "something holds this server's lock and is not found among its processes; the server is not started until that ends"
            ),
        }
    }
    Ok(running)
}

fn record_of(found: &Found, server_id: &str, boot_id: &str) -> Option<ProcessRecord> {
    let name =
        found.arguments.windows(2).find(|pair| pair[0] == "-name").map(|pair| pair[1].as_str())?;
    let (id, incarnation) = parse_process_name(name)?;
    (id == server_id).then(|| ProcessRecord {
        pid: found.pid,
        start_time: found.start_time,
        boot_id: boot_id.to_owned(),
        incarnation,
    })
}

async fn take_over(qemu: &Qemu, server_id: String, directory: PathBuf, record: ProcessRecord) {
    let process = match Process::adopt(record.pid, record.start_time) {
        Ok(Some(process)) => Arc::new(process),
        Ok(None) => return,
        Err(error) => {
            tracing::error!(server = %server_id, pid = record.pid, %error, "cannot take hold of a guest's process");
            return;
        }
    };
    let files = RunFiles::of(&directory);
    if files.read_record().as_ref() != Some(&record)
        && let Err(error) = files.write_record(&record)
    {
        tracing::warn!(server = %server_id, %error, "cannot write down the guest's process");
    }
    let opened = match files.qmp().connect() {
        Ok(stream) => match tokio::time::timeout(MONITOR_TIMEOUT, greet(stream)).await {
            Ok(opened) => opened.map_err(|error| error.to_string()),
            Err(_) => Err("no greeting".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    };
    let (monitor, events, power) = match opened {
        Ok((monitor, events, power)) => (Some(monitor), Some(events), power),
        Err(error) => {
            tracing::warn!(server = %server_id, pid = record.pid, %error, "a running guest's monitor does not answer yet; the guest is left alone");
            (None, None, PowerState::Running)
        }
    };
    let guest = Arc::new(Guest {
        incarnation: record.incarnation,
        process,
        qmp: Mutex::new(monitor),
        state: Mutex::new(power),
        files,
        cgroup: Cgroup::of(&qemu.inner.config.cgroup_owner, &server_id),
    });
    lock(&qemu.inner.guests).insert(server_id.clone(), Arc::clone(&guest));
    watch::watch(&qemu.inner, server_id.clone(), guest, events);
    tracing::info!(server = %server_id, pid = record.pid, incarnation = record.incarnation, ?power, "took over a running guest");
}
