//! A database with hosts in it, for this crate's tests.

use cloud_types::{Fault, TestClock};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, Origin, Tx};

use crate::hosts::{self, Host};

/// An empty database of each kind. The first part keeps it alive.
pub async fn databases() -> Vec<(TestDatabase, Database, TestClock)> {
    let tests = database::test_support::databases(&[crate::MIGRATIONS]).await;
    tests
        .into_iter()
        .map(|test| {
            let (db, clock) = (test.db.clone(), test.clock.clone());
            (test, db, clock)
        })
        .collect()
}

/// Runs a closure in a transaction of its own.
pub async fn transact<T, F>(db: &Database, closure: F) -> Result<T, Fault>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
{
    db.transact(&Origin::system("test"), closure).await
}

pub async fn token(db: &Database) -> String {
    transact(db, |tx| {
        Box::pin(async move { hosts::create_join_token(tx, "zone-1", "cluster-1", "l2-1").await })
    })
    .await
    .unwrap()
}

pub async fn enrol(db: &Database, token: &str, name: &str) -> Result<Host, Fault> {
    enrol_key(db, token, name, name.as_bytes()).await
}

pub async fn enrol_key(db: &Database, token: &str, name: &str, key: &[u8]) -> Result<Host, Fault> {
    let key = key.to_owned();
    let (token, name) = (token.to_owned(), name.to_owned());
    transact(db, move |tx| {
        let (token, name, key) = (token.clone(), name.clone(), key.clone());
        Box::pin(async move { hosts::enrol(tx, &token, &name, &key).await })
    })
    .await
}

pub async fn host(db: &Database, name: &str) -> Host {
    let token = token(db).await;
    enrol(db, &token, name).await.unwrap()
}
