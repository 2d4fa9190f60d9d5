//! The journal: order, positions, and that nobody is skipped.

use std::sync::Arc;
use std::time::Duration;

use database::test_support::{TestDatabase, databases};
use database::{Consumer, Database, JournalEntry, JournalRecord, Origin};
use tokio::sync::Notify;

use crate::{THINGS, transact};

fn entry(id: &str) -> JournalEntry {
    JournalEntry {
        kind: "thing",
        id: id.to_owned(),
        project: Some("p1".parse().unwrap()),
        action: "create",
        before: None,
        after: Some(serde_json::json!({"id": id})),
    }
}

async fn journal(db: &Database, ids: &'static [&'static str]) {
    transact(db, move |tx| {
        Box::pin(async move {
            for id in ids {
                tx.journal(entry(id));
            }
            Ok(())
        })
    })
    .await
    .unwrap();
}

/// The next entries, once there are as many. On PostgreSQL a transaction of any other test on
/// the server, in whatever database, may hold them back for a moment.
async fn expect(consumer: &Consumer, number: usize) -> Vec<JournalRecord> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    loop {
        let records = consumer.next(9).await.unwrap();
        if records.len() >= number {
            return records;
        }
        assert!(tokio::time::Instant::now() < deadline, "only {:?}", names(&records));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn names(records: &[JournalRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

#[tokio::test]
async fn a_consumer_gets_every_entry_in_order_from_its_own_position() {
    for test in databases(&[THINGS]).await {
        journal(&test.db, &["a", "b"]).await;
        journal(&test.db, &["c"]).await;
        let one = test.db.consumer("one");
        expect(&one, 3).await;
        let first = one.next(2).await.unwrap();
        assert_eq!(names(&first), ["a", "b"], "{}", test.name);
        assert_eq!(names(&one.next(2).await.unwrap()), ["a", "b"], "until it commits");
        assert_eq!(first[0].request_id, "test");
        assert_eq!(first[0].project.as_ref().unwrap().as_str(), "p1");
        assert_eq!(first[0].after.as_ref().unwrap()["id"], "a");
        assert_eq!(first[0].position.transaction_id, first[1].position.transaction_id);
        one.commit(first[1].position).await.unwrap();
        assert_eq!(names(&one.next(9).await.unwrap()), ["c"]);
        // A position never moves back, and each consumer has its own.
        one.commit(first[0].position).await.unwrap();
        assert_eq!(names(&one.next(9).await.unwrap()), ["c"]);
        assert_eq!(names(&expect(&test.db.consumer("two"), 3).await), ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn entries_of_a_failed_transaction_are_not_there() {
    for test in databases(&[THINGS]).await {
        let failed = transact::<(), _>(&test.db, |tx| {
            Box::pin(async move {
                tx.journal(entry("a"));
                tx.query_one("SELECT id FROM things", &[]).await.map(drop)
            })
        })
        .await;
        assert!(failed.is_err());
        journal(&test.db, &["b"]).await;
        assert_eq!(names(&expect(&test.db.consumer("c"), 1).await), ["b"], "{}", test.name);
    }
}

#[tokio::test]
async fn lag_is_counted_and_following_waits_for_news() {
    for test in databases(&[THINGS]).await {
        let consumer = test.db.consumer("lagging");
        assert_eq!(consumer.lag().await.unwrap().entries, 0);
        journal(&test.db, &["a", "b", "c"]).await;
        test.clock.advance(Duration::from_secs(7));
        let lag = consumer.lag().await.unwrap();
        assert_eq!((lag.entries, lag.age), (3, Duration::from_secs(7)), "{}", test.name);
        let all = expect(&consumer, 3).await;
        consumer.commit(all[2].position).await.unwrap();
        let follower = consumer.clone();
        let waiting = tokio::spawn(async move { follower.follow(9).await.unwrap() });
        tokio::task::yield_now().await;
        journal(&test.db, &["d"]).await;
        assert_eq!(names(&waiting.await.unwrap()), ["d"]);
    }
}

#[tokio::test]
async fn after_a_restore_new_entries_come_after_all_old_ones() {
    for test in databases(&[THINGS]).await {
        journal(&test.db, &["a"]).await;
        let before = test.db.lineage();
        let renewed = test.db.renew_lineage().await.unwrap();
        assert_ne!(before, renewed);
        assert_eq!(test.db.lineage(), renewed);
        journal(&test.db, &["b"]).await;
        let all = expect(&test.db.consumer("c"), 2).await;
        assert_eq!(names(&all), ["a", "b"], "{}", test.name);
        assert!(all[0].position.era < all[1].position.era);
    }
}

#[tokio::test]
async fn trimming_deletes_what_is_old_and_read_by_all() {
    for test in databases(&[THINGS]).await {
        journal(&test.db, &["a", "b", "c"]).await;
        let trim = |limit| {
            let now = cloud_types::Clock::now(&test.clock);
            transact(&test.db, move |tx| {
                Box::pin(async move { database::journal::trim(tx, now, limit).await })
            })
        };
        assert_eq!(trim(9).await.unwrap(), 0, "nothing is from before now");
        test.clock.advance(Duration::from_secs(1));
        let (one, two) = (test.db.consumer("one"), test.db.consumer("two"));
        let all = expect(&one, 3).await;
        one.commit(all[2].position).await.unwrap();
        two.commit(all[1].position).await.unwrap();
        assert_eq!(trim(1).await.unwrap(), 1, "{}", test.name);
        assert_eq!(trim(9).await.unwrap(), 1, "{}: the last one is still to be read", test.name);
        assert_eq!(names(&expect(&two, 1).await), ["c"]);
        two.commit(all[2].position).await.unwrap();
        assert_eq!(trim(9).await.unwrap(), 1);
        // Positions go on from where they were.
        journal(&test.db, &["d"]).await;
        assert_eq!(names(&expect(&two, 1).await), ["d"], "{}", test.name);
    }
}

/// The heart of the matter: a transaction takes its number early and commits late, while others
/// begin after it and commit before it. A consumer that went by what it sees would store a
/// position beyond it, and never see it.
#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (db, begun, go_on) = (test.db.clone(), begun.clone(), go_on.clone());
        tokio::spawn(async move {
            transact(&db, move |tx| {
                let (begun, go_on) = (begun.clone(), go_on.clone());
                Box::pin(async move {
                    // Writing takes the transaction id, and the entry's sequence number is taken
                    // here too, as a journal that wrote at once would.
                    tx.execute("INSERT INTO things (id, generation) VALUES ('slow', 1)", &[])
                        .await?;
                    tx.execute(
                        "INSERT INTO journal (era, transaction_id, time, request_id, kind,
                             object_id, action)
                         SELECT era, pg_current_xact_id()::text::bigint, 0, 'r', 'thing', 'slow',
                             'create' FROM database_lineage",
                        &[],
                    )
                    .await?;
                    begun.notify_one();
                    go_on.notified().await;
                    Ok(())
                })
            })
            .await
            .unwrap();
        })
    };
    begun.notified().await;
    journal(&test.db, &["fast"]).await;
    let consumer = test.db.consumer("c");
    let early = consumer.next(9).await.unwrap();
    assert!(names(&early).is_empty(), "fast is visible, and must wait: {:?}", names(&early));
    assert_eq!(consumer.lag().await.unwrap().entries, 1, "it is known to be behind");
    let follower = consumer.clone();
    let waiting = tokio::spawn(async move { follower.follow(9).await.unwrap() });
    go_on.notify_one();
    slow.await.unwrap();
    // Both at once, or one after the other, but never the second alone.
    assert_eq!(names(&waiting.await.unwrap())[0], "slow");
    let all = expect(&consumer, 2).await;
    assert_eq!(names(&all), ["slow", "fast"]);
    assert!(all[0].position < all[1].position);
}

/// Many writers, one consumer that follows while they write: everything once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_that_follows_writers_misses_nothing() {
    for test in databases(&[THINGS]).await {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let db = test.db.clone();
                tokio::spawn(async move {
                    for number in 0..25 {
                        db.transact(&Origin::system("writer"), move |tx| {
                            Box::pin(async move {
                                tx.journal(entry(&format!("{writer}-{number}")));
                                tx.journal(entry(&format!("{writer}-{number}b")));
                                Ok::<_, database::DatabaseError>(())
                            })
                        })
                        .await
                        .unwrap();
                    }
                })
            })
            .collect();
        let consumer = test.db.consumer("c");
        let mut seen = Vec::new();
        while seen.len() < 400 {
            let records = consumer.follow(7).await.unwrap();
            consumer.commit(records.last().unwrap().position).await.unwrap();
            seen.extend(records);
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(consumer.next(9).await.unwrap().is_empty(), "{}", test.name);
        assert!(seen.windows(2).all(|pair| pair[0].position < pair[1].position));
        let mut ids: Vec<&str> = names(&seen);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 400, "{}", test.name);
    }
}
