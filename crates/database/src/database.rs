//! The handle that services hold.

use std::sync::Arc;

use cloud_types::Clock;
use futures::future::BoxFuture;

use crate::notify::Subscription;
use crate::postgres::Postgres;
use crate::shared::{DatabaseMetrics, Shared};
use crate::sqlite::{self, Sqlite};
use crate::work::{Closure, Work};
use crate::{
    Backend, Consumer, DatabaseConfig, DatabaseError, MigrationSet, Origin, Tx, migrations,
};

/// A database. Clones are the same database; the last one to go closes it.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    engine: Engine,
    #[cfg(feature = "simulation")]
    wire: Option<Arc<dyn crate::simulation::Wire>>,
}

enum Engine {
    Sqlite(Arc<Sqlite>),
    Postgres(Postgres),
}

impl Database {
    /// Opens the database, and makes the tables of this layer when they are absent. Every
    /// decision takes its time from `clock`.
    pub async fn open(
        config: &DatabaseConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DatabaseError> {
        let shared = Arc::new(Shared::new(clock));
        #[cfg(feature = "test_support")]
        let replaced = crate::test_support::replace(config).await;
        #[cfg(feature = "test_support")]
        let config = &replaced;
        let engine = match config {
            DatabaseConfig::SqliteMemory => Engine::Sqlite(Arc::new(Sqlite::open(None, &shared)?)),
            DatabaseConfig::Sqlite { path } => {
                Engine::Sqlite(Arc::new(Sqlite::open(Some(path), &shared)?))
            }
            DatabaseConfig::Postgres { url } => {
                Engine::Postgres(Postgres::open(url, &shared).await?)
            }
        };
        Ok(Database {
            inner: Arc::new(Inner {
                shared,
                engine,
                #[cfg(feature = "simulation")]
                wire: None,
            }),
        })
    }

    /// This database as another process has it: with a clock of its own, and a connection that may
    /// fail. For a database in memory.
    ///
    /// # Panics
    /// When the database is not one in memory.
    #[cfg(feature = "simulation")]
    pub fn process(
        &self,
        clock: Arc<dyn Clock>,
        wire: Arc<dyn crate::simulation::Wire>,
    ) -> Database {
        let Engine::Sqlite(sqlite) = &self.inner.engine else {
            panic!("a simulated process needs a database in memory");
        };
        Database {
            inner: Arc::new(Inner {
                shared: Arc::new(self.inner.shared.for_process(clock, wire.clone())),
                engine: Engine::Sqlite(sqlite.clone()),
                wire: Some(wire),
            }),
        }
    }

    /// Applies the migrations that the database does not have yet. Refuses a database that a
    /// newer release migrated.
    pub async fn migrate(&self, sets: &[MigrationSet]) -> Result<(), DatabaseError> {
        migrations::run(self, sets).await
    }

    /// Runs `closure` in a transaction, again when another one was in the way, and stores what it
    /// changed when it ends in `Ok`; when that is the answer, it is on disk. What it changed is
    /// forgotten when it ends in `Err`.
    ///
    /// The work goes on when the caller's future is dropped.
    pub async fn transact<T, E, F>(&self, origin: &Origin, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        self.run(closure, origin.clone(), false).await
    }

    /// Runs `closure` on one snapshot of the database. It cannot change rows or take locks, and
    /// does not wait for those who do.
    pub async fn read<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        self.run(closure, Origin::system("reader"), true).await
    }

    async fn run<T, E, F>(&self, closure: F, origin: Origin, read_only: bool) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        let work = Arc::new(Closure::new(closure));
        self.perform(work.clone(), origin, read_only).await?;
        work.answer()
    }

    /// Runs work in a transaction. `Ok` when the answer that the work keeps holds, good or bad.
    async fn perform(
        &self,
        work: Arc<dyn Work>,
        origin: Origin,
        read_only: bool,
    ) -> Result<(), DatabaseError> {
        #[cfg(feature = "simulation")]
        if let Some(wire) = &self.inner.wire {
            wire.before(read_only).await?;
            self.inner.shared.reached();
        }
        match &self.inner.engine {
            Engine::Sqlite(sqlite) => {
                let (job, answer) = sqlite::make_job(work, origin, read_only);
                sqlite.submit(job, &self.inner.shared);
                let result = answer.await.unwrap_or(Err(DatabaseError::Closed));
                #[cfg(feature = "simulation")]
                if let Some(wire) = &self.inner.wire {
                    wire.after(read_only).await?;
                }
                result
            }
            Engine::Postgres(postgres) => postgres.transact(work, origin, read_only).await,
        }
    }

    /// The notifications of `channel` from now on.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        self.inner.shared.notifier.subscribe(channel)
    }

    /// The reader of the journal that goes by this name.
    pub fn consumer(&self, name: &str) -> Consumer {
        Consumer::new(self.clone(), name)
    }

    /// Where decisions take their time from.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.inner.shared.clock.clone()
    }

    /// The database's lineage: a restored database has a new one.
    pub fn lineage(&self) -> String {
        self.inner.shared.lineage().as_ref().to_owned()
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        match self.inner.engine {
            Engine::Sqlite(_) => Backend::Sqlite,
            Engine::Postgres(_) => Backend::Postgres,
        }
    }

    /// Whether other processes may be at work on the database at the same time: always on
    /// PostgreSQL, and in a simulation of several. A file of SQLite has one.
    pub fn is_shared(&self) -> bool {
        #[cfg(feature = "simulation")]
        if self.inner.wire.is_some() {
            return true;
        }
        self.backend() == Backend::Postgres
    }

    /// Makes the random numbers of transactions repeatable, for the simulation.
    pub fn seed(&self, seed: u64) {
        self.inner.shared.seed(seed);
    }

    /// What happened since the start.
    pub fn metrics(&self) -> DatabaseMetrics {
        self.inner.shared.metrics()
    }

    /// Gives the database a new lineage, as a restore does: hosts will report everything and
    /// delete nothing until an operator has compared. Returns the new lineage.
    pub async fn renew_lineage(&self) -> Result<String, DatabaseError> {
        let lineage = crate::schema::new_lineage();
        let fresh = lineage.clone();
        self.transact(&Origin::system("restore"), move |tx| {
            let fresh = fresh.clone();
            Box::pin(async move {
                tx.execute(
                    "UPDATE database_lineage SET lineage = $1, era = era + 1 WHERE only_row = 1",
                    &crate::params![fresh],
                )
                .await
            })
        })
        .await
        .map(|_: u64| ())
        .map_err(|error: DatabaseError| error)?;
        self.inner.shared.set_lineage(lineage.as_str().into());
        Ok(lineage)
    }

    /// Waits until what was begun is stored, and closes the database; later use answers
    /// [`DatabaseError::Closed`].
    pub async fn close(&self) {
        match &self.inner.engine {
            Engine::Sqlite(_) => {
                let database = self.clone();
                let closed = tokio::task::spawn_blocking(move || {
                    if let Engine::Sqlite(sqlite) = &database.inner.engine {
                        sqlite.close();
                    }
                });
                let _ = closed.await;
            }
            Engine::Postgres(postgres) => postgres.close().await,
        }
    }
}
