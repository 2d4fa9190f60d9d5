//! One connection to SQLite and its statements.

use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags};

use super::classify::classify;
use crate::row::Header;
use crate::tx::Sql;
use crate::{DatabaseError, Row, Value, sql_text};

/// How long a statement waits for another process's lock on the file. The writer tries more than
/// once, so a request waits somewhat longer before it fails.
const BUSY: Duration = Duration::from_secs(5);

/// Makes the file where there is none, for its owner alone: hashes of passwords are in it. SQLite
/// gives the files beside it the same mode.
pub(crate) fn private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

/// A connection. In a mutex only to be shareable between threads by type; never contended.
pub(crate) struct SqliteSession {
    connection: Mutex<Connection>,
    /// Opened while the file could not be written: not to be kept for another transaction.
    frozen: bool,
    prepared: HashMap<&'static str, Prepared>,
}

struct Prepared {
    text: Arc<str>,
    header: Option<Arc<Header>>,
}

impl SqliteSession {
    /// Opens the file for writing, or a new database in memory.
    pub fn open(path: Option<&Path>) -> Result<Self, DatabaseError> {
        let connection = match path {
            None => Connection::open_in_memory(),
            Some(path) => {
                if let Some(reason) = why_not_writable(path) {
                    return Err(DatabaseError::ReadOnly(format!(
                        "{}: {reason}; check the permissions of the database's file and \
                         directory, and whether the file system is mounted read-only",
                        path.display()
                    )));
                }
                private(path).map_err(|error| {
                    DatabaseError::Unreachable(format!("{}: {error}", path.display()))
                })?;
                Connection::open(path)
            }
        };
        Self::set_up(connection, path, "-16000")
    }

    /// Opens the file for reading.
    pub fn open_reader(path: &Path) -> Result<Self, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || Self::set_up(Connection::open_with_flags(path, flags), Some(path), "-4000");
        if why_not_writable(path).is_none() {
            return open();
        }
        if !log_of(path).exists() {
            return Self::open_frozen(path);
        }
        // A crash left a log, which can be read. But what is shared between connections is then
        // opened read-only for the whole process, and would be in the writer's way.
        let mut session = open()?;
        session.frozen = true;
        Ok(session)
    }

    /// Opens for reading a file that nobody can write, on a read-only file system. Beside a file
    /// with a write-ahead log SQLite wants to make another one, even to read; so it is told that
    /// the file will not change while this connection is open.
    fn open_frozen(path: &Path) -> Result<Self, DatabaseError> {
        let mut uri = String::from("file:");
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
                byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
                byte => uri.push_str(&format!("%{byte:02X}")),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let mut session =
            Self::set_up(Connection::open_with_flags(uri, flags), Some(path), "-4000")?;
        session.frozen = true;
        Ok(session)
    }

    /// Whether the connection must not be kept.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    fn set_up(
        connection: rusqlite::Result<Connection>,
        path: Option<&Path>,
        cache: &str,
    ) -> Result<Self, DatabaseError> {
        let opened = connection.and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(512);
            connection.pragma_update(None, "cache_size", cache)?;
            connection.pragma_update(None, "temp_store", "memory")?;
            connection.pragma_update(None, "trusted_schema", false)?;
            // Every commit reaches the disk before it is acknowledged.
            connection.pragma_update(None, "synchronous", "full")?;
            Ok(connection)
        });
        let connection = opened.map_err(|error| {
            let error = classify(&error, "open");
            match path {
                None => error,
                Some(path) => DatabaseError::Unreachable(format!("{}: {error}", path.display())),
            }
        })?;
        if let Some(path) = path
            && let Some(fence) = crate::transfer::fence(&connection)?
        {
            return Err(DatabaseError::Misuse(format!(
                "{}: the rows of this file were {fence}; it is kept and not used any more \
                 (`meridian database move --abandon` gives up a move that was not finished)",
                path.display()
            )));
        }
        Ok(SqliteSession {
            connection: Mutex::new(connection),
            frozen: false,
            prepared: HashMap::new(),
        })
    }

    /// Turns the write-ahead log on, which the file then remembers. Fails on a read-only file
    /// that does not have it yet.
    pub fn use_wal(&mut self) -> Result<(), DatabaseError> {
        self.connection()
            .pragma_update(None, "journal_mode", "wal")
            .map_err(|error| classify(&error, "PRAGMA journal_mode"))
    }

    /// Runs statements without parameters.
    pub fn batch(&mut self, sql: &str) -> Result<(), DatabaseError> {
        self.connection().execute_batch(sql).map_err(|error| classify(&error, sql))
    }

    /// Runs one of the fixed statements around transactions.
    pub fn control(&mut self, sql: &'static str) -> Result<(), DatabaseError> {
        self.connection()
            .prepare_cached(sql)
            .and_then(|mut statement| statement.raw_execute())
            .map(drop)
            .map_err(|error| classify(&error, sql))
    }

    /// Whether no transaction is open: SQLite ends one by itself when the disk is full.
    pub fn outside_transaction(&mut self) -> bool {
        self.connection().is_autocommit()
    }

    /// Moves the write-ahead log into the file and empties it.
    pub fn checkpoint(&mut self) {
        if let Err(error) = self.batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the write-ahead log stays as it is");
        }
    }

    pub fn query(
        &mut self,
        sql: &Sql,
        params: &[Value],
        read_only: bool,
    ) -> Result<Vec<Row>, DatabaseError> {
        let (text, header) = self.prepare(sql);
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: rusqlite::Error| classify(&error, sql.text());
        let mut statement = connection.prepare_cached(&text).map_err(failed)?;
        bind(&mut statement, sql, params, read_only)?;
        let width = statement.column_count();
        let header = match header {
            Some(header) if header.columns.len() == width => header,
            _ => Arc::new(Header {
                columns: statement.column_names().into_iter().map(str::to_owned).collect(),
                sql: sql.text().to_owned(),
            }),
        };
        let mut out = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next().map_err(failed)? {
            let mut values = Vec::with_capacity(width);
            for index in 0..width {
                let value = row.get_ref(index).map_err(failed)?;
                values.push(read(value).map_err(|reason| {
                    DatabaseError::decode(sql.text(), &header.columns[index], reason)
                })?);
            }
            out.push(Row::new(header.clone(), values));
        }
        if let Sql::Static(key) = sql
            && let Some(prepared) = self.prepared.get_mut(key)
        {
            prepared.header = Some(header);
        }
        Ok(out)
    }

    pub fn execute(
        &mut self,
        sql: &Sql,
        params: &[Value],
        read_only: bool,
    ) -> Result<u64, DatabaseError> {
        let (text, _) = self.prepare(sql);
        let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
        let failed = |error: rusqlite::Error| classify(&error, sql.text());
        let mut statement = connection.prepare_cached(&text).map_err(failed)?;
        bind(&mut statement, sql, params, read_only)?;
        let changed = statement.raw_execute().map_err(failed)?;
        // SQLite keeps the last count for a statement that changes no rows (CREATE TABLE).
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare(&mut self, sql: &Sql) -> (Arc<str>, Option<Arc<Header>>) {
        match sql {
            Sql::Static(text) => {
                let prepared = self.prepared.entry(text).or_insert_with(|| Prepared {
                    text: sql_text::for_sqlite(text).into(),
                    header: None,
                });
                (prepared.text.clone(), prepared.header.clone())
            }
            Sql::Dynamic(text) => (sql_text::for_sqlite(text).into(), None),
        }
    }
}

fn bind(
    statement: &mut CachedStatement<'_>,
    sql: &Sql,
    params: &[Value],
    read_only: bool,
) -> Result<(), DatabaseError> {
    if read_only && !statement.readonly() {
        return Err(DatabaseError::Misuse(format!(
            "a read-only transaction cannot change rows; use transact instead of read (in: {})",
            sql_text::shorten(sql.text())
        )));
    }
    let wanted = statement.parameter_count();
    if wanted != params.len() {
        return Err(DatabaseError::Misuse(format!(
            "{} parameters given where the statement has {wanted} (in: {})",
            params.len(),
            sql_text::shorten(sql.text())
        )));
    }
    for (index, value) in params.iter().enumerate() {
        statement
            .raw_bind_parameter(index + 1, Bound(value))
            .map_err(|error| classify(&error, sql.text()))?;
    }
    Ok(())
}

/// Why an existing file cannot be written; `None` when it can, or is not there.
///
/// The file is asked about and never opened: closing any descriptor of it would drop the locks
/// that SQLite holds on it for the whole process (POSIX advisory locks belong to the process and
/// the inode). Another process that closes the database would then take itself for the last user,
/// and delete the log into which this process goes on writing.
fn why_not_writable(path: &Path) -> Option<std::io::Error> {
    use nix::errno::Errno;
    use nix::fcntl::{AT_FDCWD, AtFlags};
    use nix::unistd::{AccessFlags, faccessat};
    match faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS) {
        Err(errno @ (Errno::EACCES | Errno::EROFS)) => Some(errno.into()),
        _ => None,
    }
}

/// The write-ahead log of a database file.
fn log_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

struct Bound<'a>(&'a Value);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Real(number) => ValueRef::Real(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

fn read(value: ValueRef<'_>) -> Result<Value, String> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(
            std::str::from_utf8(text)
                .map_err(|error| format!("text that is not UTF-8: {error}"))?
                .to_owned(),
        ),
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    })
}
