//! One suite for both databases: what a service may rely on holds on a SQLite file and on a real
//! PostgreSQL server alike.

mod contention;
mod durability;
mod failover;
mod journal;
mod leases;
mod migrations;
mod notifications;
mod postgres_faults;
mod sqlite_faults;
mod transactions;
mod transfer;

use database::{BoxFuture, Database, DatabaseError, Migration, MigrationSet, Origin, Tx};

/// A table to try things on.
const THINGS: MigrationSet = MigrationSet {
    service: "suite",
    migrations: &[Migration {
        number: 1,
        name: "things",
        sql: "CREATE TABLE things (
                  id TEXT PRIMARY KEY, name TEXT, size BIGINT, body BYTEA, ratio DOUBLE PRECISION,
                  generation BIGINT NOT NULL);
              CREATE UNIQUE INDEX things_by_name ON things (name, size)",
    }],
};

/// `transact` on behalf of a test.
async fn transact<T, F>(db: &Database, closure: F) -> Result<T, DatabaseError>
where
    T: Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, DatabaseError>> + Send + Sync + 'static,
{
    db.transact(&Origin::system("test"), closure).await
}

/// Stores a thing of generation 1.
async fn insert(db: &Database, id: &str) {
    let id = id.to_owned();
    transact(db, move |tx| {
        let id = id.clone();
        Box::pin(async move {
            tx.execute(
                "INSERT INTO things (id, size, generation) VALUES ($1, 0, 1)",
                &database::params![id],
            )
            .await
        })
    })
    .await
    .unwrap();
}

/// The ids of all things.
async fn ids(db: &Database) -> Vec<String> {
    db.read(|tx| {
        Box::pin(async move {
            let rows = tx.query("SELECT id FROM things ORDER BY id", &[]).await?;
            rows.iter().map(|row| row.text("id")).collect::<Result<Vec<_>, DatabaseError>>()
        })
    })
    .await
    .unwrap()
}
