//! Signs of life, and burying the dead.

use std::time::Duration;

use cloud_types::Timestamp;
use database::{Database, DatabaseError, Origin, Tx, leases};
use kill_points::point;
use service_kit::idempotency;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::model::{BEAT, OUT_OF_TOUCH, Replica, View, Watch, gateways};
use super::store;

/// A sign of life that takes longer has failed.
const BEAT_TIMEOUT: Duration = Duration::from_secs(2);

/// This replica among the others.
pub struct Registry {
    db: Database,
    own: Replica,
    epoch: u64,
    view: watch::Sender<View>,
}

impl Registry {
    /// Registers this process, as `own` describes it. What a former process of the same replica
    /// was at work on is free from now on: both ports are ours, so it is gone.
    ///
    /// Where the database cannot be written now, this is made up for later.
    pub async fn join(db: Database, own: Replica) -> Registry {
        if !db.is_shared() {
            return Registry { db, own, epoch: 0, view: watch::Sender::new(View::alone()) };
        }
        let view = View { in_touch: false, gateways: Vec::new().into() };
        let mut registry = Registry { db, own, epoch: 0, view: watch::Sender::new(view) };
        match registry.register().await {
            Ok(replicas) => registry.tell(true, Some(&replicas)),
            Err(error) => tracing::error!(%error, "this replica is not registered yet"),
        }
        registry
    }

    /// What is known, now and as it changes.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    async fn register(&mut self) -> Result<Vec<Replica>, DatabaseError> {
        let own = self.own.clone();
        let (epoch, replicas) = self
            .db
            .transact(&Origin::system("replica"), move |tx| {
                let own = own.clone();
                Box::pin(async move {
                    if let Some(former) = store::get(tx, &own.id).await?
                        && former.worker != own.worker
                    {
                        succeed(tx, &former.worker).await?;
                    }
                    let epoch = store::register(tx, &own).await?;
                    Ok::<_, DatabaseError>((epoch, store::list(tx).await?))
                })
            })
            .await?;
        self.epoch = epoch;
        Ok(replicas)
    }

    /// Gives signs of life and looks at the others' until `shutdown`; then says that this one
    /// leaves.
    pub async fn run(mut self, shutdown: CancellationToken) {
        if !self.db.is_shared() {
            // Alone for as long as it runs: to those who follow the view, its end is the end.
            shutdown.cancelled().await;
            return;
        }
        let mut watch = Watch::default();
        let mut heard = Instant::now();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let begun = Instant::now();
            match tokio::time::timeout(BEAT_TIMEOUT, self.beat()).await {
                Ok(Ok(replicas)) => {
                    heard = begun;
                    self.tell(true, Some(&replicas));
                    for dead in watch.look(&replicas, &self.own.id) {
                        self.bury(dead).await;
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "no sign of life can be given");
                    watch.failed();
                }
                Err(_) => {
                    tracing::warn!("no sign of life can be given: the database does not answer");
                    watch.failed();
                }
            }
            if heard.elapsed() > OUT_OF_TOUCH {
                self.tell(false, None);
            }
        }
        self.leave().await;
    }

    async fn beat(&mut self) -> Result<Vec<Replica>, DatabaseError> {
        if self.epoch == 0 {
            return self.register().await;
        }
        let (id, epoch) = (self.own.id.clone(), self.epoch);
        let (known, replicas) = self
            .db
            .transact(&Origin::system("replica"), move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let known = store::beat(tx, &id, epoch).await?;
                    Ok::<_, DatabaseError>((known, store::list(tx).await?))
                })
            })
            .await?;
        if known {
            return Ok(replicas);
        }
        if replicas.iter().any(|replica| replica.id == self.own.id) {
            return Err(DatabaseError::Misuse(format!(
                "another process runs as replica {}: was its state directory copied? Make another \
                 replica with `meridian replica join`",
                self.own.id
            )));
        }
        self.register().await
    }

    /// Frees what a dead replica held, unless it has given a sign of life since.
    async fn bury(&self, dead: Replica) {
        let name = dead.id.clone();
        let buried = self
            .db
            .transact(&Origin::system("replica"), move |tx| {
                let dead = dead.clone();
                Box::pin(async move {
                    if !store::silence(tx, &dead).await? {
                        return Ok::<_, DatabaseError>(false);
                    }
                    succeed(tx, &dead.worker).await?;
                    Ok(true)
                })
            })
            .await;
        match buried {
            Ok(true) => {
                point(format_args!("replica.buried"));
                tracing::warn!(replica = name, "a replica is silent; others take over its work");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, replica = name, "a silent replica is kept"),
        }
    }

    fn tell(&self, in_touch: bool, replicas: Option<&[Replica]>) {
        let seen = replicas.map(gateways);
        self.view.send_if_modified(|view| {
            let former = view.clone();
            view.in_touch = in_touch;
            if let Some(seen) = seen
                && *view.gateways != seen
            {
                view.gateways = seen.into();
            }
            if former.in_touch != in_touch {
                if in_touch {
                    tracing::info!("in touch with the database");
                } else {
                    tracing::error!("out of touch with the database: hosts are sent away");
                }
            }
            *view != former
        });
    }

    async fn leave(&self) {
        let (id, epoch, worker) = (self.own.id.clone(), self.epoch, self.own.worker.clone());
        let origin = Origin::system("replica");
        let left = self.db.transact(&origin, move |tx| {
            let (id, worker) = (id.clone(), worker.clone());
            Box::pin(async move {
                store::leave(tx, &id, epoch).await?;
                leases::give_up_all(tx, &worker).await.map(|_| ())
            })
        });
        let left: Result<(), DatabaseError> =
            tokio::time::timeout(BEAT_TIMEOUT, left).await.unwrap_or(Ok(()));
        if let Err(error) = left {
            tracing::warn!(%error, "the others will find out by themselves that this one left");
        }
    }
}

/// Frees everything that a process held.
async fn succeed(tx: &mut Tx, worker: &str) -> Result<(), DatabaseError> {
    workflow_engine::succeed(tx, worker).await?;
    idempotency::succeed(tx, worker).await?;
    leases::give_up_all(tx, worker).await?;
    Ok(())
}

/// All replicas that are remembered.
///
/// # Errors
/// The database's.
pub async fn list(tx: &mut Tx) -> Result<Vec<Replica>, DatabaseError> {
    store::list(tx).await
}

/// Forgets replicas that have been silent since before `before`, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn forget_silent(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DatabaseError> {
    store::forget_silent(tx, before, limit).await
}
