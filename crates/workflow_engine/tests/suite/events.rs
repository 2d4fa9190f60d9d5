//! Waiting, and being woken: at once, and never not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use database::{DatabaseError, Origin, params};
use workflow_engine::{EventKey, Status};

use crate::probe::{Plan, Probe, Running, databases, done, ended, engine, go, start, until, view};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_wakes_a_waiting_step_at_once() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::WaitForGo);
        let running = Running::start(&test.db, &probe);
        let id = start(&test.db, &probe, "o").await;
        until("it waits", async || view(&test.db, id).await.status == Status::Waiting).await;
        // The clock stands still, so only the event can be what wakes it.
        go(&test.db, "o").await;
        assert_eq!(ended(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
        assert_eq!(done(&test.db, "o").await, ["a", "b", "c"]);
        running.stop().await;
    }
}

#[tokio::test]
async fn an_event_for_nobody_is_no_harm() {
    for test in databases().await {
        go(&test.db, "nobody").await;
        let probe = Probe::with("b", Plan::WaitForGo);
        let id = start(&test.db, &probe, "nobody").await;
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Succeeded, "{}: it looked", test.name);
    }
}

#[tokio::test]
async fn a_timeout_has_the_step_look_again() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::WaitForGo);
        let id = start(&test.db, &probe, "o").await;
        let engine = engine(&test.db, &probe);
        let next = engine.run_until_idle().await.unwrap().unwrap();
        assert_eq!(next, view(&test.db, id).await.created_at.after(Duration::from_secs(3600)));
        // The world changes, and nobody says so.
        test.db
            .transact(&Origin::system("test"), |tx| {
                Box::pin(async move {
                    tx.execute("INSERT INTO flags (owner, flag) VALUES ('o', 'go')", &[]).await
                })
            })
            .await
            .map(|_: u64| ())
            .map_err(|error: DatabaseError| error)
            .unwrap();
        engine.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Waiting);
        test.clock.set(next);
        engine.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
    }
}

/// Events fired from all sides while the steps are on their way to waiting. The clock stands
/// still: a workflow that missed its event would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_is_lost_between_looking_and_waiting() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::WaitForGo);
        let running = Running::start(&test.db, &probe);
        let mut ids = Vec::new();
        let mut going = Vec::new();
        for n in 0..100 {
            let owner = format!("o{n}");
            ids.push(start(&test.db, &probe, &owner).await);
            let db = test.db.clone();
            going.push(tokio::spawn(async move {
                // Spread over the few milliseconds in which the first steps run.
                tokio::time::sleep(Duration::from_micros(n * 137 % 5000)).await;
                go(&db, &owner).await;
            }));
        }
        for going in going {
            going.await.unwrap();
        }
        for id in ids {
            assert_eq!(ended(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
        }
        running.stop().await;
    }
}

/// The narrowest case, held open: the event is fired by a transaction that began before the step
/// looked and commits after it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_whose_transaction_commits_late_is_not_lost() {
    for test in databases().await {
        if test.name == "sqlite" {
            // Transactions follow one another there.
            continue;
        }
        let probe = Probe::with("b", Plan::WaitForGo);
        let id = start(&test.db, &probe, "o").await;
        let (fired, finish) =
            (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let slow = {
            let (db, fired, finish) = (test.db.clone(), fired.clone(), finish.clone());
            tokio::spawn(async move {
                db.transact(&Origin::system("test"), move |tx| {
                    let (fired, finish) = (fired.clone(), finish.clone());
                    Box::pin(async move {
                        tx.execute(
                            "INSERT INTO flags (owner, flag) VALUES ($1, 'go')",
                            &params!["o"],
                        )
                        .await?;
                        workflow_engine::wake(tx, &EventKey::new("probe", "o")).await?;
                        fired.notify_one();
                        finish.notified().await;
                        Ok::<_, DatabaseError>(())
                    })
                })
                .await
                .unwrap();
            })
        };
        fired.notified().await;
        let running = Running::start(&test.db, &probe);
        // It has looked, found nothing, and registered its wait (a and b have run).
        until("the step has looked", async || probe.runs.load(Ordering::SeqCst) >= 2).await;
        finish.notify_one();
        slow.await.unwrap();
        assert_eq!(ended(&test.db, id).await.status, Status::Succeeded);
        running.stop().await;
    }
}
