//! Sets of security rules as flows. Ports with the same rules share one set, so that a group of a
//! thousand ports costs its rules once on each host.
//!
//! A rule about a group is a conjunction of two clauses: a packet of the set that fits what the
//! rule says, and an address of a member. The members are said once for each network, however
//! many rules and sets are about them, so a member that comes or goes changes its own flow alone:
//!
//! ```text
//!   set, protocol, port ──► conjunction(group, 1/2) ┐
//!                                                   ├─► conj_id = group ─► ACCEPT
//!   network, address    ──► conjunction(group, 2/2) ┘
//! ```
//! The packet's own set is in a register, so only its own rules can meet the first clause, and one
//! number for each group will do.

use std::collections::{BTreeMap, BTreeSet};

use host_protocol::{Direction, Remote, SecurityRule};
use ipnet::IpNet;
use openflow::{Action, Actions, Field, Flow, Match, ct_state, ip_proto};

use crate::Cookie;
use crate::plan::{Network, split};
use crate::ranges::masks;
use crate::tables::*;

/// Protocols whose ports a rule can name.
const WITH_PORTS: [u8; 4] = [ip_proto::TCP, ip_proto::UDP, DCCP, ip_proto::SCTP];
const DCCP: u8 = 33;
/// Rules that one flow can hold.
const WHOLE: u16 = 100;
/// Clauses of rules about groups; another priority than [`WHOLE`], as the switch demands.
const CLAUSE: u16 = 90;

/// What a set of rules lets begin, as matches on the packet that begins it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set {
    /// By table.
    whole: BTreeSet<(u8, Match)>,
    /// By table, and from or to members of the group.
    with_group: BTreeSet<(u8, Match, String)>,
}

/// The distinct sets of rules, by identifier.
#[derive(Default)]
pub(crate) struct RuleSets {
    sets: BTreeMap<u32, Set>,
    /// Whose members must be known: network number, table, IPv6, group.
    watched: BTreeSet<(u32, u8, bool, String)>,
}

impl RuleSets {
    /// Finds or makes the set of a port of the network. Its identifier is a hash of what it says,
    /// so that the flows of one set do not change when another comes or goes.
    pub fn add(&mut self, network: u32, rules: &[SecurityRule]) -> u32 {
        let mut set = Set::default();
        for rule in rules {
            let table = table_of(rule.direction);
            match &rule.remote {
                Remote::Anyone => set.whole.extend(fits(rule).into_iter().map(|m| (table, m))),
                Remote::Range(net) => {
                    let matches = fits(rule).into_iter();
                    let matches = matches.filter_map(|m| other_side(m, table, rule.ipv6, *net));
                    set.whole.extend(matches.map(|m| (table, m)));
                }
                Remote::Group(group) => {
                    let matches = fits(rule).into_iter().map(|m| (table, m, group.clone()));
                    set.with_group.extend(matches);
                    self.watched.insert((network, table, rule.ipv6, group.clone()));
                }
            }
        }
        let whole = set.whole.iter().map(|(table, m)| format!("{table} {m}"));
        let grouped = set.with_group.iter().map(|(table, m, group)| format!("{table} {m} {group}"));
        let mut id = hash(whole.chain(grouped));
        loop {
            match self.sets.get(&id) {
                Some(other) if *other == set => return id,
                Some(_) => id = id.wrapping_add(1).max(1),
                None => break,
            }
        }
        self.sets.insert(id, set);
        id
    }

    pub fn flows(&self, networks: &BTreeMap<u32, Network<'_>>, out: &mut Vec<Flow>) {
        let conjunctions = self.conjunctions();
        for (&id, set) in &self.sets {
            let cookie = Cookie::Rules(id).encode();
            for (table, m) in &set.whole {
                let actions = Actions::new().goto(ACCEPT);
                let m = m.clone().reg(REG_RULES, id);
                out.push(Flow::new(*table, WHOLE, m, actions).cookie(cookie));
            }
            let mut clauses = Clauses::default();
            for (table, m, group) in &set.with_group {
                clauses.add(*table, m.clone().reg(REG_RULES, id), conjunctions.get(group));
            }
            clauses.flows(0, cookie, out);
        }
        let met: BTreeSet<(u8, u32)> = self
            .watched
            .iter()
            .filter_map(|(_, table, _, group)| Some((*table, *conjunctions.get(group)?)))
            .collect();
        for (table, id) in met {
            let m = Match::any().conj_id(id);
            let actions = Actions::new().goto(ACCEPT);
            out.push(Flow::new(table, CLAUSE, m, actions).cookie(Cookie::Group(id).encode()));
        }
        for (number, network) in networks {
            let members = network.members();
            let mut clauses = Clauses::default();
            for (_, table, ipv6, group) in self.watched.iter().filter(|(n, ..)| n == number) {
                for net in members.get(group.as_str()).into_iter().flatten() {
                    let m = Match::any().metadata((*number).into());
                    let m = m.ct_state(ct_state::TRK, ct_state::INV);
                    let m = if *ipv6 { m.ipv6() } else { m.ipv4() };
                    if let Some(m) = other_side(m, *table, *ipv6, *net) {
                        clauses.add(*table, m, conjunctions.get(group));
                    }
                }
            }
            clauses.flows(1, network.cookie(), out);
        }
    }

    /// A number for each group that a rule is about: a hash of its name, for the same reason as
    /// that of a set.
    fn conjunctions(&self) -> BTreeMap<&String, u32> {
        let groups: BTreeSet<&String> = self.watched.iter().map(|(.., group)| group).collect();
        let mut taken = BTreeSet::new();
        groups
            .into_iter()
            .map(|group| {
                let mut id = hash([group.clone()]);
                while !taken.insert(id) {
                    id = id.wrapping_add(1).max(1);
                }
                (group, id)
            })
            .collect()
    }
}

/// Flows that are clauses of conjunctions: where several have the same match, one flow.
#[derive(Default)]
struct Clauses(BTreeMap<(u8, Match), BTreeSet<u32>>);

impl Clauses {
    fn add(&mut self, table: u8, m: Match, conjunction: Option<&u32>) {
        self.0.entry((table, m)).or_default().extend(conjunction);
    }

    fn flows(self, clause: u8, cookie: u64, out: &mut Vec<Flow>) {
        for ((table, m), conjunctions) in self.0 {
            let actions = conjunctions.into_iter().fold(Actions::new(), |actions, id| {
                actions.then(Action::Conjunction { id, clause, clauses: 2 })
            });
            out.push(Flow::new(table, CLAUSE, m, actions).cookie(cookie));
        }
    }
}

/// FNV-1a over the lines, never 0. Not for secrets: only to give equal things equal numbers.
fn hash(lines: impl IntoIterator<Item = String>) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for line in lines {
        for byte in line.bytes().chain([b'\n']) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    hash.max(1)
}

fn table_of(direction: Direction) -> u8 {
    match direction {
        Direction::Egress => RULES_EGRESS,
        Direction::Ingress => RULES_INGRESS,
    }
}

/// What a rule says but for the other side.
fn fits(rule: &SecurityRule) -> Vec<Match> {
    let mut base = Match::any().ct_state(ct_state::TRK, ct_state::INV);
    base = if rule.ipv6 { base.ipv6() } else { base.ipv4() };
    // "ICMP" means the family's own.
    let protocol = match rule.protocol {
        Some(ip_proto::ICMP) if rule.ipv6 => Some(ip_proto::ICMPV6),
        other => other,
    };
    if let Some(protocol) = protocol {
        base = base.with(Field::CtIpProto, protocol.into());
    }
    match protocol {
        Some(p) if WITH_PORTS.contains(&p) => ports(&base, rule),
        Some(ip_proto::ICMP | ip_proto::ICMPV6) => vec![icmp(base, rule)],
        _ => vec![base],
    }
}

/// With the other side's address; `None` when it is of the other family, of which the rule says
/// nothing.
fn other_side(m: Match, table: u8, ipv6: bool, net: IpNet) -> Option<Match> {
    match (split(net.trunc()), ipv6, table) {
        (Ok(net), false, RULES_INGRESS) => Some(m.ct_ipv4_src(net)),
        (Ok(net), false, _) => Some(m.ct_ipv4_dst(net)),
        (Err(net), true, RULES_INGRESS) => Some(m.ct_ipv6_src(net)),
        (Err(net), true, _) => Some(m.ct_ipv6_dst(net)),
        _ => None,
    }
}

fn ports(base: &Match, rule: &SecurityRule) -> Vec<Match> {
    let (low, high) = match (rule.port_min, rule.port_max) {
        (None, None) => return vec![base.clone()],
        (low, high) => (low.unwrap_or(0), high.unwrap_or(u16::MAX)),
    };
    masks(low, high)
        .into_iter()
        .map(|(value, mask)| base.clone().with_masked(Field::CtTpDst, value.into(), mask.into()))
        .collect()
}

/// ICMP's type and code stand where ports do.
fn icmp(mut base: Match, rule: &SecurityRule) -> Match {
    if let Some(kind) = rule.port_min {
        base = base.with(Field::CtTpSrc, kind.into());
    }
    if let Some(code) = rule.port_max {
        base = base.with(Field::CtTpDst, code.into());
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(min: u16, max: u16) -> SecurityRule {
        SecurityRule {
            direction: Direction::Ingress,
            ipv6: false,
            protocol: Some(6),
            port_min: Some(min),
            port_max: Some(max),
            remote: Remote::Anyone,
        }
    }

    fn from_group(group: &str) -> SecurityRule {
        SecurityRule { remote: Remote::Group(group.to_owned()), ..tcp(22, 22) }
    }

    #[test]
    fn equal_rules_in_any_order_are_one_set_and_other_rules_another() {
        let mut sets = RuleSets::default();
        let one = sets.add(1, &[tcp(22, 22), tcp(80, 80)]);
        assert_eq!(one, sets.add(1, &[tcp(80, 80), tcp(22, 22), tcp(80, 80)]));
        assert_ne!(one, sets.add(1, &[tcp(22, 22)]));
        assert_ne!(0, sets.add(1, &[]));
        let grouped = sets.add(1, &[from_group("g")]);
        assert_eq!(grouped, sets.add(2, &[from_group("g")]));
        assert_ne!(grouped, sets.add(1, &[from_group("h")]));
        assert_ne!(grouped, sets.add(1, &[tcp(22, 22)]));
    }

    #[test]
    fn a_group_without_members_lets_nobody_in() {
        let mut sets = RuleSets::default();
        sets.add(1, &[from_group("g")]);
        let mut flows = Vec::new();
        sets.flows(&BTreeMap::new(), &mut flows);
        let second = |flow: &Flow| {
            flow.actions.apply.iter().any(|a| matches!(a, Action::Conjunction { clause: 1, .. }))
        };
        assert!(!flows.iter().any(second), "{flows:?}");
        assert!(!flows.iter().any(|flow| flow.priority == WHOLE), "{flows:?}");
    }

    #[test]
    fn a_rule_reads_as_the_switch_prints_it() {
        let mut sets = RuleSets::default();
        let range = Remote::Range("10.1.2.0/24".parse().unwrap());
        let id = sets.add(1, &[SecurityRule { remote: range, ..tcp(80, 81) }]);
        let [(table, m)] = &sets.sets[&id].whole.iter().collect::<Vec<_>>()[..] else {
            panic!("one match")
        };
        assert_eq!(*table, RULES_INGRESS);
        assert_eq!(
            m.to_string(),
            "ct_state=-inv+trk,eth_type=0x800,ct_nw_proto=6,\
             ct_nw_src=10.1.2.0/255.255.255.0,ct_tp_dst=0x50/0xfffe"
        );
    }
}
