//! Counting addresses.

use serde_json::json;

use crate::test_support::{Cloud, id, on_both};

const ALL: &str = "/v2.0/network-ip-availabilities";

on_both! {
async fn addresses_are_counted_by_subnet_and_by_network(cloud: Cloud) {
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let six = json!({"network_id": network, "ip_version": 6, "cidr": "fd00::/64"});
    cloud.make("alice", "/v2.0/subnets", "subnet", six).await;
    let port = id(&cloud.port_on(network, json!({})).await);
    let path = format!("{ALL}/{network}");
    let found = cloud.get("admin", &path).await["network_ip_availability"].clone();
    // Less network, broadcast and gateway; in IPv6, less the routers' anycast address and gateway.
    let total = 253 + u128::from(u64::MAX - 1);
    assert_eq!((&found["total_ips"], &found["used_ips"]), (&json!(total as f64), &json!(2)));
    let subnets = found["subnet_ip_availability"].as_array().unwrap();
    let of = |version: u64| subnets.iter().find(|one| one["ip_version"] == version).unwrap();
    assert_eq!(
        *of(4),
        json!({"subnet_id": subnet, "subnet_name": "s", "cidr": "10.0.0.0/24", "ip_version": 4,
               "total_ips": 253, "used_ips": 1})
    );
    assert_eq!(of(6)["total_ips"], json!(u64::MAX - 1));
    let only = cloud.get("admin", &format!("{ALL}?network_name=n&ip_version=4")).await;
    let only = &only["network_ip_availabilities"][0];
    assert_eq!((&only["total_ips"], &only["used_ips"]), (&json!(253), &json!(1)));
    assert_eq!(cloud.call("alice", "DELETE", &format!("/v2.0/ports/{port}"), None).await.0, 204);
    let after = cloud.get("admin", &path).await["network_ip_availability"].clone();
    assert_eq!(after["used_ips"], 0);
    cloud.refused("alice", "GET", ALL, None, 403, "PolicyNotAuthorized").await;
    cloud.refused("alice", "GET", &path, None, 403, "PolicyNotAuthorized").await;
    let none = format!("{ALL}/{}", cloud_types::NetworkId::random());
    cloud.refused("admin", "GET", &none, None, 404, "NetworkNotFound").await;
}

async fn networks_come_in_pages(cloud: Cloud) {
    for _ in 0..3 {
        cloud.make("alice", "/v2.0/networks", "network", json!({"name": "n"})).await;
    }
    let first = cloud.get("admin", &format!("{ALL}?limit=2")).await;
    let items = first["network_ip_availabilities"].as_array().unwrap().clone();
    assert_eq!((items.len(), &items[0]["total_ips"]), (2, &json!(0)));
    let marker = items[1]["network_id"].as_str().unwrap();
    let rest = cloud.get("admin", &format!("{ALL}?limit=2&marker={marker}")).await;
    assert_eq!(rest["network_ip_availabilities"].as_array().unwrap().len(), 1);
}
}
