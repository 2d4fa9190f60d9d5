//! Starting a guest: sockets that its monitor is reached by before it runs, a lock that it holds
//! for life, and a process of its own user. QEMU's own words become the error when it dies.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::command::{Layout, command};
use super::files::RunFiles;
use super::process::{Process, RunLock, Spawn};
use super::{Guest, Qemu, end_process, greet, host_error, lock, server_directory, watch};
use crate::config::Accelerator;
use crate::hypervisor::{GuestSeen, HypervisorError, StartRequest, Started};

/// What a spawn leaves behind.
struct Spawned {
    process: Process,
    monitor: std::os::unix::net::UnixStream,
    cgroup: Cgroup,
}

impl Qemu {
    pub(super) async fn start_guest(
        &self,
        request: StartRequest,
    ) -> Result<Started, HypervisorError> {
        let begun = Instant::now();
        let server_id = request.spec.server_id.clone();
        if self.guest(&server_id).is_some() {
            return Err(HypervisorError::AlreadyRunning);
        }
        let files = self.files(&server_id)?;
        let incarnation = request.incarnation;
        let adapter = self.clone();
        let spawn_files = files.clone();
        let spawned = tokio::task::spawn_blocking(move || adapter.spawn(&request, &spawn_files))
            .await
            .map_err(|error| HypervisorError::Host(error.to_string()))??;
        let process = Arc::new(spawned.process);
        let spawned_after = begun.elapsed();
        tracing::info!(server = %server_id, pid = process.pid, incarnation, "started QEMU");

        let stream = tokio::net::UnixStream::from_std(spawned.monitor)
            .map_err(host_error("the guest's monitor"))?;
        let opened = tokio::select! {
            opened = greet(stream) => opened,
            how = process.ended() => Err(self.died(&files, &how)),
        };
        let (qmp, events, power) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // A process that ended has closed its monitor first: prefer its own words.
                let how = tokio::time::timeout(Duration::from_secs(1), process.ended()).await;
                let error = match (&error, how) {
                    (HypervisorError::Unresponsive(_), Ok(how)) => self.died(&files, &how),
                    _ => error,
                };
                if let Err(left) = end_process(&process).await {
                    tracing::error!(server = %server_id, pid = process.pid, error = %left, "a failed start left a process; its lock refuses another");
                }
                spawned.cgroup.remove();
                return Err(error);
            }
        };
        let guest = Arc::new(Guest {
            incarnation,
            process: Arc::clone(&process),
            qmp: Mutex::new(Some(qmp)),
            state: Mutex::new(power),
            files,
            cgroup: spawned.cgroup,
        });
        lock(&self.inner.guests).insert(server_id.clone(), Arc::clone(&guest));
        watch::watch(&self.inner, server_id.clone(), guest, Some(events));
        Ok(Started {
            seen: GuestSeen { server_id, incarnation, power, pid: process.pid },
            stages: vec![
                ("exec".to_owned(), spawned_after),
                ("monitor".to_owned(), begun.elapsed().saturating_sub(spawned_after)),
            ],
        })
    }

    fn died(&self, files: &RunFiles, how: &str) -> HypervisorError {
        let words = files.output_tail();
        let words = if words.is_empty() {
            "it printed nothing".to_owned()
        } else {
            format!("it said: {words}")
        };
        HypervisorError::Exited(format!("QEMU ended ({how}) before the guest ran; {words}"))
    }

    /// The part of a start that makes system calls.
    fn spawn(&self, request: &StartRequest, files: &RunFiles) -> Result<Spawned, HypervisorError> {
        let config = &self.inner.config;
        let spec = &request.spec;
        let uid = self.user(request.uid);
        files.prepare(uid).map_err(host_error("preparing the guest's folder"))?;
        let held = RunLock::take(&files.lock()).map_err(host_error("locking the guest"))?;
        let Some(run_lock) = held else {
            return Err(HypervisorError::AlreadyRunning);
        };
        let listen = host_error("the guest's sockets");
        let console = files.console().listen().map_err(&listen)?;
        let operator = files.operator().listen().map_err(&listen)?;
        let qmp = files.qmp().listen().map_err(&listen)?;
        let directory = server_directory(&config.servers, &spec.server_id)?;
        let monitor = files.qmp().connect_blocking().map_err(&listen)?;
        let layout = Layout {
            incarnation: request.incarnation,
            disks: request.disks.clone(),
            config_drive: request.config_drive.clone(),
            console_log: files.console_log(),
            console_fd: console.as_raw_fd(),
            qmp_fd: qmp.as_raw_fd(),
            operator_fd: operator.as_raw_fd(),
            taps: request.nics.iter().map(|nic| nic.tap.as_ref().map(AsRawFd::as_raw_fd)).collect(),
        };
        let arguments = command(spec, &layout, config.accelerator)
            .map_err(|error| HypervisorError::Host(error.to_string()))?;
        let mut inherit = vec![
            layout.console_fd,
            layout.qmp_fd,
            layout.operator_fd,
            run_lock.as_fd().as_raw_fd(),
        ];
        inherit.extend(layout.taps.iter().flatten());
        let cgroup = Cgroup::of(&config.cgroup_owner, &spec.server_id);
        let cgroups = cgroup.prepare(spec.vcpus, spec.memory_mib).unwrap_or_else(|error| {
            tracing::warn!(server = %spec.server_id, %error, "no control group for this guest");
            Vec::new()
        });
        let groups: Vec<u32> = match config.accelerator {
            Accelerator::Kvm => kvm_group().into_iter().collect(),
            Accelerator::Tcg => Vec::new(),
        };
        let log = files.begin_log().map_err(host_error("QEMU's log"))?;
        let process = Process::spawn(&Spawn {
            binary: &config.binary,
            arguments: &arguments,
            uid,
            groups: &groups,
            inherit: &inherit,
            log: &log,
            cgroups: &cgroups,
        })
        .map_err(|error| {
            HypervisorError::Host(format!(
                "cannot start {} for {}: {error}",
                config.binary.display(),
                directory.display()
            ))
        })?;
        // From here on a process exists. Should its record fail, it is still found by its user.
        match process.record(request.incarnation) {
            Ok(record) => {
                if let Err(error) = files.write_record(&record) {
                    tracing::warn!(server = %spec.server_id, %error, "cannot write down the guest's process");
                }
            }
            Err(error) => tracing::debug!(%error, "a process ended at once"),
        }
        Ok(Spawned { process, monitor, cgroup })
    }
}

/// The group that may use `/dev/kvm`, when the device is given to one.
fn kvm_group() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata("/dev/kvm").ok()?;
    (metadata.gid() != 0 && metadata.mode() & 0o060 == 0o060).then(|| metadata.gid())
}
