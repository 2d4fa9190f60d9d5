//! Sets of security rules as flows. Ports with the same rules share one set, so that a group of a
//! thousand ports costs its rules once on each host.

use std::collections::{BTreeMap, BTreeSet};

use host_protocol::{Direction, SecurityRule};
use openflow::{Actions, Field, Flow, Match, ct_state, ip_proto};

use crate::Cookie;
use crate::plan::split;
use crate::ranges::masks;
use crate::tables::*;

/// Protocols whose ports a rule can name.
const WITH_PORTS: [u8; 4] = [ip_proto::TCP, ip_proto::UDP, DCCP, ip_proto::SCTP];
const DCCP: u8 = 33;

/// The distinct sets of rules, by identifier.
#[derive(Default)]
pub(crate) struct RuleSets {
    sets: BTreeMap<u32, BTreeSet<String>>,
    flows: BTreeMap<u32, Vec<(u8, Match)>>,
}

impl RuleSets {
    /// Finds or makes the set. Its identifier is a hash of what it says, so that the flows of one
    /// set do not change when another comes or goes.
    pub fn add(&mut self, rules: &[SecurityRule]) -> u32 {
        let matches: BTreeSet<(u8, Match)> = rules.iter().flat_map(matches).collect();
        let canonical: BTreeSet<String> =
            matches.iter().map(|(table, m)| format!("{table} {m}")).collect();
        let mut id = hash(&canonical);
        loop {
            match self.sets.get(&id) {
                Some(other) if *other == canonical => return id,
                Some(_) => id = id.wrapping_add(1).max(1),
                None => break,
            }
        }
        self.sets.insert(id, canonical);
        self.flows.insert(id, matches.into_iter().collect());
        id
    }

    pub fn flows(&self, out: &mut Vec<Flow>) {
        for (&id, matches) in &self.flows {
            for (table, m) in matches {
                out.push(
                    Flow::new(
                        *table,
                        100,
                        m.clone().reg(REG_RULES, id),
                        Actions::new().goto(ACCEPT),
                    )
                    .cookie(Cookie::Rules(id).encode()),
                );
            }
        }
    }
}

/// FNV-1a over the lines, never 0. Not for secrets: only to give equal sets equal numbers.
fn hash(lines: &BTreeSet<String>) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in lines.iter().flat_map(|line| line.bytes().chain([b'\n'])) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.max(1)
}

/// What one rule lets begin, as matches on the packet that begins it.
fn matches(rule: &SecurityRule) -> Vec<(u8, Match)> {
    let table = match rule.direction {
        Direction::Egress => RULES_EGRESS,
        Direction::Ingress => RULES_INGRESS,
    };
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
    let transports = match protocol {
        Some(p) if WITH_PORTS.contains(&p) => ports(&base, rule),
        Some(ip_proto::ICMP | ip_proto::ICMPV6) => vec![icmp(base, rule)],
        _ => vec![base],
    };
    let Some(remotes) = &rule.remote else {
        return transports.into_iter().map(|m| (table, m)).collect();
    };
    let mut out = Vec::new();
    for net in remotes {
        for m in &transports {
            let m = m.clone();
            let m = match (split(net.trunc()), rule.ipv6, rule.direction) {
                (Ok(net), false, Direction::Ingress) => m.ct_ipv4_src(net),
                (Ok(net), false, Direction::Egress) => m.ct_ipv4_dst(net),
                (Err(net), true, Direction::Ingress) => m.ct_ipv6_src(net),
                (Err(net), true, Direction::Egress) => m.ct_ipv6_dst(net),
                // An address of the other family: the rule says nothing about it.
                _ => continue,
            };
            out.push((table, m));
        }
    }
    out
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
            remote: None,
        }
    }

    #[test]
    fn equal_rules_in_any_order_are_one_set_and_other_rules_another() {
        let mut sets = RuleSets::default();
        let one = sets.add(&[tcp(22, 22), tcp(80, 80)]);
        assert_eq!(one, sets.add(&[tcp(80, 80), tcp(22, 22), tcp(80, 80)]));
        assert_ne!(one, sets.add(&[tcp(22, 22)]));
        assert_ne!(0, sets.add(&[]));
    }

    #[test]
    fn a_rule_for_nobody_allows_nothing() {
        let rule = SecurityRule { remote: Some(vec![]), ..tcp(22, 22) };
        assert!(matches(&rule).is_empty());
    }

    #[test]
    fn a_rule_reads_as_the_switch_prints_it() {
        let rule =
            SecurityRule { remote: Some(vec!["10.1.2.0/24".parse().unwrap()]), ..tcp(80, 81) };
        let [(table, m)] = &matches(&rule)[..] else { panic!("one match") };
        assert_eq!(*table, RULES_INGRESS);
        assert_eq!(
            m.to_string(),
            "ct_state=-inv+trk,eth_type=0x800,ct_nw_proto=6,\
             ct_nw_src=10.1.2.0/255.255.255.0,ct_tp_dst=0x50/0xfffe"
        );
    }
}
