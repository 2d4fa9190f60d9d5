//! Who may do what with networks. Lists and lookups are open to every reader and show what the
//! project may see; what follows decides changes, and the attributes that are not for everybody.

use service_kit::policy::PolicyRule;

const fn rule(
    name: &'static str,
    expression: &'static str,
    description: &'static str,
) -> PolicyRule {
    PolicyRule::new(name, expression, description)
}

const READ: &str = "role:reader or rule:admin or rule:service";
const WRITE: &str = "rule:project_member_or_admin or rule:service";
const ADMIN: &str = "rule:admin";

/// The rules of the network service. For rules about one attribute of a port, the target is the
/// owner of the port's network.
pub const POLICY: &[PolicyRule] = &[
    rule(
        "network:all_projects",
        "rule:admin or rule:service or rule:system_reader",
        "See what every project has.",
    ),
    rule("network:networks:get", READ, "List and show networks."),
    rule("network:networks:create", WRITE, "Create a network."),
    rule("network:networks:create:shared", ADMIN, "Create a network that every project may use."),
    rule("network:networks:update", WRITE, "Change a network."),
    rule("network:networks:update:shared", ADMIN, "Share a network with every project."),
    rule("network:networks:delete", WRITE, "Delete a network."),
    rule("network:subnets:get", READ, "List and show subnets."),
    rule("network:subnets:create", WRITE, "Create a subnet on a network of the target's owner."),
    rule("network:subnets:update", WRITE, "Change a subnet."),
    rule("network:subnets:delete", WRITE, "Delete a subnet."),
    rule("network:ports:get", READ, "List and show ports."),
    rule("network:ports:get:binding", "rule:admin or rule:service", "See where a port lives."),
    rule("network:ports:create", WRITE, "Create a port."),
    rule(
        "network:ports:create:device_owner",
        WRITE,
        "Create a port whose owner is part of the network itself (network:…).",
    ),
    rule("network:ports:create:access", ADMIN, "Plug a network into a namespace of a host."),
    rule("network:ports:create:mac_address", WRITE, "Choose a port's MAC address."),
    rule("network:ports:create:fixed_ips:ip_address", WRITE, "Choose a port's address."),
    rule(
        "network:ports:create:port_security_enabled",
        WRITE,
        "Create a port without anti-spoofing.",
    ),
    rule("network:ports:create:allowed_address_pairs", WRITE, "Let a port use more addresses."),
    rule(
        "network:ports:create:dns_domain",
        WRITE,
        "Give a port a domain of its own, in which every guest of the network finds its name.",
    ),
    rule("network:ports:create:binding", "rule:admin or rule:service", "Say where a port lives."),
    rule("network:ports:update", WRITE, "Change a port."),
    rule(
        "network:ports:update:mac_address",
        "rule:admin or rule:service",
        "Change a port's MAC address.",
    ),
    rule("network:ports:delete", WRITE, "Delete a port."),
    rule("network:security_groups:get", READ, "List and show security groups."),
    rule("network:security_groups:create", WRITE, "Create a security group."),
    rule("network:security_groups:update", WRITE, "Change a security group."),
    rule("network:security_groups:delete", WRITE, "Delete a security group."),
    rule("network:security_group_rules:get", READ, "List and show rules of security groups."),
    rule("network:security_group_rules:create", WRITE, "Add a rule to a security group."),
    rule("network:security_group_rules:delete", WRITE, "Remove a rule from a security group."),
    rule(
        "network:default_security_group_rules:get",
        "@",
        "List and show what new security groups begin with.",
    ),
    rule(
        "network:default_security_group_rules:create",
        ADMIN,
        "Add to what new security groups begin with.",
    ),
    rule(
        "network:default_security_group_rules:delete",
        ADMIN,
        "Take from what new security groups begin with.",
    ),
    rule("network:address_groups:get", READ, "List and show address groups."),
    rule("network:address_groups:create", WRITE, "Create an address group."),
    rule("network:address_groups:update", WRITE, "Change an address group and its addresses."),
    rule("network:address_groups:delete", WRITE, "Delete an address group."),
    rule("network:address_scopes:get", READ, "List and show address scopes."),
    rule("network:address_scopes:create", WRITE, "Create an address scope."),
    rule("network:address_scopes:update", WRITE, "Change an address scope."),
    rule("network:address_scopes:shared", ADMIN, "Let every project use an address scope."),
    rule("network:address_scopes:delete", WRITE, "Delete an address scope."),
    rule("network:subnetpools:get", READ, "List and show subnet pools."),
    rule("network:subnetpools:create", WRITE, "Create a subnet pool."),
    rule(
        "network:subnetpools:create:shared",
        ADMIN,
        "Create a subnet pool that every project may use.",
    ),
    rule("network:subnetpools:is_default", ADMIN, "Say which subnet pool those use who name none."),
    rule("network:subnetpools:update", WRITE, "Change a subnet pool and its prefixes."),
    rule("network:subnetpools:delete", WRITE, "Delete a subnet pool."),
    rule("network:rbac_policies:get", READ, "List and show who may use what."),
    rule("network:rbac_policies:create", WRITE, "Let another project use an object of one's own."),
    rule("network:rbac_policies:everybody", ADMIN, "Let every project use an object."),
    rule("network:rbac_policies:update", WRITE, "Let another project use an object instead."),
    rule("network:rbac_policies:delete", WRITE, "Take back the leave to use an object."),
    rule(
        "network:network_ip_availabilities:get",
        ADMIN,
        "See how many addresses each network has, and how many are used.",
    ),
    rule("network:tags:get", READ, "Show the tags of a resource."),
    rule("network:tags:update", WRITE, "Change the tags of a resource."),
    rule("network:quotas:get", "rule:project_reader_or_admin", "Show a project's quota and usage."),
    rule("network:quotas:list", ADMIN, "List the quotas that differ from the defaults."),
    rule("network:quotas:update", ADMIN, "Change a project's quota."),
    rule("network:agents:get", "rule:admin or rule:system_reader", "List the hosts' agents."),
    rule("network:availability_zones:get", READ, "List availability zones."),
    rule("network:extensions:get", "@", "List what this network service can do."),
];
