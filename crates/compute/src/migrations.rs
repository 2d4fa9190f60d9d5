//! Compute's tables. One text for SQLite and PostgreSQL.

use database::{Migration, MigrationSet};

/// What the database layer applies at start.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "compute",
    migrations: &[
        Migration { number: 1, name: "servers, flavors, key pairs, claims", sql: FIRST },
        Migration {
            number: 2,
            name: "deleted servers by age",
            sql: "CREATE INDEX servers_deleted ON servers (deleted_at, id) \
                  WHERE deleted_at IS NOT NULL",
        },
    ],
};

/// `servers_live_*` serve the lists of a project and of the whole cloud, newest first, over what
/// is not deleted; deleted rows stay for `changes-since` and are found by `servers_changed`.
const FIRST: &str = "
CREATE TABLE flavors (
    id TEXT NOT NULL PRIMARY KEY,
    flavor_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    vcpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL,
    ephemeral_gib BIGINT NOT NULL,
    swap_mib BIGINT NOT NULL,
    rxtx_factor TEXT NOT NULL,
    is_public BIGINT NOT NULL,
    description TEXT,
    extra_specs TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE TABLE flavor_access (
    flavor_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    PRIMARY KEY (flavor_id, project_id)
);
CREATE TABLE keypairs (
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    number BIGINT NOT NULL,
    type TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, name)
);
CREATE TABLE servers (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    hostname TEXT NOT NULL,
    description TEXT,
    vm_state TEXT NOT NULL,
    task_state TEXT,
    power_state BIGINT NOT NULL,
    status TEXT NOT NULL,
    desired_power TEXT NOT NULL,
    progress BIGINT NOT NULL,
    host_id TEXT,
    host_name TEXT,
    placement_epoch BIGINT NOT NULL,
    zone TEXT NOT NULL,
    requested_zone TEXT,
    flavor_id TEXT NOT NULL,
    image_id TEXT,
    key_name TEXT,
    reservation_id TEXT NOT NULL,
    launch_index BIGINT NOT NULL,
    locked_by TEXT,
    locked_reason TEXT,
    access_ipv4 TEXT,
    access_ipv6 TEXT,
    disk_config TEXT NOT NULL,
    config_drive BIGINT NOT NULL,
    metadata TEXT NOT NULL,
    security_groups TEXT NOT NULL,
    fixed TEXT NOT NULL,
    fault TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    launched_at BIGINT,
    terminated_at BIGINT,
    deleted_at BIGINT,
    generation BIGINT NOT NULL
);
CREATE INDEX servers_live_project ON servers (project_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX servers_live ON servers (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX servers_host ON servers (host_id) WHERE deleted_at IS NULL;
CREATE INDEX servers_changed ON servers (updated_at);
CREATE TABLE server_payloads (
    server_id TEXT NOT NULL PRIMARY KEY,
    user_data TEXT,
    personality TEXT NOT NULL
);
CREATE TABLE server_tags (
    server_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    PRIMARY KEY (server_id, tag)
);
CREATE INDEX server_tags_tag ON server_tags (tag, server_id);
CREATE TABLE server_actions (
    server_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    user_id TEXT,
    project_id TEXT,
    message TEXT,
    started_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (server_id, request_id)
);
CREATE TABLE server_action_events (
    server_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    event TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    result TEXT,
    host_name TEXT,
    details TEXT,
    PRIMARY KEY (server_id, request_id, event, sequence)
);
CREATE TABLE compute_hosts (
    host_id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    vcpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL,
    servers BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE allocations (
    server_id TEXT NOT NULL PRIMARY KEY,
    host_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    vcpus BIGINT NOT NULL,
    memory_mib BIGINT NOT NULL,
    disk_gib BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX allocations_host ON allocations (host_id);
";
