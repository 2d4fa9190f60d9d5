//! A frame as a guest sends or hears it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    pub eth_src: Mac,
    pub eth_dst: Mac,
    /// VLAN id, when tagged.
    pub tag: Option<u16>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    Arp {
        op: u16,
        sha: Mac,
        spa: Ipv4Addr,
        tha: Mac,
        tpa: Ipv4Addr,
    },
    Ip(Tuple),
    /// Neighbour discovery: a solicitation (135) or an advertisement (136).
    Nd {
        kind: u8,
        src: Ipv6Addr,
        dst: Ipv6Addr,
        target: Ipv6Addr,
        /// The one option: the sender's MAC, or the target's.
        mac: Option<Mac>,
        flags: u32,
    },
    /// Something else, by its Ethernet type.
    Other(u16),
}

/// What a connection tracker and security groups look at. For ICMP, `src_port` is the type and
/// `dst_port` the code, and `icmp_id` tells echoes apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub proto: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_id: u16,
}

impl Tuple {
    /// The tuple of an answer.
    pub fn reversed(&self) -> Tuple {
        let (src_port, dst_port) = match (self.proto, self.src_port) {
            (1, 8) => (0, self.dst_port),
            (1, 0) => (8, self.dst_port),
            (58, 128) => (129, self.dst_port),
            (58, 129) => (128, self.dst_port),
            _ => (self.dst_port, self.src_port),
        };
        Tuple { src: self.dst, dst: self.src, src_port, dst_port, ..self.clone() }
    }

    /// ICMP other than an echo's answer can begin a connection.
    pub fn can_begin(&self) -> bool {
        !matches!((self.proto, self.src_port), (1, 0) | (58, 129))
    }
}

impl Frame {
    /// Where the packet goes, if it is IP.
    pub fn ip_dst(&self) -> Option<IpAddr> {
        match &self.body {
            Body::Ip(tuple) => Some(tuple.dst),
            Body::Nd { dst, .. } => Some((*dst).into()),
            Body::Arp { .. } | Body::Other(_) => None,
        }
    }

    pub fn is_group(&self) -> bool {
        self.eth_dst[0] & 1 == 1
    }
}
