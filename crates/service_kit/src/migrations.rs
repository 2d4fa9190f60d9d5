//! The kit's own tables.

use database::{Migration, MigrationSet};

/// The schema of quotas and idempotency keys.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "service_kit",
    migrations: &[
        Migration {
            number: 1,
            name: "quotas_and_idempotency_keys",
            sql: "
CREATE TABLE quota_defaults (
    resource TEXT PRIMARY KEY,
    max_value BIGINT NOT NULL
);
CREATE TABLE quota_limits (
    project_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    max_value BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);
CREATE TABLE quota_usage (
    project_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    in_use BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);
CREATE TABLE idempotency_keys (
    scope TEXT PRIMARY KEY,
    body_hash TEXT NOT NULL,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    effect BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    status BIGINT,
    headers TEXT,
    body BYTEA
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);
",
        },
        // Answers lay open before.
        Migration {
            number: 2,
            name: "sealed_answers",
            sql: "
DELETE FROM idempotency_keys;
ALTER TABLE idempotency_keys DROP COLUMN status;
ALTER TABLE idempotency_keys DROP COLUMN headers;
ALTER TABLE idempotency_keys DROP COLUMN body;
ALTER TABLE idempotency_keys ADD COLUMN answer BYTEA;
",
        },
        // Whose claims they are is needed when that process dies.
        Migration {
            number: 3,
            name: "claims_of_processes",
            sql: "
ALTER TABLE idempotency_keys ADD COLUMN worker TEXT;
CREATE INDEX idempotency_keys_claimed ON idempotency_keys (worker) WHERE state = 'claimed';
",
        },
    ],
};
