//! One connection to ovsdb-server over a unix socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::error::OvsdbError;
use crate::monitor::{Monitor, MonitorTable, requests, table_updates};
use crate::operation::{Operation, OperationResult, results};
use crate::tasks::{self, Shared};

/// Requests that may wait for a slow server.
const QUEUED_REQUESTS: usize = 64;

/// How patient a connection is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the server may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long the server may take to answer.
    pub request_timeout: Duration,
    /// After this much silence the server is asked whether it is there; after three times as much
    /// the connection is given up.
    pub echo_interval: Duration,
    /// Longest message in octets. A table of ten thousand ports takes about ten million.
    pub max_message: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            echo_interval: Duration::from_secs(10),
            max_message: 128 * 1024 * 1024,
        }
    }
}

/// An open connection. Dropping it closes the socket.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Vec<u8>>,
    closed: watch::Receiver<Option<Arc<str>>>,
    next_id: AtomicU64,
    options: Options,
}

impl Connection {
    /// Connects.
    pub async fn connect(path: &Path, options: Options) -> Result<Self, OvsdbError> {
        let failed =
            |why: io::Error| OvsdbError::Connect { path: path.to_owned(), why: Arc::new(why) };
        let socket = timeout(options.connect_timeout, UnixStream::connect(path))
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        let (outgoing, queue) = mpsc::channel(QUEUED_REQUESTS);
        let (closing, closed) = watch::channel(None);
        let shared = Arc::new(Shared::new(closing));
        let (read, write) = socket.into_split();
        tokio::spawn(tasks::write(write, queue, shared.clone()));
        tokio::spawn(tasks::read(read, outgoing.downgrade(), shared.clone(), options.clone()));
        Ok(Self { shared, outgoing, closed, next_id: AtomicU64::new(1), options })
    }

    /// Why the connection ended, once it has.
    pub async fn closed(&self) -> Arc<str> {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_else(|| "unknown".into()),
            Err(_) => "dropped".into(),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// Any request: method and parameters in, result out.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value, OvsdbError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let answer = self.shared.expect(id);
        let text = json!({"method": method, "params": params, "id": id}).to_string();
        let limit = self.options.request_timeout;
        let exchange = async {
            if self.outgoing.send(text.into_bytes()).await.is_err() {
                return Err(self.shared.closed_error());
            }
            answer.await.map_err(|_| self.shared.closed_error())?
        };
        timeout(limit, exchange).await.unwrap_or(Err(OvsdbError::Timeout(limit)))
    }

    /// Names of the server's databases.
    pub async fn databases(&self) -> Result<Vec<String>, OvsdbError> {
        let answer = self.request("list_dbs", json!([])).await?;
        Ok(answer
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(String::from)
            .collect())
    }

    /// The schema of a database (RFC 7047 section 3.2).
    pub async fn schema(&self, database: &str) -> Result<Value, OvsdbError> {
        self.request("get_schema", json!([database])).await
    }

    /// Does all of the operations or none, in order, durably.
    pub async fn transact(
        &self,
        database: &str,
        operations: Vec<Operation>,
    ) -> Result<Vec<OperationResult>, OvsdbError> {
        let count = operations.len();
        let mut params = vec![Value::from(database)];
        params.extend(operations.into_iter().map(|o| o.0));
        results(self.request("transact", Value::Array(params)).await?, count)
    }

    /// Follows tables.
    pub async fn monitor(
        &self,
        database: &str,
        tables: &[MonitorTable],
    ) -> Result<Monitor, OvsdbError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // Before the request: the first change may come with its answer.
        let updates = self.shared.follow(id);
        let answer = self.request("monitor", json!([database, id, requests(tables)])).await?;
        Ok(Monitor { initial: table_updates(&answer)?, updates })
    }
}
