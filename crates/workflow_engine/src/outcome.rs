//! What follows from a step: the next one, a wait, another try, the way back, the end.

use cloud_types::{Fault, Timestamp, WorkflowId};
use database::{Backend, JournalEntry, Tx};
use planted_bugs::planted;

use crate::execute::{Executor, Next, Stopped, cause, index_of};
use crate::model::{Direction, Status, UNDO_ATTEMPTS, pause};
use crate::runner::{Runner, StepLabel};
use crate::step::{End, Outcome};
use crate::store::{self, Happened, Progressed, WorkflowRow};

impl Executor {
    /// Writes what a step came to.
    pub(crate) async fn decided(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        row: &WorkflowRow,
        index: usize,
        outcome: Outcome,
        state: &str,
    ) -> Result<(Next, u64), Stopped> {
        let (epoch, now, deadline) = (row.lease_epoch, tx.now(), row.view.deadline);
        match outcome {
            Outcome::Wait { event, timeout } => {
                // Whoever fired the event before this wait is stored found nobody waiting. On
                // SQLite there is no such time: transactions follow one another.
                let registered = row.wait_event.as_deref() == Some(event.as_str());
                let look_again = tx.backend() == Backend::Postgres && !registered;
                let mut due_at = now.after(timeout);
                if row.view.direction == Direction::Forward && !row.forward_only && deadline > now {
                    due_at = due_at.min(deadline);
                }
                if look_again {
                    due_at = now.after(self.lease);
                }
                let to = Progressed {
                    status: if look_again { Status::Runnable } else { Status::Waiting },
                    wait_event: Some(event.as_str()),
                    keep_lease: look_again,
                    due_at,
                    ..self.unchanged(row, state)
                };
                self.write(tx, row, epoch, "waiting", event.as_str(), to).await?;
                Ok((if look_again { Next::LookAgain } else { Next::Leave }, epoch))
            }
            Outcome::Retry { after, why } => {
                let to = Progressed {
                    attempt: row.view.attempt.saturating_add(1),
                    due_at: now.after(after),
                    ..self.unchanged(row, state)
                };
                self.write(tx, row, epoch, "retry", &why, to).await?;
                Ok((Next::Leave, epoch))
            }
            Outcome::Done => match row.view.direction {
                Direction::Forward if index + 1 < runner.steps().len() => {
                    let next = index + 1;
                    let forward_only = runner.point_of_no_return().is_some_and(|p| next >= p);
                    let to = Progressed {
                        forward_only,
                        ..self.moved(row, state, runner.steps()[next], next, Direction::Forward)
                    };
                    self.write(tx, row, epoch, "done", "", to).await?;
                    Ok((Next::Continue, epoch))
                }
                Direction::Undo if index > 0 => {
                    let to = self.moved(
                        row,
                        state,
                        runner.steps()[index - 1],
                        index - 1,
                        Direction::Undo,
                    );
                    self.write(tx, row, epoch, "done", "", to).await?;
                    Ok((Next::Continue, epoch))
                }
                direction => {
                    let end = match (direction, row.view.fault.clone()) {
                        (Direction::Forward, _) => End::Succeeded,
                        (Direction::Undo, Some(fault)) => End::Undone { fault },
                        (Direction::Undo, None) => End::Cancelled,
                    };
                    if let Err(fault) = runner.finished(tx, state, &end).await {
                        return Err(cause(tx, fault, epoch));
                    }
                    self.end(tx, row, state, epoch, &end).await?;
                    Ok((Next::Leave, epoch))
                }
            },
        }
    }

    /// Sets a workflow aside whose step this release does not have: nobody knows what was done.
    pub(crate) async fn park_unknown_step(
        &self,
        tx: &mut Tx,
        row: &WorkflowRow,
    ) -> Result<(Next, u64), Stopped> {
        let message = format!(
            "Version {} of {} has no step {} in this release: its steps were changed without a new \
             version. Start the release that began it, then resume it.",
            row.view.version, row.view.kind, row.view.step
        );
        tracing::error!(workflow = %row.view.id, message, "a workflow is parked");
        let fault = Fault::internal(message);
        let to = Progressed {
            status: Status::Parked,
            fault: Some(&fault),
            ..self.unchanged(row, &row.state)
        };
        self.write(tx, row, row.lease_epoch, "parked", &fault.message, to).await?;
        Ok((Next::Leave, row.lease_epoch))
    }

    /// Stores that the workflow ended.
    async fn end(
        &self,
        tx: &mut Tx,
        row: &WorkflowRow,
        state: &str,
        epoch: u64,
        end: &End,
    ) -> Result<(), Stopped> {
        let (status, sentence) = match end {
            End::Succeeded => (Status::Succeeded, "Done"),
            End::Undone { .. } => (Status::Undone, "Failed; everything was undone"),
            End::Cancelled => (Status::Cancelled, "Cancelled; everything was undone"),
        };
        let to = Progressed {
            status,
            progress: 100,
            sentence,
            fault: match end {
                End::Undone { fault } => Some(fault),
                _ => None,
            },
            ..self.unchanged(row, state)
        };
        self.write(tx, row, epoch, "done", "", to).await?;
        tx.journal(JournalEntry {
            kind: "workflow",
            id: row.view.id.to_string(),
            project: row.view.project.clone(),
            action: "update",
            before: None,
            after: Some(serde_json::json!({
                "kind": row.view.kind, "owner_kind": row.view.owner_kind,
                "owner_id": row.view.owner_id, "status": status.as_str(),
            })),
        });
        Ok(())
    }

    /// Turns a workflow that goes forward into one that is undone, from its present step back.
    pub(crate) async fn turn_around(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        row: &WorkflowRow,
        fault: Option<Fault>,
    ) -> Result<(Next, u64), Stopped> {
        let Some(index) = index_of(runner, row) else {
            return self.park_unknown_step(tx, row).await;
        };
        let index = match planted("skip_undo_of_failed_step") {
            true => index.saturating_sub(1),
            false => index,
        };
        let (outcome, detail) = match &fault {
            None => ("cancelled", ""),
            Some(fault) => ("failed", fault.message.as_str()),
        };
        let to = Progressed {
            fault: fault.as_ref(),
            ..self.moved(row, &row.state, runner.steps()[index], index, Direction::Undo)
        };
        self.write(tx, row, row.lease_epoch, outcome, detail, to).await?;
        tracing::info!(
            workflow = %row.view.id, kind = row.view.kind, step = row.view.step,
            request_id = row.view.request_id, outcome, detail, "undoing a workflow"
        );
        Ok((Next::Continue, row.lease_epoch))
    }

    /// Records that a step failed, and decides what follows.
    pub(crate) async fn failed(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        id: WorkflowId,
        epoch: Option<u64>,
        seen: Option<u64>,
        fault: &Fault,
    ) -> Result<(Next, u64), Stopped> {
        let row = self.held(tx, id, epoch).await?;
        // The lease that the failed transaction took was rolled back with it; the one taken now
        // has the same number, unless somebody else was faster.
        if seen.is_some_and(|seen| seen != row.lease_epoch) {
            return Err(Stopped::LostLease);
        }
        let seen = row.lease_epoch;
        let now = tx.now();
        let attempt = row.view.attempt;
        let later = now.after(pause(attempt, tx.random_u64()));
        let retry = Progressed {
            attempt: attempt.saturating_add(1),
            due_at: later,
            ..self.unchanged(&row, &row.state)
        };
        match row.view.direction {
            Direction::Forward if !row.forward_only => {
                self.turn_around(tx, runner, &row, Some(fault.clone())).await
            }
            Direction::Forward => {
                tracing::warn!(
                    workflow = %id, kind = row.view.kind, step = row.view.step, attempt, %fault,
                    "a step past the point of no return failed and is tried again"
                );
                let to = Progressed { fault: Some(fault), ..retry };
                self.write(tx, &row, seen, "failed", &fault.message, to).await?;
                Ok((Next::Leave, seen))
            }
            Direction::Undo => {
                let park = attempt >= UNDO_ATTEMPTS;
                tracing::error!(
                    workflow = %id, kind = row.view.kind, step = row.view.step, attempt, %fault,
                    parked = park, "undoing a step failed"
                );
                let to = Progressed {
                    status: if park { Status::Parked } else { Status::Runnable },
                    ..retry
                };
                self.write(tx, &row, seen, "failed", &fault.message, to).await?;
                Ok((Next::Leave, seen))
            }
        }
    }

    /// A row's next values when nothing changes but what the caller names: the lease is given
    /// back, the workflow is due at once.
    fn unchanged<'a>(&self, row: &'a WorkflowRow, state: &'a str) -> Progressed<'a> {
        Progressed {
            status: Status::Runnable,
            direction: row.view.direction,
            step_index: row.view.step_index,
            step: &row.view.step,
            attempt: row.view.attempt,
            forward_only: row.forward_only,
            progress: row.view.progress,
            sentence: &row.view.sentence,
            fault: match row.view.direction {
                // A fault past the point of no return is over once the step goes on.
                Direction::Forward => None,
                Direction::Undo => row.view.fault.as_ref(),
            },
            state,
            wait_event: None,
            keep_lease: false,
            due_at: Timestamp(0),
            signals: row.signals,
        }
    }

    /// A row's next values when another step is next, by the same worker.
    fn moved<'a>(
        &self,
        row: &'a WorkflowRow,
        state: &'a str,
        label: StepLabel,
        index: usize,
        direction: Direction,
    ) -> Progressed<'a> {
        Progressed {
            direction,
            step_index: u32::try_from(index).unwrap_or(u32::MAX),
            step: label.name,
            attempt: 1,
            progress: match direction {
                Direction::Forward => label.progress,
                Direction::Undo => row.view.progress,
            },
            sentence: match direction {
                Direction::Forward => label.sentence,
                Direction::Undo => "Undoing what was done",
            },
            keep_lease: true,
            due_at: self.db.clock().now().after(self.lease),
            ..self.unchanged(row, state)
        }
    }

    async fn write(
        &self,
        tx: &mut Tx,
        row: &WorkflowRow,
        epoch: u64,
        outcome: &'static str,
        detail: &str,
        to: Progressed<'_>,
    ) -> Result<(), Stopped> {
        let happened = Happened {
            direction: row.view.direction,
            step_index: row.view.step_index,
            step: &row.view.step,
            outcome,
            detail,
            epoch,
            worker: &self.owner,
        };
        store::record(tx, &row.view.id, &happened).await?;
        if store::progress(tx, &row.view.id, epoch, &to).await? {
            Ok(())
        } else {
            Err(Stopped::LostLease)
        }
    }
}
