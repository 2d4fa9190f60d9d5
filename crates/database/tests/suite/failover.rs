//! A PostgreSQL primary that dies while transactions are under way, and its standby that takes over:
//! whatever was acknowledged is there, and what was refused is not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloud_types::SystemClock;
use database::test_support::PostgresPair;
use database::{Database, DatabaseConfig, DatabaseError, params};

use crate::{THINGS, ids, transact};

/// How many write at the same time.
const WRITERS: usize = 6;
/// Far longer than it should take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the writers were told.
#[derive(Default)]
struct Told {
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
}

async fn open(url: &str) -> Database {
    let config = DatabaseConfig::Postgres { url: url.to_owned() };
    Database::open(&config, Arc::new(SystemClock)).await.unwrap()
}

async fn write(db: &Database, id: &str) -> Result<(), DatabaseError> {
    let id = id.to_owned();
    transact(db, move |tx| {
        let id = id.clone();
        Box::pin(async move {
            tx.execute("INSERT INTO things (id, generation) VALUES ($1, 1)", &params![id]).await?;
            Ok(())
        })
    })
    .await
}

/// Writes one thing after the other until it is told to end.
async fn keep_writing(db: Database, writer: usize, told: Arc<Mutex<Told>>, end: Arc<AtomicBool>) {
    let mut number = 0;
    while !end.load(Ordering::SeqCst) {
        number += 1;
        let id = format!("{writer}-{number}");
        let answer = write(&db, &id).await;
        let mut told = told.lock().unwrap();
        match answer {
            Ok(()) => told.acknowledged.insert(id),
            // It says of itself that it cannot know.
            Err(DatabaseError::Unknown(_)) => false,
            Err(_) => told.refused.insert(id),
        };
    }
}

async fn until_more(told: &Mutex<Told>, than: usize) {
    let begun = Instant::now();
    while told.lock().unwrap().acknowledged.len() <= than {
        assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_acknowledged_transaction_is_lost_in_a_failover() {
    let mut pair = tokio::task::spawn_blocking(PostgresPair::start).await.unwrap();
    pair.create_database("cloud").await;
    pair.synchronize().await;
    let db = open(&pair.url("cloud")).await;
    db.migrate(&[THINGS]).await.unwrap();

    let (told, end) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(keep_writing(db.clone(), writer, told.clone(), end.clone())))
        .collect();
    until_more(&told, 200).await;
    pair.first.kill();
    let before = told.lock().unwrap().acknowledged.len();
    // On another thread: the writers go on meanwhile.
    let pair = tokio::task::spawn_blocking(move || {
        pair.second.promote();
        pair
    })
    .await
    .unwrap();
    let promoted = Instant::now();
    until_more(&told, before + WRITERS).await;
    println!(
        "measured: acknowledged again {} ms after the promotion",
        promoted.elapsed().as_millis()
    );
    until_more(&told, before + 200).await;
    end.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }

    let stored: BTreeSet<String> = ids(&db).await.into_iter().collect();
    let told = told.lock().unwrap();
    let lost: Vec<_> = told.acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let undead: Vec<_> = told.refused.intersection(&stored).collect();
    assert!(undead.is_empty(), "refused and stored: {undead:?}");
    println!(
        "measured: {} acknowledged, {} refused, none lost",
        told.acknowledged.len(),
        told.refused.len()
    );
    drop(pair);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_primary_that_comes_back_is_not_written_to() {
    let mut pair = tokio::task::spawn_blocking(PostgresPair::start).await.unwrap();
    pair.create_database("cloud").await;
    pair.synchronize().await;
    let (url, user_url) = (pair.url("cloud"), pair.second.url("cloud"));
    let db = open(&url).await;
    db.migrate(&[THINGS]).await.unwrap();
    write(&db, "before").await.unwrap();
    pair.first.kill();
    let mut pair = tokio::task::spawn_blocking(move || {
        pair.second.promote();
        // It believes that it is the primary, and takes writes without anybody's consent.
        pair.first.start(&["synchronous_standby_names="]);
        pair
    })
    .await
    .unwrap();

    write(&db, "after").await.unwrap();
    // A process that starts now meets the former primary first, and passes it by.
    let fresh = open(&url).await;
    write(&fresh, "fresh").await.unwrap();
    let second = open(&user_url).await;
    assert_eq!(ids(&second).await, ["after", "before", "fresh"]);
    let forgotten = pair.first.administer("cloud", "SELECT id FROM things ORDER BY id").await;
    assert_eq!(forgotten, ["before"]);

    // With the new primary gone too, the former one is no stopgap.
    for database in [second, fresh] {
        database.close().await;
    }
    pair.second.kill();
    let refused = write(&db, "nowhere").await.unwrap_err();
    assert!(refused.to_string().contains("former primary"), "{refused}");
}

/// The limit of a statement: a server that gave up waiting for the standby because of it would call
/// the transaction stored.
const LIMIT: &str = "options=-c%20statement_timeout%3D1s";
const BEYOND_LIMIT: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_while_the_standby_is_away() {
    let mut pair = tokio::task::spawn_blocking(PostgresPair::start).await.unwrap();
    pair.create_database("cloud").await;
    pair.synchronize().await;
    let db = open(&format!("{}&{LIMIT}", pair.url("cloud"))).await;
    db.migrate(&[THINGS]).await.unwrap();
    pair.second.kill();
    let mut writing = tokio::spawn(async move { write(&db, "alone").await });
    let early = tokio::time::timeout(BEYOND_LIMIT, &mut writing).await;
    assert!(early.is_err(), "acknowledged on one disk: {early:?}");
    let pair = tokio::task::spawn_blocking(move || {
        pair.second.start(&["synchronous_standby_names="]);
        pair
    })
    .await
    .unwrap();
    writing.await.unwrap().unwrap();
    drop(pair);
}
