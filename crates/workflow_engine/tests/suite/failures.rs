//! Faults, cancelling, deadlines, undoing that fails.

use std::time::Duration;

use database::{DatabaseError, Origin};
use workflow_engine::{Direction, Status};

use crate::probe::{Plan, Probe, databases, done, engine, start, view};

#[tokio::test]
async fn success_runs_every_step_once_and_leaves_a_record() {
    for test in databases().await {
        let probe = Probe::default();
        let id = start(&test.db, &probe, "o").await;
        let begun = view(&test.db, id).await;
        assert_eq!((begun.status, begun.progress), (Status::Runnable, 10));
        assert_eq!(begun.sentence, "Doing a");
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!((end.status, end.progress), (Status::Succeeded, 100), "{}", test.name);
        assert_eq!(end.state["trail"], serde_json::json!(["a", "b", "c"]));
        assert_eq!(done(&test.db, "o").await, ["a", "b", "c"]);
        let found = test
            .db
            .read(|tx| {
                Box::pin(async move {
                    let all = workflow_engine::find_by_owner(tx, "probe", "o").await?;
                    let active = workflow_engine::active_of_owner(tx, "probe", "o").await?;
                    Ok::<_, DatabaseError>((all, active))
                })
            })
            .await
            .unwrap();
        assert_eq!(found.0.len(), 1);
        assert!(found.1.is_none());
        let journal = test.db.consumer("c").follow(10).await.unwrap();
        assert_eq!(journal[0].kind, "workflow");
    }
}

#[tokio::test]
async fn a_fault_undoes_what_was_done_and_is_kept() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::Fail);
        let id = start(&test.db, &probe, "o").await;
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!(end.status, Status::Undone, "{}", test.name);
        assert_eq!(end.fault.unwrap().message, "b was told to fail");
        // What the failed try of b wrote is not there; its undo ran all the same.
        assert_eq!(done(&test.db, "o").await, ["undo a", "undo b"]);
    }
}

#[tokio::test]
async fn past_the_point_of_no_return_a_fault_is_tried_again() {
    for test in databases().await {
        let probe = Probe::with("c", Plan::FailTimes(3));
        let id = start(&test.db, &probe, "o").await;
        let engine = engine(&test.db, &probe);
        for attempt in 2..=4 {
            let next = engine.run_until_idle().await.unwrap().unwrap();
            let now = view(&test.db, id).await;
            assert_eq!((now.status, now.attempt), (Status::Runnable, attempt), "{}", test.name);
            assert!(now.fault.is_some());
            test.clock.set(next);
        }
        engine.run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!(end.status, Status::Succeeded, "{}", test.name);
        assert_eq!(end.fault, None);
    }
}

#[tokio::test]
async fn a_retry_runs_the_same_step_later() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::RetryOnce);
        let id = start(&test.db, &probe, "o").await;
        let engine = engine(&test.db, &probe);
        let next = engine.run_until_idle().await.unwrap().unwrap();
        assert_eq!(next, view(&test.db, id).await.created_at.after(Duration::from_secs(60)));
        assert_eq!(view(&test.db, id).await.step, "b", "{}", test.name);
        test.clock.set(next);
        engine.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
    }
}

#[tokio::test]
async fn cancelling_undoes_until_the_point_of_no_return_and_not_after() {
    for test in databases().await {
        let cancel = async |id| {
            test.db
                .transact(&Origin::system("test"), move |tx| {
                    Box::pin(async move { workflow_engine::cancel(tx, &id).await })
                })
                .await
                .unwrap()
        };
        let probe = Probe::with("b", Plan::WaitForGo);
        let engine = engine(&test.db, &probe);
        let id = start(&test.db, &probe, "early").await;
        engine.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Waiting);
        assert!(cancel(id).await, "{}", test.name);
        engine.run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!(end.status, Status::Cancelled, "{}", test.name);
        assert_eq!(end.fault, None);
        assert_eq!(done(&test.db, "early").await, ["undo a", "undo b"]);
        assert!(!cancel(id).await, "it has ended");

        probe.plan("b", None);
        probe.plan("c", Some(Plan::WaitForGo));
        let id = start(&test.db, &probe, "late").await;
        engine.run_until_idle().await.unwrap();
        assert!(!cancel(id).await, "{}", test.name);
        assert_eq!(view(&test.db, id).await.status, Status::Waiting);
    }
}

#[tokio::test]
async fn a_deadline_undoes_before_the_point_of_no_return_and_counts_after() {
    for test in databases().await {
        let overdue = async || {
            test.db
                .read(|tx| Box::pin(async move { workflow_engine::overdue_count(tx).await }))
                .await
                .unwrap()
        };
        let probe = Probe::with("b", Plan::WaitForGo);
        let engine = engine(&test.db, &probe);
        let id = start(&test.db, &probe, "early").await;
        // It looks after an hour, and after two, which is the deadline.
        for _ in 0..2 {
            let next = engine.run_until_idle().await.unwrap().unwrap();
            test.clock.set(next);
        }
        engine.run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!(end.status, Status::Undone, "{}", test.name);
        let fault = end.fault.unwrap();
        assert!(fault.message.contains("2 hours (two of its waits)"), "{fault}");
        assert!(fault.message.contains("Doing b"), "{fault}");

        probe.plan("b", None);
        probe.plan("c", Some(Plan::WaitForGo));
        let id = start(&test.db, &probe, "late").await;
        engine.run_until_idle().await.unwrap();
        assert_eq!(overdue().await, 0);
        test.clock.advance(Duration::from_secs(7201));
        engine.run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.direction, Direction::Forward, "{}", test.name);
        assert_eq!(overdue().await, 1, "{}", test.name);
    }
}

#[tokio::test]
async fn undoing_that_keeps_failing_is_parked_until_an_operator_resumes_it() {
    for test in databases().await {
        let parked = async || {
            test.db
                .read(|tx| Box::pin(async move { workflow_engine::parked_count(tx).await }))
                .await
                .unwrap()
        };
        let probe = Probe::with("b", Plan::Fail);
        probe.plan("undo a", Some(Plan::Fail));
        let engine = engine(&test.db, &probe);
        let id = start(&test.db, &probe, "o").await;
        let mut tries = 0;
        while let Some(next) = engine.run_until_idle().await.unwrap() {
            test.clock.set(next);
            tries += 1;
            assert!(tries < 100, "{}: never parked", test.name);
        }
        assert_eq!(view(&test.db, id).await.status, Status::Parked, "{}", test.name);
        assert!(tries >= 10, "{tries}");
        assert_eq!(parked().await, 1);
        probe.plan("undo a", None);
        let resumed = test
            .db
            .transact(&Origin::system("operator"), move |tx| {
                Box::pin(async move { workflow_engine::resume(tx, &id).await })
            })
            .await;
        assert!(resumed.unwrap());
        engine.run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!(end.status, Status::Undone, "{}", test.name);
        assert_eq!(end.fault.unwrap().message, "b was told to fail", "the first cause is kept");
        assert_eq!(parked().await, 0);
    }
}

#[tokio::test]
async fn a_kind_or_version_that_is_not_known_is_left_alone() {
    for test in databases().await {
        let probe = Probe::default();
        let id = start(&test.db, &probe, "old").await;
        let stranger = start(&test.db, &probe, "new").await;
        test.db
            .transact(&Origin::system("test"), move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "UPDATE workflows SET version = 2 WHERE id = $1",
                        &database::params![stranger],
                    )
                    .await
                })
            })
            .await
            .map(|_: u64| ())
            .map_err(|error: DatabaseError| error)
            .unwrap();
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        assert_eq!(view(&test.db, id).await.status, Status::Succeeded, "{}", test.name);
        let left = view(&test.db, stranger).await;
        assert_eq!((left.status, left.step.as_str()), (Status::Runnable, "a"), "{}", test.name);
    }
}

#[tokio::test]
async fn a_mistake_in_a_statement_is_a_failure_of_the_step_and_not_tried_for_ever() {
    for test in databases().await {
        let probe = Probe::with("b", Plan::BreakTheEnd);
        let id = start(&test.db, &probe, "o").await;
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        let end = view(&test.db, id).await;
        assert_eq!(end.status, Status::Undone, "{}", test.name);
        assert_eq!(end.fault.unwrap().status(), 500);
    }
}

#[tokio::test]
async fn a_step_that_this_release_does_not_have_parks_the_workflow() {
    for test in databases().await {
        let probe = Probe::default();
        let id = start(&test.db, &probe, "o").await;
        test.db
            .transact(&Origin::system("test"), move |tx| {
                Box::pin(
                    async move { tx.execute("UPDATE workflows SET step = 'renamed'", &[]).await },
                )
            })
            .await
            .map(|_: u64| ())
            .map_err(|error: DatabaseError| error)
            .unwrap();
        engine(&test.db, &probe).run_until_idle().await.unwrap();
        let parked = view(&test.db, id).await;
        assert_eq!(parked.status, Status::Parked, "{}", test.name);
        assert!(parked.fault.unwrap().message.contains("no step renamed"));
        assert_eq!(probe.runs.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}
