//! What the agent must not forget: the documents it was given, where it stands in the region's
//! sequence, what it did for which operation, and the reports that nobody has taken yet.
//!
//! One SQLite file of the agent's own. A document is in it, synced, before anything is done about
//! it. Reports may be lost with the power: a restarted agent looks at the world and reports again.
//!
//! ```text
//!   document:  absent ──stored──► wanted ──newer generation──► wanted
//!                                    └──tombstone──► to be removed ──Gone accepted──► grave
//!   grave:     numbers only, so that a late copy cannot bring the object back
//!   lineage:   a new one marks every document unknown until it arrives again
//! ```

mod documents;
mod memory;
mod reports;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension};

use crate::private;

pub use documents::{StoredDocument, Verdict, Welcomed};
pub use memory::{OperationMemory, OperationOutcome, ServerMemory};
pub use reports::Draft;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused; a full or read-only disk, most often.
    #[error("the host's document store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row that this version cannot read.
    #[error("the host's document store holds something unreadable in {place}: {message}")]
    Unreadable {
        /// Table and key.
        place: String,
        /// Why.
        message: String,
    },
    /// The file system refused.
    #[error("the host's document store {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nothing is left to hand out.
    #[error("{0}")]
    Exhausted(String),
}

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    kind TEXT NOT NULL, id TEXT NOT NULL, generation INTEGER NOT NULL, epoch INTEGER NOT NULL,
    position INTEGER NOT NULL, tombstone INTEGER NOT NULL, known INTEGER NOT NULL,
    request_id TEXT NOT NULL, spec TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS graves (
    kind TEXT NOT NULL, id TEXT NOT NULL, generation INTEGER NOT NULL, epoch INTEGER NOT NULL,
    position INTEGER NOT NULL, lineage TEXT NOT NULL, buried_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reports (
    kind TEXT NOT NULL, id TEXT NOT NULL, sequence INTEGER NOT NULL, sent INTEGER NOT NULL,
    report TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reports_unsent ON reports (sequence) WHERE sent = 0;
CREATE TABLE IF NOT EXISTS workflows (
    workflow TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seen_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS operations (
    id TEXT PRIMARY KEY, memory TEXT NOT NULL, seen_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS servers (
    id TEXT PRIMARY KEY, slot INTEGER NOT NULL UNIQUE, memory TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS zones (
    port TEXT PRIMARY KEY, zone INTEGER NOT NULL UNIQUE) WITHOUT ROWID;
";

/// How long graves and operations are remembered: far longer than any message can be late.
const MEMORY_DAYS: i64 = 30;

/// The agent's durable memory. Cheap to clone.
#[derive(Clone)]
pub struct DocumentStore {
    connection: Arc<Mutex<Connection>>,
    /// Reports that the disk did not take: a full disk must not keep the host from saying so.
    unsaved: Arc<Mutex<reports::Unsaved>>,
    /// In memory, calls never wait, so they are made in place: a simulated host stays on its
    /// schedule.
    inline: bool,
    /// Set when the agent that has this handle is dead, in a simulation: it writes no more.
    ended: Arc<AtomicBool>,
}

impl DocumentStore {
    /// Opens the store, or begins one. A file that is damaged is put aside and an empty store
    /// begun: the agent then adopts what runs and asks the region for its documents.
    pub fn open(path: &Path) -> Result<Self> {
        match Self::open_file(path) {
            Ok(store) => Ok(store),
            Err(StoreError::Sqlite(error)) if is_damage(&error) => {
                let aside = path.with_extension(format!("damaged-{}", now_micros()));
                tracing::error!(
                    path = %path.display(), aside = %aside.display(), %error,
                    "the document store is damaged: putting it aside and asking the region again; \
                     running guests are kept"
                );
                let io = |source| StoreError::Io { path: path.to_owned(), source };
                std::fs::rename(path, &aside).map_err(io)?;
                for suffix in ["-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    match std::fs::remove_file(PathBuf::from(name)) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(io(error));
                        }
                        _ => {}
                    }
                }
                Self::open_file(path)
            }
            Err(error) => Err(error),
        }
    }

    fn open_file(path: &Path) -> Result<Self> {
        private::database(path)
            .map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -1024)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if check != "ok" {
            return Err(StoreError::Sqlite(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                Some(check),
            )));
        }
        Self::prepare(connection, false)
    }

    /// A store that ends with the process: for simulated hosts and tests.
    pub fn in_memory() -> Result<Self> {
        Self::prepare(Connection::open_in_memory()?, true)
    }

    fn prepare(connection: Connection, inline: bool) -> Result<Self> {
        connection.execute_batch(SCHEMA)?;
        let oldest = now_micros() - MEMORY_DAYS * 24 * 3600 * 1_000_000;
        connection.execute("DELETE FROM graves WHERE buried_at < ?1", [oldest])?;
        connection.execute(
            "DELETE FROM operations WHERE seen_at < ?1 AND NOT EXISTS
             (SELECT 1 FROM documents WHERE kind = 'operation' AND documents.id = operations.id)",
            [oldest],
        )?;
        connection.execute("DELETE FROM workflows WHERE seen_at < ?1", [oldest])?;
        Ok(DocumentStore {
            connection: Arc::new(Mutex::new(connection)),
            unsaved: Arc::default(),
            inline,
            ended: Arc::default(),
        })
    }

    /// The same store, as the next agent on the machine opens it. What the one before had in memory
    /// only is lost, and nothing that still runs of it can write any more.
    #[cfg(feature = "simulated")]
    pub fn reopened(&self) -> DocumentStore {
        self.ended.store(true, Ordering::SeqCst);
        DocumentStore {
            connection: Arc::clone(&self.connection),
            unsaved: Arc::default(),
            inline: self.inline,
            ended: Arc::default(),
        }
    }

    /// Runs `work` on the connection, off the async threads unless the store is in memory.
    async fn run<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (connection, ended) = (Arc::clone(&self.connection), Arc::clone(&self.ended));
        let work = move || {
            if ended.load(Ordering::SeqCst) {
                return Err(StoreError::Exhausted("the agent has ended".to_owned()));
            }
            // A panic inside a transaction rolled it back, so the connection is still good.
            let mut guard = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut guard)
        };
        if self.inline {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Exhausted("the agent is shutting down".to_owned())),
        }
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}

/// Runs a transaction that may be lost with the power, and nothing else: what it holds can be made
/// again from the world.
fn relaxed<T>(
    connection: &mut Connection,
    work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T>,
) -> Result<T> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let result = (|| {
        let transaction = connection.transaction()?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    })();
    connection.pragma_update(None, "synchronous", "FULL")?;
    result
}

fn get_meta(connection: &Connection, key: &str) -> Result<Option<String>> {
    Ok(connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

fn set_meta(connection: &Connection, key: &str, value: &str) -> Result<()> {
    connection
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
        .execute([key, value])?;
    Ok(())
}

/// Microseconds since 1970. Only for ages and as a floor of sequence numbers, never for decisions.
fn now_micros() -> i64 {
    use cloud_types::Clock;
    cloud_types::SystemClock.now().0
}

/// Numbers are stored as SQLite's signed integers.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
