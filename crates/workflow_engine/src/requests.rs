//! What services ask of the engine, inside their own transactions.

use cloud_types::{ProjectId, WorkflowId};
use database::{DatabaseError, JournalEntry, Tx};

use crate::model::{Direction, Status, WorkflowView};
use crate::step::{EventKey, Workflow};
use crate::store::{self, WorkflowRow};

/// The channel on which workers hear of work.
pub(crate) const CHANNEL: &str = "workflows";

/// What a workflow begins with.
#[derive(Clone, Debug)]
pub struct Start<S> {
    /// The input.
    pub state: S,
    /// The kind of object that it works on: `server`.
    pub owner_kind: &'static str,
    /// Which one.
    pub owner_id: String,
    /// The project that it works for.
    pub project: Option<ProjectId>,
    /// The request that began it; its steps journal and log under it.
    pub request_id: String,
}

/// Begins a workflow, in the transaction of the change that asks for it.
pub async fn start<W: Workflow>(
    tx: &mut Tx,
    workflow: &W,
    start: Start<W::State>,
) -> Result<WorkflowId, DatabaseError> {
    let steps = workflow.steps();
    let first = steps
        .first()
        .ok_or_else(|| DatabaseError::Misuse(format!("workflow {} has no steps", W::KIND)))?;
    let id = WorkflowId::random();
    let now = tx.now();
    let (limit, _) = workflow.deadline();
    let state = store::json(&start.state)?;
    let row = WorkflowRow {
        view: WorkflowView {
            id,
            kind: W::KIND.to_owned(),
            version: W::VERSION,
            state: serde_json::Value::Null,
            owner_kind: start.owner_kind.to_owned(),
            owner_id: start.owner_id.clone(),
            project: start.project.clone(),
            request_id: start.request_id,
            status: Status::Runnable,
            direction: Direction::Forward,
            step_index: 0,
            step: first.name.to_owned(),
            attempt: 1,
            progress: first.progress,
            sentence: first.sentence.to_owned(),
            fault: None,
            deadline: now.after(limit),
            cancel_requested: false,
            created_at: now,
            updated_at: now,
        },
        state,
        actor: tx.origin().actor.clone(),
        forward_only: workflow.point_of_no_return() == Some(first.name),
        wait_event: None,
        signals: 0,
        due_at: now,
        lease_epoch: 0,
    };
    store::insert(tx, &row).await?;
    kill_points::point(format_args!("region.{}.accepting", W::KIND));
    tx.journal(JournalEntry {
        kind: "workflow",
        id: id.to_string(),
        project: start.project,
        action: "create",
        before: None,
        after: Some(serde_json::json!({
            "kind": W::KIND, "owner_kind": start.owner_kind, "owner_id": start.owner_id,
        })),
    });
    tx.notify(CHANNEL, id.to_string());
    Ok(id)
}

/// Says that something happened that workflows may wait for. Nothing is remembered when none
/// does: a step looks at the world before it waits.
pub async fn wake(tx: &mut Tx, event: &EventKey) -> Result<(), DatabaseError> {
    store::signal(tx, event.as_str());
    tx.notify(CHANNEL, "");
    Ok(())
}

/// Asks a workflow to stop and undo what it did. False when it has ended, is being undone, is
/// past its point of no return, or does not exist.
pub async fn cancel(tx: &mut Tx, id: &WorkflowId) -> Result<bool, DatabaseError> {
    let accepted = store::request_cancel(tx, id).await?;
    if accepted {
        tx.notify(CHANNEL, id.to_string());
    }
    Ok(accepted)
}

/// Lets a parked workflow try again, for an operator who removed the cause. False when it is not
/// parked.
pub async fn resume(tx: &mut Tx, id: &WorkflowId) -> Result<bool, DatabaseError> {
    let resumed = store::resume(tx, id).await?;
    if resumed {
        tx.notify(CHANNEL, id.to_string());
    }
    Ok(resumed)
}

/// A workflow by its identity.
pub async fn get(tx: &mut Tx, id: &WorkflowId) -> Result<Option<WorkflowView>, DatabaseError> {
    Ok(store::get(tx, id).await?.map(|row| row.view))
}

/// The workflows of an object, newest first, at most 100; those that ended are kept for a week.
pub async fn find_by_owner(
    tx: &mut Tx,
    owner_kind: &str,
    owner_id: &str,
) -> Result<Vec<WorkflowView>, DatabaseError> {
    let rows = store::by_owner(tx, owner_kind, owner_id).await?;
    Ok(rows.into_iter().map(|row| row.view).collect())
}

/// The workflow of an object that has not ended, the newest if there are several.
pub async fn active_of_owner(
    tx: &mut Tx,
    owner_kind: &str,
    owner_id: &str,
) -> Result<Option<WorkflowView>, DatabaseError> {
    let all = find_by_owner(tx, owner_kind, owner_id).await?;
    Ok(all.into_iter().find(|view| !view.status.has_ended()))
}

/// How many workflows are past their deadline and have not ended. Should read zero.
pub async fn overdue_count(tx: &mut Tx) -> Result<u64, DatabaseError> {
    store::count_overdue(tx).await
}

/// How many workflows gave up undoing and wait for an operator. Should read zero.
pub async fn parked_count(tx: &mut Tx) -> Result<u64, DatabaseError> {
    store::count_parked(tx).await
}

/// Ends the leases of a worker that is known, or taken, to be dead: what it was at work on goes on
/// elsewhere at once, and not when its leases run out. Should it live after all, it cannot write
/// any more once its workflow has been taken: the epoch is checked.
pub async fn succeed(tx: &mut Tx, worker: &str) -> Result<u64, DatabaseError> {
    let released = store::release_worker(tx, worker).await?;
    if released > 0 {
        // No workflow's id: whoever hears it looks at what is due.
        tx.notify(CHANNEL, "");
    }
    Ok(released)
}

/// Ends what is under way for an object as it stands, neither finished nor undone: the database was
/// restored, and what these workflows know of the world is of another time. For an operator who has
/// seen what there is.
pub async fn abandon(tx: &mut Tx, owner_kind: &str, owner_id: &str) -> Result<u64, DatabaseError> {
    store::abandon(tx, owner_kind, owner_id).await
}
