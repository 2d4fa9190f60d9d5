//! Runs jobs on the writing connection, those that wait together under one commit.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use planted_bugs::planted;

use super::job::Job;
use super::migration_statements;
use super::session::SqliteSession;
use crate::shared::{Shared, count};
use crate::tx::{Session, Sql};
use crate::{DatabaseError, Tx, params, schema};

/// How often BEGIN is tried against another process's lock, each try as long as the busy timeout.
const BEGIN_ATTEMPTS: u32 = 3;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is running a transaction's closure.
pub(super) fn inside_transaction() -> bool {
    INSIDE.get()
}

/// Marks this thread as running a closure meanwhile. `body` does not unwind: jobs catch panics.
pub(super) fn enter<R>(body: impl FnOnce() -> R) -> R {
    INSIDE.set(true);
    let result = body();
    INSIDE.set(false);
    result
}

/// The answer to a transaction that is begun inside another, which would wait for itself.
pub(super) fn nested() -> DatabaseError {
    DatabaseError::Misuse(
        "a transaction was begun inside another; hand the outer one's Tx down instead".to_owned(),
    )
}

pub(crate) struct Executor {
    path: Option<PathBuf>,
    /// Absent after a failure that a new connection may heal.
    session: Option<SqliteSession>,
    shared: Arc<Shared>,
}

impl Executor {
    /// Opens the database, makes our own tables, and reads the lineage. A file that cannot be
    /// written but has them already can be opened, and serves reads until it can be written.
    pub fn open(
        path: Option<PathBuf>,
        shared: Arc<Shared>,
    ) -> Result<(Self, Arc<str>), DatabaseError> {
        let mut executor = Executor { path, session: None, shared };
        let made = executor.prepare();
        let lineage = match (made, executor.path.as_deref()) {
            (Ok(()), _) => read_lineage(executor.session()?)?,
            (Err(error @ (DatabaseError::ReadOnly(_) | DatabaseError::Full(_))), Some(path)) => {
                tracing::error!(%error, "the database is opened for reading only");
                executor.session = None;
                read_lineage(&mut SqliteSession::open_reader(path)?)?
            }
            (Err(error), _) => return Err(error),
        };
        Ok((executor, lineage))
    }

    fn prepare(&mut self) -> Result<(), DatabaseError> {
        if self.path.is_none() {
            self.session = Some(SqliteSession::open(None)?);
        }
        let now = self.shared.clock.now();
        let session = self.session()?;
        session.use_wal()?;
        session.control("BEGIN IMMEDIATE")?;
        for statement in migration_statements(&schema::sqlite()) {
            session.batch(&statement)?;
        }
        session.execute(
            &Sql::Static(
                "INSERT INTO database_lineage (only_row, lineage, era, last_transaction,
                     created_at)
                 VALUES (1, $1, 1, 0, $2) ON CONFLICT (only_row) DO NOTHING",
            ),
            &params![schema::new_lineage(), now],
            false,
        )?;
        session.control("COMMIT")
    }

    /// Works for this process from now on: its clock is the one that counts.
    pub fn serve(&mut self, shared: &Arc<Shared>) {
        if !Arc::ptr_eq(&self.shared, shared) {
            self.shared = shared.clone();
        }
    }

    /// Runs all jobs, commits once, answers each.
    pub fn run(&mut self, jobs: Vec<Job>) {
        let (mut kept, mut refused, mut notifications) = (Vec::new(), Vec::new(), Vec::new());
        let mut outcome = self.begin();
        for mut job in jobs {
            if outcome.is_err() {
                refused.push(job);
                continue;
            }
            match self.run_one(&mut job, &mut notifications) {
                Ok(true) => kept.push(job),
                Ok(false) => refused.push(job),
                Err(error) => {
                    outcome = Err(error);
                    refused.push(job);
                }
            }
        }
        let outcome = outcome.and_then(|()| self.commit());
        let counters = &self.shared.counters;
        let stored = kept.iter().filter(|job| !job.read_only()).count() as u64;
        if outcome.is_err() {
            counters.failed.fetch_add(stored, Ordering::Relaxed);
        } else if stored > 0 {
            count(&counters.commits);
            counters.committed.fetch_add(stored, Ordering::Relaxed);
        }
        counters.failed.fetch_add(refused.len() as u64, Ordering::Relaxed);
        // Also an error of a closure may rest on what another closure of the batch wrote, so it
        // counts only once that is stored.
        for job in kept.into_iter().chain(refused) {
            job.finish(outcome.clone());
        }
        match outcome {
            Ok(()) => {
                for (channel, key) in notifications {
                    self.shared.notify(channel, &key);
                }
            }
            Err(error) => self.heal(&error),
        }
    }

    /// Runs one job under a savepoint. `Ok(true)`: its changes are part of the batch. `Err`: the
    /// whole batch is lost.
    fn run_one(
        &mut self,
        job: &mut Job,
        notifications: &mut Vec<(&'static str, String)>,
    ) -> Result<bool, DatabaseError> {
        self.session()?.control("SAVEPOINT closure")?;
        let session = self.session.take().ok_or(DatabaseError::Closed)?;
        let read_only = job.read_only();
        let mut tx =
            Tx::new(Session::Sqlite(session), self.shared.clone(), job.origin(), read_only);
        let result = enter(|| job.run(&mut tx));
        let failure = tx.failure().cloned();
        let mut sent = std::mem::take(&mut tx.notifications);
        if let Session::Sqlite(session) = tx.into_session() {
            self.session = Some(session);
        }
        let session = self.session()?;
        if session.outside_transaction() {
            // SQLite rolled everything back: a full disk, a failed write, no memory.
            return Err(failure.unwrap_or_else(|| {
                DatabaseError::Io("SQLite gave the transaction up without saying why".to_owned())
            }));
        }
        if result.is_ok() && !read_only {
            session.control("RELEASE closure")?;
            notifications.append(&mut sent);
            Ok(true)
        } else {
            session.control("ROLLBACK TO closure")?;
            session.control("RELEASE closure")?;
            Ok(result.is_ok())
        }
    }

    fn begin(&mut self) -> Result<(), DatabaseError> {
        let mut attempt = 1;
        loop {
            match self.session()?.control("BEGIN IMMEDIATE") {
                Err(DatabaseError::Locked(_)) if attempt < BEGIN_ATTEMPTS => {
                    attempt += 1;
                    count(&self.shared.counters.retried);
                }
                other => return other,
            }
        }
    }

    fn commit(&mut self) -> Result<(), DatabaseError> {
        if planted("acknowledge_before_commit") && self.shared.random_u64().is_multiple_of(16) {
            return self.session()?.control("ROLLBACK");
        }
        self.session()?.control("COMMIT")
    }

    /// After a failure of the batch: leaves no transaction open, and has the next batch open the
    /// file anew, so that a disk that was repaired is used again without a restart.
    fn heal(&mut self, error: &DatabaseError) {
        tracing::error!(%error, "a commit failed; its transactions were not stored");
        if let Ok(session) = self.session()
            && !session.outside_transaction()
            && let Err(error) = session.control("ROLLBACK")
        {
            tracing::error!(%error, "rollback failed; opening the database anew");
        }
        if self.path.is_some() {
            self.session = None;
        }
    }

    /// The connection, opened anew when the last one failed.
    fn session(&mut self) -> Result<&mut SqliteSession, DatabaseError> {
        if self.session.is_none() {
            let path = self.path.as_deref().ok_or(DatabaseError::Closed)?;
            self.session = Some(SqliteSession::open(Some(path))?);
        }
        self.session.as_mut().ok_or(DatabaseError::Closed)
    }

    /// Called by the writer thread as its last act.
    pub fn close(&mut self) {
        if let Some(session) = &mut self.session {
            session.checkpoint();
        }
        self.session = None;
    }
}

fn read_lineage(session: &mut SqliteSession) -> Result<Arc<str>, DatabaseError> {
    let rows = session.query(
        &Sql::Static("SELECT lineage FROM database_lineage WHERE only_row = 1"),
        &[],
        true,
    )?;
    let row = rows.first().ok_or_else(|| {
        DatabaseError::Corrupt("the lineage row is missing; restore a backup".to_owned())
    })?;
    Ok(row.text("lineage")?.into())
}
