//! What a network is. Pure.

use cloud_types::{AddressScopeId, Fault, NetworkId, ProjectId, SubnetId, Timestamp};
use serde::Serialize;

use crate::faults::{invalid_attribute, invalid_input};

/// Largest MTU, and that of a network which names none, in bytes: rewriting adds nothing to a frame.
pub const MTU: u16 = 1500;
/// Smallest MTU with which IPv4 works (RFC 791).
pub const MTU_MIN_IPV4: u16 = 68;
/// Smallest MTU with which IPv6 works (RFC 8200).
pub const MTU_MIN_IPV6: u16 = 1280;
/// Highest network number: it must fit in a flood locator.
pub const NETWORK_NUMBER_MAX: u32 = 0x00ff_ffff;

/// A network as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkRow {
    /// Its id.
    pub id: NetworkId,
    /// The owner.
    pub project_id: ProjectId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether its ports forward.
    pub admin_state_up: bool,
    /// Whether every project may use it.
    pub shared: bool,
    /// What new ports have.
    pub port_security_enabled: bool,
    /// What guests are told, in bytes.
    pub mtu: u16,
    /// Its number in the region, 24 bits.
    pub network_number: u32,
    /// Search domain that hosts hand out when the tenant names none.
    pub dns_domain: String,
    /// The tenant's own domain, with its last dot; empty means none.
    pub tenant_dns_domain: String,
    /// Labels.
    pub tags: Vec<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl NetworkRow {
    /// The domain of the guests' names, without its last dot.
    pub fn domain(&self) -> &str {
        domain(&self.tenant_dns_domain, &self.dns_domain)
    }
}

/// The tenant's domain, or else the cloud's, without the last dot.
pub fn domain<'d>(tenants: &'d str, clouds: &'d str) -> &'d str {
    if tenants.is_empty() { clouds } else { tenants.trim_end_matches('.') }
}

/// A network with what a list shows beside its own row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// The row.
    pub row: NetworkRow,
    /// Its subnets.
    pub subnets: Vec<SubnetId>,
    /// Whether it is shared with everybody or with the caller.
    pub shared: bool,
    /// The address scopes of its IPv4 and its IPv6 subnets.
    pub scopes: [Option<AddressScopeId>; 2],
}

/// Refuses an MTU that is too large for the wire.
pub fn check_mtu(mtu: i64) -> Result<u16, Fault> {
    match u16::try_from(mtu) {
        // Neutron's zero: what the cloud thinks best.
        Ok(0) => Ok(MTU),
        Ok(mtu) if mtu <= MTU => Ok(mtu),
        _ => Err(invalid_input(format!("Requested MTU is too big, maximum is {MTU}"))),
    }
}

/// Refuses an MTU with which the network's subnets would not work.
pub fn check_mtu_of_subnets(mtu: u16, versions: &[u8]) -> Result<(), Fault> {
    let least = |version: &u8| if *version == 4 { MTU_MIN_IPV4 } else { MTU_MIN_IPV6 };
    match versions.iter().find(|version| mtu < least(version)) {
        None => Ok(()),
        Some(version) => Err(Fault::conflict(format!(
            "Invalid network MTU {mtu} for IPv{version} subnets: the minimum is {}.",
            least(version)
        ))
        .named("NetworkMTUSubnetConflict")),
    }
}

/// Checks a domain, and writes it in lower case: empty, or with a dot at its end.
pub fn read_dns_domain(text: &str) -> Result<String, Fault> {
    let wrong = |reason: &str| {
        Err(invalid_attribute("dns_domain", format!("'{text}' not a valid FQDN: {reason}")))
    };
    let text = text.to_ascii_lowercase();
    if text.is_empty() {
        return Ok(text);
    }
    let Some(name) = text.strip_suffix('.') else { return wrong("it must end with a dot") };
    match check_dns_name(name) {
        // A label of a guest, and the dot after it, must still fit.
        Ok(()) if text.len() <= DNS_NAME_MAX - 2 => Ok(text),
        Ok(()) => wrong("it is too long"),
        Err(reason) => wrong(&reason),
    }
}

/// Longest name in DNS, in characters.
pub const DNS_NAME_MAX: usize = 255;

/// Checks a name in DNS without its last dot (RFC 952, RFC 1123 section 2.1).
pub fn check_dns_name(name: &str) -> Result<(), String> {
    if name.len() > DNS_NAME_MAX {
        return Err(format!("it exceeds {DNS_NAME_MAX} characters"));
    }
    for label in name.split('.') {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if label.is_empty() || label.len() > 63 || !label.bytes().all(inside) {
            return Err(format!("'{label}' is not 1 to 63 letters, digits or hyphens"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("'{label}' must not start or end with a hyphen"));
        }
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.contains('.') && last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("the last part '{last}' must not be all numeric"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtus_fit_the_wire_and_the_subnets() {
        assert_eq!((check_mtu(0).unwrap(), check_mtu(68).unwrap()), (1500, 68));
        assert!(check_mtu(1501).is_err() && check_mtu(-1).is_err() && check_mtu(70_000).is_err());
        assert!(check_mtu_of_subnets(1280, &[4, 6]).is_ok());
        assert!(check_mtu_of_subnets(1279, &[4]).is_ok());
        for (mtu, versions) in [(67, [4].as_slice()), (1279, [4, 6].as_slice())] {
            assert_eq!(check_mtu_of_subnets(mtu, versions).unwrap_err().status(), 409);
        }
    }

    #[test]
    fn domains_end_with_a_dot_and_hold_names() {
        assert_eq!(read_dns_domain("Test.org.").unwrap(), "test.org.");
        assert_eq!(read_dns_domain("").unwrap(), "");
        let long = format!("{}.", ["a"; 127].join("."));
        for bad in ["test.org", ".", "-a.org.", "a..org.", "a_b.org.", "1.2.", &long] {
            assert!(read_dns_domain(bad).is_err(), "{bad}");
        }
        assert_eq!((domain("", "c.d"), domain("t.org.", "c.d")), ("c.d", "t.org"));
    }
}
