//! Allocation through the API: no address twice, none lost, none outside its range.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::test_support::{Cloud, address, id, on_both};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

on_both! {
async fn fifty_creates_at_once_fill_a_small_subnet_exactly(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/27").await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let cloud = cloud.clone();
            tokio::spawn(async move {
                let body = json!({"port": {"network_id": network}});
                cloud.call("alice", "POST", "/v2.0/ports", Some(body)).await
            })
        })
        .collect();
    let mut given = BTreeSet::new();
    let mut refused = 0;
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        if status == 201 {
            assert!(given.insert(address(&answer["port"])), "given twice: {answer}");
        } else {
            assert_eq!(status, 409, "{answer}");
            assert_eq!(answer["NeutronError"]["type"], "IpAddressGenerationFailure");
            refused += 1;
        }
    }
    // 32, less network, broadcast and gateway.
    assert_eq!((given.len(), refused), (29, 21));
    let ports = cloud.get("alice", "/v2.0/ports").await["ports"].as_array().unwrap().len();
    assert_eq!(ports, 29, "what was refused left nothing behind");
    let quota = cloud.get("alice", "/v2.0/quotas/p-alice/details.json").await;
    assert_eq!(quota["quota"]["port"]["used"], 29);
}

async fn any_history_of_ports_leaves_every_address_with_one_port_or_none(cloud: Cloud) {
    for seed in 0..8u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let (network, subnet) = cloud.network_with("10.0.0.0/28").await;
        let mut ports: Vec<Value> = Vec::new();
        for _ in 0..60 {
            match random.random_range(0..4) {
                0 | 1 => {
                    let wish = random.random_bool(0.4);
                    let last: u8 = random.random_range(0..=16);
                    let mut body = json!({"network_id": network});
                    if wish {
                        let wanted = format!("10.0.0.{last}");
                        body["fixed_ips"] = json!([{"subnet_id": subnet, "ip_address": wanted}]);
                    }
                    let body = json!({ "port": body });
                    let (status, answer) =
                        cloud.call("alice", "POST", "/v2.0/ports", Some(body)).await;
                    let held = |n: u8| {
                        ports.iter().any(|port| address(port) == ip(&format!("10.0.0.{n}")))
                    };
                    let possible = if wish {
                        (2..=14).contains(&last) && !held(last)
                    } else {
                        ports.len() < 13
                    };
                    assert_eq!(status == 201, possible, "seed {seed}: {answer}");
                    if status == 201 {
                        ports.push(answer["port"].clone());
                    }
                }
                2 if !ports.is_empty() => {
                    let gone = ports.swap_remove(random.random_range(0..ports.len()));
                    let path = format!("/v2.0/ports/{}", id(&gone));
                    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
                }
                3 if !ports.is_empty() => {
                    let at = random.random_range(0..ports.len());
                    let last: u8 = random.random_range(2..=14);
                    let wanted = ip(&format!("10.0.0.{last}"));
                    let free = ports
                        .iter()
                        .enumerate()
                        .all(|(other, port)| other == at || address(port) != wanted);
                    let path = format!("/v2.0/ports/{}", id(&ports[at]));
                    let wish = json!([{"subnet_id": subnet, "ip_address": wanted}]);
                    let body = json!({"port": {"fixed_ips": wish}});
                    let (status, answer) = cloud.call("alice", "PUT", &path, Some(body)).await;
                    assert_eq!(status == 200, free, "seed {seed}: {answer}");
                    if free {
                        ports[at] = answer["port"].clone();
                    }
                }
                _ => {}
            }
            let held: BTreeSet<IpAddr> = ports.iter().map(address).collect();
            assert_eq!(held.len(), ports.len(), "seed {seed}");
        }
        // Nothing was lost: the rest of the subnet can still be given away, and then it is full.
        while ports.len() < 13 {
            ports.push(cloud.port_on(network, json!({})).await);
        }
        let body = Some(json!({"port": {"network_id": network}}));
        let full = "IpAddressGenerationFailure";
        cloud.refused("alice", "POST", "/v2.0/ports", body, 409, full).await;
    }
}

async fn a_released_address_rests_while_there_are_fresh_ones(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/29").await;
    let first = cloud.port_on(network, json!({})).await;
    assert_eq!(address(&first), ip("10.0.0.2"));
    let path = format!("/v2.0/ports/{}", id(&first));
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    for wanted in ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"] {
        assert_eq!(address(&cloud.port_on(network, json!({})).await), ip(wanted));
    }
}

async fn pools_are_obeyed_and_can_be_changed(cloud: Cloud) {
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let path = format!("/v2.0/subnets/{subnet}");
    let set = |start: &str, end: &str| {
        Some(json!({"subnet": {"allocation_pools": [{"start": start, "end": end}]}}))
    };
    assert_eq!(cloud.call("alice", "PUT", &path, set("10.0.0.9", "10.0.0.10")).await.0, 200);
    for wanted in ["10.0.0.9", "10.0.0.10"] {
        assert_eq!(address(&cloud.port_on(network, json!({})).await), ip(wanted));
    }
    let body = Some(json!({"port": {"network_id": network}}));
    let full = "IpAddressGenerationFailure";
    cloud.refused("alice", "POST", "/v2.0/ports", body, 409, full).await;
    let outside = json!({"fixed_ips": [{"subnet_id": subnet, "ip_address": "10.0.0.200"}]});
    cloud.port_on(network, outside).await;
    assert_eq!(cloud.call("alice", "PUT", &path, set("10.0.0.10", "10.0.0.11")).await.0, 200);
    assert_eq!(address(&cloud.port_on(network, json!({})).await), ip("10.0.0.11"));
    let bad = set("10.0.0.1", "10.0.0.11");
    let conflict = "GatewayConflictWithAllocationPools";
    cloud.refused("alice", "PUT", &path, bad, 409, conflict).await;
}

async fn a_port_gets_one_address_of_each_family_and_every_automatic_one(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let earlier = cloud.port_on(network, json!({})).await;
    for (cidr, mode) in [("fd00:1::/64", "slaac"), ("fd00:2::/64", "dhcpv6-stateful")] {
        let body = json!({"network_id": network, "ip_version": 6, "cidr": cidr,
            "ipv6_ra_mode": mode, "ipv6_address_mode": mode});
        cloud.make("alice", "/v2.0/subnets", "subnet", body).await;
    }
    let port = cloud.port_on(network, json!({"mac_address": "fa:16:3e:01:02:03"})).await;
    let mut ips: Vec<String> = port["fixed_ips"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fixed| fixed["ip_address"].as_str().unwrap().to_owned())
        .collect();
    ips.sort();
    assert_eq!(ips, ["10.0.0.3", "fd00:1::f816:3eff:fe01:203", "fd00:2::2"]);
    let earlier = cloud.get("alice", &format!("/v2.0/ports/{}", id(&earlier))).await;
    assert_eq!(earlier["port"]["fixed_ips"].as_array().unwrap().len(), 2);
}

async fn wishes_that_cannot_be_met_are_refused_by_name(cloud: Cloud) {
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let (_, foreign) = cloud.network_with("10.1.0.0/24").await;
    cloud.port_on(network, json!({"fixed_ips": [{"ip_address": "10.0.0.50"}]})).await;
    for (wish, status, name) in [
        (json!({"ip_address": "10.9.0.1"}), 400, "InvalidIpForNetwork"),
        (json!({"subnet_id": subnet, "ip_address": "10.1.0.9"}), 400, "InvalidIpForSubnet"),
        (json!({"subnet_id": subnet, "ip_address": "10.0.0.255"}), 400, "InvalidIpForSubnet"),
        (json!({"subnet_id": foreign}), 400, "InvalidInput"),
        (json!({"ip_address": "10.0.0.50"}), 409, "IpAddressAlreadyAllocated"),
        (json!({"ip_address": "10.0.0.1"}), 409, "IpAddressAlreadyAllocated"),
        (json!({"ip_address": "10.0.0"}), 400, "HTTPBadRequest"),
    ] {
        let body = Some(json!({"port": {"network_id": network, "fixed_ips": [wish]}}));
        cloud.refused("alice", "POST", "/v2.0/ports", body, status, name).await;
    }
    let both = json!({"fixed_ips": [{"subnet_id": subnet}, {"ip_address": "10.0.0.2"}]});
    let port = cloud.port_on(network, both).await;
    let first = port["fixed_ips"][0]["ip_address"].as_str().unwrap();
    assert_ne!(first, "10.0.0.2", "a named address is not given to a wish that names none");
    let none = cloud.port_on(network, json!({"fixed_ips": []})).await;
    assert_eq!(none["fixed_ips"], json!([]));
}
}
