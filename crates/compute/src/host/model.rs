//! Pure views of hosts: for the scheduler, and in the shapes of Nova's operator APIs.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::Timestamp;
use host_documents::{Host, HostState};
use serde_json::{Value, json};
use service_kit::Microversion;
use uuid::Uuid;

use super::store::Usage;
use crate::scheduler::{HostView, Resources};

/// What a host said that it has.
pub fn capacity(host: &Host) -> Option<Resources> {
    host.facts.as_ref().map(|facts| Resources {
        vcpus: u64::from(facts.vcpus),
        memory_mib: facts.memory_mib,
        disk_gib: facts.disk_gib,
    })
}

/// The host as the scheduler sees it.
pub fn for_scheduler(host: &Host, usage: Usage, now: Timestamp) -> HostView {
    HostView {
        id: host.id,
        name: host.name.clone(),
        zone: host.zone.clone(),
        l2_domain: host.l2_domain.clone(),
        // Agents are built for one architecture so far.
        architecture: "x86_64".to_owned(),
        enabled: host.is_enabled(),
        alive: host.is_alive(now),
        capacity: capacity(host),
        used: usage.used,
        servers: usage.servers,
    }
}

/// `7.2.22` as Nova's number 7002022; 0 when it is no version.
pub fn version_number(text: &str) -> u64 {
    let mut parts = text.split(['.', '-', '+']).map(|part| part.parse::<u64>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0).min(999);
    next() * 1_000_000 + next() * 1_000 + next()
}

fn disabled_reason(host: &Host) -> Option<&str> {
    match &host.state {
        HostState::Enabled => None,
        HostState::Disabled { reason } => Some(reason),
    }
}

/// The identity of a host, as the microversion wants it: a number, from 2.53 a UUID.
fn id_of(host: &Host, usage: Usage, version: Microversion) -> Value {
    if version.at_least(2, 53) { json!(host.id) } else { json!(usage.number) }
}

fn up(host: &Host, now: Timestamp) -> &'static str {
    if host.is_alive(now) { "up" } else { "down" }
}

fn enabled(host: &Host) -> &'static str {
    if host.is_enabled() { "enabled" } else { "disabled" }
}

/// A hypervisor, briefly.
pub fn hypervisor(host: &Host, usage: Usage, now: Timestamp, version: Microversion) -> Value {
    json!({
        "id": id_of(host, usage, version),
        "hypervisor_hostname": host.name,
        "state": up(host, now),
        "status": enabled(host),
    })
}

/// How long the machine has run, as `uptime` begins its line: `" 10:00:00 up 93 days, 18:25"`. Who is
/// logged in, and how busy it is, hosts do not say. `None` when the host has not reported.
pub fn uptime(host: &Host, now: Timestamp) -> Option<String> {
    Some(uptime_line(now.0 / 1_000_000, host.facts.as_ref()?.booted_at?))
}

/// From seconds since the epoch.
fn uptime_line(seconds: i64, booted_at: i64) -> String {
    let up = (seconds - booted_at).max(0);
    let (minutes, hours, days) = (up / 60 % 60, up / 3600 % 24, up / 86_400);
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    let since = match hours {
        0 => format!("{minutes} min"),
        hours => format!("{hours:2}:{minutes:02}"),
    };
    format!(" {time} up {days}{since}")
}

/// A hypervisor in full.
pub fn hypervisor_detail(
    host: &Host,
    usage: Usage,
    now: Timestamp,
    version: Microversion,
) -> Value {
    let mut shown = hypervisor(host, usage, now, version);
    let facts = host.facts.as_ref();
    shown["hypervisor_type"] = json!("QEMU");
    shown["hypervisor_version"] =
        json!(facts.map_or(0, |facts| version_number(&facts.qemu_version)));
    shown["host_ip"] = json!(facts.map_or("", |facts| facts.host_ip.as_str()));
    shown["service"] = json!({
        "id": id_of(host, usage, version),
        "host": host.name,
        "disabled_reason": disabled_reason(host),
    });
    if version.at_least(2, 88) {
        shown["uptime"] = uptime(host, now).map_or(Value::Null, Value::String);
        return shown;
    }
    for (key, value) in statistics_of(host, usage) {
        shown[key] = json!(value);
    }
    let cpu = json!({
        "arch": "x86_64",
        "model": facts.map_or("", |facts| facts.cpu_model.as_str()),
        "vendor": "",
        "features": [],
        "topology": {"cores": facts.map_or(0, |facts| facts.vcpus), "threads": 1, "sockets": 1},
    });
    shown["cpu_info"] = if version.at_least(2, 28) { cpu } else { Value::String(cpu.to_string()) };
    shown
}

/// The sums that hypervisors showed before 2.88, and that their statistics add up.
fn statistics_of(host: &Host, usage: Usage) -> BTreeMap<&'static str, i64> {
    let whole = capacity(host).unwrap_or_default();
    let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let free = |has: u64, used: u64| number(has).saturating_sub(number(used));
    let disk_free = host.facts.as_ref().map_or(0, |facts| facts.disk_free_gib);
    [
        ("vcpus", number(whole.vcpus)),
        ("vcpus_used", number(usage.used.vcpus)),
        ("memory_mb", number(whole.memory_mib)),
        ("memory_mb_used", number(usage.used.memory_mib)),
        ("free_ram_mb", free(whole.memory_mib, usage.used.memory_mib)),
        ("local_gb", number(whole.disk_gib)),
        ("local_gb_used", number(usage.used.disk_gib)),
        ("free_disk_gb", free(whole.disk_gib, usage.used.disk_gib)),
        ("disk_available_least", number(disk_free)),
        ("current_workload", 0),
        ("running_vms", number(usage.servers)),
    ]
    .into()
}

/// `/os-hypervisors/statistics`: the sums over all hosts that are enabled.
pub fn statistics(hosts: &[(Host, Usage)]) -> Value {
    let mut sums: BTreeMap<&'static str, i64> = BTreeMap::new();
    let counted: Vec<_> = hosts.iter().filter(|(host, _)| host.is_enabled()).collect();
    for key in statistics_keys() {
        sums.insert(key, 0);
    }
    for (host, usage) in &counted {
        for (key, value) in statistics_of(host, *usage) {
            let sum = sums.entry(key).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    sums.insert("count", i64::try_from(counted.len()).unwrap_or(i64::MAX));
    json!({"hypervisor_statistics": sums})
}

fn statistics_keys() -> [&'static str; 11] {
    [
        "vcpus",
        "vcpus_used",
        "memory_mb",
        "memory_mb_used",
        "free_ram_mb",
        "local_gb",
        "local_gb_used",
        "free_disk_gb",
        "disk_available_least",
        "current_workload",
        "running_vms",
    ]
}

/// A compute service: each host's agent.
pub fn compute_service(host: &Host, usage: Usage, now: Timestamp, version: Microversion) -> Value {
    let mut shown = json!({
        "id": id_of(host, usage, version),
        "binary": "nova-compute",
        "host": host.name,
        "zone": host.zone,
        "status": enabled(host),
        "state": up(host, now),
        "updated_at": host.last_seen.map(Timestamp::iso_micros_naive),
        "disabled_reason": disabled_reason(host),
    });
    if version.at_least(2, 11) {
        shown["forced_down"] = json!(false);
    }
    shown
}

/// Availability zones: available when a host of theirs may be given a server.
pub fn zones(hosts: &[Host], now: Timestamp, detail: bool) -> Value {
    let names: BTreeSet<&str> = hosts.iter().map(|host| host.zone.as_str()).collect();
    let shown: Vec<Value> = names
        .into_iter()
        .map(|zone| {
            let members = || hosts.iter().filter(|host| host.zone == zone);
            let available = members().any(|host| host.is_enabled() && host.is_alive(now));
            let services: serde_json::Map<String, Value> = members()
                .map(|host| {
                    let service = json!({
                        "available": host.is_alive(now),
                        "active": host.is_enabled(),
                        "updated_at": host.last_seen.map(Timestamp::iso_micros_naive),
                    });
                    (host.name.clone(), json!({"nova-compute": service}))
                })
                .collect();
            json!({
                "zoneName": zone,
                "zoneState": {"available": available},
                "hosts": if detail { Value::Object(services) } else { Value::Null },
            })
        })
        .collect();
    json!({"availabilityZoneInfo": shown})
}

/// Aggregates: one for each cluster, read-only, because a host's place is decided when it joins.
pub fn aggregates(hosts: &[Host], version: Microversion) -> Vec<Value> {
    /// Makes an aggregate's UUID out of its zone and cluster, the same at every look.
    const SPACE: Uuid = Uuid::from_u128(0x8e2c_6f7a_13d4_4c1b_9a55_0d6b_1f2e_7c90);
    let mut clusters: BTreeMap<(&str, &str), Vec<&Host>> = BTreeMap::new();
    for host in hosts {
        clusters.entry((&host.zone, &host.cluster)).or_default().push(host);
    }
    clusters
        .into_iter()
        .zip(1u32..)
        .map(|(((zone, cluster), members), number)| {
            let created = members.iter().map(|host| host.created_at).min().unwrap_or_default();
            let mut shown = json!({
                "id": number,
                "name": cluster,
                "availability_zone": zone,
                "hosts": members.iter().map(|host| &host.name).collect::<Vec<_>>(),
                "metadata": {"availability_zone": zone},
                "created_at": created.iso_micros_naive(),
                "updated_at": null,
                "deleted": false,
                "deleted_at": null,
            });
            if version.at_least(2, 41) {
                let name = format!("{zone}/{cluster}");
                shown["uuid"] = json!(Uuid::new_v5(&SPACE, name.as_bytes()));
            }
            shown
        })
        .collect()
}

/// `host_status` of a server (2.16).
pub fn host_status(host: Option<&Host>, now: Timestamp) -> &'static str {
    match host {
        None => "",
        Some(host) if !host.is_enabled() => "MAINTENANCE",
        Some(host) if host.is_alive(now) => "UP",
        Some(_) => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud_types::HostId;

    fn host(name: &str, zone: &str) -> Host {
        Host {
            id: HostId::random(),
            name: name.into(),
            host_number: 1,
            l2_domain: "l2".into(),
            zone: zone.into(),
            cluster: "c".into(),
            state: HostState::Enabled,
            facts: None,
            last_seen: Some(Timestamp(0)),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            generation: 1,
        }
    }

    #[test]
    fn versions_are_novas_numbers() {
        assert_eq!(version_number("7.2.22"), 7_002_022);
        assert_eq!(version_number("10.0"), 10_000_000);
        assert_eq!(version_number("none"), 0);
    }

    #[test]
    fn uptime_reads_as_the_command_says_it() {
        let now = 20_000 * 86_400 + 10 * 3600 + 5;
        for (up, wanted) in [
            (93 * 86_400 + 18 * 3600 + 25 * 60, " 10:00:05 up 93 days, 18:25"),
            (86_400 + 2 * 3600 + 3 * 60, " 10:00:05 up 1 day,  2:03"),
            (120, " 10:00:05 up 2 min"),
            // A clock that was set back.
            (-7, " 10:00:05 up 0 min"),
        ] {
            assert_eq!(uptime_line(now, now - up), wanted);
        }
        assert_eq!(uptime(&host("a", "z"), Timestamp(1)), None, "it has not said");
    }

    #[test]
    fn a_zone_is_available_while_one_host_of_it_is() {
        let mut down = host("b", "east");
        down.last_seen = None;
        let shown = zones(&[host("a", "east"), down.clone()], Timestamp(1), true);
        assert_eq!(shown["availabilityZoneInfo"][0]["zoneState"]["available"], true);
        assert_eq!(
            shown["availabilityZoneInfo"][0]["hosts"]["b"]["nova-compute"]["available"],
            false
        );
        let shown = zones(&[down], Timestamp(1), false);
        assert_eq!(shown["availabilityZoneInfo"][0]["zoneState"]["available"], false);
        assert_eq!(shown["availabilityZoneInfo"][0]["hosts"], Value::Null);
    }

    #[test]
    fn hypervisors_change_shape_with_the_microversion() {
        let version = |minor| Microversion::new(2, minor);
        let (host, usage) = (host("a", "z"), Usage { number: 7, ..Usage::default() });
        let at = |minor| hypervisor_detail(&host, usage, Timestamp(1), version(minor));
        assert_eq!(at(1)["id"], 7);
        assert!(at(1)["cpu_info"].is_string() && at(28)["cpu_info"].is_object());
        assert_eq!(at(53)["id"], json!(host.id));
        assert!(at(87).get("vcpus").is_some() && at(87).get("uptime").is_none());
        assert!(at(88).get("vcpus").is_none() && at(88).get("uptime").is_some());
    }

    #[test]
    fn clusters_show_as_aggregates() {
        let hosts = [host("a", "z1"), host("b", "z1"), host("c", "z2")];
        let shown = aggregates(&hosts, Microversion::new(2, 41));
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[0]["hosts"], json!(["a", "b"]));
        assert_ne!(shown[0]["uuid"], shown[1]["uuid"]);
    }
}
