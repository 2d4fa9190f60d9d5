//! Documents reach the hosts concerned and no others; numbers and addresses rest until every host
//! has let go of them.

use std::collections::BTreeSet;

use cloud_types::{Fault, ServerId};
use host_documents::Host;
use host_protocol::{Attachment, DocumentKind, NeighbourSpec, NetworkSpec, PortSpec, Remote};
use serde_json::json;

use crate::NicRequest;
use crate::test_support::{Cloud, address, id, on_both};

/// The IPv4 addresses that the port's rules let in or out by group: what its host finds for them in
/// its documents.
async fn remotes(cloud: &Cloud, host: &Host, spec: &PortSpec) -> Vec<String> {
    let groups: Vec<&String> = spec
        .security_rules
        .iter()
        .filter_map(|rule| match &rule.remote {
            Remote::Group(group) if !rule.ipv6 => Some(group),
            _ => None,
        })
        .collect();
    let in_groups = |named: &[String]| groups.iter().any(|group| named.contains(group));
    let ports: Vec<PortSpec> = cloud.specs(host, DocumentKind::Port).await;
    let here = ports
        .iter()
        .filter(|port| port.network_id == spec.network_id && in_groups(&port.security_groups))
        .flat_map(|port| port.fixed_ips.iter().map(|fixed| fixed.ip));
    let neighbours: Vec<NeighbourSpec> = cloud.specs(host, DocumentKind::Neighbour).await;
    let elsewhere = neighbours
        .iter()
        .filter(|port| port.network_id == spec.network_id && in_groups(&port.security_groups))
        .flat_map(|port| port.ips.iter().copied());
    let mut found: Vec<String> = here.chain(elsewhere).map(|ip| ip.to_string()).collect();
    found.sort();
    found
}

/// Which documents the hosts have, in which version.
async fn generations(cloud: &Cloud, hosts: &[Host]) -> BTreeSet<(String, String, u64)> {
    let mut found = BTreeSet::new();
    for host in hosts {
        for kind in DocumentKind::ALL {
            for document in cloud.documents(host, kind).await {
                found.insert((host.name.clone(), document.id, document.generation));
            }
        }
    }
    found
}

on_both! {
async fn two_hosts_hear_of_each_others_ports_and_a_third_of_none(cloud: Cloud) {
    let (a, b, c) =
        (cloud.host("a", "l2").await, cloud.host("b", "l2").await, cloud.host("c", "l2").await);
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let (_, on_a) = cloud.boot(network, &a).await;
    assert!(cloud.documents(&b, DocumentKind::Network).await.is_empty());
    let (_, on_b) = cloud.boot(network, &b).await;

    for (host, own, other) in [(&a, &on_a, &on_b), (&b, &on_b, &on_a)] {
        let networks: Vec<NetworkSpec> = cloud.specs(host, DocumentKind::Network).await;
        assert_eq!(networks.len(), 1);
        assert_eq!(networks[0].mtu, 1500);
        assert_eq!(networks[0].subnets.len(), 1);
        let ports: Vec<PortSpec> = cloud.specs(host, DocumentKind::Port).await;
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].port_id, own.id.to_string());
        assert_eq!(ports[0].hostname, "web-1");
        assert_eq!(ports[0].attachment, Attachment::Tap);
        assert!(ports[0].port_number >= 1);
        // The default group lets its members in: both, whichever was bound first.
        let mut wanted =
            [on_a.fixed_ips[0].1, on_b.fixed_ips[0].1].map(|ip| ip.to_string()).to_vec();
        wanted.sort();
        assert_eq!(remotes(&cloud, host, &ports[0]).await, wanted);
        let neighbours: Vec<NeighbourSpec> = cloud.specs(host, DocumentKind::Neighbour).await;
        assert_eq!(neighbours.len(), 1);
        assert_eq!(neighbours[0].port_id, other.id.to_string());
        assert_eq!(neighbours[0].ips, [other.fixed_ips[0].1]);
    }
    for kind in [DocumentKind::Network, DocumentKind::Port, DocumentKind::Neighbour] {
        assert!(cloud.documents(&c, kind).await.is_empty());
    }
}

async fn the_last_port_takes_network_and_neighbours_with_it(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let (first, _) = cloud.boot(network, &a).await;
    let (second, _) = cloud.boot(network, &a).await;
    let (_, stays) = cloud.boot(network, &b).await;
    cloud.release(first).await;
    assert_eq!(cloud.specs::<NetworkSpec>(&a, DocumentKind::Network).await.len(), 1);
    assert_eq!(cloud.specs::<NeighbourSpec>(&b, DocumentKind::Neighbour).await.len(), 1);
    cloud.release(second).await;
    for kind in [DocumentKind::Network, DocumentKind::Port, DocumentKind::Neighbour] {
        let left = cloud.documents(&a, kind).await;
        assert!(!left.is_empty() && left.iter().all(|document| document.tombstone), "{kind}");
    }
    assert!(cloud.specs::<NeighbourSpec>(&b, DocumentKind::Neighbour).await.is_empty());
    let ports: Vec<PortSpec> = cloud.specs(&b, DocumentKind::Port).await;
    assert_eq!(remotes(&cloud, &b, &ports[0]).await, [stays.fixed_ips[0].1.to_string()]);
}

async fn a_port_that_comes_or_goes_costs_one_document_for_each_host_of_its_network(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let hosts = [a.clone(), b.clone(), cloud.host("c", "l2").await];
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    // All of them in the default group, whose rules are about its own members.
    for _ in 0..2 {
        cloud.boot(network, &a).await;
        cloud.boot(network, &b).await;
    }
    let mut costs = Vec::new();
    for _ in 0..2 {
        let server = ServerId::random();
        let nic = NicRequest { network: Some(network), ..NicRequest::default() };
        let port = cloud.prepare(server, vec![nic], &[]).await.unwrap().remove(0);
        let before = generations(&cloud, &hosts).await;
        cloud.bind(port.id, &a).await.unwrap();
        let bound = generations(&cloud, &hosts).await;
        cloud.release(server).await;
        let released = generations(&cloud, &hosts).await;
        costs.push((bound.difference(&before).count(), released.difference(&bound).count()));
        // More members, and the same cost.
        for _ in 0..4 {
            cloud.boot(network, &a).await;
        }
    }
    assert_eq!(costs, [(2, 2), (2, 2)]);
    for host in [&a, &b] {
        let ports: Vec<PortSpec> = cloud.specs(host, DocumentKind::Port).await;
        for port in &ports {
            assert_eq!(remotes(&cloud, host, port).await.len(), 12, "everybody knows everybody");
        }
    }
}

async fn a_port_that_changes_its_groups_is_another_neighbour(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let (_, leaves) = cloud.boot(network, &a).await;
    let (_, stays) = cloud.boot(network, &b).await;
    let path = format!("/v2.0/ports/{}", leaves.id);
    let body = Some(json!({"port": {"security_groups": []}}));
    assert_eq!(cloud.call("alice", "PUT", &path, body).await.0, 200);
    let ports: Vec<PortSpec> = cloud.specs(&b, DocumentKind::Port).await;
    assert_eq!(remotes(&cloud, &b, &ports[0]).await, [stays.fixed_ips[0].1.to_string()]);
}

async fn saying_the_same_again_changes_no_document(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let (_, port) = cloud.boot(network, &a).await;
    cloud.boot(network, &b).await;
    let kinds = [DocumentKind::Network, DocumentKind::Port, DocumentKind::Neighbour];
    let mut before = Vec::new();
    for kind in kinds {
        before.extend(cloud.documents(&a, kind).await);
        before.extend(cloud.documents(&b, kind).await);
    }
    cloud.bind(port.id, &a).await.unwrap();
    let body = Some(json!({"subnet": {"description": "x"}}));
    assert_eq!(cloud.call("alice", "PUT", &format!("/v2.0/subnets/{subnet}"), body).await.0, 200);
    let mut after = Vec::new();
    for kind in kinds {
        after.extend(cloud.documents(&a, kind).await);
        after.extend(cloud.documents(&b, kind).await);
    }
    assert_eq!(before, after);
    let body = Some(json!({"subnet": {"dns_nameservers": ["10.0.0.2"]}}));
    cloud.call("alice", "PUT", &format!("/v2.0/subnets/{subnet}"), body).await;
    let networks: Vec<NetworkSpec> = cloud.specs(&b, DocumentKind::Network).await;
    assert_eq!(networks[0].subnets[0].dns_nameservers.len(), 1);
}

async fn a_changed_rule_reaches_the_ports_of_its_group_and_no_others(cloud: Cloud) {
    let a = cloud.host("a", "l2").await;
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let group = cloud
        .make("alice", "/v2.0/security-groups", "security_group", json!({"name": "web"}))
        .await;
    let server = ServerId::random();
    let nic = NicRequest { network: Some(network), ..NicRequest::default() };
    let inside = cloud.prepare(server, vec![nic], &["web"]).await.unwrap().remove(0);
    cloud.bind(inside.id, &a).await.unwrap();
    let (_, outside) = cloud.boot(network, &a).await;
    let generations = |documents: Vec<host_protocol::Document>| {
        let of = |port: &crate::Port| {
            documents.iter().find(|d| d.id == port.id.to_string()).map(|d| d.generation).unwrap()
        };
        (of(&inside), of(&outside))
    };
    let before = generations(cloud.documents(&a, DocumentKind::Port).await);
    let rule = cloud
        .make(
            "alice",
            "/v2.0/security-group-rules",
            "security_group_rule",
            json!({"security_group_id": id(&group), "direction": "ingress", "protocol": "tcp",
                   "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "192.0.2.7/24"}),
        )
        .await;
    assert_eq!(rule["normalized_cidr"], "192.0.2.0/24");
    let after = generations(cloud.documents(&a, DocumentKind::Port).await);
    assert!(after.0 > before.0, "the member's document is new");
    assert_eq!(after.1, before.1, "the other's is not");
    let specs: Vec<PortSpec> = cloud.specs(&a, DocumentKind::Port).await;
    let spec = specs.iter().find(|spec| spec.port_id == inside.id.to_string()).unwrap();
    let opened = spec.security_rules.iter().find(|rule| rule.port_min == Some(22)).unwrap();
    assert_eq!(opened.protocol, Some(6));
    assert_eq!(opened.remote, Remote::Range("192.0.2.0/24".parse().unwrap()));
    let path = format!("/v2.0/security-group-rules/{}", id(&rule));
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    let specs: Vec<PortSpec> = cloud.specs(&a, DocumentKind::Port).await;
    assert!(specs.iter().all(|s| s.security_rules.iter().all(|r| r.port_min != Some(22))));
}

async fn a_number_and_an_address_rest_until_every_host_has_let_go(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    // Four usable addresses: gateway, and three for ports.
    let (network, subnet) = cloud.network_with("10.0.0.0/29").await;
    let (server, port) = cloud.boot(network, &a).await;
    cloud.boot(network, &b).await;
    let ip = port.fixed_ips[0].1;
    cloud.release(server).await;

    let again = json!({"network_id": network,
        "fixed_ips": [{"subnet_id": subnet, "ip_address": ip.to_string()}]});
    let wanted = Some(json!({ "port": again.clone() }));
    let taken = "IpAddressAlreadyAllocated";
    cloud.refused("alice", "POST", "/v2.0/ports", wanted.clone(), 409, taken).await;
    cloud.report(&a, DocumentKind::Port, &port.id.to_string()).await;
    cloud.refused("alice", "POST", "/v2.0/ports", wanted.clone(), 409, taken).await;
    let count = || async {
        cloud
            .transact(|tx| {
                Box::pin(async move {
                    let rows = tx.query("SELECT number FROM locator_numbers", &[]).await?;
                    Ok::<_, Fault>(rows.len())
                })
            })
            .await
            .unwrap()
    };
    // The network's, the other port's, and the quarantined one.
    assert_eq!(count().await, 3);
    cloud.report(&b, DocumentKind::Neighbour, &port.id.to_string()).await;
    assert_eq!(count().await, 2);
    let port = cloud.make("alice", "/v2.0/ports", "port", again).await;
    assert_eq!(address(&port), ip);
}

async fn a_number_is_free_when_the_last_two_hosts_let_go_at_the_same_moment(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let (server, port) = cloud.boot(network, &a).await;
    cloud.boot(network, &b).await;
    cloud.release(server).await;
    let of = [(&a, DocumentKind::Port), (&b, DocumentKind::Neighbour)];
    cloud.report_together(of, &port.id.to_string()).await;
    let ip = port.fixed_ips[0].1.to_string();
    let body = json!({"port": {"network_id": network,
        "fixed_ips": [{"subnet_id": subnet, "ip_address": ip}]}});
    let (status, answer) = cloud.call("alice", "POST", "/v2.0/ports", Some(body)).await;
    assert_eq!(status, 201, "{answer}");
}

async fn a_lost_host_is_waited_for_until_an_operator_says_so(cloud: Cloud) {
    let a = cloud.host("a", "l2").await;
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let (server, port) = cloud.boot(network, &a).await;
    cloud.release(server).await;
    let ip = port.fixed_ips[0].1.to_string();
    let body = json!({"port": {"network_id": network,
        "fixed_ips": [{"subnet_id": subnet, "ip_address": ip}]}});
    let taken = "IpAddressAlreadyAllocated";
    cloud.refused("alice", "POST", "/v2.0/ports", Some(body.clone()), 409, taken).await;
    let (service, host) = (cloud.network.clone(), a.id);
    cloud
        .transact(move |tx| {
            let service = service.clone();
            Box::pin(async move { service.forget_host(tx, &host).await })
        })
        .await
        .unwrap();
    assert_eq!(cloud.call("alice", "POST", "/v2.0/ports", Some(body)).await.0, 201);
}

async fn a_port_is_active_when_its_host_says_so_and_only_that_host(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let (_, port) = cloud.boot(network, &a).await;
    cloud.boot(network, &b).await;
    let path = format!("/v2.0/ports/{}", port.id);
    cloud.report(&b, DocumentKind::Neighbour, &port.id.to_string()).await;
    assert_eq!(cloud.get("alice", &path).await["port"]["status"], "DOWN");
    cloud.report_all(&a).await;
    let shown = cloud.get("alice", &path).await["port"].clone();
    assert_eq!(shown["status"], "ACTIVE");
    assert_eq!(shown["device_owner"], "compute:zone-1");
    assert!(shown.get("binding:host_id").is_none(), "where it lives is for operators");
    assert_eq!(cloud.get("admin", &path).await["port"]["binding:host_id"], "a");
}

async fn an_operators_port_is_plugged_in_at_once_and_leaves_when_deleted(cloud: Cloud) {
    let a = cloud.host("a", "l2").await;
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let body = json!({"network_id": network, "device_owner": "meridian:access",
        "binding:host_id": "a"});
    let refused = Some(json!({ "port": body.clone() }));
    cloud.refused("alice", "POST", "/v2.0/ports", refused, 403, "PolicyNotAuthorized").await;
    let port = cloud.make("admin", "/v2.0/ports", "port", body).await;
    assert_eq!(port["binding:vif_type"], "ovs");
    let specs: Vec<PortSpec> = cloud.specs(&a, DocumentKind::Port).await;
    let name = format!("mer-{}", &network.to_string()[..8]);
    assert_eq!(specs[0].attachment, Attachment::Namespace { name });
    assert_eq!(specs[0].server_id, None);
    // It does not keep its network from being deleted, and goes with it.
    let path = format!("/v2.0/networks/{network}");
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    assert!(cloud.documents(&a, DocumentKind::Port).await.iter().all(|d| d.tombstone));
    let unknown = json!({"port": {"network_id": cloud.network_with("10.0.1.0/24").await.0,
        "device_owner": "meridian:access", "binding:host_id": "nowhere"}});
    cloud.refused("admin", "POST", "/v2.0/ports", Some(unknown), 400, "HTTPBadRequest").await;
}

async fn a_network_does_not_span_l2_domains(cloud: Cloud) {
    let (a, far) = (cloud.host("a", "l2").await, cloud.host("far", "other").await);
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let (_, port) = cloud.boot(network, &a).await;
    let nic = NicRequest { network: Some(network), ..NicRequest::default() };
    let second = cloud.prepare(ServerId::random(), vec![nic], &[]).await.unwrap().remove(0);
    let fault = cloud.bind(second.id, &far).await.unwrap_err();
    assert_eq!(fault.name.as_deref(), Some("PortBindingFailed"));
    let (service, ids) = (cloud.network.clone(), [port.id, second.id]);
    let domain = cloud
        .transact(move |tx| {
            let service = service.clone();
            Box::pin(async move { service.l2_domain_of_ports(tx, &ids).await })
        })
        .await
        .unwrap();
    assert_eq!(domain.as_deref(), Some("l2"));
}

async fn a_changed_port_is_news_for_its_neighbours(cloud: Cloud) {
    let (a, b) = (cloud.host("a", "l2").await, cloud.host("b", "l2").await);
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let (_, port) = cloud.boot(network, &a).await;
    cloud.boot(network, &b).await;
    let body = json!({"port": {
        "fixed_ips": [{"subnet_id": subnet, "ip_address": "10.0.0.77"}],
        "allowed_address_pairs": [{"ip_address": "10.0.0.200"}],
    }});
    let (status, answer) =
        cloud.call("alice", "PUT", &format!("/v2.0/ports/{}", port.id), Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    let neighbours: Vec<NeighbourSpec> = cloud.specs(&b, DocumentKind::Neighbour).await;
    assert_eq!(neighbours[0].ips, ["10.0.0.77".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(neighbours[0].allowed_address_pairs[0].0.to_string(), "10.0.0.200/32");
    let ports: Vec<PortSpec> = cloud.specs(&b, DocumentKind::Port).await;
    let seen = remotes(&cloud, &b, &ports[0]).await;
    assert!(seen.contains(&"10.0.0.77".into()), "{seen:?}");
    assert!(!seen.contains(&port.fixed_ips[0].1.to_string()), "{seen:?}");
}
async fn ports_bound_and_released_at_once_leave_every_host_with_the_whole_picture(cloud: Cloud) {
    let mut hosts = Vec::new();
    for name in ["a", "b", "c"] {
        hosts.push(cloud.host(name, "l2").await);
    }
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    // The first half comes and goes while the second half comes and stays.
    let tasks: Vec<_> = (0..12usize)
        .map(|at| {
            let (cloud, host) = (cloud.clone(), hosts[at % 3].clone());
            tokio::spawn(async move {
                let (server, port) = cloud.boot(network, &host).await;
                if at < 6 {
                    cloud.release(server).await;
                    return None;
                }
                Some((host.host_number, port))
            })
        })
        .collect();
    let mut stay = Vec::new();
    for task in tasks {
        stay.extend(task.await.unwrap());
    }
    assert_eq!(stay.len(), 6);
    let mut everybody: Vec<String> =
        stay.iter().map(|(_, port)| port.fixed_ips[0].1.to_string()).collect();
    everybody.sort();
    for host in &hosts {
        let mut here = Vec::new();
        for spec in cloud.specs::<PortSpec>(host, DocumentKind::Port).await {
            assert_eq!(remotes(&cloud, host, &spec).await, everybody, "host {}", host.name);
            here.push(spec.port_id);
        }
        let mut there: Vec<String> = cloud
            .specs::<NeighbourSpec>(host, DocumentKind::Neighbour)
            .await
            .into_iter()
            .map(|spec| spec.port_id)
            .collect();
        here.sort();
        there.sort();
        let wanted = |own: bool| {
            let mut ids: Vec<String> = stay
                .iter()
                .filter(|(number, _)| (*number == host.host_number) == own)
                .map(|(_, port)| port.id.to_string())
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(here, wanted(true), "host {}", host.name);
        assert_eq!(there, wanted(false), "host {}", host.name);
    }
}
async fn servers_with_two_nics_are_bound_in_one_order_of_locks(cloud: Cloud) {
    let host = cloud.host("a", "l2").await;
    let (one, _) = cloud.network_with("10.0.0.0/24").await;
    let (two, _) = cloud.network_with("10.0.1.0/24").await;
    let tasks: Vec<_> = (0..8)
        .map(|at| {
            let (cloud, host) = (cloud.clone(), host.clone());
            tokio::spawn(async move {
                let order = if at % 2 == 0 { [one, two] } else { [two, one] };
                let nics = order
                    .map(|id| NicRequest { network: Some(id), ..NicRequest::default() })
                    .to_vec();
                let server = ServerId::random();
                let ports = cloud.prepare(server, nics, &[]).await.unwrap();
                let network = cloud.network.clone();
                cloud
                    .transact(move |tx| {
                        let (network, host, ports) = (network.clone(), host.clone(), ports.clone());
                        Box::pin(async move {
                            for port in &ports {
                                network.bind_port(tx, &port.id, &host).await?;
                            }
                            Ok(())
                        })
                    })
                    .await
                    .unwrap();
                cloud.release(server).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let metrics = cloud.db.metrics();
    assert_eq!(metrics.lock_order_inversions, 0, "locks were taken in two orders");
    assert_eq!(metrics.retried, 0, "transactions waited for each other in a circle");
}
}
