//! A workflow whose steps do what a row says, and everything to watch it by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloud_types::{Fault, WorkflowId};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, DatabaseError, Migration, MigrationSet, Origin, Tx, params};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use workflow_engine::{
    End, Engine, EngineConfig, EventKey, Outcome, Start, Step, Workflow, WorkflowView,
};

/// What the steps write, and what they look at.
pub const TABLES: MigrationSet = MigrationSet {
    service: "probe",
    migrations: &[Migration {
        number: 1,
        name: "probe",
        sql: "CREATE TABLE done (
                  owner TEXT NOT NULL, what TEXT NOT NULL, epoch BIGINT NOT NULL,
                  PRIMARY KEY (owner, what));
              CREATE TABLE flags (owner TEXT NOT NULL, flag TEXT NOT NULL,
                  PRIMARY KEY (owner, flag))",
    }],
};

/// What a step is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Fails with a fault.
    Fail,
    /// Waits until the flag `go` is set; looks again after an hour.
    WaitForGo,
    /// Asks to be run again in a minute, once.
    RetryOnce,
    /// Stops in the middle of its transaction, once; on PostgreSQL only.
    HoldOnce,
    /// Has a statement that cannot work run at the end of its transaction.
    BreakTheEnd,
    /// Fails for the first so many tries.
    FailTimes(u32),
}

/// Three steps, `a`, `b`, `c`; from `c` there is only forward.
#[derive(Clone, Default)]
pub struct Probe {
    /// What steps do other than succeed; `undo b` is the undoing of `b`.
    pub plans: Arc<Mutex<HashMap<&'static str, Plan>>>,
    /// How often steps ran.
    pub runs: Arc<AtomicU32>,
    /// Told when a step with [`Plan::HoldOnce`] has begun, and tells it to go on.
    pub held: Arc<(Notify, Notify)>,
}

/// Whose workflow it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    pub owner: String,
    /// What was decided: the order of the steps.
    pub trail: Vec<String>,
}

impl Probe {
    /// A probe with one plan.
    pub fn with(step: &'static str, plan: Plan) -> Self {
        let probe = Probe::default();
        probe.plan(step, Some(plan));
        probe
    }

    pub fn plan(&self, step: &'static str, plan: Option<Plan>) {
        let mut plans = self.plans.lock().unwrap();
        match plan {
            Some(plan) => plans.insert(step, plan),
            None => plans.remove(step),
        };
    }

    async fn act(
        &self,
        tx: &mut Tx,
        what: &'static str,
        attempt: u32,
        epoch: u64,
        state: &mut State,
    ) -> Result<Outcome, Fault> {
        self.runs.fetch_add(1, Ordering::SeqCst);
        state.trail.push(what.to_owned());
        let hold = {
            let mut plans = self.plans.lock().unwrap();
            plans.get(what) == Some(&Plan::HoldOnce) && plans.remove(what).is_some()
        };
        if hold {
            self.held.0.notify_one();
            self.held.1.notified().await;
        }
        // Before the plan: what a failed try did must be taken back with it.
        tx.execute(
            "INSERT INTO done (owner, what, epoch) VALUES ($1, $2, $3)
             ON CONFLICT (owner, what) DO UPDATE SET epoch = excluded.epoch",
            &params![state.owner, what, epoch],
        )
        .await?;
        let plan = self.plans.lock().unwrap().get(what).copied();
        match plan {
            Some(Plan::Fail) => Err(Fault::conflict(format!("{what} was told to fail"))),
            Some(Plan::FailTimes(times)) if attempt <= times => {
                Err(Fault::unavailable(format!("{what} failed for the {attempt}. time")))
            }
            Some(Plan::BreakTheEnd) => {
                tx.defer(50, "UPDATE no_such_table SET nothing = 1", &[]);
                Ok(Outcome::Done)
            }
            Some(Plan::RetryOnce) if attempt == 1 => {
                Ok(Outcome::Retry { after: Duration::from_secs(60), why: "told to".to_owned() })
            }
            Some(Plan::WaitForGo) => {
                let go = tx
                    .query_opt(
                        "SELECT flag FROM flags WHERE owner = $1 AND flag = 'go'",
                        &params![state.owner],
                    )
                    .await?;
                if go.is_some() {
                    return Ok(Outcome::Done);
                }
                let event = EventKey::new("probe", &state.owner);
                Ok(Outcome::Wait { event, timeout: Duration::from_secs(3600) })
            }
            _ => Ok(Outcome::Done),
        }
    }
}

macro_rules! step {
    ($name:literal, $undo:literal, $progress:literal) => {
        Step::<Self>::new($name, $progress, concat!("Doing ", $name))
            .forward(|probe, c, state| {
                Box::pin(async move { probe.act(c.tx, $name, c.attempt, c.epoch, state).await })
            })
            .undo(|probe, c, state| {
                Box::pin(async move {
                    c.tx.execute(
                        "DELETE FROM done WHERE owner = $1 AND what = $2",
                        &params![state.owner, $name],
                    )
                    .await?;
                    probe.act(c.tx, $undo, c.attempt, c.epoch, state).await
                })
            })
    };
}

impl Workflow for Probe {
    const KIND: &'static str = "probe";
    const VERSION: u32 = 1;
    type State = State;

    fn steps(&self) -> Vec<Step<Self>> {
        vec![step!("a", "undo a", 10), step!("b", "undo b", 40), step!("c", "undo c", 80)]
    }

    fn point_of_no_return(&self) -> Option<&'static str> {
        Some("c")
    }

    fn deadline(&self) -> (Duration, &'static str) {
        (Duration::from_secs(7200), "two of its waits")
    }

    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c State,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            let flag = match end {
                End::Succeeded => "succeeded",
                End::Undone { .. } => "undone",
                End::Cancelled => "cancelled",
            };
            tx.execute(
                "INSERT INTO flags (owner, flag) VALUES ($1, $2)",
                &params![state.owner, flag],
            )
            .await?;
            Ok(())
        })
    }
}

/// Starts a probe for an owner.
pub async fn start(db: &Database, probe: &Probe, owner: &str) -> WorkflowId {
    let (probe, owner) = (probe.clone(), owner.to_owned());
    db.transact(&Origin::system("test"), move |tx| {
        let (probe, owner) = (probe.clone(), owner.clone());
        Box::pin(async move {
            let start = Start {
                state: State { owner: owner.clone(), trail: Vec::new() },
                owner_kind: "probe",
                owner_id: owner,
                project: None,
                request_id: "req-1".to_owned(),
            };
            workflow_engine::start(tx, &probe, start).await
        })
    })
    .await
    .unwrap()
}

/// Sets the flag `go` of an owner, and wakes its workflow.
pub async fn go(db: &Database, owner: &str) {
    let owner = owner.to_owned();
    db.transact(&Origin::system("test"), move |tx| {
        let owner = owner.clone();
        Box::pin(async move {
            tx.execute("INSERT INTO flags (owner, flag) VALUES ($1, 'go')", &params![owner])
                .await?;
            workflow_engine::wake(tx, &EventKey::new("probe", &owner)).await
        })
    })
    .await
    .unwrap();
}

pub async fn view(db: &Database, id: WorkflowId) -> WorkflowView {
    db.read(move |tx| Box::pin(async move { workflow_engine::get(tx, &id).await }))
        .await
        .unwrap()
        .unwrap()
}

/// What an owner's steps have left, by name.
pub async fn done(db: &Database, owner: &str) -> Vec<String> {
    let owner = owner.to_owned();
    db.read(move |tx| {
        let owner = owner.clone();
        Box::pin(async move {
            let rows = tx
                .query("SELECT what FROM done WHERE owner = $1 ORDER BY what", &params![owner])
                .await?;
            rows.iter().map(|row| row.text("what")).collect::<Result<Vec<_>, DatabaseError>>()
        })
    })
    .await
    .unwrap()
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for the end of a workflow.
pub async fn ended(db: &Database, id: WorkflowId) -> WorkflowView {
    until("the workflow ends", async || view(db, id).await.status.has_ended()).await;
    view(db, id).await
}

/// An engine that knows the probe.
pub fn engine(db: &Database, probe: &Probe) -> Engine {
    let engine = Engine::new(db.clone(), EngineConfig::default());
    engine.register(Arc::new(probe.clone()));
    engine
}

/// An engine that runs until dropped.
pub struct Running(pub CancellationToken, pub tokio::task::JoinHandle<()>);

impl Running {
    pub fn start(db: &Database, probe: &Probe) -> Self {
        let (engine, token) = (engine(db, probe), CancellationToken::new());
        let shutdown = token.clone();
        Running(token, tokio::spawn(async move { engine.run(shutdown).await }))
    }

    pub async fn stop(self) {
        self.0.cancel();
        self.1.await.unwrap();
    }
}

/// Both databases, with the tables.
pub async fn databases() -> Vec<TestDatabase> {
    database::test_support::databases(&[workflow_engine::MIGRATIONS, TABLES]).await
}
