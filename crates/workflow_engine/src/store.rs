//! All SQL of the engine.

use cloud_types::{Fault, Timestamp, WorkflowId};
use database::{Backend, DatabaseError, Migration, MigrationSet, Row, Tx, Value, params};
use planted_bugs::planted;

use crate::model::{Direction, Status, WorkflowView};

/// The engine's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "workflow_engine",
    migrations: &[
        Migration { number: 1, name: "workflows", sql: FIRST },
        Migration { number: 2, name: "who held which lease", sql: HOLDERS },
    ],
};

const FIRST: &str = "
CREATE TABLE workflows (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    owner_kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    project TEXT,
    request_id TEXT NOT NULL,
    actor TEXT,
    status TEXT NOT NULL,
    direction TEXT NOT NULL,
    step_index BIGINT NOT NULL,
    step TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    forward_only BIGINT NOT NULL,
    progress BIGINT NOT NULL,
    sentence TEXT NOT NULL,
    fault TEXT,
    cancel_requested BIGINT NOT NULL,
    wait_event TEXT,
    signals BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    lease_owner TEXT,
    lease_epoch BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL);
-- due_at: when a worker may next look; the end of the lease while one has it.
CREATE INDEX workflows_due ON workflows (due_at) WHERE status IN ('runnable', 'waiting');
CREATE INDEX workflows_wait ON workflows (wait_event) WHERE status IN ('runnable', 'waiting');
CREATE INDEX workflows_owner ON workflows (owner_kind, owner_id);
CREATE INDEX workflows_ended ON workflows (updated_at)
    WHERE status IN ('succeeded', 'undone', 'cancelled');
CREATE INDEX workflows_open ON workflows (deadline)
    WHERE status IN ('runnable', 'waiting', 'parked');
CREATE TABLE workflow_steps (
    workflow_id TEXT NOT NULL,
    direction TEXT NOT NULL,
    step_index BIGINT NOT NULL,
    step TEXT NOT NULL,
    runs BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    lease_epoch BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (workflow_id, direction, step_index));
";

/// Whom the newest epoch was given to, also after the lease was given back, and who ran a step
/// last: an epoch is one worker's, which the auditor compares.
const HOLDERS: &str = "
ALTER TABLE workflows ADD COLUMN lease_worker TEXT NOT NULL DEFAULT '';
ALTER TABLE workflow_steps ADD COLUMN worker TEXT NOT NULL DEFAULT ''
";

/// A row of `workflows`, whole.
#[derive(Clone, Debug)]
pub(crate) struct WorkflowRow {
    pub view: WorkflowView,
    pub state: String,
    pub actor: Option<cloud_types::UserId>,
    pub forward_only: bool,
    pub wait_event: Option<String>,
    pub signals: i64,
    pub due_at: Timestamp,
    pub lease_epoch: u64,
}

macro_rules! columns {
    () => {
        "id, kind, version, state, owner_kind, owner_id, project, request_id, actor, status, \
         direction, step_index, step, attempt, forward_only, progress, sentence, fault, \
         cancel_requested, wait_event, signals, due_at, deadline, lease_epoch, \
         created_at, updated_at"
    };
}

fn read(row: &Row) -> Result<WorkflowRow, DatabaseError> {
    let view = WorkflowView {
        id: row.parse("id")?,
        kind: row.text("kind")?,
        version: row.u32("version")?,
        state: row.json("state")?,
        owner_kind: row.text("owner_kind")?,
        owner_id: row.text("owner_id")?,
        project: row.opt_parse("project")?,
        request_id: row.text("request_id")?,
        status: row.parse("status")?,
        direction: row.parse("direction")?,
        step_index: row.u32("step_index")?,
        step: row.text("step")?,
        attempt: row.u32("attempt")?,
        progress: u8::try_from(row.int("progress")?).unwrap_or(100),
        sentence: row.text("sentence")?,
        fault: row.opt_json("fault")?,
        deadline: row.timestamp("deadline")?,
        cancel_requested: row.bool("cancel_requested")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    };
    Ok(WorkflowRow {
        view,
        state: row.text("state")?,
        actor: row.opt_parse("actor")?,
        forward_only: row.bool("forward_only")?,
        wait_event: row.opt_text("wait_event")?,
        signals: row.int("signals")?,
        due_at: row.timestamp("due_at")?,
        lease_epoch: row.u64("lease_epoch")?,
    })
}

pub(crate) async fn insert(tx: &mut Tx, row: &WorkflowRow) -> Result<(), DatabaseError> {
    let view = &row.view;
    tx.execute(
        "INSERT INTO workflows (id, kind, version, state, owner_kind, owner_id, project,
             request_id, actor, status, direction, step_index, step, attempt, forward_only,
             progress, sentence, cancel_requested, signals, due_at, deadline, lease_epoch,
             generation, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, 0,
             $18, $19, 0, 1, $20, $20)",
        &params![
            view.id,
            view.kind,
            view.version,
            row.state,
            view.owner_kind,
            view.owner_id,
            view.project,
            view.request_id,
            row.actor,
            view.status,
            view.direction,
            view.step_index,
            view.step,
            view.attempt,
            row.forward_only,
            view.progress,
            view.sentence,
            row.due_at,
            view.deadline,
            view.created_at,
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn get(
    tx: &mut Tx,
    id: &WorkflowId,
) -> Result<Option<WorkflowRow>, DatabaseError> {
    let row = tx
        .query_opt(concat!("SELECT ", columns!(), " FROM workflows WHERE id = $1"), &params![id])
        .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn by_owner(
    tx: &mut Tx,
    owner_kind: &str,
    owner_id: &str,
) -> Result<Vec<WorkflowRow>, DatabaseError> {
    let rows = tx
        .query(
            concat!(
                "SELECT ",
                columns!(),
                " FROM workflows WHERE owner_kind = $1 AND owner_id = $2 \
                 ORDER BY created_at DESC, id LIMIT 100"
            ),
            &params![owner_kind, owner_id],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Says to whoever waits for `event` that it happened. Deferred to the end of the transaction:
/// these rows are also written last by the steps themselves.
pub(crate) fn signal(tx: &mut Tx, event: &str) {
    if planted("drop_wakeup") {
        return;
    }
    let now = tx.now();
    if tx.backend() == Backend::Postgres {
        // Holds off [`barrier`] until this transaction ends.
        tx.defer(
            9,
            "SELECT pg_advisory_xact_lock_shared(7301, hashtext($1))::text AS held",
            &params![event],
        );
    }
    tx.defer(
        10,
        "UPDATE workflows SET signals = signals + 1,
             due_at = CASE WHEN lease_owner IS NULL THEN $2 ELSE due_at END
         WHERE wait_event = $1 AND status IN ('runnable', 'waiting')",
        &params![event, now],
    );
}

/// On PostgreSQL: waits for every transaction that fired `event` and has not ended.
pub(crate) async fn barrier(tx: &mut Tx, event: &str) -> Result<(), DatabaseError> {
    if tx.backend() == Backend::Postgres {
        tx.query("SELECT pg_advisory_xact_lock(7301, hashtext($1))::text AS held", &params![event])
            .await?;
    }
    Ok(())
}

pub(crate) async fn request_cancel(tx: &mut Tx, id: &WorkflowId) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let changed = tx
        .execute(
            "UPDATE workflows SET cancel_requested = 1, signals = signals + 1,
                 generation = generation + 1,
                 due_at = CASE WHEN lease_owner IS NULL THEN $2 ELSE due_at END
             WHERE id = $1 AND forward_only = 0 AND direction = 'forward'
               AND status IN ('runnable', 'waiting')",
            &params![id, now],
        )
        .await?;
    Ok(changed == 1)
}

pub(crate) async fn resume(tx: &mut Tx, id: &WorkflowId) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let changed = tx
        .execute(
            "UPDATE workflows SET status = 'runnable', attempt = 1, due_at = $2,
                 lease_owner = NULL, generation = generation + 1, updated_at = $2
             WHERE id = $1 AND status = 'parked'",
            &params![id, now],
        )
        .await?;
    Ok(changed == 1)
}

pub(crate) async fn count_overdue(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.query_one(
        "SELECT COUNT(*) AS n FROM workflows
         WHERE status IN ('runnable', 'waiting', 'parked') AND deadline < $1",
        &params![now],
    )
    .await?
    .u64("n")
}

pub(crate) async fn count_parked(tx: &mut Tx) -> Result<u64, DatabaseError> {
    tx.query_one(
        "SELECT COUNT(*) AS n FROM workflows
         WHERE status IN ('runnable', 'waiting', 'parked') AND status = 'parked'",
        &[],
    )
    .await?
    .u64("n")
}

/// What is due of these kinds and versions, oldest first: (id, kind, version).
pub(crate) async fn due(
    tx: &mut Tx,
    kinds: &[(String, u32)],
    limit: u32,
) -> Result<Vec<(WorkflowId, String, u32)>, DatabaseError> {
    let mut params: Vec<Value> = params![tx.now(), limit].to_vec();
    let mut known = String::new();
    for (kind, version) in kinds {
        let at = params.len() + 1;
        let or = if known.is_empty() { "" } else { " OR " };
        known.push_str(&format!("{or}(kind = ${at} AND version = ${})", at + 1));
        params.extend(params![kind, version]);
    }
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tx
        .query_dynamic(
            format!(
                "SELECT id, kind, version FROM workflows
                 WHERE status IN ('runnable', 'waiting') AND due_at <= $1 AND ({known})
                 ORDER BY due_at, id LIMIT $2"
            ),
            &params,
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("id")?, row.text("kind")?, row.u32("version")?))).collect()
}

/// The kinds and versions of what has not ended.
pub(crate) async fn open_kinds(tx: &mut Tx) -> Result<Vec<(String, u32)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT DISTINCT kind, version FROM workflows
             WHERE status IN ('runnable', 'waiting', 'parked')",
            &[],
        )
        .await?;
    rows.iter().map(|row| Ok((row.text("kind")?, row.u32("version")?))).collect()
}

/// When the next one after a moment becomes due.
pub(crate) async fn next_due(
    tx: &mut Tx,
    after: Timestamp,
) -> Result<Option<Timestamp>, DatabaseError> {
    tx.query_one(
        "SELECT MIN(due_at) AS next FROM workflows
         WHERE status IN ('runnable', 'waiting') AND due_at > $1",
        &params![after],
    )
    .await?
    .opt_timestamp("next")
}

/// Takes a workflow that is due (or that `owner` holds already) and returns it, with a new epoch.
pub(crate) async fn claim(
    tx: &mut Tx,
    id: &WorkflowId,
    owner: &str,
    until: Timestamp,
) -> Result<Option<WorkflowRow>, DatabaseError> {
    let now = tx.now();
    let rows = tx
        .query(
            concat!(
                "UPDATE workflows SET lease_owner = $2, lease_worker = $2, \
                 lease_epoch = lease_epoch + 1, due_at = $3 \
                 WHERE id = $1 AND status IN ('runnable', 'waiting') \
                 AND (due_at <= $4 OR lease_owner = $2) RETURNING ",
                columns!()
            ),
            &params![id, owner, until, now],
        )
        .await?;
    rows.first().map(read).transpose()
}

/// What a step's transaction writes of its workflow.
pub(crate) struct Progressed<'a> {
    pub status: Status,
    pub direction: Direction,
    pub step_index: u32,
    pub step: &'a str,
    pub attempt: u32,
    pub forward_only: bool,
    pub progress: u8,
    pub sentence: &'a str,
    pub fault: Option<&'a Fault>,
    pub state: &'a str,
    pub wait_event: Option<&'a str>,
    /// Kept by this worker until `due_at`, or given back.
    pub keep_lease: bool,
    pub due_at: Timestamp,
    /// The signals that the step knew of; a newer one makes the workflow due at once.
    pub signals: i64,
}

/// Writes the outcome of a step, if the lease is still this worker's. The step's own changes
/// must be dropped when the answer is false.
pub(crate) async fn progress(
    tx: &mut Tx,
    id: &WorkflowId,
    epoch: u64,
    to: &Progressed<'_>,
) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let fault = match to.fault {
        None => Value::Null,
        Some(fault) => Value::Text(json(fault)?),
    };
    let epoch = match planted("skip_lease_epoch") {
        true => get(tx, id).await?.map_or(epoch, |row| row.lease_epoch),
        false => epoch,
    };
    let changed = tx
        .execute(
            "UPDATE workflows SET status = $3, direction = $4, step_index = $5, step = $6,
                 attempt = $7, forward_only = $8, progress = $9, sentence = $10, fault = $11,
                 state = $12, wait_event = $13,
                 lease_owner = CASE WHEN CAST($14 AS BIGINT) = 1 THEN lease_owner ELSE NULL END,
                 due_at = CASE WHEN $14 = 0 AND signals > $16 THEN CAST($17 AS BIGINT)
                          ELSE CAST($15 AS BIGINT) END,
                 generation = generation + 1, updated_at = $17
             WHERE id = $1 AND lease_epoch = $2",
            &params![
                id,
                epoch,
                to.status,
                to.direction,
                to.step_index,
                to.step,
                to.attempt,
                to.forward_only,
                to.progress,
                to.sentence,
                fault,
                to.state,
                to.wait_event,
                to.keep_lease,
                to.due_at,
                to.signals,
                now,
            ],
        )
        .await?;
    Ok(changed == 1)
}

/// Gives a lease back unused.
pub(crate) async fn release(tx: &mut Tx, id: &WorkflowId, epoch: u64) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE workflows SET lease_owner = NULL, due_at = $3
         WHERE id = $1 AND lease_epoch = $2 AND status IN ('runnable', 'waiting')",
        &params![id, epoch, now],
    )
    .await?;
    Ok(())
}

/// Gives back every lease.
pub(crate) async fn release_all(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE workflows SET lease_owner = NULL, due_at = $1
         WHERE lease_owner IS NOT NULL AND status IN ('runnable', 'waiting')",
        &params![now],
    )
    .await
}

/// Ends what is under way for an object, as it stands.
pub(crate) async fn abandon(
    tx: &mut Tx,
    owner_kind: &str,
    owner_id: &str,
) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE workflows SET status = 'cancelled', lease_owner = NULL, wait_event = NULL,
             lease_epoch = lease_epoch + 1, generation = generation + 1, updated_at = $3
         WHERE owner_kind = $1 AND owner_id = $2
           AND status IN ('runnable', 'waiting', 'parked')",
        &params![owner_kind, owner_id, now],
    )
    .await
}

/// Gives back every lease of one worker.
pub(crate) async fn release_worker(tx: &mut Tx, owner: &str) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE workflows SET lease_owner = NULL, due_at = $2
         WHERE lease_owner = $1 AND status IN ('runnable', 'waiting')",
        &params![owner, now],
    )
    .await
}

/// One line of a step's history.
pub(crate) struct Happened<'a> {
    pub direction: Direction,
    pub step_index: u32,
    pub step: &'a str,
    pub outcome: &'static str,
    pub detail: &'a str,
    pub epoch: u64,
    pub worker: &'a str,
}

/// Records what came of a step; repeated tries share a line.
pub(crate) async fn record(
    tx: &mut Tx,
    id: &WorkflowId,
    what: &Happened<'_>,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO workflow_steps (workflow_id, direction, step_index, step, runs, outcome,
             detail, lease_epoch, first_at, last_at, worker)
         VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $8, $9)
         ON CONFLICT (workflow_id, direction, step_index) DO UPDATE SET
             runs = workflow_steps.runs + 1, outcome = excluded.outcome,
             detail = excluded.detail, lease_epoch = excluded.lease_epoch,
             last_at = excluded.last_at, worker = excluded.worker",
        &params![
            id,
            what.direction,
            what.step_index,
            what.step,
            what.outcome,
            what.detail,
            what.epoch,
            now,
            what.worker
        ],
    )
    .await?;
    Ok(())
}

/// Deletes what ended before `before`, at most `limit` of them. Returns how many.
pub(crate) async fn prune(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id FROM workflows
             WHERE status IN ('succeeded', 'undone', 'cancelled') AND updated_at < $1
             ORDER BY updated_at LIMIT $2",
            &params![before, limit],
        )
        .await?;
    for row in &rows {
        let id = row.text("id")?;
        tx.execute("DELETE FROM workflow_steps WHERE workflow_id = $1", &params![id]).await?;
        tx.execute("DELETE FROM workflows WHERE id = $1", &params![id]).await?;
    }
    Ok(rows.len() as u64)
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, DatabaseError> {
    serde_json::to_string(value)
        .map_err(|error| DatabaseError::Misuse(format!("cannot be written as JSON: {error}")))
}
