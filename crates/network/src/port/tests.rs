//! Ports through the API: names in DNS, subnets kept for kinds of port, labels and MACs.

use host_protocol::{DocumentKind, NetworkSpec, PortSpec};
use serde_json::{Value, json};

use crate::test_support::{Cloud, address, id, on_both};

const PORTS: &str = "/v2.0/ports";

on_both! {
async fn a_ports_name_is_in_the_networks_domain(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let path = format!("/v2.0/networks/{network}");
    let plain = cloud.port_on(network, json!({})).await;
    assert_eq!(plain["dns_name"], "");
    assert_eq!(
        plain["dns_assignment"],
        json!([{"ip_address": "10.0.0.2", "hostname": "host-10-0-0-2",
                "fqdn": "host-10-0-0-2.meridian.internal."}])
    );
    let domain = |text: &str| Some(json!({"network": {"dns_domain": text}}));
    let (status, answer) = cloud.call("alice", "PUT", &path, domain("Test.org.")).await;
    assert_eq!((status, &answer["network"]["dns_domain"]), (200, &json!("test.org.")));
    for bad in ["test.org", "-.", "a b."] {
        assert_eq!(cloud.call("alice", "PUT", &path, domain(bad)).await.0, 400, "{bad}");
    }
    let named = cloud.port_on(network, json!({"dns_name": "Web.test.org."})).await;
    assert_eq!(named["dns_name"], "web");
    assert_eq!(named["dns_assignment"][0]["fqdn"], "web.test.org.");
    let port = format!("{PORTS}/{}", id(&named));
    let name = |text: &str| Some(json!({"port": {"dns_name": text}}));
    let (_, answer) = cloud.call("alice", "PUT", &port, name("db")).await;
    assert_eq!(answer["port"]["dns_assignment"][0]["hostname"], "db");
    assert_eq!(cloud.call("alice", "PUT", &port, name("web.example.org.")).await.0, 400);
    let found = cloud.get("alice", &format!("{PORTS}?dns_name=db")).await;
    assert_eq!(found["ports"][0]["id"], named["id"]);
    let (_, answer) = cloud.call("alice", "PUT", &port, name("")).await;
    assert_eq!(answer["port"]["dns_name"], "");
    let fixed = Some(json!({"port": {"dns_assignment": []}}));
    assert_eq!(cloud.call("alice", "PUT", &port, fixed).await.0, 400);
}

async fn hosts_hear_of_names_domains_and_mtus(cloud: Cloud) {
    let host = cloud.host("a", "l2").await;
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let (_, port) = cloud.boot(network, &host).await;
    let path = format!("/v2.0/networks/{network}");
    let spec = || async {
        cloud.specs::<NetworkSpec>(&host, DocumentKind::Network).await.remove(0)
    };
    assert_eq!((spec().await.mtu, spec().await.dns_domain), (1500, "meridian.internal".into()));
    let change = Some(json!({"network": {"mtu": 1400, "dns_domain": "a.b."}}));
    assert_eq!(cloud.call("alice", "PUT", &path, change).await.0, 200);
    assert_eq!((spec().await.mtu, spec().await.dns_domain), (1400, "a.b".into()));
    let hostname = || async {
        cloud.specs::<PortSpec>(&host, DocumentKind::Port).await.remove(0).hostname
    };
    assert_eq!(hostname().await, "web-1", "the server's, as long as nobody says otherwise");
    let own = format!("{PORTS}/{}", port.id);
    assert_eq!(cloud.get("alice", &own).await["port"]["dns_name"], "web-1");
    let name = Some(json!({"port": {"dns_name": "front"}}));
    assert_eq!(cloud.call("alice", "PUT", &own, name).await.0, 200);
    assert_eq!(hostname().await, "front");
}

async fn hosts_hear_of_options_of_domains_and_of_rules_without_state(cloud: Cloud) {
    let host = cloud.host("a", "l2").await;
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let six = json!({"network_id": network, "ip_version": 6, "cidr": "fd00::/64",
                     "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"});
    cloud.make("alice", "/v2.0/subnets", "subnet", six).await;
    let (_, port) = cloud.boot(network, &host).await;
    let spec = || async { cloud.specs::<PortSpec>(&host, DocumentKind::Port).await.remove(0) };
    let networks: Vec<NetworkSpec> = cloud.specs(&host, DocumentKind::Network).await;
    for known in &networks[0].subnets {
        let mode = (known.subnet_id != subnet).then_some(host_protocol::Ipv6Mode::Slaac);
        assert_eq!((known.ipv6_ra_mode, known.ipv6_address_mode), (mode, mode));
    }
    let own = format!("{PORTS}/{}", port.id);
    let options = json!([{"opt_name": "bootfile-name", "opt_value": "pxelinux.0"},
                         {"opt_name": "ntp-server", "opt_value": "fd00::1", "ip_version": 6}]);
    let body = Some(json!({"port": {"extra_dhcp_opts": options, "dns_domain": "own.org."}}));
    let (status, answer) = cloud.call("alice", "PUT", &own, body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["port"]["extra_dhcp_opts"][0]["ip_version"], 4);
    assert_eq!(answer["port"]["dns_assignment"][0]["fqdn"], "web-1.own.org.");
    let told = spec().await;
    let names: Vec<_> = told.dhcp_options.iter().map(|o| (o.name.as_str(), o.ipv6)).collect();
    assert_eq!(names, [("bootfile-name", false), ("ntp-server", true)]);
    assert_eq!(told.dns_domain.as_deref(), Some("own.org"));
    let gone = json!([{"opt_name": "bootfile-name", "opt_value": null}]);
    let body = Some(json!({"port": {"extra_dhcp_opts": gone, "dns_domain": ""}}));
    assert_eq!(cloud.call("alice", "PUT", &own, body).await.0, 200);
    assert_eq!((spec().await.dhcp_options.len(), spec().await.dns_domain), (1, None));
    assert!(spec().await.security_rules.iter().all(|rule| !rule.stateless));
    let groups = "/v2.0/security-groups";
    let body = json!({"name": "g", "stateful": false});
    let group = cloud.make("alice", groups, "security_group", body).await;
    assert_eq!(group["stateful"], false);
    let mixed = [id(&group), port.security_groups[0].to_string()];
    let body = Some(json!({"port": {"security_groups": mixed}}));
    cloud.refused("alice", "PUT", &own, body, 409, "SecurityGroupConflict").await;
    let body = Some(json!({"port": {"security_groups": [id(&group)]}}));
    assert_eq!(cloud.call("alice", "PUT", &own, body).await.0, 200);
    let rules = spec().await.security_rules;
    assert!(!rules.is_empty() && rules.iter().all(|rule| rule.stateless));
    let path = format!("{groups}/{}", id(&group));
    let turn = Some(json!({"security_group": {"stateful": true}}));
    cloud.refused("alice", "PUT", &path, turn.clone(), 409, "SecurityGroupInUse").await;
    let none = Some(json!({"port": {"security_groups": []}}));
    assert_eq!(cloud.call("alice", "PUT", &own, none).await.0, 200);
    assert_eq!(cloud.call("alice", "PUT", &path, turn).await.1["security_group"]["stateful"], true);
}

async fn mtus_fit_the_wire_and_the_subnets(cloud: Cloud) {
    let make = |mtu: i64| {
        let cloud = cloud.clone();
        async move {
            cloud.call("alice", "POST", "/v2.0/networks", Some(json!({"network": {"mtu": mtu}}))).await
        }
    };
    assert_eq!(make(1501).await.0, 400);
    assert_eq!(make(0).await.1["network"]["mtu"], 1500);
    let subnet = |network: &Value, version: u8, cidr: &str| {
        Some(json!({"subnet": {"network_id": network, "ip_version": version, "cidr": cidr}}))
    };
    let conflict = "NetworkMTUSubnetConflict";
    for (mtu, version, cidr) in [(67, 4, "10.0.0.0/24"), (1279, 6, "fd00::/64")] {
        let network = make(mtu).await.1["network"]["id"].clone();
        let body = subnet(&network, version, cidr);
        cloud.refused("alice", "POST", "/v2.0/subnets", body, 409, conflict).await;
        let path = format!("/v2.0/networks/{}", network.as_str().unwrap());
        let more = Some(json!({"network": {"mtu": 1280}}));
        assert_eq!(cloud.call("alice", "PUT", &path, more).await.0, 200);
        let body = subnet(&network, version, cidr);
        assert_eq!(cloud.call("alice", "POST", "/v2.0/subnets", body).await.0, 201);
        let less = Some(json!({"network": {"mtu": mtu}}));
        cloud.refused("alice", "PUT", &path, less, 409, conflict).await;
    }
}

async fn subnets_are_kept_for_kinds_of_port(cloud: Cloud) {
    let network = id(&cloud.make("alice", "/v2.0/networks", "network", json!({})).await);
    for (cidr, types) in [
        ("10.0.1.0/24", json!(["test:one"])),
        ("10.0.2.0/24", json!(["test:two", "test:both"])),
    ] {
        let body = json!({"network_id": network, "ip_version": 4, "cidr": cidr, "service_types": types});
        let made = cloud.make("alice", "/v2.0/subnets", "subnet", body).await;
        assert_eq!(made["service_types"], types);
    }
    let network: cloud_types::NetworkId = network.parse().unwrap();
    for (owner, wanted) in [("test:one", "10.0.1.2"), ("test:two", "10.0.2.2"), ("test:both", "10.0.2.3")] {
        let port = cloud.port_on(network, json!({"device_owner": owner})).await;
        assert_eq!(address(&port).to_string(), wanted, "{owner}");
    }
    let other = Some(json!({"port": {"network_id": network, "device_owner": "test:three"}}));
    let none = "IpAddressGenerationFailureNoMatchingSubnet";
    cloud.refused("alice", "POST", PORTS, other, 409, none).await;
    let all = json!({"network_id": network, "ip_version": 4, "cidr": "10.0.3.0/24"});
    let all = cloud.make("alice", "/v2.0/subnets", "subnet", all).await;
    let port = cloud.port_on(network, json!({"device_owner": "test:three"})).await;
    assert_eq!(address(&port).to_string(), "10.0.3.2");
    let path = format!("/v2.0/subnets/{}", id(&all));
    for bad in [json!([5]), json!([""]), json!("x"), json!(["a", "a"])] {
        let body = Some(json!({"subnet": {"service_types": bad}}));
        assert_eq!(cloud.call("alice", "PUT", &path, body).await.0, 400);
    }
    let body = Some(json!({"subnet": {"service_types": ["x:y"]}}));
    assert_eq!(cloud.call("alice", "PUT", &path, body).await.1["subnet"]["service_types"], json!(["x:y"]));
}

async fn ports_are_made_with_labels_and_given_other_macs(cloud: Cloud) {
    let network = id(&cloud.make("alice", "/v2.0/networks", "network", json!({})).await);
    let many = json!({"ports": [{"network_id": network, "tags": ["b", "a"]}, {"network_id": network}]});
    let (status, answer) = cloud.call("alice", "POST", PORTS, Some(many)).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!((&answer["ports"][0]["tags"], &answer["ports"][1]["tags"]), (&json!(["a", "b"]), &json!([])));
    let groups = answer["ports"][0]["security_groups"].as_array().unwrap().len();
    assert_eq!(groups, 1, "also a port without an address is in the default group");
    let path = format!("{PORTS}/{}", id(&answer["ports"][0]));
    let again = Some(json!({"port": {"mac_address": null}}));
    cloud.refused("alice", "PUT", &path, again.clone(), 403, "PolicyNotAuthorized").await;
    let (status, changed) = cloud.call("admin", "PUT", &path, again).await;
    assert_eq!(status, 200, "{changed}");
    assert_ne!(changed["port"]["mac_address"], answer["ports"][0]["mac_address"]);
    // What the guest makes of its MAC follows it.
    let six = json!({"network_id": network, "ip_version": 6, "cidr": "fd00::/64",
                     "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"});
    cloud.make("alice", "/v2.0/subnets", "subnet", six).await;
    let body = Some(json!({"port": {"mac_address": "fa:16:3e:01:02:03"}}));
    let (_, changed) = cloud.call("admin", "PUT", &path, body).await;
    assert_eq!(address(&changed["port"]).to_string(), "fd00::f816:3eff:fe01:203");
    let group = cloud.get("alice", "/v2.0/security-groups?name=default").await;
    let group = id(&group["security_groups"][0]);
    let twice = Some(json!({"port": {"security_groups": [group, group]}}));
    cloud.refused("alice", "PUT", &path, twice, 400, "HTTPBadRequest").await;
    let trusted = json!({"network_id": network, "device_owner": "network:thing"});
    let trusted = cloud.make("alice", PORTS, "port", trusted).await;
    assert_eq!(trusted["security_groups"], json!([]), "what belongs to the network is in no group");
}
}
