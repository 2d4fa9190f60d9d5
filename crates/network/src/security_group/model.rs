//! What a rule says, which rules make sense, and how they become what a host enforces. Pure.

use std::collections::HashMap;

use cloud_types::{
    AddressGroupId, Fault, ProjectId, SecurityGroupId, SecurityGroupRuleId, Timestamp,
};
use host_protocol::{Direction, Remote, SecurityRule};
use ipnet::IpNet;
use serde::Serialize;

use crate::faults::invalid_attribute;

/// Name of the group that every project has.
pub const DEFAULT_NAME: &str = "default";

/// A security group as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    /// Its id.
    pub id: SecurityGroupId,
    /// The owner.
    pub project_id: ProjectId,
    /// Free text; `default` for the project's own.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether it is the project's default group.
    pub is_default: bool,
    /// Whether answers to what was allowed pass by themselves.
    pub stateful: bool,
    /// Labels.
    pub tags: Vec<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSpec {
    /// Which way.
    pub direction: Direction,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// The protocol as the caller wrote it, in lower case; `None` means any.
    pub protocol: Option<String>,
    /// Lowest port, or ICMP type.
    pub port_min: Option<u16>,
    /// Highest port, or ICMP code.
    pub port_max: Option<u16>,
    /// The other side as a range.
    pub remote_ip_prefix: Option<IpNet>,
    /// The other side as the members of a group.
    pub remote_group_id: Option<SecurityGroupId>,
    /// The other side as the ranges of an address group.
    pub remote_address_group_id: Option<AddressGroupId>,
}

/// A rule as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRow {
    /// Its id.
    pub id: SecurityGroupRuleId,
    /// The owner: the group's.
    pub project_id: ProjectId,
    /// The group.
    pub group_id: SecurityGroupId,
    /// What it says.
    pub spec: RuleSpec,
    /// Free text.
    pub description: String,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// `ingress` or `egress`.
pub fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// `IPv4` or `IPv6`.
pub fn ethertype_name(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

/// The names that Neutron takes, with IANA's numbers.
pub const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", 6),
    ("udp", 17),
    ("udplite", 136),
    ("vrrp", 112),
];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Protocols that have ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// Protocols that exist only beneath IPv6.
const ONLY_IPV6: [&str; 7] =
    ["icmpv6", "ipv6-encap", "ipv6-frag", "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route"];

/// Reads a protocol: a name, or a number from 0 to 255; `any` and nothing mean any.
pub fn read_protocol(text: &str) -> Result<Option<String>, Fault> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() || text == "any" {
        return Ok(None);
    }
    if PROTOCOLS.iter().any(|(name, _)| *name == text) || text.parse::<u8>().is_ok() {
        return Ok(Some(text));
    }
    let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
    Err(Fault::bad_request(format!(
        "Security group rule protocol {text} not supported. Only protocol values {names:?} and \
         integer representations [0 to 255] are supported."
    ))
    .named("SecurityGroupRuleInvalidProtocol"))
}

/// The number of a protocol that [`read_protocol`] took.
pub fn protocol_number(protocol: &str) -> Option<u8> {
    PROTOCOLS
        .iter()
        .find(|(name, _)| *name == protocol)
        .map(|(_, number)| *number)
        .or_else(|| protocol.parse().ok())
}

/// Reads `IPv4` or `IPv6`.
pub fn read_ethertype(text: &str) -> Result<bool, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "ipv4" => Ok(false),
        "ipv6" => Ok(true),
        _ => Err(Fault::bad_request(format!(
            "Security group rule for ethertype '{text}' not supported. Allowed values are \
             ['IPv4', 'IPv6']."
        ))
        .named("SecurityGroupRuleInvalidEtherType")),
    }
}

/// Reads `ingress` or `egress`.
pub fn read_direction(text: &str) -> Result<Direction, Fault> {
    match text.to_ascii_lowercase().as_str() {
        "ingress" => Ok(Direction::Ingress),
        "egress" => Ok(Direction::Egress),
        _ => {
            Err(invalid_attribute("direction", format!("'{text}' is not in ['ingress', 'egress']")))
        }
    }
}

/// Whether a protocol, by name or by number, exists only beneath IPv6: a switch refuses flows that
/// match it beneath IPv4.
fn exists_only_beneath_ipv6(protocol: &str) -> bool {
    let number = protocol.parse::<u8>().ok();
    ONLY_IPV6
        .iter()
        .any(|name| *name == protocol || (number.is_some() && protocol_number(name) == number))
}

impl RuleSpec {
    /// The protocol's number; `None` means any. `ip` and 0 mean any, as in Neutron's drivers.
    pub fn number(&self) -> Option<u8> {
        let protocol = self.protocol.as_deref()?;
        if protocol == "ip" {
            return None;
        }
        let number = protocol_number(protocol)?;
        // People write "icmp" for IPv6 rules and mean ICMPv6.
        Some(if self.ipv6 && number == ICMP { ICMPV6 } else { number })
    }

    /// Refuses what contradicts itself.
    pub fn check(&self) -> Result<(), Fault> {
        let bad = |name: &str, message: String| Err(Fault::bad_request(message).named(name));
        let named = [
            self.remote_ip_prefix.is_some(),
            self.remote_group_id.is_some(),
            self.remote_address_group_id.is_some(),
        ];
        if named.into_iter().filter(|is| *is).count() > 1 {
            return bad(
                if self.remote_address_group_id.is_some() {
                    "SecurityGroupMultipleRemoteEntites"
                } else {
                    "SecurityGroupRemoteGroupAndRemoteIpPrefix"
                },
                "Only one of remote_ip_prefix, remote_group_id and remote_address_group_id may be \
                 provided."
                    .into(),
            );
        }
        if let Some(prefix) = &self.remote_ip_prefix
            && prefix.addr().is_ipv6() != self.ipv6
        {
            return bad(
                "SecurityGroupRuleParameterConflict",
                format!(
                    "Conflicting value ethertype {} for CIDR {prefix}",
                    ethertype_name(self.ipv6)
                ),
            );
        }
        if let Some(protocol) = self.protocol.as_deref()
            && !self.ipv6
            && exists_only_beneath_ipv6(protocol)
        {
            return bad(
                "SecurityGroupEthertypeConflictWithProtocol",
                format!("Invalid ethertype {} for protocol {protocol}.", ethertype_name(self.ipv6)),
            );
        }
        self.check_ports()
    }

    fn check_ports(&self) -> Result<(), Fault> {
        let bad = |name: &str, message: String| Err(Fault::bad_request(message).named(name));
        let (min, max) = (self.port_min, self.port_max);
        if min.is_none() && max.is_none() {
            return Ok(());
        }
        let Some(number) = self.number() else {
            return bad(
                "SecurityGroupProtocolRequiredWithPorts",
                "Must also specify protocol if port range is given.".into(),
            );
        };
        let protocol = self.protocol.as_deref().unwrap_or_default();
        if number == ICMP || number == ICMPV6 {
            let fields = [("type", "port_range_min", min), ("code", "port_range_max", max)];
            for (what, field, value) in fields {
                if let Some(value) = value.filter(|value| *value > 255) {
                    return bad(
                        "SecurityGroupInvalidIcmpValue",
                        format!(
                            "Invalid value for ICMP {what} ({field}) {value}. It must be 0 to 255."
                        ),
                    );
                }
            }
            if let (None, Some(code)) = (min, max) {
                return bad(
                    "SecurityGroupMissingIcmpType",
                    format!(
                        "ICMP code (port-range-max) {code} is provided but ICMP type (port-range-min) is missing."
                    ),
                );
            }
            return Ok(());
        }
        if !WITH_PORTS.contains(&number) {
            return bad(
                "SecurityGroupInvalidProtocolForPort",
                format!("Ports are not supported for protocol {protocol}."),
            );
        }
        match (min, max) {
            (Some(0), _) | (_, Some(0)) => bad(
                "SecurityGroupInvalidPortValue",
                "Invalid value for port 0: ports go from 1 to 65535.".into(),
            ),
            (Some(min), Some(max)) if min <= max => Ok(()),
            _ => bad(
                "SecurityGroupInvalidPortRange",
                "For TCP/UDP protocols, port_range_min must be <= port_range_max".into(),
            ),
        }
    }

    /// The same for two rules that say the same thing, however they were written.
    pub fn same_key(&self, group: &SecurityGroupId) -> String {
        let remote = self.remote_group_id.map(|id| id.to_string()).unwrap_or_default();
        format!("{group}|{}", self.says(&remote))
    }

    /// What the rule says, with these words for its remote group.
    pub fn says(&self, remote: &str) -> String {
        let number = self.number().map(|n| n.to_string()).unwrap_or_default();
        let port = |value: Option<u16>| value.map(|n| n.to_string()).unwrap_or_default();
        let prefix = self.remote_ip_prefix.map(|net| net.trunc().to_string()).unwrap_or_default();
        // Written only where there is one, so that older rules keep their keys.
        let addresses = self.remote_address_group_id.map(|id| format!("|{id}")).unwrap_or_default();
        format!(
            "{}|{}|{number}|{}|{}|{prefix}|{remote}{addresses}",
            direction_name(self.direction),
            ethertype_name(self.ipv6),
            port(self.port_min),
            port(self.port_max),
        )
    }

    /// The rule as a host enforces it. Who is in a remote group the host knows from the documents
    /// of the network's ports; the ranges of an address group stand in the rule.
    pub fn for_host(
        &self,
        addresses: &HashMap<AddressGroupId, Vec<IpNet>>,
        stateful: bool,
    ) -> SecurityRule {
        let listed = |id: &AddressGroupId| {
            let ranges = addresses.get(id).into_iter().flatten();
            let ranges = ranges.filter(|net| net.addr().is_ipv6() == self.ipv6);
            let mut ranges: Vec<IpNet> = ranges.map(IpNet::trunc).collect();
            ranges.sort();
            ranges
        };
        let remote = match (&self.remote_group_id, &self.remote_address_group_id) {
            (Some(group), _) => Remote::Group(group.to_string()),
            (None, Some(id)) => Remote::Addresses(listed(id)),
            (None, None) => {
                self.remote_ip_prefix.map_or(Remote::Anyone, |net| Remote::Range(net.trunc()))
            }
        };
        SecurityRule {
            direction: self.direction,
            ipv6: self.ipv6,
            protocol: self.number(),
            port_min: self.port_min,
            port_max: self.port_max,
            remote,
            stateless: !stateful,
        }
    }
}

/// Puts a host's rules into one order, so that the same rules make the same document.
pub fn in_order(mut rules: Vec<SecurityRule>) -> Vec<SecurityRule> {
    let key = |rule: &SecurityRule| {
        (
            rule.direction == Direction::Egress,
            rule.ipv6,
            rule.protocol,
            rule.port_min,
            rule.port_max,
            rule.remote.clone(),
            rule.stateless,
        )
    };
    rules.sort_by_cached_key(key);
    rules.dedup();
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(protocol: Option<&str>, ports: (Option<u16>, Option<u16>)) -> RuleSpec {
        RuleSpec {
            direction: Direction::Ingress,
            ipv6: false,
            protocol: protocol.map(str::to_owned),
            port_min: ports.0,
            port_max: ports.1,
            remote_ip_prefix: None,
            remote_group_id: None,
            remote_address_group_id: None,
        }
    }

    #[test]
    fn ports_need_a_protocol_that_has_them() {
        let name = |rule: RuleSpec| rule.check().unwrap_err().name.unwrap();
        let range = (Some(1), Some(2));
        assert_eq!(name(rule(None, range)), "SecurityGroupProtocolRequiredWithPorts");
        assert_eq!(name(rule(Some("gre"), range)), "SecurityGroupInvalidProtocolForPort");
        assert_eq!(name(rule(Some("tcp"), (Some(2), Some(1)))), "SecurityGroupInvalidPortRange");
        assert_eq!(name(rule(Some("tcp"), (Some(2), None))), "SecurityGroupInvalidPortRange");
        assert_eq!(name(rule(Some("icmp"), (None, Some(1)))), "SecurityGroupMissingIcmpType");
        assert_eq!(name(rule(Some("icmp"), (Some(256), None))), "SecurityGroupInvalidIcmpValue");
        assert!(rule(Some("icmp"), (Some(8), None)).check().is_ok());
        assert!(rule(Some("17"), range).check().is_ok());
        assert!(rule(None, (None, None)).check().is_ok());
    }

    #[test]
    fn the_same_rule_in_other_words_is_the_same() {
        let group = SecurityGroupId::random();
        let named = rule(Some("tcp"), (Some(80), Some(80)));
        let numbered = rule(Some("6"), (Some(80), Some(80)));
        assert_eq!(named.same_key(&group), numbered.same_key(&group));
        assert_ne!(named.same_key(&group), named.same_key(&SecurityGroupId::random()));
        let open =
            RuleSpec { remote_ip_prefix: Some("0.0.0.0/0".parse().unwrap()), ..named.clone() };
        assert_ne!(named.same_key(&group), open.same_key(&group));
    }

    #[test]
    fn a_host_hears_of_the_other_side_as_group_or_as_ranges() {
        let group = SecurityGroupId::random();
        let none = HashMap::new();
        let open = rule(None, (None, None));
        let remote = |rule: &RuleSpec, groups| rule.for_host(groups, true).remote;
        let members = RuleSpec { remote_group_id: Some(group), ..open.clone() };
        assert_eq!(remote(&members, &none), Remote::Group(group.to_string()));
        assert_eq!(remote(&open, &none), Remote::Anyone);
        let net = Some("192.0.2.7/24".parse().unwrap());
        let range = RuleSpec { remote_ip_prefix: net, ..open.clone() };
        assert_eq!(remote(&range, &none), Remote::Range("192.0.2.0/24".parse().unwrap()));
        let id = AddressGroupId::random();
        let listed = RuleSpec { remote_address_group_id: Some(id), ..open };
        assert_eq!(remote(&listed, &none), Remote::Addresses(Vec::new()), "nobody");
        let nets = ["10.9.0.0/16", "fd00::/64", "10.0.0.1/32"].map(|net| net.parse().unwrap());
        let groups = HashMap::from([(id, nets.to_vec())]);
        assert_eq!(remote(&listed, &groups), Remote::Addresses(vec![nets[2], nets[0]]));
        let six = RuleSpec { ipv6: true, ..listed };
        assert_eq!(remote(&six, &groups), Remote::Addresses(vec![nets[1]]));
        assert!(six.for_host(&groups, false).stateless && !six.for_host(&groups, true).stateless);
    }

    #[test]
    fn icmp_on_ipv6_means_icmpv6() {
        let spec = RuleSpec { ipv6: true, ..rule(Some("icmp"), (None, None)) };
        assert_eq!(spec.number(), Some(58));
        for only in ["ipv6-icmp", "58", "41", "43", "44", "59", "60", "058"] {
            let fault = rule(Some(only), (None, None)).check().unwrap_err();
            let name = "SecurityGroupEthertypeConflictWithProtocol";
            assert_eq!(fault.name.as_deref(), Some(name), "{only}");
        }
        assert!(rule(Some("58"), (Some(128), None)).check().is_err());
    }
}
