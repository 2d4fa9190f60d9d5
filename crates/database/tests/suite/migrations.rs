//! Bringing schemas up to date.

use database::test_support::databases;
use database::{DatabaseError, Migration, MigrationSet, params};

use crate::{THINGS, transact};

const FIRST: Migration = Migration {
    number: 1,
    name: "boxes",
    sql: "-- Boxes; each has an id.
          CREATE TABLE boxes (id TEXT PRIMARY KEY, note TEXT DEFAULT 'a;b');
          INSERT INTO boxes (id) VALUES ('one');",
};
const SECOND: Migration = Migration {
    number: 2,
    name: "box_sizes",
    sql: "ALTER TABLE boxes ADD COLUMN size BIGINT NOT NULL DEFAULT 3",
};
const BROKEN: Migration = Migration {
    number: 3,
    name: "broken",
    sql: "CREATE TABLE half (id TEXT); CREATE TABLE half (id TEXT)",
};

const RELEASE_1: MigrationSet = MigrationSet { service: "boxes", migrations: &[FIRST] };
const RELEASE_2: MigrationSet = MigrationSet { service: "boxes", migrations: &[FIRST, SECOND] };
const RELEASE_3: MigrationSet =
    MigrationSet { service: "boxes", migrations: &[FIRST, SECOND, BROKEN] };

#[tokio::test]
async fn migrations_are_applied_once_and_a_newer_schema_is_refused() {
    for test in databases(&[THINGS, RELEASE_1]).await {
        test.db.migrate(&[THINGS, RELEASE_1]).await.unwrap();
        test.db.migrate(&[RELEASE_2]).await.unwrap();
        let row = transact(&test.db, |tx| {
            Box::pin(async move { tx.query_one("SELECT * FROM boxes", &[]).await })
        })
        .await
        .unwrap();
        assert_eq!(row.text("note").unwrap(), "a;b", "{}", test.name);
        assert_eq!(row.int("size").unwrap(), 3);
        let error = test.db.migrate(&[RELEASE_1]).await.unwrap_err();
        let DatabaseError::SchemaTooNew { found: 2, known: 1, .. } = error else {
            panic!("{}: {error:?}", test.name);
        };
    }
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing() {
    for test in databases(&[RELEASE_2]).await {
        let error = test.db.migrate(&[RELEASE_3]).await.unwrap_err();
        assert!(error.to_string().starts_with("migration 3 (broken) of boxes failed"), "{error}");
        let tables = transact(&test.db, |tx| {
            Box::pin(async move {
                tx.query(
                    "SELECT number FROM schema_migrations WHERE service = $1",
                    &params!["boxes"],
                )
                .await
            })
        })
        .await
        .unwrap();
        assert_eq!(tables.len(), 2, "{}", test.name);
        let gone = transact(&test.db, |tx| {
            Box::pin(async move { tx.query("SELECT id FROM half", &[]).await })
        });
        assert!(gone.await.is_err(), "{}: half of it is there", test.name);
    }
}

#[tokio::test]
async fn a_number_that_means_something_else_is_refused() {
    const OTHER: MigrationSet = MigrationSet {
        service: "boxes",
        migrations: &[Migration { number: 1, name: "crates", sql: "" }],
    };
    const TWICE: MigrationSet = MigrationSet { service: "boxes", migrations: &[FIRST, FIRST] };
    for test in databases(&[RELEASE_1]).await {
        for wrong in [OTHER, TWICE] {
            let error = test.db.migrate(&[wrong]).await.unwrap_err();
            assert!(matches!(error, DatabaseError::Migration { number: 1, .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn processes_that_migrate_at_once_do_it_once() {
    for test in databases(&[]).await {
        let others: Vec<_> = [test.open_again().await, test.open_again().await, test.db.clone()]
            .into_iter()
            .map(|db| tokio::spawn(async move { db.migrate(&[RELEASE_2, THINGS]).await }))
            .collect();
        for other in others {
            other.await.unwrap().unwrap_or_else(|error| panic!("{}: {error}", test.name));
        }
    }
}
