//! What a guest or the underlay may try. Each frame is first shown to arrive where it is allowed
//! (from a port without port security), or at least to leave the guest; then it is sent in earnest,
//! and nobody may hear of it, neither its own tenant nor the twin with the same addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::packet::{Forged, Forged6, Tap, contains};
use super::world::{Guest, World};
use super::{GATEWAY, ip, ip6, mac, port, server, tenants, udp};

/// How often everything is tried; more in the long form.
fn rounds() -> usize {
    std::env::var("MERIDIAN_ATTACK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Makes a frame with a payload.
type Maker = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A frame with a payload of one's choice, and whether it is ever forwarded.
struct Attack {
    name: &'static str,
    /// A port without port security may send it.
    free: bool,
    frame: Maker,
}

fn attack(name: &'static str, free: bool, frame: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Attack {
    Attack { name, free, frame: Box::new(frame) }
}

/// Everything that port 1 must not say to port `last`.
fn attacks(last: u8) -> Vec<Attack> {
    let four = Forged { eth_src: mac(1).0, eth_dst: mac(last).0, ip_src: ip(1), ip_dst: ip(last) };
    let six =
        Forged6 { eth_src: mac(1).0, eth_dst: mac(last).0, ip_src: ip6(1), ip_dst: ip6(last) };
    let stranger = [0xfa, 0x16, 0x3e, 9, 9, 9];
    let all = [0xff; 6];
    let locator = |host, port| cloud_types::Locator::Port { host, port }.mac().0;
    let flood = |host, network| cloud_types::Locator::Flood { host, network }.mac().0;
    let other: Ipv6Addr = "fd00::99".parse().unwrap();
    let nodes: Ipv6Addr = "ff02::1".parse().unwrap();
    let to_nodes = Forged6 { eth_dst: [0x33, 0x33, 0, 0, 0, 1], ip_dst: nodes, ..six };
    let gateway6: Ipv6Addr = "fe80::c00:ff:fe00:1".parse().unwrap();
    vec![
        attack("another's MAC", true, move |p| {
            Forged { eth_src: stranger, ..four }.udp(4000, 4000, p)
        }),
        attack("another's IPv4 address", true, move |p| {
            Forged { ip_src: ip(99), ..four }.udp(4000, 4000, p)
        }),
        attack("another's IPv6 address", true, move |p| {
            Forged6 { ip_src: other, ..six }.udp(4000, 4000, p)
        }),
        attack("another's MAC over IPv6", true, move |p| {
            Forged6 { eth_src: stranger, ..six }.udp(4000, 4000, p)
        }),
        attack("a locator as source", true, move |p| {
            Forged { eth_src: locator(2, 3), ..four }.udp(4000, 4000, p)
        }),
        attack("a locator as destination", false, move |p| {
            Forged { eth_dst: locator(2, 3), ..four }.udp(4000, 4000, p)
        }),
        attack("the twin's locator as destination", false, move |p| {
            Forged { eth_dst: locator(2, 0x10_0003), ..four }.udp(4000, 4000, p)
        }),
        attack("the twin's flood locator as destination", false, move |p| {
            Forged { eth_dst: flood(1, 2), ..four }.udp(4000, 4000, p)
        }),
        attack("802.1Q", false, move |p| four.tagged(&[0x8100], p)),
        attack("802.1Q with a priority and no VLAN", false, move |p| {
            let mut frame = four.tagged(&[0x8100], p);
            (frame[14], frame[15]) = (0xe0, 0);
            frame
        }),
        attack("QinQ", false, move |p| four.tagged(&[0x88a8, 0x8100], p)),
        attack("two 802.1Q tags", false, move |p| four.tagged(&[0x8100, 0x8100], p)),
        attack("ARP for the gateway", true, move |p| Forged { ip_src: GATEWAY, ..four }.arp(p)),
        attack("ARP with another's MAC", true, move |p| {
            Forged { eth_src: stranger, ..four }.arp(p)
        }),
        attack("gratuitous ARP for a sibling", true, move |p| {
            Forged { eth_dst: all, ip_src: ip(last), ip_dst: ip(last), ..four }.arp(p)
        }),
        attack("a neighbour advertisement for another", true, move |p| {
            six.advertisement(other, mac(1).0, p)
        }),
        attack("a neighbour advertisement for the router", true, move |p| {
            to_nodes.advertisement(gateway6, mac(1).0, p)
        }),
        attack("a neighbour advertisement with another's MAC", true, move |p| {
            six.advertisement(ip6(1), stranger, p)
        }),
        attack("a router advertisement", true, move |p| to_nodes.icmp(134, &[64, 0, 7, 8], p)),
        attack("a redirect", false, move |p| six.icmp(137, &[0; 4], p)),
        attack("a DHCP server", true, move |p| four.udp(67, 68, p)),
        attack("a DHCPv6 server", true, move |p| six.udp(547, 546, p)),
        attack("a spanning tree's BPDU", false, move |p| {
            raw(mac(1).0, [0x01, 0x80, 0xc2, 0, 0, 0], None, p)
        }),
        attack("LLDP", false, move |p| {
            raw(mac(1).0, [0x01, 0x80, 0xc2, 0, 0, 0x0e], Some(0x88cc), p)
        }),
        attack("LACP", false, move |p| raw(mac(1).0, [0x01, 0x80, 0xc2, 0, 0, 2], Some(0x8809), p)),
    ]
}

/// A frame of any type, or of 802.3's form with a length.
fn raw(src: [u8; 6], dst: [u8; 6], kind: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let kind = kind.unwrap_or(payload.len() as u16 + 3).to_be_bytes();
    let mut frame = [&dst[..], &src, &kind].concat();
    if u16::from_be_bytes(kind) < 0x600 {
        frame.extend_from_slice(&[0x42, 0x42, 3]);
    }
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Reads what came to a guest until two markers are through; the frames that came before them.
fn heard(sender: &Tap, receiver: &Tap, honest: &Forged, round: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    // Twice: what came together with the first is through before the second.
    for half in 0..2 {
        let marker = format!("marker-{round}-{half}.");
        sender.send(&honest.udp(4000, 4000, marker.as_bytes()));
        seen.extend(receiver.until(&[marker.as_bytes()]));
    }
    seen
}

#[test]
fn a_guest_says_nothing_that_is_not_its_own_to_say() {
    let (mut world, red, blue) = tenants().parts();
    let mut free = port("red", 9, 9);
    free.port_security = false;
    world.servers.push(server(&free));
    let free = world.plug(0, free);
    world.apply();
    let (attacker, allowed) = (Tap::open(&red[0]), Tap::open(&free));
    let leaving = Tap::outside(&red[0]);
    let receivers = [(&red[1], 2), (&red[2], 3)];
    for (time, (receiver, last)) in (0..rounds()).flat_map(|time| receivers.map(|r| (time, r))) {
        let taps = [receiver, &blue[0], &blue[1], &blue[2]].map(Tap::open);
        let honest =
            Forged { eth_src: mac(1).0, eth_dst: mac(last).0, ip_src: ip(1), ip_dst: ip(last) };
        for (round, attack) in attacks(last).iter().enumerate() {
            // The same frame where it is allowed: from a free port, else out of the guest at least.
            let control = format!("control-{time}-{last}-{round}.");
            let frame = (attack.frame)(control.as_bytes());
            if attack.free {
                allowed.send(&frame);
                taps[0].until(&[control.as_bytes()]);
            } else {
                attacker.send(&frame);
                leaving.until(&[control.as_bytes()]);
            }
            let lie = format!("lie-{time}-{last}-{round}.");
            attacker.send(&(attack.frame)(lie.as_bytes()));
            let seen =
                heard(&attacker, &taps[0], &honest, round + 100 * usize::from(last) + 1000 * time);
            let told = seen.iter().any(|frame| contains(frame, lie.as_bytes()));
            assert!(!told, "{}: {seen:02x?}", attack.name);
        }
        // The twin's own frame comes after all of them on the same ways.
        let marker = format!("blue-marker-{time}-{last}.");
        let twin = Tap::open(&blue[0]);
        twin.send(&Forged { eth_dst: [0xff; 6], ..honest }.udp(4000, 4000, marker.as_bytes()));
        for tap in &taps[2..] {
            let seen = tap.until(&[marker.as_bytes()]);
            let crossed = seen.iter().find(|f| contains(f, b"lie-") || contains(f, b"control-"));
            assert!(crossed.is_none(), "{crossed:02x?}");
        }
    }
}

#[test]
fn a_frame_on_the_underlay_reaches_only_whom_its_locators_name() {
    let (world, red, blue) = tenants().parts();
    // On the wire towards host 2, as host 1 or anybody there could send.
    let wire = Tap::device(&world.wires[0]);
    let locator = |host, port| cloud_types::Locator::Port { host, port }.mac().0;
    let flood = |host, network| cloud_types::Locator::Flood { host, network }.mac().0;
    let four =
        Forged { eth_src: locator(1, 1), eth_dst: locator(2, 3), ip_src: ip(1), ip_dst: ip(3) };
    let red_guest = Tap::open(&red[2]);
    let blue_guest = Tap::open(&blue[2]);
    let send = |forged: Forged, payload: &[u8]| wire.send(&forged.udp(4000, 4000, payload));
    // Right: host 1's first red port to host 2's red port, and to all of red there.
    send(four, b"control-port");
    send(Forged { eth_dst: flood(2, 1), ..four }, b"control-flood");
    red_guest.until(&[b"control-port", b"control-flood"]);
    let blue_locator = locator(1, 0x10_0001);
    for (what, forged) in [
        ("of the twin to red", Forged { eth_src: blue_locator, ..four }),
        ("of red to the twin", Forged { eth_dst: locator(2, 0x10_0003), ..four }),
        ("of red to all of the twin", Forged { eth_dst: flood(2, 2), ..four }),
        (
            "of the twin to all of red",
            Forged { eth_src: blue_locator, eth_dst: flood(2, 1), ..four },
        ),
        ("of a port that is not there", Forged { eth_src: locator(1, 77), ..four }),
        ("of a host that is not there", Forged { eth_src: locator(9, 1), ..four }),
        ("of the host itself", Forged { eth_src: locator(2, 3), ..four }),
        ("of a flood locator", Forged { eth_src: flood(1, 1), ..four }),
        ("to a port that is not there", Forged { eth_dst: locator(2, 77), ..four }),
        ("to a network that is not there", Forged { eth_dst: flood(2, 77), ..four }),
        ("to another host", Forged { eth_dst: locator(1, 1), ..four }),
        ("between guests' own MACs", Forged { eth_src: mac(1).0, eth_dst: mac(3).0, ..four }),
        ("to everybody", Forged { eth_dst: [0xff; 6], ..four }),
    ] {
        send(forged, format!("lie {what}").as_bytes());
    }
    wire.send(&four.tagged(&[0x8100], b"lie tagged"));
    wire.send(&four.tagged(&[0x88a8, 0x8100], b"lie twice tagged"));
    wire.send(&raw(locator(1, 1), [0x01, 0x80, 0xc2, 0, 0, 0], None, b"lie bpdu"));
    wire.send(&raw(locator(1, 1), [0x01, 0x80, 0xc2, 0, 0, 0x0e], Some(0x88cc), b"lie lldp"));
    for marker in [&b"marker-1"[..], b"marker-2"] {
        send(four, marker);
        let seen = red_guest.until(&[marker]);
        assert!(seen.iter().all(|frame| !contains(frame, b"lie ")), "{seen:02x?}");
        send(Forged { eth_src: blue_locator, eth_dst: locator(2, 0x10_0003), ..four }, marker);
        let seen = blue_guest.until(&[marker]);
        assert!(
            seen.iter().all(|f| !contains(f, b"lie ") && !contains(f, b"control-")),
            "{seen:02x?}"
        );
    }
    drop(world);
}

#[test]
fn a_guest_that_floods_is_heard_by_its_own_network_alone_and_others_are_served() {
    let (world, red, blue) = tenants().parts();
    let flooder = Tap::open(&red[0]);
    let twin = Tap::open(&blue[1]);
    let to_all = Forged {
        eth_src: mac(1).0,
        eth_dst: [0xff; 6],
        ip_src: ip(1),
        ip_dst: Ipv4Addr::BROADCAST,
    };
    let sibling = Tap::open(&red[1]);
    let frame = to_all.udp(4000, 4000, b"flood");
    let unknown = Forged { eth_dst: [0xfa, 0x16, 0x3e, 8, 8, 8], ..to_all };
    let unknown = unknown.udp(4000, 4000, b"flood");
    for _ in 0..5_000 * rounds() {
        flooder.send_if_room(&frame);
        flooder.send_if_room(&unknown);
    }
    sibling.until(&[b"flood"]);
    assert_eq!(super::lookup(&blue[0], "blue-3"), Some(ip(3)), "names are resolved meanwhile");
    assert!(blue[0].pings("10.0.0.13", 56), "guests reach their siblings meanwhile");
    let own = Tap::open(&blue[0]);
    own.send(&to_all.udp(4000, 4000, b"blue-marker"));
    let seen = twin.until(&[b"blue-marker"]);
    assert!(seen.iter().all(|frame| !contains(frame, b"flood")));
    drop(world);
}

#[test]
fn what_a_guest_sends_to_the_resolver_is_a_question_or_nothing() {
    let (world, red, blue) = tenants().parts();
    let socket = udp(&red[0], Ipv4Addr::UNSPECIFIED, 53);
    // A response that nobody asked for, about the twin's and about an outside name.
    for name in ["blue-3", "www.example.org"] {
        let mut poison = super::question(name);
        (poison[2], poison[3], poison[7]) = (0x85, 0x80, 1);
        poison.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0xff, 0, 0, 4, 6, 6, 6, 6]);
        for to in [GATEWAY, Ipv4Addr::new(169, 254, 169, 254)] {
            socket.send_to(&poison, (to, 53)).unwrap();
        }
    }
    let mut buffer = [0; 512];
    assert!(socket.recv(&mut buffer).is_err(), "a response was answered");
    for guest in [&red[1], &blue[0]] {
        let own = if guest.namespace == blue[0].namespace { Some(ip(3)) } else { None };
        assert_eq!(super::lookup(guest, "blue-3"), own);
        assert_eq!(super::lookup(guest, "www.example.org"), None);
    }
    drop(world);
}

/// So that a world is not taken down while its guests are looked at.
impl super::Tenants {
    pub fn parts(self) -> (World, [Guest; 3], [Guest; 3]) {
        (self.world, self.red, self.blue)
    }
}
