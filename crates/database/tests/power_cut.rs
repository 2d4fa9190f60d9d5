//! The power goes while SQLite writes. Everything that SQLite asks of the operating system is written
//! down while transactions run; then the file is put together as a disk may hold it after a cut at
//! any instant: what was synced is there, and of the rest any part, torn at any sector. Whatever was
//! acknowledged by then must be in it, and the file sound.
//!
//! `MERIDIAN_POWER_CUTS` says how many cuts are tried.

#[path = "power_cut/recorder.rs"]
mod recorder;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cloud_types::SystemClock;
use database::{Database, DatabaseConfig, DatabaseError, Migration, MigrationSet, Origin, params};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use recorder::{Disk, Event, Syncs};

const THINGS: MigrationSet = MigrationSet {
    service: "power_cut",
    migrations: &[Migration {
        number: 1,
        name: "things",
        sql: "CREATE TABLE things (id TEXT PRIMARY KEY, body BYTEA NOT NULL)",
    }],
};

/// How many write at the same time, so that some share a commit.
const WRITERS: u64 = 3;
/// Transactions of each.
const EACH: u64 = 110;
/// So much is stored by one that the log is moved into the file now and then.
const BODY: usize = 24 * 1024;

fn cuts() -> usize {
    std::env::var("MERIDIAN_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

/// Writes, and notes each acknowledgement among the recorded events.
async fn work(path: &Path) {
    let config = DatabaseConfig::Sqlite { path: path.to_owned() };
    let db = Database::open(&config, Arc::new(SystemClock)).await.unwrap();
    db.migrate(&[THINGS]).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(writer);
            for number in 0..EACH {
                let id = format!("{writer}-{number}");
                let body = vec![u8::try_from(number % 251).unwrap(); random.random_range(1..BODY)];
                let (key, origin) = (id.clone(), Origin::system("test"));
                let stored: Result<u64, DatabaseError> = db
                    .transact(&origin, move |tx| {
                        let (key, body) = (key.clone(), body.clone());
                        Box::pin(async move {
                            tx.execute("INSERT INTO things VALUES ($1, $2)", &params![key, body])
                                .await
                        })
                    })
                    .await;
                stored.unwrap();
                recorder::note(Event::Acknowledged(id));
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    db.close().await;
}

/// What a database holds that was put together after a cut; `Err` when it is not sound.
fn survivors(path: &Path) -> Result<BTreeSet<String>, String> {
    let text = |error: rusqlite::Error| error.to_string();
    let connection = rusqlite::Connection::open(path).map_err(text)?;
    let check: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(text)?;
    if check != "ok" {
        return Err(check);
    }
    let tables = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'things'";
    if connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(text)? == 0 {
        return Ok(BTreeSet::new());
    }
    let mut statement = connection.prepare("SELECT id FROM things").map_err(text)?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(text)?;
    rows.collect::<Result<_, _>>().map_err(text)
}

/// Cuts the power at one event, and says what went wrong.
fn cut(events: &[Event], at: usize, syncs: Syncs, random: &mut StdRng) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    Disk::at(&events[..at], syncs, random).put_together(directory.path());
    let acknowledged: BTreeSet<String> = events[..at]
        .iter()
        .filter_map(|event| match event {
            Event::Acknowledged(id) => Some(id.clone()),
            _ => None,
        })
        .collect();
    match survivors(&directory.path().join("cloud.sqlite")) {
        Err(damage) => Some(format!("cut at {at}: not sound: {damage}")),
        Ok(stored) => {
            let lost: Vec<_> = acknowledged.difference(&stored).take(5).collect();
            (!lost.is_empty()).then(|| format!("cut at {at}: acknowledged and lost: {lost:?} …"))
        }
    }
}

#[test]
fn whatever_was_acknowledged_survives_a_power_cut_at_any_instant() {
    recorder::install();
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(work(&directory.path().join("cloud.sqlite")));
    let events = recorder::take();
    let count = |what: fn(&Event) -> bool| events.iter().filter(|event| what(event)).count();
    let syncs = count(|event| matches!(event, Event::Synced { .. }));
    let wholes = count(|event| matches!(event, Event::Synced { file } if file == "cloud.sqlite"));
    assert!(syncs > 100 && wholes > 2, "{syncs} syncs, {wholes} of the file: too little happened");

    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut found = Vec::new();
    for _ in 0..cuts() {
        let at = random.random_range(1..=events.len());
        found.extend(cut(&events, at, Syncs::Hold, &mut random));
    }
    assert!(found.is_empty(), "seed {seed}: {found:#?}");
    println!("measured: {} cuts in {} events, nothing lost", cuts(), events.len());

    // A disk that lies about its syncs loses something; so this test would notice.
    let lies = (0..10).filter(|_| {
        let at = random.random_range(events.len() / 2..=events.len());
        cut(&events, at, Syncs::Lie, &mut random).is_some()
    });
    assert!(lies.count() > 0, "a disk without syncs lost nothing");
}
