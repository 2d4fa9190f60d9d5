//! One step of one workflow, in one transaction: check the lease, run the step, write what came
//! of it.
//!
//! A fault of the step takes back what the step changed, so it is recorded by a second
//! transaction, which checks the lease again.

use std::sync::Arc;
use std::time::Duration;

use cloud_types::{Fault, WorkflowId};
use database::{Backend, Database, DatabaseError, Origin, Tx};
use kill_points::point;
use planted_bugs::planted;

use crate::interfere::{Interfere, Interference};
use crate::model::{Direction, Turn, turn};
use crate::runner::Runner;
use crate::step::{Outcome, StepContext};
use crate::store::{self, WorkflowRow};

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

/// What it takes to run steps.
#[derive(Clone)]
pub(crate) struct Executor {
    pub db: Database,
    /// This worker's name, different each time the process starts.
    pub owner: String,
    pub lease: Duration,
    pub interfere: Option<Interfere>,
}

/// What a step was and came to, told to the log once it is stored.
struct Told {
    kind: String,
    owner: String,
    request_id: String,
    step: &'static str,
    direction: Direction,
    outcome: &'static str,
}

/// Why a step's transaction is not stored.
pub(crate) enum Stopped {
    /// The step itself failed, under this epoch.
    Fault { fault: Fault, epoch: u64 },
    /// The lease is somebody else's.
    LostLease,
    /// The database failed; the step runs again.
    Database(DatabaseError),
    /// A test killed the worker.
    Died,
}

impl Told {
    /// One line a step: where the time of a long operation went, under the request that began it.
    fn log(&self, workflow: WorkflowId, took: Duration) {
        tracing::info!(
            target: "workflow",
            %workflow,
            kind = self.kind,
            owner = self.owner,
            step = self.step,
            direction = self.direction.as_str(),
            outcome = self.outcome,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            request_id = self.request_id,
            "step"
        );
    }
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
        let begun = std::time::Instant::now();
        let (this, runner_copy) = (self.clone(), runner.clone());
        let result = self
            .db
            .transact(&Origin::system(&self.owner), move |tx| {
                let (this, runner) = (this.clone(), runner_copy.clone());
                Box::pin(async move { this.attempt(tx, runner.as_ref(), id, epoch).await })
            })
            .await;
        let (fault, seen) = match result {
            Ok((next, epoch, told)) => {
                point(format_args!("region.step.committed"));
                if let Some(told) = told {
                    told.log(id, begun.elapsed());
                }
                return Ok((next, Some(epoch)));
            }
            Err(Stopped::LostLease) => return Ok((Next::Leave, None)),
            Err(Stopped::Died) => return Err(StepError::Died),
            Err(Stopped::Database(error)) if passes(&error) => {
                return Err(StepError::Database(error));
            }
            // A mistake in a statement comes back every time: it is the step's failure.
            Err(Stopped::Database(error)) => (Fault::from(error), None),
            Err(Stopped::Fault { fault, epoch }) => (fault, Some(epoch)),
        };
        let (this, runner) = (self.clone(), runner.clone());
        let result = self
            .db
            .transact(&Origin::system(&self.owner), move |tx| {
                let (this, runner, fault) = (this.clone(), runner.clone(), fault.clone());
                Box::pin(
                    async move { this.failed(tx, runner.as_ref(), id, epoch, seen, &fault).await },
                )
            })
            .await;
        match result {
            Ok((next, epoch)) => Ok((next, Some(epoch))),
            Err(Stopped::LostLease) => Ok((Next::Leave, None)),
            Err(Stopped::Died) => Err(StepError::Died),
            Err(Stopped::Database(error)) => Err(StepError::Database(error)),
            // Recording a fault runs no step.
            Err(Stopped::Fault { fault, .. }) => {
                Err(StepError::Database(DatabaseError::Misuse(fault.message)))
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

    /// Takes every lease away from workers that are known to be gone. One that is not gone after
    /// all cannot write any more once its workflow has been taken: the epoch is checked.
    pub async fn release_all(&self) -> Result<u64, DatabaseError> {
        self.db
            .transact(&Origin::system(&self.owner), move |tx| {
                Box::pin(async move { store::release_all(tx).await })
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
    pub(crate) async fn held(
        &self,
        tx: &mut Tx,
        id: WorkflowId,
        epoch: Option<u64>,
    ) -> Result<WorkflowRow, Stopped> {
        let row = match epoch {
            None => store::claim(tx, &id, &self.owner, tx.now().after(self.lease)).await?,
            Some(epoch) => store::get(tx, &id)
                .await?
                .filter(|row| row.lease_epoch == epoch || planted("skip_lease_epoch"))
                .filter(|row| !row.view.status.has_ended()),
        };
        row.ok_or(Stopped::LostLease)
    }

    async fn attempt(
        &self,
        tx: &mut Tx,
        runner: &dyn Runner,
        id: WorkflowId,
        epoch: Option<u64>,
    ) -> Result<(Next, u64, Option<Told>), Stopped> {
        let untold = |(next, epoch)| (next, epoch, None);
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
            Turn::Cancel => return self.turn_around(tx, runner, &row, None).await.map(untold),
            Turn::Overdue => {
                let (limit, reason) = runner.deadline();
                let fault = Fault::timeout(format!(
                    "The work was not finished within {} ({reason}); it was given up while: {}. \
                     What had been done was undone.",
                    spell(limit),
                    row.view.sentence,
                ));
                return self.turn_around(tx, runner, &row, Some(fault)).await.map(untold);
            }
        }
        let Some(index) = index_of(runner, &row) else {
            return self.park_unknown_step(tx, &row).await.map(untold);
        };
        let label = runner.steps()[index];
        self.interfered(label.name, row.view.direction, None, epoch)?;
        let (kind, direction) = (row.view.kind.as_str(), row.view.direction);
        point(format_args!("region.{kind}.{}.{direction}.before", label.name));
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
            Err(fault) => return Err(cause(tx, fault, epoch)),
        };
        if self.interfered(label.name, row.view.direction, Some(&outcome), epoch)? {
            outcome = Outcome::Retry {
                after: Duration::ZERO,
                why: "its outcome was lost, for a test".to_owned(),
            };
        }
        let told = Told {
            kind: row.view.kind.clone(),
            owner: row.view.owner_id.clone(),
            request_id: row.view.request_id.clone(),
            step: label.name,
            direction: row.view.direction,
            outcome: match &outcome {
                Outcome::Done => "done",
                Outcome::Wait { .. } => "waits",
                Outcome::Retry { .. } => "retry",
            },
        };
        let (next, epoch) = self.decided(tx, runner, &row, index, outcome, &state).await?;
        point(format_args!("region.{kind}.{}.{direction}.committing", label.name));
        Ok((next, epoch, Some(told)))
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

/// The place of the row's step in this release's list.
pub(crate) fn index_of(runner: &dyn Runner, row: &WorkflowRow) -> Option<usize> {
    runner.steps().iter().position(|label| label.name == row.view.step)
}

/// Whether an error of the database goes away by itself, so that the step is to be run again
/// rather than to have failed.
fn passes(error: &DatabaseError) -> bool {
    matches!(
        error,
        DatabaseError::Conflict(_)
            | DatabaseError::Locked(_)
            | DatabaseError::ReadOnly(_)
            | DatabaseError::Unreachable(_)
            | DatabaseError::Full(_)
            | DatabaseError::Io(_)
            | DatabaseError::Unknown(_)
            | DatabaseError::Closed
    )
}

/// Tells a step's own fault from a failure of the database that it passed on.
pub(crate) fn cause(tx: &Tx, fault: Fault, epoch: u64) -> Stopped {
    match tx.failure() {
        Some(error) if passes(error) => Stopped::Database(error.clone()),
        _ => Stopped::Fault { fault, epoch },
    }
}

fn spell(limit: Duration) -> String {
    match limit.as_secs() {
        seconds if seconds >= 7200 => format!("{} hours", seconds / 3600),
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}
