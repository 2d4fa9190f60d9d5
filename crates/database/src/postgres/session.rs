//! One connection to PostgreSQL and its prepared statements.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::classify::classify;
use super::types::{Cell, Param};
use crate::row::Header;
use crate::tx::Sql;
use crate::{DatabaseError, ObjectLock, Row, Value, sql_text};

/// Statements put together at run time that a connection keeps prepared.
const DYNAMIC: usize = 100;

/// A connection.
pub(crate) struct PostgresSession {
    client: Client,
    fixed: HashMap<&'static str, Prepared>,
    dynamic: HashMap<String, Prepared>,
    /// A BEGIN that goes out with the first statement, which saves its round trip.
    begin: Option<&'static str>,
}

#[derive(Clone)]
struct Prepared {
    statement: Statement,
    header: Arc<Header>,
}

impl PostgresSession {
    pub(super) fn new(client: Client) -> Self {
        PostgresSession { client, fixed: HashMap::new(), dynamic: HashMap::new(), begin: None }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The driver's own handle, for the end of a transaction.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs statements without parameters.
    pub async fn batch(&mut self, sql: &str) -> Result<(), DatabaseError> {
        self.begun().await?;
        self.client.batch_execute(sql).await.map_err(|error| classify(&error, sql))
    }

    /// Begins a transaction with its first statement.
    pub(super) fn begin(&mut self, sql: &'static str) {
        self.begin = Some(sql);
    }

    /// Whether a transaction was begun of which the server has not heard: there is nothing to
    /// end. Forgets it.
    pub(super) fn unbegin(&mut self) -> bool {
        self.begin.take().is_some()
    }

    /// Has the server begin now, where no statement takes the BEGIN along.
    pub(super) async fn begun(&mut self) -> Result<(), DatabaseError> {
        match self.begin.take() {
            None => Ok(()),
            Some(sql) => {
                self.client.batch_execute(sql).await.map_err(|error| classify(&error, sql))
            }
        }
    }

    /// Sends a statement that stores nothing, behind the BEGIN if that is still to be sent: both
    /// are on their way before an answer comes. Not for one that changes rows: should the BEGIN
    /// alone be refused (somebody cancelled it), the statement would be stored by itself.
    async fn send<T>(
        &mut self,
        statement: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, tokio_postgres::Error> {
        match self.begin.take() {
            None => statement(&self.client).await,
            Some(sql) => {
                let begin = self.client.batch_execute(sql);
                let (begun, done) = join(begin, statement(&self.client)).await;
                begun.and(done)
            }
        }
    }

    /// Takes the rows of objects, which must be sorted, or waits for whoever has them. One
    /// statement makes the row when it is absent and locks it when it is there; it is robust
    /// against the row being deleted meanwhile, and leaves no dead row behind.
    pub async fn lock(&mut self, locks: &[ObjectLock]) -> Result<(), DatabaseError> {
        // A bounded number of statements is prepared: for 1, 2, … 8 objects.
        for some in locks.chunks(8) {
            let mut sql = String::from("INSERT INTO object_locks (kind, id) VALUES ");
            let mut params = Vec::with_capacity(some.len() * 2);
            for (index, lock) in some.iter().enumerate() {
                let comma = if index == 0 { "" } else { ", " };
                sql.push_str(&format!("{comma}(${}, ${})", 2 * index + 1, 2 * index + 2));
                params.push(Value::from(lock.kind));
                params.push(Value::from(&lock.id));
            }
            sql.push_str(" ON CONFLICT (kind, id) DO UPDATE SET id = excluded.id WHERE FALSE");
            self.execute(&Sql::Dynamic(sql), &params).await?;
        }
        Ok(())
    }

    pub async fn query(&mut self, sql: &Sql, params: &[Value]) -> Result<Vec<Row>, DatabaseError> {
        let prepared = self.prepare(sql, params).await?;
        let params: Vec<Param<'_>> = params.iter().map(Param).collect();
        let params: Vec<&(dyn ToSql + Sync)> =
            params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        let statement = &prepared.statement;
        if !sql_text::only_reads(sql.text()) {
            self.begun().await?;
        }
        let result = self.send(async |client| client.query(statement, &params).await).await;
        let rows = match result {
            Ok(rows) => rows,
            Err(error) => return Err(self.failed(&error, sql)),
        };
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let mut values = Vec::with_capacity(row.len());
            for (index, column) in prepared.header.columns.iter().enumerate() {
                let cell: Cell = row.try_get(index).map_err(|error| {
                    DatabaseError::decode(sql.text(), column, error.to_string())
                })?;
                values.push(cell.0);
            }
            out.push(Row::new(prepared.header.clone(), values));
        }
        Ok(out)
    }

    pub async fn execute(&mut self, sql: &Sql, params: &[Value]) -> Result<u64, DatabaseError> {
        let prepared = self.prepare(sql, params).await?;
        let params: Vec<Param<'_>> = params.iter().map(Param).collect();
        let params: Vec<&(dyn ToSql + Sync)> =
            params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        self.begun().await?;
        let result = self.client.execute(&prepared.statement, &params).await;
        result.map_err(|error| self.failed(&error, sql))
    }

    /// The prepared statement of a fixed text.
    pub(super) async fn statement(
        &mut self,
        sql: &'static str,
    ) -> Result<Statement, DatabaseError> {
        Ok(self.prepare_any(&Sql::Static(sql)).await?.statement)
    }

    async fn prepare(&mut self, sql: &Sql, params: &[Value]) -> Result<Prepared, DatabaseError> {
        let prepared = self.prepare_any(sql).await?;
        let wanted = prepared.statement.params().len();
        if wanted != params.len() {
            return Err(DatabaseError::Misuse(format!(
                "{} parameters given where the statement has {wanted} (in: {})",
                params.len(),
                sql_text::shorten(sql.text())
            )));
        }
        Ok(prepared)
    }

    async fn prepare_any(&mut self, sql: &Sql) -> Result<Prepared, DatabaseError> {
        let known = match sql {
            Sql::Static(text) => self.fixed.get(text),
            Sql::Dynamic(text) => self.dynamic.get(text),
        };
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let statement = self
            .send(async |client| client.prepare(sql.text()).await)
            .await
            .map_err(|error| classify(&error, sql.text()))?;
        let columns = statement.columns().iter().map(|column| column.name().to_owned()).collect();
        let header = Arc::new(Header { columns, sql: sql.text().to_owned() });
        let prepared = Prepared { statement, header };
        match sql {
            Sql::Static(text) => {
                self.fixed.insert(text, prepared.clone());
            }
            Sql::Dynamic(text) => {
                if self.dynamic.len() >= DYNAMIC {
                    self.dynamic.clear();
                }
                self.dynamic.insert(text.clone(), prepared.clone());
            }
        }
        Ok(prepared)
    }

    fn failed(&mut self, error: &tokio_postgres::Error, sql: &Sql) -> DatabaseError {
        let error = classify(error, sql.text());
        if matches!(error, DatabaseError::Conflict(_)) {
            // It may be the prepared statement that does not fit any more.
            match sql {
                Sql::Static(text) => self.fixed.remove(text),
                Sql::Dynamic(text) => self.dynamic.remove(text),
            };
        }
        error
    }
}
