//! The compiler against a model of what should happen, on random clouds: no frame crosses tenants,
//! and what groups allow is exactly what passes.
//!
//! The flows run in an interpreter of flow tables; the model knows ports, rules and frames, and
//! nothing of tables. Mutants (a table with one mistake in it) show that the checks can fail.

#[path = "pipeline/bytes.rs"]
mod bytes;
#[path = "pipeline/frame.rs"]
mod frame;
#[path = "pipeline/interpreter.rs"]
mod interpreter;
#[path = "pipeline/model.rs"]
mod model;
#[path = "pipeline/mutants.rs"]
mod mutants;
#[path = "pipeline/replay.rs"]
mod replay;
#[path = "pipeline/switch.rs"]
mod switch;
#[path = "pipeline/world.rs"]
mod world;

use std::net::{Ipv4Addr, Ipv6Addr};

use frame::{Body, Frame, Tuple};
use host_protocol::SecurityRule;
use model::Firewalls;
use proptest::prelude::*;
use proptest::sample::Index;
use world::{Cloud, Fabric, HOSTS, Receiver, address, mac};

/// One thing that happens in a cloud.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A port sends a frame.
    Send { from: Index, frame: Frame },
    /// Whoever heard the last frame answers it.
    Answer,
    /// A port's rules change; those of whoever heard the last frame, if no port is named.
    Rules { port: Option<Index>, rules: Vec<SecurityRule> },
    /// A port joins and leaves groups; whoever heard the last frame, if no port is named. Every
    /// host hears of it.
    Groups { port: Option<Index>, groups: Vec<String> },
}

fn any_mac() -> impl Strategy<Value = [u8; 6]> {
    prop_oneof![
        8 => (1u8..6).prop_map(|n| mac(n).0),
        2 => Just([0xff; 6]),
        1 => (1u8..4).prop_map(|n| [0x33, 0x33, 0, 0, 0, n]),
        1 => Just(model::ROUTER),
        // Locators of ports and networks that are there.
        1 => (0u8..3, 1u8..25).prop_map(|(h, p)| [0x02, 1, h + 1, 0, 0, p]),
        1 => (0u8..3, 100u8..103).prop_map(|(h, n)| [0x12, 1, h + 1, 0, 0, n]),
    ]
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let ports = prop_oneof![
        4 => (79u16..87, 79u16..87),
        1 => Just((67, 68)),
        1 => (Just(4000), 1u16..3),
    ];
    let kinds =
        prop_oneof![Just((6u8, None)), Just((17, None)), Just((1, Some(8))), Just((1, Some(3)))];
    (kinds, ports, 1u8..6, 1u8..8, any::<bool>(), any::<bool>()).prop_map(
        |((proto, icmp), (src_port, dst_port), src, dst, v6, group)| {
            let dst = match (dst, v6, group) {
                (7, false, true) => Ipv4Addr::new(239, 200, 1, 2).into(),
                (7, true, true) => "ff02::1:2".parse().unwrap(),
                _ => address(dst, v6),
            };
            let (proto, src_port, dst_port) = match (icmp, v6) {
                (None, _) => (proto, src_port, dst_port),
                (Some(kind), false) => (proto, kind, 0),
                (Some(_), true) => (58, 128, 0),
            };
            Tuple { proto, src: address(src, v6), dst, src_port, dst_port, icmp_id: 7 }
        },
    )
}

fn any_body() -> impl Strategy<Value = Body> {
    let v4 = |n: u8| Ipv4Addr::new(10, 0, 0, n);
    prop_oneof![
        6 => any_tuple().prop_map(Body::Ip),
        2 => (1u16..3, 1u8..6, 0u8..6, 1u8..9, any::<bool>()).prop_map(move |(op, sha, spa, tpa, gateway)| {
            let spa = if spa == 0 { Ipv4Addr::UNSPECIFIED } else { v4(spa) };
            let tpa = if gateway && tpa > 5 { v4(254) } else { v4(tpa) };
            Body::Arp { op, sha: mac(sha).0, spa, tha: [0; 6], tpa }
        }),
        2 => any_discovery(),
        1 => prop_oneof![Just(0x88b5), Just(0x88cc)].prop_map(Body::Other),
    ]
}

/// Neighbour discovery about ports, gateways and services that are there, and about others.
fn any_discovery() -> impl Strategy<Value = Body> {
    let v6 = |n: u8| match address(n, true) {
        std::net::IpAddr::V6(ip) => ip,
        std::net::IpAddr::V4(_) => unreachable!(),
    };
    let named = prop_oneof![
        6 => (1u8..8).prop_map(v6),
        1 => Just(v6(254)),
        2 => (1u8..8).prop_map(|n| model::link_local(mac(n).0)),
        1 => prop_oneof![Just("fe80::a9fe:a9fe"), Just("fe80::c00:ff:fe00:1")]
            .prop_map(|text| text.parse().unwrap()),
    ];
    let src = prop_oneof![1 => Just(Ipv6Addr::UNSPECIFIED), 5 => (1u8..6).prop_map(v6)];
    let told = proptest::option::weighted(0.8, (1u8..6).prop_map(|n| mac(n).0));
    (prop::bool::weighted(0.7), src, named, told, any::<bool>()).prop_map(
        |(asks, src, target, mac, group)| Body::Nd {
            kind: if asks { 135 } else { 136 },
            src,
            // The group of all that share the target's last 24 bits (RFC 4291, section 2.7.1).
            dst: match group {
                true => Ipv6Addr::from_bits(
                    (0xff02_u128 << 112) | 0x1_ff00_0000 | (target.to_bits() & 0xff_ffff),
                ),
                false => target,
            },
            target,
            mac,
            flags: if asks { 0 } else { 0x2000_0000 },
        },
    )
}

pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    let frame = (any_mac(), any_mac(), prop::bool::weighted(0.05), any_body()).prop_map(
        |(eth_src, eth_dst, tagged, body)| Frame {
            eth_src,
            eth_dst,
            tag: tagged.then_some(5),
            body,
        },
    );
    let forged = (any::<Index>(), frame).prop_map(|(from, frame)| Step::Send { from, frame });
    prop_oneof![
        3 => forged,
        6 => (any::<Index>(), any_body(), 1u8..7).prop_map(|(from, body, to)| {
            // Sent honestly once the port is known; see `honest`.
            let eth_dst = if to == 6 { [0xff; 6] } else { mac(to).0 };
            Step::Send { from, frame: Frame { eth_src: HONEST, eth_dst, tag: None, body } }
        }),
        4 => Just(Step::Answer),
        2 => (proptest::option::of(any::<Index>()), world::rules()).prop_map(|(port, rules)| Step::Rules { port, rules }),
        2 => (proptest::option::of(any::<Index>()), world::groups()).prop_map(|(port, groups)| Step::Groups { port, groups }),
    ]
}

/// Stands for "the sender's own MAC and addresses".
const HONEST: [u8; 6] = [0; 6];

pub(crate) fn honest(cloud: &Cloud, from: usize, mut frame: Frame) -> Frame {
    if frame.eth_src != HONEST {
        return frame;
    }
    let spec = &cloud.ports[from].spec;
    frame.eth_src = spec.mac.0;
    let own = |v6: bool| spec.fixed_ips[usize::from(v6)].ip;
    match &mut frame.body {
        Body::Ip(tuple) => tuple.src = own(tuple.src.is_ipv6()),
        Body::Nd { kind, src, target, mac, .. } => {
            match (*kind, own(true)) {
                (135, _) => *mac = mac.map(|_| spec.mac.0),
                // About its own address, but perhaps with another's MAC.
                (_, std::net::IpAddr::V6(ip)) if mac.is_some() => *target = ip,
                _ => {}
            }
            if !src.is_unspecified()
                && let std::net::IpAddr::V6(ip) = own(true)
            {
                *src = ip;
            }
        }
        Body::Arp { sha, spa, .. } => {
            *sha = spec.mac.0;
            if !spa.is_unspecified()
                && let std::net::IpAddr::V4(ip) = own(false)
            {
                *spa = ip;
            }
        }
        Body::Other(_) => {}
    }
    frame
}

/// The answer to a frame, from the one who heard it.
pub(crate) fn reply_of(cloud: &Cloud, to: usize, heard: &Frame) -> Option<Frame> {
    let Body::Ip(tuple) = &heard.body else { return None };
    Some(Frame {
        eth_src: cloud.ports[to].spec.mac.0,
        eth_dst: heard.eth_src,
        tag: None,
        body: Body::Ip(tuple.reversed()),
    })
}

/// Runs the steps on flows that `tables` makes of the cloud, and compares with the model. The
/// error says what went wrong, so that mutants can be caught without a panic.
pub(crate) fn check(
    mut cloud: Cloud,
    steps: &[Step],
    exact: bool,
    tables: &dyn Fn(&Cloud, usize) -> Vec<openflow::Flow>,
) -> Result<(), String> {
    let mut fabric = Fabric::new((0..HOSTS).map(|host| tables(&cloud, host)).collect());
    let mut firewalls = Firewalls::default();
    let mut last: Option<(usize, Frame)> = None;
    for step in steps {
        let named = |cloud: &Cloud, port: &Option<Index>| {
            let named = port.map(|port| port.index(cloud.ports.len()));
            named.or(last.as_ref().map(|(port, _)| *port))
        };
        let (from, frame) = match step {
            Step::Groups { port, groups } => {
                let Some(index) = named(&cloud, port) else { continue };
                cloud.ports[index].spec.security_groups = groups.clone();
                for host in 0..HOSTS {
                    fabric.bridges[host].replace(tables(&cloud, host));
                }
                continue;
            }
            Step::Rules { port, rules } => {
                let Some(index) = named(&cloud, port) else { continue };
                cloud.ports[index].spec.security_rules = rules.clone();
                let host = cloud.ports[index].host;
                fabric.bridges[host].replace(tables(&cloud, host));
                continue;
            }
            Step::Send { from, frame } => {
                let from = from.index(cloud.ports.len());
                (from, honest(&cloud, from, frame.clone()))
            }
            Step::Answer => {
                let Some((from, heard)) = &last else { continue };
                let Some(frame) = reply_of(&cloud, *from, heard) else { continue };
                (*from, frame)
            }
        };
        let mut heard = fabric.send(&cloud, from, &frame);
        isolated(&cloud, from, &heard, &fabric, &frame)?;
        let mut expected = firewalls.expect(&cloud, from, &frame);
        // The router's MAC belongs to the services, which have tests of their own.
        let to_router = frame.eth_dst == model::ROUTER;
        let dhcp = matches!(&frame.body, Body::Ip(t) if (t.src_port, t.dst_port) == (68, 67));
        if exact && !to_router && !dhcp {
            heard.sort();
            expected.sort();
            if heard != expected {
                return Err(format!(
                    "{from} sent {frame:?}\nheard {heard:?}\nexpected {expected:?}"
                ));
            }
        }
        last = heard.iter().find_map(|(to, frame)| match to {
            Receiver::Port(to) => Some((*to, frame.clone())),
            Receiver::Responder(_) => None,
        });
    }
    Ok(())
}

/// What must hold whatever the rules: frames stay in their network, and the wire sees only
/// locators, each host's own as source and another's as destination.
fn isolated(
    cloud: &Cloud,
    from: usize,
    heard: &[(Receiver, Frame)],
    fabric: &Fabric,
    frame: &Frame,
) -> Result<(), String> {
    for (receiver, _) in heard {
        if let Receiver::Port(to) = receiver
            && cloud.ports[*to].network != cloud.ports[from].network
        {
            return Err(format!("{frame:?} of {from} crossed to {to}"));
        }
    }
    for (host, frame) in &fabric.wire {
        let src = world::locator_host(frame.eth_src);
        let dst = world::locator_host(frame.eth_dst);
        let own = Some(world::number(*host));
        if frame.tag.is_some() || src != own || dst.is_none() || dst == own {
            return Err(format!("host {host} put {frame:?} on the wire"));
        }
    }
    Ok(())
}

fn compiled(cloud: &Cloud, host: usize) -> Vec<openflow::Flow> {
    cloud.compile(host)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_groups_allow_is_exactly_what_passes(
        cloud in world::cloud(false),
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        if let Err(what) = check(cloud, &steps, true, &compiled) {
            prop_assert!(false, "{}", what);
        }
    }

    #[test]
    fn nothing_crosses_tenants_whatever_pairs_are_allowed(
        cloud in world::cloud(true),
        steps in proptest::collection::vec(any_step(), 1..40),
    ) {
        if let Err(what) = check(cloud, &steps, false, &compiled) {
            prop_assert!(false, "{}", what);
        }
    }

    #[test]
    fn a_forged_frame_on_the_wire_reaches_only_the_network_of_the_locators_it_names(
        cloud in world::cloud(true),
        frame in (any_mac(), any_mac(), any_body()).prop_map(|(eth_src, eth_dst, body)| Frame {
            eth_src, eth_dst, tag: None, body,
        }),
    ) {
        let mut fabric = Fabric::new((0..HOSTS).map(|host| cloud.compile(host)).collect());
        let mut heard = Vec::new();
        fabric.inject(usize::MAX, &frame, &mut heard);
        let owner = cloud.ports.iter().find(|p| {
            let locator = cloud_types::Locator::Port {
                host: world::number(p.host),
                port: p.spec.port_number,
            };
            locator.mac().0 == frame.eth_src
        });
        for (receiver, _) in heard {
            let Receiver::Port(to) = receiver else { panic!("responders hear guests only") };
            let owner = owner.expect("a frame from a locator that is no port's was delivered");
            prop_assert_eq!(cloud.ports[to].network, owner.network);
        }
    }
}
