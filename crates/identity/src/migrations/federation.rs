//! Identity providers and who came by them; people in directories; secrets that were kept unsealed.

pub(super) const FEDERATION: &str = "
CREATE TABLE identity_providers (
    id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    description TEXT,
    authorization_ttl BIGINT,
    serial BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX identity_providers_domain ON identity_providers (domain_id);
CREATE TABLE identity_provider_remote_ids (
    remote_id TEXT PRIMARY KEY,
    idp_id TEXT NOT NULL
);
CREATE INDEX identity_provider_remote_ids_idp ON identity_provider_remote_ids (idp_id);
CREATE TABLE identity_federation_protocols (
    idp_id TEXT NOT NULL,
    id TEXT NOT NULL,
    mapping_id TEXT NOT NULL,
    remote_id_attribute TEXT,
    client TEXT,
    client_secret BYTEA,
    generation BIGINT NOT NULL,
    PRIMARY KEY (idp_id, id)
);
CREATE INDEX identity_federation_protocols_id ON identity_federation_protocols (id);
CREATE TABLE identity_mappings (
    id TEXT PRIMARY KEY,
    schema_version TEXT NOT NULL,
    rules TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE identity_service_providers (
    id TEXT PRIMARY KEY,
    auth_url TEXT NOT NULL,
    sp_url TEXT NOT NULL,
    description TEXT,
    enabled BIGINT NOT NULL,
    relay_state_prefix TEXT NOT NULL
);
CREATE TABLE identity_federated_users (
    idp_id TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (idp_id, protocol_id, unique_id)
);
CREATE INDEX identity_federated_users_user ON identity_federated_users (user_id);
ALTER TABLE identity_group_members ADD COLUMN idp_id TEXT;
ALTER TABLE identity_group_members ADD COLUMN expires_at BIGINT;
CREATE INDEX identity_group_members_expiry ON identity_group_members (expires_at);
CREATE TABLE identity_federated_sessions (
    chain TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    idp_id TEXT NOT NULL,
    protocol_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    provider_session TEXT,
    word_kind TEXT NOT NULL,
    word BYTEA,
    groups TEXT NOT NULL,
    checked_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX identity_federated_sessions_subject ON identity_federated_sessions (idp_id, subject);
CREATE INDEX identity_federated_sessions_user ON identity_federated_sessions (user_id);
CREATE INDEX identity_federated_sessions_checked ON identity_federated_sessions (checked_at);
CREATE INDEX identity_federated_sessions_expiry ON identity_federated_sessions (expires_at);
CREATE TABLE identity_used_once (
    id TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX identity_used_once_expiry ON identity_used_once (expires_at);
";

pub(super) const DIRECTORY: &str = "
CREATE TABLE identity_directory_entries (
    public_id TEXT PRIMARY KEY,
    domain_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    local_id TEXT NOT NULL,
    serial BIGINT NOT NULL,
    UNIQUE (domain_id, kind, local_id)
);
CREATE TABLE identity_directory_sessions (
    user_id TEXT PRIMARY KEY,
    checked_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX identity_directory_sessions_checked ON identity_directory_sessions (checked_at);
CREATE INDEX identity_directory_sessions_expiry ON identity_directory_sessions (expires_at);
";

/// What stood in `secret` and `option_value` is sealed by the vault, at a start.
pub(super) const SEALED: &str = "
ALTER TABLE identity_consumers ADD COLUMN sealed BYTEA;
ALTER TABLE identity_request_tokens ADD COLUMN sealed BYTEA;
ALTER TABLE identity_access_tokens ADD COLUMN sealed BYTEA;
ALTER TABLE identity_domain_config ADD COLUMN sealed BYTEA;
";
