//! The tables of the network service. Expand only: a later number never changes what an earlier
//! release still reads.

use database::{Migration, MigrationSet};

/// All migrations, in order.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "network",
    migrations: &[
        Migration { number: 1, name: "networks, ports and security groups", sql: FIRST },
        Migration { number: 2, name: "pools, scopes, sharing and address groups", sql: SECOND },
    ],
};

const FIRST: &str = "
CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    admin_state_up BIGINT NOT NULL,
    shared BIGINT NOT NULL,
    port_security_enabled BIGINT NOT NULL,
    mtu BIGINT NOT NULL,
    network_number BIGINT NOT NULL,
    dns_domain TEXT NOT NULL,
    tags TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX networks_by_project ON networks (project_id, id);
CREATE INDEX networks_by_shared ON networks (shared, id);
CREATE INDEX networks_by_name ON networks (name);

CREATE TABLE subnets (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    ip_version BIGINT NOT NULL,
    cidr TEXT NOT NULL,
    gateway_ip TEXT NOT NULL,
    enable_dhcp BIGINT NOT NULL,
    allocation_pools TEXT NOT NULL,
    dns_nameservers TEXT NOT NULL,
    host_routes TEXT NOT NULL,
    ipv6_ra_mode TEXT NOT NULL,
    ipv6_address_mode TEXT NOT NULL,
    next_key TEXT NOT NULL,
    tags TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX subnets_by_network ON subnets (network_id, id);
CREATE INDEX subnets_by_project ON subnets (project_id, id);
CREATE INDEX subnets_by_name ON subnets (name);

-- Who has which address. The key is what keeps two ports from having the same one.
CREATE TABLE ip_allocations (
    subnet_id TEXT NOT NULL,
    ip_key TEXT NOT NULL,
    ip TEXT NOT NULL,
    port_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    place BIGINT NOT NULL,
    PRIMARY KEY (subnet_id, ip_key)
);
CREATE INDEX ip_allocations_by_port ON ip_allocations (port_id, place);
CREATE INDEX ip_allocations_by_ip ON ip_allocations (ip);

-- Addresses that were given back. They are given out again, oldest first, when the rest of the
-- pool has been used; one that names a port waits until no host can still use it.
CREATE TABLE released_addresses (
    subnet_id TEXT NOT NULL,
    ip_key TEXT NOT NULL,
    released_at BIGINT NOT NULL,
    port_id TEXT NOT NULL,
    PRIMARY KEY (subnet_id, ip_key)
);
CREATE INDEX released_addresses_by_time ON released_addresses (subnet_id, port_id, released_at);
CREATE INDEX released_addresses_by_port ON released_addresses (port_id);

CREATE TABLE ports (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    network_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    admin_state_up BIGINT NOT NULL,
    mac_address TEXT NOT NULL,
    device_id TEXT NOT NULL,
    device_owner TEXT NOT NULL,
    device_index BIGINT NOT NULL,
    device_tag TEXT NOT NULL,
    made_for_device BIGINT NOT NULL,
    hostname TEXT NOT NULL,
    status TEXT NOT NULL,
    port_security_enabled BIGINT NOT NULL,
    allowed_address_pairs TEXT NOT NULL,
    vnic_type TEXT NOT NULL,
    binding_host TEXT NOT NULL,
    binding_profile TEXT NOT NULL,
    bound_host TEXT,
    bound_host_number BIGINT,
    bound_l2_domain TEXT,
    port_number BIGINT,
    attachment TEXT,
    tags TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX ports_by_mac ON ports (network_id, mac_address);
CREATE INDEX ports_by_project ON ports (project_id, id);
CREATE INDEX ports_by_device ON ports (device_id, device_index);
CREATE INDEX ports_by_host ON ports (bound_host, network_id);
CREATE INDEX ports_by_network ON ports (network_id, bound_host);
CREATE INDEX ports_by_name ON ports (name);

CREATE TABLE security_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    is_default BIGINT NOT NULL,
    tags TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX security_groups_by_project ON security_groups (project_id, name);

-- One row for each project that has been given its default group.
CREATE TABLE default_security_groups (
    project_id TEXT PRIMARY KEY,
    group_id TEXT NOT NULL
);

CREATE TABLE security_group_rules (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol TEXT NOT NULL,
    port_range_min BIGINT,
    port_range_max BIGINT,
    remote_ip_prefix TEXT NOT NULL,
    remote_group_id TEXT NOT NULL,
    description TEXT NOT NULL,
    same_key TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX security_group_rules_same ON security_group_rules (same_key);
CREATE INDEX security_group_rules_by_group ON security_group_rules (group_id, id);
CREATE INDEX security_group_rules_by_remote ON security_group_rules (remote_group_id, group_id);
CREATE INDEX security_group_rules_by_project ON security_group_rules (project_id, id);

CREATE TABLE port_security_groups (
    port_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    PRIMARY KEY (port_id, group_id)
);
CREATE INDEX port_security_groups_by_group ON port_security_groups (group_id, port_id);

-- Numbers inside locators. Scope is a host (numbers of its ports) or 'region' (numbers of
-- networks). A released number stays until every host has said that it no longer uses it.
CREATE TABLE locator_numbers (
    scope TEXT NOT NULL,
    number BIGINT NOT NULL,
    owner TEXT NOT NULL,
    released BIGINT NOT NULL,
    PRIMARY KEY (scope, number)
);
CREATE INDEX locator_numbers_by_owner ON locator_numbers (owner);
CREATE TABLE locator_cursors (
    scope TEXT PRIMARY KEY,
    next_number BIGINT NOT NULL
);

-- Which document of which host must be done or gone before a number may be used again.
CREATE TABLE locator_waits (
    host_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    document_id TEXT NOT NULL,
    generation BIGINT NOT NULL,
    scope TEXT NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (host_id, kind, document_id, scope, number)
);
CREATE INDEX locator_waits_by_number ON locator_waits (scope, number);
";

const SECOND: &str = "
ALTER TABLE networks ADD COLUMN tenant_dns_domain TEXT NOT NULL DEFAULT '';
ALTER TABLE subnets ADD COLUMN subnetpool_id TEXT NOT NULL DEFAULT '';
ALTER TABLE subnets ADD COLUMN service_types TEXT NOT NULL DEFAULT '[]';
CREATE INDEX subnets_by_pool ON subnets (subnetpool_id, id);
ALTER TABLE ports ADD COLUMN dns_name TEXT NOT NULL DEFAULT '';
ALTER TABLE ports ADD COLUMN dns_domain TEXT NOT NULL DEFAULT '';
ALTER TABLE ports ADD COLUMN extra_dhcp_opts TEXT NOT NULL DEFAULT '[]';
ALTER TABLE security_groups ADD COLUMN stateful BIGINT NOT NULL DEFAULT 1;
ALTER TABLE security_group_rules ADD COLUMN remote_address_group_id TEXT NOT NULL DEFAULT '';
CREATE INDEX security_group_rules_by_addresses
    ON security_group_rules (remote_address_group_id, group_id);

-- Who may use what is not theirs. The target is a project, or * for everybody. A network that says
-- of itself that it is shared has such a row, too, which is implied: nobody's quota counts it.
CREATE TABLE rbac_policies (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    object_type TEXT NOT NULL,
    object_id TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    implied BIGINT NOT NULL
);
CREATE UNIQUE INDEX rbac_policies_same ON rbac_policies (object_id, object_type, action, target);
CREATE INDEX rbac_policies_by_target ON rbac_policies (target, object_type, object_id);
CREATE INDEX rbac_policies_by_project ON rbac_policies (project_id, id);
INSERT INTO rbac_policies (id, project_id, object_type, object_id, action, target, implied)
    SELECT id, project_id, 'network', id, 'access_as_shared', '*', 1 FROM networks WHERE shared = 1;

CREATE TABLE address_scopes (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    ip_version BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
CREATE INDEX address_scopes_by_project ON address_scopes (project_id, id);

CREATE TABLE subnet_pools (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    ip_version BIGINT NOT NULL,
    prefixes TEXT NOT NULL,
    min_prefixlen BIGINT NOT NULL,
    max_prefixlen BIGINT NOT NULL,
    default_prefixlen BIGINT NOT NULL,
    default_quota BIGINT,
    is_default BIGINT NOT NULL,
    address_scope_id TEXT NOT NULL,
    tags TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX subnet_pools_by_project ON subnet_pools (project_id, id);
CREATE INDEX subnet_pools_by_scope ON subnet_pools (address_scope_id, id);
CREATE INDEX subnet_pools_by_default ON subnet_pools (is_default, ip_version);

CREATE TABLE address_groups (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    addresses TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX address_groups_by_project ON address_groups (project_id, id);

-- What new security groups begin with. PARENT as the remote group means the new group itself.
CREATE TABLE default_security_group_rules (
    id TEXT PRIMARY KEY,
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol TEXT NOT NULL,
    port_range_min BIGINT,
    port_range_max BIGINT,
    remote_ip_prefix TEXT NOT NULL,
    remote_group_id TEXT NOT NULL,
    remote_address_group_id TEXT NOT NULL,
    used_in_default_sg BIGINT NOT NULL,
    used_in_non_default_sg BIGINT NOT NULL,
    description TEXT NOT NULL,
    same_key TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX default_security_group_rules_same ON default_security_group_rules (same_key);
INSERT INTO default_security_group_rules VALUES
    ('6d657269-0000-4000-8000-000000000001', 'egress', 'IPv4', '', NULL, NULL, '', '', '', 1, 1,
     'Legacy default SG rule for egress traffic', 'egress|IPv4|||||', 0, 1767225600000000,
     1767225600000000),
    ('6d657269-0000-4000-8000-000000000002', 'egress', 'IPv6', '', NULL, NULL, '', '', '', 1, 1,
     'Legacy default SG rule for egress traffic', 'egress|IPv6|||||', 0, 1767225600000000,
     1767225600000000),
    ('6d657269-0000-4000-8000-000000000003', 'ingress', 'IPv4', '', NULL, NULL, '', 'PARENT', '', 1, 0,
     'Legacy default SG rule for ingress traffic', 'ingress|IPv4|||||PARENT', 0, 1767225600000000,
     1767225600000000),
    ('6d657269-0000-4000-8000-000000000004', 'ingress', 'IPv6', '', NULL, NULL, '', 'PARENT', '', 1, 0,
     'Legacy default SG rule for ingress traffic', 'ingress|IPv6|||||PARENT', 0, 1767225600000000,
     1767225600000000);
";
