//! The worker of a process: takes workflows that are due and runs their steps, several at once.
//!
//! It sleeps until it is told of work, or until the nearest moment that is written in the
//! database (a timeout, a retry, a lease that runs out).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloud_types::{Timestamp, WorkflowId};
use database::{Database, DatabaseError, Notification, Origin};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::execute::{Executor, Next, StepError};
use crate::interfere::Interfere;
use crate::requests::CHANNEL;
use crate::runner::{Registered, Runner};
use crate::step::Workflow;
use crate::store;

/// The longest sleep, should the clock jump or a notification be lost.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// How long what has ended is kept.
const KEEP_ENDED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often what is too old is deleted.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// The first and longest pause after the database failed.
const DATABASE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How a worker works.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Names the worker in rows and logs; the process's own part is added.
    pub worker: String,
    /// How long a workflow belongs to a worker that is not heard of any more. Longer than any
    /// step's transaction takes.
    pub lease: Duration,
    /// How many workflows run at once.
    pub concurrency: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            worker: "worker".to_owned(),
            lease: Duration::from_secs(30),
            concurrency: 16,
        }
    }
}

/// Runs workflows. Register every kind first, then [`Engine::run`].
#[derive(Clone)]
pub struct Engine {
    executor: Executor,
    concurrency: usize,
    runners: Arc<Mutex<Runners>>,
}

/// What is known, by kind and version.
type Runners = HashMap<(String, u32), Arc<dyn Runner>>;

/// What a look at the table found.
struct Look {
    due: Vec<(WorkflowId, Option<Arc<dyn Runner>>)>,
    /// There is more than there was room for.
    more: bool,
    /// The moment of the look.
    at: Timestamp,
}

impl Engine {
    /// A worker that knows no kinds yet.
    pub fn new(db: Database, config: EngineConfig) -> Self {
        let owner = format!("{}-{}", config.worker, uuid::Uuid::new_v4().simple());
        Engine {
            executor: Executor { db, owner, lease: config.lease, interfere: None },
            concurrency: config.concurrency.max(1),
            runners: Arc::default(),
        }
    }

    /// Lets a test interfere with every step.
    #[cfg_attr(not(feature = "test_support"), allow(dead_code))]
    pub(crate) fn with_interference(mut self, interfere: Interfere) -> Self {
        self.executor.interfere = Some(interfere);
        self
    }

    /// Makes a kind known, in one version. Panics when its list of steps is not sound, which is a
    /// mistake in the code.
    pub fn register<W: Workflow>(&self, workflow: Arc<W>) {
        let registered = match Registered::new(workflow) {
            Ok(registered) => registered,
            Err(mistake) => panic!("{mistake}"),
        };
        let mut runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        runners.insert((W::KIND.to_owned(), W::VERSION), Arc::new(registered));
    }

    /// The name under which this worker holds leases, different each time the process starts.
    pub fn owner(&self) -> &str {
        &self.executor.owner
    }

    /// The kinds of workflows that are known.
    pub fn kinds(&self) -> Vec<String> {
        let runners = self.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds: Vec<String> = runners.keys().map(|(kind, _)| kind.clone()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// Ends the leases of all workers there were. For a process that knows itself to be the only
    /// one on its database: what its predecessor was killed at goes on at once, and not when the
    /// lease runs out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn succeed_all(&self) -> Result<u64, DatabaseError> {
        self.executor.release_all().await
    }

    /// Works until `shutdown`; then finishes the steps under way and gives its leases back.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut changes = self.executor.db.subscribe(CHANNEL);
        let (done, mut finished) = mpsc::unbounded_channel::<WorkflowId>();
        // Running workflows; true when something was said of one meanwhile.
        let mut running: HashMap<WorkflowId, bool> = HashMap::new();
        let mut next_prune = Instant::now();
        // Whether to look for what is due; whether there was more than could be begun; up to
        // when the last look saw; whether the alarm must be set anew.
        let (mut scan, mut full, mut seen, mut set_alarm) = (true, false, Timestamp(0), false);
        let mut alarm = Instant::now();
        while !shutdown.is_cancelled() {
            if scan {
                match self.due(&mut running).await {
                    Ok(look) => {
                        for (id, runner) in look.due {
                            self.spawn(&mut running, id, runner, &done, &shutdown);
                        }
                        (scan, full, seen, set_alarm) = (false, look.more, look.at, true);
                    }
                    Err(error) => {
                        tracing::error!(%error, "cannot look for work");
                        (alarm, set_alarm) = (Instant::now() + DATABASE_PAUSE.1, false);
                    }
                }
            }
            if set_alarm {
                set_alarm = false;
                alarm = Instant::now() + self.sleep(seen).await;
            }
            if next_prune <= Instant::now() {
                next_prune = Instant::now() + PRUNE_EVERY;
                self.prune().await;
                self.name_unknown_kinds().await;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep_until(alarm) => scan = true,
                Some(id) = finished.recv() => {
                    let dirty = running.remove(&id) == Some(true);
                    scan |= full || dirty;
                    set_alarm = true;
                }
                change = changes.recv() => {
                    let mut next = Some(change);
                    while let Some(change) = next {
                        scan |= !self.told(change, &mut running, &done, &shutdown);
                        next = changes.try_recv();
                    }
                }
            }
        }
        while !running.is_empty() {
            match finished.recv().await {
                Some(id) => running.remove(&id),
                None => break,
            };
        }
    }

    /// Acts on a notification. False when a scan is needed to know what it means.
    fn told(
        &self,
        change: Notification,
        running: &mut HashMap<WorkflowId, bool>,
        done: &mpsc::UnboundedSender<WorkflowId>,
        shutdown: &CancellationToken,
    ) -> bool {
        let Notification::Key(key) = change else {
            return false;
        };
        // A new workflow of the one kind that this can be: try to run it at once.
        let Ok(id) = key.parse::<WorkflowId>() else {
            return false;
        };
        if let Some(dirty) = running.get_mut(&id) {
            *dirty = true;
            return true;
        }
        if running.len() >= self.concurrency {
            return false;
        }
        self.spawn(running, id, None, done, shutdown);
        true
    }

    fn spawn(
        &self,
        running: &mut HashMap<WorkflowId, bool>,
        id: WorkflowId,
        runner: Option<Arc<dyn Runner>>,
        done: &mpsc::UnboundedSender<WorkflowId>,
        shutdown: &CancellationToken,
    ) {
        running.insert(id, false);
        let (engine, done, shutdown) = (self.clone(), done.clone(), shutdown.clone());
        tokio::spawn(async move {
            engine.work(id, runner, &shutdown).await;
            // Nobody listens once the engine has stopped.
            let _ = done.send(id);
        });
    }

    /// Runs steps of one workflow for as long as there are any to run.
    async fn work(
        &self,
        id: WorkflowId,
        runner: Option<Arc<dyn Runner>>,
        shutdown: &CancellationToken,
    ) {
        let (mut epoch, mut pause) = (None, DATABASE_PAUSE.0);
        let mut runner = runner;
        loop {
            if shutdown.is_cancelled() {
                if let Some(epoch) = epoch
                    && let Err(error) = self.executor.release(id, epoch).await
                {
                    tracing::warn!(%error, workflow = %id, "a lease runs out by itself");
                }
                return;
            }
            match self.once(id, &mut runner, epoch).await {
                Ok((Next::Leave, _)) => return,
                Ok((_, held)) => {
                    epoch = held;
                    pause = DATABASE_PAUSE.0;
                }
                Err(StepError::Died) => return,
                Err(StepError::Database(error)) => {
                    tracing::error!(%error, workflow = %id, "a step is run again: the database failed");
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(DATABASE_PAUSE.1);
                }
            }
        }
    }

    /// One step, and what must follow it at once.
    async fn once(
        &self,
        id: WorkflowId,
        runner: &mut Option<Arc<dyn Runner>>,
        epoch: Option<u64>,
    ) -> Result<(Next, Option<u64>), StepError> {
        let known = match runner {
            Some(known) => known.clone(),
            None => match self.find(id).await.map_err(StepError::Database)? {
                Some(known) => runner.insert(known).clone(),
                None => return Ok((Next::Leave, None)),
            },
        };
        let (next, epoch) = self.executor.step(&known, id, epoch).await?;
        if next == Next::LookAgain {
            self.executor.settle(id).await.map_err(StepError::Database)?;
        }
        Ok((next, epoch))
    }

    /// Runs everything that is due, and what becomes due by that, one after the other on the
    /// caller's task: for tests and the simulation. Returns when the next thing becomes due.
    pub async fn run_until_idle(&self) -> Result<Option<Timestamp>, DatabaseError> {
        loop {
            let look = self.due(&mut HashMap::new()).await?;
            if look.due.is_empty() {
                return self.next_due().await;
            }
            for (id, mut runner) in look.due {
                let mut epoch = None;
                loop {
                    match self.once(id, &mut runner, epoch).await {
                        Ok((Next::Leave, _)) => break,
                        Ok((_, held)) => epoch = held,
                        Err(StepError::Died) => return self.next_due().await,
                        Err(StepError::Database(error)) => return Err(error),
                    }
                }
            }
        }
    }

    /// When the next workflow becomes due, if one waits.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, DatabaseError> {
        let now = self.executor.db.clock().now();
        self.due_after(now).await
    }

    async fn due_after(&self, after: Timestamp) -> Result<Option<Timestamp>, DatabaseError> {
        self.executor
            .db
            .read(move |tx| Box::pin(async move { store::next_due(tx, after).await }))
            .await
    }

    /// How long until something becomes due that the look at `seen` could not see.
    async fn sleep(&self, seen: Timestamp) -> Duration {
        match self.due_after(seen).await {
            Ok(None) => LONGEST_SLEEP,
            Ok(Some(next)) => next.since(self.executor.db.clock().now()).min(LONGEST_SLEEP),
            Err(error) => {
                tracing::error!(%error, "cannot see when there will be work");
                DATABASE_PAUSE.1
            }
        }
    }

    async fn find(&self, id: WorkflowId) -> Result<Option<Arc<dyn Runner>>, DatabaseError> {
        let row = self
            .executor
            .db
            .read(move |tx| Box::pin(async move { store::get(tx, &id).await }))
            .await?;
        Ok(row.and_then(|row| self.runner(&(row.view.kind, row.view.version))))
    }

    fn runner(&self, kind: &(String, u32)) -> Option<Arc<dyn Runner>> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    /// Says of which kinds there is work that this release cannot do.
    async fn name_unknown_kinds(&self) {
        let open = self
            .executor
            .db
            .read(|tx| Box::pin(async move { store::open_kinds(tx).await }))
            .await
            .unwrap_or_default();
        for kind in open {
            if self.runner(&kind).is_none() {
                tracing::warn!(
                    kind = kind.0,
                    version = kind.1,
                    "there are workflows of a kind that this release does not know; they are left \
                     alone until a release that does runs here"
                );
            }
        }
    }

    /// What is due, not running here, and of a known kind, as far as there is room for it.
    async fn due(&self, running: &mut HashMap<WorkflowId, bool>) -> Result<Look, DatabaseError> {
        let room = self.concurrency.saturating_sub(running.len());
        // One more than fits beside those that run, which are due as well until they are claimed.
        let limit = u32::try_from(self.concurrency + running.len() + 1).unwrap_or(u32::MAX);
        let kinds: Vec<(String, u32)> =
            self.runners.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        let (rows, at) = self
            .executor
            .db
            .read(move |tx| {
                let kinds = kinds.clone();
                Box::pin(async move {
                    let rows = store::due(tx, &kinds, limit).await?;
                    Ok::<_, DatabaseError>((rows, tx.now()))
                })
            })
            .await?;
        let mut look = Look { due: Vec::new(), more: false, at };
        for (id, kind, version) in rows {
            if let Some(dirty) = running.get_mut(&id) {
                *dirty = true;
                continue;
            }
            let Some(runner) = self.runner(&(kind, version)) else {
                continue;
            };
            if look.due.len() == room {
                look.more = true;
                break;
            }
            look.due.push((id, Some(runner)));
        }
        Ok(look)
    }

    async fn prune(&self) {
        let result = self
            .executor
            .db
            .transact(&Origin::system(&self.executor.owner), |tx| {
                Box::pin(async move {
                    let before = tx.now().before(KEEP_ENDED);
                    store::prune(tx, before, 1000).await
                })
            })
            .await;
        match result {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "deleted old workflows"),
            Err(error) => tracing::warn!(%error, "old workflows could not be deleted"),
        }
    }
}
