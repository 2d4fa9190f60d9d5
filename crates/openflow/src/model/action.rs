//! What a flow does with a packet: actions, and the instructions around them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::field::{Field, mac_to_u64, port};

/// A range of bits in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subfield {
    /// Which field.
    pub field: Field,
    /// First bit, counted from the least significant.
    pub offset: u16,
    /// How many bits; at least 1.
    pub bits: u16,
}

impl Subfield {
    /// `bits` bits of `field` from bit `offset` up.
    pub const fn new(field: Field, offset: u16, bits: u16) -> Self {
        Self { field, offset, bits }
    }
}

impl From<Field> for Subfield {
    /// The whole field.
    fn from(field: Field) -> Self {
        Self { field, offset: 0, bits: field.bits() }
    }
}

/// Where a connection tracking zone comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtZone {
    /// A constant.
    Number(u16),
    /// 16 bits of a field, such as a register.
    From(Subfield),
}

/// Which address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// Translate as the connection's entry says; used on packets of known connections.
    Existing,
    /// Source address of new connections.
    Source,
    /// Destination address of new connections.
    Destination,
}

/// Address translation inside [`Ct`] (ovs-actions(7), "The ct action", `nat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nat {
    /// Which address is translated.
    pub kind: NatKind,
    /// First and last address, of one family.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// First and last port. Needs `addresses`.
    pub ports: Option<(u16, u16)>,
    /// Keep the mapping over a restart, where the data path can.
    pub persistent: bool,
    /// Choose the port by hash.
    pub hash: bool,
    /// Choose the port at random.
    pub random: bool,
}

impl Nat {
    /// Translate packets of known connections.
    pub const EXISTING: Nat = Nat {
        kind: NatKind::Existing,
        addresses: None,
        ports: None,
        persistent: false,
        hash: false,
        random: false,
    };

    /// Translate the source to one address.
    pub fn source(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self { kind: NatKind::Source, addresses: Some((address, address)), ..Self::EXISTING }
    }

    /// Translate the destination to one address.
    pub fn destination(address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        Self { kind: NatKind::Destination, addresses: Some((address, address)), ..Self::EXISTING }
    }

    /// Limits the ports to `first..=last`.
    pub fn ports(self, first: u16, last: u16) -> Self {
        Self { ports: Some((first, last)), ..self }
    }
}

/// Sends the packet through the connection tracker (ovs-actions(7), "The ct action").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ct {
    /// Record the connection.
    pub commit: bool,
    /// With `commit`: replace an entry whose original direction is the other one.
    pub force: bool,
    /// Zone.
    pub zone: CtZone,
    /// Table where a copy of the packet, with its `ct_state`, goes on; without one the packet goes on here, untracked.
    pub table: Option<u8>,
    /// Port of the protocol helper: 0 none, 21 FTP, 69 TFTP.
    pub alg: u16,
    /// Actions on the connection: `set_field` of `ct_mark` or `ct_label`, and `nat`.
    pub actions: Vec<Action>,
}

impl Ct {
    /// Look the connection up in `zone`.
    pub fn zone(zone: u16) -> Self {
        Self {
            commit: false,
            force: false,
            zone: CtZone::Number(zone),
            table: None,
            alg: 0,
            actions: Vec::new(),
        }
    }

    /// Look the connection up in the zone that 16 bits of a field name.
    pub fn zone_from(source: impl Into<Subfield>) -> Self {
        Self { zone: CtZone::From(source.into()), ..Self::zone(0) }
    }

    /// Record the connection.
    pub fn commit(self) -> Self {
        Self { commit: true, ..self }
    }

    /// Record the connection with this packet's direction as the original one.
    pub fn force_commit(self) -> Self {
        Self { commit: true, force: true, ..self }
    }

    /// Continue in `table`.
    pub fn table(self, table: u8) -> Self {
        Self { table: Some(table), ..self }
    }

    /// Translate addresses.
    pub fn nat(mut self, nat: Nat) -> Self {
        self.actions.push(Action::Nat(nat));
        self
    }

    /// Set bits of the connection's mark.
    pub fn set_mark(mut self, value: u32, mask: u32) -> Self {
        self.actions.push(Action::set_masked(Field::CtMark, value.into(), mask.into()));
        self
    }
}

/// An action on a packet, done in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Send to a port, see [`port`].
    Output(u32),
    /// Send to the port that a field, usually a register, names.
    OutputField(Subfield),
    /// Send to the controller connection as a packet-in.
    Controller {
        /// Octets of the packet to send; `0xffff` for all of it.
        max_len: u16,
        /// Echoed in the packet-in (which then is Nicira's extended kind); empty for a plain packet-in.
        userdata: Vec<u8>,
    },
    /// Hand to a group.
    Group(u32),
    /// Set the bits of a field that are in the mask.
    SetField {
        /// Field to write.
        field: Field,
        /// Bits to write; none outside `mask`.
        value: u128,
        /// Which bits; [`Field::full_mask`] for all.
        mask: u128,
    },
    /// Copy bits between fields; both ranges are of one width.
    Move {
        /// From.
        src: Subfield,
        /// To.
        dst: Subfield,
    },
    /// Push an 802.1Q tag with this Ethernet type.
    PushVlan(u16),
    /// Remove the outermost 802.1Q tag.
    PopVlan,
    /// Look the packet up in another table, then go on here.
    Resubmit {
        /// Pretend that it came in here; `None` leaves the port as it is.
        in_port: Option<u16>,
        /// Table; `None` for the current one.
        table: Option<u8>,
    },
    /// Connection tracking.
    Ct(Ct),
    /// Forget the connection tracking state of the packet.
    CtClear,
    /// Address translation; only inside [`Ct::actions`].
    Nat(Nat),
    /// Decrement the TTL or hop limit; a packet at its end goes to the controller.
    DecTtl,
    /// Set the TTL or hop limit.
    SetTtl(u8),
    /// This flow is one clause of a conjunction. No other kind of action may stand beside it.
    Conjunction {
        /// Identifier, matched by [`Field::ConjId`].
        id: u32,
        /// Which clause, counted from 0.
        clause: u8,
        /// How many clauses there are.
        clauses: u8,
    },
    /// Do these and then forget what they changed.
    Clone(Vec<Action>),
    /// Set one bit to whether the packet is longer than `len` octets, Ethernet header included.
    CheckPktLarger {
        /// Octets.
        len: u16,
        /// A range of one bit.
        dst: Subfield,
    },
}

impl Action {
    /// Sets a whole field.
    pub fn set(field: Field, value: u128) -> Self {
        Self::set_masked(field, value, field.full_mask())
    }

    /// Sets some bits of a field.
    pub fn set_masked(field: Field, value: u128, mask: u128) -> Self {
        let mask = mask & field.full_mask();
        Self::SetField { field, value: value & mask, mask }
    }

    /// Copies a whole field or a range of bits.
    pub fn mov(src: impl Into<Subfield>, dst: impl Into<Subfield>) -> Self {
        Self::Move { src: src.into(), dst: dst.into() }
    }
}

/// What a flow does: OpenFlow's instructions in the order in which the switch runs them
/// (meter, apply, write metadata, go to table). The default drops the packet.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actions {
    /// Rate limit first.
    pub meter: Option<u32>,
    /// Actions, in order.
    pub apply: Vec<Action>,
    /// Bits of the metadata to set: value and mask.
    pub write_metadata: Option<(u64, u64)>,
    /// Table to go on in; must be higher than the flow's own.
    pub goto: Option<u8>,
}

impl Actions {
    /// Drops the packet.
    pub fn drop() -> Self {
        Self::default()
    }

    /// Nothing yet; the start of a chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the packet ends here.
    pub fn is_drop(&self) -> bool {
        self.apply.is_empty() && self.goto.is_none()
    }

    /// Appends an action.
    pub fn then(mut self, action: Action) -> Self {
        self.apply.push(action);
        self
    }

    /// Sets a whole field.
    pub fn set(self, field: Field, value: u128) -> Self {
        self.then(Action::set(field, value))
    }

    /// Sets some bits of a field.
    pub fn set_masked(self, field: Field, value: u128, mask: u128) -> Self {
        self.then(Action::set_masked(field, value, mask))
    }

    /// Sets a 32-bit register.
    pub fn set_reg(self, n: u8, value: u32) -> Self {
        self.set(Field::Reg(n), value.into())
    }

    /// Sets a 64-bit register.
    pub fn set_xreg(self, n: u8, value: u64) -> Self {
        self.set(Field::XReg(n), value.into())
    }

    /// Sets the metadata, by `set_field`: unlike `write_metadata` it works anywhere in the list.
    pub fn set_metadata(self, value: u64) -> Self {
        self.set(Field::Metadata, value.into())
    }

    /// Sets the destination MAC.
    pub fn set_eth_dst(self, mac: [u8; 6]) -> Self {
        self.set(Field::EthDst, mac_to_u64(mac).into())
    }

    /// Sets the source MAC.
    pub fn set_eth_src(self, mac: [u8; 6]) -> Self {
        self.set(Field::EthSrc, mac_to_u64(mac).into())
    }

    /// Sets the IPv4 source.
    pub fn set_ipv4_src(self, address: Ipv4Addr) -> Self {
        self.set(Field::Ipv4Src, address.to_bits().into())
    }

    /// Sets the IPv4 destination.
    pub fn set_ipv4_dst(self, address: Ipv4Addr) -> Self {
        self.set(Field::Ipv4Dst, address.to_bits().into())
    }

    /// Sets the IPv6 source.
    pub fn set_ipv6_src(self, address: Ipv6Addr) -> Self {
        self.set(Field::Ipv6Src, address.to_bits())
    }

    /// Sets the IPv6 destination.
    pub fn set_ipv6_dst(self, address: Ipv6Addr) -> Self {
        self.set(Field::Ipv6Dst, address.to_bits())
    }

    /// Copies a field or a range of bits.
    pub fn mov(self, src: impl Into<Subfield>, dst: impl Into<Subfield>) -> Self {
        self.then(Action::mov(src, dst))
    }

    /// Sends to a port.
    pub fn output(self, port: u32) -> Self {
        self.then(Action::Output(port))
    }

    /// Sends back where the packet came from.
    pub fn output_in_port(self) -> Self {
        self.output(port::IN_PORT)
    }

    /// Sends to the port that a register names.
    pub fn output_reg(self, n: u8) -> Self {
        self.then(Action::OutputField(Field::Reg(n).into()))
    }

    /// Sends the whole packet to the controller connection.
    pub fn controller(self, userdata: impl Into<Vec<u8>>) -> Self {
        self.then(Action::Controller { max_len: 0xffff, userdata: userdata.into() })
    }

    /// Hands to a group.
    pub fn group(self, id: u32) -> Self {
        self.then(Action::Group(id))
    }

    /// Looks the packet up in another table, then goes on here.
    pub fn resubmit(self, table: u8) -> Self {
        self.then(Action::Resubmit { in_port: None, table: Some(table) })
    }

    /// Connection tracking.
    pub fn ct(self, ct: Ct) -> Self {
        self.then(Action::Ct(ct))
    }

    /// Decrements the TTL or hop limit.
    pub fn dec_ttl(self) -> Self {
        self.then(Action::DecTtl)
    }

    /// Goes on in a later table.
    pub fn goto(mut self, table: u8) -> Self {
        self.goto = Some(table);
        self
    }

    /// Sets bits of the metadata after the actions.
    pub fn write_metadata(mut self, value: u64, mask: u64) -> Self {
        self.write_metadata = (mask != 0).then_some((value & mask, mask));
        self
    }

    /// Rate limits by a meter before the actions.
    pub fn meter(mut self, id: u32) -> Self {
        self.meter = Some(id);
        self
    }
}
