//! Neutron's own names for what can go wrong. Clients (and tempest) look at `type` in the body, so
//! each fault is made in one place, with upstream's name, status and wording.

use std::fmt::Display;

use cloud_types::Fault;

/// 400 for a body or query string that cannot be read as written.
pub fn http_bad_request(message: impl Into<String>) -> Fault {
    Fault::bad_request(message).named("HTTPBadRequest")
}

/// 400 for one attribute whose value is wrong.
pub fn invalid_attribute(attribute: &str, reason: impl Display) -> Fault {
    http_bad_request(format!("Invalid input for {attribute}. Reason: {reason}."))
}

/// 400 for values that are well formed each but wrong together.
pub fn invalid_input(reason: impl Display) -> Fault {
    Fault::bad_request(format!("Invalid input for operation: {reason}.")).named("InvalidInput")
}

/// 404 for an object of a kind that follows Neutron's usual wording.
fn not_found(kind: &str, name: &str, id: impl Display) -> Fault {
    Fault::not_found(format!("{kind} {id} could not be found.")).named(name)
}

/// 404
pub fn network_not_found(id: impl Display) -> Fault {
    not_found("Network", "NetworkNotFound", id)
}

/// 404
pub fn subnet_not_found(id: impl Display) -> Fault {
    not_found("Subnet", "SubnetNotFound", id)
}

/// 404
pub fn port_not_found(id: impl Display) -> Fault {
    not_found("Port", "PortNotFound", id)
}

/// 404
pub fn security_group_not_found(id: impl Display) -> Fault {
    Fault::not_found(format!("Security group {id} does not exist")).named("SecurityGroupNotFound")
}

/// 404
pub fn security_group_rule_not_found(id: impl Display) -> Fault {
    Fault::not_found(format!("Security group rule {id} does not exist"))
        .named("SecurityGroupRuleNotFound")
}

/// 404
pub fn rbac_policy_not_found(id: impl Display) -> Fault {
    not_found("RBAC policy", "RbacPolicyNotFound", id)
}

/// 404
pub fn address_scope_not_found(id: impl Display) -> Fault {
    not_found("Address scope", "AddressScopeNotFound", id)
}

/// 404
pub fn subnet_pool_not_found(id: impl Display) -> Fault {
    not_found("Subnet pool", "SubnetPoolNotFound", id)
}

/// 404
pub fn address_group_not_found(id: impl Display) -> Fault {
    not_found("Address group", "AddressGroupNotFound", id)
}

/// 404
pub fn default_rule_not_found(id: impl Display) -> Fault {
    Fault::not_found(format!("Default Security Group rule {id} does not exist"))
        .named("DefaultSecurityGroupRuleNotFound")
}

/// 409: ports are still on the network.
pub fn network_in_use(id: impl Display, ports: &[String]) -> Fault {
    Fault::conflict(format!(
        "Unable to complete operation on network {id}. There are one or more ports still in use \
         on the network, id for these ports is {}.",
        ports.join(",")
    ))
    .named("NetworkInUse")
}

/// 409: ports still have addresses of the subnet.
pub fn subnet_in_use(id: impl Display) -> Fault {
    Fault::conflict(format!(
        "Unable to complete operation on subnet {id}: One or more ports have an IP allocation \
         from this subnet."
    ))
    .named("SubnetInUse")
}

/// 409: another port of the network has the address.
pub fn mac_address_in_use(network: impl Display, mac: impl Display) -> Fault {
    Fault::conflict(format!(
        "Unable to complete operation for network {network}. The mac address {mac} is in use."
    ))
    .named("MacAddressInUse")
}

/// 409: every random MAC that was tried is taken.
pub fn mac_address_generation_failure(network: impl Display) -> Fault {
    Fault::unavailable(format!("Unable to generate unique mac on network {network}."))
        .named("MacAddressGenerationFailure")
        .retry_after(1)
}

/// 409: the address belongs to another port, or is still leaving one.
pub fn ip_address_already_allocated(ip: impl Display, subnet: impl Display) -> Fault {
    Fault::conflict(format!("IP address {ip} already allocated in subnet {subnet}"))
        .named("IpAddressAlreadyAllocated")
}

/// 409: the address was given back, but a host has not yet confirmed that nothing uses it.
pub fn ip_address_quarantined(ip: impl Display, subnet: impl Display) -> Fault {
    Fault::conflict(format!(
        "IP address {ip} in subnet {subnet} was released a moment ago and the host that used it \
         has not confirmed that it is gone; try again shortly"
    ))
    .named("IpAddressAlreadyAllocated")
    .retry_after(1)
}

/// 409: the subnets of the network are full.
pub fn ip_address_generation_failure(network: impl Display) -> Fault {
    Fault::conflict(format!("No more IP addresses available on network {network}."))
        .named("IpAddressGenerationFailure")
}

/// 409: the subnet that was named is full.
pub fn ip_address_generation_failure_on_subnet(subnet: impl Display) -> Fault {
    Fault::conflict(format!("No more IP addresses available for subnet {subnet}."))
        .named("IpAddressGenerationFailure")
}

/// 400: the address lies in no subnet of the network.
pub fn invalid_ip_for_network(ip: impl Display) -> Fault {
    Fault::bad_request(format!(
        "IP address {ip} is not a valid IP for any of the subnets on the specified network."
    ))
    .named("InvalidIpForNetwork")
}

/// 400: the address lies outside the subnet, or is its network or broadcast address.
pub fn invalid_ip_for_subnet(ip: impl Display) -> Fault {
    Fault::bad_request(format!("IP address {ip} is not a valid IP for the specified subnet."))
        .named("InvalidIpForSubnet")
}

/// 409: a quota stands in the way. Neutron answers quotas with 409, unlike Nova's 403.
pub fn over_quota(resource: &str) -> Fault {
    Fault::conflict(format!("Quota exceeded for resources: ['{resource}'].")).named("OverQuota")
}

/// 400: a marker that names nothing.
pub fn marker_not_found(kind: &str, marker: &str) -> Fault {
    Fault::bad_request(format!("The marker {marker} is not a {kind} that you can see"))
        .named("HTTPBadRequest")
}

/// 403 in Neutron's wording, for an attribute that only operators may set.
pub fn attribute_forbidden(operation: &str, attribute: &str) -> Fault {
    Fault::forbidden(format!("({operation} and {operation}:{attribute}) is disallowed by policy"))
        .named("PolicyNotAuthorized")
}
