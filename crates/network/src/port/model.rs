//! What a port is. Pure types and decisions.
//!
//! ```text
//!   unbound ──bind──▶ bound (DOWN) ──host: device and flows in force──▶ bound (ACTIVE)
//!      ▲                 │   ▲                                             │
//!      └─────unbind──────┘   └──────────host: no longer in force───────────┘
//! ```

use std::net::IpAddr;

use cloud_types::{
    Fault, HostId, MacAddress, NetworkId, PortId, ProjectId, SecurityGroupId, ServerId, SubnetId,
    Timestamp,
};
use host_protocol::Attachment;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::attributes::{as_ip, as_mac, as_net, plain};
use crate::faults::{http_bad_request, invalid_attribute};
use crate::network::model::{DNS_NAME_MAX, check_dns_name};

/// Owner of a port that an operator plugged into a namespace of a host.
pub const ACCESS_OWNER: &str = "meridian:access";
/// Beginning of the owner of a server's ports; the zone follows.
pub const COMPUTE_OWNER: &str = "compute:";
/// Most addresses of one port.
pub const FIXED_IPS_MAX: usize = 50;
/// Most allowed address pairs of one port (Neutron's `max_allowed_address_pair`).
pub const ADDRESS_PAIRS_MAX: usize = 10;

/// Whether a port carries traffic, as its host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PortStatus {
    /// Device and flows are in force.
    Active,
    /// Not bound, or not yet in force.
    Down,
}

impl PortStatus {
    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            PortStatus::Active => "ACTIVE",
            PortStatus::Down => "DOWN",
        }
    }
}

/// An address that a port may use besides its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    /// One address, or a range.
    pub ip_address: IpNet,
    /// With which MAC; the port's own when absent.
    pub mac_address: Option<MacAddress>,
}

/// Where a port lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortBinding {
    /// The host.
    pub host: HostId,
    /// The host's number in its L2 domain.
    pub host_number: u16,
    /// The L2 domain.
    pub l2_domain: String,
    /// The port's number on the host, 24 bits, at least 1.
    pub port_number: u32,
    /// What is plugged in.
    pub attachment: Attachment,
}

/// A port as stored, with its addresses and groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// The owner.
    pub project_id: ProjectId,
    /// The network.
    pub network_id: NetworkId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether it forwards.
    pub admin_state_up: bool,
    /// The guest's MAC.
    pub mac: MacAddress,
    /// Its addresses, in order.
    pub fixed_ips: Vec<(SubnetId, IpAddr)>,
    /// Its groups, sorted.
    pub security_groups: Vec<SecurityGroupId>,
    /// What uses it: a server's id, or free text.
    pub device_id: String,
    /// What kind of user that is.
    pub device_owner: String,
    /// The NIC's place among those of its server.
    pub device_index: i64,
    /// The NIC's tag.
    pub device_tag: String,
    /// Whether it was made for its server and goes with it.
    pub made_for_device: bool,
    /// Its server's name in the tenant's DNS; empty means one made of the address.
    pub hostname: String,
    /// The name in the tenant's DNS that somebody gave the port itself; empty means none.
    pub dns_name: String,
    /// More options for its guest's DHCP.
    pub extra_dhcp_opts: Vec<DhcpOption>,
    /// The domain that somebody gave the port itself, with its last dot; empty means none.
    pub dns_domain: String,
    /// The domain of its names, without its last dot: its own, or else the network's.
    pub domain: String,
    /// Whether it carries traffic.
    pub status: PortStatus,
    /// Whether anti-spoofing and security groups apply.
    pub port_security_enabled: bool,
    /// More addresses that it may use.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Kind of NIC; `normal`.
    pub vnic_type: String,
    /// The host that was asked for, by name, or empty.
    pub binding_host: String,
    /// Free map for drivers; admins only.
    pub binding_profile: Value,
    /// Where it lives now.
    pub binding: Option<PortBinding>,
    /// MTU of the network, in bytes.
    pub mtu: u16,
    /// Whether the network's ports forward.
    pub network_up: bool,
    /// Labels.
    pub tags: Vec<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Port {
    /// The name that somebody gave the port, or else its server's; empty when there is neither.
    pub fn given_name(&self) -> &str {
        if self.dns_name.is_empty() { &self.hostname } else { &self.dns_name }
    }

    /// Its domain, where that is not the network's.
    pub fn own_domain(&self) -> Option<String> {
        Some(self.dns_domain.trim_end_matches('.').to_owned()).filter(|text| !text.is_empty())
    }

    /// The name that DNS and DHCP use.
    pub fn host_name(&self) -> String {
        match (self.given_name(), self.fixed_ips.first()) {
            ("", Some((_, ip))) => name_of_address(*ip),
            ("", None) => format!("port-{}", &self.id.to_string()[..8]),
            (name, _) => name.to_owned(),
        }
    }

    /// Whether a server uses the port.
    pub fn is_compute(&self) -> bool {
        self.device_owner.starts_with(COMPUTE_OWNER)
    }

    /// Whether the port goes with its network rather than keeping it from being deleted.
    pub fn is_infrastructure(&self) -> bool {
        self.device_owner == ACCESS_OWNER
    }

    /// Pairs as a host enforces them.
    pub fn pairs(&self) -> Vec<(IpNet, MacAddress)> {
        self.allowed_address_pairs
            .iter()
            .map(|pair| (pair.ip_address, pair.mac_address.unwrap_or(self.mac)))
            .collect()
    }

    /// Every address that the port may send from, as ranges: what a remote group stands for.
    pub fn ranges(&self) -> impl Iterator<Item = IpNet> + '_ {
        let own = self.fixed_ips.iter().map(|(_, ip)| IpNet::from(*ip));
        own.chain(self.allowed_address_pairs.iter().map(|pair| pair.ip_address))
    }
}

/// The name of a guest that nobody has given one.
pub fn name_of_address(ip: IpAddr) -> String {
    format!("host-{}", ip.to_string().replace(['.', ':'], "-"))
}

/// An option for a guest's DHCP beside those that its subnets say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpOption {
    /// Its name or number, as Neutron's agents take them.
    pub name: String,
    /// Its value.
    pub value: String,
    /// 4 or 6.
    pub ip_version: u8,
}

impl From<&DhcpOption> for host_protocol::DhcpOption {
    fn from(option: &DhcpOption) -> Self {
        host_protocol::DhcpOption {
            name: option.name.clone(),
            value: option.value.clone(),
            ipv6: option.ip_version == 6,
        }
    }
}

/// A change of the options: `None` takes one away.
pub type DhcpOptionChange = (String, Option<String>, u8);

/// Most DHCP options of one port.
pub const DHCP_OPTIONS_MAX: usize = 50;

/// Reads `extra_dhcp_opts`.
pub fn read_dhcp_options(value: &Value) -> Result<Vec<DhcpOptionChange>, Fault> {
    let name = "extra_dhcp_opts";
    let wrong = |item: &Value| {
        invalid_attribute(name, format!("Invalid data format for DHCP option: '{}'", plain(item)))
    };
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.len() <= DHCP_OPTIONS_MAX => items,
        other => return Err(wrong(other)),
    };
    let mut changes: Vec<DhcpOptionChange> = Vec::with_capacity(items.len());
    for item in items {
        let map = item.as_object().ok_or_else(|| wrong(item))?;
        let known = ["opt_name", "opt_value", "ip_version"];
        if map.keys().any(|key| !known.contains(&key.as_str())) {
            return Err(wrong(item));
        }
        let line =
            |text: &str, max| text.chars().count() <= max && !text.contains(['\n', '\r', '\0']);
        let option = map.get("opt_name").and_then(Value::as_str).map(str::trim);
        let option = option.filter(|text| !text.is_empty() && line(text, 64));
        let option = option.ok_or_else(|| wrong(item))?;
        // These two take away what a subnet would say.
        let blank = ["router", "classless-static-route"].contains(&option);
        let value = match map.get("opt_value") {
            Some(Value::Null) => None,
            Some(Value::String(text)) if line(text, 255) && (blank || !text.trim().is_empty()) => {
                Some(text.clone())
            }
            _ => return Err(wrong(item)),
        };
        let version = match map.get("ip_version") {
            None => 4,
            Some(version) => match version.as_u64().or_else(|| version.as_str()?.parse().ok()) {
                Some(4) => 4,
                Some(6) => 6,
                _ => return Err(wrong(item)),
            },
        };
        if changes.iter().any(|(known, _, other)| known == option && *other == version) {
            return Err(invalid_attribute(name, format!("Duplicate DHCP option '{option}'")));
        }
        changes.push((option.to_owned(), value, version));
    }
    Ok(changes)
}

/// The options after a change; those that it does not name stay.
pub fn merge_dhcp_options(
    mut options: Vec<DhcpOption>,
    changes: &[DhcpOptionChange],
) -> Result<Vec<DhcpOption>, Fault> {
    for (name, value, ip_version) in changes {
        options.retain(|option| option.name != *name || option.ip_version != *ip_version);
        if let Some(value) = value {
            options.push(DhcpOption {
                name: name.clone(),
                value: value.clone(),
                ip_version: *ip_version,
            });
        }
    }
    if options.len() > DHCP_OPTIONS_MAX {
        return Err(invalid_attribute(
            "extra_dhcp_opts",
            format!("at most {DHCP_OPTIONS_MAX} are allowed"),
        ));
    }
    options.sort_by(|a, b| (&a.name, a.ip_version).cmp(&(&b.name, b.ip_version)));
    Ok(options)
}

/// Reads a port's name in DNS, in lower case. A full one, with a dot at its end, must end with
/// `domain`, which is cut off.
pub fn read_dns_name(text: &str, domain: &str) -> Result<String, Fault> {
    let wrong = |reason: String| {
        invalid_attribute(
            "dns_name",
            format!("'{}' not a valid PQDN or FQDN. Reason: {reason}", plain(&text.into())),
        )
    };
    let lower = text.to_ascii_lowercase();
    if lower.is_empty() {
        return Ok(lower);
    }
    let name = match lower.strip_suffix('.') {
        None => lower.as_str(),
        Some(full) => {
            full.strip_suffix(domain).and_then(|name| name.strip_suffix('.')).ok_or_else(|| {
                wrong(format!("a full name here ends with the network's domain '{domain}.'"))
            })?
        }
    };
    check_dns_name(name).map_err(wrong)?;
    if name.len() + domain.len() + 2 > DNS_NAME_MAX {
        return Err(wrong(format!("with the domain '{domain}.' it is too long")));
    }
    Ok(name.to_owned())
}

/// A NIC that a new server asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicRequest {
    /// A network on which to make a port.
    pub network: Option<NetworkId>,
    /// A port that exists.
    pub port: Option<PortId>,
    /// The address to give to the new port.
    pub fixed_ip: Option<IpAddr>,
    /// Told to the guest.
    pub tag: Option<String>,
}

/// The server for which ports are prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOwner {
    /// The server.
    pub server_id: ServerId,
    /// Its host name without domain: its name in the tenant's DNS.
    pub hostname: String,
    /// The zone that was asked for; the host's is filled in when the port is bound.
    pub zone: Option<String>,
}

/// What compute shows of a server's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// The port.
    pub port_id: PortId,
    /// Its network.
    pub network_id: NetworkId,
    /// The network's name: the key in Nova's `addresses`.
    pub network_name: String,
    /// The guest's MAC.
    pub mac: MacAddress,
    /// MTU in bytes.
    pub mtu: u16,
    /// Its addresses, with the subnet of each.
    pub ips: Vec<(SubnetId, IpAddr)>,
    /// Ids and names of its groups.
    pub security_groups: Vec<(SecurityGroupId, String)>,
    /// Whether it carries traffic.
    pub status: PortStatus,
    /// The NIC's tag.
    pub tag: Option<String>,
}

/// One entry of `fixed_ips` in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedIpWish {
    /// From this subnet.
    pub subnet: Option<SubnetId>,
    /// This address.
    pub ip: Option<IpAddr>,
}

/// Reads `fixed_ips`.
pub fn read_fixed_ips(value: &Value) -> Result<Vec<FixedIpWish>, Fault> {
    let name = "fixed_ips";
    let wrong = |item: &Value| {
        invalid_attribute(name, format!("Invalid data format for fixed IP: '{}'", plain(item)))
    };
    let items = match value {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        other => return Err(wrong(other)),
    };
    if items.len() > FIXED_IPS_MAX {
        return Err(invalid_attribute(name, format!("at most {FIXED_IPS_MAX} are allowed")));
    }
    let mut wishes: Vec<FixedIpWish> = Vec::with_capacity(items.len());
    for item in items {
        let map = item.as_object().ok_or_else(|| wrong(item))?;
        if map.keys().any(|key| key != "subnet_id" && key != "ip_address") {
            return Err(wrong(item));
        }
        let subnet = match map.get("subnet_id") {
            None | Some(Value::Null) => None,
            Some(value) => {
                Some(value.as_str().and_then(|id| id.parse().ok()).ok_or_else(|| {
                    invalid_attribute(name, format!("'{}' is not a valid UUID", plain(value)))
                })?)
            }
        };
        let ip = match map.get("ip_address") {
            None | Some(Value::Null) => None,
            Some(value) => Some(as_ip(name, value)?),
        };
        if subnet.is_none() && ip.is_none() {
            return Err(wrong(item));
        }
        if ip.is_some() && wishes.iter().any(|wish| wish.ip == ip) {
            return Err(invalid_attribute(
                name,
                format!(
                    "Duplicate IP address '{}'",
                    ip.map(|ip| ip.to_string()).unwrap_or_default()
                ),
            ));
        }
        wishes.push(FixedIpWish { subnet, ip });
    }
    Ok(wishes)
}

/// Reads `allowed_address_pairs`.
pub fn read_address_pairs(value: &Value) -> Result<Vec<AddressPair>, Fault> {
    let name = "allowed_address_pairs";
    let items = match value {
        Value::Array(items) => items,
        Value::Null => return Ok(Vec::new()),
        _ => {
            return Err(http_bad_request("Allowed address pairs must be a list."));
        }
    };
    if items.len() > ADDRESS_PAIRS_MAX {
        return Err(Fault::bad_request(format!(
            "The number of allowed address pair exceeds the maximum {ADDRESS_PAIRS_MAX}."
        ))
        .named("AllowedAddressPairExhausted"));
    }
    let mut pairs: Vec<AddressPair> = Vec::with_capacity(items.len());
    for item in items {
        let map = item.as_object().ok_or_else(|| {
            invalid_attribute(name, format!("Invalid data format: '{}'", plain(item)))
        })?;
        if let Some(key) = map.keys().find(|key| *key != "ip_address" && *key != "mac_address") {
            return Err(http_bad_request(format!("Unrecognized attribute(s) '{key}'")));
        }
        let ip = map.get("ip_address").ok_or_else(|| {
            Fault::bad_request("AllowedAddressPair must contain ip_address")
                .named("AllowedAddressPairsMissingIP")
        })?;
        let ip_address = as_net(name, ip)?.trunc();
        let mac_address = match map.get("mac_address") {
            None | Some(Value::Null) => None,
            Some(value) => Some(as_mac(name, value)?),
        };
        let pair = AddressPair { ip_address, mac_address };
        if pairs.contains(&pair) {
            return Err(Fault::bad_request(format!(
                "Request contains duplicate address pair: mac_address {} ip_address {ip_address}.",
                mac_address.map(|mac| mac.to_string()).unwrap_or_default()
            ))
            .named("DuplicateAddressPairInRequest"));
        }
        pairs.push(pair);
    }
    Ok(pairs)
}

/// A pair as the API shows it: a range of one without its length.
pub fn pair_address(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// Settles what port security and the rest of a port say together.
pub fn check_port_security(enabled: bool, has_groups: bool, has_pairs: bool) -> Result<(), Fault> {
    if enabled {
        return Ok(());
    }
    if has_pairs {
        return Err(Fault::conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
        )
        .named("AddressPairAndPortSecurityRequired"));
    }
    if has_groups {
        return Err(Fault::conflict(
            "Port has security group associated. Cannot disable port security or ip address \
             until security group is removed",
        )
        .named("PortSecurityPortHasSecurityGroup"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dhcp_options_are_added_changed_and_taken_away_one_by_one() {
        let read = |value: Value| read_dhcp_options(&value).unwrap();
        let option = |name: &str, value: &str, ip_version| DhcpOption {
            name: name.into(),
            value: value.into(),
            ip_version,
        };
        let first = read(json!([{"opt_name": "mtu", "opt_value": "1400"},
                                {"opt_name": "mtu", "opt_value": "1280", "ip_version": "6"}]));
        let options = merge_dhcp_options(Vec::new(), &first).unwrap();
        assert_eq!(options, [option("mtu", "1400", 4), option("mtu", "1280", 6)]);
        let second = read(json!([{"opt_name": "mtu", "opt_value": null, "ip_version": 4},
                                 {"opt_name": "router", "opt_value": ""}]));
        let options = merge_dhcp_options(options, &second).unwrap();
        assert_eq!(options, [option("mtu", "1280", 6), option("router", "", 4)]);
        for bad in [
            json!("x"),
            json!([{}]),
            json!([{"opt_name": "mtu"}]),
            json!([{"opt_name": "", "opt_value": "1"}]),
            json!([{"opt_name": "mtu", "opt_value": " "}]),
            json!([{"opt_name": "mtu", "opt_value": "a\nb"}]),
            json!([{"opt_name": "mtu", "opt_value": "1", "ip_version": 5}]),
            json!([{"opt_name": "mtu", "opt_value": "1", "more": 5}]),
            json!([{"opt_name": "mtu", "opt_value": "1"}, {"opt_name": "mtu", "opt_value": "2"}]),
        ] {
            assert!(read_dhcp_options(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_parts_or_end_with_the_networks_domain() {
        let read = |text: &str| read_dns_name(text, "meridian.internal");
        assert_eq!(read("Web-1").unwrap(), "web-1");
        assert_eq!(read("").unwrap(), "");
        assert_eq!(read("web.meridian.internal.").unwrap(), "web");
        for bad in ["-a", "a_b", "a..b", "web.example.org.", "meridian.internal.", "a."] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&["a"; 126].join(".")).is_err());
    }

    #[test]
    fn fixed_ips_say_subnet_or_address() {
        let subnet = SubnetId::random();
        let read = read_fixed_ips(&json!([
            {"subnet_id": subnet.to_string()},
            {"ip_address": "10.0.0.9"},
        ]))
        .unwrap();
        assert_eq!(read[0], FixedIpWish { subnet: Some(subnet), ip: None });
        assert_eq!(read[1].ip, Some("10.0.0.9".parse().unwrap()));
        for bad in [
            json!([{}]),
            json!(["10.0.0.9"]),
            json!([{"ip_address": "10.0.0"}]),
            json!([{"subnet_id": "x"}]),
            json!([{"ip_address": "10.0.0.9", "colour": "red"}]),
            json!([{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.9"}]),
        ] {
            assert!(read_fixed_ips(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn address_pairs_are_ranges_and_print_as_given() {
        let pairs = read_address_pairs(&json!([
            {"ip_address": "10.0.0.9"},
            {"ip_address": "10.1.0.0/16", "mac_address": "fa:16:3e:00:00:01"},
        ]))
        .unwrap();
        assert_eq!(pair_address(&pairs[0].ip_address), "10.0.0.9");
        assert_eq!(pair_address(&pairs[1].ip_address), "10.1.0.0/16");
        let twice = json!([{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.9/32"}]);
        assert_eq!(
            read_address_pairs(&twice).unwrap_err().name.as_deref(),
            Some("DuplicateAddressPairInRequest")
        );
        assert!(read_address_pairs(&json!([{"mac_address": "fa:16:3e:00:00:01"}])).is_err());
    }
}
