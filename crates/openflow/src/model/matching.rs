//! What a flow matches: a sorted list of fields with values and masks.
//!
//! The form is canonical, the one in which Open vSwitch gives a match back: bits outside the mask
//! are zero, an all-zero mask is no field, 64-bit registers are two of 32 bits, a VLAN is a
//! `vlan_tci`. Two matches that mean the same to the switch are therefore equal here.

use std::net::Ipv6Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::field::{Field, eth_type, ip_proto, mac_to_u64};

/// "Tag present" in a VLAN TCI.
const VLAN_PRESENT: u128 = 0x1000;
/// "Tag present" and the VLAN id: what the switch reports of an exact VLAN match.
const VLAN_ID_MASK: u128 = 0x1fff;
/// The three bits of priority.
const VLAN_PRIORITY_MASK: u128 = 0xe000;

/// One field of a match. `value` has no bit outside `mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchField {
    /// Which field.
    pub field: Field,
    /// Value, right-aligned.
    pub value: u128,
    /// Bits that must agree; [`Field::full_mask`] for an exact match.
    pub mask: u128,
}

impl MatchField {
    /// Whether every bit is compared.
    pub fn is_exact(&self) -> bool {
        self.mask == self.field.full_mask()
    }
}

/// What a flow matches. The default matches every packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    fields: Vec<MatchField>,
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Self {
        Self::default()
    }

    /// The fields, sorted.
    pub fn fields(&self) -> &[MatchField] {
        &self.fields
    }

    /// Value and mask of a field, if it is matched. 64-bit registers are to be asked for by their halves.
    pub fn get(&self, field: Field) -> Option<(u128, u128)> {
        self.fields
            .binary_search_by_key(&field, |f| f.field)
            .ok()
            .map(|i| (self.fields[i].value, self.fields[i].mask))
    }

    /// Adds an exact match, replacing one on the same field. What the field requires (its Ethernet
    /// type, its IP protocol) is added too where there is only one possibility and it is not yet said.
    pub fn with(self, field: Field, value: u128) -> Self {
        self.with_masked(field, value, field.full_mask())
    }

    /// Adds a masked match. Fields that the switch cannot mask ([`Field::maskable`]) are matched
    /// exactly unless the mask is empty.
    pub fn with_masked(mut self, field: Field, value: u128, mask: u128) -> Self {
        self.set(field, value, mask);
        self
    }

    pub(crate) fn set(&mut self, field: Field, mut value: u128, mask: u128) {
        let mut mask = mask & field.full_mask();
        match field {
            Field::XReg(n) => {
                for (i, shift) in [(0, 32), (1, 0)] {
                    self.set(Field::Reg(n * 2 + i), value >> shift, mask >> shift);
                }
                return;
            }
            Field::XxReg(n) => {
                for (i, shift) in [(0, 96), (1, 64), (2, 32), (3, 0)] {
                    self.set(Field::Reg(n * 4 + i), value >> shift, mask >> shift);
                }
                return;
            }
            Field::VlanVid => {
                let (old, old_mask) = self.get(Field::VlanTci).unwrap_or_default();
                let (value, mask) = (value & VLAN_ID_MASK, mask & VLAN_ID_MASK);
                return self.set(
                    Field::VlanTci,
                    (old & !VLAN_ID_MASK) | value,
                    (old_mask & !VLAN_ID_MASK) | mask,
                );
            }
            Field::VlanPcp => {
                let (old, old_mask) = self.get(Field::VlanTci).unwrap_or_default();
                let (present, mask) = if mask == 0 { (0, 0) } else { (VLAN_PRESENT, 7) };
                return self.set(
                    Field::VlanTci,
                    (old & VLAN_ID_MASK) | present | ((value & 7) << 13),
                    (old_mask & VLAN_ID_MASK) | present | (mask << 13),
                );
            }
            // A priority has no meaning in a frame without a tag, and the switch forgets it.
            Field::VlanTci if mask & VLAN_PRESENT != 0 && value & VLAN_PRESENT == 0 => {
                mask &= VLAN_ID_MASK
            }
            // A priority is a tagged frame's: the switch reads a match on it as "tag present" too.
            Field::VlanTci if mask & VLAN_PRIORITY_MASK != 0 => {
                value |= VLAN_PRESENT;
                mask |= VLAN_PRESENT;
            }
            _ => {}
        }
        if mask != 0 && !field.maskable() {
            mask = field.full_mask();
        }
        let place = self.fields.binary_search_by_key(&field, |f| f.field);
        match (place, mask) {
            (Ok(i), 0) => {
                self.fields.remove(i);
                return;
            }
            (Err(_), 0) => return,
            (Ok(i), _) => self.fields[i] = MatchField { field, value: value & mask, mask },
            (Err(i), _) => self.fields.insert(i, MatchField { field, value: value & mask, mask }),
        }
        for &(required, value) in field.requires() {
            if self.get(required).is_none() {
                self.set(required, value, required.full_mask());
            }
        }
    }

    /// Ingress port.
    pub fn in_port(self, port: u32) -> Self {
        self.with(Field::InPort, port.into())
    }

    /// Pipeline metadata.
    pub fn metadata(self, value: u64) -> Self {
        self.with(Field::Metadata, value.into())
    }

    /// Pipeline metadata under a mask.
    pub fn metadata_masked(self, value: u64, mask: u64) -> Self {
        self.with_masked(Field::Metadata, value.into(), mask.into())
    }

    /// Tunnel key.
    pub fn tun_id(self, value: u64) -> Self {
        self.with(Field::TunnelId, value.into())
    }

    /// Register 0 to 15.
    pub fn reg(self, n: u8, value: u32) -> Self {
        self.with(Field::Reg(n), value.into())
    }

    /// Register 0 to 15 under a mask.
    pub fn reg_masked(self, n: u8, value: u32, mask: u32) -> Self {
        self.with_masked(Field::Reg(n), value.into(), mask.into())
    }

    /// 64-bit register 0 to 7; kept as its two halves.
    pub fn xreg(self, n: u8, value: u64) -> Self {
        self.with(Field::XReg(n), value.into())
    }

    /// Destination MAC.
    pub fn eth_dst(self, mac: [u8; 6]) -> Self {
        self.with(Field::EthDst, mac_to_u64(mac).into())
    }

    /// Destination MAC under a mask.
    pub fn eth_dst_masked(self, mac: [u8; 6], mask: [u8; 6]) -> Self {
        self.with_masked(Field::EthDst, mac_to_u64(mac).into(), mac_to_u64(mask).into())
    }

    /// Source MAC.
    pub fn eth_src(self, mac: [u8; 6]) -> Self {
        self.with(Field::EthSrc, mac_to_u64(mac).into())
    }

    /// Source MAC under a mask.
    pub fn eth_src_masked(self, mac: [u8; 6], mask: [u8; 6]) -> Self {
        self.with_masked(Field::EthSrc, mac_to_u64(mac).into(), mac_to_u64(mask).into())
    }

    /// Group addresses: multicast and broadcast.
    pub fn eth_multicast(self) -> Self {
        self.eth_dst_masked([1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0])
    }

    /// Ethernet type.
    pub fn eth_type(self, value: u16) -> Self {
        self.with(Field::EthType, value.into())
    }

    /// IPv4 packets.
    pub fn ipv4(self) -> Self {
        self.eth_type(eth_type::IPV4)
    }

    /// IPv6 packets.
    pub fn ipv6(self) -> Self {
        self.eth_type(eth_type::IPV6)
    }

    /// ARP packets.
    pub fn arp(self) -> Self {
        self.eth_type(eth_type::ARP)
    }

    /// Frames without an 802.1Q tag.
    pub fn untagged(self) -> Self {
        self.with_masked(Field::VlanTci, 0, VLAN_ID_MASK)
    }

    /// Frames with any 802.1Q tag.
    pub fn tagged(self) -> Self {
        self.with_masked(Field::VlanTci, VLAN_PRESENT, VLAN_PRESENT)
    }

    /// Frames with this VLAN id, any priority.
    pub fn vlan(self, vid: u16) -> Self {
        self.with_masked(Field::VlanTci, VLAN_PRESENT | u128::from(vid & 0xfff), VLAN_ID_MASK)
    }

    /// IP protocol; the Ethernet type is the caller's to say.
    pub fn ip_proto(self, proto: u8) -> Self {
        self.with(Field::IpProto, proto.into())
    }

    /// TCP over IPv4.
    pub fn tcp4(self) -> Self {
        self.ipv4().ip_proto(ip_proto::TCP)
    }

    /// UDP over IPv4.
    pub fn udp4(self) -> Self {
        self.ipv4().ip_proto(ip_proto::UDP)
    }

    /// TCP over IPv6.
    pub fn tcp6(self) -> Self {
        self.ipv6().ip_proto(ip_proto::TCP)
    }

    /// UDP over IPv6.
    pub fn udp6(self) -> Self {
        self.ipv6().ip_proto(ip_proto::UDP)
    }

    /// IPv4 source address or prefix.
    pub fn ipv4_src(self, net: impl Into<Ipv4Net>) -> Self {
        self.ipv4_net(Field::Ipv4Src, net.into())
    }

    /// IPv4 destination address or prefix.
    pub fn ipv4_dst(self, net: impl Into<Ipv4Net>) -> Self {
        self.ipv4_net(Field::Ipv4Dst, net.into())
    }

    /// IPv6 source address or prefix.
    pub fn ipv6_src(self, net: impl Into<Ipv6Net>) -> Self {
        self.ipv6_net(Field::Ipv6Src, net.into())
    }

    /// IPv6 destination address or prefix.
    pub fn ipv6_dst(self, net: impl Into<Ipv6Net>) -> Self {
        self.ipv6_net(Field::Ipv6Dst, net.into())
    }

    /// ARP opcode.
    pub fn arp_op(self, op: u16) -> Self {
        self.with(Field::ArpOp, op.into())
    }

    /// ARP sender's address or prefix.
    pub fn arp_spa(self, net: impl Into<Ipv4Net>) -> Self {
        self.arp().ipv4_net(Field::ArpSpa, net.into())
    }

    /// ARP target's address or prefix.
    pub fn arp_tpa(self, net: impl Into<Ipv4Net>) -> Self {
        self.arp().ipv4_net(Field::ArpTpa, net.into())
    }

    /// ARP sender's MAC.
    pub fn arp_sha(self, mac: [u8; 6]) -> Self {
        self.with(Field::ArpSha, mac_to_u64(mac).into())
    }

    /// ARP target's MAC.
    pub fn arp_tha(self, mac: [u8; 6]) -> Self {
        self.with(Field::ArpTha, mac_to_u64(mac).into())
    }

    /// Neighbour discovery target.
    pub fn nd_target(self, address: Ipv6Addr) -> Self {
        self.with(Field::NdTarget, address.to_bits())
    }

    /// ICMP type.
    pub fn icmp_type(self, value: u8) -> Self {
        self.with(Field::IcmpType, value.into())
    }

    /// ICMPv6 type.
    pub fn icmpv6_type(self, value: u8) -> Self {
        self.with(Field::Icmpv6Type, value.into())
    }

    /// TCP destination port.
    pub fn tcp_dst(self, port: u16) -> Self {
        self.with(Field::TcpDst, port.into())
    }

    /// UDP source port.
    pub fn udp_src(self, port: u16) -> Self {
        self.with(Field::UdpSrc, port.into())
    }

    /// UDP destination port.
    pub fn udp_dst(self, port: u16) -> Self {
        self.with(Field::UdpDst, port.into())
    }

    /// Connection state: the bits of `set` are on, those of `clear` are off (see [`super::ct_state`]).
    pub fn ct_state(self, set: u32, clear: u32) -> Self {
        self.with_masked(Field::CtState, set.into(), (set | clear).into())
    }

    /// IPv4 source, address or prefix, of the packet that began the connection.
    pub fn ct_ipv4_src(self, net: impl Into<Ipv4Net>) -> Self {
        self.ipv4_net(Field::CtIpv4Src, net.into())
    }

    /// IPv4 destination, address or prefix, of the packet that began the connection.
    pub fn ct_ipv4_dst(self, net: impl Into<Ipv4Net>) -> Self {
        self.ipv4_net(Field::CtIpv4Dst, net.into())
    }

    /// IPv6 source, address or prefix, of the packet that began the connection.
    pub fn ct_ipv6_src(self, net: impl Into<Ipv6Net>) -> Self {
        self.ipv6_net(Field::CtIpv6Src, net.into())
    }

    /// IPv6 destination, address or prefix, of the packet that began the connection.
    pub fn ct_ipv6_dst(self, net: impl Into<Ipv6Net>) -> Self {
        self.ipv6_net(Field::CtIpv6Dst, net.into())
    }

    /// Connection tracking zone.
    pub fn ct_zone(self, zone: u16) -> Self {
        self.with(Field::CtZone, zone.into())
    }

    /// Connection mark under a mask.
    pub fn ct_mark(self, value: u32, mask: u32) -> Self {
        self.with_masked(Field::CtMark, value.into(), mask.into())
    }

    /// Conjunction that was met.
    pub fn conj_id(self, id: u32) -> Self {
        self.with(Field::ConjId, id.into())
    }

    fn ipv4_net(self, field: Field, net: Ipv4Net) -> Self {
        self.with_requirements(field).with_masked(
            field,
            net.addr().to_bits().into(),
            net.netmask().to_bits().into(),
        )
    }

    fn ipv6_net(self, field: Field, net: Ipv6Net) -> Self {
        self.with_requirements(field).with_masked(
            field,
            net.addr().to_bits(),
            net.netmask().to_bits(),
        )
    }

    /// A prefix of length 0 leaves no field behind, but it still says "IPv4" or "IPv6".
    fn with_requirements(mut self, field: Field) -> Self {
        for &(required, value) in field.requires() {
            if self.get(required).is_none() {
                self.set(required, value, required.full_mask());
            }
        }
        self
    }
}
