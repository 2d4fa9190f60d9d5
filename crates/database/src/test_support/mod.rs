//! Databases for tests: one suite runs on a SQLite file and on a real PostgreSQL server.
//!
//! ```no_run
//! # async fn example() {
//! for test in database::test_support::databases(&[]).await {
//!     // `test.db` is empty but for the given migrations; `test.name` goes into messages.
//!     println!("{}", test.name);
//! }
//! # }
//! ```

//!
//! A crate whose tests open databases in memory runs them on PostgreSQL as well with
//! `DATABASE_TEST_BACKEND=postgres cargo test -p CRATE --features database/test_support`.

mod postgres_pair;
mod postgres_server;

use std::sync::Arc;

use cloud_types::{TestClock, Timestamp};

use crate::{Database, DatabaseConfig, MigrationSet};

pub use postgres_pair::PostgresPair;
pub use postgres_server::PostgresServer;

/// A database of a test's own, gone with it.
pub struct TestDatabase {
    /// `sqlite` or `postgres`.
    pub name: &'static str,
    /// The database.
    pub db: Database,
    /// Its clock, which stands still until moved.
    pub clock: TestClock,
    /// How to open it again, from this process or another.
    pub config: DatabaseConfig,
    /// Where a SQLite file is.
    _directory: Option<tempfile::TempDir>,
}

impl TestDatabase {
    /// An empty SQLite file.
    pub async fn sqlite(migrations: &[MigrationSet]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = DatabaseConfig::Sqlite { path: directory.path().join("test.db") };
        Self::open("sqlite", config, Some(directory), migrations).await
    }

    /// An empty database on the PostgreSQL server of this test process.
    pub async fn postgres(migrations: &[MigrationSet]) -> Self {
        let server =
            tokio::task::spawn_blocking(PostgresServer::shared).await.expect("PostgreSQL starts");
        let config = DatabaseConfig::Postgres { url: server.create_database().await };
        Self::open("postgres", config, None, migrations).await
    }

    async fn open(
        name: &'static str,
        config: DatabaseConfig,
        directory: Option<tempfile::TempDir>,
        migrations: &[MigrationSet],
    ) -> Self {
        let clock = TestClock::at(Timestamp(1_800_000_000_000_000));
        let db = Database::open(&config, Arc::new(clock.clone()))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        db.migrate(migrations).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        TestDatabase { name, db, clock, config, _directory: directory }
    }

    /// The same database, as another process would open it, with the same clock.
    pub async fn open_again(&self) -> Database {
        Database::open(&self.config, Arc::new(self.clock.clone()))
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// With `DATABASE_TEST_BACKEND=postgres`, an empty PostgreSQL database stands in for each database
/// in memory.
pub(crate) async fn replace(config: &DatabaseConfig) -> DatabaseConfig {
    let wanted = std::env::var("DATABASE_TEST_BACKEND").is_ok_and(|name| name == "postgres");
    if *config != DatabaseConfig::SqliteMemory || !wanted {
        return config.clone();
    }
    let server =
        tokio::task::spawn_blocking(PostgresServer::shared).await.expect("PostgreSQL starts");
    DatabaseConfig::Postgres { url: server.create_database().await }
}

/// An empty database of each kind.
pub async fn databases(migrations: &[MigrationSet]) -> Vec<TestDatabase> {
    vec![TestDatabase::sqlite(migrations).await, TestDatabase::postgres(migrations).await]
}
