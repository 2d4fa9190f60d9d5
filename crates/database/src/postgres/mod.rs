//! PostgreSQL, shared by several processes.
//!
//! ```text
//!   transact ─▶ task of its own (a caller that goes away leaves no half transaction behind)
//!                 connection from the pool
//!                 BEGIN · closure: lock rows first, then statements · marker, NOTIFY, COMMIT
//!                    │                                               (one round trip)
//!                    │ 40001, 40P01, connection lost before COMMIT: again, with a growing pause
//!                    │ connection lost during COMMIT: ask for the marker, and only then decide
//! ```
//! The isolation level is READ COMMITTED: a statement sees what was committed before it began,
//! so what is read after a lock was won is what its last holder wrote.

mod classify;
mod connection;
mod listener;
mod session;
mod transaction;
mod types;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::shared::Shared;
use crate::work::Work;
use crate::{DatabaseError, Origin, schema, sql_text};

pub(crate) use classify::classify;
pub(crate) use connection::Connect;
pub(crate) use session::PostgresSession;
pub(crate) use types::{Cell, Param};

/// Connections of one process. A transaction takes well under 10 ms, so this many serve more than
/// a thousand a second, and eight replicas stay below the server's default of 100.
const CONNECTIONS: usize = 12;
/// How long a transaction waits for a connection before it is refused.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(30);
/// How often markers that nobody will ask for any more are deleted.
const SWEEP: Duration = Duration::from_secs(600);

pub(crate) struct Postgres {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Inner {
    config: connection::Connect,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<PostgresSession>>,
    closed: AtomicBool,
    /// Names this process in notifications, so that it does not hear its own twice.
    instance: String,
}

impl Postgres {
    pub async fn open(url: &str, shared: &Arc<Shared>) -> Result<Self, DatabaseError> {
        let inner = Arc::new(Inner {
            config: connection::Connect::parse(url)?,
            shared: shared.clone(),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
            instance: uuid::Uuid::new_v4().simple().to_string(),
        });
        inner.config.survey().await;
        let mut session = inner.config.session().await?;
        let lineage = prepare(&mut session, shared).await?;
        shared.set_lineage(lineage);
        inner.put_back(session);
        let listener = listener::start(&inner).await?;
        let sweeper = tokio::spawn(sweep(Arc::downgrade(&inner)));
        Ok(Postgres { inner, tasks: vec![listener, sweeper] })
    }

    /// Runs work in a transaction. `Ok` when the answer that the work keeps holds, good or bad.
    pub async fn transact(
        &self,
        work: Arc<dyn Work>,
        origin: Origin,
        read_only: bool,
    ) -> Result<(), DatabaseError> {
        if transaction::inside() {
            return Err(DatabaseError::Misuse(
                "a transaction was begun inside another; hand the outer one's Tx down instead"
                    .to_owned(),
            ));
        }
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            transaction::run(&inner, work.as_ref(), &origin, read_only).await
        });
        match task.await {
            Ok(result) => result,
            // Its connection went with it, and the server rolls back.
            Err(error) if error.is_panic() => {
                Err(DatabaseError::Misuse("a transaction's closure panicked".to_owned()))
            }
            Err(_) => Err(DatabaseError::Closed),
        }
    }

    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        // All permits: nothing is under way any more.
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let _all = self.inner.permits.acquire_many(all).await;
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    /// A connection, new or used before, and the right to use it.
    async fn acquire(&self) -> Result<(PostgresSession, OwnedSemaphorePermit), DatabaseError> {
        let permit =
            tokio::time::timeout(WAIT_FOR_CONNECTION, self.permits.clone().acquire_owned())
                .await
                .map_err(|_| {
                    DatabaseError::Locked(format!(
                        "all {CONNECTIONS} connections were in use for {} seconds",
                        WAIT_FOR_CONNECTION.as_secs()
                    ))
                })?
                .map_err(|_| DatabaseError::Closed)?;
        if self.closed.load(Ordering::SeqCst) {
            return Err(DatabaseError::Closed);
        }
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(session) if session.is_closed() => {}
                Some(session) => return Ok((session, permit)),
                None => return Ok((self.config.session().await?, permit)),
            }
        }
    }

    /// Keeps a connection that is outside of any transaction.
    fn put_back(&self, session: PostgresSession) {
        if !session.is_closed() && !self.closed.load(Ordering::SeqCst) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

/// Makes our own tables and the lineage row. A standby that has them already can be opened, and
/// serves reads.
async fn prepare(
    session: &mut PostgresSession,
    shared: &Shared,
) -> Result<Arc<str>, DatabaseError> {
    let mut script = String::from("BEGIN; SELECT pg_advisory_xact_lock(7300, 1);");
    for statement in sql_text::statements(&schema::postgres()) {
        script.push_str(&statement);
        script.push(';');
    }
    // The values are our own: a UUID and a number.
    script.push_str(&format!(
        "INSERT INTO database_lineage (only_row, lineage, era, last_transaction, created_at)
         VALUES (1, '{}', 1, 0, {}) ON CONFLICT (only_row) DO NOTHING; COMMIT",
        schema::new_lineage(),
        shared.clock.now().0,
    ));
    let made = session.batch(&script).await;
    if made.is_err() {
        session.batch("ROLLBACK").await?;
    }
    let read = session
        .query(
            &crate::tx::Sql::Static("SELECT lineage FROM database_lineage WHERE only_row = 1"),
            &[],
        )
        .await;
    let rows = match (made, read) {
        (Ok(()), Ok(rows)) => rows,
        (Err(error @ (DatabaseError::ReadOnly(_) | DatabaseError::Full(_))), Ok(rows)) => {
            tracing::error!(%error, "the database is opened for reading only");
            rows
        }
        (Err(error), _) | (Ok(()), Err(error)) => return Err(error),
    };
    let row = rows.first().ok_or_else(|| {
        DatabaseError::Corrupt("the lineage row is missing; restore a backup".to_owned())
    })?;
    Ok(row.text("lineage")?.into())
}

async fn sweep(inner: std::sync::Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let Ok((mut session, _permit)) = inner.acquire().await else {
            continue;
        };
        let swept = session
            .batch("DELETE FROM transaction_markers WHERE created_at < now() - interval '1 hour'")
            .await;
        match swept {
            Ok(()) => inner.put_back(session),
            Err(error) => tracing::warn!(%error, "old transaction markers stay for now"),
        }
    }
}
