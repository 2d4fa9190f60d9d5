//! The packet and metadata fields that can be matched, set or moved, and their places on the wire.
//!
//! OpenFlow names a field by an OXM header (class, number). Open vSwitch has an older namespace
//! (NXM) beside it: we send the one listed first and accept both.

/// OXM class of standard OpenFlow fields.
pub(crate) const CLASS_OXM: u16 = 0x8000;
/// OXM class of the 64-bit packet registers (`xreg0` to `xreg7`).
pub(crate) const CLASS_PKT_REG: u16 = 0x8001;
/// NXM class of the fields that OpenFlow 1.0 had.
pub(crate) const CLASS_NXM0: u16 = 0x0000;
/// NXM class of Nicira's additions.
pub(crate) const CLASS_NXM1: u16 = 0x0001;
/// Class of the neighbour discovery fields that Ericsson added to Open vSwitch.
pub(crate) const CLASS_ERICSSON: u16 = 0x1000;

/// Reserved port numbers (`OFPP_*`, OpenFlow 1.4 section 7.2.1).
pub mod port {
    /// Highest number of a real port that Open vSwitch assigns.
    pub const MAX: u32 = 0xfeff;
    /// The port that the packet came in by (output there is otherwise suppressed).
    pub const IN_PORT: u32 = 0xffff_fff8;
    /// Run through the flow table; only in packet-out.
    pub const TABLE: u32 = 0xffff_fff9;
    /// The built-in learning switch. Joins all tenants: never use it in a tenant's pipeline.
    pub const NORMAL: u32 = 0xffff_fffa;
    /// All ports but the ingress and those with flooding off.
    pub const FLOOD: u32 = 0xffff_fffb;
    /// All ports but the ingress.
    pub const ALL: u32 = 0xffff_fffc;
    /// The controller connection.
    pub const CONTROLLER: u32 = 0xffff_fffd;
    /// The bridge's own port.
    pub const LOCAL: u32 = 0xffff_fffe;
    /// No port; also "any port" in deletions and statistics.
    pub const ANY: u32 = 0xffff_ffff;
}

/// Ethernet types that prerequisites name.
pub mod eth_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers that prerequisites name.
pub mod ip_proto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Bits of `ct_state` (ovs-fields(7), "Conntrack Fields").
pub mod ct_state {
    /// The packet would begin a new connection.
    pub const NEW: u32 = 0x01;
    /// Part of an established connection.
    pub const EST: u32 = 0x02;
    /// Related to a connection, such as an ICMP error.
    pub const REL: u32 = 0x04;
    /// In the reply direction.
    pub const RPL: u32 = 0x08;
    /// Could not be tracked.
    pub const INV: u32 = 0x10;
    /// Has been through `ct`.
    pub const TRK: u32 = 0x20;
    /// Source address was translated.
    pub const SNAT: u32 = 0x40;
    /// Destination address was translated.
    pub const DNAT: u32 = 0x80;
}

/// A MAC address as the number that fields hold: first octet on the wire is the most significant.
pub const fn mac_to_u64(mac: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]])
}

/// How a field's value is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Decimal,
    Hex,
    Mac,
    Ipv4,
    Ipv6,
    Port,
    CtState,
}

/// Static facts about a field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Info {
    pub class: u16,
    pub number: u8,
    pub bits: u16,
    pub maskable: bool,
    pub format: Format,
}

macro_rules! fields {
    ($( $(#[$doc:meta])* $name:ident $text:literal $class:ident $number:literal $bits:literal $mask:ident $format:ident; )*) => {
        /// A field. The order of the variants is the order on the wire: what a field requires
        /// (an Ethernet type, an IP protocol) comes before it, as the switch demands.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Field {
            $( $(#[$doc])* $name, )*
            /// 32-bit register `reg0` to `reg15`. `xreg1` is `reg2` and `reg3`.
            Reg(u8),
            /// 64-bit register `xreg0` to `xreg7`. Only in actions: a match is kept as two [`Field::Reg`].
            XReg(u8),
            /// 128-bit register `xxreg0` to `xxreg3`. Only in actions, as for [`Field::XReg`].
            XxReg(u8),
        }

        impl Field {
            /// Every field but the registers.
            pub const PLAIN: &'static [Field] = &[ $( Field::$name, )* ];

            pub(crate) const fn info(self) -> Info {
                match self {
                    $( Field::$name => Info {
                        class: $class, number: $number, bits: $bits, maskable: fields!(@mask $mask), format: Format::$format,
                    }, )*
                    Field::Reg(n) => Info { class: CLASS_NXM1, number: n, bits: 32, maskable: true, format: Format::Hex },
                    Field::XReg(n) => Info { class: CLASS_PKT_REG, number: n, bits: 64, maskable: true, format: Format::Hex },
                    Field::XxReg(n) => Info { class: CLASS_NXM1, number: 111 + n, bits: 128, maskable: true, format: Format::Hex },
                }
            }

            /// The name that `ovs-ofctl` uses.
            pub(crate) const fn text(self) -> &'static str {
                match self {
                    $( Field::$name => $text, )*
                    Field::Reg(_) => "reg",
                    Field::XReg(_) => "xreg",
                    Field::XxReg(_) => "xxreg",
                }
            }
        }
    };
    (@mask M) => { true };
    (@mask X) => { false };
}

fields! {
    /// Port by which the packet entered.
    InPort "in_port" CLASS_OXM 0 32 X Port;
    /// 64 bits that accompany the packet through the tables.
    Metadata "metadata" CLASS_OXM 2 64 M Hex;
    /// Tunnel key, such as a VXLAN network identifier.
    TunnelId "tun_id" CLASS_OXM 38 64 M Hex;
    /// Outer IPv4 source.
    TunSrc "tun_src" CLASS_NXM1 31 32 M Ipv4;
    /// Outer IPv4 destination.
    TunDst "tun_dst" CLASS_NXM1 32 32 M Ipv4;
    /// Outer IPv6 source.
    TunIpv6Src "tun_ipv6_src" CLASS_NXM1 109 128 M Ipv6;
    /// Outer IPv6 destination.
    TunIpv6Dst "tun_ipv6_dst" CLASS_NXM1 110 128 M Ipv6;
    /// Mark that the kernel sees on the packet.
    PktMark "pkt_mark" CLASS_NXM1 33 32 M Hex;
    /// Identifier of a conjunction that was met.
    ConjId "conj_id" CLASS_NXM1 37 32 X Decimal;
    /// Connection tracking state bits, see [`ct_state`].
    CtState "ct_state" CLASS_NXM1 105 32 M CtState;
    /// Connection tracking zone.
    CtZone "ct_zone" CLASS_NXM1 106 16 X Decimal;
    /// Mark of the connection.
    CtMark "ct_mark" CLASS_NXM1 107 32 M Hex;
    /// Label of the connection.
    CtLabel "ct_label" CLASS_NXM1 108 128 M Hex;
    /// Destination MAC.
    EthDst "eth_dst" CLASS_OXM 3 48 M Mac;
    /// Source MAC.
    EthSrc "eth_src" CLASS_OXM 4 48 M Mac;
    /// Ethernet type after any tags.
    EthType "eth_type" CLASS_OXM 5 16 X Hex;
    /// 802.1Q tag: priority (3 bits), "tag present" (0x1000), VLAN id (12 bits).
    VlanTci "vlan_tci" CLASS_NXM0 4 16 M Hex;
    /// 802.1Q VLAN id with the "tag present" bit. Only in actions: a match is kept as [`Field::VlanTci`].
    VlanVid "vlan_vid" CLASS_OXM 6 13 M Hex;
    /// 802.1Q priority. Only in actions, as for [`Field::VlanVid`].
    VlanPcp "vlan_pcp" CLASS_OXM 7 3 X Decimal;
    /// IP protocol.
    IpProto "nw_proto" CLASS_OXM 10 8 X Decimal;
    /// Differentiated services code point (6 bits, not shifted).
    IpDscp "ip_dscp" CLASS_OXM 8 6 X Decimal;
    /// Explicit congestion notification bits.
    IpEcn "nw_ecn" CLASS_OXM 9 2 X Decimal;
    /// Time to live, or hop limit.
    IpTtl "nw_ttl" CLASS_NXM1 29 8 X Decimal;
    /// Fragment bits: 1 a fragment, 2 not the first.
    IpFrag "ip_frag" CLASS_NXM1 26 2 M Hex;
    /// IP protocol of the packet that began the connection. This and the other fields of the
    /// original direction are read-only and need a match on `ct_state` with `+trk`.
    CtIpProto "ct_nw_proto" CLASS_NXM1 119 8 X Decimal;
    /// IPv4 source of the packet that began the connection.
    CtIpv4Src "ct_nw_src" CLASS_NXM1 120 32 M Ipv4;
    /// IPv4 destination of the packet that began the connection.
    CtIpv4Dst "ct_nw_dst" CLASS_NXM1 121 32 M Ipv4;
    /// IPv6 source of the packet that began the connection.
    CtIpv6Src "ct_ipv6_src" CLASS_NXM1 122 128 M Ipv6;
    /// IPv6 destination of the packet that began the connection.
    CtIpv6Dst "ct_ipv6_dst" CLASS_NXM1 123 128 M Ipv6;
    /// Source port, or ICMP type, of the packet that began the connection.
    CtTpSrc "ct_tp_src" CLASS_NXM1 124 16 M Decimal;
    /// Destination port, or ICMP code, of the packet that began the connection.
    CtTpDst "ct_tp_dst" CLASS_NXM1 125 16 M Decimal;
    /// IPv4 source.
    Ipv4Src "nw_src" CLASS_OXM 11 32 M Ipv4;
    /// IPv4 destination.
    Ipv4Dst "nw_dst" CLASS_OXM 12 32 M Ipv4;
    /// IPv6 source.
    Ipv6Src "ipv6_src" CLASS_OXM 26 128 M Ipv6;
    /// IPv6 destination.
    Ipv6Dst "ipv6_dst" CLASS_OXM 27 128 M Ipv6;
    /// IPv6 flow label.
    Ipv6Label "ipv6_label" CLASS_OXM 28 20 M Hex;
    /// TCP source port.
    TcpSrc "tcp_src" CLASS_OXM 13 16 M Decimal;
    /// TCP destination port.
    TcpDst "tcp_dst" CLASS_OXM 14 16 M Decimal;
    /// TCP flags.
    TcpFlags "tcp_flags" CLASS_NXM1 34 12 M Hex;
    /// UDP source port.
    UdpSrc "udp_src" CLASS_OXM 15 16 M Decimal;
    /// UDP destination port.
    UdpDst "udp_dst" CLASS_OXM 16 16 M Decimal;
    /// SCTP source port.
    SctpSrc "sctp_src" CLASS_OXM 17 16 M Decimal;
    /// SCTP destination port.
    SctpDst "sctp_dst" CLASS_OXM 18 16 M Decimal;
    /// ICMP type.
    IcmpType "icmp_type" CLASS_OXM 19 8 X Decimal;
    /// ICMP code.
    IcmpCode "icmp_code" CLASS_OXM 20 8 X Decimal;
    /// ICMPv6 type.
    Icmpv6Type "icmpv6_type" CLASS_OXM 29 8 X Decimal;
    /// ICMPv6 code.
    Icmpv6Code "icmpv6_code" CLASS_OXM 30 8 X Decimal;
    /// Neighbour discovery target.
    NdTarget "nd_target" CLASS_OXM 31 128 M Ipv6;
    /// Neighbour discovery source link layer option.
    NdSll "nd_sll" CLASS_OXM 32 48 M Mac;
    /// Neighbour discovery target link layer option.
    NdTll "nd_tll" CLASS_OXM 33 48 M Mac;
    /// Neighbour discovery reserved word (the R, S and O flags of an advertisement); writable, not often matched.
    NdReserved "nd_reserved" CLASS_ERICSSON 1 32 X Hex;
    /// Type of the first neighbour discovery option.
    NdOptionsType "nd_options_type" CLASS_ERICSSON 2 8 X Decimal;
    /// ARP opcode: 1 request, 2 reply.
    ArpOp "arp_op" CLASS_OXM 21 16 X Decimal;
    /// ARP sender's IPv4 address.
    ArpSpa "arp_spa" CLASS_OXM 22 32 M Ipv4;
    /// ARP target's IPv4 address.
    ArpTpa "arp_tpa" CLASS_OXM 23 32 M Ipv4;
    /// ARP sender's MAC.
    ArpSha "arp_sha" CLASS_OXM 24 48 M Mac;
    /// ARP target's MAC.
    ArpTha "arp_tha" CLASS_OXM 25 48 M Mac;
}

impl Field {
    /// Width in bits.
    pub const fn bits(self) -> u16 {
        self.info().bits
    }

    /// Octets on the wire.
    pub(crate) const fn octets(self) -> usize {
        match self.info().bits {
            0..=8 => 1,
            9..=16 => 2,
            17..=32 => 4,
            33..=48 => 6,
            49..=64 => 8,
            _ => 16,
        }
    }

    /// All ones over the field's width.
    pub const fn full_mask(self) -> u128 {
        let bits = self.info().bits;
        if bits >= 128 { u128::MAX } else { (1u128 << bits) - 1 }
    }

    /// Whether a match on it may be masked.
    pub const fn maskable(self) -> bool {
        self.info().maskable
    }

    /// What must also be matched for this field to have a meaning, where there is only one answer.
    /// TCP and UDP ports exist over IPv4 and IPv6, so their Ethernet type is the caller's to say.
    pub(crate) fn requires(self) -> &'static [(Field, u128)] {
        const IPV4: (Field, u128) = (Field::EthType, eth_type::IPV4 as u128);
        const IPV6: (Field, u128) = (Field::EthType, eth_type::IPV6 as u128);
        const ARP: (Field, u128) = (Field::EthType, eth_type::ARP as u128);
        const ICMP6: (Field, u128) = (Field::IpProto, ip_proto::ICMPV6 as u128);
        use Field::*;
        match self {
            Ipv4Src | Ipv4Dst | CtIpv4Src | CtIpv4Dst => &[IPV4],
            Ipv6Src | Ipv6Dst | Ipv6Label | CtIpv6Src | CtIpv6Dst => &[IPV6],
            ArpOp | ArpSpa | ArpTpa | ArpSha | ArpTha => &[ARP],
            IcmpType | IcmpCode => &[IPV4, (IpProto, ip_proto::ICMP as u128)],
            Icmpv6Type | Icmpv6Code | NdTarget => &[IPV6, ICMP6],
            NdSll => &[IPV6, ICMP6, (Icmpv6Type, 135)],
            NdTll => &[IPV6, ICMP6, (Icmpv6Type, 136)],
            TcpSrc | TcpDst | TcpFlags => &[(IpProto, ip_proto::TCP as u128)],
            UdpSrc | UdpDst => &[(IpProto, ip_proto::UDP as u128)],
            SctpSrc | SctpDst => &[(IpProto, ip_proto::SCTP as u128)],
            _ => &[],
        }
    }
}
