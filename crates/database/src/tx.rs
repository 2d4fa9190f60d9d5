//! A transaction, as the closure of [`crate::Database::transact`] sees it.

use std::sync::Arc;

use cloud_types::{Clock, Timestamp};
use planted_bugs::planted;

use crate::postgres::PostgresSession;
use crate::shared::Shared;
use crate::sqlite::SqliteSession;
use crate::{Backend, DatabaseError, JournalEntry, ObjectLock, Origin, Row, Value, sql_text};

/// The text of a statement.
pub(crate) enum Sql {
    /// Written in the code: prepared once for each connection.
    Static(&'static str),
    /// Put together at run time.
    Dynamic(String),
}

impl Sql {
    pub fn text(&self) -> &str {
        match self {
            Sql::Static(text) => text,
            Sql::Dynamic(text) => text,
        }
    }
}

pub(crate) enum Session {
    Sqlite(SqliteSession),
    Postgres(PostgresSession),
}

/// A transaction under way. Statements are the same text on both databases: `$1` parameters,
/// `TEXT`, `BIGINT` and `BYTEA` columns.
///
/// After a statement failed, nothing more can be done in the transaction (PostgreSQL's rule, kept
/// on SQLite too): write `INSERT … ON CONFLICT DO NOTHING` and look at the count instead of
/// catching [`DatabaseError::Unique`] to go on.
pub struct Tx {
    session: Session,
    shared: Arc<Shared>,
    origin: Origin,
    now: Timestamp,
    read_only: bool,
    pub(crate) journal: Vec<JournalEntry>,
    pub(crate) notifications: Vec<(&'static str, String)>,
    /// Statements that run last.
    deferred: Vec<(u16, &'static str, Vec<Value>)>,
    /// Why the transaction cannot go on.
    failed: Option<DatabaseError>,
    /// Whether somebody else was in the way, so that another attempt can succeed.
    collided: bool,
    wrote: bool,
    held: Vec<ObjectLock>,
}

impl Tx {
    pub(crate) fn new(
        session: Session,
        shared: Arc<Shared>,
        origin: Origin,
        read_only: bool,
    ) -> Self {
        Tx {
            now: shared.clock.now(),
            session,
            shared,
            origin,
            read_only,
            journal: Vec::new(),
            notifications: Vec::new(),
            deferred: Vec::new(),
            failed: None,
            collided: false,
            wrote: false,
            held: Vec::new(),
        }
    }

    /// All rows.
    pub async fn query(
        &mut self,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.rows(Sql::Static(sql), params).await
    }

    /// The row, or `None`. More than one row is an error.
    pub async fn query_opt(
        &mut self,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Option<Row>, DatabaseError> {
        let mut rows = self.query(sql, params).await?;
        if rows.len() > 1 {
            return Err(row_count(sql, rows.len()));
        }
        Ok(rows.pop())
    }

    /// The row. None, or more than one, is an error.
    pub async fn query_one(
        &mut self,
        sql: &'static str,
        params: &[Value],
    ) -> Result<Row, DatabaseError> {
        self.query_opt(sql, params).await?.ok_or_else(|| row_count(sql, 0))
    }

    /// Changes rows; how many is returned.
    pub async fn execute(
        &mut self,
        sql: &'static str,
        params: &[Value],
    ) -> Result<u64, DatabaseError> {
        self.change(Sql::Static(sql), params).await
    }

    /// [`Tx::query`] for text put together at run time, as list filters are. Only names that the
    /// code knows may go into the text; what a caller gave is a parameter.
    pub async fn query_dynamic(
        &mut self,
        sql: String,
        params: &[Value],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.rows(Sql::Dynamic(sql), params).await
    }

    /// [`Tx::execute`] for text put together at run time.
    pub async fn execute_dynamic(
        &mut self,
        sql: String,
        params: &[Value],
    ) -> Result<u64, DatabaseError> {
        self.change(Sql::Dynamic(sql), params).await
    }

    /// Queues behind every other transaction that holds one of these objects, until this one ends.
    /// Take locks first and read the objects after: what was read before may be old. Sorted by
    /// kind and id within a call; take what belongs together in one call. On SQLite there is one
    /// writer anyway, so nothing waits.
    pub async fn lock(&mut self, locks: &[ObjectLock]) -> Result<(), DatabaseError> {
        if self.read_only {
            return Err(self.fail(DatabaseError::Misuse(
                "a read-only transaction cannot lock objects; use transact instead of read".into(),
            )));
        }
        let mut wanted: Vec<ObjectLock> =
            locks.iter().filter(|lock| !self.held.contains(lock)).cloned().collect();
        wanted.sort();
        wanted.dedup();
        if cfg!(debug_assertions) {
            for held in &self.held {
                for lock in &wanted {
                    self.shared.note_lock_order(held.kind, lock.kind);
                }
            }
        }
        self.usable()?;
        if let Session::Postgres(session) = &mut self.session {
            let result = session.lock(&wanted).await;
            self.noted(result)?;
        }
        self.held.extend(wanted);
        Ok(())
    }

    /// Checks a compare-and-swap: `rows_affected` of an `UPDATE … WHERE id = $1 AND generation =
    /// $2` must be 1, else the object is [`DatabaseError::Stale`].
    pub fn expect_one(
        &mut self,
        rows_affected: u64,
        kind: &'static str,
        id: impl ToString,
    ) -> Result<(), DatabaseError> {
        if rows_affected == 1 {
            return Ok(());
        }
        self.collided = true;
        Err(DatabaseError::Stale { kind, id: id.to_string() })
    }

    /// Adds an entry to the journal, stored with the transaction.
    pub fn journal(&mut self, entry: JournalEntry) {
        self.journal.push(entry);
    }

    /// Tells subscribers of `channel` that `key` changed, once the transaction is stored. Keys
    /// are short: identifiers.
    pub fn notify(&mut self, channel: &'static str, key: impl Into<String>) {
        let notification = (channel, key.into());
        if !self.notifications.contains(&notification) {
            self.notifications.push(notification);
        }
    }

    /// Has a statement run as one of the last acts of the transaction: those of lower `rank`
    /// first, then by text and parameters, and only once if asked for twice. For rows that many
    /// transactions touch in passing (waking a waiter, taking a number): locked so late and in
    /// one order, they do not make transactions wait for each other in a circle. A failure of it
    /// fails the transaction. Ranks in use: 10 wakes workflows, 20 and 21 number documents.
    pub fn defer(&mut self, rank: u16, sql: &'static str, params: &[Value]) {
        let statement = (rank, sql, params.to_vec());
        if !self.deferred.contains(&statement) {
            self.deferred.push(statement);
        }
    }

    /// Why the transaction cannot go on, after a statement of it failed. Tells a closure's own
    /// refusal from a failure of the database.
    pub fn failure(&self) -> Option<&DatabaseError> {
        self.failed.as_ref()
    }

    /// The transaction's time: one for all of it.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A random number from the database's own source, which a simulation seeds.
    pub fn random_u64(&self) -> u64 {
        self.shared.random_u64()
    }

    /// On whose behalf the transaction runs.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Acts for somebody else from here on: a background worker that finishes what a request
    /// began journals under that request.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// The database's lineage: a restored database has a new one.
    pub fn lineage(&self) -> String {
        self.shared.lineage().as_ref().to_owned()
    }

    /// The database's clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clock.clone()
    }

    /// Which database this is. Statements should not need to know.
    pub fn backend(&self) -> Backend {
        match self.session {
            Session::Sqlite(_) => Backend::Sqlite,
            Session::Postgres(_) => Backend::Postgres,
        }
    }

    async fn rows(&mut self, sql: Sql, params: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        self.begin_statement(&sql, params)?;
        let result = match &mut self.session {
            Session::Sqlite(session) => session.query(&sql, params, self.read_only),
            Session::Postgres(session) => session.query(&sql, params).await,
        };
        self.noted(result)
    }

    async fn change(&mut self, sql: Sql, params: &[Value]) -> Result<u64, DatabaseError> {
        self.begin_statement(&sql, params)?;
        let result = match &mut self.session {
            Session::Sqlite(session) => session.execute(&sql, params, self.read_only),
            Session::Postgres(session) => session.execute(&sql, params).await,
        };
        self.noted(result)
    }

    fn begin_statement(&mut self, sql: &Sql, params: &[Value]) -> Result<(), DatabaseError> {
        self.usable()?;
        if !sql_text::only_reads(sql.text()) {
            self.wrote = true;
        }
        let nul =
            params.iter().any(|value| matches!(value, Value::Text(text) if text.contains('\0')));
        if nul {
            return Err(self.fail(DatabaseError::sql(
                sql.text(),
                "a text parameter holds a NUL character, which the database cannot store",
            )));
        }
        Ok(())
    }

    fn usable(&self) -> Result<(), DatabaseError> {
        match &self.failed {
            None => Ok(()),
            Some(DatabaseError::Misuse(earlier)) => Err(DatabaseError::Misuse(earlier.clone())),
            Some(earlier) => Err(DatabaseError::Misuse(format!(
                "a statement of this transaction failed before, so it cannot go on: {earlier}"
            ))),
        }
    }

    fn noted<T>(&mut self, result: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        result.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: DatabaseError) -> DatabaseError {
        if matches!(error, DatabaseError::Conflict(_)) {
            self.collided = true;
        }
        if self.failed.is_none() {
            self.failed = Some(error.clone());
        }
        error
    }

    /// Writes the journal entries and runs what was deferred, after a closure that succeeded.
    pub(crate) async fn finish_closure(&mut self) -> Result<(), DatabaseError> {
        self.usable()?;
        self.flush_journal().await?;
        let mut deferred = std::mem::take(&mut self.deferred);
        deferred.sort_by_cached_key(|(rank, sql, params)| (*rank, *sql, format!("{params:?}")));
        for (_, sql, params) in deferred {
            self.execute(sql, &params).await?;
        }
        Ok(())
    }

    async fn flush_journal(&mut self) -> Result<(), DatabaseError> {
        if self.journal.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.journal);
        let lost = planted("drop_journal_entry") && self.random_u64().is_multiple_of(8);
        let kept = if lost { entries.get(1..).unwrap_or_default() } else { entries.as_slice() };
        crate::journal::append(self, kept).await?;
        self.journal = entries;
        self.notify(crate::journal::CHANNEL, "");
        Ok(())
    }

    pub(crate) fn collided(&self) -> bool {
        self.collided
    }

    pub(crate) fn wrote(&self) -> bool {
        self.wrote
    }

    pub(crate) fn into_session(self) -> Session {
        self.session
    }
}

fn row_count(sql: &str, found: usize) -> DatabaseError {
    DatabaseError::RowCount { table: sql_text::table_of(sql).to_owned(), found }
}
