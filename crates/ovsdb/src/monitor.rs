//! Following tables (RFC 7047 sections 4.1.5 and 4.1.6): first what is there, then each change.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::error::OvsdbError;
use crate::value::Row;

/// A table to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorTable {
    /// Name of the table.
    pub table: String,
    /// Columns of interest.
    pub columns: Vec<String>,
}

impl MonitorTable {
    /// These columns of this table.
    pub fn new(table: &str, columns: &[&str]) -> Self {
        Self { table: table.into(), columns: columns.iter().map(|&c| c.into()).collect() }
    }
}

pub(crate) fn requests(tables: &[MonitorTable]) -> Value {
    tables.iter().map(|t| (t.table.clone(), json!({"columns": t.columns}))).collect()
}

/// What happened to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowUpdate {
    /// It is there with these columns, all that are followed.
    Present(Row),
    /// It is gone.
    Gone,
}

/// Changed rows by table and identity; the changes of one transaction come together.
pub type TableUpdates = BTreeMap<String, HashMap<Uuid, RowUpdate>>;

pub(crate) fn table_updates(value: &Value) -> Result<TableUpdates, OvsdbError> {
    let wrong = |what: &str| OvsdbError::Protocol(format!("an update's {what}"));
    let mut out = TableUpdates::new();
    for (table, rows) in value.as_object().ok_or_else(|| wrong("tables are not an object"))? {
        let rows = rows.as_object().ok_or_else(|| wrong("rows are not an object"))?;
        let changed = out.entry(table.clone()).or_default();
        for (id, update) in rows {
            let id = id.parse().map_err(|_| wrong("row has no UUID"))?;
            let update = match update.get("new").and_then(Value::as_object) {
                Some(row) => RowUpdate::Present(Row(row.clone())),
                None => RowUpdate::Gone,
            };
            changed.insert(id, update);
        }
    }
    Ok(out)
}

/// Tables being followed. Dropping it stops the listening on this side.
#[derive(Debug)]
pub struct Monitor {
    pub(crate) initial: TableUpdates,
    pub(crate) updates: mpsc::UnboundedReceiver<TableUpdates>,
}

impl Monitor {
    /// What was there at the beginning.
    pub fn initial(&self) -> &TableUpdates {
        &self.initial
    }

    /// The next change; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<TableUpdates> {
        self.updates.recv().await
    }
}
