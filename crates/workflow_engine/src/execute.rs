//! One step of one workflow, in one transaction: check the lease, run the step, write what came
//! of it.
//!
//! A fault of the step takes back what the step changed, so it is recorded by a second
//! transaction, which checks the lease again.

use std::sync::Arc;
use std::time::Duration;

use cloud_types::{Fault, Timestamp, WorkflowId};
use database::{Backend, Database, DatabaseError, JournalEntry, Origin, Tx};

use crate::model::{Direction, Status, Turn, UNDO_ATTEMPTS, pause, turn};
use crate::runner::{Runner, StepLabel};
use crate::step::{End, Outcome, StepContext};
use crate::store::{self, Happened, Progressed, WorkflowRow};

/// What the worker does next with the workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run its next step: the lease is still ours.
    Continue,
    /// Run this step once more, now that its wait is registered, after everybody who may have
    /// fired the event before that has ended.
    LookAgain,
    /// Leave it: it waits, has ended, or belongs to somebody else.
    Leave,
}

/// What a test does to a step. Nobody interferes but tests.
#[cfg_attr(not(feature = "test_support"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interference {
    /// Nothing happens.
    None,
    /// The step fails as if by itself.
    Fail,
    /// The step's outcome is lost after it was carried out: it runs again.
    Repeat,
    /// The worker dies before its transaction is stored.
    Die,
}

/// Asks for interference: (step, direction, outcome; `None` before the step runs).
pub(crate) type Interfere =
    Arc<dyn Fn(&'static str, Direction, Option<&Outcome>) -> Interference + Send + Sync>;

/// What it takes to run steps.
#[derive(Clone)]
pub(crate) struct Executor {
    pub db: Database,
    /// This worker's name, different each time the process starts.
    pub owner: String,
    pub lease: Duration,
    pub interfere: Option<Interfere>,
}

/// Why a step's transaction is not stored.
enum Stopped {
    /// The step itself failed.
    Fault { fault: Fault, epoch: u64 },
    /// The lease is somebody else's.
    LostLease,
    /// The database failed; the step runs again.
    Database(DatabaseError),
    /// A test killed the worker.
    Died,
}

impl From<DatabaseError> for Stopped {
    fn from(error: DatabaseError) -> Self {
        Stopped::Database(error)
    }
}

/// Why [`Executor::step`] has no [`Next`].
#[derive(Debug)]
pub(crate) enum StepError {
    /// The database failed; try again later.
    Database(DatabaseError),
    /// A test killed the worker.
    Died,
}

impl Executor {
    /// Runs the next step of the workflow. `epoch` is the lease that this worker holds, or `None`
    /// to take one.
    pub async fn step(
        &self,
        runner: &Arc<dyn Runner>,
        id: WorkflowId,
        epoch: Option<u64>,
    ) -> Result<(Next, Option<u64>), StepError> {
        let epoch = match epoch {
            Some(epoch) => Some(epoch),
            // On SQLite the lease is taken by the step's own transaction, which saves a commit.
            // On PostgreSQL that would hold the row while the step waits for other locks.
            None if self.db.backend() == Backend::Postgres => match self.claim(id).await {
                Ok(Some(epoch)) => Some(epoch),
                Ok(None) => return Ok((Next::Leave, None)),
                Err(error) => return Err(StepError::Database(error)),
            },
            None => None,
        };
        let (this, runner_copy) = (self.clone(), runner.clone());
        let result = self
            .db
            .transact(&Origin::system(&self.owner), move |tx| {
                let (this, runner) = (this.clone(), runner_copy.clone());
                Box::pin(async move { this.attempt(tx, runner.as_ref(), id, epoch).await })
            })
            .await;
        match result {
            Ok((next, epoch)) => Ok((next, Some(epoch))),
            Err(Stopped::LostLease) => Ok((Next::Leave, None)),
            Err(Stopped::Database(error)) => Err(StepError::Database(error)),
            Err(Stopped::Died) => Err(StepError::Died),
            Err(Stopped::Fault { fault, epoch: seen }) => {
                let (this, runner) = (self.clone(), runner.clone());
                let result = self
                    .db
                    .transact(&Origin::system(&self.owner), move |tx| {
                        let (this, runner, fault) = (this.clone(), runner.clone(), fault.clone());
                        Box::pin(async move {
                            this.failed(tx, runner.as_ref(), id, epoch, seen, &fault).await
                        })
                    })
                    .await;
                match result {
                    Ok((next, epoch)) => Ok((next, Some(epoch))),
                    Err(Stopped::LostLease) => Ok((Next::Leave, None)),
                    Err(Stopped::Database(error)) => Err(StepError::Database(error)),
                    Err(Stopped::Died) => Err(StepError::Died),
                    // Recording a fault runs no step.
                    Err(Stopped::Fault { fault, .. }) => {
                        Err(StepError::Database(DatabaseError::Misuse(fault.message)))
                    }
                }
            }
        }
    }

    async fn claim(&self, id: WorkflowId) -> Result<Option<u64>, DatabaseError> {
        let this = self.clone();
        self.db
            .transact(&Origin::system(&self.owner), move |tx| {
                let this = this.clone();
                Box::pin(async move {
                    let until = tx.now().after(this.lease);
                    let row = store::claim(tx, &id, &this.owner, until).await?;
                    Ok(row.map(|row| row.lease_epoch))
                })
            })
            .await
    }

    /// Waits until every transaction that fired the event that the workflow now waits for has
    /// ended. Needed on PostgreSQL only.
    pub async fn settle(&self, id: WorkflowId) -> Result<(), DatabaseError> {
        self.db
            .transact(&Origin::system(&self.owner), move |tx| {
                Box::pin(async move {
                    let row = store::get(tx, &id).await?;
                    if let Some(event) = row.and_then(|row| row.wait_event) {
                        store::barrier(tx, &event).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Gives the lease back, at shutdown.
    pub async fn release(&self, id: WorkflowId, epoch: u64) -> Result<(), DatabaseError> {
        self.db
            .transact(&Origin::system(&self.owner), move |tx| {
                Box::pin(async move { store::release(tx, &id, epoch).await })
            })
            .await
    }

    /// The row under this worker's lease.
    async fn held(
        &self,
        tx: &mut Tx,
        id: WorkflowId,
        epoch: Option<u64>,
    ) -> Result<WorkflowRow, Stopped> {
        let row = match epoch {
            None => store::claim(tx, &id, &self.owner, tx.now().after(self.lease)).await?,
            Some(epoch) => store::get(tx, &id)
                .await?
                .filter(|row| row.lease_epoch == epoch && !row.view.status.has_ended()),
        };
        row.ok_or(Stopped::LostLease)
    }

    async fn attempt(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        id: WorkflowId,
        epoch: Option<u64>,
    ) -> Result<(Next, u64), Stopped> {
        let row = self.held(tx, id, epoch).await?;
        let epoch = row.lease_epoch;
        tx.set_origin(Origin {
            request_id: row.view.request_id.clone(),
            actor: row.actor.clone(),
            project: row.view.project.clone(),
        });
        let deadline = row.view.deadline;
        let now = tx.now();
        match turn(row.view.direction, row.forward_only, row.view.cancel_requested, deadline, now) {
            Turn::GoOn => {}
            Turn::Cancel => return self.turn_around(tx, runner, &row, None).await,
            Turn::Overdue => {
                let (limit, reason) = runner.deadline();
                let fault = Fault::timeout(format!(
                    "The work was not finished within {} ({reason}); it was given up while: {}. \
                     What had been done was undone.",
                    spell(limit),
                    row.view.sentence,
                ));
                return self.turn_around(tx, runner, &row, Some(fault)).await;
            }
        }
        let index = self.index(runner, &row)?;
        let label = runner.steps()[index];
        let failed = |fault: Fault| Stopped::Fault { fault, epoch };
        self.interfered(label.name, row.view.direction, None, epoch)?;
        let context = StepContext {
            workflow: id,
            step: label.name,
            attempt: row.view.attempt,
            epoch,
            deadline,
            request_id: row.view.request_id.clone(),
            tx,
        };
        let result = runner.run(index, row.view.direction, context, &row.state).await;
        let (mut outcome, state) = match result {
            Ok(done) => done,
            Err(fault) => return Err(self.cause(tx, fault, epoch)),
        };
        if self.interfered(label.name, row.view.direction, Some(&outcome), epoch)? {
            outcome = Outcome::Retry {
                after: Duration::ZERO,
                why: "its outcome was lost, for a test".to_owned(),
            };
        }
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
                    ..self.unchanged(&row, &state)
                };
                self.write(tx, &row, epoch, "waiting", event.as_str(), to).await?;
                Ok((if look_again { Next::LookAgain } else { Next::Leave }, epoch))
            }
            Outcome::Retry { after, why } => {
                let to = Progressed {
                    attempt: row.view.attempt.saturating_add(1),
                    due_at: now.after(after),
                    ..self.unchanged(&row, &state)
                };
                self.write(tx, &row, epoch, "retry", &why, to).await?;
                Ok((Next::Leave, epoch))
            }
            Outcome::Done => match row.view.direction {
                Direction::Forward if index + 1 < runner.steps().len() => {
                    let next = index + 1;
                    let forward_only = runner.point_of_no_return().is_some_and(|p| next >= p);
                    let to = Progressed {
                        forward_only,
                        ..self.moved(&row, &state, runner.steps()[next], next, Direction::Forward)
                    };
                    self.write(tx, &row, epoch, "done", "", to).await?;
                    Ok((Next::Continue, epoch))
                }
                Direction::Undo if index > 0 => {
                    let to = self.moved(
                        &row,
                        &state,
                        runner.steps()[index - 1],
                        index - 1,
                        Direction::Undo,
                    );
                    self.write(tx, &row, epoch, "done", "", to).await?;
                    Ok((Next::Continue, epoch))
                }
                direction => {
                    let end = match (direction, row.view.fault.clone()) {
                        (Direction::Forward, _) => End::Succeeded,
                        (Direction::Undo, Some(fault)) => End::Undone { fault },
                        (Direction::Undo, None) => End::Cancelled,
                    };
                    if let Err(fault) = runner.finished(tx, &state, &end).await {
                        return Err(match self.cause(tx, fault, epoch) {
                            Stopped::Fault { fault, .. } => failed(fault),
                            other => other,
                        });
                    }
                    self.end(tx, &row, &state, epoch, &end).await?;
                    Ok((Next::Leave, epoch))
                }
            },
        }
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
    async fn turn_around(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        row: &WorkflowRow,
        fault: Option<Fault>,
    ) -> Result<(Next, u64), Stopped> {
        let index = self.index(runner, row)?;
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
    async fn failed(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        id: WorkflowId,
        epoch: Option<u64>,
        seen: u64,
        fault: &Fault,
    ) -> Result<(Next, u64), Stopped> {
        let row = self.held(tx, id, epoch).await?;
        // The lease that the failed transaction took was rolled back with it; the one taken now
        // has the same number, unless somebody else was faster.
        if row.lease_epoch != seen {
            return Err(Stopped::LostLease);
        }
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
        };
        store::record(tx, &row.view.id, &happened).await?;
        if store::progress(tx, &row.view.id, epoch, &to).await? {
            Ok(())
        } else {
            Err(Stopped::LostLease)
        }
    }

    /// The place of the row's step in this release's list.
    fn index(&self, runner: &dyn Runner, row: &WorkflowRow) -> Result<usize, Stopped> {
        runner.steps().iter().position(|label| label.name == row.view.step).ok_or_else(|| {
            DatabaseError::Misuse(format!(
                "workflow {} of kind {} version {} is at step {}, which this release does \
                     not have: its steps changed without a new version",
                row.view.id, row.view.kind, row.view.version, row.view.step
            ))
            .into()
        })
    }

    /// Tells a step's own fault from a failure of the database that it passed on.
    fn cause(&self, tx: &Tx, fault: Fault, epoch: u64) -> Stopped {
        match tx.failure() {
            Some(
                error @ (DatabaseError::Conflict(_)
                | DatabaseError::Locked(_)
                | DatabaseError::ReadOnly(_)
                | DatabaseError::Unreachable(_)
                | DatabaseError::Full(_)
                | DatabaseError::Io(_)
                | DatabaseError::Unknown(_)
                | DatabaseError::Closed),
            ) => Stopped::Database(error.clone()),
            _ => Stopped::Fault { fault, epoch },
        }
    }

    /// Asks the test, if there is one. True: the outcome is to be lost.
    fn interfered(
        &self,
        step: &'static str,
        direction: Direction,
        outcome: Option<&Outcome>,
        epoch: u64,
    ) -> Result<bool, Stopped> {
        let Some(interfere) = &self.interfere else {
            return Ok(false);
        };
        match interfere(step, direction, outcome) {
            Interference::None => Ok(false),
            Interference::Repeat => Ok(true),
            Interference::Die => Err(Stopped::Died),
            Interference::Fail => Err(Stopped::Fault {
                fault: Fault::internal(format!("A test made step {step} fail.")),
                epoch,
            }),
        }
    }
}

fn spell(limit: Duration) -> String {
    match limit.as_secs() {
        seconds if seconds >= 7200 => format!("{} hours", seconds / 3600),
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}
