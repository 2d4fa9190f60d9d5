//! The client against a real ovs-vswitchd.

#[path = "../../ovsdb/tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use openflow::wire::{FlowStatsEntry, PacketInReason};
use openflow::{
    Action, Actions, Bucket, Connection, ConnectionError, Ct, Event, Field, Flow, FlowMod, Group,
    GroupKind, Match, Meter, MeterUnit, Nat, Options, PacketOut, Subfield, ct_state, port,
};
use support::{PATIENCE, TestSwitch};

async fn connect(switch: &TestSwitch) -> Connection {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Connection::connect(&switch.management_socket("br0"), Options::default()).await {
            Ok(connection) => return connection,
            Err(e) if Instant::now() > deadline => panic!("{e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn dump(connection: &Connection) -> BTreeSet<Flow> {
    let all = connection.dump_all().await.unwrap();
    all.into_iter()
        .map(|entry| match entry {
            FlowStatsEntry::Known(stats) => stats.flow,
            foreign => panic!("not understood: {foreign:?}"),
        })
        .collect()
}

fn adds(flows: &BTreeSet<Flow>) -> impl Iterator<Item = FlowMod> + '_ {
    flows.iter().cloned().map(FlowMod::add)
}

/// Every field and every action that Open vSwitch 3.1 takes in its userspace data path.
fn one_of_each() -> BTreeSet<Flow> {
    let v4 = Ipv4Addr::new(10, 1, 2, 3);
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
    let base = Match::any().in_port(7);
    let matches = [
        Match::any(),
        base.clone().metadata(0x1234_5678_9abc_def0),
        base.clone().metadata_masked(0xff00, 0xff00),
        base.clone().tun_id(99),
        base.clone().with(Field::TunSrc, v4.to_bits().into()).with(Field::TunDst, 1),
        base.clone().with(Field::TunIpv6Src, v6.to_bits()),
        base.clone().with(Field::PktMark, 5),
        base.clone().conj_id(5),
        base.clone().ipv4().ct_state(ct_state::TRK | ct_state::NEW, ct_state::INV | ct_state::RPL),
        base.clone().ct_zone(17).ct_mark(1, 1).with_masked(Field::CtLabel, 1 << 100, 1 << 100),
        (0..16).fold(base.clone(), |m, n| m.reg(n, u32::from(n) + 1)),
        base.clone().reg_masked(4, 0x00ff_0000, 0x00ff_0000).xreg(3, 5),
        base.clone().eth_multicast().eth_src([2, 0, 0, 0, 0, 1]),
        base.clone().eth_type(0x88cc),
        base.clone().untagged(),
        base.clone().tagged(),
        base.clone().vlan(100),
        base.clone().vlan(100).with(Field::VlanPcp, 3),
        base.clone().ipv4_src(v4).ipv4_dst("10.0.0.0/8".parse::<ipnet::Ipv4Net>().unwrap()),
        base.clone().ipv4().with(Field::IpDscp, 10).with(Field::IpEcn, 1).with(Field::IpTtl, 64),
        base.clone().ipv4().with(Field::IpFrag, 3),
        base.clone().ipv4().with_masked(Field::IpFrag, 0, 2),
        base.clone().tcp4().tcp_dst(80).with_masked(Field::TcpSrc, 0x400, 0xfc00),
        base.clone().tcp6().with_masked(Field::TcpFlags, 2, 0x12),
        base.clone().udp4().udp_src(68).udp_dst(67),
        base.clone().ipv6().with(Field::SctpSrc, 1).with(Field::SctpDst, 2),
        base.clone().icmp_type(8).with(Field::IcmpCode, 0),
        base.clone().ipv6_src(v6).ipv6_dst("fd00::/64".parse::<ipnet::Ipv6Net>().unwrap()),
        base.clone().with(Field::Ipv6Label, 0x12345),
        base.clone().icmpv6_type(135).nd_target(v6).with(Field::NdSll, 0x0200_0000_0001),
        base.clone().icmpv6_type(136).nd_target(v6).with(Field::NdTll, 0x0200_0000_0001),
        base.clone().arp_op(1).arp_spa(v4).arp_tpa(v4).arp_sha([2; 6]).arp_tha([4; 6]),
        base.clone().arp().with_masked(Field::ArpSpa, 0x0a00_0000, 0xff00_0000),
    ];
    let ip = Match::any().ipv4();
    let icmp6 = Match::any().icmpv6_type(135);
    let mark = Ct::zone(9).commit().set_mark(1, 3).table(40);
    let nested = Ct::zone_from(Subfield::new(Field::Reg(4), 16, 16)).force_commit().table(41);
    let actions = [
        (Match::any(), Actions::drop()),
        (Match::any(), Actions::new().output(1).output(port::LOCAL).output_in_port()),
        (Match::any(), Actions::new().output_reg(1).controller(b"")),
        (Match::any(), Actions::new().controller(b"responder 5")),
        (
            Match::any(),
            Actions::new().then(Action::Controller { max_len: 128, userdata: vec![1, 2, 3] }),
        ),
        (Match::any(), Actions::new().then(Action::Controller { max_len: 64, userdata: vec![] })),
        (Match::any(), Actions::new().set_reg(0, 5).set_xreg(1, 6).set_metadata(7)),
        (Match::any(), Actions::new().set(Field::XxReg(2), 1 << 90)),
        (Match::any(), Actions::new().set_masked(Field::Reg(5), 0x3000, 0xf000)),
        (
            Match::any(),
            Actions::new().set_masked(Field::EthDst, 0x0100_0000_0001, 0x0100_0000_0001),
        ),
        (
            Match::any(),
            Actions::new().set_eth_src([2; 6]).set_eth_dst([4; 6]).set(Field::TunnelId, 3),
        ),
        (Match::any(), Actions::new().set(Field::TunDst, v4.to_bits().into())),
        (ip.clone(), Actions::new().set_ipv4_src(v4).set_ipv4_dst(v4).dec_ttl()),
        (ip.clone(), Actions::new().then(Action::SetTtl(255)).set(Field::IpDscp, 4)),
        (Match::any().ipv6(), Actions::new().set_ipv6_src(v6).set_ipv6_dst(v6)),
        (Match::any().udp4(), Actions::new().set(Field::UdpSrc, 53).set(Field::UdpDst, 54)),
        (Match::any().arp(), Actions::new().set(Field::ArpOp, 2).mov(Field::ArpSha, Field::ArpTha)),
        (icmp6.clone(), Actions::new().set(Field::NdTarget, v6.to_bits())),
        (icmp6.clone(), Actions::new().set(Field::Icmpv6Type, 136).set(Field::Icmpv6Code, 0)),
        (icmp6, Actions::new().set(Field::NdReserved, 0xe000_0000).set(Field::NdOptionsType, 2)),
        (
            Match::any(),
            Actions::new()
                .mov(Subfield::new(Field::Reg(0), 8, 16), Subfield::new(Field::XReg(2), 3, 16)),
        ),
        (
            Match::any(),
            Actions::new().mov(Field::EthSrc, Field::EthDst).mov(Field::InPort, Field::Reg(9)),
        ),
        (
            Match::any(),
            Actions::new().then(Action::PushVlan(0x8100)).set(Field::VlanVid, 0x1064).output(1),
        ),
        (Match::any().tagged(), Actions::new().then(Action::PopVlan).output(1)),
        (
            Match::any(),
            Actions::new().resubmit(5).then(Action::Resubmit { in_port: Some(3), table: None }),
        ),
        (ip.clone(), Actions::new().ct(Ct::zone(5).table(40)).then(Action::CtClear)),
        (ip.clone(), Actions::new().ct(mark.nat(Nat::EXISTING))),
        (ip.clone(), Actions::new().ct(nested.nat(Nat::source(v4).ports(1024, 2047)))),
        (
            ip.clone(),
            Actions::new().ct(Ct::zone(1).commit().nat(Nat {
                addresses: Some((v4.into(), Ipv4Addr::new(10, 1, 2, 9).into())),
                random: true,
                ..Nat::source(v4)
            })),
        ),
        (ip.clone(), Actions::new().ct(Ct::zone(1).commit().nat(Nat::destination(v4)))),
        (Match::any().ipv6(), Actions::new().ct(Ct::zone(1).commit().nat(Nat::source(v6)))),
        (Match::any(), Actions::new().then(Action::Conjunction { id: 9, clause: 1, clauses: 3 })),
        (
            Match::any(),
            Actions::new()
                .then(Action::Clone(vec![Action::Output(1), Action::set(Field::Reg(0), 1)])),
        ),
        (
            Match::any(),
            Actions::new().then(Action::CheckPktLarger {
                len: 1514,
                dst: Subfield::new(Field::Reg(0), 3, 1),
            }),
        ),
        (Match::any(), Actions::new().output(1).write_metadata(0x12, 0xff).goto(7)),
        (Match::any(), Actions::new().write_metadata(0x12, u64::MAX).goto(200)),
        (Match::any(), Actions::new().meter(1).output(1).goto(7)),
        (ip, Actions::new().group(1)),
    ];
    let matches = matches.into_iter().map(|m| (m, Actions::new().output(1)));
    (0u16..)
        .zip(matches.chain(actions))
        .map(|(priority, (m, a))| Flow::new(3, priority, m, a).cookie(u64::from(priority)))
        .collect()
}

#[tokio::test]
async fn every_kind_of_flow_is_given_back_as_it_was_sent() {
    let Some(switch) = TestSwitch::start() else { return };
    switch.add_bridge("br0");
    let connection = connect(&switch).await;
    let bucket = |port| Bucket { weight: 1, watch_port: None, actions: vec![Action::Output(port)] };
    let group = Group { id: 1, kind: GroupKind::Select, buckets: vec![bucket(1), bucket(2)] };
    let meter = Meter { id: 1, unit: MeterUnit::Packets, rate: 100, burst: 10 };
    connection.meter(&openflow::wire::MeterMod::Add(meter)).await.unwrap();
    connection.bundle([openflow::wire::GroupMod::Add(group)]).await.unwrap();

    let flows = one_of_each();
    connection.bundle(adds(&flows)).await.unwrap();
    let back = dump(&connection).await;
    let text = |flows: Vec<&Flow>| flows.iter().map(|f| format!("  {f}\n")).collect::<String>();
    assert!(
        back == flows,
        "sent and not given back:\n{}given back and not sent:\n{}",
        text(flows.difference(&back).collect()),
        text(back.difference(&flows).collect())
    );

    // What we print, ovs-ofctl reads, and makes the same flows of it.
    let lines: String = flows.iter().map(|f| format!("{f}\n")).collect();
    let file = switch.path("flows.txt");
    std::fs::write(&file, lines).unwrap();
    let socket = format!("unix:{}", switch.management_socket("br0").display());
    connection.bundle([FlowMod::delete(openflow::TABLE_ALL, Match::any())]).await.unwrap();
    assert!(dump(&connection).await.is_empty());
    switch.run(
        "ovs-ofctl",
        &["-O", "OpenFlow14", "--bundle", "add-flows", &socket, file.to_str().unwrap()],
    );
    let back = connection.dump_all().await.unwrap();
    assert_eq!(back.len(), flows.len());
}

fn table(count: u32, generation: u64) -> BTreeSet<Flow> {
    (0..count)
        .map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            // Every hundredth flow changes with the generation.
            let changing = if n % 100 == 0 { generation } else { 0 };
            let m = Match::any().metadata(u64::from(n % 50)).eth_dst([0xfa, 0x16, 0x3e, a, b, c]);
            let m = m.ipv4_dst(Ipv4Addr::new(10, a, b, c));
            let actions = Actions::new().set_reg(1, n).set_xreg(2, changing).goto(70);
            Flow::new((n % 60) as u8, 100, m, actions).cookie(u64::from(n))
        })
        .collect()
}

#[tokio::test]
async fn ten_thousand_flows_in_a_bundle_then_one_in_a_hundred_changed() {
    let Some(switch) = TestSwitch::start() else { return };
    switch.add_bridge("br0");
    let connection = connect(&switch).await;
    let first = table(10_000, 0);
    let begin = Instant::now();
    connection.bundle(adds(&first)).await.unwrap();
    let added = begin.elapsed();
    assert!(dump(&connection).await == first, "the table is what was sent");

    let second = table(10_000, 1);
    let changed: BTreeSet<Flow> = second.difference(&first).cloned().collect();
    assert_eq!(changed.len(), 100);
    let begin = Instant::now();
    connection.bundle(adds(&changed)).await.unwrap();
    println!("10,000 flows in {added:?}, 100 changed in {:?}", begin.elapsed());
    assert!(dump(&connection).await == second, "the table is what was sent");
}

#[tokio::test]
async fn a_bundle_is_all_or_nothing() {
    let Some(switch) = TestSwitch::start() else { return };
    switch.add_bridge("br0");
    let connection = connect(&switch).await;
    let good = Flow::new(0, 1, Match::any(), Actions::new().output(1));
    // goto_table must go forward: the switch sees that when the message is added.
    let backwards = Flow::new(5, 1, Match::any(), Actions::new().goto(2));
    let error =
        connection.bundle([FlowMod::add(good.clone()), FlowMod::add(backwards)]).await.unwrap_err();
    let ConnectionError::Bundle { failed } = &error else { panic!("{error}") };
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, 1, "{error}");
    assert!(error.to_string().contains("later table"), "{error}");
    assert!(dump(&connection).await.is_empty());

    // A group that does not exist: the switch sees that when the bundle is committed.
    let missing = Flow::new(0, 2, Match::any().ipv4(), Actions::new().group(77));
    let error =
        connection.bundle([FlowMod::add(good.clone()), FlowMod::add(missing)]).await.unwrap_err();
    assert!(!error.is_disconnected(), "{error}");
    assert!(dump(&connection).await.is_empty());

    connection.bundle([FlowMod::add(good.clone())]).await.unwrap();
    assert_eq!(dump(&connection).await, BTreeSet::from([good]));
}

#[tokio::test]
async fn packets_come_in_and_go_out_with_their_registers() {
    let Some(switch) = TestSwitch::start() else { return };
    switch.add_bridge("br0");
    let connection = connect(&switch).await;
    let mut events = connection.events();
    let ttl = Match::any().in_port(port::LOCAL).ipv4();
    connection
        .bundle([
            FlowMod::add(
                Flow::new(
                    0,
                    1,
                    Match::any().in_port(port::LOCAL),
                    Actions::new().set_reg(3, 0xabc).set_metadata(5).controller(b"hello"),
                )
                .cookie(0x77),
            ),
            FlowMod::add(Flow::new(0, 2, ttl, Actions::new().set_reg(3, 9).dec_ttl().output(1))),
        ])
        .await
        .unwrap();
    let send = |data: Vec<u8>| PacketOut {
        in_port: port::LOCAL,
        actions: vec![Action::Output(port::TABLE)],
        data: data.into(),
    };
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend([7; 60]);
    connection.packet_out(&send(frame.clone())).await.unwrap();
    let packet = loop {
        match tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            Event::PacketIn(packet) if packet.data == frame => break packet,
            _ => {}
        }
    };
    assert_eq!((packet.cookie, packet.table, packet.in_port()), (0x77, 0, Some(port::LOCAL)));
    assert_eq!(packet.reason, PacketInReason::Action);
    assert_eq!(&packet.userdata[..], b"hello");
    assert_eq!(packet.metadata.get(Field::Reg(3)), Some((0xabc, 0xffff_ffff)));
    assert_eq!(packet.metadata.get(Field::Metadata), Some((5, u64::MAX.into())));

    // A packet at the end of its life is ours as well, so that somebody can say so to its sender.
    let mut frame = vec![4, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 1, 200, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0; 20]);
    connection.packet_out(&send(frame)).await.unwrap();
    let reason = loop {
        match tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap() {
            Event::PacketIn(packet) if packet.reason != PacketInReason::Action => {
                break packet.reason;
            }
            _ => {}
        }
    };
    assert_eq!(reason, PacketInReason::InvalidTtl);
    connection.flush_zone(7).await.unwrap();
    let about = connection.description().await.unwrap();
    assert_eq!(
        (about.manufacturer.as_str(), about.hardware.as_str()),
        ("Nicira, Inc.", "Open vSwitch")
    );
    assert_eq!(about.software.split('.').count(), 3, "{about:?}");
}

#[tokio::test]
async fn the_end_of_the_switch_is_noticed_at_once() {
    let Some(switch) = TestSwitch::start() else { return };
    switch.add_bridge("br0");
    let connection = connect(&switch).await;
    connection.barrier().await.unwrap();
    switch.kill_vswitchd();
    let why = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    let error = connection.barrier().await.unwrap_err();
    assert!(error.is_disconnected() && error.to_string().contains(&*why), "{error}");
    assert!(connection.dump_flows().await.is_err());

    // The next vswitchd is a new connection with an empty table.
    switch.start_vswitchd();
    let connection = connect(&switch).await;
    assert!(dump(&connection).await.is_empty());
    let ports = connection.ports().await.unwrap();
    assert_eq!(
        ports.iter().map(|p| (p.number, p.name.as_str())).collect::<Vec<_>>(),
        [(port::LOCAL, "br0")]
    );
}
