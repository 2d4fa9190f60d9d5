//! The extensions that are obeyed. Pure.

/// An extension as Neutron lists it.
#[derive(Clone, Copy, Debug)]
pub struct Extension {
    /// The name that clients ask for.
    pub alias: &'static str,
    /// Title.
    pub name: &'static str,
    /// What it adds.
    pub description: &'static str,
    /// When upstream last changed it.
    pub updated: &'static str,
}

const fn extension(
    alias: &'static str,
    name: &'static str,
    description: &'static str,
    updated: &'static str,
) -> Extension {
    Extension { alias, name, description, updated }
}

/// Every extension, sorted by alias.
pub const EXTENSIONS: &[Extension] = &[
    extension(
        "address-group",
        "Address group",
        "Lists of addresses that rules refer to.",
        "2020-07-15T10:00:00-00:00",
    ),
    extension(
        "address-scope",
        "Address scope",
        "Subnet pools whose prefixes do not overlap.",
        "2015-07-26T10:00:00-00:00",
    ),
    extension("agent", "agent", "The hosts' agents.", "2013-02-03T10:00:00-00:00"),
    extension(
        "allowed-address-pairs",
        "Allowed Address Pairs",
        "Addresses that a port may use besides its own.",
        "2013-07-23T10:00:00-00:00",
    ),
    extension(
        "availability_zone",
        "Availability Zone",
        "The zones in which networks can have ports.",
        "2015-01-01T10:00:00-00:00",
    ),
    extension(
        "binding",
        "Port Binding",
        "The host on which a port lives.",
        "2014-02-03T10:00:00-00:00",
    ),
    extension(
        "default-subnetpools",
        "Default Subnetpools",
        "The cloud's pools for those who name none.",
        "2016-02-18T18:00:00-00:00",
    ),
    extension(
        "dns-domain-ports",
        "dns_domain for ports",
        "Ports have domains of their own.",
        "2017-06-25T18:00:00-00:00",
    ),
    extension(
        "dns-integration",
        "DNS Integration",
        "Ports have names in the tenant's DNS.",
        "2015-08-15T18:00:00-00:00",
    ),
    extension(
        "empty-string-filtering",
        "Empty String Filtering Extension",
        "Filters with an empty value match an empty attribute.",
        "2018-05-01T10:00:00-00:00",
    ),
    extension(
        "extra_dhcp_opt",
        "Neutron Extra DHCP options",
        "DHCP tells guests what their port says.",
        "2013-03-17T12:00:00-00:00",
    ),
    extension(
        "filter-validation",
        "Filter parameters validation",
        "Unknown filters are refused.",
        "2018-03-21T10:00:00-00:00",
    ),
    extension(
        "ip-substring-filtering",
        "IP address substring filtering",
        "Ports are filtered by a part of their address.",
        "2017-11-28T09:00:00-00:00",
    ),
    extension("net-mtu", "Network MTU", "A network's MTU is shown.", "2015-03-25T10:00:00-00:00"),
    extension(
        "net-mtu-writable",
        "Network MTU (writable)",
        "A network's MTU is set by its owner.",
        "2017-07-12T00:00:00-00:00",
    ),
    extension(
        "network-ip-availability",
        "Network IP Availability",
        "How many addresses are used.",
        "2015-09-24T00:00:00-00:00",
    ),
    extension(
        "pagination",
        "Pagination support",
        "Lists come in pages.",
        "2016-06-12T00:00:00-00:00",
    ),
    extension(
        "port-mac-address-regenerate",
        "Port MAC address regenerate",
        "A port is given another MAC.",
        "2018-05-03T10:00:00-00:00",
    ),
    extension(
        "port-security",
        "Port Security",
        "Anti-spoofing can be switched off.",
        "2012-07-23T10:00:00-00:00",
    ),
    extension(
        "port-security-groups-filtering",
        "Port Security Groups Filtering",
        "Ports are filtered by security group.",
        "2018-01-09T09:00:00-00:00",
    ),
    extension(
        "project-id",
        "project_id field enabled",
        "project_id stands beside tenant_id.",
        "2016-09-09T09:09:09-09:09",
    ),
    extension(
        "quota-check-limit",
        "Quota engine limit check",
        "A limit below what is used is refused when asked for.",
        "2021-06-07T10:00:00-00:00",
    ),
    extension(
        "quota-check-limit-default",
        "Quota engine limit check by default",
        "A limit below what is used is refused.",
        "2021-11-12T10:00:00-00:00",
    ),
    extension(
        "quota_details",
        "Quota details management support",
        "Usage beside the quotas.",
        "2017-02-10T10:00:00-00:00",
    ),
    extension(
        "quotas",
        "Quota management support",
        "Quotas of each project.",
        "2012-07-29T10:00:00-00:00",
    ),
    extension(
        "rbac-address-group",
        "Add address_group type to RBAC",
        "Address groups are shared with single projects.",
        "2020-07-23T00:00:00-00:00",
    ),
    extension(
        "rbac-address-scope",
        "Add address_scope type to RBAC",
        "Address scopes are shared with single projects.",
        "2020-03-13T00:00:00-00:00",
    ),
    extension(
        "rbac-policies",
        "RBAC Policies",
        "Networks are shared with single projects.",
        "2015-06-17T12:15:12-00:00",
    ),
    extension(
        "rbac-security-groups",
        "Add security_group type to network RBAC",
        "Security groups are shared with single projects.",
        "2019-02-08T10:00:00-00:00",
    ),
    extension(
        "rbac-subnetpool",
        "Add subnetpool type to RBAC",
        "Subnet pools are shared with single projects.",
        "2020-03-13T00:00:00-00:00",
    ),
    extension(
        "revision-if-match",
        "If-Match constraints based on revision_number",
        "Changes hold only for a revision.",
        "2016-12-11T00:00:00-00:00",
    ),
    extension(
        "security-group",
        "security-group",
        "What may reach a port, and what it may reach.",
        "2012-10-05T10:00:00-00:00",
    ),
    extension(
        "security-groups-default-rules",
        "Default rules for security groups",
        "What new security groups begin with.",
        "2022-12-19T10:00:00-00:00",
    ),
    extension(
        "security-groups-normalized-cidr",
        "Normalized CIDR field for security group rules",
        "The range that a rule's prefix means.",
        "2020-02-28T10:00:00-00:00",
    ),
    extension(
        "security-groups-remote-address-group",
        "Add address group support to security group rules",
        "Rules refer to address groups.",
        "2020-07-28T10:00:00-00:00",
    ),
    extension(
        "security-groups-shared-filtering",
        "Security group filtering on the shared field",
        "Security groups are filtered by whether they are shared.",
        "2021-10-05T09:00:00-00:00",
    ),
    extension("sorting", "Sorting support", "Lists are sorted.", "2016-06-12T00:00:00-00:00"),
    extension(
        "standard-attr-description",
        "standard-attr-description",
        "Every resource has a description.",
        "2016-02-10T10:00:00-00:00",
    ),
    extension(
        "standard-attr-revisions",
        "Resource revision numbers",
        "Every resource counts its changes.",
        "2016-04-11T10:00:00-00:00",
    ),
    extension(
        "standard-attr-tag",
        "Tag support for resources with standard attribute: port, subnet, network, security_group, subnetpool",
        "Resources have tags.",
        "2017-01-01T00:00:00-00:00",
    ),
    extension(
        "standard-attr-timestamp",
        "Resource timestamps",
        "Every resource says when it was made and changed.",
        "2016-09-12T10:00:00-00:00",
    ),
    extension(
        "stateful-security-group",
        "Stateful security group",
        "Groups judge by connection, or each packet by itself.",
        "2019-11-26T09:00:00-00:00",
    ),
    extension(
        "subnet-service-types",
        "Subnet service types",
        "Subnets are kept for kinds of port.",
        "2016-03-15T18:00:00-00:00",
    ),
    extension(
        "subnet_allocation",
        "Subnet Allocation",
        "Subnet pools give ranges.",
        "2015-03-30T10:00:00-00:00",
    ),
    extension(
        "subnet_onboard",
        "Subnet Onboard",
        "Subnets are taken into a pool.",
        "2016-11-15T00:00:00-00:00",
    ),
    extension(
        "subnetpool-prefix-ops",
        "Subnet Pool Prefix Operations",
        "Prefixes are added to pools and taken away.",
        "2019-02-08T00:00:00-00:00",
    ),
    extension(
        "tag-ports-during-bulk-creation",
        "Tag Ports During Bulk Creation",
        "Ports are made with tags.",
        "2019-12-29T19:00:00-00:00",
    ),
];

/// The collections that discovery names: (singular, collection in the path).
pub const RESOURCES: &[(&str, &str)] = &[
    ("network", "networks"),
    ("subnet", "subnets"),
    ("port", "ports"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
    ("default_security_group_rule", "default-security-group-rules"),
    ("address_group", "address-groups"),
    ("address_scope", "address-scopes"),
    ("subnetpool", "subnetpools"),
    ("rbac_policy", "rbac-policies"),
    ("network_ip_availability", "network-ip-availabilities"),
    ("quota", "quotas"),
    ("extension", "extensions"),
    ("agent", "agents"),
    ("availability_zone", "availability_zones"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_unique() {
        let mut aliases: Vec<&str> = EXTENSIONS.iter().map(|one| one.alias).collect();
        aliases.sort_unstable();
        aliases.dedup();
        assert_eq!(aliases.len(), EXTENSIONS.len());
    }
}
