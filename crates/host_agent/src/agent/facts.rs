//! What the host says of itself, at start and when it changes, and the housekeeping of its image
//! cache.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host_protocol::{DocumentKind, HostFacts, ReportState};
use tokio::time::MissedTickBehavior;

use super::shared::{MachineSize, Shared, lock};
use crate::pool::PoolSpace;

/// How often free space is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
const GIB: u64 = 1 << 30;

/// Runs until the agent ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = shared.facts_wake.notified() => {}
            () = shared.shutdown.cancelled() => return,
        }
        let space = match shared.edges.pool.space().await {
            Ok(space) => space,
            Err(error) => {
                tracing::warn!(%error, "cannot see how much space is free");
                continue;
            }
        };
        report(&shared, space).await;
        if is_short(space) {
            evict(&shared).await;
        }
    }
}

/// Looked up once: the kernel computes it from the clock, which may be set, and what has not changed
/// should not be reported again.
static BOOTED_AT: OnceLock<Option<i64>> = OnceLock::new();

async fn report(shared: &Shared, space: PoolSpace) {
    let Some((id, wanted)) = lock(&shared.documents).host.clone() else {
        return;
    };
    let config = &shared.config;
    let machine = config.machine.unwrap_or_else(machine_size);
    let mended = *lock(&shared.mended);
    let facts = HostFacts {
        hostname: hostname(),
        vcpus: machine.vcpus,
        memory_mib: machine.memory_mib.saturating_sub(config.reserved_memory_mib),
        disk_gib: space.total_bytes / GIB,
        disk_free_gib: space.free_bytes / GIB,
        accelerator: shared.hypervisor.accelerator.clone(),
        qemu_version: shared.hypervisor.version.clone(),
        ovs_version: lock(&shared.switch_version).clone(),
        host_ip: config.host_ip.map(|ip| ip.to_string()).or_else(first_address).unwrap_or_default(),
        cpu_model: read("/proc/cpuinfo").as_deref().and_then(cpu_model).unwrap_or_default(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        flows_mended: mended.flows,
        flows_mended_at: mended.at,
        booted_at: *BOOTED_AT.get_or_init(|| read("/proc/stat").as_deref().and_then(booted_at)),
    };
    shared.report(DocumentKind::Host, &id, &wanted, ReportState::Done, &facts, None).await;
}

/// What the kernel says of this machine.
fn machine_size() -> MachineSize {
    MachineSize {
        vcpus: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_mib: read("/proc/meminfo").as_deref().and_then(memory_mib).unwrap_or(0),
    }
}

/// Less than a tenth is free.
fn is_short(space: PoolSpace) -> bool {
    space.free_bytes < space.total_bytes / 10
}

async fn evict(shared: &Arc<Shared>) {
    let in_use = match shared.edges.pool.images_in_use().await {
        Ok(in_use) => in_use,
        Err(error) => {
            tracing::warn!(%error, "cannot see which images are in use; none is evicted");
            return;
        }
    };
    if let Err(error) = shared.edges.images.evict(in_use).await {
        tracing::warn!(%error, "cannot evict images");
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn hostname() -> String {
    read("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn booted_at(stat: &str) -> Option<i64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first address that is not the machine's own loopback or link-local.
fn first_address() -> Option<String> {
    nix::ifaddrs::getifaddrs().ok()?.find_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        (!address.is_loopback() && !address.is_link_local()).then(|| address.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read_right() {
        let meminfo = "MemTotal:       24649132 kB\nMemFree:        1 kB\n";
        assert_eq!(memory_mib(meminfo), Some(24071));
        assert_eq!(memory_mib(""), None);
        assert_eq!(booted_at("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor: fast\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("A Processor: fast"));
    }

    #[test]
    fn space_is_short_below_a_tenth() {
        let space = |free_bytes| PoolSpace { total_bytes: 1000, free_bytes };
        assert!(is_short(space(99)) && !is_short(space(100)));
    }
}
