//! What the scheduler promises, over random clouds: it never over-commits, never breaks a filter,
//! accounts for every host, and names a size that really fits.

use proptest::prelude::*;

use super::*;
use cloud_types::HostId;

fn host(number: u128) -> HostView {
    HostView {
        id: HostId::from(uuid::Uuid::from_u128(number)),
        name: format!("host-{number}"),
        zone: "a".into(),
        l2_domain: "l2".into(),
        architecture: "x86_64".into(),
        enabled: true,
        alive: true,
        capacity: Some(Resources { vcpus: 4, memory_mib: 8192, disk_gib: 100 }),
        used: Resources::default(),
        servers: 0,
    }
}

fn request(vcpus: u64, memory_mib: u64, disk_gib: u64) -> Request {
    Request { resources: Resources { vcpus, memory_mib, disk_gib }, ..Request::default() }
}

#[test]
fn the_emptier_host_wins() {
    let mut full = host(1);
    full.used.memory_mib = 4096;
    let decision = schedule(&request(1, 512, 1), &[full, host(2)], Ratios::default()).unwrap();
    assert_eq!(decision.name, "host-2");
    assert!(
        decision.explanation.starts_with("2 of 2 hosts could take 1 vCPU"),
        "{}",
        decision.explanation
    );
}

#[test]
fn a_refusal_names_each_filter_and_what_would_fit() {
    let mut disabled = host(1);
    disabled.enabled = false;
    let mut silent = host(2);
    silent.alive = false;
    let mut elsewhere = host(3);
    elsewhere.zone = "b".into();
    let mut busy = host(4);
    busy.used.memory_mib = 6144;
    let mut wanted = request(2, 4096, 10);
    wanted.zone = Some("a".into());
    let refusal =
        schedule(&wanted, &[disabled, silent, elsewhere, busy], Ratios::default()).unwrap_err();
    assert_eq!(
        refusal.refused,
        [(Filter::Enabled, 1), (Filter::Alive, 1), (Filter::Zone, 1), (Filter::Memory, 1)]
    );
    assert_eq!(
        refusal.to_string(),
        "No host fits 2 vCPU, 4096 MiB of memory, 10 GiB of disk. Of 4 hosts, \
         1 was disabled by an operator (enabled), 1 was not in contact (alive), \
         1 was in another availability zone (availability_zone), 1 was short of memory (memory). \
         The largest server of this shape that fits now: 1 vCPU, 2048 MiB of memory, 5 GiB of disk."
    );
}

#[test]
fn what_would_fit_keeps_one_of_each_that_the_shape_has() {
    let refusal = schedule(&request(512, 4096, 1), &[host(1)], Ratios::default()).unwrap_err();
    let largest = refusal.largest.unwrap().resources;
    assert_eq!(largest.disk_gib, 1, "a part of 1 GiB is still a disk");
    assert!(
        schedule(
            &request(largest.vcpus, largest.memory_mib, largest.disk_gib),
            &[host(1)],
            Ratios::default()
        )
        .is_ok()
    );
}

#[test]
fn a_cloud_without_hosts_says_so() {
    let refusal = schedule(&request(1, 64, 0), &[], Ratios::default()).unwrap_err();
    assert!(refusal.to_string().contains("no hosts yet"));
}

#[test]
fn hosts_that_failed_are_not_tried_again() {
    let mut wanted = request(1, 64, 0);
    wanted.tried.insert(host(1).id);
    let decision = schedule(&wanted, &[host(1), host(2)], Ratios::default()).unwrap();
    assert_eq!(decision.name, "host-2");
    wanted.tried.insert(host(2).id);
    let refusal = schedule(&wanted, &[host(1), host(2)], Ratios::default()).unwrap_err();
    assert_eq!(refusal.refused, [(Filter::NotTried, 2)]);
    assert_eq!(refusal.largest, None);
}

#[test]
fn an_architecture_has_one_spelling() {
    let mut wanted = request(1, 64, 0);
    wanted.architecture = Some("amd64".into());
    assert!(schedule(&wanted, &[host(1)], Ratios::default()).is_ok());
    wanted.architecture = Some("aarch64".into());
    assert!(schedule(&wanted, &[host(1)], Ratios::default()).is_err());
}

prop_compose! {
    fn any_resources(vcpus: u64, memory: u64, disk: u64)(
        vcpus in 0..=vcpus, memory_mib in 0..=memory, disk_gib in 0..=disk,
    ) -> Resources {
        Resources { vcpus, memory_mib, disk_gib }
    }
}

prop_compose! {
    fn any_host()(
        number in 1u128..40,
        zone in 0u8..2,
        domain in 0u8..2,
        enabled in prop::bool::weighted(0.8),
        alive in prop::bool::weighted(0.8),
        known in prop::bool::weighted(0.9),
        capacity in any_resources(64, 200_000, 2_000),
        used in any_resources(80, 220_000, 2_200),
        servers in 0u64..50,
    ) -> HostView {
        HostView {
            zone: format!("z{zone}"),
            l2_domain: format!("d{domain}"),
            enabled,
            alive,
            capacity: known.then_some(capacity),
            used,
            servers,
            ..host(number)
        }
    }
}

prop_compose! {
    fn any_request()(
        resources in any_resources(32, 100_000, 1_000),
        zone in prop::option::of(0u8..3),
        domain in prop::option::of(0u8..3),
        tried in prop::collection::btree_set(1u128..40, 0..4),
        tie_breaker in any::<u64>(),
    ) -> Request {
        Request {
            resources: Resources {
                vcpus: resources.vcpus.max(1),
                memory_mib: resources.memory_mib.max(1),
                ..resources
            },
            zone: zone.map(|zone| format!("z{zone}")),
            host: None,
            l2_domains: domain.map(|domain| [format!("d{domain}")].into()),
            architecture: None,
            tried: tried.into_iter().map(|number| host(number).id).collect(),
            tie_breaker,
        }
    }
}

/// An independent statement of what fits, to judge the scheduler by.
fn fits(request: &Request, host: &HostView, ratios: Ratios) -> bool {
    let Some(capacity) = host.capacity else { return false };
    let wanted = request.resources;
    host.enabled
        && host.alive
        && request.zone.as_ref().is_none_or(|zone| *zone == host.zone)
        && request.l2_domains.as_ref().is_none_or(|domains| domains.contains(&host.l2_domain))
        && !request.tried.contains(&host.id)
        && (host.used.vcpus + wanted.vcpus) * 100 <= capacity.vcpus * ratios.vcpu_percent
        && (host.used.memory_mib + wanted.memory_mib) * 100
            <= capacity.memory_mib * ratios.memory_percent
        && (wanted.disk_gib == 0
            || (host.used.disk_gib + wanted.disk_gib) * 100
                <= capacity.disk_gib * ratios.disk_percent)
}

proptest! {
    #[test]
    fn a_decision_fits_and_a_refusal_is_true(
        request in any_request(),
        hosts in prop::collection::vec(any_host(), 0..12),
        vcpu_percent in 100u64..1700,
    ) {
        let ratios = Ratios { vcpu_percent, ..Ratios::default() };
        match schedule(&request, &hosts, ratios) {
            Ok(decision) => {
                prop_assert!(hosts
                    .iter()
                    .any(|host| host.id == decision.host && fits(&request, host, ratios)));
            }
            Err(refusal) => {
                prop_assert!(!hosts.iter().any(|host| fits(&request, host, ratios)));
                let counted: usize = refusal.refused.iter().map(|(_, count)| count).sum();
                prop_assert_eq!(counted, hosts.len(), "every host is accounted for once");
                if let Some(largest) = refusal.largest {
                    let smaller = Request { resources: largest.resources, ..request.clone() };
                    prop_assert!(schedule(&smaller, &hosts, ratios).is_ok());
                    // and it is the largest: the next size of the same shape does not fit
                    let wanted = request.resources;
                    let step = |amount: u64, of: u64, whole: u64| {
                        (u128::from(amount) * u128::from(of) / u128::from(whole)) as u64
                    };
                    let memory_mib = largest.resources.memory_mib + 2 + wanted.memory_mib / wanted.vcpus;
                    if memory_mib <= wanted.memory_mib {
                        let next = Request {
                            resources: Resources {
                                vcpus: step(wanted.vcpus, memory_mib, wanted.memory_mib).max(1),
                                memory_mib,
                                disk_gib: step(wanted.disk_gib, memory_mib, wanted.memory_mib),
                            },
                            ..request.clone()
                        };
                        let whole_shape = next.resources.disk_gib > 0 || wanted.disk_gib == 0;
                        // steps too small to change a whole number of GiB prove nothing
                        let coarse = next.resources.vcpus <= 1
                            || (wanted.disk_gib > 0 && wanted.disk_gib < wanted.vcpus);
                        prop_assert!(
                            coarse || !whole_shape || schedule(&next, &hosts, ratios).is_err(),
                            "{:?} fits although {:?} was called the largest", next.resources, largest
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_hosts_does_not_matter(
        request in any_request(),
        mut hosts in prop::collection::vec(any_host(), 0..12),
    ) {
        hosts.sort_by_key(|host| host.id);
        hosts.dedup_by_key(|host| host.id);
        let forward = schedule(&request, &hosts, Ratios::default());
        hosts.reverse();
        prop_assert_eq!(forward, schedule(&request, &hosts, Ratios::default()));
    }

    #[test]
    fn claims_never_exceed_what_may_be_promised(
        requests in prop::collection::vec(any_request(), 1..40),
        mut hosts in prop::collection::vec(any_host(), 1..6),
    ) {
        hosts.sort_by_key(|host| host.id);
        hosts.dedup_by_key(|host| host.id);
        for host in &mut hosts {
            host.used = Resources::default();
        }
        let ratios = Ratios::default();
        for request in &requests {
            if let Ok(decision) = schedule(request, &hosts, ratios) {
                let host = hosts.iter_mut().find(|host| host.id == decision.host).unwrap();
                host.used.vcpus += request.resources.vcpus;
                host.used.memory_mib += request.resources.memory_mib;
                host.used.disk_gib += request.resources.disk_gib;
                host.servers += 1;
            }
        }
        for host in &hosts {
            let allowed = ratios.allowed(host.capacity.unwrap_or_default());
            prop_assert!(host.used.vcpus <= allowed.vcpus);
            prop_assert!(host.used.memory_mib <= allowed.memory_mib);
            prop_assert!(host.used.disk_gib <= allowed.disk_gib);
        }
    }
}
