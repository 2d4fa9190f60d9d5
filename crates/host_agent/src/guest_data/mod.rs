//! What a guest may learn of itself, in the forms that guests look for: OpenStack's metadata tree
//! (`openstack/latest/…`) and EC2's (`latest/meta-data/…`). Pure: the config drive and the
//! metadata service both take their files from here, so they cannot disagree.

pub mod config_drive;
mod iso9660;

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloud_types::Timestamp;
use host_protocol::{NetworkSpec, PortSpec, ServerSpec, SubnetSpec};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// Versions of OpenStack's tree that are offered besides `latest`; all have the same files.
pub const OPENSTACK_VERSIONS: [&str; 3] = ["2012-08-10", "2017-02-22", "2018-08-27"];
/// Versions of EC2's tree that are offered besides `latest`.
pub const EC2_VERSIONS: [&str; 2] = ["2009-04-04", "1.0"];

/// A NIC of the server as its documents describe it.
#[derive(Clone, Copy, Debug)]
pub struct Nic<'a> {
    /// Its port.
    pub port: &'a PortSpec,
    /// The port's network.
    pub network: &'a NetworkSpec,
}

/// `openstack/*/meta_data.json`.
pub fn meta_data(server: &ServerSpec) -> Value {
    let metadata = &server.metadata;
    let mut object = Map::new();
    object.insert("uuid".into(), json!(server.server_id));
    object.insert("name".into(), json!(server.name));
    object.insert("hostname".into(), json!(metadata.hostname));
    object.insert("availability_zone".into(), json!(metadata.availability_zone));
    object.insert("launch_index".into(), json!(metadata.launch_index));
    object.insert("project_id".into(), json!(server.project_id));
    object.insert("meta".into(), json!(metadata.meta));
    object.insert("devices".into(), json!([]));
    object.insert("dedicated_cpus".into(), json!([]));
    if !metadata.public_keys.is_empty() {
        let keys: BTreeMap<&str, &str> =
            metadata.public_keys.iter().map(|(name, key)| (name.as_str(), key.as_str())).collect();
        object.insert("public_keys".into(), json!(keys));
        let list: Vec<Value> = keys
            .iter()
            .map(|(name, key)| json!({ "name": name, "type": "ssh", "data": key }))
            .collect();
        object.insert("keys".into(), json!(list));
    }
    if !metadata.personality.is_empty() {
        let files: Vec<Value> = metadata
            .personality
            .iter()
            .enumerate()
            .map(|(index, (path, _))| {
                json!({ "path": path, "content_path": format!("/content/{index:04}") })
            })
            .collect();
        object.insert("files".into(), json!(files));
    }
    Value::Object(object)
}

/// `openstack/*/network_data.json`: links, networks and services, for guests without DHCP.
pub fn network_data(nics: &[Nic<'_>]) -> Value {
    let mut links = Vec::new();
    let mut networks = Vec::new();
    let mut services: Vec<Value> = Vec::new();
    for (index, nic) in nics.iter().enumerate() {
        let link = format!("tap{}", nic.port.port_id.chars().take(11).collect::<String>());
        links.push(json!({
            "id": link,
            "vif_id": nic.port.port_id,
            "type": "ovs",
            "mtu": nic.network.mtu,
            "ethernet_mac_address": nic.port.mac,
        }));
        for fixed in &nic.port.fixed_ips {
            let Some(subnet) =
                nic.network.subnets.iter().find(|subnet| subnet.subnet_id == fixed.subnet_id)
            else {
                continue;
            };
            networks.push(network_entry(
                nic.network,
                subnet,
                fixed.ip,
                &link,
                format!("network{}", networks.len()),
            ));
            for address in &subnet.dns_nameservers {
                let service = json!({ "type": "dns", "address": address });
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
        if nic.port.fixed_ips.is_empty() {
            networks.push(json!({
                "id": format!("network{index}"),
                "type": "manual",
                "link": link,
                "network_id": nic.network.network_id,
            }));
        }
    }
    json!({ "links": links, "networks": networks, "services": services })
}

fn network_entry(
    network: &NetworkSpec,
    subnet: &SubnetSpec,
    ip: IpAddr,
    link: &str,
    id: String,
) -> Value {
    let family = match ip {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    if subnet.enable_dhcp && ip.is_ipv4() {
        return json!({
            "id": id, "type": "ipv4_dhcp", "link": link, "network_id": network.network_id,
        });
    }
    let any = match ip {
        IpAddr::V4(_) => "0.0.0.0",
        IpAddr::V6(_) => "::",
    };
    let mut routes: Vec<Value> = subnet
        .gateway_ip
        .iter()
        .map(|gateway| json!({ "network": any, "netmask": any, "gateway": gateway }))
        .collect();
    routes.extend(subnet.host_routes.iter().map(|(destination, hop)| {
        json!({
            "network": destination.network(),
            "netmask": destination.netmask(),
            "gateway": hop,
        })
    }));
    json!({
        "id": id,
        "type": family,
        "link": link,
        "network_id": network.network_id,
        "ip_address": ip,
        "netmask": IpNet::netmask(&subnet.cidr),
        "routes": routes,
        "services": subnet
            .dns_nameservers
            .iter()
            .map(|address| json!({ "type": "dns", "address": address }))
            .collect::<Vec<_>>(),
    })
}

/// User data as bytes; what is not valid base64 is left out (the API refused it already).
pub fn user_data(server: &ServerSpec) -> Option<Vec<u8>> {
    STANDARD.decode(server.metadata.user_data.as_deref()?).ok()
}

/// Files of OpenStack's tree for one version: path below `openstack/<version>/` and contents.
pub fn openstack_files(server: &ServerSpec, nics: &[Nic<'_>]) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("meta_data.json".to_owned(), to_bytes(&meta_data(server))),
        ("network_data.json".to_owned(), to_bytes(&network_data(nics))),
        ("vendor_data.json".to_owned(), b"{}".to_vec()),
        ("vendor_data2.json".to_owned(), b"{}".to_vec()),
    ];
    files.extend(user_data(server).map(|data| ("user_data".to_owned(), data)));
    files
}

/// Injected files: path below `openstack/` and contents.
pub fn content_files(server: &ServerSpec) -> Vec<(String, Vec<u8>)> {
    server
        .metadata
        .personality
        .iter()
        .enumerate()
        .filter_map(|(index, (_, contents))| {
            let bytes = STANDARD.decode(contents).ok()?;
            Some((format!("content/{index:04}"), bytes))
        })
        .collect()
}

/// EC2's `meta-data/` tree: path below it and text, sorted by path.
pub fn ec2_meta_data(server: &ServerSpec, nics: &[Nic<'_>]) -> BTreeMap<String, String> {
    let metadata = &server.metadata;
    let instance = ec2_id(&server.server_id);
    let address = nics
        .iter()
        .flat_map(|nic| &nic.port.fixed_ips)
        .find(|fixed| fixed.ip.is_ipv4())
        .map(|fixed| fixed.ip.to_string())
        .unwrap_or_default();
    let mut tree = BTreeMap::from([
        ("ami-id".to_owned(), "None".to_owned()),
        ("ami-launch-index".to_owned(), metadata.launch_index.to_string()),
        ("block-device-mapping/ami".to_owned(), "vda".to_owned()),
        ("block-device-mapping/root".to_owned(), "/dev/vda".to_owned()),
        ("hostname".to_owned(), metadata.hostname.clone()),
        ("instance-action".to_owned(), "none".to_owned()),
        ("instance-id".to_owned(), instance),
        ("instance-type".to_owned(), metadata.flavor.clone()),
        ("local-hostname".to_owned(), metadata.hostname.clone()),
        ("local-ipv4".to_owned(), address),
        ("placement/availability-zone".to_owned(), metadata.availability_zone.clone()),
        ("public-hostname".to_owned(), metadata.hostname.clone()),
        ("public-ipv4".to_owned(), String::new()),
        ("reservation-id".to_owned(), server.server_id.clone()),
        ("security-groups".to_owned(), metadata.security_groups.join("\n")),
    ]);
    if !metadata.public_keys.is_empty() {
        let names: Vec<String> = metadata
            .public_keys
            .iter()
            .enumerate()
            .map(|(index, (name, _))| format!("{index}={name}"))
            .collect();
        tree.insert("public-keys/".to_owned(), names.join("\n"));
        for (index, (_, key)) in metadata.public_keys.iter().enumerate() {
            tree.insert(
                format!("public-keys/{index}/openssh-key"),
                format!("{}\n", key.trim_end()),
            );
        }
    }
    tree
}

/// EC2 wants short ids: `i-` and the first eight digits.
fn ec2_id(server_id: &str) -> String {
    format!("i-{}", server_id.chars().take(8).collect::<String>())
}

/// When the server was created.
pub fn created_at(server: &ServerSpec) -> Timestamp {
    Timestamp(server.metadata.created_at)
}

fn to_bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use cloud_types::MacAddress;
    use host_protocol::{Attachment, FixedIp};

    use super::*;
    use crate::test_support::server_spec;

    fn network(enable_dhcp: bool) -> NetworkSpec {
        NetworkSpec {
            network_id: "net".to_owned(),
            network_number: 1,
            mtu: 1500,
            dns_domain: "example".to_owned(),
            subnets: vec![SubnetSpec {
                subnet_id: "subnet".to_owned(),
                cidr: "10.1.0.0/24".parse().unwrap(),
                gateway_ip: Some("10.1.0.1".parse().unwrap()),
                enable_dhcp,
                dns_nameservers: vec!["9.9.9.9".parse().unwrap()],
                host_routes: vec![("10.9.0.0/16".parse().unwrap(), "10.1.0.9".parse().unwrap())],
            }],
        }
    }

    fn port() -> PortSpec {
        PortSpec {
            port_id: "0123456789abcdef".to_owned(),
            network_id: "net".to_owned(),
            project_id: "project".to_owned(),
            port_number: 7,
            mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1]),
            fixed_ips: vec![FixedIp {
                subnet_id: "subnet".to_owned(),
                ip: "10.1.0.5".parse().unwrap(),
            }],
            allowed_address_pairs: Vec::new(),
            port_security: true,
            admin_state_up: true,
            security_rules: Vec::new(),
            hostname: "host".to_owned(),
            attachment: Attachment::Tap,
            server_id: None,
        }
    }

    #[test]
    fn a_subnet_without_dhcp_is_described_in_full() {
        let (network, port) = (network(false), port());
        let data = network_data(&[Nic { port: &port, network: &network }]);
        let entry = &data["networks"][0];
        assert_eq!(entry["type"], "ipv4");
        assert_eq!(entry["ip_address"], "10.1.0.5");
        assert_eq!(entry["netmask"], "255.255.255.0");
        assert_eq!(entry["routes"][0]["gateway"], "10.1.0.1");
        assert_eq!(entry["routes"][1]["netmask"], "255.255.0.0");
        assert_eq!(data["services"][0]["address"], "9.9.9.9");
        assert_eq!(data["links"][0]["ethernet_mac_address"], "fa:16:3e:00:00:01");
        assert_eq!(entry["link"], data["links"][0]["id"]);
    }

    #[test]
    fn keys_user_data_and_files_arrive_as_they_were_given() {
        let mut server = server_spec("6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0");
        server.metadata.public_keys = vec![("mine".to_owned(), "ssh-ed25519 AAAA me".to_owned())];
        server.metadata.user_data = Some(STANDARD.encode([0xff, 0x00, b'x']));
        server.metadata.personality = vec![("/etc/motd".to_owned(), STANDARD.encode("hi"))];
        let meta = meta_data(&server);
        assert_eq!(meta["public_keys"]["mine"], "ssh-ed25519 AAAA me");
        assert_eq!(meta["files"][0]["content_path"], "/content/0000");
        assert_eq!(user_data(&server).unwrap(), vec![0xff, 0x00, b'x']);
        assert_eq!(content_files(&server), vec![("content/0000".to_owned(), b"hi".to_vec())]);
        let ec2 = ec2_meta_data(&server, &[]);
        assert_eq!(ec2["public-keys/"], "0=mine");
        assert_eq!(ec2["public-keys/0/openssh-key"], "ssh-ed25519 AAAA me\n");
        assert_eq!(ec2["instance-id"], "i-6f1c2d3e");
    }
}
