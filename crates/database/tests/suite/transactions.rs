//! Closures, values, errors, locks and generations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloud_types::{Clock, Fault, FaultKind, ProjectId, Timestamp};
use database::test_support::databases;
use database::{DatabaseError, ObjectLock, Origin, Value, params};

use crate::{THINGS, ids, insert, transact};

#[tokio::test]
async fn values_come_back_as_they_went() {
    for test in databases(&[THINGS]).await {
        let row = transact(&test.db, |tx| {
            Box::pin(async move {
                tx.execute(
                    "INSERT INTO things (id, name, size, body, ratio, generation)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                    &params!["a", "it's $1 — ü", -5, vec![0u8, 255], 0.5, true],
                )
                .await?;
                tx.query_one("SELECT * FROM things WHERE id = $1", &params!["a"]).await
            })
        })
        .await
        .unwrap();
        assert_eq!(row.text("name").unwrap(), "it's $1 — ü", "{}", test.name);
        assert_eq!(row.int("size").unwrap(), -5);
        assert_eq!(row.bytes("body").unwrap(), [0, 255]);
        assert!((row.real("ratio").unwrap() - 0.5).abs() < f64::EPSILON);
        assert!(row.bool("generation").unwrap());
    }
}

#[tokio::test]
async fn nulls_of_every_type_and_sums_and_comparisons_are_read() {
    for test in databases(&[THINGS]).await {
        let row = transact(&test.db, |tx| {
            Box::pin(async move {
                let nothing: Option<String> = None;
                for (id, size) in [("a", Some(3)), ("b", Some(4)), ("c", None)] {
                    tx.execute(
                        "INSERT INTO things (id, name, size, body, ratio, generation)
                         VALUES ($1, $2, $3, $4, $5, 1)",
                        &params![id, nothing, size, nothing, nothing],
                    )
                    .await?;
                }
                tx.query_one(
                    "SELECT SUM(size) AS total, COUNT(*) AS n, MAX(name) AS name,
                            COUNT(*) > 2 AS many, 7 AS seven FROM things",
                    &[],
                )
                .await
            })
        })
        .await
        .unwrap();
        assert_eq!(row.int("total").unwrap(), 7, "{}", test.name);
        assert_eq!(row.int("n").unwrap(), 3);
        assert_eq!(row.opt_text("name").unwrap(), None);
        assert!(row.bool("many").unwrap());
        assert_eq!(row.u32("seven").unwrap(), 7);
        let row = transact(&test.db, |tx| {
            Box::pin(async move { tx.query_one("SELECT * FROM things WHERE id = 'c'", &[]).await })
        })
        .await
        .unwrap();
        assert_eq!(row.opt_bytes("body").unwrap(), None, "{}", test.name);
        assert_eq!(row.opt_int("size").unwrap(), None);
    }
}

#[tokio::test]
async fn statements_put_together_at_run_time_take_parameters() {
    for test in databases(&[THINGS]).await {
        for id in ["a", "b", "c"] {
            insert(&test.db, id).await;
        }
        for n in 1..=3usize {
            let wanted: Vec<Value> = ["a", "b", "c"][..n].iter().map(|id| (*id).into()).collect();
            let marks: Vec<String> = (1..=n).map(|i| format!("${i}")).collect();
            let sql =
                format!("SELECT id FROM things WHERE id IN ({}) ORDER BY id", marks.join(", "));
            let found = test
                .db
                .read(move |tx| {
                    let (sql, wanted) = (sql.clone(), wanted.clone());
                    Box::pin(async move { tx.query_dynamic(sql, &wanted).await })
                })
                .await
                .unwrap();
            assert_eq!(found.len(), n, "{}", test.name);
        }
    }
}

#[tokio::test]
async fn an_error_of_the_closure_takes_everything_back() {
    for test in databases(&[THINGS]).await {
        let result: Result<(), Fault> = test
            .db
            .transact(&Origin::system("test"), |tx| {
                Box::pin(async move {
                    tx.execute("INSERT INTO things (id, generation) VALUES ('a', 1)", &[]).await?;
                    tx.notify("things", "a");
                    Err(Fault::conflict("no"))
                })
            })
            .await;
        assert_eq!(result.unwrap_err().message, "no");
        assert!(ids(&test.db).await.is_empty(), "{}", test.name);
    }
}

#[tokio::test]
async fn a_panic_of_the_closure_takes_everything_back() {
    for test in databases(&[THINGS]).await {
        let error = transact::<(), _>(&test.db, |tx| {
            Box::pin(async move {
                tx.execute("INSERT INTO things (id, generation) VALUES ('a', 1)", &[]).await?;
                panic!("a mistake in the code (this message is expected)")
            })
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("panicked"), "{}: {error}", test.name);
        assert!(ids(&test.db).await.is_empty(), "{}", test.name);
        insert(&test.db, "b").await;
        assert_eq!(ids(&test.db).await, ["b"], "{}: works on", test.name);
    }
}

#[tokio::test]
async fn unique_constraints_are_named_alike() {
    for test in databases(&[THINGS]).await {
        let error = transact(&test.db, |tx| {
            Box::pin(async move {
                for id in ["a", "b"] {
                    tx.execute(
                        "INSERT INTO things (id, name, size, generation) VALUES ($1, 'x', 1, 1)",
                        &params![id],
                    )
                    .await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap_err();
        assert!(error.is_unique_on("things"), "{}: {error}", test.name);
        let DatabaseError::Unique { constraint } = &error else {
            panic!("{}: {error:?}", test.name);
        };
        assert_eq!(constraint, "things.name, things.size", "{}", test.name);
        assert_eq!(Fault::from(error).kind, FaultKind::Conflict);
        assert!(ids(&test.db).await.is_empty());
    }
}

#[tokio::test]
async fn a_transaction_does_not_go_on_after_a_failed_statement() {
    for test in databases(&[THINGS]).await {
        insert(&test.db, "a").await;
        let error = transact(&test.db, |tx| {
            Box::pin(async move {
                let sql = "INSERT INTO things (id, generation) VALUES ($1, 1)";
                let refused = tx.execute(sql, &params!["a"]).await;
                assert!(refused.is_err());
                tx.execute(sql, &params!["b"]).await
            })
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("cannot go on"), "{}: {error}", test.name);
        // Nor does it pretend that nothing happened.
        let error = transact(&test.db, |tx| {
            Box::pin(async move {
                let _ =
                    tx.execute("INSERT INTO things (id, generation) VALUES ('a', 1)", &[]).await;
                Ok(())
            })
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("things.id"), "{}: {error}", test.name);
        assert_eq!(ids(&test.db).await, ["a"]);
    }
}

#[tokio::test]
async fn mistakes_are_answered_with_what_to_do() {
    for test in databases(&[THINGS]).await {
        let cases: [(&str, &[Value], &str); 4] = [
            ("SELECT * FROM things WHERE id = $1", &[], "0 parameters given where"),
            ("SELECT * FROM no_such_table", &[], "no_such_table"),
            ("SELECT id FROM things WHERE id = $1", &params!["a\0b"], "NUL"),
            ("SELECT nonsense FROM things", &[], "nonsense"),
        ];
        for (sql, params, expected) in cases {
            let params = params.to_vec();
            let error = transact(&test.db, move |tx| {
                let params = params.clone();
                Box::pin(async move { tx.query(sql, &params).await })
            })
            .await
            .unwrap_err();
            assert!(error.to_string().contains(expected), "{}: {error}", test.name);
        }
    }
}

#[tokio::test]
async fn a_transaction_inside_another_is_refused_rather_than_waited_for() {
    for test in databases(&[THINGS]).await {
        let db = test.db.clone();
        let error = transact(&test.db, move |_| {
            let db = db.clone();
            Box::pin(async move {
                transact(&db, |tx| Box::pin(async move { tx.query("SELECT 1 AS one", &[]).await }))
                    .await
            })
        })
        .await
        .unwrap_err();
        assert!(error.to_string().contains("inside another"), "{}: {error}", test.name);
    }
}

#[tokio::test]
async fn reading_cannot_change_anything() {
    for test in databases(&[THINGS]).await {
        let error = test
            .db
            .read(|tx| {
                Box::pin(async move {
                    tx.execute("INSERT INTO things (id, generation) VALUES ('a', 1)", &[]).await
                })
            })
            .await
            .unwrap_err();
        assert!(
            matches!(error, DatabaseError::Misuse(_) | DatabaseError::ReadOnly(_)),
            "{}: {error:?}",
            test.name
        );
        let error = test
            .db
            .read(|tx| Box::pin(async move { tx.lock(&[ObjectLock::new("thing", "a")]).await }))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("transact instead of read"), "{error}");
        assert!(ids(&test.db).await.is_empty());
    }
}

#[tokio::test]
async fn a_compare_and_swap_that_lost_is_stale() {
    for test in databases(&[THINGS]).await {
        insert(&test.db, "a").await;
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let error = transact(&test.db, move |tx| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                let changed = tx
                    .execute(
                        "UPDATE things SET generation = generation + 1
                         WHERE id = $1 AND generation = $2",
                        &params!["a", 99],
                    )
                    .await?;
                tx.expect_one(changed, "thing", "a")
            })
        })
        .await
        .unwrap_err();
        assert!(matches!(error, DatabaseError::Stale { kind: "thing", .. }), "{error:?}");
        assert_eq!(Fault::from(error).kind, FaultKind::Conflict);
        // On PostgreSQL the row may have changed between reading and writing, so it is tried
        // again, but not for ever.
        assert!((1..=3).contains(&runs.load(Ordering::SeqCst)), "{}", test.name);
    }
}

#[tokio::test]
async fn work_goes_on_when_the_caller_goes_away() {
    for test in databases(&[THINGS]).await {
        let call = transact(&test.db, |tx| {
            Box::pin(async move {
                for id in ["a", "b"] {
                    tx.execute("INSERT INTO things (id, generation) VALUES ($1, 1)", &params![id])
                        .await?;
                }
                Ok(())
            })
        });
        // Begun, then dropped at the first chance.
        let _ = tokio::time::timeout(Duration::ZERO, call).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while ids(&test.db).await != ["a", "b"] {
            assert!(tokio::time::Instant::now() < deadline, "{}", test.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_transaction_has_one_time_and_its_origin() {
    for test in databases(&[THINGS]).await {
        let project: ProjectId = "p1".parse().unwrap();
        let origin = Origin {
            request_id: "req-1".to_owned(),
            actor: Some("u1".parse().unwrap()),
            project: Some(project.clone()),
        };
        let clock = test.clock.clone();
        let (first, second, seen, lineage) = test
            .db
            .transact(&origin, move |tx| {
                let clock = clock.clone();
                Box::pin(async move {
                    let first = tx.now();
                    clock.advance(Duration::from_secs(1));
                    let seen = tx.origin().clone();
                    Ok::<_, DatabaseError>((first, tx.now(), seen, tx.lineage()))
                })
            })
            .await
            .unwrap();
        assert_eq!(first, second);
        assert_eq!(test.clock.now(), Timestamp(first.0 + 1_000_000));
        assert_eq!(seen, origin);
        assert_eq!(lineage, test.db.lineage());
        assert_eq!(test.open_again().await.lineage(), lineage, "{}: it stays", test.name);
    }
}

#[tokio::test]
async fn deferred_statements_run_last_in_one_order_and_once() {
    for test in databases(&[THINGS]).await {
        transact(&test.db, |tx| {
            Box::pin(async move {
                let append = "UPDATE things SET name = COALESCE(name, '') || $1 WHERE id = 'log'";
                tx.defer(2, append, &params!["c"]);
                tx.defer(1, append, &params!["b"]);
                tx.defer(1, append, &params!["a"]);
                tx.defer(1, append, &params!["b"]);
                tx.execute("INSERT INTO things (id, generation) VALUES ('log', 1)", &[]).await
            })
        })
        .await
        .unwrap();
        let name = test
            .db
            .read(|tx| {
                Box::pin(
                    async move { tx.query_one("SELECT name FROM things", &[]).await?.text("name") },
                )
            })
            .await
            .unwrap();
        assert_eq!(name, "abc", "{}", test.name);
    }
}

#[tokio::test]
async fn closing_stores_what_was_begun_and_refuses_the_rest() {
    for test in databases(&[THINGS]).await {
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let db = test.db.clone();
                tokio::spawn(async move { insert(&db, &format!("{n:02}")).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        test.db.close().await;
        let error = transact(&test.db, |tx| {
            Box::pin(async move { tx.query("SELECT 1 AS one", &[]).await })
        })
        .await
        .unwrap_err();
        assert!(matches!(error, DatabaseError::Closed), "{}: {error:?}", test.name);
        assert_eq!(ids(&test.open_again().await).await.len(), 20, "{}", test.name);
    }
}
