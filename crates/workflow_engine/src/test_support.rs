//! Fault tests that every workflow runs, from its own list of steps.
//!
//! A [`World`] says how to begin the workflow, what the outside does when it waits, and how to
//! look for leftovers. Then `trio!(server_create_faults, CreateWorld);` makes these tests:
//!
//! 1. each step in turn fails, before it did anything and after it did everything: nothing is
//!    left behind (past the point of no return: the work is done all the same);
//! 2. the same with every undo run twice;
//! 3. success with every step run twice;
//! 4. the worker is killed before and after each step, forward and undoing, and another takes
//!    over when its lease has run out.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloud_types::{TestClock, Timestamp, WorkflowId};
use database::{BoxFuture, Database, DatabaseConfig, MigrationSet};

use crate::interfere::{Interfere, Interference};
use crate::{Direction, Engine, EngineConfig, Outcome, Status, Workflow, WorkflowView};

/// Rounds of running and driving after which a workflow is taken to be stuck.
const ROUNDS: usize = 1000;

/// Everything around one run of a workflow.
pub trait World: Send + Sync + Sized + 'static {
    /// What is tested.
    type Workflow: Workflow;

    /// A fresh world: a migrated database with the rows that the workflow begins from.
    fn create() -> BoxFuture<'static, Self>;
    /// Its database, which takes its time from [`World::clock`].
    fn database(&self) -> &Database;
    /// Its clock, moved on when the workflow waits for time to pass.
    fn clock(&self) -> &TestClock;
    /// The workflow with its handles.
    fn workflow(&self) -> Arc<Self::Workflow>;
    /// Accepts the request that starts the workflow.
    fn begin(&self) -> BoxFuture<'_, WorkflowId>;
    /// Does what the outside would do next (a host carries out its documents and reports), and
    /// wakes whoever waits for it. Called again until the workflow has ended.
    fn drive(&self) -> BoxFuture<'_, ()>;
    /// Panics when anything is left of a workflow that failed.
    fn assert_clean(&self) -> BoxFuture<'_, ()>;
    /// Panics when the workflow has not done its work.
    fn assert_done(&self) -> BoxFuture<'_, ()>;
}

/// A database in memory with these tables and the engine's, and its clock.
pub async fn database(migrations: &[MigrationSet]) -> (Database, TestClock) {
    let clock = TestClock::at(Timestamp(1_800_000_000_000_000));
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(clock.clone()))
        .await
        .expect("a database in memory");
    db.migrate(&[crate::MIGRATIONS]).await.expect("the engine's tables");
    db.migrate(migrations).await.expect("the workflow's tables");
    (db, clock)
}

/// Makes the fault tests of a workflow: `trio!(name_of_the_module, World)`.
#[macro_export]
macro_rules! trio {
    ($name:ident, $world:ty) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[::tokio::test]
            async fn a_failure_of_any_step_leaves_nothing_behind() {
                $crate::test_support::fail_at_each_step::<$world>(false).await;
            }

            #[::tokio::test]
            async fn every_undo_may_run_twice() {
                $crate::test_support::fail_at_each_step::<$world>(true).await;
            }

            #[::tokio::test]
            async fn every_step_may_run_twice() {
                $crate::test_support::run_each_step_twice::<$world>().await;
            }

            #[::tokio::test]
            async fn a_killed_worker_is_replaced_at_any_step() {
                $crate::test_support::kill_at_each_step::<$world>().await;
            }

            #[::tokio::test]
            async fn a_killed_worker_is_replaced_while_it_undoes() {
                $crate::test_support::kill_at_each_undo::<$world>().await;
            }
        }
    };
}

/// Where in a step something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Before the step does anything.
    Before,
    /// When it says that it is done.
    After,
}

const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

impl Moment {
    fn is_now(self, outcome: Option<&Outcome>) -> bool {
        match self {
            Moment::Before => outcome.is_none(),
            Moment::After => outcome == Some(&Outcome::Done),
        }
    }
}

/// The steps of a workflow, and how many of them can be undone.
fn steps_of<W: Workflow>(workflow: &W) -> (Vec<&'static str>, usize) {
    let names: Vec<&'static str> = workflow.steps().iter().map(|step| step.name).collect();
    let undoable = workflow
        .point_of_no_return()
        .and_then(|name| names.iter().position(|step| *step == name))
        .unwrap_or(names.len());
    (names, undoable)
}

/// True the first time only.
fn once() -> impl Fn() -> bool {
    let done = AtomicBool::new(false);
    move || !done.swap(true, Ordering::SeqCst)
}

/// Repeats every step of this direction once.
fn repeats(direction: Direction) -> impl Fn(&'static str, Direction, Option<&Outcome>) -> bool {
    let seen = Mutex::new(HashSet::new());
    move |step, at, outcome| {
        at == direction
            && outcome == Some(&Outcome::Done)
            && seen.lock().unwrap_or_else(PoisonError::into_inner).insert(step)
    }
}

fn config(worker: &str) -> EngineConfig {
    EngineConfig { worker: worker.to_owned(), ..EngineConfig::default() }
}

/// Runs the workflow of a fresh world to its end under interference.
async fn play<W: World>(interfere: Interfere, what: &str) -> (W, WorkflowView) {
    let world = W::create().await;
    let died = Arc::new(AtomicBool::new(false));
    let watched: Interfere = {
        let died = died.clone();
        Arc::new(move |step, direction, outcome| {
            let interference = interfere(step, direction, outcome);
            if interference == Interference::Die {
                died.store(true, Ordering::SeqCst);
            }
            interference
        })
    };
    let mut engine =
        Engine::new(world.database().clone(), config("first")).with_interference(watched.clone());
    engine.register(world.workflow());
    let id = world.begin().await;
    let mut last = view(&world, id).await;
    for _ in 0..ROUNDS {
        let mut next = engine.run_until_idle().await.expect("the database works");
        if died.swap(false, Ordering::SeqCst) {
            // Its lease stays behind, and it is never heard of again.
            world.clock().advance(EngineConfig::default().lease + Duration::from_secs(1));
            engine = Engine::new(world.database().clone(), config("second"))
                .with_interference(watched.clone());
            engine.register(world.workflow());
            continue;
        }
        let now = view(&world, id).await;
        if now.status.has_ended() {
            return (world, now);
        }
        assert_ne!(now.status, Status::Parked, "{what}: parked: {now:?}");
        world.drive().await;
        if now == last {
            next = engine.run_until_idle().await.expect("the database works").or(next);
            if view(&world, id).await == last
                && let Some(next) = next
                && next > world.database().clock().now()
            {
                world.clock().set(next);
            }
        }
        last = now;
    }
    panic!("{what}: stuck at {last:?}");
}

async fn view<W: World>(world: &W, id: WorkflowId) -> WorkflowView {
    world
        .database()
        .read(move |tx| Box::pin(async move { crate::get(tx, &id).await }))
        .await
        .expect("the database works")
        .expect("a workflow outlives its end")
}

/// Lets each step fail in turn, with every undo run twice if asked.
pub async fn fail_at_each_step<W: World>(undo_twice: bool) {
    let (steps, undoable) = steps_of(W::create().await.workflow().as_ref());
    for (index, &step) in steps.iter().enumerate() {
        for moment in MOMENTS {
            let what = format!("failing {moment:?} {step}, undo twice: {undo_twice}");
            let (first, repeat) = (once(), repeats(Direction::Undo));
            let interfere: Interfere = Arc::new(move |at, direction, outcome| {
                if at == step
                    && direction == Direction::Forward
                    && moment.is_now(outcome)
                    && first()
                {
                    return Interference::Fail;
                }
                if undo_twice && repeat(at, direction, outcome) {
                    return Interference::Repeat;
                }
                Interference::None
            });
            let (world, end) = play::<W>(interfere, &what).await;
            if index < undoable {
                assert_eq!(end.status, Status::Undone, "{what}: {end:?}");
                world.assert_clean().await;
            } else {
                assert_eq!(end.status, Status::Succeeded, "{what}: {end:?}");
                world.assert_done().await;
            }
        }
    }
}

/// Runs every step twice, as when its outcome was lost.
pub async fn run_each_step_twice<W: World>() {
    let repeat = repeats(Direction::Forward);
    let interfere: Interfere = Arc::new(move |at, direction, outcome| {
        if repeat(at, direction, outcome) { Interference::Repeat } else { Interference::None }
    });
    let (world, end) = play::<W>(interfere, "every step twice").await;
    assert_eq!(end.status, Status::Succeeded, "{end:?}");
    world.assert_done().await;
}

/// Kills the worker before and after each step.
pub async fn kill_at_each_step<W: World>() {
    let (steps, _) = steps_of(W::create().await.workflow().as_ref());
    for &step in &steps {
        for moment in MOMENTS {
            let what = format!("killed {moment:?} {step}");
            let first = once();
            let interfere: Interfere = Arc::new(move |at, direction, outcome| {
                if at == step
                    && direction == Direction::Forward
                    && moment.is_now(outcome)
                    && first()
                {
                    return Interference::Die;
                }
                Interference::None
            });
            let (world, end) = play::<W>(interfere, &what).await;
            assert_eq!(end.status, Status::Succeeded, "{what}: {end:?}");
            world.assert_done().await;
        }
    }
}

/// Lets the last step that can be undone fail, and kills the worker at each undo.
pub async fn kill_at_each_undo<W: World>() {
    let (steps, undoable) = steps_of(W::create().await.workflow().as_ref());
    let Some(&last) = steps[..undoable].last() else {
        return;
    };
    for &step in &steps[..undoable] {
        for moment in MOMENTS {
            let what = format!("killed {moment:?} the undo of {step}");
            let (failed, died) = (once(), once());
            let interfere: Interfere = Arc::new(move |at, direction, outcome| match direction {
                Direction::Forward if at == last && Moment::After.is_now(outcome) && failed() => {
                    Interference::Fail
                }
                Direction::Undo if at == step && moment.is_now(outcome) && died() => {
                    Interference::Die
                }
                _ => Interference::None,
            });
            let (world, end) = play::<W>(interfere, &what).await;
            assert_eq!(end.status, Status::Undone, "{what}: {end:?}");
            world.assert_clean().await;
        }
    }
}
