//! What a guest reads of itself, and that it reads nothing of others.

use host_protocol::{
    DesiredPower, DiskSpec, ImageFormat, ImageSource, NicSpec, ServerMetadata, ServerSpec,
};
use serde_json::{Value, json};

use super::tree::page;
use super::*;
use crate::edges::ResponderTables;
use crate::responders::table::tests::{network, port};

fn server() -> ServerSpec {
    ServerSpec {
        server_id: "server".to_owned(),
        project_id: "project".to_owned(),
        name: "Hello World".to_owned(),
        power: DesiredPower::Running,
        vcpus: 1,
        memory_mib: 128,
        disks: vec![DiskSpec {
            name: "root".to_owned(),
            size_mib: 1024,
            image: Some(ImageSource {
                image_id: "0badcafe-0000-4000-8000-000000000000".to_owned(),
                format: ImageFormat::Qcow2,
                size_bytes: 1,
                sha256: String::new(),
            }),
        }],
        nics: vec![NicSpec { port_id: "port".to_owned(), mac: port().mac, mtu: 1450 }],
        config_drive: false,
        metadata: ServerMetadata {
            hostname: "hello".to_owned(),
            availability_zone: "zone-1".to_owned(),
            public_keys: vec![("mine".to_owned(), "ssh-ed25519 AAAA me".to_owned())],
            meta: [("role".to_owned(), "web".to_owned())].into(),
            user_data: Some("I2Nsb3VkLWNvbmZpZwo=".to_owned()),
            flavor: "m1.tiny".to_owned(),
            launch_index: 0,
            personality: vec![("/etc/motd".to_owned(), "aGkK".to_owned())],
            security_groups: vec!["default".to_owned(), "web".to_owned()],
            created_at: 0,
        },
    }
}

fn read(path: &str) -> Option<String> {
    let (server, port, network) = (server(), port(), network());
    let nics = [(&port, &network)];
    let guest = Guest { server: &server, nics: &nics };
    page(&guest, path, |seed| seed.fill(7)).map(|p| String::from_utf8(p.body).unwrap())
}

fn read_json(path: &str) -> Value {
    serde_json::from_str(&read(path).unwrap()).unwrap()
}

#[test]
fn openstack_paths() {
    assert!(read("/openstack").unwrap().ends_with("\nlatest"));
    assert!(read("/openstack/latest/").unwrap().contains("meta_data.json"));
    let meta = read_json("/openstack/2018-08-27/meta_data.json");
    assert_eq!(meta["uuid"], "server");
    assert_eq!(meta["hostname"], "hello.Cloud.Internal");
    assert_eq!(meta["meta"], json!({"role": "web"}));
    assert_eq!(meta["public_keys"], json!({"mine": "ssh-ed25519 AAAA me"}));
    assert_eq!(meta["keys"][0]["type"], "ssh");
    assert_eq!(meta["files"], json!([{"path": "/etc/motd", "content_path": "/content/0000"}]));
    assert_eq!(meta["random_seed"].as_str().unwrap().len(), 684);
    assert_eq!(read("/openstack/latest/user_data").unwrap(), "#cloud-config\n");
    assert_eq!(read("/openstack/content/0000").unwrap(), "hi\n");
    assert_eq!(read("/openstack/latest/vendor_data2.json").unwrap(), "{}");
    let network = read_json("/openstack/latest/network_data.json");
    assert_eq!(network["links"][0]["ethernet_mac_address"], "fa:16:3e:00:00:05");
    assert_eq!(network["links"][0]["mtu"], 1450);
    assert_eq!(network["networks"][0]["type"], "ipv4_dhcp");
    for missing in ["/openstack/1999-01-01/meta_data.json", "/openstack/latest/secrets", "/etc"] {
        assert_eq!(read(missing), None, "{missing}");
    }
}

#[test]
fn ec2_paths() {
    for (path, body) in [
        ("/latest", "meta-data/\nuser-data"),
        ("/latest/meta-data/local-ipv4", "10.1.0.9"),
        ("/latest/meta-data/hostname", "hello.Cloud.Internal"),
        ("/2009-04-04/meta-data/instance-id", "i-000000ee"),
        ("/latest/meta-data/ami-id", "ami-0badcafe"),
        ("/latest/meta-data/instance-type", "m1.tiny"),
        ("/latest/meta-data/placement/availability-zone", "zone-1"),
        ("/latest/meta-data/public-keys/", "0=mine"),
        ("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA me"),
        ("/latest/meta-data/security-groups", "default\nweb"),
        ("/latest/user-data", "#cloud-config\n"),
    ] {
        assert_eq!(read(path).as_deref(), Some(body), "{path}");
    }
    // Every name of the listing leads somewhere.
    for name in read("/latest/meta-data/").unwrap().lines() {
        assert!(read(&format!("/latest/meta-data/{name}")).is_some(), "{name}");
    }
}

#[test]
fn a_static_address_is_told_in_full() {
    let (server, port, mut network) = (server(), port(), network());
    network.subnets[0].enable_dhcp = false;
    let nics = [(&port, &network)];
    let data = model::network_data(&Guest { server: &server, nics: &nics });
    let told = &data["networks"][0];
    assert_eq!(told["type"], "ipv4");
    assert_eq!(told["ip_address"], "10.1.0.9");
    assert_eq!(told["netmask"], "255.255.255.0");
    assert_eq!(
        told["routes"][1],
        json!({"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.1.0.1"})
    );
}

#[test]
fn the_config_drive_has_the_same_documents() {
    let (server, port, network) = (server(), port(), network());
    let nics = [(&port, &network)];
    let guest = Guest { server: &server, nics: &nics };
    let files = model::config_drive(&guest, &[7; model::SEED_BYTES]);
    let find = |name: &str| files.iter().find(|(path, _)| path == name).map(|(_, b)| b.clone());
    let meta = find("openstack/latest/meta_data.json").unwrap();
    assert_eq!(meta, read("/openstack/latest/meta_data.json").unwrap().into_bytes());
    assert_eq!(find("openstack/content/0000").unwrap(), b"hi\n");
    assert!(find("openstack/latest/user_data").is_some());
}

#[test]
fn each_port_reads_its_own_server_only() {
    let mut other_port = port();
    other_port.port_id = "other-port".to_owned();
    other_port.port_number = 6;
    // It says that it belongs to the server; the server does not say so.
    let mut thief = port();
    thief.port_id = "thief".to_owned();
    thief.port_number = 7;
    other_port.server_id = Some("other".to_owned());
    let mut other = server();
    other.server_id = "other".to_owned();
    other.nics[0].port_id = "other-port".to_owned();
    let table = PortTable::new(ResponderTables {
        networks: vec![network()],
        ports: vec![port(), other_port, thief],
        servers: vec![server(), other],
        ..ResponderTables::default()
    });
    let status = |number| respond(&table, number, &Method::GET, "/latest/user-data").status();
    assert_eq!(status(5), StatusCode::OK);
    assert_eq!(status(6), StatusCode::OK);
    assert_eq!(status(7), StatusCode::NOT_FOUND);
    assert_eq!(status(99), StatusCode::NOT_FOUND);
    let refused = respond(&table, 5, &Method::POST, "/latest/user-data").status();
    assert_eq!(refused, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn one_port_has_so_many_turns_and_gets_them_back() {
    let counts = PerPort::default();
    let held: Vec<_> = (0..3).map(|_| counts.enter(1, 3).unwrap()).collect();
    assert!(counts.enter(1, 3).is_none());
    assert!(counts.enter(2, 3).is_some());
    drop(held);
    assert!(counts.enter(1, 3).is_some());
}
