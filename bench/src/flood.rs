//! A flood of logins, and what it does to those who have a token already: how long the service
//! takes to check one, quietly and meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use black_box::{Client, Cloud, Database, Setup};
use serde_json::json;

use crate::cloud::{Access, binaries};
use crate::load::{self, Limit};
use crate::table::{Row, Table};

/// Clients that check tokens.
const CHECKERS: usize = 4;
/// Logins under way at once: more than are computed and may wait.
const FLOOD: usize = 200;
/// Connections that they share.
const CONNECTIONS: usize = 4;
/// What a client that was refused waits, whatever it was told.
const IMPATIENCE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Logins {
    stop: AtomicBool,
    let_in: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
}

/// Measures a throw-away cloud on `database`, whose files are below `parent`.
///
/// # Errors
/// When the cloud does not do what it should.
pub async fn measure(
    table: &mut Table,
    name: &str,
    database: Database,
    parent: &Path,
    time: Duration,
) -> Result<()> {
    let setup =
        Setup { parent: parent.to_owned(), binaries: Some(binaries()?), ..Setup::new(database) };
    let cloud = Cloud::start_with(setup).await?;
    let access = Access::of(cloud.state())?;
    let token = access.admin().await?.token().context("no token")?.to_owned();

    check(table, name, "token validate, quiet", &access, &token, time).await?;
    let logins = Arc::new(Logins::default());
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = access.anonymous()?;
        for _ in 0..FLOOD / CONNECTIONS {
            tasks.push(tokio::spawn(log_in(client.clone(), access.clone(), logins.clone())));
        }
    }
    // Until as many wait as may.
    while logins.refused.load(Ordering::Relaxed) == 0 {
        anyhow::ensure!(logins.failed.load(Ordering::Relaxed) == 0, "logins fail");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = logins.let_in.load(Ordering::Relaxed);
    let result =
        check(table, name, "token validate, in a flood of logins", &access, &token, time).await;
    let after = logins.let_in.load(Ordering::Relaxed);
    logins.stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.context("a client panicked")?;
    }
    result?;
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    table.add(Row {
        what: format!("logins let in meanwhile; {} answered 429", count(&logins.refused)),
        place: name.to_owned(),
        clients: Some(FLOOD),
        count: (after - before, count(&logins.failed)),
        elapsed: Some(time),
        middle: time.as_secs_f64() * 1000.0 / (after - before).max(1) as f64,
        slowest: None,
        unit: "ms",
        goal: "",
    });
    Ok(())
}

async fn check(
    table: &mut Table,
    name: &str,
    what: &str,
    access: &Access,
    token: &str,
    time: Duration,
) -> Result<()> {
    let prepare = || {
        let made = access.anonymous().map(|client| {
            client.with_token(Some(token.to_owned())).with_header("x-subject-token", token)
        });
        async move { made }
    };
    let limit = Limit { time, requests: usize::MAX };
    let load = load::repeat(CHECKERS, limit, prepare, |client: Arc<Client>| async move {
        client.get("/identity/v3/auth/tokens").await?.expect(200)?;
        Ok(())
    })
    .await?;
    table.add(Row {
        what: what.to_owned(),
        place: name.to_owned(),
        clients: Some(CHECKERS),
        count: (load.answered.len(), load.failed),
        elapsed: Some(load.elapsed),
        middle: load.answered.millis(0.5),
        slowest: Some(load.answered.millis(0.99)),
        unit: "ms",
        goal: if what.contains("flood") { "p99 <= 2 x quiet" } else { "" },
    });
    Ok(())
}

async fn log_in(client: Client, access: Access, logins: Arc<Logins>) {
    let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": "admin", "domain": {"name": "Default"}, "password": access.password()}}}}});
    while !logins.stop.load(Ordering::Relaxed) {
        let status = match client.post("/identity/v3/auth/tokens", &body).await {
            Ok(answer) => answer.status,
            Err(_) => 0,
        };
        let counter = match status {
            201 => &logins.let_in,
            429 => &logins.refused,
            _ => &logins.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if status != 201 {
            tokio::time::sleep(IMPATIENCE).await;
        }
    }
}
