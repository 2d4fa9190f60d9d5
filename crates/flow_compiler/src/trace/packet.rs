//! A packet as the tables see it: fields and registers, without payload.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cloud_types::MacAddress;
use openflow::{Field, Flow, Subfield, ip_proto, mac_to_u64};

/// What a packet is, in the words of somebody who asks about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Source MAC: the sender's own, or a locator on the wire.
    pub eth_src: MacAddress,
    /// Destination MAC.
    pub eth_dst: MacAddress,
    /// Source address; of the same family as the destination.
    pub ip_src: IpAddr,
    /// Destination address.
    pub ip_dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port, or the type of ICMP.
    pub src_port: u16,
    /// Destination port, or the code of ICMP.
    pub dst_port: u16,
}

impl Probe {
    /// The answer to it, as its receiver would send it.
    pub fn reversed(&self) -> Probe {
        let (src_port, dst_port) = match (self.protocol, self.src_port) {
            // Echo requests and replies (RFC 792, RFC 4443).
            (ip_proto::ICMP, 8) => (0, self.dst_port),
            (ip_proto::ICMP, 0) => (8, self.dst_port),
            (ip_proto::ICMPV6, 128) => (129, self.dst_port),
            (ip_proto::ICMPV6, 129) => (128, self.dst_port),
            _ => (self.dst_port, self.src_port),
        };
        Probe {
            eth_src: self.eth_dst,
            eth_dst: self.eth_src,
            ip_src: self.ip_dst,
            ip_dst: self.ip_src,
            src_port,
            dst_port,
            ..*self
        }
    }
}

/// A packet on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    fields: BTreeMap<Field, u128>,
}

/// Fields of the tracker, which a packet has after it and before no more.
const TRACKED: [Field; 9] = [
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
    pub fn new(in_port: u32, probe: &Probe) -> Self {
        let mut packet = Packet { fields: BTreeMap::new() };
        packet.set(Field::InPort, in_port.into());
        packet.set(Field::EthSrc, mac_to_u64(probe.eth_src.0).into());
        packet.set(Field::EthDst, mac_to_u64(probe.eth_dst.0).into());
        match (probe.ip_src, probe.ip_dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                packet.set(Field::EthType, 0x86dd);
                packet.set(Field::Ipv6Src, src.to_bits());
                packet.set(Field::Ipv6Dst, dst.to_bits());
            }
            (src, dst) => {
                packet.set(Field::EthType, 0x0800);
                packet.set(Field::Ipv4Src, v4_bits(src));
                packet.set(Field::Ipv4Dst, v4_bits(dst));
            }
        }
        packet.set(Field::IpProto, probe.protocol.into());
        packet.set(Field::IpTtl, 64);
        if let Some((first, second)) = transport(probe.protocol) {
            packet.set(first, u128::from(probe.src_port) & first.full_mask());
            packet.set(second, u128::from(probe.dst_port) & second.full_mask());
        }
        packet
    }

    /// What it has become.
    pub fn probe(&self) -> Probe {
        let mac = |field| {
            let [_, _, mac @ ..] = (self.get(field) as u64).to_be_bytes();
            MacAddress(mac)
        };
        let address = |four, six| match self.get(Field::EthType) {
            0x86dd => IpAddr::V6(Ipv6Addr::from_bits(self.get(six))),
            _ => IpAddr::V4(Ipv4Addr::from_bits(self.get(four) as u32)),
        };
        let protocol = self.get(Field::IpProto) as u8;
        let port = |second| {
            let fields = transport(protocol);
            let field = fields.map(|fields| if second { fields.1 } else { fields.0 });
            field.map_or(0, |field| self.get(field) as u16)
        };
        Probe {
            eth_src: mac(Field::EthSrc),
            eth_dst: mac(Field::EthDst),
            ip_src: address(Field::Ipv4Src, Field::Ipv6Src),
            ip_dst: address(Field::Ipv4Dst, Field::Ipv6Dst),
            protocol,
            src_port: port(false),
            dst_port: port(true),
        }
    }

    /// Remembers what the tracker would say: the state, and the packet that began the connection.
    pub fn tracked(&mut self, zone: u16, state: u32, first: &Probe) {
        self.set(Field::CtState, state.into());
        self.set(Field::CtZone, zone.into());
        self.set(Field::CtIpProto, first.protocol.into());
        self.set(Field::CtTpSrc, first.src_port.into());
        self.set(Field::CtTpDst, first.dst_port.into());
        match (first.ip_src, first.ip_dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.set(Field::CtIpv6Src, src.to_bits());
                self.set(Field::CtIpv6Dst, dst.to_bits());
            }
            (src, dst) => {
                self.set(Field::CtIpv4Src, v4_bits(src));
                self.set(Field::CtIpv4Dst, v4_bits(dst));
            }
        }
    }

    pub fn forget_tracking(&mut self) {
        self.fields.retain(|field, _| !TRACKED.contains(field));
    }

    /// A field that the packet does not have reads as zero, as in the switch; that it must be there
    /// is said in the match.
    pub fn get(&self, field: Field) -> u128 {
        match field {
            Field::XReg(n) => self.get(Field::Reg(2 * n)) << 32 | self.get(Field::Reg(2 * n + 1)),
            _ => self.fields.get(&field).copied().unwrap_or(0),
        }
    }

    pub fn set(&mut self, field: Field, value: u128) {
        match field {
            Field::XReg(n) => {
                self.set(Field::Reg(2 * n), value >> 32);
                self.set(Field::Reg(2 * n + 1), value & 0xffff_ffff);
            }
            _ => {
                self.fields.insert(field, value & field.full_mask());
            }
        }
    }

    pub fn read(&self, from: Subfield) -> u128 {
        self.get(from.field) >> from.offset & ones(from.bits)
    }

    pub fn write(&mut self, to: Subfield, value: u128) {
        let mask = ones(to.bits) << to.offset;
        let kept = self.get(to.field) & !mask;
        self.set(to.field, kept | value << to.offset & mask);
    }

    pub fn matches(&self, flow: &Flow) -> bool {
        flow.match_fields.fields().iter().all(|f| self.get(f.field) & f.mask == f.value)
    }
}

fn v4_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(_) => 0,
    }
}

fn ones(bits: u16) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

fn transport(protocol: u8) -> Option<(Field, Field)> {
    match protocol {
        ip_proto::ICMP => Some((Field::IcmpType, Field::IcmpCode)),
        ip_proto::TCP => Some((Field::TcpSrc, Field::TcpDst)),
        ip_proto::UDP => Some((Field::UdpSrc, Field::UdpDst)),
        ip_proto::SCTP => Some((Field::SctpSrc, Field::SctpDst)),
        ip_proto::ICMPV6 => Some((Field::Icmpv6Type, Field::Icmpv6Code)),
        _ => None,
    }
}
