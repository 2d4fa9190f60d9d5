//! What only SQLite does: shared commits, and disks that are full or read-only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cloud_types::{Fault, FaultKind, SystemClock};
use database::test_support::TestDatabase;
use database::{Database, DatabaseConfig, DatabaseError, params};

use crate::{THINGS, ids, insert, transact};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_wait_together_share_a_commit_and_fail_alone() {
    let test = TestDatabase::sqlite(&[THINGS]).await;
    insert(&test.db, "taken").await;
    let before = test.db.metrics();
    // The writer is held until all others are queued, so that they share one batch.
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let first = {
        let db = test.db.clone();
        tokio::spawn(async move {
            transact(&db, move |_| {
                let held = held.clone();
                Box::pin(async move {
                    let _ = held.lock().unwrap().recv();
                    Ok(())
                })
            })
            .await
        })
    };
    let mut calls = Vec::new();
    for n in 0..50 {
        let db = test.db.clone();
        let id = if n == 25 { "taken".to_owned() } else { format!("{n:02}") };
        let mut call = Box::pin(async move {
            transact(&db, move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    tx.execute("INSERT INTO things (id, generation) VALUES ($1, 1)", &params![id])
                        .await
                })
            })
            .await
        });
        // The first poll queues it.
        assert!(futures::poll!(call.as_mut()).is_pending());
        calls.push(call);
    }
    hold.send(()).unwrap();
    first.await.unwrap().unwrap();
    let results = futures::future::join_all(calls).await;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), n == 25, "{n}: {result:?}");
    }
    assert_eq!(ids(&test.db).await.len(), 50);
    let after = test.db.metrics();
    assert_eq!(after.committed - before.committed, 50);
    assert!(after.commits - before.commits <= 3, "{after:?}");
}

#[tokio::test]
async fn a_closure_that_waits_for_something_else_is_told_so() {
    let test = TestDatabase::sqlite(&[THINGS]).await;
    let error = transact(&test.db, |_| {
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(())
        })
    })
    .await
    .unwrap_err();
    assert!(error.to_string().contains("must not sleep"), "{error}");
}

#[tokio::test]
async fn a_database_in_memory_runs_on_the_callers_thread() {
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
    db.migrate(&[THINGS]).await.unwrap();
    let here = std::thread::current().id();
    let there = transact(&db, move |_| Box::pin(async { Ok(std::thread::current().id()) }));
    assert_eq!(there.await.unwrap(), here);
    insert(&db, "a").await;
    assert_eq!(ids(&db).await, ["a"]);
}

#[tokio::test]
async fn random_numbers_repeat_for_a_seed() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let db =
            Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
        db.seed(42);
        let drawn =
            transact(&db, |tx| Box::pin(async move { Ok([tx.random_u64(), tx.random_u64()]) }));
        seen.push(drawn.await.unwrap());
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0][0], seen[0][1]);
}

/// A small file system of the test's own.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(options: &str) -> Option<Mount> {
        let path = std::env::temp_dir().join(format!("db-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).unwrap();
        let mount = Mount(path);
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&mount.0)
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(mount);
        }
        eprintln!("not allowed to mount a file system here: this test needs root");
        None
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success(), "remount {options}");
    }

    fn file(&self) -> DatabaseConfig {
        DatabaseConfig::Sqlite { path: self.0.join("test.db") }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

async fn fill(db: &Database, id: String, bytes: usize) -> Result<u64, DatabaseError> {
    transact(db, move |tx| {
        let id = id.clone();
        Box::pin(async move {
            tx.execute(
                "INSERT INTO things (id, body, generation) VALUES ($1, $2, 1)",
                &params![id, vec![7u8; bytes]],
            )
            .await
        })
    })
    .await
}

#[tokio::test]
async fn a_full_disk_refuses_clearly_loses_nothing_and_heals() {
    let Some(mount) = Mount::tmpfs("size=2m") else {
        return;
    };
    let db = Database::open(&mount.file(), Arc::new(SystemClock)).await.unwrap();
    db.migrate(&[THINGS]).await.unwrap();
    let mut stored = 0;
    let error = loop {
        match fill(&db, format!("{stored:05}"), 20_000).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "2 MiB are full by now");
    };
    assert!(matches!(error, DatabaseError::Full(_)), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    let fault = Fault::from(error);
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.message.contains("disk of the cloud's database is full"), "{fault}");
    assert_eq!(ids(&db).await.len(), stored, "what was acknowledged is there, and nothing else");
    mount.remount("size=8m");
    fill(&db, "healed".to_owned(), 20_000).await.unwrap();
    assert_eq!(ids(&db).await.len(), stored + 1);
    db.close().await;
    let again = Database::open(&mount.file(), Arc::new(SystemClock)).await.unwrap();
    assert_eq!(ids(&again).await.len(), stored + 1);
}

#[tokio::test]
async fn a_read_only_file_is_read_refuses_clearly_and_heals() {
    let Some(mount) = Mount::tmpfs("size=8m") else {
        return;
    };
    let db = Database::open(&mount.file(), Arc::new(SystemClock)).await.unwrap();
    db.migrate(&[THINGS]).await.unwrap();
    insert(&db, "a").await;
    let lineage = db.lineage();
    db.close().await;
    drop(db);
    mount.remount("ro");
    let db = Database::open(&mount.file(), Arc::new(SystemClock)).await.unwrap();
    db.migrate(&[THINGS]).await.unwrap();
    assert_eq!(db.lineage(), lineage);
    assert_eq!(ids(&db).await, ["a"]);
    let error = fill(&db, "b".to_owned(), 10).await.unwrap_err();
    assert!(matches!(error, DatabaseError::ReadOnly(_)), "{error:?}");
    assert!(error.to_string().contains("mounted read-only"), "{error}");
    let fault = Fault::from(error);
    assert_eq!(fault.kind, FaultKind::Unavailable);
    assert!(fault.message.contains("read-only"), "{fault}");
    mount.remount("rw");
    insert(&db, "b").await;
    assert_eq!(ids(&db).await, ["a", "b"]);
}

/// As after a crash: the write-ahead log is still there, and holds what the file does not have.
#[tokio::test]
async fn a_read_only_file_with_a_log_beside_it_is_read_whole_and_heals() {
    let Some(mount) = Mount::tmpfs("size=8m") else {
        return;
    };
    let test = TestDatabase::sqlite(&[THINGS]).await;
    insert(&test.db, "a").await;
    let DatabaseConfig::Sqlite { path } = &test.config else { panic!() };
    for end in ["", "-wal", "-shm"] {
        let name = format!("{}{end}", path.display());
        std::fs::copy(&name, mount.0.join(format!("test.db{end}"))).unwrap();
    }
    mount.remount("ro");
    let db = Database::open(&mount.file(), Arc::new(SystemClock)).await.unwrap();
    for _ in 0..20 {
        assert_eq!(ids(&db).await, ["a"]);
    }
    let error = fill(&db, "b".to_owned(), 10).await.unwrap_err();
    assert!(matches!(error, DatabaseError::ReadOnly(_)), "{error:?}");
    mount.remount("rw");
    insert(&db, "b").await;
    assert_eq!(ids(&db).await, ["a", "b"]);
}

#[tokio::test]
async fn what_is_no_database_or_cannot_be_opened_is_said_so() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let config = DatabaseConfig::Sqlite { path: path.to_owned() };
        async move { Database::open(&config, Arc::new(SystemClock)).await.err().unwrap() }
    };
    let garbage = directory.path().join("garbage");
    std::fs::write(
        &garbage,
        "this is a text file, and a long one, so that it has a header".repeat(40),
    )
    .unwrap();
    let error = open(&garbage).await;
    assert!(error.to_string().contains("not a database"), "{error}");
    let error = open(&directory.path().join("no/such/directory/test.db")).await;
    assert!(matches!(error, DatabaseError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("no/such/directory"), "{error}");
}
