//! What was asked of a server and what came of it: `os-instance-actions`. One action for each
//! request, and beneath it the events of the workflow that carried it out.

use cloud_types::{ProjectId, ServerId, Timestamp, UserId};
use database::{DatabaseError, Row, Tx, Value, params};

/// An action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionRecord {
    /// The request that began it.
    pub request_id: String,
    /// `create`, `stop`, `reboot`, …
    pub action: String,
    /// Who asked; nobody when the cloud acted by itself.
    pub user: Option<UserId>,
    /// For which project.
    pub project: Option<ProjectId>,
    /// Set when it failed: `Error`.
    pub message: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An event of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionEvent {
    /// Its name.
    pub event: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// `Success` or `Error`.
    pub result: Option<String>,
    /// The host it happened on.
    pub host: Option<String>,
    /// In words.
    pub details: Option<String>,
}

/// Which actions of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActionFilter {
    /// Changed then or later.
    pub changed_since: Option<Timestamp>,
    /// Changed then or earlier.
    pub changed_before: Option<Timestamp>,
    /// After the action of this request, in the list's order.
    pub marker: Option<String>,
    /// At most so many.
    pub limit: Option<i64>,
}

fn read(row: &Row) -> Result<ActionRecord, DatabaseError> {
    Ok(ActionRecord {
        request_id: row.text("request_id")?,
        action: row.text("action")?,
        user: row.opt_parse("user_id")?,
        project: row.opt_parse("project_id")?,
        message: row.opt_text("message")?,
        started_at: row.timestamp("started_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Records that the transaction's origin asked for `action`.
pub async fn begin_action(tx: &mut Tx, id: ServerId, action: &str) -> Result<(), DatabaseError> {
    let origin = tx.origin().clone();
    let now = tx.now();
    tx.execute(
        "INSERT INTO server_actions
             (server_id, request_id, action, user_id, project_id, started_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING",
        &params![id, origin.request_id, action, origin.actor, origin.project, now],
    )
    .await?;
    Ok(())
}

/// Records an action that nobody asked for: the guest, or its host, acted by itself.
pub async fn begin_action_as(
    tx: &mut Tx,
    id: ServerId,
    request_id: &str,
    action: &str,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO server_actions (server_id, request_id, action, started_at, updated_at)
         VALUES ($1, $2, $3, $4, $4) ON CONFLICT DO NOTHING",
        &params![id, request_id, action, now],
    )
    .await?;
    Ok(())
}

/// Marks the action of a request as ended; `message` only when it failed.
pub async fn finish_action(
    tx: &mut Tx,
    id: ServerId,
    request_id: &str,
    message: Option<&str>,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE server_actions SET message = $1, updated_at = $2
         WHERE server_id = $3 AND request_id = $4",
        &params![message, now, id, request_id],
    )
    .await?;
    Ok(())
}

/// Records that an event began; `sequence` tells repetitions apart.
pub async fn begin_event(
    tx: &mut Tx,
    id: ServerId,
    request_id: &str,
    event: &str,
    sequence: u32,
    host: Option<&str>,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO server_action_events
             (server_id, request_id, event, sequence, started_at, host_name)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        &params![id, request_id, event, sequence, now, host],
    )
    .await?;
    Ok(())
}

/// Records how an event ended, whether or not its beginning was recorded.
#[allow(clippy::too_many_arguments)] // the columns of the row, each once
pub async fn finish_event(
    tx: &mut Tx,
    id: ServerId,
    request_id: &str,
    event: &str,
    sequence: u32,
    host: Option<&str>,
    success: bool,
    details: &str,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    let result = if success { "Success" } else { "Error" };
    tx.execute(
        "INSERT INTO server_action_events
             (server_id, request_id, event, sequence, started_at, finished_at, result, host_name, details)
         VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)
         ON CONFLICT (server_id, request_id, event, sequence)
         DO UPDATE SET finished_at = excluded.finished_at, result = excluded.result,
             host_name = COALESCE(excluded.host_name, server_action_events.host_name),
             details = excluded.details",
        &params![id, request_id, event, sequence, now, result, host, details],
    )
    .await?;
    Ok(())
}

/// The actions of a server, newest first.
pub async fn actions_of(
    tx: &mut Tx,
    id: ServerId,
    filter: &ActionFilter,
) -> Result<Vec<ActionRecord>, DatabaseError> {
    let mut sql = String::from(
        "SELECT request_id, action, user_id, project_id, message, started_at, updated_at
         FROM server_actions WHERE server_id = $1",
    );
    let mut parameters = vec![Value::from(id)];
    if let Some(since) = filter.changed_since {
        parameters.push(since.into());
        sql.push_str(&format!(" AND updated_at >= ${}", parameters.len()));
    }
    if let Some(before) = filter.changed_before {
        parameters.push(before.into());
        sql.push_str(&format!(" AND updated_at <= ${}", parameters.len()));
    }
    if let Some(marker) = &filter.marker {
        parameters.push(marker.clone().into());
        let place = parameters.len();
        sql.push_str(&format!(
            " AND (started_at, request_id) < (SELECT m.started_at, m.request_id FROM server_actions m
               WHERE m.server_id = $1 AND m.request_id = ${place})"
        ));
    }
    sql.push_str(" ORDER BY started_at DESC, request_id DESC");
    if let Some(limit) = filter.limit {
        parameters.push(limit.into());
        sql.push_str(&format!(" LIMIT ${}", parameters.len()));
    }
    tx.query_dynamic(sql, &parameters).await?.iter().map(read).collect()
}

/// The action of a request.
pub async fn action(
    tx: &mut Tx,
    id: ServerId,
    request_id: &str,
) -> Result<Option<ActionRecord>, DatabaseError> {
    tx.query_opt(
        "SELECT request_id, action, user_id, project_id, message, started_at, updated_at
         FROM server_actions WHERE server_id = $1 AND request_id = $2",
        &params![id, request_id],
    )
    .await?
    .map(|row| read(&row))
    .transpose()
}

/// The events of an action, newest first.
pub async fn events_of(
    tx: &mut Tx,
    id: ServerId,
    request_id: &str,
) -> Result<Vec<ActionEvent>, DatabaseError> {
    tx.query(
        "SELECT event, started_at, finished_at, result, host_name, details
         FROM server_action_events WHERE server_id = $1 AND request_id = $2
         ORDER BY started_at DESC, sequence DESC, event",
        &params![id, request_id],
    )
    .await?
    .iter()
    .map(|row| {
        Ok(ActionEvent {
            event: row.text("event")?,
            started_at: row.timestamp("started_at")?,
            finished_at: row.opt_timestamp("finished_at")?,
            result: row.opt_text("result")?,
            host: row.opt_text("host_name")?,
            details: row.opt_text("details")?,
        })
    })
    .collect()
}
