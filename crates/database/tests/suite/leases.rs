//! Leases: one holder at a time, whose epoch is checked where it acts.

use std::time::Duration;

use database::test_support::databases;
use database::{Database, DatabaseError, leases};

use crate::transact;

const LENGTH: Duration = Duration::from_secs(60);

async fn take(db: &Database, holder: &str) -> Option<u64> {
    let holder = holder.to_owned();
    transact(db, move |tx| {
        let holder = holder.clone();
        Box::pin(async move { leases::take(tx, "sweeping", &holder, LENGTH).await })
    })
    .await
    .unwrap()
}

async fn check(db: &Database, epoch: u64) -> Result<(), DatabaseError> {
    transact(db, move |tx| Box::pin(async move { leases::check(tx, "sweeping", epoch).await }))
        .await
}

#[tokio::test]
async fn a_lease_has_one_holder_until_it_is_over() {
    for test in databases(&[]).await {
        let epoch = take(&test.db, "a").await.expect("it is free");
        assert_eq!(take(&test.db, "b").await, None, "{}", test.name);
        assert_eq!(take(&test.db, "a").await, Some(epoch), "the holder makes it longer");
        check(&test.db, epoch).await.unwrap();
        test.clock.advance(LENGTH);
        assert_eq!(take(&test.db, "b").await, Some(epoch + 1));
        assert_eq!(take(&test.db, "a").await, None);
    }
}

#[tokio::test]
async fn a_holder_that_was_stopped_past_its_lease_changes_nothing() {
    for test in databases(&[]).await {
        let stopped = take(&test.db, "a").await.unwrap();
        test.clock.advance(LENGTH);
        // Over, but nobody else has begun: it may still go on.
        check(&test.db, stopped).await.unwrap();
        let next = take(&test.db, "b").await.unwrap();
        let refused = check(&test.db, stopped).await.unwrap_err();
        assert!(matches!(refused, DatabaseError::Stale { kind: "lease", .. }), "{refused}");
        check(&test.db, next).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_dead_holder_had_is_free_at_once() {
    for test in databases(&[]).await {
        let epoch = take(&test.db, "a").await.unwrap();
        let given_up =
            transact(&test.db, |tx| Box::pin(async move { leases::give_up_all(tx, "a").await }));
        assert_eq!(given_up.await.unwrap(), 1);
        assert_eq!(take(&test.db, "b").await, Some(epoch + 1));
    }
}
