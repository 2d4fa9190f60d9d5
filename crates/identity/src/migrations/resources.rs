//! Options and tags of domains, roles of domains, limits, policies, endpoint filters, programs that
//! act for people, and the configuration of domains.

pub(super) const RESOURCES: &str = "
ALTER TABLE identity_groups ADD COLUMN extra TEXT NOT NULL DEFAULT '{}';
ALTER TABLE identity_domains ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE identity_domains ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
CREATE TABLE identity_roles_of_domains (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL DEFAULT '',
    name TEXT NOT NULL,
    description TEXT,
    options TEXT NOT NULL DEFAULT '{}',
    created_at BIGINT NOT NULL,
    UNIQUE (domain_id, name)
);
INSERT INTO identity_roles_of_domains (id, name, description, created_at)
    SELECT id, name, description, created_at FROM identity_roles;
DROP TABLE identity_roles;
ALTER TABLE identity_roles_of_domains RENAME TO identity_roles;
CREATE TABLE identity_registered_limits (
    id TEXT PRIMARY KEY,
    service_id TEXT NOT NULL,
    region_id TEXT NOT NULL,
    resource_name TEXT NOT NULL,
    default_limit BIGINT NOT NULL,
    description TEXT,
    UNIQUE (service_id, region_id, resource_name)
);
CREATE TABLE identity_limits (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL,
    domain_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    region_id TEXT NOT NULL,
    resource_name TEXT NOT NULL,
    resource_limit BIGINT NOT NULL,
    description TEXT,
    UNIQUE (project_id, domain_id, service_id, region_id, resource_name)
);
CREATE INDEX identity_limits_domain ON identity_limits (domain_id);
CREATE INDEX identity_limits_resource
    ON identity_limits (service_id, region_id, resource_name);
CREATE TABLE identity_policies (
    id TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    blob TEXT NOT NULL
);
CREATE TABLE identity_policy_associations (
    endpoint_id TEXT NOT NULL,
    service_id TEXT NOT NULL,
    region_id TEXT NOT NULL,
    policy_id TEXT NOT NULL,
    PRIMARY KEY (endpoint_id, service_id, region_id)
);
CREATE INDEX identity_policy_associations_policy ON identity_policy_associations (policy_id);
CREATE TABLE identity_endpoint_groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    filters TEXT NOT NULL
);
CREATE TABLE identity_project_endpoints (
    project_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    PRIMARY KEY (project_id, endpoint_id)
);
CREATE INDEX identity_project_endpoints_endpoint ON identity_project_endpoints (endpoint_id);
CREATE TABLE identity_project_endpoint_groups (
    project_id TEXT NOT NULL,
    endpoint_group_id TEXT NOT NULL,
    PRIMARY KEY (project_id, endpoint_group_id)
);
CREATE INDEX identity_project_endpoint_groups_group
    ON identity_project_endpoint_groups (endpoint_group_id);
CREATE TABLE identity_consumers (
    id TEXT PRIMARY KEY,
    description TEXT,
    secret TEXT NOT NULL
);
CREATE TABLE identity_request_tokens (
    id TEXT PRIMARY KEY,
    secret TEXT NOT NULL,
    consumer_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    user_id TEXT,
    roles TEXT NOT NULL,
    verifier TEXT NOT NULL
);
CREATE INDEX identity_request_tokens_expiry ON identity_request_tokens (expires_at);
CREATE TABLE identity_access_tokens (
    id TEXT PRIMARY KEY,
    secret TEXT NOT NULL,
    consumer_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    roles TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX identity_access_tokens_user ON identity_access_tokens (user_id);
CREATE INDEX identity_access_tokens_consumer ON identity_access_tokens (consumer_id);
CREATE INDEX identity_access_tokens_expiry ON identity_access_tokens (expires_at);
CREATE TABLE identity_domain_config (
    domain_id TEXT NOT NULL,
    option_group TEXT NOT NULL,
    option_name TEXT NOT NULL,
    option_value TEXT NOT NULL,
    PRIMARY KEY (domain_id, option_group, option_name)
);
";
