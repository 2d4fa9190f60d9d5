//! Two replicas of the control plane over one PostgreSQL. One of them is killed, stopped past its
//! leases, or cut off from the database at every step of every workflow; the other finishes, nothing
//! happens twice, nothing is lost and nothing stays.
//!
//! The steps are not listed here: one server lives a life while the replicas write down the points
//! that they pass (see the crate `kill_points`). A part of them is struck in one run, chosen by the
//! commit; `MERIDIAN_REPLICAS=all` strikes every one, with the database away for a minute.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use black_box::{Client, Cloud, Hosts, Replica, until, until_some};
use database::test_support::PostgresServer;
use nix::sys::signal::Signal;

use support::region::{Act, Fault, Region};
use support::{Tenant, commit_number};

/// Of how many parts one is struck in an ordinary run.
const PARTS: usize = 16;

fn whole() -> bool {
    std::env::var("MERIDIAN_REPLICAS").is_ok_and(|value| value == "all")
}

async fn strike(fault: Fault) -> Result<()> {
    let mut region = Region::start().await?;
    if whole() {
        region.cut_for = Duration::from_secs(60);
    }
    let points = region.discover().await?;
    let all: BTreeSet<&String> = points.values().flatten().collect();
    if whole() {
        covers_every_workflow(&all).await?;
    }
    // Round by round, one point of each act.
    let struck: BTreeMap<Act, Vec<&String>> = points
        .iter()
        .map(|(act, names)| {
            let part = commit_number() % PARTS;
            let chosen = names.iter().enumerate();
            let chosen = chosen.filter(|(at, _)| whole() || at % PARTS == part);
            (*act, chosen.map(|(_, name)| name).collect())
        })
        .collect();
    let rounds = struck.values().map(Vec::len).max().unwrap_or_default();
    ensure!(rounds > 0, "no points were passed: {points:?}");
    let (mut aimed, mut met) = (0, 0);
    for round in 0..rounds {
        let strikes: BTreeMap<Act, (String, Fault)> = struck
            .iter()
            .filter_map(|(act, names)| Some((*act, ((*names.get(round)?).clone(), fault))))
            .collect();
        aimed += strikes.len();
        // The name's length chooses which replica is asked.
        let name = format!("round-{round}{}", "-".repeat(round % 2));
        met += region.life(&name, &strikes).await?;
    }
    println!(
        "measured: {fault:?}: {met} of {aimed} points struck, the slowest act was done after {} ms",
        region.slowest.as_millis()
    );
    // Points that are passed by chance (a second look, a repeated report) may be missed; most not.
    ensure!(met * 4 >= aimed * 3, "too many points were missed: {met} of {aimed}");
    Ok(())
}

/// A workflow that nobody struck is one that the life above does not know of yet.
async fn covers_every_workflow(passed: &BTreeSet<&String>) -> Result<()> {
    for kind in kinds().await? {
        let prefix = format!("region.{kind}.");
        ensure!(
            passed.iter().any(|name| name.starts_with(&prefix)),
            "no step of the workflow {kind} was passed: add what begins it to `Act`"
        );
    }
    Ok(())
}

/// The workflows that the control plane knows.
async fn kinds() -> Result<Vec<String>> {
    use control_plane::server::{self, Surroundings};
    let memory = database::DatabaseConfig::SqliteMemory;
    let clock = std::sync::Arc::new(cloud_types::SystemClock);
    let db = database::Database::open(&memory, clock).await?;
    server::migrate(&db).await?;
    let directory = tempfile::tempdir()?;
    let with = Surroundings {
        policy: service_kit::Policy::new(server::POLICIES)?,
        keys: identity::KeySource::Ephemeral,
        kit: service_kit::KitConfig::default(),
        identity: identity::IdentityConfig::default(),
        images: storage::image::FileStore::open(directory.path())?,
    };
    let services = server::assemble(&db, with).await?;
    Ok(services.engine.kinds())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_at_any_step() -> Result<()> {
    strike(Fault::Killed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_stopped_past_its_leases_at_any_step() -> Result<()> {
    strike(Fault::Stopped).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_loses_the_database_at_any_step() -> Result<()> {
    strike(Fault::Cut).await
}

/// How many hosts have their stream with a replica.
async fn connected(client: &Client) -> Option<usize> {
    let page = client.get("/metrics").await.ok()?.text;
    let line = page.lines().find(|line| line.starts_with("meridian_hosts_connected "))?;
    line.split(' ').nth(1)?.parse().ok()
}

/// Two replicas and hosts spread over them.
struct Spread {
    cloud: Cloud,
    replica: Replica,
    hosts: Hosts,
    tenant: Tenant,
}

/// So many that a spread in which one replica has none is one in two thousand.
const MANY: usize = 12;

impl Spread {
    async fn start() -> Result<Spread> {
        let server = tokio::task::spawn_blocking(PostgresServer::shared).await?;
        let url = server.create_database_url().await;
        let cloud = Cloud::start(&black_box::Database::Postgres(url)).await?;
        let mut replica = Replica::join(&cloud, None)?;
        replica.start().await?;
        let hosts = cloud.simulated_hosts(MANY).await?;
        let tenant = Tenant::prepare(&cloud).await?;
        Ok(Spread { cloud, replica, hosts, tenant })
    }

    /// Waits until both have hosts, and all hosts are with one.
    async fn until_spread(&self) -> Result<(usize, usize)> {
        let (first, second) = (self.cloud.anonymous()?, self.replica.anonymous()?);
        Ok(until_some("hosts to be spread over both replicas", || async {
            let both = (connected(&first).await?, connected(&second).await?);
            (both.0 > 0 && both.1 > 0 && both.0 + both.1 == MANY).then_some(both)
        })
        .await)
    }

    /// Waits until all hosts are with one replica; how long that took.
    async fn until_all_at(&self, client: &Client) -> Duration {
        let begun = Instant::now();
        until("every host to be with the replica that is left", || async {
            connected(client).await == Some(MANY)
        })
        .await;
        begun.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_converge_through_another_replica_and_are_spread_again() -> Result<()> {
    let mut spread = Spread::start().await?;
    println!("measured: hosts spread {:?}", spread.until_spread().await?);
    let first = spread.cloud.anonymous()?;

    spread.replica.kill();
    println!(
        "measured: every host is with another replica {} ms after SIGKILL",
        spread.until_all_at(&first).await.as_millis()
    );
    // What is asked for now arrives.
    let server = spread.tenant.boot("after-kill").await?;
    spread.tenant.active(&server).await?;
    spread.replica.start().await?;
    println!("measured: spread again after a start {:?}", spread.until_spread().await?);

    spread.replica.signal(Signal::SIGSTOP);
    println!(
        "measured: every host is with another replica {} ms after SIGSTOP",
        spread.until_all_at(&first).await.as_millis()
    );
    spread.tenant.delete(&server).await?;
    spread.replica.signal(Signal::SIGCONT);
    println!("measured: spread again after SIGCONT {:?}", spread.until_spread().await?);
    drop(spread.hosts);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_asked_through_whichever_replica_it_is_with() -> Result<()> {
    let spread = Spread::start().await?;
    spread.until_spread().await?;
    // Servers on several hosts, of which both replicas have some.
    for number in 0..6 {
        let server = spread.tenant.boot(&format!("talks-{number}")).await?;
        spread.tenant.active(&server).await?;
        let body = serde_json::json!({"os-getConsoleOutput": {}});
        let action = format!("{}/action", support::path(&server));
        let other = spread.replica.client(&spread.tenant.user)?;
        for client in [&spread.tenant.user, &other] {
            let answer = client.post(&action, &body).await?.expect(200)?;
            answer.json["output"].as_str().context("a console's text")?;
        }
    }
    Ok(())
}
