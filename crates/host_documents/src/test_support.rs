//! A database with hosts in it, for this crate's tests.

use std::sync::Arc;

use cloud_types::{Fault, TestClock, Timestamp};
use database::{BoxFuture, Database, DatabaseConfig, Origin, Tx};

use crate::hosts::{self, Host};

/// A moment in November 2023.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

pub async fn database() -> (Database, TestClock) {
    let clock = TestClock::at(START);
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(clock.clone())).await.unwrap();
    db.migrate(&[crate::MIGRATIONS]).await.unwrap();
    (db, clock)
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
    let (token, name) = (token.to_owned(), name.to_owned());
    transact(db, move |tx| {
        let (token, name) = (token.clone(), name.clone());
        Box::pin(async move { hosts::enrol(tx, &token, &name).await })
    })
    .await
}

pub async fn host(db: &Database, name: &str) -> Host {
    let token = token(db).await;
    enrol(db, &token, name).await.unwrap()
}
