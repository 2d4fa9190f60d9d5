//! Two processes, two hundred contenders, one object: no update is lost, nobody gives up.

use std::process::{Command, Stdio};
use std::sync::Arc;

use cloud_types::SystemClock;
use database::test_support::{TestDatabase, databases};
use database::{Database, DatabaseConfig, DatabaseError, ObjectLock, Origin, params};

use crate::{THINGS, insert};

/// Contenders in each of the two processes.
const CONTENDERS: usize = 100;
/// How the child process finds the database.
const CHILD: &str = "DATABASE_TEST_CONTENDER";

/// Adds one to the object's size by compare-and-swap under its lock. Returns the attempts.
async fn increment(db: &Database) -> Result<u64, DatabaseError> {
    db.transact(&Origin::system("contender"), |tx| {
        Box::pin(async move {
            tx.lock(&[ObjectLock::new("thing", "one")]).await?;
            let row = tx
                .query_one("SELECT size, generation FROM things WHERE id = $1", &params!["one"])
                .await?;
            let (size, generation) = (row.int("size")?, row.int("generation")?);
            let changed = tx
                .execute(
                    "UPDATE things SET size = $1, generation = $2 WHERE id = $3 AND generation = $4",
                    &params![size + 1, generation + 1, "one", generation],
                )
                .await?;
            tx.expect_one(changed, "thing", "one")?;
            Ok(1)
        })
    })
    .await
}

async fn contend(db: &Database) -> u64 {
    let contenders: Vec<_> = (0..CONTENDERS)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { increment(&db).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for contender in contenders {
        done += contender.await.unwrap();
    }
    done
}

/// A database's place as one word, for another process.
pub fn spell(config: &DatabaseConfig) -> String {
    match config {
        DatabaseConfig::Sqlite { path } => format!("sqlite:{}", path.display()),
        DatabaseConfig::Postgres { url } => format!("postgres:{url}"),
        DatabaseConfig::SqliteMemory => unreachable!("not shared between processes"),
    }
}

/// Reads what [`spell`] wrote.
pub fn parse(text: &str) -> DatabaseConfig {
    match text.split_once(':') {
        Some(("sqlite", path)) => DatabaseConfig::Sqlite { path: path.into() },
        Some(("postgres", url)) => DatabaseConfig::Postgres { url: url.to_owned() },
        _ => panic!("{text}"),
    }
}

/// Not a test by itself: the second process of the one below runs this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_process() {
    let Ok(text) = std::env::var(CHILD) else {
        return;
    };
    let db = Database::open(&parse(&text), Arc::new(SystemClock)).await.unwrap();
    assert_eq!(contend(&db).await, CONTENDERS as u64);
}

async fn two_processes(test: &TestDatabase) {
    insert(&test.db, "one").await;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "contention::the_second_process"])
        .env(CHILD, spell(&test.config))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let done = contend(&test.db).await;
    let output =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}: the second process", test.name);
    assert_eq!(done, CONTENDERS as u64);
    let row = test
        .db
        .read(|tx| {
            Box::pin(async move { tx.query_one("SELECT size, generation FROM things", &[]).await })
        })
        .await
        .unwrap();
    assert_eq!(row.int("size").unwrap(), 2 * CONTENDERS as i64, "{}", test.name);
    assert_eq!(row.int("generation").unwrap(), 1 + 2 * CONTENDERS as i64);
    let retried = test.db.metrics().retried;
    assert!(retried <= CONTENDERS as u64 / 10, "{}: {retried} retries", test.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_contenders_from_two_processes_lose_nothing() {
    for test in databases(&[THINGS]).await {
        two_processes(&test).await;
    }
}

/// PostgreSQL ends one of two that wait for each other after a second; it is run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_lock_in_opposite_order_both_succeed() {
    for test in databases(&[THINGS]).await {
        let contenders: Vec<_> = (0..4)
            .map(|n| {
                let db = test.db.clone();
                tokio::spawn(async move {
                    let order = if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                    db.transact(&Origin::system("contender"), move |tx| {
                        Box::pin(async move {
                            for id in order {
                                tx.lock(&[ObjectLock::new("thing", id)]).await?;
                            }
                            Ok::<_, DatabaseError>(())
                        })
                    })
                    .await
                })
            })
            .collect();
        for contender in contenders {
            contender.await.unwrap().unwrap_or_else(|error| panic!("{}: {error}", test.name));
        }
    }
}
