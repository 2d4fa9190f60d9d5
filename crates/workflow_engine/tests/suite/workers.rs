//! Workers: leases, takeovers, shutdown, many at once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use database::test_support::TestDatabase;
use database::{Database, DatabaseError, Origin, params};
use workflow_engine::{EngineConfig, Status};

use crate::probe::{
    Plan, Probe, Running, TABLES, databases, done, ended, engine, start, until, view,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_workers_run_many_workflows_each_once() {
    for test in databases().await {
        let probe = Probe::default();
        let other = test.open_again().await;
        let running = [
            Running::start(&test.db, &probe),
            Running::start(&test.db, &probe),
            Running::start(&other, &probe),
        ];
        let mut ids = Vec::new();
        for n in 0..60 {
            ids.push(start(&test.db, &probe, &format!("o{n}")).await);
        }
        for id in &ids {
            let end = ended(&test.db, *id).await;
            assert_eq!(end.status, Status::Succeeded, "{}", test.name);
            // A step that two workers ran would stand here twice, or be lost.
            assert_eq!(end.state["trail"], serde_json::json!(["a", "b", "c"]), "{}", test.name);
        }
        for running in running {
            running.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_fit_at_once_all_get_their_turn() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::WaitForGo);
        let mut ids = Vec::new();
        for n in 0..50 {
            ids.push(start(&test.db, &probe, &format!("o{n}")).await);
        }
        // Started before the engine, and more than its sixteen at once.
        let running = Running::start(&test.db, &probe);
        for id in ids {
            until("it waits", async || view(&test.db, id).await.status == Status::Waiting).await;
        }
        running.stop().await;
    }
}

/// A worker stops inside a step for longer than its lease, as under SIGSTOP, and wakes up when
/// another has finished its work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_thought_dead_cannot_write() {
    let test = TestDatabase::postgres(&[workflow_engine::MIGRATIONS, TABLES]).await;
    let probe = Probe::with("b", Plan::HoldOnce);
    let id = start(&test.db, &probe, "o").await;
    let first = engine(&test.db, &probe);
    let stopped = tokio::spawn(async move { first.run_until_idle().await });
    probe.held.0.notified().await;
    test.clock.advance(EngineConfig::default().lease + Duration::from_secs(1));
    engine(&test.db, &probe).run_until_idle().await.unwrap();
    let end = view(&test.db, id).await;
    assert_eq!(end.status, Status::Succeeded);
    let left = done_with_epochs(&test.db).await;
    probe.held.1.notify_one();
    stopped.await.unwrap().unwrap();
    assert_eq!(probe.runs.load(Ordering::SeqCst), 4, "b ran on both");
    assert_eq!(view(&test.db, id).await, end, "nothing was written over");
    assert_eq!(done_with_epochs(&test.db).await, left, "the step's own writing was taken back");
}

async fn done_with_epochs(db: &Database) -> Vec<(String, u64)> {
    db.read(|tx| {
        Box::pin(async move {
            let rows = tx.query("SELECT what, epoch FROM done ORDER BY what", &[]).await?;
            rows.iter()
                .map(|row| Ok((row.text("what")?, row.u64("epoch")?)))
                .collect::<Result<Vec<_>, DatabaseError>>()
        })
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_lease_is_respected_until_it_runs_out() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::RetryOnce);
        let id = start(&test.db, &probe, "o").await;
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        // As a worker leaves it that stopped between two steps.
        test.db
            .transact(&Origin::system("test"), move |tx| {
                Box::pin(async move {
                    let due = tx.now().after(EngineConfig::default().lease);
                    tx.execute(
                        "UPDATE workflows SET lease_owner = 'stopped', lease_epoch = 7,
                             due_at = $2 WHERE id = $1",
                        &params![id, due],
                    )
                    .await
                })
            })
            .await
            .map(|_: u64| ())
            .map_err(|error: DatabaseError| error)
            .unwrap();
        let second = engine(&test.db, &probe);
        second.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.step, "b", "{}: the lease is respected", test.name);
        test.clock.advance(EngineConfig::default().lease + Duration::from_secs(1));
        second.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
        let epoch = test
            .db
            .read(move |tx| {
                Box::pin(async move {
                    tx.query_one("SELECT epoch FROM done WHERE what = 'c'", &[]).await?.u64("epoch")
                })
            })
            .await
            .map_err(|error: DatabaseError| error)
            .unwrap();
        assert!(epoch > 7, "{}: a new lease has a higher epoch, {epoch}", test.name);
    }
}

#[tokio::test]
async fn it_is_written_down_which_worker_ran_a_step_and_which_had_the_lease() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::RetryOnce);
        start(&test.db, &probe, "o").await;
        let (first, second) = (engine(&test.db, &probe), engine(&test.db, &probe));
        first.run_until_idle().await.unwrap();
        test.clock.advance(Duration::from_secs(61));
        second.run_until_idle().await.unwrap();
        let written = test
            .db
            .read(|tx| {
                Box::pin(async move {
                    let sql = "SELECT s.step, s.worker, w.lease_worker FROM workflow_steps s
                               JOIN workflows w ON w.id = s.workflow_id ORDER BY s.step";
                    let rows = tx.query(sql, &[]).await?;
                    rows.iter()
                        .map(|row| {
                            Ok((row.text("step")?, row.text("worker")?, row.text("lease_worker")?))
                        })
                        .collect::<Result<Vec<_>, DatabaseError>>()
                })
            })
            .await
            .unwrap();
        let line = |step: &str, worker: &str| {
            (step.to_owned(), worker.to_owned(), second.owner().to_owned())
        };
        let (earlier, later) = (first.owner(), second.owner());
        assert_ne!(earlier, later);
        let expected = [line("a", earlier), line("b", later), line("c", later)];
        assert_eq!(written, expected, "{}", test.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_leaves_nothing_leased_and_the_next_goes_on() {
    for test in databases().await {
        let probe = Probe::default();
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(start(&test.db, &probe, &format!("o{n}")).await);
        }
        // Stopped somewhere in the middle.
        let running = Running::start(&test.db, &probe);
        until("some are done", async || !done(&test.db, "o3").await.is_empty()).await;
        running.stop().await;
        let leased = test
            .db
            .read(|tx| {
                Box::pin(async move {
                    let sql = "SELECT COUNT(*) AS n FROM workflows WHERE lease_owner IS NOT NULL
                                   AND status IN ('runnable', 'waiting')";
                    tx.query_one(sql, &[]).await?.int("n")
                })
            })
            .await
            .map_err(|error: DatabaseError| error)
            .unwrap();
        assert_eq!(leased, 0, "{}", test.name);
        // The clock has not moved: nothing waits for a lease to run out.
        let running = Running::start(&test.db, &probe);
        for id in ids {
            assert_eq!(ended(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
        }
        running.stop().await;
    }
}

/// Not asserted: how long from the accepted request to the end of three steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_is_shown() {
    for test in databases().await {
        let probe = Probe::default();
        let running = Running::start(&test.db, &probe);
        let mut times = Vec::new();
        for n in 0..50 {
            let owner = format!("o{n}");
            let id = start(&test.db, &probe, &owner).await;
            let accepted = Instant::now();
            let mut first = None;
            until("it ends", async || {
                let now = view(&test.db, id).await;
                if first.is_none() && now.step != "a" {
                    first = Some(accepted.elapsed());
                }
                now.status.has_ended()
            })
            .await;
            times.push((first, accepted.elapsed()));
        }
        times.sort();
        println!("{}: first step and end, median: {:?}", test.name, times[times.len() / 2]);
        running.stop().await;
    }
}
