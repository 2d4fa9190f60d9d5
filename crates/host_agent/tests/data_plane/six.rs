//! Guests over IPv6: configured by advertisements and DHCPv6, their neighbours found by the host.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use host_protocol::{Ipv6Mode, NetworkSpec, PortSpec};

use super::packet::{Tap, http, inside};
use super::world::{Guest, World, eventually};
use super::{mac, network, port, question, server};

const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const ROUTER: Ipv6Addr = flow_compiler::ROUTER_LINK_LOCAL;

fn network6(id: &str, number: u32, mode: Ipv6Mode) -> NetworkSpec {
    let mut network = network(id, number);
    let subnet = &mut network.subnets[1];
    subnet.enable_dhcp = true;
    subnet.gateway_ip = Some(GATEWAY6.into());
    subnet.ipv6_ra_mode = Some(mode);
    subnet.ipv6_address_mode = Some(mode);
    network
}

/// The address that a guest makes for itself out of the prefix and its MAC.
fn own(last: u8) -> Ipv6Addr {
    let link_local = flow_compiler::link_local(mac(last)).to_bits();
    Ipv6Addr::from_bits((0xfd00_u128 << 112) | (link_local & u128::from(u64::MAX)))
}

fn port6(network: &str, number: u32, last: u8, ip: Ipv6Addr) -> PortSpec {
    let mut port = port(network, number, last);
    port.fixed_ips[1].ip = ip.into();
    port
}

/// Red and blue with the same addresses, each with a guest on either host.
fn world(mode: Ipv6Mode) -> (World, [Guest; 2], [Guest; 2]) {
    let mut world = World::new(vec![network6("red", 1, mode), network6("blue", 2, mode)]);
    let mut plug = |name: &str, first: u32| {
        [(0, 1), (1, 3)].map(|(host, last)| {
            let port = port6(name, first + u32::from(last), last, own(last));
            world.servers.push(server(&port));
            world.plug(host, port)
        })
    };
    let (red, blue) = (plug("red", 0), plug("blue", 0x10_0000));
    world.apply();
    (world, red, blue)
}

fn shows(guest: &Guest, command: &[&str], wanted: &str) -> bool {
    String::from_utf8_lossy(&guest.output(command).stdout).contains(wanted)
}

#[test]
fn a_guest_finds_its_address_its_router_and_its_neighbours_by_what_the_host_says() {
    let (world, red, blue) = world(Ipv6Mode::Slaac);
    for guests in [&red, &blue] {
        for (guest, last) in guests.iter().zip([1, 3]) {
            let device = guest.device.as_str();
            let address = format!("{}/64", own(last));
            eventually("an address from an advertisement", || {
                let shown = ["ip", "-6", "addr", "show", "dev", device, "scope", "global"];
                shows(guest, &shown, &address) && !shows(guest, &shown, "tentative")
            });
            let route = format!("default via {ROUTER}");
            eventually("a route", || shows(guest, &["ip", "-6", "route"], &route));
        }
        // The sibling on the other host, in full-sized packets; the host answered who looked for it.
        let neighbour = Tap::open(&guests[1]);
        assert!(guests[0].pings(&own(3).to_string(), 1452));
        let seen = neighbour.until(&[&own(1).octets()]);
        let solicited = seen.iter().find(|f| {
            f.len() > 54
                && f[12..14] == [0x86, 0xdd]
                && f[54] == 135
                && f.windows(16).any(|w| w == own(3).octets())
        });
        assert!(solicited.is_none(), "a solicitation was flooded: {solicited:02x?}");
        // The router and its other address.
        assert!(resolved(&guests[0], ROUTER).contains("0e:00:00:00:00:01"));
    }
    // The same question, each tenant's own answer, over IPv6 alone.
    for (guests, name) in [(&red, "red"), (&blue, "blue")] {
        for server in [ROUTER, GATEWAY6] {
            let found = lookup6(&guests[0], server, &format!("{name}-3"));
            assert_eq!(found, Some(own(3)), "{name} asks {server}");
            assert_eq!(lookup6(&guests[0], server, "nobody"), None);
        }
        let service =
            SocketAddrV6::new(flow_compiler::LINK_LOCAL_SERVICE6, 80, 0, index(&guests[1]));
        let request = "GET /latest/meta-data/hostname HTTP/1.1\r\nHost: metadata\r\n\
                       Connection: close\r\n\r\n";
        let answer = http(&guests[1], SocketAddr::V6(service), request).unwrap();
        assert!(answer.ends_with(&format!("{name}-3.example.internal")), "{answer}");
    }
    drop(world);
}

/// What the guest's kernel knows of a neighbour after it has looked for it.
fn resolved(guest: &Guest, ip: Ipv6Addr) -> String {
    let device = guest.device.as_str();
    let text = ip.to_string();
    let mut shown = String::new();
    eventually("a neighbour", || {
        let _ = guest.output(&["ping", "-6", "-c", "1", "-W", "1", "-I", device, &text]);
        let output = guest.output(&["ip", "-6", "neigh", "show", "to", &text, "dev", device]);
        shown = String::from_utf8_lossy(&output.stdout).into_owned();
        shown.contains("lladdr")
    });
    shown
}

fn index(guest: &Guest) -> u32 {
    inside(guest, || nix::net::if_::if_nametoindex(guest.device.as_str()).unwrap())
}

fn udp6(guest: &Guest, port: u16) -> UdpSocket {
    inside(guest, || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    })
}

/// Asks a resolver for an IPv6 address, over IPv6.
fn lookup6(guest: &Guest, server: Ipv6Addr, name: &str) -> Option<Ipv6Addr> {
    let mut question = question(name);
    let kind = question.len() - 3;
    question[kind] = 28;
    let socket = udp6(guest, 0);
    let to = SocketAddrV6::new(server, 53, 0, index(guest));
    let mut answer = [0; 512];
    for _ in 0..10 {
        socket.send_to(&question, to).unwrap();
        if let Ok((length, from)) = socket.recv_from(&mut answer) {
            assert_eq!(from.ip(), IpAddr::V6(server));
            let found = u16::from_be_bytes([answer[6], answer[7]]) > 0;
            let last: [u8; 16] = answer[length - 16..length].try_into().unwrap();
            return found.then(|| Ipv6Addr::from(last));
        }
    }
    panic!("{} had no answer about {name} from {server}", guest.namespace);
}

/// Solicits an address with rapid commit and returns the whole reply.
fn dhcp6(guest: &Guest) -> Vec<u8> {
    let socket = udp6(guest, 546);
    let to = SocketAddrV6::new("ff02::1:2".parse().unwrap(), 547, 0, index(guest));
    let client = [0, 1, 0, 6, 0, 3, 0, 1, 9, 9];
    let rapid = [0, 14, 0, 0];
    let identity = [0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let solicit = [&[1, 7, 8, 9][..], &client, &rapid, &identity].concat();
    let mut answer = [0; 1500];
    for _ in 0..20 {
        // An address of the link is tentative for a second, and nothing can be sent before.
        if socket.send_to(&solicit, to).is_ok()
            && let Ok((length, from)) = socket.recv_from(&mut answer)
        {
            assert_eq!((from.ip(), from.port()), (IpAddr::V6(ROUTER), 547));
            assert_eq!(answer[..4], [7, 7, 8, 9], "a reply to the solicitation");
            return answer[..length].to_vec();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{} got nothing by DHCPv6", guest.namespace);
}

#[test]
fn a_guest_is_given_its_address_by_dhcpv6_where_the_subnet_says_so() {
    let (world, red, blue) = world(Ipv6Mode::Dhcpv6Stateful);
    for guests in [&red, &blue] {
        for (guest, last) in guests.iter().zip([1, 3]) {
            let reply = dhcp6(guest);
            let has = |needle: &[u8]| reply.windows(needle.len()).any(|w| w == needle);
            assert!(has(&own(last).octets()), "{reply:02x?}");
            assert!(has(&GATEWAY6.octets()), "the name server is told");
            assert!(has(b"\x07example\x08internal\0"), "the search domain is told");
            // No guest makes an address for itself here.
            let device = guest.device.as_str();
            let shown = ["ip", "-6", "addr", "show", "dev", device, "scope", "global"];
            assert!(!shows(guest, &shown, "inet6 fd00"), "no address by advertisement");
        }
    }
    drop(world);
}
