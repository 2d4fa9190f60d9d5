//! Credentials, application credentials with their access rules, and trusts.

pub(super) const CREDENTIALS: &str = "
CREATE TABLE identity_credentials (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    project_id TEXT,
    type TEXT NOT NULL,
    blob BYTEA NOT NULL,
    key_id TEXT NOT NULL,
    extra TEXT NOT NULL,
    serial BIGINT NOT NULL,
    totp_step BIGINT,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX identity_credentials_user ON identity_credentials (user_id, type);
CREATE INDEX identity_credentials_project ON identity_credentials (project_id);
CREATE TABLE identity_application_credentials (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    secret_hash TEXT NOT NULL,
    unrestricted BIGINT NOT NULL,
    expires_at BIGINT,
    created_at BIGINT NOT NULL,
    UNIQUE (user_id, name)
);
CREATE INDEX identity_application_credentials_project
    ON identity_application_credentials (project_id);
CREATE TABLE identity_application_credential_roles (
    application_credential_id TEXT NOT NULL,
    role_id TEXT NOT NULL,
    PRIMARY KEY (application_credential_id, role_id)
);
CREATE INDEX identity_application_credential_roles_role
    ON identity_application_credential_roles (role_id);
CREATE TABLE identity_access_rules (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    service TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    UNIQUE (user_id, service, method, path)
);
CREATE TABLE identity_application_credential_rules (
    application_credential_id TEXT NOT NULL,
    access_rule_id TEXT NOT NULL,
    PRIMARY KEY (application_credential_id, access_rule_id)
);
CREATE INDEX identity_application_credential_rules_rule
    ON identity_application_credential_rules (access_rule_id);
CREATE TABLE identity_trusts (
    id TEXT PRIMARY KEY,
    trustor_user_id TEXT NOT NULL,
    trustee_user_id TEXT NOT NULL,
    project_id TEXT,
    impersonation BIGINT NOT NULL,
    expires_at BIGINT,
    remaining_uses BIGINT,
    redelegated_trust_id TEXT,
    redelegation_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX identity_trusts_trustor ON identity_trusts (trustor_user_id);
CREATE INDEX identity_trusts_trustee ON identity_trusts (trustee_user_id);
CREATE INDEX identity_trusts_project ON identity_trusts (project_id);
CREATE INDEX identity_trusts_parent ON identity_trusts (redelegated_trust_id);
CREATE TABLE identity_trust_roles (
    trust_id TEXT NOT NULL,
    role_id TEXT NOT NULL,
    PRIMARY KEY (trust_id, role_id)
);
CREATE INDEX identity_revocations_subject ON identity_revocations (subject);
";
