//! Sets of security rules as flows. Ports with the same rules share one set, so that a group of a
//! thousand ports costs its rules once on each host.
//!
//! A rule about a group is a conjunction of two clauses: a packet of the set that fits what the
//! rule says, and an address of a member. The members are said once for each network, however
//! many rules and sets are about them, so a member that comes or goes changes its own flow alone.
//! A rule about a list of addresses is such a conjunction too, whose members are the same everywhere:
//!
//! ```text
//!   set, protocol, port ──► conjunction(party, 1/2) ┐
//!                                                   ├─► conj_id = party ─► ACCEPT
//!   network, address    ──► conjunction(party, 2/2) ┘
//! ```
//! The packet's own set is in a register, so only its own rules can meet the first clause, and one
//! number for each party will do.
//!
//! A stateless rule says the same of each packet itself, in tables that come before the tracker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
/// Clauses of rules about parties; another priority than [`WHOLE`], as the switch demands.
const CLAUSE: u16 = 90;

/// Whom a rule is about, when that is more than one flow can say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    /// Members of a group, in the port's own network.
    Group(String),
    /// Addresses, in any network.
    Addresses(Vec<IpNet>),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Group(group) => f.write_str(group),
            Party::Addresses(nets) => nets.iter().try_for_each(|net| write!(f, "{net},")),
        }
    }
}

/// What a set of rules lets begin, as matches on the packet that begins it; and what it lets pass
/// packet by packet, in the tables of stateless rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Set {
    /// By table.
    whole: BTreeSet<(u8, Match)>,
    /// By table, and from or to the party.
    with_party: BTreeSet<(u8, Match, Party)>,
}

/// The distinct sets of rules, by identifier.
#[derive(Default)]
pub(crate) struct RuleSets {
    sets: BTreeMap<u32, Set>,
    /// Whose members must be known: network number (0 for all), table, IPv6, party.
    watched: BTreeSet<(u32, u8, bool, Party)>,
}

impl RuleSets {
    /// Finds or makes the set of a port of the network. Its identifier is a hash of what it says,
    /// so that the flows of one set do not change when another comes or goes.
    pub fn add(&mut self, network: u32, rules: &[SecurityRule]) -> u32 {
        let mut set = Set::default();
        for rule in rules {
            let table = table_of(rule);
            let fits = fits(rule).into_iter();
            let mut about = |network: u32, party: Party| {
                set.with_party.extend(fits.clone().map(|m| (table, m, party.clone())));
                self.watched.insert((network, table, rule.ipv6, party));
            };
            match &rule.remote {
                Remote::Group(group) => about(network, Party::Group(group.clone())),
                Remote::Addresses(nets) if nets.len() > 1 => {
                    about(0, Party::Addresses(IpNet::aggregate(nets)));
                }
                Remote::Anyone => set.whole.extend(fits.map(|m| (table, m))),
                Remote::Range(_) | Remote::Addresses(_) => {
                    let matches = fits.flat_map(|m| {
                        let with = |net: &IpNet| other_side(m.clone(), table, rule.ipv6, *net);
                        ranges(&rule.remote).iter().filter_map(with).collect::<Vec<_>>()
                    });
                    set.whole.extend(matches.map(|m| (table, m)));
                }
            }
        }
        let whole = set.whole.iter().map(|(table, m)| format!("{table} {m}"));
        let partly = set.with_party.iter().map(|(table, m, party)| format!("{table} {m} {party}"));
        let mut id = hash(whole.chain(partly));
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

    /// Whether a set has rules that judge packets by themselves.
    pub fn is_partly_stateless(&self, id: u32) -> bool {
        let stateless = |table: u8| matches!(table, STATELESS_EGRESS | STATELESS_INGRESS);
        self.sets.get(&id).is_some_and(|set| {
            set.whole.iter().any(|(table, _)| stateless(*table))
                || set.with_party.iter().any(|(table, ..)| stateless(*table))
        })
    }

    pub fn flows(&self, networks: &BTreeMap<u32, Network<'_>>, out: &mut Vec<Flow>) {
        let conjunctions = self.conjunctions();
        for (&id, set) in &self.sets {
            let cookie = Cookie::Rules(id).encode();
            for (table, m) in &set.whole {
                let m = m.clone().reg(REG_RULES, id);
                out.push(Flow::new(*table, WHOLE, m, accept(*table)).cookie(cookie));
            }
            let mut clauses = Clauses::default();
            for (table, m, party) in &set.with_party {
                clauses.add(*table, m.clone().reg(REG_RULES, id), conjunctions.get(party));
            }
            clauses.flows(0, cookie, out);
        }
        let met: BTreeSet<(u8, u32)> = self
            .watched
            .iter()
            .filter_map(|(_, table, _, party)| Some((*table, *conjunctions.get(party)?)))
            .collect();
        for (table, id) in met {
            let m = Match::any().conj_id(id);
            let cookie = Cookie::Group(id).encode();
            out.push(Flow::new(table, CLAUSE, m, accept(table)).cookie(cookie));
        }
        for (number, network) in networks {
            let members = network.members();
            let mut clauses = Clauses::default();
            for (_, table, ipv6, party) in self.watched.iter().filter(|(n, ..)| n == number) {
                let Party::Group(group) = party else { continue };
                for net in members.get(group.as_str()).into_iter().flatten() {
                    let m = judged(*table, *ipv6).metadata((*number).into());
                    if let Some(m) = other_side(m, *table, *ipv6, *net) {
                        clauses.add(*table, m, conjunctions.get(party));
                    }
                }
            }
            clauses.flows(1, network.cookie(), out);
        }
        let mut clauses = Clauses::default();
        for (_, table, ipv6, party) in &self.watched {
            let Party::Addresses(nets) = party else { continue };
            for net in nets {
                if let Some(m) = other_side(judged(*table, *ipv6), *table, *ipv6, *net) {
                    clauses.add(*table, m, conjunctions.get(party));
                }
            }
        }
        clauses.flows(1, Cookie::Host.encode(), out);
    }

    /// A number for each party that a rule is about: a hash of its name, for the same reason as
    /// that of a set.
    fn conjunctions(&self) -> BTreeMap<&Party, u32> {
        let parties: BTreeSet<&Party> = self.watched.iter().map(|(.., party)| party).collect();
        let mut taken = BTreeSet::new();
        parties
            .into_iter()
            .map(|party| {
                let mut id = hash([party.to_string()]);
                while !taken.insert(id) {
                    id = id.wrapping_add(1).max(1);
                }
                (party, id)
            })
            .collect()
    }
}

fn ranges(remote: &Remote) -> &[IpNet] {
    match remote {
        Remote::Range(net) => std::slice::from_ref(net),
        Remote::Addresses(nets) => nets,
        Remote::Anyone | Remote::Group(_) => &[],
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

fn table_of(rule: &SecurityRule) -> u8 {
    match (rule.direction, rule.stateless) {
        (Direction::Egress, false) => RULES_EGRESS,
        (Direction::Ingress, false) => RULES_INGRESS,
        (Direction::Egress, true) => STATELESS_EGRESS,
        (Direction::Ingress, true) => STATELESS_INGRESS,
    }
}

/// Whether the rules of a table look at the packet itself, not at the one that began the connection.
fn is_stateless(table: u8) -> bool {
    matches!(table, STATELESS_EGRESS | STATELESS_INGRESS)
}

/// What becomes of a packet that a rule of the table allows.
fn accept(table: u8) -> Actions {
    Actions::new().goto(match table {
        STATELESS_EGRESS => LOOKUP,
        STATELESS_INGRESS => DELIVER,
        _ => ACCEPT,
    })
}

/// Packets of one family that the rules of a table judge.
fn judged(table: u8, ipv6: bool) -> Match {
    let m = if ipv6 { Match::any().ipv6() } else { Match::any().ipv4() };
    if is_stateless(table) { m } else { m.ct_state(ct_state::TRK, ct_state::INV) }
}

/// What a rule says but for the other side.
fn fits(rule: &SecurityRule) -> Vec<Match> {
    let mut base = judged(table_of(rule), rule.ipv6);
    // "ICMP" means the family's own.
    let protocol = match rule.protocol {
        Some(ip_proto::ICMP) if rule.ipv6 => Some(ip_proto::ICMPV6),
        other => other,
    };
    if let Some(protocol) = protocol {
        let field = if rule.stateless { Field::IpProto } else { Field::CtIpProto };
        base = base.with(field, protocol.into());
    }
    match protocol {
        Some(p) if WITH_PORTS.contains(&p) => ports(&base, rule, p),
        Some(ip_proto::ICMP | ip_proto::ICMPV6) => vec![icmp(base, rule)],
        _ => vec![base],
    }
}

/// With the other side's address; `None` when it is of the other family, of which the rule says
/// nothing.
fn other_side(m: Match, table: u8, ipv6: bool, net: IpNet) -> Option<Match> {
    let from = matches!(table, RULES_INGRESS | STATELESS_INGRESS);
    Some(match (split(net.trunc()), ipv6, is_stateless(table)) {
        (Ok(net), false, false) if from => m.ct_ipv4_src(net),
        (Ok(net), false, false) => m.ct_ipv4_dst(net),
        (Ok(net), false, true) if from => m.ipv4_src(net),
        (Ok(net), false, true) => m.ipv4_dst(net),
        (Err(net), true, false) if from => m.ct_ipv6_src(net),
        (Err(net), true, false) => m.ct_ipv6_dst(net),
        (Err(net), true, true) if from => m.ipv6_src(net),
        (Err(net), true, true) => m.ipv6_dst(net),
        _ => return None,
    })
}

fn ports(base: &Match, rule: &SecurityRule, protocol: u8) -> Vec<Match> {
    let (low, high) = match (rule.port_min, rule.port_max) {
        (None, None) => return vec![base.clone()],
        (low, high) => (low.unwrap_or(0), high.unwrap_or(u16::MAX)),
    };
    let field = match (rule.stateless, protocol) {
        (false, _) => Field::CtTpDst,
        (true, ip_proto::TCP) => Field::TcpDst,
        (true, ip_proto::UDP) => Field::UdpDst,
        (true, ip_proto::SCTP) => Field::SctpDst,
        // The switch does not read DCCP's ports: what it cannot see it cannot allow.
        (true, _) => return Vec::new(),
    };
    masks(low, high)
        .into_iter()
        .map(|(value, mask)| base.clone().with_masked(field, value.into(), mask.into()))
        .collect()
}

/// ICMP's type and code stand where ports do.
fn icmp(mut base: Match, rule: &SecurityRule) -> Match {
    let (kind_field, code_field) = match (rule.stateless, rule.ipv6) {
        (false, _) => (Field::CtTpSrc, Field::CtTpDst),
        (true, false) => (Field::IcmpType, Field::IcmpCode),
        (true, true) => (Field::Icmpv6Type, Field::Icmpv6Code),
    };
    if let Some(kind) = rule.port_min {
        base = base.with(kind_field, kind.into());
    }
    if let Some(code) = rule.port_max {
        base = base.with(code_field, code.into());
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
            stateless: false,
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

    #[test]
    fn a_stateless_rule_looks_at_the_packet_itself_and_is_another_set() {
        let mut sets = RuleSets::default();
        let id = sets.add(1, &[SecurityRule { stateless: true, ..tcp(80, 81) }]);
        assert_ne!(id, sets.add(1, &[tcp(80, 81)]));
        assert!(sets.is_partly_stateless(id));
        let [(table, m)] = &sets.sets[&id].whole.iter().collect::<Vec<_>>()[..] else {
            panic!("one match")
        };
        assert_eq!(*table, STATELESS_INGRESS);
        assert_eq!(m.to_string(), "eth_type=0x800,nw_proto=6,tcp_dst=0x50/0xfffe");
    }

    #[test]
    fn a_rule_about_addresses_is_met_by_each_of_them_in_every_network() {
        let mut sets = RuleSets::default();
        let addresses = |list: &[&str]| SecurityRule {
            remote: Remote::Addresses(list.iter().map(|net| net.parse().unwrap()).collect()),
            ..tcp(22, 22)
        };
        let many = sets.add(1, &[addresses(&["10.1.0.0/24", "10.3.0.1/32"])]);
        assert_eq!(many, sets.add(2, &[addresses(&["10.1.0.0/24", "10.3.0.1/32"])]));
        // One address is a range; none is nobody.
        let one = sets.add(1, &[addresses(&["10.3.0.1/32"])]);
        let range = Remote::Range("10.3.0.1/32".parse().unwrap());
        assert_eq!(one, sets.add(1, &[SecurityRule { remote: range, ..tcp(22, 22) }]));
        assert_eq!(sets.add(1, &[addresses(&[])]), sets.add(1, &[]));
        let mut flows = Vec::new();
        sets.flows(&BTreeMap::new(), &mut flows);
        let members = flows.iter().filter(|flow| {
            flow.actions.apply.iter().any(|a| matches!(a, Action::Conjunction { clause: 1, .. }))
        });
        assert_eq!(members.count(), 2);
    }
}
