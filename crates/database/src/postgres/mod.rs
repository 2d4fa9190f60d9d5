//! PostgreSQL, shared by several processes.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::shared::Shared;
use crate::tx::Sql;
use crate::{DatabaseError, ObjectLock, Origin, Row, Tx, Value};

pub(crate) struct Postgres {}

impl Postgres {
    pub async fn open(_url: &str, _shared: &Arc<Shared>) -> Result<Self, DatabaseError> {
        Err(DatabaseError::Unreachable("PostgreSQL is not built in yet".into()))
    }

    pub async fn transact<T, E, F>(
        &self,
        _closure: F,
        _origin: Origin,
        _read_only: bool,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        Err(DatabaseError::Closed.into())
    }

    pub async fn close(&self) {}
}

pub(crate) struct PostgresSession {}

impl PostgresSession {
    pub async fn lock(&mut self, _locks: &[ObjectLock]) -> Result<(), DatabaseError> {
        Err(DatabaseError::Closed)
    }
    pub async fn query(
        &mut self,
        _sql: &Sql,
        _params: &[Value],
    ) -> Result<Vec<Row>, DatabaseError> {
        Err(DatabaseError::Closed)
    }
    pub async fn execute(&mut self, _sql: &Sql, _params: &[Value]) -> Result<u64, DatabaseError> {
        Err(DatabaseError::Closed)
    }
}
