//! Runs a flow table on a frame, as the switch's documentation says that it does: the highest
//! priority wins, actions in order, `ct` forks, output to the port of entry is suppressed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use openflow::{Action, Actions, Ct, CtZone, Field, Flow, Subfield, ct_state, mac_to_u64, port};

use crate::frame::{Body, Frame, Tuple};

/// One bridge with its connection tracker.
pub struct Bridge {
    tables: HashMap<u8, Vec<Flow>>,
    /// By zone: the tuple that began the connection, and whether an answer was seen.
    connections: HashMap<u16, HashMap<Tuple, bool>>,
}

/// A packet between tables.
#[derive(Clone)]
struct Packet {
    fields: HashMap<Field, u128>,
    /// For the tracker: an identifier that no field shows.
    icmp_id: u16,
}

impl Bridge {
    pub fn new(flows: Vec<Flow>) -> Self {
        let mut bridge = Bridge { tables: HashMap::new(), connections: HashMap::new() };
        bridge.replace(flows);
        bridge
    }

    /// New flows; what is tracked stays, as in the switch.
    pub fn replace(&mut self, flows: Vec<Flow>) {
        let mut keys = HashSet::new();
        self.tables.clear();
        for flow in flows {
            assert!(keys.insert((flow.table, flow.priority, flow.match_fields.clone())), "{flow}");
            self.tables.entry(flow.table).or_default().push(flow);
        }
        for flows in self.tables.values_mut() {
            flows.sort_by_key(|flow| std::cmp::Reverse(flow.priority));
        }
    }

    /// Whether no zone has heard more of a connection than one packet of the tuple itself.
    pub fn is_first(&self, tuple: &Tuple) -> bool {
        let reversed = tuple.reversed();
        tuple.can_begin()
            && self
                .connections
                .values()
                .all(|zone| zone.get(tuple) != Some(&true) && !zone.contains_key(&reversed))
    }

    /// Frames that leave, with the ports by which they do.
    pub fn run(&mut self, in_port: u32, frame: &Frame) -> Vec<(u32, Frame)> {
        let mut out = Vec::new();
        let mut packet = Packet::new(frame);
        packet.set(Field::InPort, in_port.into());
        self.table(0, packet, &mut out, 0);
        out.into_iter().map(|(port, packet)| (port, packet.frame())).collect()
    }

    fn table(
        &mut self,
        table: u8,
        packet: Packet,
        out: &mut Vec<(u32, Packet)>,
        depth: u32,
    ) -> Packet {
        assert!(depth < 60, "the switch gives up at 64 levels");
        let hits: Vec<&Flow> = self
            .tables
            .get(&table)
            .into_iter()
            .flatten()
            .filter(|flow| packet.matches(flow))
            .collect();
        let Some(actions) = decide(self.tables.get(&table), &packet, &hits) else { return packet };
        let mut packet = packet;
        for action in &actions.apply {
            packet = self.act(table, action, packet, out, depth);
        }
        match actions.goto {
            Some(next) => {
                assert!(next > table, "goto_table goes forward only");
                self.table(next, packet, out, depth + 1)
            }
            None => packet,
        }
    }

    fn act(
        &mut self,
        table: u8,
        action: &Action,
        mut packet: Packet,
        out: &mut Vec<(u32, Packet)>,
        depth: u32,
    ) -> Packet {
        match action {
            Action::Output(port::IN_PORT) => {
                out.push((packet.get(Field::InPort) as u32, packet.clone()));
            }
            Action::Output(port) => {
                if u128::from(*port) != packet.get(Field::InPort) {
                    out.push((*port, packet.clone()));
                }
            }
            Action::SetField { field, value, mask } => {
                let kept = packet.get(*field) & !mask;
                packet.set(*field, kept | value);
            }
            Action::Move { src, dst } => {
                let bits = packet.read(*src);
                packet.write(*dst, bits);
            }
            Action::Resubmit { in_port: None, table: to } => {
                packet = self.table(to.unwrap_or(table), packet, out, depth + 1);
            }
            Action::Ct(ct) => packet = self.track(ct, packet, out, depth),
            other => panic!("the pipeline has no use for {other}"),
        }
        packet
    }

    fn track(
        &mut self,
        ct: &Ct,
        packet: Packet,
        out: &mut Vec<(u32, Packet)>,
        depth: u32,
    ) -> Packet {
        let zone = match ct.zone {
            CtZone::Number(zone) => zone,
            CtZone::From(source) => packet.read(source) as u16,
        };
        assert_ne!(zone, 0, "untracked traffic's zone");
        let tuple = match packet.frame().body {
            Body::Ip(tuple) => tuple,
            other => panic!("ct on {other:?}"),
        };
        let known = self.connections.entry(zone).or_default();
        let reversed = tuple.reversed();
        let (state, original) = if let Some(answered) = known.get(&tuple) {
            let state = if *answered { ct_state::EST } else { ct_state::NEW };
            (state, tuple.clone())
        } else if known.contains_key(&reversed) {
            known.insert(reversed.clone(), true);
            (ct_state::EST | ct_state::RPL, reversed)
        } else if tuple.can_begin() {
            (ct_state::NEW, tuple.clone())
        } else {
            (ct_state::INV, tuple.clone())
        };
        if ct.commit && state == ct_state::NEW {
            known.entry(tuple).or_insert(false);
        }
        if let Some(next) = ct.table {
            let mut copy = packet.clone();
            copy.set(Field::CtState, (state | ct_state::TRK).into());
            copy.set(Field::CtZone, zone.into());
            copy.tuple_fields(&original);
            self.table(next, copy, out, depth + 1);
        }
        let mut packet = packet;
        packet.fields.retain(|field, _| !CT_FIELDS.contains(field));
        packet
    }
}

/// Which of the flows that match decides. Clauses of conjunctions (ovs-fields(7), "Conjunctive
/// Match Fields") decide nothing themselves: of one priority they are taken together, and where
/// all clauses of a conjunction are there, the flow that matches its `conj_id` does.
fn decide(table: Option<&Vec<Flow>>, packet: &Packet, hits: &[&Flow]) -> Option<Actions> {
    let (clauses, whole): (Vec<&Flow>, Vec<&Flow>) =
        hits.iter().partition(|flow| !conjunctions(flow).is_empty());
    let best = agreed(&whole);
    let mut met: HashMap<(u16, u32), HashSet<u8>> = HashMap::new();
    for flow in &clauses {
        if let Some(best) = best {
            assert_ne!(flow.priority, best.priority, "which is taken is not said: {flow}\n{best}");
        }
        for (id, clause, _) in conjunctions(flow) {
            met.entry((flow.priority, id)).or_default().insert(clause);
        }
    }
    let mut priorities: Vec<u16> = clauses.iter().map(|flow| flow.priority).collect();
    priorities.dedup();
    for priority in priorities {
        if best.is_some_and(|best| best.priority > priority) {
            break;
        }
        let complete = clauses.iter().flat_map(|flow| conjunctions(flow)).find(|(id, _, all)| {
            met.get(&(priority, *id)).is_some_and(|clauses| clauses.len() == usize::from(*all))
        });
        if let Some((id, ..)) = complete {
            let mut packet = packet.clone();
            packet.set(Field::ConjId, id.into());
            let hits: Vec<&Flow> = table
                .into_iter()
                .flatten()
                .filter(|flow| flow.match_fields.get(Field::ConjId).is_some())
                .filter(|flow| packet.matches(flow))
                .collect();
            return agreed(&hits).map(|flow| flow.actions.clone());
        }
    }
    best.map(|flow| flow.actions.clone())
}

/// The first. Two that match at one priority: the switch may take either, so they must agree.
fn agreed<'a>(hits: &[&'a Flow]) -> Option<&'a Flow> {
    let first = *hits.first()?;
    for other in hits.iter().take_while(|flow| flow.priority == first.priority) {
        assert_eq!(first.actions, other.actions, "{first}\n{other}");
    }
    Some(first)
}

fn conjunctions(flow: &Flow) -> Vec<(u32, u8, u8)> {
    let of = |action: &Action| match action {
        Action::Conjunction { id, clause, clauses } => Some((*id, *clause, *clauses)),
        _ => None,
    };
    flow.actions.apply.iter().filter_map(of).collect()
}

const CT_FIELDS: [Field; 9] = [
    Field::CtState,
    Field::CtZone,
    Field::CtIpProto,
    Field::CtIpv4Src,
    Field::CtIpv4Dst,
    Field::CtIpv6Src,
    Field::CtIpv6Dst,
    Field::CtTpSrc,
    Field::CtTpDst,
];

impl Packet {
    fn new(frame: &Frame) -> Self {
        let mut packet = Packet { fields: HashMap::new(), icmp_id: 0 };
        let mut set = |field, value| packet.fields.insert(field, value);
        set(Field::EthSrc, mac_to_u64(frame.eth_src).into());
        set(Field::EthDst, mac_to_u64(frame.eth_dst).into());
        if let Some(tag) = frame.tag {
            set(Field::VlanTci, 0x1000 | u128::from(tag));
        }
        match &frame.body {
            Body::Arp { op, sha, spa, tha, tpa } => {
                set(Field::EthType, 0x0806);
                set(Field::ArpOp, (*op).into());
                set(Field::ArpSha, mac_to_u64(*sha).into());
                set(Field::ArpSpa, spa.to_bits().into());
                set(Field::ArpTha, mac_to_u64(*tha).into());
                set(Field::ArpTpa, tpa.to_bits().into());
            }
            Body::Other(kind) => {
                set(Field::EthType, (*kind).into());
            }
            Body::Nd { kind, src, dst, target, mac, flags } => {
                set(Field::EthType, 0x86dd);
                set(Field::IpProto, 58);
                set(Field::Ipv6Src, src.to_bits());
                set(Field::Ipv6Dst, dst.to_bits());
                set(Field::Icmpv6Type, (*kind).into());
                set(Field::NdTarget, target.to_bits());
                set(Field::NdReserved, (*flags).into());
                if let Some(mac) = mac {
                    let solicits = *kind == 135;
                    let field = if solicits { Field::NdSll } else { Field::NdTll };
                    set(field, mac_to_u64(*mac).into());
                    set(Field::NdOptionsType, if solicits { 1 } else { 2 });
                }
            }
            Body::Ip(tuple) => {
                match (tuple.src, tuple.dst) {
                    (IpAddr::V4(src), IpAddr::V4(dst)) => {
                        set(Field::EthType, 0x0800);
                        set(Field::Ipv4Src, src.to_bits().into());
                        set(Field::Ipv4Dst, dst.to_bits().into());
                    }
                    (IpAddr::V6(src), IpAddr::V6(dst)) => {
                        set(Field::EthType, 0x86dd);
                        set(Field::Ipv6Src, src.to_bits());
                        set(Field::Ipv6Dst, dst.to_bits());
                    }
                    mixed => panic!("{mixed:?}"),
                }
                set(Field::IpProto, tuple.proto.into());
                if let Some((first, second)) = port_fields(tuple.proto) {
                    set(first, tuple.src_port.into());
                    set(second, tuple.dst_port.into());
                }
                packet.icmp_id = tuple.icmp_id;
            }
        }
        packet
    }

    fn frame(&self) -> Frame {
        let mac = |field| {
            let [_, _, mac @ ..] = (self.get(field) as u64).to_be_bytes();
            mac
        };
        let v4 = |field| std::net::Ipv4Addr::from_bits(self.get(field) as u32);
        let v6 = |field| std::net::Ipv6Addr::from_bits(self.get(field));
        let body = match self.get(Field::EthType) {
            0x0806 => Body::Arp {
                op: self.get(Field::ArpOp) as u16,
                sha: mac(Field::ArpSha),
                spa: v4(Field::ArpSpa),
                tha: mac(Field::ArpTha),
                tpa: v4(Field::ArpTpa),
            },
            0x86dd if self.fields.contains_key(&Field::NdTarget) => {
                let kind = self.get(Field::Icmpv6Type) as u8;
                let (option, field) =
                    if kind == 135 { (1, Field::NdSll) } else { (2, Field::NdTll) };
                Body::Nd {
                    kind,
                    src: v6(Field::Ipv6Src),
                    dst: v6(Field::Ipv6Dst),
                    target: v6(Field::NdTarget),
                    mac: (self.get(Field::NdOptionsType) == option).then(|| mac(field)),
                    flags: self.get(Field::NdReserved) as u32,
                }
            }
            kind @ (0x0800 | 0x86dd) => {
                let proto = self.get(Field::IpProto) as u8;
                let ports = port_fields(proto);
                let (src, dst) = if kind == 0x0800 {
                    (IpAddr::V4(v4(Field::Ipv4Src)), IpAddr::V4(v4(Field::Ipv4Dst)))
                } else {
                    (IpAddr::V6(v6(Field::Ipv6Src)), IpAddr::V6(v6(Field::Ipv6Dst)))
                };
                Body::Ip(Tuple {
                    proto,
                    src,
                    dst,
                    src_port: ports.map_or(0, |(first, _)| self.get(first) as u16),
                    dst_port: ports.map_or(0, |(_, second)| self.get(second) as u16),
                    icmp_id: self.icmp_id,
                })
            }
            other => Body::Other(other as u16),
        };
        let tag = self.fields.get(&Field::VlanTci).map(|tci| (tci & 0xfff) as u16);
        Frame { eth_src: mac(Field::EthSrc), eth_dst: mac(Field::EthDst), tag, body }
    }

    fn tuple_fields(&mut self, tuple: &Tuple) {
        match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.set(Field::CtIpv4Src, src.to_bits().into());
                self.set(Field::CtIpv4Dst, dst.to_bits().into());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.set(Field::CtIpv6Src, src.to_bits());
                self.set(Field::CtIpv6Dst, dst.to_bits());
            }
            mixed => panic!("{mixed:?}"),
        }
        self.set(Field::CtIpProto, tuple.proto.into());
        self.set(Field::CtTpSrc, tuple.src_port.into());
        self.set(Field::CtTpDst, tuple.dst_port.into());
    }

    /// A field that the packet does not have reads as zero, as in the switch; what it needs to be
    /// there is in the match itself.
    fn get(&self, field: Field) -> u128 {
        match field {
            Field::XReg(n) => self.get(Field::Reg(2 * n)) << 32 | self.get(Field::Reg(2 * n + 1)),
            _ => self.fields.get(&field).copied().unwrap_or(0),
        }
    }

    fn set(&mut self, field: Field, value: u128) {
        match field {
            Field::XReg(n) => {
                self.set(Field::Reg(2 * n), value >> 32);
                self.set(Field::Reg(2 * n + 1), value & 0xffff_ffff);
            }
            _ => {
                assert_eq!(value & !field.full_mask(), 0, "{field} = {value:#x}");
                self.fields.insert(field, value);
            }
        }
    }

    fn read(&self, from: Subfield) -> u128 {
        self.get(from.field) >> from.offset & ones(from.bits)
    }

    fn write(&mut self, to: Subfield, value: u128) {
        let mask = ones(to.bits) << to.offset;
        let kept = self.get(to.field) & !mask;
        self.set(to.field, kept | value << to.offset & mask);
    }

    fn matches(&self, flow: &Flow) -> bool {
        flow.match_fields.fields().iter().all(|f| self.get(f.field) & f.mask == f.value)
    }
}

fn ones(bits: u16) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn port_fields(proto: u8) -> Option<(Field, Field)> {
    match proto {
        1 => Some((Field::IcmpType, Field::IcmpCode)),
        6 => Some((Field::TcpSrc, Field::TcpDst)),
        17 => Some((Field::UdpSrc, Field::UdpDst)),
        58 => Some((Field::Icmpv6Type, Field::Icmpv6Code)),
        _ => None,
    }
}
