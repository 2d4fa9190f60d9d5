//! What a subnet is and which values of it fit together. Pure.

use std::net::{IpAddr, Ipv4Addr};

use cloud_types::{Fault, NetworkId, ProjectId, SubnetId, SubnetPoolId, Timestamp};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::address::model::{Pool, default_gateway, default_pools, is_usable, number};
use crate::attributes::{as_ip, as_net, plain};
use crate::faults::{invalid_attribute, invalid_input};

/// Where every server asks about itself, whatever its network.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Most allocation pools of a subnet.
pub const POOLS_MAX: usize = 100;
/// Most name servers of a subnet (Neutron's `max_dns_nameservers`).
pub const DNS_NAMESERVERS_MAX: usize = 5;
/// Most service types of a subnet.
pub const SERVICE_TYPES_MAX: usize = 50;
/// Most host routes of a subnet (Neutron's `max_subnet_host_routes`).
pub const HOST_ROUTES_MAX: usize = 20;

/// A route that DHCP hands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoute {
    /// Where to.
    pub destination: IpNet,
    /// By way of.
    pub nexthop: IpAddr,
}

/// A subnet as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubnetRow {
    /// Its id.
    pub id: SubnetId,
    /// The owner: the network's, whoever made the subnet.
    pub project_id: ProjectId,
    /// The network.
    pub network_id: NetworkId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its range, without host bits.
    pub cidr: IpNet,
    /// The gateway, when it has one.
    pub gateway_ip: Option<IpAddr>,
    /// Whether hosts answer DHCP.
    pub enable_dhcp: bool,
    /// Where automatic addresses come from; sorted, disjoint.
    pub allocation_pools: Vec<Pool>,
    /// Name servers for guests; empty means the host's own responder.
    pub dns_nameservers: Vec<String>,
    /// Routes for guests.
    pub host_routes: Vec<HostRoute>,
    /// Who sends router advertisements, and of which kind.
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    /// How guests get IPv6 addresses.
    pub ipv6_address_mode: Option<Ipv6Mode>,
    /// Where automatic allocation goes on; empty means the start of the pools.
    pub next_key: String,
    /// The pool that its range comes from.
    pub subnetpool_id: Option<SubnetPoolId>,
    /// Kinds of port (`device_owner`) for which it is kept; none means all.
    pub service_types: Vec<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl SubnetRow {
    /// 4 or 6.
    pub fn ip_version(&self) -> u8 {
        version_of(&self.cidr)
    }

    /// Whether guests make their own address from the router advertisement, so that the port's
    /// address follows from its MAC.
    pub fn is_auto_address(&self) -> bool {
        matches!(self.ipv6_address_mode, Some(Ipv6Mode::Slaac | Ipv6Mode::Dhcpv6Stateless))
    }
}

/// Reads service types: kinds of port, each once.
pub fn read_service_types(value: &Value) -> Result<Vec<String>, Fault> {
    let name = "service_types";
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.len() <= SERVICE_TYPES_MAX => items,
        other => {
            return Err(invalid_attribute(
                name,
                format!("'{}' is not a list of at most {SERVICE_TYPES_MAX}", plain(other)),
            ));
        }
    };
    let mut types: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        match item.as_str() {
            Some(text) if !text.is_empty() && text.chars().count() <= 255 => {
                if types.iter().any(|known| known == text) {
                    return Err(invalid_attribute(
                        name,
                        format!("Duplicate items in the list: '{text}'"),
                    ));
                }
                types.push(text.to_owned());
            }
            _ => {
                return Err(Fault::bad_request(format!(
                    "Invalid input for operation: Subnet service type '{}' is not a kind of port.",
                    plain(item)
                ))
                .named("InvalidInputSubnetServiceType"));
            }
        }
    }
    Ok(types)
}

/// Those subnets from which a port of this kind gets addresses: those kept for it first, then those
/// that are for all.
pub fn serving(subnets: Vec<SubnetRow>, device_owner: &str) -> Vec<SubnetRow> {
    let (kept, others): (Vec<_>, Vec<_>) = subnets
        .into_iter()
        .partition(|subnet| subnet.service_types.iter().any(|kind| kind == device_owner));
    let all = others.into_iter().filter(|subnet| subnet.service_types.is_empty());
    kept.into_iter().chain(all).collect()
}

/// 4 or 6.
pub fn version_of(cidr: &IpNet) -> u8 {
    if matches!(cidr, IpNet::V4(_)) { 4 } else { 6 }
}

/// How IPv6 addresses come to guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6Mode {
    /// From the advertised prefix.
    Slaac,
    /// From DHCPv6.
    Dhcpv6Stateful,
    /// From the prefix; DHCPv6 tells the rest.
    Dhcpv6Stateless,
}

impl From<Ipv6Mode> for host_protocol::Ipv6Mode {
    fn from(mode: Ipv6Mode) -> Self {
        match mode {
            Ipv6Mode::Slaac => Self::Slaac,
            Ipv6Mode::Dhcpv6Stateful => Self::Dhcpv6Stateful,
            Ipv6Mode::Dhcpv6Stateless => Self::Dhcpv6Stateless,
        }
    }
}

impl Ipv6Mode {
    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Ipv6Mode::Slaac => "slaac",
            Ipv6Mode::Dhcpv6Stateful => "dhcpv6-stateful",
            Ipv6Mode::Dhcpv6Stateless => "dhcpv6-stateless",
        }
    }

    /// Reads [`Ipv6Mode::as_str`] back.
    pub fn from_name(text: &str) -> Option<Self> {
        [Ipv6Mode::Slaac, Ipv6Mode::Dhcpv6Stateful, Ipv6Mode::Dhcpv6Stateless]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

/// Reads an IPv6 mode from a body.
pub fn read_mode(name: &str, value: &Value) -> Result<Ipv6Mode, Fault> {
    value.as_str().and_then(Ipv6Mode::from_name).ok_or_else(|| {
        invalid_attribute(
            name,
            format!(
                "'{}' is not in ['dhcpv6-stateful', 'dhcpv6-stateless', 'slaac']",
                plain(value)
            ),
        )
    })
}

/// Reads a range; one with host bits is refused with the range that was probably meant.
pub fn read_cidr(value: &Value) -> Result<IpNet, Fault> {
    let text = value.as_str().unwrap_or_default();
    let net: IpNet = text
        .parse()
        .map_err(|_| invalid_input(format!("cidr: '{}' is not in a CIDR format", plain(value))))?;
    if net != net.trunc() {
        return Err(invalid_attribute(
            "cidr",
            format!("'{net}' isn't a recognized IP subnet cidr, '{}' is recommended", net.trunc()),
        ));
    }
    let first = net.network();
    if first.is_multicast() || first.is_loopback() || net.prefix_len() == 0 {
        return Err(invalid_attribute(
            "cidr",
            format!("'{net}' is not a range that guests can use"),
        ));
    }
    if net.contains(&IpAddr::from(METADATA)) {
        return Err(invalid_attribute(
            "cidr",
            format!("'{net}' holds {METADATA}, where servers ask for their metadata"),
        ));
    }
    Ok(net)
}

/// Reads the list of allocation pools.
pub fn read_pools(value: &Value) -> Result<Vec<Pool>, Fault> {
    let wrong = |reason: String| invalid_attribute("allocation_pools", reason);
    let items = value.as_array().ok_or_else(|| wrong("Invalid data format for IP pool".into()))?;
    if items.len() > POOLS_MAX {
        return Err(wrong(format!("at most {POOLS_MAX} pools are allowed")));
    }
    items
        .iter()
        .map(|item| {
            let map = item.as_object().filter(|map| map.len() == 2).ok_or_else(|| {
                wrong(format!("Invalid data format for IP pool: '{}'", plain(item)))
            })?;
            match (map.get("start"), map.get("end")) {
                (Some(start), Some(end)) => Ok(Pool {
                    start: as_ip("allocation_pools", start)?,
                    end: as_ip("allocation_pools", end)?,
                }),
                _ => Err(wrong(format!("Invalid data format for IP pool: '{}'", plain(item)))),
            }
        })
        .collect()
}

/// Checks pools against their range and sorts them; none may hold the gateway.
pub fn check_pools(
    cidr: &IpNet,
    gateway: Option<IpAddr>,
    mut pools: Vec<Pool>,
) -> Result<Vec<Pool>, Fault> {
    for pool in &pools {
        let one_family = pool.start.is_ipv4() == cidr.addr().is_ipv4()
            && pool.end.is_ipv4() == cidr.addr().is_ipv4();
        if !one_family || number(pool.start) > number(pool.end) {
            return Err(Fault::bad_request(format!(
                "The allocation pool {}-{} is not valid.",
                pool.start, pool.end
            ))
            .named("InvalidAllocationPool"));
        }
        if !is_usable(cidr, pool.start) || !is_usable(cidr, pool.end) {
            return Err(Fault::bad_request(format!(
                "The allocation pool {}-{} spans beyond the subnet cidr {cidr}.",
                pool.start, pool.end
            ))
            .named("OutOfBoundsAllocationPool"));
        }
        check_gateway_outside(gateway, pool)?;
    }
    pools.sort_by_key(|pool| number(pool.start));
    for pair in pools.windows(2) {
        if let [first, second] = pair
            && first.overlaps(second)
        {
            return Err(Fault::conflict(format!(
                "Found overlapping allocation pools: {}-{}, {}-{} for subnet {cidr}.",
                first.start, first.end, second.start, second.end
            ))
            .named("OverlappingAllocationPools"));
        }
    }
    Ok(pools)
}

fn check_gateway_outside(gateway: Option<IpAddr>, pool: &Pool) -> Result<(), Fault> {
    match gateway {
        Some(ip) if pool.contains(ip) => Err(Fault::conflict(format!(
            "Gateway ip {ip} conflicts with allocation pool {}-{}.",
            pool.start, pool.end
        ))
        .named("GatewayConflictWithAllocationPools")),
        _ => Ok(()),
    }
}

/// Checks a gateway against its range. As in Neutron, it may lie outside, but it must be of the
/// range's family and may not be the network or broadcast address.
pub fn check_gateway(cidr: &IpNet, gateway: IpAddr) -> Result<(), Fault> {
    if gateway.is_ipv4() != cidr.addr().is_ipv4() {
        return Err(invalid_input(format!(
            "gateway_ip '{gateway}' does not match the ip_version '{}'",
            version_of(cidr)
        )));
    }
    if (cidr.contains(&gateway) && !is_usable(cidr, gateway))
        || gateway.is_multicast()
        || gateway.is_unspecified()
        || gateway.is_loopback()
    {
        return Err(invalid_input("Gateway is not valid on subnet"));
    }
    Ok(())
}

/// What is asked of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayWish {
    /// Nothing was said: the first address.
    Default,
    /// Explicitly none.
    None,
    /// This one.
    Address(IpAddr),
}

/// Settles gateway and pools of a new subnet.
pub fn plan_addresses(
    cidr: &IpNet,
    gateway: GatewayWish,
    pools: Option<Vec<Pool>>,
) -> Result<(Option<IpAddr>, Vec<Pool>), Fault> {
    let gateway = match gateway {
        GatewayWish::Default => default_gateway(cidr),
        GatewayWish::None => None,
        GatewayWish::Address(ip) => {
            check_gateway(cidr, ip)?;
            Some(ip)
        }
    };
    let pools = match pools {
        Some(pools) => check_pools(cidr, gateway, pools)?,
        None => default_pools(cidr, gateway),
    };
    Ok((gateway, pools))
}

/// Reads name servers; each must be an address, and none may be named twice.
pub fn read_nameservers(value: &Value) -> Result<Vec<String>, Fault> {
    let name = "dns_nameservers";
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        other => {
            return Err(invalid_attribute(
                name,
                format!("Invalid data format for nameserver: '{}'", plain(other)),
            ));
        }
    };
    let mut servers: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let text = as_ip(name, item).map_err(|_| {
            invalid_attribute(name, format!("'{}' is not a valid nameserver", plain(item)))
        })?;
        let text = text.to_string();
        if servers.contains(&text) {
            return Err(invalid_attribute(name, format!("Duplicate nameserver '{text}'")));
        }
        servers.push(text);
    }
    if servers.len() > DNS_NAMESERVERS_MAX {
        return Err(Fault::bad_request(format!(
            "Unable to complete operation: the number of DNS nameservers exceeds the limit {DNS_NAMESERVERS_MAX}."
        ))
        .named("DNSNameServersExhausted"));
    }
    Ok(servers)
}

/// Reads host routes.
pub fn read_host_routes(value: &Value) -> Result<Vec<HostRoute>, Fault> {
    let name = "host_routes";
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        other => {
            return Err(invalid_attribute(
                name,
                format!("Invalid data format for hostroute: '{}'", plain(other)),
            ));
        }
    };
    let mut routes: Vec<HostRoute> = Vec::with_capacity(items.len());
    for item in items {
        let map = item.as_object().filter(|map| map.len() == 2);
        let pair = map.and_then(|map| Some((map.get("destination")?, map.get("nexthop")?)));
        let (destination, nexthop) = pair.ok_or_else(|| {
            invalid_attribute(name, format!("Invalid data format for hostroute: '{}'", plain(item)))
        })?;
        let route =
            HostRoute { destination: as_net(name, destination)?, nexthop: as_ip(name, nexthop)? };
        if routes.contains(&route) {
            return Err(invalid_attribute(name, format!("Duplicate hostroute '{}'", plain(item))));
        }
        routes.push(route);
    }
    if routes.len() > HOST_ROUTES_MAX {
        return Err(Fault::bad_request(format!(
            "Unable to complete operation: the number of host routes exceeds the limit {HOST_ROUTES_MAX}."
        ))
        .named("HostRoutesExhausted"));
    }
    Ok(routes)
}

/// Checks what a subnet's version allows: DHCP needs room, IPv6 modes need IPv6 and agree.
pub fn check_version(
    cidr: &IpNet,
    enable_dhcp: bool,
    ra_mode: Option<Ipv6Mode>,
    address_mode: Option<Ipv6Mode>,
) -> Result<(), Fault> {
    let spare = cidr.max_prefix_len() - cidr.prefix_len();
    if enable_dhcp && spare <= 1 {
        return Err(invalid_input(
            "Subnet has a prefix length that is incompatible with DHCP service enabled",
        ));
    }
    if ra_mode.is_none() && address_mode.is_none() {
        return Ok(());
    }
    if version_of(cidr) == 4 {
        return Err(invalid_input(
            "ipv6_ra_mode or ipv6_address_mode cannot be set when ip_version is set to 4",
        ));
    }
    if !enable_dhcp {
        return Err(invalid_input(
            "ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False",
        ));
    }
    if let (Some(ra), Some(address)) = (ra_mode, address_mode)
        && ra != address
    {
        return Err(invalid_input(format!(
            "ipv6_ra_mode set to '{}' with ipv6_address_mode set to '{}' is not valid. If both \
             attributes are set, they must be the same value",
            ra.as_str(),
            address.as_str()
        )));
    }
    let auto = matches!(address_mode, Some(Ipv6Mode::Slaac | Ipv6Mode::Dhcpv6Stateless));
    if auto && cidr.prefix_len() != 64 {
        return Err(invalid_input(
            "Invalid CIDR for IPv6 address mode: EUI-64 addresses need a prefix of 64",
        ));
    }
    Ok(())
}

/// Checks the version that the caller names against the range.
pub fn check_ip_version(version: i64, cidr: &IpNet) -> Result<(), Fault> {
    if version != 4 && version != 6 {
        return Err(invalid_attribute("ip_version", format!("'{version}' is not in [4, 6]")));
    }
    if version != i64::from(version_of(cidr)) {
        return Err(invalid_input(format!(
            "cidr '{cidr}' does not match the ip_version '{version}'"
        )));
    }
    Ok(())
}

/// Checks servers and routes against the version.
pub fn check_family(
    version: u8,
    nameservers: &[String],
    routes: &[HostRoute],
) -> Result<(), Fault> {
    let fits = |ip: &IpAddr| ip.is_ipv4() == (version == 4);
    for server in nameservers {
        if server.parse::<IpAddr>().is_ok_and(|ip| !fits(&ip)) {
            return Err(invalid_input(format!(
                "dns_nameserver '{server}' does not match the ip_version '{version}'"
            )));
        }
    }
    for route in routes {
        if !fits(&route.nexthop) || !fits(&route.destination.addr()) {
            return Err(invalid_input(format!(
                "host route {} does not match the ip_version '{version}'",
                route.destination
            )));
        }
    }
    Ok(())
}

/// The range that a new one would overlap.
pub fn overlapping<'a>(cidr: &IpNet, others: &'a [SubnetRow]) -> Option<&'a SubnetRow> {
    others
        .iter()
        .find(|other| other.cidr.contains(&cidr.network()) || cidr.contains(&other.cidr.network()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn name(result: Result<impl std::fmt::Debug, Fault>) -> String {
        result.unwrap_err().name.unwrap()
    }

    #[test]
    fn host_bits_are_answered_with_what_was_meant() {
        let fault = read_cidr(&json!("10.0.0.5/24")).unwrap_err();
        assert!(fault.message.contains("'10.0.0.0/24' is recommended"), "{fault}");
        for bad in ["10.0.0.0", "224.0.0.0/24", "127.0.0.0/8", "0.0.0.0/0", "169.254.0.0/16", "x"] {
            assert!(read_cidr(&json!(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn pools_and_gateway_must_not_meet() {
        let cidr = net("10.0.0.0/24");
        let pool = |a: &str, b: &str| read_pools(&json!([{ "start": a, "end": b }])).unwrap();
        let with = |gateway, pools| plan_addresses(&cidr, gateway, Some(pools));
        assert_eq!(
            name(with(GatewayWish::Default, pool("10.0.0.1", "10.0.0.9"))),
            "GatewayConflictWithAllocationPools"
        );
        assert_eq!(
            name(with(GatewayWish::None, pool("10.0.0.9", "10.0.0.1"))),
            "InvalidAllocationPool"
        );
        assert_eq!(
            name(with(GatewayWish::None, pool("10.0.0.9", "10.0.1.1"))),
            "OutOfBoundsAllocationPool"
        );
        let mut two = pool("10.0.0.20", "10.0.0.30");
        two.extend(pool("10.0.0.10", "10.0.0.20"));
        assert_eq!(name(with(GatewayWish::None, two)), "OverlappingAllocationPools");
        let (gateway, pools) = with(GatewayWish::Default, pool("10.0.0.2", "10.0.0.9")).unwrap();
        assert_eq!(gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(pools.len(), 1);
    }

    #[test]
    fn ipv6_modes_need_ipv6_and_agree() {
        let six = net("fd00::/64");
        let slaac = Some(Ipv6Mode::Slaac);
        assert!(check_version(&six, true, slaac, slaac).is_ok());
        assert!(check_version(&six, true, slaac, Some(Ipv6Mode::Dhcpv6Stateful)).is_err());
        assert!(check_version(&six, false, slaac, slaac).is_err());
        assert!(check_version(&net("fd00::/60"), true, slaac, slaac).is_err());
        assert!(check_version(&net("10.0.0.0/24"), true, slaac, None).is_err());
        assert!(check_version(&net("10.0.0.0/31"), true, None, None).is_err());
        assert!(check_version(&net("10.0.0.0/31"), false, None, None).is_ok());
    }
}
