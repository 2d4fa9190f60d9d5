//! The model in the syntax of `ovs-ofctl`, for people and for `ovs-ofctl` and `ofproto/trace`.

use std::fmt::{self, Display, Formatter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::action::{Action, Actions, Ct, CtZone, Nat, NatKind, Subfield};
use super::field::{Field, Format, port};
use super::flow::Flow;
use super::matching::{Match, MatchField};

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Field::Reg(n) | Field::XReg(n) | Field::XxReg(n) => write!(f, "{}{n}", self.text()),
            _ => f.write_str(self.text()),
        }
    }
}

impl Field {
    /// Name where an action names a field; `in_port` there is the 16-bit OpenFlow 1.0 field.
    fn action_name(self) -> String {
        if self == Field::InPort { "in_port_oxm".into() } else { self.to_string() }
    }
}

struct Value {
    format: Format,
    value: u128,
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let v = self.value;
        match self.format {
            Format::Decimal => write!(f, "{v}"),
            Format::Hex | Format::CtState => write!(f, "{v:#x}"),
            Format::Ipv4 => Ipv4Addr::from_bits(v as u32).fmt(f),
            Format::Ipv6 => Ipv6Addr::from_bits(v).fmt(f),
            Format::Mac => {
                let [_, _, a, b, c, d, e, g] = (v as u64).to_be_bytes();
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            Format::Port => f.write_str(&port_name(v as u32)),
        }
    }
}

fn port_name(number: u32) -> String {
    match number {
        port::IN_PORT => "IN_PORT".into(),
        port::TABLE => "TABLE".into(),
        port::NORMAL => "NORMAL".into(),
        port::FLOOD => "FLOOD".into(),
        port::ALL => "ALL".into(),
        port::CONTROLLER => "CONTROLLER".into(),
        port::LOCAL => "LOCAL".into(),
        port::ANY => "NONE".into(),
        n => n.to_string(),
    }
}

const CT_STATE_NAMES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];

impl Display for MatchField {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let format = self.field.info().format;
        write!(f, "{}=", self.field)?;
        if format == Format::CtState {
            if self.mask >> CT_STATE_NAMES.len() != 0 {
                return write!(f, "{:#x}/{:#x}", self.value, self.mask);
            }
            for (bit, name) in
                CT_STATE_NAMES.iter().enumerate().filter(|(bit, _)| self.mask >> bit & 1 == 1)
            {
                f.write_char(if self.value >> bit & 1 == 1 { '+' } else { '-' })?;
                f.write_str(name)?;
            }
            return Ok(());
        }
        if self.field == Field::IpFrag {
            return f.write_str(match (self.value, self.mask) {
                (0, 1 | 3) => "no",
                (1, 1) => "yes",
                (1, _) => "first",
                (0, _) => "not_later",
                _ => "later",
            });
        }
        if self.is_exact() {
            return Value { format, value: self.value }.fmt(f);
        }
        // A masked number is a bit pattern, so decimal would hide what it says.
        let format = if format == Format::Decimal { Format::Hex } else { format };
        write!(f, "{}/{}", Value { format, value: self.value }, Value { format, value: self.mask })
    }
}

impl Display for Match {
    /// Empty for a match on everything.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields().iter().enumerate() {
            if i > 0 {
                f.write_char(',')?;
            }
            field.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Subfield {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = self.field.action_name();
        if self.offset == 0 && self.bits == self.field.bits() {
            write!(f, "{name}[]")
        } else if self.bits == 1 {
            write!(f, "{name}[{}]", self.offset)
        } else {
            write!(
                f,
                "{name}[{}..{}]",
                self.offset,
                self.offset.saturating_add(self.bits.saturating_sub(1))
            )
        }
    }
}

impl Display for Nat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("nat")?;
        let kind = match self.kind {
            NatKind::Existing => return Ok(()),
            NatKind::Source => "src",
            NatKind::Destination => "dst",
        };
        write!(f, "({kind}")?;
        if let Some((first, last)) = self.addresses {
            let bracket = self.ports.is_some() && first.is_ipv6();
            let address = |a: IpAddr| {
                if bracket { format!("[{a}]") } else { a.to_string() }
            };
            write!(f, "={}", address(first))?;
            if last != first {
                write!(f, "-{}", address(last))?;
            }
        }
        if let Some((first, last)) = self.ports {
            write!(f, ":{first}")?;
            if last != first {
                write!(f, "-{last}")?;
            }
        }
        for (on, name) in
            [(self.persistent, "persistent"), (self.hash, "hash"), (self.random, "random")]
        {
            if on {
                write!(f, ",{name}")?;
            }
        }
        f.write_char(')')
    }
}

impl Display for Ct {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.commit {
            parts.push("commit".to_string());
        }
        if self.force {
            parts.push("force".to_string());
        }
        if let Some(table) = self.table {
            parts.push(format!("table={table}"));
        }
        match self.zone {
            CtZone::Number(0) => {}
            CtZone::Number(n) => parts.push(format!("zone={n}")),
            CtZone::From(source) => parts.push(format!("zone={source}")),
        }
        match self.alg {
            0 => {}
            21 => parts.push("alg=ftp".into()),
            69 => parts.push("alg=tftp".into()),
            n => parts.push(format!("alg={n}")),
        }
        let is_nat = |a: &&Action| matches!(a, Action::Nat(_));
        parts.extend(self.actions.iter().filter(is_nat).map(Action::to_string));
        let exec: Vec<String> =
            self.actions.iter().filter(|a| !is_nat(a)).map(Action::to_string).collect();
        if !exec.is_empty() {
            parts.push(format!("exec({})", exec.join(",")));
        }
        write!(f, "ct({})", parts.join(","))
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Output(n) if *n > port::MAX => f.write_str(&port_name(*n)),
            Action::Output(n) => write!(f, "output:{n}"),
            Action::OutputField(source) => write!(f, "output:{source}"),
            Action::Controller { max_len, userdata } if userdata.is_empty() => {
                write!(f, "CONTROLLER:{max_len}")
            }
            Action::Controller { max_len, userdata } => {
                let data: Vec<String> = userdata.iter().map(|b| format!("{b:02x}")).collect();
                write!(f, "controller(max_len={max_len},userdata={})", data.join("."))
            }
            Action::Group(id) => write!(f, "group:{id}"),
            Action::SetField { field, value, mask } => {
                let format = field.info().format;
                write!(f, "set_field:{}", Value { format, value: *value })?;
                if *mask != field.full_mask() {
                    let format = if format == Format::Decimal { Format::Hex } else { format };
                    write!(f, "/{}", Value { format, value: *mask })?;
                }
                write!(f, "->{}", field.action_name())
            }
            Action::Move { src, dst } => write!(f, "move:{src}->{dst}"),
            Action::PushVlan(eth_type) => write!(f, "push_vlan:{eth_type:#06x}"),
            Action::PopVlan => f.write_str("pop_vlan"),
            Action::Resubmit { in_port, table } => {
                f.write_str("resubmit(")?;
                if let Some(n) = in_port {
                    write!(f, "{n}")?;
                }
                f.write_char(',')?;
                if let Some(n) = table {
                    write!(f, "{n}")?;
                }
                f.write_char(')')
            }
            Action::Ct(ct) => ct.fmt(f),
            Action::CtClear => f.write_str("ct_clear"),
            Action::Nat(nat) => nat.fmt(f),
            Action::DecTtl => f.write_str("dec_ttl"),
            Action::SetTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
            Action::Conjunction { id, clause, clauses } => {
                write!(f, "conjunction({id},{}/{clauses})", u16::from(*clause) + 1)
            }
            Action::Clone(actions) => {
                let list: Vec<String> = actions.iter().map(Action::to_string).collect();
                write!(f, "clone({})", list.join(","))
            }
            Action::CheckPktLarger { len, dst } => write!(f, "check_pkt_larger({len})->{dst}"),
        }
    }
}

impl Display for Actions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.meter.map(|id| format!("meter:{id}")));
        parts.extend(self.apply.iter().map(Action::to_string));
        match self.write_metadata {
            Some((value, u64::MAX)) => parts.push(format!("write_metadata:{value:#x}")),
            Some((value, mask)) => parts.push(format!("write_metadata:{value:#x}/{mask:#x}")),
            None => {}
        }
        parts.extend(self.goto.map(|table| format!("goto_table:{table}")));
        if parts.is_empty() { f.write_str("drop") } else { f.write_str(&parts.join(",")) }
    }
}

impl Display for Flow {
    /// A line that `ovs-ofctl add-flow` reads.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.cookie != 0 {
            write!(f, "cookie={:#x},", self.cookie)?;
        }
        write!(f, "table={},priority={}", self.table, self.priority)?;
        if !self.match_fields.fields().is_empty() {
            write!(f, ",{}", self.match_fields)?;
        }
        write!(f, ",actions={}", self.actions)
    }
}
