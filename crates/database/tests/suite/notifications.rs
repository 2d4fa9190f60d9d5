//! Word of committed changes, within a process and between processes.

use std::time::Duration;

use database::test_support::{PostgresServer, TestDatabase, databases};
use database::{Database, DatabaseConfig, DatabaseError, Notification, Subscription};

use crate::{THINGS, transact};

async fn notify(db: &Database, key: &'static str) {
    transact(db, move |tx| {
        Box::pin(async move {
            tx.notify("things", key);
            tx.notify("things", key);
            Ok(())
        })
    })
    .await
    .unwrap();
}

async fn next(subscription: &mut Subscription) -> Notification {
    tokio::time::timeout(Duration::from_secs(20), subscription.recv())
        .await
        .expect("a notification")
}

fn key(text: &str) -> Notification {
    Notification::Key(text.to_owned())
}

#[tokio::test]
async fn subscribers_hear_of_what_was_stored_once_and_in_order() {
    for test in databases(&[THINGS]).await {
        let mut things = test.db.subscribe("things");
        let mut others = test.db.subscribe("others");
        notify(&test.db, "a").await;
        let failed = transact::<(), _>(&test.db, |tx| {
            Box::pin(async move {
                tx.notify("things", "never");
                Err(DatabaseError::Misuse("no".to_owned()))
            })
        });
        assert!(failed.await.is_err());
        notify(&test.db, "b").await;
        assert_eq!(next(&mut things).await, key("a"), "{}", test.name);
        assert_eq!(next(&mut things).await, key("b"), "{}", test.name);
        assert_eq!(things.try_recv(), None);
        assert_eq!(others.try_recv(), None);
    }
}

#[tokio::test]
async fn other_processes_hear_too_and_nobody_hears_twice() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    let other = test.open_again().await;
    let (mut here, mut there) = (test.db.subscribe("things"), other.subscribe("things"));
    notify(&test.db, "a").await;
    assert_eq!(next(&mut there).await, key("a"));
    notify(&other, "b").await;
    assert_eq!(next(&mut there).await, key("b"));
    assert_eq!(next(&mut here).await, key("a"));
    assert_eq!(next(&mut here).await, key("b"));
    // A last one from the other side comes after any echo of the ones before.
    notify(&other, "end").await;
    assert_eq!(next(&mut here).await, key("end"));
    notify(&test.db, "end").await;
    assert_eq!(next(&mut there).await, key("end"));
}

#[tokio::test]
async fn a_broken_listener_comes_back_and_says_that_it_lagged() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    let other = test.open_again().await;
    let mut here = test.db.subscribe("things");
    let DatabaseConfig::Postgres { url } = &test.config else { panic!() };
    let name = url.rsplit('=').next().unwrap();
    PostgresServer::shared()
        .administer(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE query = 'LISTEN meridian' AND datname = '{name}'"
        ))
        .await;
    assert_eq!(next(&mut here).await, Notification::Lagged);
    notify(&other, "a").await;
    assert_eq!(next(&mut here).await, key("a"));
}
