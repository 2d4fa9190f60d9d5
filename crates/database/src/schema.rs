//! The tables that the database layer keeps for itself, made when a database is opened.

/// One text for both databases, except the two lines that [`sqlite`] and [`postgres`] fill in.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS schema_migrations (
    service TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, applied_at BIGINT NOT NULL,
    PRIMARY KEY (service, number));
CREATE TABLE IF NOT EXISTS database_lineage (
    only_row BIGINT PRIMARY KEY, lineage TEXT NOT NULL, era BIGINT NOT NULL,
    last_transaction BIGINT NOT NULL, created_at BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS journal (
    sequence {SEQUENCE}, era BIGINT NOT NULL, transaction_id BIGINT NOT NULL, time BIGINT NOT NULL,
    request_id TEXT NOT NULL, actor TEXT, project TEXT, kind TEXT NOT NULL,
    object_id TEXT NOT NULL, action TEXT NOT NULL, before_json TEXT, after_json TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS journal_order ON journal (era, transaction_id, sequence);
CREATE TABLE IF NOT EXISTS journal_consumers (
    name TEXT PRIMARY KEY, era BIGINT NOT NULL, transaction_id BIGINT NOT NULL,
    sequence BIGINT NOT NULL, updated_at BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS leases (
    name TEXT PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL,
    held_until BIGINT NOT NULL);
";

/// Lock rows and markers are needed only where several processes write.
const POSTGRES_TABLES: &str = "
CREATE TABLE IF NOT EXISTS object_locks (
    kind TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (kind, id));
CREATE TABLE IF NOT EXISTS transaction_markers (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, created_at TIMESTAMPTZ NOT NULL DEFAULT now());
";

/// For SQLite. AUTOINCREMENT, because a number must not come back after the journal was trimmed.
pub(crate) fn sqlite() -> String {
    TABLES.replace("{SEQUENCE}", "INTEGER PRIMARY KEY AUTOINCREMENT")
}

/// For PostgreSQL.
pub(crate) fn postgres() -> String {
    TABLES.replace("{SEQUENCE}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
        + POSTGRES_TABLES
}

/// A name for a new lineage.
pub(crate) fn new_lineage() -> String {
    uuid::Uuid::new_v4().to_string()
}
