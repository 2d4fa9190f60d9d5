//! The data plane with real packets: compiled flows in a real Open vSwitch, real devices, real
//! responders, namespaces as guests. Needs root and Debian's openvswitch-switch, busybox, iproute2
//! and ethtool, as a host does.

#[path = "data_plane/attack.rs"]
mod attack;
#[path = "data_plane/faults.rs"]
mod faults;
#[path = "data_plane/learning.rs"]
mod learning;
#[path = "data_plane/packet.rs"]
mod packet;
#[path = "data_plane/six.rs"]
mod six;
#[path = "data_plane/world.rs"]
mod world;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use host_protocol::{
    Attachment, DesiredPower, Direction, FixedIp, NetworkSpec, NicSpec, PortSpec, Remote,
    SecurityRule, ServerMetadata, ServerSpec, SubnetSpec,
};
use packet::{Forged, Tap, contains, http, udp};
use world::{Guest, World};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Both tenants' networks are the same but for their number.
fn network(id: &str, number: u32) -> NetworkSpec {
    NetworkSpec {
        network_id: id.to_owned(),
        network_number: number,
        mtu: 1500,
        dns_domain: "example.internal".to_owned(),
        subnets: vec![
            SubnetSpec {
                subnet_id: format!("{id}-subnet"),
                cidr: "10.0.0.0/24".parse().unwrap(),
                gateway_ip: Some(GATEWAY.into()),
                enable_dhcp: true,
                dns_nameservers: Vec::new(),
                host_routes: Vec::new(),
                ipv6_ra_mode: None,
                ipv6_address_mode: None,
            },
            SubnetSpec {
                subnet_id: format!("{id}-subnet6"),
                cidr: "fd00::/64".parse().unwrap(),
                gateway_ip: None,
                enable_dhcp: false,
                dns_nameservers: Vec::new(),
                host_routes: Vec::new(),
                ipv6_ra_mode: None,
                ipv6_address_mode: None,
            },
        ],
    }
}

fn rule(direction: Direction, protocol: Option<u8>, port: Option<u16>) -> SecurityRule {
    SecurityRule {
        direction,
        ipv6: false,
        protocol,
        port_min: port,
        port_max: port,
        remote: Remote::Anyone,
        stateless: false,
    }
}

fn open() -> Vec<SecurityRule> {
    let four = [Direction::Egress, Direction::Ingress].map(|way| rule(way, None, None));
    let six = four.clone().map(|rule| SecurityRule { ipv6: true, ..rule });
    [four, six].concat()
}

/// Port `number` of a network: 10.0.0.(10 + last), MAC ending in last, whichever the tenant.
fn port(network: &str, number: u32, last: u8) -> PortSpec {
    PortSpec {
        port_id: format!("{network}{last}"),
        network_id: network.to_owned(),
        project_id: network.to_owned(),
        port_number: number,
        mac: mac(last),
        fixed_ips: vec![
            FixedIp { subnet_id: format!("{network}-subnet"), ip: ip(last).into() },
            FixedIp { subnet_id: format!("{network}-subnet6"), ip: ip6(last).into() },
        ],
        allowed_address_pairs: Vec::new(),
        port_security: true,
        admin_state_up: true,
        security_groups: vec!["members".to_owned()],
        security_rules: open(),
        hostname: format!("{network}-{last}"),
        dns_domain: None,
        dhcp_options: Vec::new(),
        attachment: Attachment::Tap,
        server_id: Some(format!("server-{network}{last}")),
    }
}

fn mac(last: u8) -> cloud_types::MacAddress {
    cloud_types::MacAddress([0xfa, 0x16, 0x3e, 0, 0, last])
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 10 + last)
}

fn ip6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10 + u16::from(last))
}

fn server(port: &PortSpec) -> ServerSpec {
    ServerSpec {
        server_id: port.server_id.clone().unwrap(),
        project_id: port.project_id.clone(),
        name: port.hostname.clone(),
        power: DesiredPower::Running,
        vcpus: 1,
        memory_mib: 64,
        disks: Vec::new(),
        nics: vec![NicSpec { port_id: port.port_id.clone(), mac: port.mac, mtu: 1500 }],
        config_drive: false,
        metadata: ServerMetadata {
            hostname: port.hostname.clone(),
            availability_zone: "zone".to_owned(),
            public_keys: Vec::new(),
            meta: Default::default(),
            user_data: None,
            flavor: "tiny".to_owned(),
            launch_index: 0,
            personality: Vec::new(),
            security_groups: Vec::new(),
            created_at: 0,
        },
    }
}

/// Red has ports 1 and 2 on host 0 and 3 on host 1; so has blue, with the same MACs and addresses.
struct Tenants {
    world: World,
    red: [Guest; 3],
    blue: [Guest; 3],
}

fn tenants() -> Tenants {
    let mut world = World::new(vec![network("red", 1), network("blue", 2)]);
    let mut plug = |name: &str, first: u32| {
        [(0, 1), (0, 2), (1, 3)].map(|(host, last)| {
            let port = port(name, first + u32::from(last), last);
            world.servers.push(server(&port));
            world.plug(host, port)
        })
    };
    let (red, blue) = (plug("red", 0), plug("blue", 0x10_0000));
    world.apply();
    let directory = tempfile::tempdir().unwrap();
    for guest in red.iter().chain(&blue) {
        let lease = guest.dhcp(directory.path());
        assert!(lease.contains("router=10.0.0.1") && lease.contains("mtu=1500"), "{lease}");
    }
    Tenants { world, red, blue }
}

#[test]
fn guests_are_served_reach_their_siblings_and_hear_nothing_of_a_twin_tenant() {
    let Tenants { world, red, blue } = tenants();

    // Metadata: each its own, whatever it claims to be.
    let service = SocketAddr::from(([169, 254, 169, 254], 80));
    for (guests, name) in [(&red, "red"), (&blue, "blue")] {
        for (guest, last) in guests.iter().zip(1..) {
            let request = "GET /latest/meta-data/hostname HTTP/1.1\r\nHost: metadata\r\n\
                           X-Forwarded-For: 10.0.0.12\r\nConnection: close\r\n\r\n";
            let answer = http(guest, service, request).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.ends_with(&format!("{name}-{last}.example.internal")), "{answer}");
        }
    }

    // DNS: the same address, each tenant's own names.
    for (guests, name, other) in [(&red, "red", "blue"), (&blue, "blue", "red")] {
        for guest in guests {
            assert_eq!(lookup(guest, &format!("{name}-3")), Some(ip(3)));
            assert_eq!(lookup(guest, &format!("{name}-3.example.internal")), Some(ip(3)));
            assert_eq!(lookup(guest, &format!("{other}-3")), None);
        }
    }

    // On one host, and over the wire, in full-sized frames that may not be cut.
    for guests in [&red, &blue] {
        assert!(guests[0].pings("10.0.0.12", 1472));
        assert!(guests[0].pings("10.0.0.13", 1472));
        assert!(guests[2].pings("10.0.0.11", 1472));
    }

    // IPv6: neighbours are found by multicast, which is flooded, also over the wire.
    for guests in [&red, &blue] {
        for (guest, last) in guests.iter().zip(1..) {
            let address = format!("{}/64", ip6(last));
            let device = guest.device.as_str();
            let added = guest.output(&["ip", "addr", "add", &address, "dev", device, "nodad"]);
            assert!(added.status.success(), "{added:?}");
        }
        assert!(guests[0].pings("fd00::12", 1452));
        assert!(guests[0].pings("fd00::13", 1452));
    }

    nothing_crosses(&red, &blue);
    spoofed_frames_stay_where_they_are(&red);
    drop(world);
}

/// Frames that arrive at every member of red, each also sent where blue could hear it.
fn nothing_crosses(red: &[Guest; 3], blue: &[Guest; 3]) {
    let sender = Tap::open(&red[0]);
    let members = [Tap::open(&red[1]), Tap::open(&red[2])];
    let others = blue.each_ref().map(Tap::open);
    let from =
        |eth_dst: [u8; 6], ip_dst| Forged { eth_src: mac(1).0, eth_dst, ip_src: ip(1), ip_dst };
    let to_second = from(mac(2).0, ip(2)).udp(4000, 4001, b"red-to-second");
    let to_third = from(mac(3).0, ip(3)).udp(4000, 4001, b"red-to-third");
    let to_all = from([0xff; 6], Ipv4Addr::BROADCAST).udp(4000, 4001, b"red-to-all");
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let to_group = from([1, 0, 0x5e, 1, 2, 3], group).udp(4000, 4001, b"red-to-group");
    for frame in [&to_second, &to_third, &to_all, &to_group] {
        sender.send(frame);
    }
    // Also frames to a group, whose address did not travel on the wire, come as they were sent.
    let head = |frame: &[u8]| frame[..12].to_vec();
    let (all, group) = (head(&to_all), head(&to_group));
    let wanted: [&[&[u8]]; 2] =
        [&[b"red-to-second", &all, &group], &[b"red-to-third", &all, &group]];
    for (member, wanted) in members.iter().zip(wanted) {
        let seen = member.until(wanted);
        assert!(seen.iter().all(|frame| !contains(frame, b"blue")));
    }
    // Blue's own frame comes after red's on the same way; nothing of red's came before it.
    let marker = from([0xff; 6], Ipv4Addr::BROADCAST).udp(4000, 4001, b"blue-marker");
    let self_heard = Tap::open(&blue[0]);
    self_heard.send(&marker);
    for other in &others {
        let seen = other.until(&[b"blue-marker"]);
        assert!(seen.iter().all(|frame| !contains(frame, b"red-")), "{seen:02x?}");
    }
}

/// The same frame is sent right, and arrives; then with one lie in it, and does not.
fn spoofed_frames_stay_where_they_are(red: &[Guest; 3]) {
    let sender = Tap::open(&red[0]);
    let truth = Forged { eth_src: mac(1).0, eth_dst: mac(2).0, ip_src: ip(1), ip_dst: ip(2) };
    let stranger = cloud_types::MacAddress([0xfa, 0x16, 0x3e, 9, 9, 9]).0;
    let locator = cloud_types::Locator::Port { host: 2, port: 3 }.mac().0;
    let gateway = Forged { ip_src: GATEWAY, ..truth };
    for (receiver, last) in [(&red[1], 2), (&red[2], 3)] {
        let receiver = Tap::open(receiver);
        let truth = Forged { eth_dst: mac(last).0, ip_dst: ip(last), ..truth };
        sender.send(&truth.udp(4000, 4000, b"the-truth"));
        sender.send(&truth.arp(b"arp-truth"));
        receiver.until(&[b"the-truth", b"arp-truth"]);
        for lie in [
            Forged { eth_src: stranger, ..truth }.udp(4000, 4000, b"a-lie: mac"),
            Forged { eth_src: mac(2).0, ..truth }.udp(4000, 4000, b"a-lie: sibling's mac"),
            Forged { ip_src: ip(99), ..truth }.udp(4000, 4000, b"a-lie: address"),
            Forged { eth_src: locator, ..truth }.udp(4000, 4000, b"a-lie: locator as source"),
            Forged { eth_dst: locator, ..truth }.udp(4000, 4000, b"a-lie: locator"),
            truth.udp(67, 68, b"a-lie: dhcp server"),
            truth.tagged(&[0x8100], b"a-lie: tagged"),
            Forged { ip_src: GATEWAY, ..truth }.arp(b"a-lie: arp for the gateway"),
            Forged { eth_src: stranger, ..truth }.arp(b"a-lie: arp mac"),
            Forged { eth_dst: [0xff; 6], ..gateway }.arp(b"a-lie: gratuitous"),
        ] {
            sender.send(&lie);
        }
        // Twice: what came together with the first is through before the second.
        for marker in [b"marker-1", b"marker-2"] {
            sender.send(&truth.udp(4000, 4000, marker));
            let seen = receiver.until(&[marker]);
            assert!(seen.iter().all(|frame| !contains(frame, b"a-lie")), "{seen:02x?}");
        }
    }
}

/// A question for an IPv4 address.
fn question(name: &str) -> Vec<u8> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    question
}

/// Asks the network's resolver for an IPv4 address.
fn lookup(guest: &Guest, name: &str) -> Option<Ipv4Addr> {
    let question = question(name);
    let socket = udp(guest, Ipv4Addr::UNSPECIFIED, 0);
    let mut answer = [0; 512];
    for _ in 0..10 {
        socket.send_to(&question, (GATEWAY, 53)).unwrap();
        if let Ok((length, from)) = socket.recv_from(&mut answer) {
            assert_eq!(from, SocketAddr::from((GATEWAY, 53)));
            let found = u16::from_be_bytes([answer[6], answer[7]]) > 0;
            let last = &answer[length - 4..length];
            return found.then(|| Ipv4Addr::new(last[0], last[1], last[2], last[3]));
        }
    }
    panic!("{} had no answer about {name}", guest.namespace);
}

/// One datagram there and one back.
fn exchange(from: &UdpSocket, to: &UdpSocket) -> bool {
    let address = to.local_addr().unwrap();
    let mut buffer = [0; 64];
    from.send_to(b"question", address).unwrap();
    match to.recv_from(&mut buffer) {
        Ok((_, peer)) => {
            to.send_to(b"answer", peer).unwrap();
            from.recv_from(&mut buffer).is_ok()
        }
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{e}");
            false
        }
    }
}

#[test]
fn groups_say_what_passes_and_taking_a_rule_away_ends_what_it_allowed() {
    let Tenants { mut world, red, .. } = tenants();
    // The first may begin anything; the second and third only answer, and only on one port.
    world.port("red1").security_rules = vec![rule(Direction::Egress, None, None)];
    for id in ["red2", "red3"] {
        world.port(id).security_rules = vec![rule(Direction::Ingress, Some(17), Some(5000))];
    }
    world.apply();
    for (guest, last) in [(&red[1], 2), (&red[2], 3)] {
        let client = udp(&red[0], ip(1), 6000 + u16::from(last));
        let allowed = udp(guest, ip(last), 5000);
        let refused = udp(guest, ip(last), 5001);
        assert!(exchange(&client, &allowed), "a rule allows port 5000 of {last}");
        assert!(!exchange(&client, &refused), "no rule allows port 5001 of {last}");
        // What the second begins itself is not an answer.
        assert!(!exchange(&refused, &client));
        // An ICMP error about an allowed packet is an answer, though no rule names ICMP.
        drop(allowed);
        let allowed_address = SocketAddr::from((ip(last), 5000));
        let asker = udp(&red[0], ip(1), 6100 + u16::from(last));
        asker.connect(allowed_address).unwrap();
        asker.send(b"nobody there").unwrap();
        let error = asker.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        let allowed = udp(guest, ip(last), 5000);

        // The connection is live; without its rule both directions end, at once and for good.
        let id = format!("red{last}");
        let rules = std::mem::take(&mut world.port(&id).security_rules);
        world.apply();
        let mut buffer = [0; 64];
        world::eventually("the end of what was allowed", || !exchange(&client, &allowed));
        while client.recv_from(&mut buffer).is_ok() {}
        allowed.send_to(b"unasked answer", client.local_addr().unwrap()).unwrap();
        assert!(client.recv_from(&mut buffer).is_err(), "an answer passed without its rule");
        world.port(&id).security_rules = rules;
        world.apply();
        world::eventually("the rule is back", || exchange(&client, &allowed));
    }
}

#[test]
fn a_rule_about_a_group_follows_its_members_wherever_they_live() {
    let Tenants { mut world, red, .. } = tenants();
    world.port("red1").security_rules = vec![rule(Direction::Egress, None, None)];
    let from_members = SecurityRule {
        remote: Remote::Group("members".to_owned()),
        ..rule(Direction::Ingress, Some(17), Some(5000))
    };
    for id in ["red2", "red3"] {
        world.port(id).security_rules = vec![from_members.clone()];
    }
    world.apply();
    for (guest, last) in [(&red[1], 2), (&red[2], 3)] {
        let client = udp(&red[0], ip(1), 6000 + u16::from(last));
        let (allowed, other) = (udp(guest, ip(last), 5000), udp(guest, ip(last), 5001));
        assert!(exchange(&client, &allowed), "a member may ask {last}");
        assert!(!exchange(&client, &other), "a member may ask {last} on one port alone");
        // The twin tenant's first port has the same address and stays in a group of that name.
        world.port("red1").security_groups.clear();
        world.apply();
        world::eventually("the end of the membership", || !exchange(&client, &allowed));
        world.port("red1").security_groups = vec!["members".to_owned()];
        world.apply();
        world::eventually("a member again", || exchange(&client, &allowed));
    }
}

#[test]
fn a_port_that_is_down_is_silent_and_one_without_security_speaks_freely() {
    let Tenants { mut world, red, .. } = tenants();
    assert!(red[0].pings("10.0.0.12", 56));
    world.port("red2").admin_state_up = false;
    world.apply();
    world::eventually("a port that is down hears nothing", || !red[0].pings("10.0.0.12", 56));
    let port = world.port("red2");
    port.admin_state_up = true;
    port.port_security = false;
    port.security_rules.clear();
    world.apply();
    world::eventually("no rules, but no security either", || red[0].pings("10.0.0.12", 1472));
    let sender = Tap::open(&red[1]);
    let receiver = Tap::open(&red[0]);
    let lie = Forged {
        eth_src: [0xfa, 0x16, 0x3e, 7, 7, 7],
        eth_dst: mac(1).0,
        ip_src: Ipv4Addr::new(192, 168, 0, 7),
        ip_dst: ip(1),
    };
    sender.send(&lie.udp(4000, 4000, b"from anywhere"));
    receiver.until(&[b"from anywhere"]);
}
