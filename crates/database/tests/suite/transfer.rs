//! Online copies of a SQLite file, and the move of all rows to PostgreSQL.

use std::path::Path;
use std::sync::Arc;

use cloud_types::SystemClock;
use database::test_support::{PostgresServer, TestDatabase};
use database::{Database, DatabaseConfig, DatabaseError, JournalEntry, params, transfer};

use crate::{THINGS, ids, insert, transact};

async fn open(config: &DatabaseConfig) -> Result<Database, DatabaseError> {
    Database::open(config, Arc::new(SystemClock)).await
}

fn file(test: &TestDatabase) -> &Path {
    match &test.config {
        DatabaseConfig::Sqlite { path } => path,
        _ => panic!("a file"),
    }
}

/// Rows of every type, and journal entries.
async fn fill(db: &Database) {
    for number in 0..1203_i64 {
        transact(db, move |tx| {
            Box::pin(async move {
                if number % 100 == 0 {
                    tx.journal(JournalEntry {
                        kind: "thing",
                        id: number.to_string(),
                        project: None,
                        action: "create",
                        before: None,
                        after: Some(serde_json::json!({"size": number})),
                    });
                }
                let body =
                    (number % 3 == 0).then(|| vec![0, 255, u8::try_from(number % 200).unwrap()]);
                tx.execute(
                    "INSERT INTO things (id, name, size, body, ratio, generation)
                     VALUES ($1, $2, $3, $4, $5, 1)",
                    &params![format!("t{number}"), "naïve ☁", -number, body, 0.5],
                )
                .await
            })
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_copy_is_made_while_others_write_and_is_whole() {
    let test = TestDatabase::sqlite(&[THINGS]).await;
    insert(&test.db, "before").await;
    let copy = file(&test).with_file_name("copy.db");
    let (from, to) = (file(&test).to_owned(), copy.clone());
    let writing = tokio::spawn({
        let db = test.db.clone();
        async move {
            for number in 0..50 {
                insert(&db, &format!("during-{number}")).await;
            }
        }
    });
    tokio::task::spawn_blocking(move || transfer::backup(&from, &to)).await.unwrap().unwrap();
    writing.await.unwrap();
    transfer::check(&copy).unwrap();
    let again = transfer::backup(file(&test), &copy).unwrap_err();
    assert!(again.to_string().contains("already"), "{again}");
    let restored = open(&DatabaseConfig::Sqlite { path: copy }).await.unwrap();
    assert!(ids(&restored).await.contains(&"before".to_owned()));
    assert_eq!(restored.lineage(), test.db.lineage());
    let renewed = restored.renew_lineage().await.unwrap();
    assert_ne!(renewed, test.db.lineage());
}

async fn target() -> String {
    let server = tokio::task::spawn_blocking(PostgresServer::shared).await.unwrap();
    let url = server.create_database().await;
    let db = open(&DatabaseConfig::Postgres { url: url.clone() }).await.unwrap();
    db.migrate(&[THINGS]).await.unwrap();
    db.close().await;
    url
}

#[tokio::test]
async fn every_row_moves_and_the_file_is_not_used_again() {
    let test = TestDatabase::sqlite(&[THINGS]).await;
    fill(&test.db).await;
    let (before, lineage) = (ids(&test.db).await, test.db.lineage());
    let url = target().await;
    let open_still = transfer::move_to_postgres(file(&test), &url).await.unwrap_err();
    assert!(matches!(open_still, DatabaseError::Locked(_)), "{open_still}");
    test.db.close().await;

    let moved = transfer::move_to_postgres(file(&test), &url).await.unwrap();
    assert_eq!(moved.tables["things"].rows, 1203);
    let db = open(&DatabaseConfig::Postgres { url: url.clone() }).await.unwrap();
    assert_eq!(ids(&db).await.len(), before.len());
    assert_eq!(db.lineage(), lineage, "hosts go on where they are");
    let consumer = db.consumer("audit");
    let entries = consumer.next(100).await.unwrap();
    assert_eq!(entries.len(), 13);
    fill_one(&db).await;
    let later = consumer.next(100).await.unwrap();
    assert!(later.last().unwrap().position > entries.last().unwrap().position);

    let refused = open(&test.config).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("moved to"), "{refused}");
    let twice = transfer::move_to_postgres(file(&test), &url).await.map(drop).unwrap_err();
    assert!(twice.to_string().contains("moved"), "{twice}");
    assert!(transfer::abandon(file(&test)).is_err(), "the rows live on elsewhere");
}

async fn fill_one(db: &Database) {
    transact(db, |tx| {
        Box::pin(async move {
            tx.journal(JournalEntry {
                kind: "thing",
                id: "later".to_owned(),
                project: None,
                action: "create",
                before: None,
                after: None,
            });
            tx.execute("INSERT INTO things (id, generation) VALUES ('later', 1)", &[]).await
        })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_move_that_broke_off_goes_on_or_is_given_up() {
    let test = TestDatabase::sqlite(&[THINGS]).await;
    fill(&test.db).await;
    test.db.close().await;
    // A target at other migrations is refused before anything is copied.
    let server = tokio::task::spawn_blocking(PostgresServer::shared).await.unwrap();
    let empty = server.create_database().await;
    open(&DatabaseConfig::Postgres { url: empty.clone() }).await.unwrap().close().await;
    let refused = transfer::move_to_postgres(file(&test), &empty).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("migrations"), "{refused}");
    // Half-way, no control plane starts on the file.
    let fenced = open(&test.config).await.map(drop).unwrap_err();
    assert!(fenced.to_string().contains("moving to"), "{fenced}");
    transfer::abandon(file(&test)).unwrap();
    open(&test.config).await.unwrap().close().await;

    // What a broken attempt left of a table is not taken for the whole.
    let url = target().await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute("INSERT INTO things (id, generation) VALUES ('half', 1)").await.unwrap();
    transfer::move_to_postgres(file(&test), &url).await.unwrap();
    let stray = client.query("SELECT 1 FROM things WHERE id = 'half'", &[]).await.unwrap();
    assert!(stray.is_empty());
    driver.abort();
}
