//! What a guest may learn of itself, as documents: pure functions of the server's and its ports'
//! specifications. The metadata service and the config drive hand out the same ones.
//!
//! Formats: OpenStack's "Metadata" (user guide of Nova, and its JSON schema for network data).

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host_protocol::{NetworkSpec, PortSpec, ServerSpec, SubnetSpec};
use serde_json::{Map, Value, json};

/// Dated versions that guests may ask for. The newest is what `latest` means; older ones lack
/// fields, which no client minds having.
pub const VERSIONS: &[&str] = &[
    "2012-08-10",
    "2013-04-04",
    "2013-10-17",
    "2015-10-15",
    "2016-06-30",
    "2016-10-06",
    "2017-02-22",
    "2018-08-27",
    "2020-10-14",
    "latest",
];
/// Octets of randomness that a guest is given to start its own generator.
pub const SEED_BYTES: usize = 512;

/// A server with its NICs, in order.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The server's document.
    pub server: &'a ServerSpec,
    /// Each NIC's port and network.
    pub nics: &'a [(&'a PortSpec, &'a NetworkSpec)],
}

impl Guest<'_> {
    /// The host name with the domain of the first network, where that has one.
    pub fn qualified_name(&self) -> String {
        let host = &self.server.metadata.hostname;
        match self.nics.first().map(|(_, n)| n.dns_domain.trim_matches('.')) {
            Some(domain) if !domain.is_empty() => format!("{host}.{domain}"),
            _ => host.clone(),
        }
    }

    /// The first IPv4 address.
    pub fn ipv4(&self) -> Option<IpAddr> {
        self.nics
            .iter()
            .flat_map(|(port, _)| port.fixed_ips.iter().map(|f| f.ip))
            .find(IpAddr::is_ipv4)
    }
}

/// `meta_data.json`. `seed` is fresh randomness; [`SEED_BYTES`] of it.
pub fn meta_data(guest: &Guest<'_>, seed: &[u8]) -> Value {
    let server = guest.server;
    let metadata = &server.metadata;
    let keys: Vec<Value> = metadata
        .public_keys
        .iter()
        .map(|(name, key)| json!({"name": name, "type": "ssh", "data": key}))
        .collect();
    let public_keys: Map<String, Value> =
        metadata.public_keys.iter().map(|(name, key)| (name.clone(), json!(key))).collect();
    let files: Vec<Value> = metadata
        .personality
        .iter()
        .enumerate()
        .map(|(i, (path, _))| json!({"path": path, "content_path": content_path(i)}))
        .collect();
    let mut out = json!({
        "uuid": server.server_id,
        "name": server.name,
        "hostname": guest.qualified_name(),
        "project_id": server.project_id,
        "availability_zone": metadata.availability_zone,
        "launch_index": metadata.launch_index,
        "meta": metadata.meta,
        "devices": [],
        "dedicated_cpus": [],
        "random_seed": STANDARD.encode(seed),
    });
    for (key, value, present) in [
        ("keys", json!(keys), !keys.is_empty()),
        ("public_keys", json!(public_keys), !public_keys.is_empty()),
        ("files", json!(files), !files.is_empty()),
    ] {
        if present {
            out[key] = value;
        }
    }
    out
}

fn content_path(index: usize) -> String {
    format!("/content/{index:04}")
}

/// A file to inject, by the number in its content path.
pub fn content(server: &ServerSpec, index: usize) -> Option<Vec<u8>> {
    let (_, data) = server.metadata.personality.get(index)?;
    STANDARD.decode(data).ok()
}

/// The user's data, decoded; `None` when there is none (or it is not base64, which the API
/// refuses).
pub fn user_data(server: &ServerSpec) -> Option<Vec<u8>> {
    STANDARD.decode(server.metadata.user_data.as_ref()?).ok()
}

/// `network_data.json`: links, networks on them, name servers.
pub fn network_data(guest: &Guest<'_>) -> Value {
    let mut links = Vec::new();
    let mut networks = Vec::new();
    let mut services: Vec<Value> = Vec::new();
    for (port, network) in guest.nics {
        let link = format!("tap{}", port.port_id.chars().take(11).collect::<String>());
        links.push(json!({
            "id": link,
            "vif_id": port.port_id,
            "type": "ovs",
            "mtu": network.mtu,
            "ethernet_mac_address": port.mac.to_string(),
        }));
        for fixed in &port.fixed_ips {
            let Some(subnet) = network.subnets.iter().find(|s| s.subnet_id == fixed.subnet_id)
            else {
                continue;
            };
            let id = format!("network{}", networks.len());
            networks.push(on_link(&id, &link, network, subnet, fixed.ip));
            for address in &subnet.dns_nameservers {
                let service = json!({"type": "dns", "address": address.to_string()});
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
    }
    json!({"links": links, "networks": networks, "services": services})
}

fn on_link(
    id: &str,
    link: &str,
    network: &NetworkSpec,
    subnet: &SubnetSpec,
    address: IpAddr,
) -> Value {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let mut out = json!({"id": id, "link": link, "network_id": network.network_id});
    // IPv6 addresses are told here: no responder hands them out.
    if subnet.enable_dhcp && address.is_ipv4() {
        out["type"] = json!("ipv4_dhcp");
        return out;
    }
    let mut routes: Vec<Value> = subnet
        .host_routes
        .iter()
        .map(|(net, hop)| route(net.network(), net.netmask(), *hop))
        .collect();
    if let Some(gateway) = subnet.gateway_ip {
        let any = if gateway.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        routes.push(route(any, any, gateway));
    }
    let dns: Vec<Value> = subnet
        .dns_nameservers
        .iter()
        .map(|address| json!({"type": "dns", "address": address.to_string()}))
        .collect();
    out["type"] = json!(family);
    out["ip_address"] = json!(address.to_string());
    out["netmask"] = json!(subnet.cidr.netmask().to_string());
    out["routes"] = json!(routes);
    out["services"] = json!(dns);
    out
}

fn route(network: IpAddr, netmask: IpAddr, gateway: IpAddr) -> Value {
    json!({
        "network": network.to_string(),
        "netmask": netmask.to_string(),
        "gateway": gateway.to_string(),
    })
}

/// Every file of a config drive (volume label `config-2`), by path.
pub fn config_drive(guest: &Guest<'_>, seed: &[u8]) -> Vec<(String, Vec<u8>)> {
    let meta = meta_data(guest, seed).to_string().into_bytes();
    let network = network_data(guest).to_string().into_bytes();
    let mut files = Vec::new();
    for version in [VERSIONS[VERSIONS.len() - 2], "latest"] {
        let mut put = |name: &str, bytes: &[u8]| {
            files.push((format!("openstack/{version}/{name}"), bytes.to_vec()));
        };
        put("meta_data.json", &meta);
        put("network_data.json", &network);
        put("vendor_data.json", b"{}");
        put("vendor_data2.json", b"{}");
        if let Some(data) = user_data(guest.server) {
            put("user_data", &data);
        }
    }
    for index in 0..guest.server.metadata.personality.len() {
        if let Some(bytes) = content(guest.server, index) {
            files.push((format!("openstack{}", content_path(index)), bytes));
        }
    }
    files
}
