//! What is encoded is decoded to the same, and no bytes whatever make the decoder panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use openflow::wire::{
    self, FlowModCommand, Header, Incoming, RawMatch, decode_match, encode_match,
};
use openflow::{Action, Actions, Ct, CtZone, Field, Flow, FlowMod, Match, Nat, NatKind, Subfield};
use proptest::prelude::*;

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        4 => proptest::sample::select(Field::PLAIN),
        1 => (0u8..16).prop_map(Field::Reg),
        1 => (0u8..8).prop_map(Field::XReg),
        1 => (0u8..4).prop_map(Field::XxReg),
    ]
}

fn matches() -> impl Strategy<Value = Match> {
    proptest::collection::vec((field(), any::<u128>(), any::<u128>(), any::<bool>()), 0..8)
        .prop_map(|fields| {
            fields.into_iter().fold(Match::any(), |m, (field, value, mask, exact)| {
                m.with_masked(field, value, if exact { u128::MAX } else { mask | 1 })
            })
        })
}

fn range() -> impl Strategy<Value = Subfield> {
    (field(), any::<u16>(), any::<u16>()).prop_map(|(field, offset, bits)| {
        let offset = offset % field.bits();
        Subfield::new(field, offset, 1 + bits % (field.bits() - offset).min(64))
    })
}

fn nat() -> impl Strategy<Value = Nat> {
    let v4 = (1u32.., any::<u16>()).prop_map(|(first, more)| {
        let last = first.saturating_add(more.into());
        (IpAddr::V4(Ipv4Addr::from_bits(first)), IpAddr::V4(Ipv4Addr::from_bits(last)))
    });
    let v6 = (1u128.., any::<u16>()).prop_map(|(first, more)| {
        let last = first.saturating_add(more.into());
        (IpAddr::V6(Ipv6Addr::from_bits(first)), IpAddr::V6(Ipv6Addr::from_bits(last)))
    });
    let ports = proptest::option::of(
        (1u16.., any::<u16>()).prop_map(|(first, more)| (first, first.saturating_add(more))),
    );
    (prop_oneof![v4, v6], ports, any::<bool>(), any::<bool>(), 0u8..3).prop_map(
        |(addresses, ports, source, persistent, choice)| Nat {
            kind: if source { NatKind::Source } else { NatKind::Destination },
            addresses: Some(addresses),
            ports,
            persistent,
            hash: choice == 1,
            random: choice == 2,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let leaf = prop_oneof![
        any::<u32>()
            .prop_filter("another action", |p| *p != openflow::port::CONTROLLER)
            .prop_map(Action::Output),
        range().prop_map(Action::OutputField),
        (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(max_len, userdata)| Action::Controller { max_len, userdata }),
        any::<u32>().prop_map(Action::Group),
        (field(), any::<u128>(), any::<u128>())
            .prop_map(|(f, value, mask)| Action::set_masked(f, value, mask)),
        (field(), any::<u128>()).prop_map(|(f, value)| Action::set(f, value)),
        range().prop_map(|r| Action::mov(r, r)),
        any::<u16>().prop_map(Action::PushVlan),
        Just(Action::PopVlan),
        (proptest::option::of(0u16..0xff00), proptest::option::of(0u8..255))
            .prop_map(|(in_port, table)| Action::Resubmit { in_port, table }),
        Just(Action::CtClear),
        Just(Action::DecTtl),
        any::<u8>().prop_map(Action::SetTtl),
        (any::<u32>(), any::<u8>(), any::<u8>())
            .prop_map(|(id, clause, clauses)| Action::Conjunction { id, clause, clauses }),
        (any::<u16>(), range())
            .prop_map(|(len, r)| Action::CheckPktLarger { len, dst: Subfield { bits: 1, ..r } }),
        nat().prop_map(Action::Nat),
        Just(Action::Nat(Nat::EXISTING)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let actions = proptest::collection::vec(inner, 0..4);
        prop_oneof![
            actions.clone().prop_map(Action::Clone),
            (
                actions,
                any::<bool>(),
                any::<bool>(),
                prop_oneof![any::<u16>().prop_map(CtZone::Number), range().prop_map(CtZone::From)],
                proptest::option::of(0u8..255),
                any::<u16>()
            )
                .prop_map(|(actions, commit, force, zone, table, alg)| Action::Ct(
                    Ct { commit, force, zone, table, alg, actions }
                )),
        ]
    })
}

prop_compose! {
    fn flow()(
        table in 0u8..255, priority: u16, cookie: u64, match_fields in matches(),
        meter in proptest::option::of(any::<u32>()),
        apply in proptest::collection::vec(action(), 0..6),
        metadata in proptest::option::of((any::<u64>(), 1u64..)),
        goto in proptest::option::of(any::<u8>()),
    ) -> Flow {
        let write_metadata = metadata.map(|(value, mask)| (value & mask, mask));
        let actions = Actions { meter, apply, write_metadata, goto };
        Flow { table, priority, cookie, match_fields, actions }
    }
}

fn body(message: &[u8]) -> &[u8] {
    &message[wire::HEADER_LEN..]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_match_comes_back(m in matches()) {
        let mut bytes = Vec::new();
        encode_match(&mut bytes, &m).unwrap();
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!(decode_match(&bytes).unwrap(), m);
    }

    #[test]
    fn a_flow_comes_back(flow in flow()) {
        let change = FlowMod::add(flow.clone());
        let mut bytes = Vec::new();
        change.encode(&mut bytes, 7).unwrap();
        let header = Header::decode(bytes.first_chunk().unwrap()).unwrap();
        prop_assert_eq!((header.len, header.xid), (bytes.len(), 7));
        prop_assert_eq!(FlowMod::decode(body(&bytes)).unwrap(), change);
        // People's form exists for everything.
        prop_assert!(!flow.to_string().is_empty());
    }

    #[test]
    fn a_flow_with_a_wrong_octet_does_no_harm(flow in flow(), at: prop::sample::Index, octet: u8, cut: prop::sample::Index) {
        let mut bytes = Vec::new();
        FlowMod::add(flow).encode(&mut bytes, 7).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = octet;
        bytes.truncate(wire::HEADER_LEN.max(cut.index(bytes.len() + 1)));
        // What can be read can be written: nothing decoded is outside the model.
        if let Ok(change) = FlowMod::decode(body(&bytes)) {
            let _ = change.encode(&mut Vec::new(), 1);
            if let RawMatch::Known(m) = change.match_fields {
                let _ = m.to_string();
            }
            let _ = change.actions.to_string();
        }
    }

    #[test]
    fn nonsense_does_no_harm(version: u8, kind in prop_oneof![any::<u8>(), Just(10), Just(19), Just(4), Just(12)], bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let header = Header { version, kind, len: wire::HEADER_LEN + bytes.len(), xid: 0 };
        let _ = Incoming::decode(&header, &Bytes::from(bytes.clone()));
        let header = Header { version: wire::VERSION, ..header };
        let _ = Incoming::decode(&header, &Bytes::from(bytes.clone()));
        let _ = FlowMod::decode(&bytes);
        let _ = decode_match(&bytes);
    }

    #[test]
    fn a_dump_of_damaged_flows_does_no_harm(flow in flow(), at: prop::sample::Index, octet: u8) {
        let mut bytes = flow_stats_reply(&flow);
        let at = at.index(bytes.len());
        bytes[at] = octet;
        let header = Header { version: wire::VERSION, kind: 19, len: bytes.len() + 8, xid: 0 };
        let _ = Incoming::decode(&header, &Bytes::from(bytes));
    }
}

/// A multipart reply with one flow, made from the flow mod's own match and instructions.
fn flow_stats_reply(flow: &Flow) -> Vec<u8> {
    let mut change = Vec::new();
    FlowMod::add(flow.clone()).encode(&mut change, 0).unwrap();
    let tail = &change[wire::HEADER_LEN + 40..];
    let mut out = vec![0, 1, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(&((48 + tail.len()) as u16).to_be_bytes());
    out.extend_from_slice(&[flow.table, 0, 0, 0, 0, 3, 0, 0, 0, 9]);
    out.extend_from_slice(&flow.priority.to_be_bytes());
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&flow.cookie.to_be_bytes());
    out.extend_from_slice(&5u64.to_be_bytes());
    out.extend_from_slice(&6u64.to_be_bytes());
    out.extend_from_slice(tail);
    out
}

#[test]
fn a_dump_is_read_with_its_counters_and_foreign_flows_stand_apart() {
    let flow = Flow::new(3, 10, Match::any().ipv4_dst(Ipv4Addr::new(10, 0, 0, 1)), Actions::drop());
    let good = flow_stats_reply(&flow);
    let mut foreign = flow_stats_reply(&flow);
    // The second field of the match becomes one that nobody knows; the first is the Ethernet type.
    let at = 8 + 48 + 4 + 6;
    assert_eq!(foreign[at..at + 4], [0x80, 0x00, 12 << 1, 4]);
    foreign[at + 2] = 100 << 1;
    let mut reply = good.clone();
    reply.extend_from_slice(&foreign[8..]);
    let header = Header { version: wire::VERSION, kind: 19, len: 0, xid: 0 };
    let Ok(Incoming::FlowStats { flows, more: false }) =
        Incoming::decode(&header, &Bytes::from(reply))
    else {
        panic!("not read");
    };
    let [wire::FlowStatsEntry::Known(known), wire::FlowStatsEntry::Foreign { match_fields, .. }] =
        &flows[..]
    else {
        panic!("{flows:?}");
    };
    assert_eq!((&known.flow, known.packets, known.octets, known.age.as_secs()), (&flow, 5, 6, 3));
    // It can be deleted all the same.
    let RawMatch::Bytes(raw) = match_fields else { panic!("{match_fields:?}") };
    let mut bytes = Vec::new();
    FlowMod::delete_strict_raw(3, 10, RawMatch::Bytes(raw.clone())).encode(&mut bytes, 1).unwrap();
    assert!(bytes.windows(raw.len()).any(|w| w == raw));
    assert_eq!(bytes[wire::HEADER_LEN + 17], 4, "delete strict");
}

#[test]
fn what_no_message_can_say_is_refused_and_leaves_nothing_behind() {
    let refused = |actions: Actions| {
        let mut out = vec![1, 2, 3];
        let error = FlowMod::add(Flow::new(0, 1, Match::any(), actions)).encode(&mut out, 1);
        assert_eq!(out, [1, 2, 3]);
        error.unwrap_err().to_string()
    };
    let long = (0..5000).fold(Actions::new(), |a, n| a.set_metadata(n));
    assert!(refused(long).contains("65535"));
    assert!(refused(Actions::new().set_reg(16, 1)).contains("reg16"));
    let uneven = Action::mov(Field::Reg(0), Field::XReg(1));
    assert!(refused(Actions::new().then(uneven)).contains("width"));
    let nat = Nat { ports: Some((1, 2)), ..Nat::EXISTING };
    assert!(refused(Actions::new().ct(Ct::zone(1).nat(nat))).contains("cannot be expressed"));
}

#[test]
fn nesting_is_limited() {
    let deep = (0..20).fold(Action::DecTtl, |inner, _| Action::Clone(vec![inner]));
    let flow = Flow::new(0, 1, Match::any(), Actions::new().then(deep));
    let mut bytes = Vec::new();
    FlowMod::add(flow).encode(&mut bytes, 1).unwrap();
    assert_eq!(FlowMod::decode(body(&bytes)), Err(openflow::DecodeError::TooDeep));
}

#[test]
fn a_match_has_one_form() {
    assert_eq!(
        Match::any().xreg(1, 0x1_0000_0002),
        Match::any().reg(2, 1).reg(3, 2),
        "xreg1 is reg2 and reg3"
    );
    assert_eq!(Match::any().with_masked(Field::EthDst, u128::MAX, 0), Match::any());
    assert_eq!(Match::any().untagged(), Match::any().with_masked(Field::VlanTci, 0, 0xffff));
    assert_eq!(Match::any().vlan(5), Match::any().with(Field::VlanVid, 0x1005));
    assert_eq!(
        Match::any().with(Field::VlanPcp, 3).with_masked(Field::VlanVid, 1, 1),
        Match::any().with_masked(Field::VlanTci, 0x7001, 0xf001),
        "a priority means that there is a tag, whatever part of the VLAN id is compared"
    );
    assert_eq!(
        Match::any().udp_dst(53).ipv4().to_string(),
        "eth_type=0x800,vlan_tci=0x0000/0x1fff,nw_proto=17,udp_dst=53"
            .replace("vlan_tci=0x0000/0x1fff,", "")
    );
}

#[test]
fn commands_have_the_numbers_of_the_specification() {
    let flow = Flow::new(1, 2, Match::any(), Actions::drop()).cookie(9);
    for (change, command) in [
        (FlowMod::add(flow.clone()), FlowModCommand::Add),
        (FlowMod::modify_strict(flow), FlowModCommand::ModifyStrict),
        (FlowMod::delete(255, Match::any()), FlowModCommand::Delete),
        (FlowMod::delete_strict(1, 2, Match::any()), FlowModCommand::DeleteStrict),
    ] {
        let mut bytes = Vec::new();
        change.encode(&mut bytes, 1).unwrap();
        assert_eq!(FlowMod::decode(body(&bytes)).unwrap().command, command);
    }
}

#[test]
fn flows_are_printed_for_ovs_ofctl() {
    let flow = Flow::new(
        10,
        200,
        Match::any()
            .in_port(3)
            .ct_state(openflow::ct_state::TRK | openflow::ct_state::EST, openflow::ct_state::INV)
            .eth_src([0xfa, 0x16, 0x3e, 0, 0, 1])
            .ipv4_src("10.0.0.0/24".parse::<ipnet::Ipv4Net>().unwrap()),
        Actions::new()
            .set_xreg(1, 7)
            .mov(Field::EthSrc, Field::EthDst)
            .ct(Ct::zone_from(Subfield::new(Field::Reg(4), 0, 16))
                .commit()
                .table(20)
                .nat(Nat::source(Ipv4Addr::new(192, 0, 2, 1)).ports(1024, 2047)))
            .output_reg(1)
            .goto(30),
    )
    .cookie(0x2a);
    assert_eq!(
        flow.to_string(),
        "cookie=0x2a,table=10,priority=200,in_port=3,ct_state=+est-inv+trk,\
         eth_src=fa:16:3e:00:00:01,eth_type=0x800,nw_src=10.0.0.0/255.255.255.0,\
         actions=set_field:0x7->xreg1,move:eth_src[]->eth_dst[],\
         ct(commit,table=20,zone=reg4[0..15],nat(src=192.0.2.1:1024-2047)),output:reg1[],\
         goto_table:30"
    );
    assert_eq!(
        Flow::new(0, 0, Match::any(), Actions::drop()).to_string(),
        "table=0,priority=0,actions=drop"
    );
}
