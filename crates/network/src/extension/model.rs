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
        "empty-string-filtering",
        "Empty String Filtering Extension",
        "Filters with an empty value match an empty attribute.",
        "2018-05-01T10:00:00-00:00",
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
        "pagination",
        "Pagination support",
        "Lists come in pages.",
        "2016-06-12T00:00:00-00:00",
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
        "quotas",
        "Quota management support",
        "Quotas of each project.",
        "2012-07-29T10:00:00-00:00",
    ),
    extension(
        "quota_details",
        "Quota details management support",
        "Usage beside the quotas.",
        "2017-02-10T10:00:00-00:00",
    ),
    extension(
        "security-group",
        "security-group",
        "What may reach a port, and what it may reach.",
        "2012-10-05T10:00:00-00:00",
    ),
    extension(
        "security-groups-normalized-cidr",
        "Normalized CIDR field for security group rules",
        "The range that a rule's prefix means.",
        "2020-02-28T10:00:00-00:00",
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
        "Tag support for resources with standard attribute: port, subnet, network, security_group",
        "Resources have tags.",
        "2017-01-01T00:00:00-00:00",
    ),
    extension(
        "standard-attr-timestamp",
        "Resource timestamps",
        "Every resource says when it was made and changed.",
        "2016-09-12T10:00:00-00:00",
    ),
];

/// The collections that discovery names: (singular, collection in the path).
pub const RESOURCES: &[(&str, &str)] = &[
    ("network", "networks"),
    ("subnet", "subnets"),
    ("port", "ports"),
    ("security_group", "security-groups"),
    ("security_group_rule", "security-group-rules"),
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
