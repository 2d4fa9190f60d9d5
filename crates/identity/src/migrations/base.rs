//! Users, groups, projects, domains, roles, assignments, the catalogue and revocations.

pub(super) const IDENTITY: &str = "
CREATE TABLE identity_domains (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    extra TEXT NOT NULL,
    serial BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE identity_users (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    enabled BIGINT NOT NULL,
    default_project_id TEXT,
    password_hash TEXT,
    password_changed_at BIGINT,
    options TEXT NOT NULL,
    extra TEXT NOT NULL,
    serial BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain_id, name)
);
CREATE INDEX identity_users_name ON identity_users (name);
CREATE TABLE identity_groups (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain_id, name)
);
CREATE TABLE identity_group_members (
    group_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX identity_group_members_user ON identity_group_members (user_id);
CREATE TABLE identity_projects (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    parent_id TEXT,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    tags TEXT NOT NULL,
    options TEXT NOT NULL,
    extra TEXT NOT NULL,
    serial BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (domain_id, name)
);
CREATE INDEX identity_projects_parent ON identity_projects (parent_id);
CREATE TABLE identity_roles (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT,
    created_at BIGINT NOT NULL
);
CREATE TABLE identity_implied_roles (
    prior_role_id TEXT NOT NULL,
    implied_role_id TEXT NOT NULL,
    PRIMARY KEY (prior_role_id, implied_role_id)
);
CREATE TABLE identity_assignments (
    actor_kind TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id TEXT NOT NULL,
    role_id TEXT NOT NULL,
    inherited BIGINT NOT NULL,
    PRIMARY KEY (actor_kind, actor_id, target_kind, target_id, role_id, inherited)
);
CREATE INDEX identity_assignments_target ON identity_assignments (target_kind, target_id);
CREATE INDEX identity_assignments_role ON identity_assignments (role_id);
CREATE TABLE identity_regions (
    id TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    parent_region_id TEXT
);
CREATE TABLE identity_services (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL
);
CREATE TABLE identity_endpoints (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL,
    region_id TEXT,
    interface TEXT NOT NULL,
    url TEXT NOT NULL,
    enabled BIGINT NOT NULL
);
CREATE INDEX identity_endpoints_service ON identity_endpoints (service_id);
CREATE TABLE identity_revocations (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    scope TEXT NOT NULL,
    serial BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX identity_revocations_expiry ON identity_revocations (expires_at);
";

/// Serials of groups, for tokens that name the groups of a mapped user; and of what belongs to
/// nobody (`role_implications`).
pub(super) const SERIALS: &str = "
ALTER TABLE identity_groups ADD COLUMN serial BIGINT NOT NULL DEFAULT 0;
CREATE TABLE identity_serials (
    name TEXT PRIMARY KEY,
    serial BIGINT NOT NULL
);
INSERT INTO identity_serials (name, serial) VALUES ('role_implications', 0);
";
