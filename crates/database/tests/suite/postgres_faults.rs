//! What only PostgreSQL does: connections that break, commits whose outcome must be found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloud_types::SystemClock;
use database::test_support::{PostgresServer, TestDatabase};
use database::{Database, DatabaseConfig, DatabaseError, ObjectLock, params};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::{THINGS, ids, insert, transact};

#[tokio::test]
async fn a_lock_is_held_until_the_end_and_the_next_reads_what_it_wrote() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    insert(&test.db, "one").await;
    let (locked, go_on) =
        (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let holder = {
        let (db, locked, go_on) = (test.db.clone(), locked.clone(), go_on.clone());
        tokio::spawn(async move {
            transact(&db, move |tx| {
                let (locked, go_on) = (locked.clone(), go_on.clone());
                Box::pin(async move {
                    tx.lock(&[ObjectLock::new("thing", "one")]).await?;
                    locked.notify_one();
                    go_on.notified().await;
                    tx.execute("UPDATE things SET size = 1", &[]).await
                })
            })
            .await
        })
    };
    locked.notified().await;
    let waiter = {
        let db = test.db.clone();
        tokio::spawn(async move {
            transact(&db, |tx| {
                Box::pin(async move {
                    tx.lock(&[ObjectLock::new("thing", "one")]).await?;
                    tx.query_one("SELECT size FROM things", &[]).await?.int("size")
                })
            })
            .await
        })
    };
    // It waits in the database, not for luck: somebody waits for a lock there.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let waiting = test
            .db
            .read(|tx| {
                Box::pin(async move {
                    tx.query_one(
                        "SELECT COUNT(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                             AND datname = current_database()",
                        &[],
                    )
                    .await?
                    .int("n")
                })
            })
            .await as Result<i64, DatabaseError>;
        if waiting.unwrap() == 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody waits for the lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!waiter.is_finished());
    go_on.notify_one();
    holder.await.unwrap().unwrap();
    assert_eq!(waiter.await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_is_tried_again() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    transact(&test.db, move |tx| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let row = tx.query_one("SELECT pg_backend_pid() AS pid", &[]).await?;
            if run == 0 {
                let kill = format!("SELECT pg_terminate_backend({})", row.int("pid")?);
                PostgresServer::shared().administer(&kill).await;
            }
            tx.execute("INSERT INTO things (id, generation) VALUES ('a', 1)", &[]).await
        })
    })
    .await
    .unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(ids(&test.db).await, ["a"]);
}

/// What the proxy does to the next COMMIT that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Let it pass.
    Nothing,
    /// The server never gets it.
    Before,
    /// The server gets it; its answer is lost.
    After,
    /// The server gets it, its answer is lost, and the server is out of reach from then on.
    AfterAndGone,
}

/// Stands between the client and the server, and cuts the line at a COMMIT.
struct Proxy {
    directory: tempfile::TempDir,
    cut: Arc<std::sync::Mutex<Cut>>,
}

impl Proxy {
    async fn start() -> Proxy {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432")).unwrap();
        let cut = Arc::new(std::sync::Mutex::new(Cut::Nothing));
        let plan = cut.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, plan.clone()));
            }
        });
        Proxy { directory, cut }
    }

    /// The URL of a database, by way of this proxy.
    fn through(&self, config: &DatabaseConfig) -> DatabaseConfig {
        let DatabaseConfig::Postgres { url } = config else {
            panic!("PostgreSQL only");
        };
        let direct = PostgresServer::shared().socket_directory().display().to_string();
        let proxied = self.directory.path().display().to_string();
        DatabaseConfig::Postgres { url: url.replace(&direct, &proxied) }
    }
}

async fn carry(mut client: UnixStream, plan: Arc<std::sync::Mutex<Cut>>) {
    if *plan.lock().unwrap() == Cut::AfterAndGone {
        // Cut already: nobody gets through. A plan that is still to come is told by `armed`.
        if ARMED.load(Ordering::SeqCst) == 0 {
            return;
        }
    }
    let socket = PostgresServer::shared().socket_directory().join(".s.PGSQL.5432");
    let mut server = UnixStream::connect(socket).await.unwrap();
    let (mut from, mut to) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut from) => {
                let Ok(n @ 1..) = read else { return };
                let commit = from[..n].windows(7).any(|part| part == b"COMMIT\0");
                let cut = *plan.lock().unwrap();
                if commit && cut != Cut::Nothing && ARMED.swap(0, Ordering::SeqCst) == 1 {
                    if cut == Cut::Before {
                        // What came before it in the same bytes is lost with it.
                        return;
                    }
                    server.write_all(&from[..n]).await.unwrap();
                    // Until the server has answered, so that it has committed for certain.
                    let mut answered = Vec::new();
                    while !answered.windows(6).any(|part| part == b"COMMIT") {
                        let n = server.read(&mut to).await.unwrap();
                        answered.extend_from_slice(&to[..n]);
                    }
                    return;
                }
                if server.write_all(&from[..n]).await.is_err() { return }
            }
            read = server.read(&mut to) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&to[..n]).await.is_err() { return }
            }
        }
    }
}

/// Whether the next COMMIT is to be cut. The tests that use it run one at a time.
static ARMED: AtomicU32 = AtomicU32::new(0);
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Runs one insert whose commit is cut; returns its result and how often its closure ran.
async fn cut_commit(test: &TestDatabase, cut: Cut) -> (Result<u64, DatabaseError>, u32) {
    let proxy = Proxy::start().await;
    let db = Database::open(&proxy.through(&test.config), Arc::new(SystemClock)).await.unwrap();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    *proxy.cut.lock().unwrap() = cut;
    ARMED.store(1, Ordering::SeqCst);
    let result = transact(&db, move |tx| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tx.execute(
                "INSERT INTO things (id, generation) VALUES ($1, 1)",
                &params![format!("run {run}")],
            )
            .await
        })
    })
    .await;
    (result, runs.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_commit_that_the_server_never_got_is_done_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let test = TestDatabase::postgres(&[THINGS]).await;
    let (result, runs) = cut_commit(&test, Cut::Before).await;
    assert_eq!(result.unwrap(), 1);
    assert_eq!(runs, 2);
    assert_eq!(ids(&test.db).await, ["run 1"]);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_and_not_done_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let test = TestDatabase::postgres(&[THINGS]).await;
    let (result, runs) = cut_commit(&test, Cut::After).await;
    assert_eq!(result.unwrap(), 1);
    assert_eq!(runs, 1);
    assert_eq!(ids(&test.db).await, ["run 0"]);
}

#[tokio::test]
async fn a_commit_that_cannot_be_asked_about_is_unknown_and_not_done_again() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let test = TestDatabase::postgres(&[THINGS]).await;
    let (result, runs) = cut_commit(&test, Cut::AfterAndGone).await;
    let error = result.unwrap_err();
    assert!(matches!(error, DatabaseError::Unknown(_)), "{error:?}");
    assert_eq!(runs, 1);
    assert_eq!(ids(&test.db).await, ["run 0"], "this time it was stored");
    let fault = cloud_types::Fault::from(error);
    assert_eq!(fault.name.as_deref(), Some("OutcomeUnknown"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so_without_a_password() {
    let url = "postgresql://meridian:secret@127.0.0.1:1/meridian".to_owned();
    let error = Database::open(&DatabaseConfig::Postgres { url }, Arc::new(SystemClock))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, DatabaseError::Unreachable(_)), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_read_only_server_refuses_clearly() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    insert(&test.db, "a").await;
    let DatabaseConfig::Postgres { url } = &test.config else { panic!() };
    let name = url.rsplit('=').next().unwrap();
    PostgresServer::shared()
        .administer(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .await;
    let db = test.open_again().await;
    assert_eq!(ids(&db).await, ["a"]);
    let error =
        transact(&db, |tx| Box::pin(async move { tx.execute("DELETE FROM things", &[]).await }))
            .await
            .unwrap_err();
    assert!(matches!(error, DatabaseError::ReadOnly(_)), "{error:?}");
}

#[tokio::test]
async fn a_changed_schema_does_not_trip_prepared_statements() {
    let test = TestDatabase::postgres(&[THINGS]).await;
    insert(&test.db, "a").await;
    let all = || {
        transact(&test.db, |tx| {
            Box::pin(async move { tx.query_one("SELECT * FROM things", &[]).await })
        })
    };
    all().await.unwrap();
    let other = test.open_again().await;
    transact(&other, |tx| {
        Box::pin(async move { tx.execute("ALTER TABLE things ADD COLUMN colour TEXT", &[]).await })
    })
    .await
    .unwrap();
    let row = all().await.unwrap();
    assert_eq!(row.opt_text("colour").unwrap(), None);
}
