//! Where the database is.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// Which database to open.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "backend", rename_all = "snake_case", deny_unknown_fields)]
pub enum DatabaseConfig {
    /// A file of this process: the embedded default.
    Sqlite {
        /// The file; made when absent (its directory is not). Two more files stand beside it.
        path: PathBuf,
    },
    /// A database in memory, gone with the process, run on the caller's own thread without any
    /// other: for tests and the simulation.
    SqliteMemory,
    /// A PostgreSQL server, 14 or later, shared by several processes.
    Postgres {
        /// `postgresql://user@host/database?…` or `host=/run/postgresql dbname=meridian …`.
        url: String,
    },
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseConfig::Sqlite { path } => write!(f, "Sqlite({})", path.display()),
            DatabaseConfig::SqliteMemory => f.write_str("SqliteMemory"),
            // The URL may hold a password.
            DatabaseConfig::Postgres { .. } => f.write_str("Postgres(…)"),
        }
    }
}

/// Which kind of database is behind a [`crate::Database`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite, in a file or in memory.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}
