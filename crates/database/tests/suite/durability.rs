//! Acknowledged means stored: a process is killed at any instant, and everything that it was told
//! is stored is there, whole.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use cloud_types::SystemClock;
use database::test_support::{TestDatabase, databases};
use database::{Database, DatabaseError, Origin, params};

use crate::contention::{parse, spell};
use crate::{THINGS, ids};

/// How the child process finds the database.
const CHILD: &str = "DATABASE_TEST_WRITER";
/// Writers in the child, so that commits are shared.
const WRITERS: usize = 8;

/// Not a test by itself: the process that is killed. Says each pair of rows that is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer() {
    let Ok(text) = std::env::var(CHILD) else {
        return;
    };
    let db = Database::open(&parse(&text), Arc::new(SystemClock)).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let db = db.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let name = format!("{writer}-{number}");
                    write_pair(&db, &name).await.unwrap();
                    println!("stored {name}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn write_pair(db: &Database, name: &str) -> Result<(), DatabaseError> {
    let name = name.to_owned();
    db.transact(&Origin::system("writer"), move |tx| {
        let name = name.clone();
        Box::pin(async move {
            for half in ["left", "right"] {
                tx.execute(
                    "INSERT INTO things (id, generation) VALUES ($1, 1)",
                    &params![format!("{name}-{half}")],
                )
                .await?;
            }
            Ok(())
        })
    })
    .await
}

/// Kills the writer once it has said so many pairs; returns what it said.
fn run_and_kill(test: &TestDatabase, after: usize) -> BTreeSet<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "durability::the_writer"])
        .env(CHILD, spell(&test.config))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = BTreeSet::new();
    let mut killed = false;
    // To the end: what it had said before it died may still be in the pipe.
    for line in lines.map_while(Result::ok) {
        if let Some((_, name)) = line.split_once("stored ") {
            said.insert(name.to_owned());
        }
        if said.len() == after && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "{}: it ended by itself", test.name);
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    for test in databases(&[THINGS]).await {
        test.db.close().await;
        for after in [1, 30, 200] {
            let said = run_and_kill(&test, after);
            let db = test.open_again().await;
            let stored: BTreeSet<String> = ids(&db).await.into_iter().collect();
            for name in &said {
                for half in ["left", "right"] {
                    assert!(stored.contains(&format!("{name}-{half}")), "{}: {name}", test.name);
                }
            }
            for id in &stored {
                let (name, half) = id.rsplit_once('-').unwrap();
                let other = if half == "left" { "right" } else { "left" };
                assert!(
                    stored.contains(&format!("{name}-{other}")),
                    "{}: half of {name}",
                    test.name
                );
            }
            db.transact(&Origin::system("test"), |tx| {
                Box::pin(async move { tx.execute("DELETE FROM things", &[]).await })
            })
            .await
            .map(|_: u64| ())
            .map_err(|error: DatabaseError| error)
            .unwrap();
            db.close().await;
        }
    }
}
