//! The tables of hosts, documents and reports.

use database::{Migration, MigrationSet};

/// This crate's migrations.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "host_documents",
    migrations: &[
        Migration {
            number: 1,
            name: "hosts_documents_reports",
            sql: "
CREATE TABLE hosts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    host_number BIGINT NOT NULL,
    l2_domain TEXT NOT NULL,
    zone TEXT NOT NULL,
    cluster TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    disabled_reason TEXT,
    facts TEXT,
    last_seen BIGINT,
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    generation BIGINT NOT NULL
);
CREATE UNIQUE INDEX hosts_by_number ON hosts (l2_domain, host_number);
CREATE TABLE l2_domains (
    name TEXT PRIMARY KEY,
    last_host_number BIGINT NOT NULL
);
CREATE TABLE host_join_tokens (
    token_hash TEXT PRIMARY KEY,
    zone TEXT NOT NULL,
    cluster TEXT NOT NULL,
    l2_domain TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_by TEXT
);
CREATE TABLE host_documents (
    host_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    generation BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    tombstone BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    spec TEXT NOT NULL,
    PRIMARY KEY (host_id, kind, id)
);
CREATE UNIQUE INDEX host_documents_by_position ON host_documents (host_id, position);
CREATE INDEX host_documents_by_object ON host_documents (kind, id);
CREATE TABLE host_reports (
    host_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    generation BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    state TEXT NOT NULL,
    facts TEXT NOT NULL,
    error TEXT,
    reported_at BIGINT NOT NULL,
    PRIMARY KEY (host_id, kind, id)
)",
        },
        Migration {
            number: 2,
            name: "host_positions",
            // Apart from hosts: written by every transaction that tells a host something, and
            // whenever a host is heard.
            sql: "
CREATE TABLE host_positions (
    host_id TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    base BIGINT NOT NULL,
    last_seen BIGINT
);
INSERT INTO host_positions SELECT id, position, position, last_seen FROM hosts;
ALTER TABLE hosts DROP COLUMN position;
ALTER TABLE hosts DROP COLUMN last_seen;
DROP INDEX host_documents_by_position;
CREATE UNIQUE INDEX host_documents_by_place ON host_documents (host_id, position)
    WHERE position > 0;
-- Those of transactions under way, whose numbers are their own.
CREATE INDEX host_documents_pending ON host_documents (host_id, position)
    WHERE position < 0",
        },
        Migration {
            number: 3,
            name: "key_that_joined",
            sql: "ALTER TABLE host_join_tokens ADD COLUMN used_key TEXT",
        },
        Migration {
            number: 4,
            name: "sessions_questions_inventories",
            // A question is passed on, and its answer fetched, by way of a row where another
            // process has the host's stream.
            sql: "
ALTER TABLE host_positions ADD COLUMN session BIGINT NOT NULL DEFAULT 0;
CREATE TABLE host_questions (
    id TEXT PRIMARY KEY,
    host_id TEXT NOT NULL,
    question TEXT NOT NULL,
    asked_at BIGINT NOT NULL,
    taken_by TEXT,
    answer TEXT
);
CREATE TABLE host_inventories (
    host_id TEXT PRIMARY KEY,
    held TEXT NOT NULL,
    heard_at BIGINT NOT NULL
)",
        },
    ],
};
