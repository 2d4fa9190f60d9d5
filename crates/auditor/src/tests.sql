CREATE TABLE hosts (id TEXT PRIMARY KEY, facts TEXT);
CREATE TABLE servers (id TEXT PRIMARY KEY, project_id TEXT, host_id TEXT, placement_epoch BIGINT,
    vm_state TEXT, task_state TEXT, power_state BIGINT, desired_power TEXT, fixed TEXT,
    deleted_at BIGINT, terminated_at BIGINT);
CREATE TABLE server_payloads (server_id TEXT);
CREATE TABLE server_tags (server_id TEXT, tag TEXT);
CREATE TABLE server_actions (server_id TEXT);
CREATE TABLE allocations (server_id TEXT PRIMARY KEY, host_id TEXT, epoch BIGINT, vcpus BIGINT,
    memory_mib BIGINT, disk_gib BIGINT);
CREATE TABLE compute_hosts (host_id TEXT PRIMARY KEY, vcpus BIGINT, memory_mib BIGINT,
    disk_gib BIGINT, servers BIGINT);
CREATE TABLE quota_usage (project_id TEXT, resource TEXT, in_use BIGINT,
    PRIMARY KEY (project_id, resource));
CREATE TABLE host_documents (host_id TEXT, kind TEXT, id TEXT, generation BIGINT, epoch BIGINT,
    tombstone BIGINT, spec TEXT, PRIMARY KEY (host_id, kind, id));
CREATE TABLE host_reports (host_id TEXT, kind TEXT, id TEXT, generation BIGINT, state TEXT,
    facts TEXT, reported_at BIGINT, PRIMARY KEY (host_id, kind, id));
CREATE TABLE workflows (id TEXT PRIMARY KEY, kind TEXT, owner_kind TEXT, owner_id TEXT,
    status TEXT, step TEXT, wait_event TEXT, lease_owner TEXT, due_at BIGINT, deadline BIGINT,
    updated_at BIGINT, lease_epoch BIGINT, lease_worker TEXT);
CREATE TABLE workflow_steps (workflow_id TEXT, direction TEXT, step_index BIGINT,
    lease_epoch BIGINT, worker TEXT);
CREATE TABLE networks (id TEXT PRIMARY KEY, project_id TEXT);
CREATE TABLE subnets (id TEXT PRIMARY KEY, network_id TEXT, project_id TEXT,
    subnetpool_id TEXT NOT NULL DEFAULT '');
CREATE TABLE subnet_pools (id TEXT PRIMARY KEY, project_id TEXT, address_scope_id TEXT);
CREATE TABLE address_scopes (id TEXT PRIMARY KEY, project_id TEXT);
CREATE TABLE address_groups (id TEXT PRIMARY KEY, project_id TEXT);
CREATE TABLE rbac_policies (id TEXT PRIMARY KEY, project_id TEXT, object_type TEXT,
    object_id TEXT, implied BIGINT);
CREATE TABLE ports (id TEXT PRIMARY KEY, project_id TEXT, network_id TEXT, device_id TEXT,
    device_owner TEXT, bound_host TEXT, bound_l2_domain TEXT, port_number BIGINT);
CREATE TABLE port_security_groups (port_id TEXT, group_id TEXT);
CREATE TABLE security_groups (id TEXT PRIMARY KEY, project_id TEXT);
CREATE TABLE security_group_rules (id TEXT PRIMARY KEY, group_id TEXT,
    remote_address_group_id TEXT NOT NULL DEFAULT '');
CREATE TABLE ip_allocations (subnet_id TEXT, ip_key TEXT, ip TEXT, port_id TEXT, network_id TEXT);
CREATE TABLE released_addresses (subnet_id TEXT, ip_key TEXT, port_id TEXT);
CREATE TABLE locator_numbers (scope TEXT, number BIGINT, owner TEXT, released BIGINT);
CREATE TABLE locator_waits (host_id TEXT, kind TEXT, document_id TEXT, scope TEXT, number BIGINT);
CREATE TABLE images (id TEXT PRIMARY KEY, owner TEXT, status TEXT, size BIGINT);
CREATE TABLE image_members (image_id TEXT);
