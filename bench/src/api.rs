//! The public API of a cloud with simulated hosts, on one database.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use black_box::{Cloud, Database, Setup};
use serde_json::json;

use crate::cloud::{Access, binaries};
use crate::load::{self, Limit};
use crate::memory;
use crate::simulated;
use crate::suites::{Disk, SUITES, Suite, World};
use crate::table::{Row, Samples, Table};

/// How much is done.
#[derive(Clone)]
pub struct Amount {
    /// Clients at once.
    pub clients: Vec<usize>,
    /// For each suite and number of clients.
    pub time: Duration,
    /// Servers in the cloud.
    pub servers: usize,
    /// Suites by name; all when empty.
    pub suites: Vec<String>,
}

impl Amount {
    fn wants(&self, suite: &Suite) -> bool {
        self.suites.is_empty() || self.suites.iter().any(|name| name == suite.name)
    }
}

/// Simulated hosts: one process runs all but the last, whose agent has a process of its own, so
/// that an agent's memory can be told.
const HOSTS: usize = 10;
/// Starts of the control plane that are timed.
const STARTS: usize = 5;

/// Measures a throw-away cloud on `database`, whose files are below `parent`.
///
/// # Errors
/// When the cloud does not do what it should.
pub async fn measure(
    table: &mut Table,
    name: &str,
    database: Database,
    parent: &Path,
    amount: &Amount,
) -> Result<()> {
    let setup =
        Setup { parent: parent.to_owned(), binaries: Some(binaries()?), ..Setup::new(database) };
    let mut cloud = Cloud::start_with(setup).await?;
    cold_start(table, name, "cold start to first answer", &mut cloud).await?;
    let access = Access::of(cloud.state())?;
    let disk = Disk { bytes: vec![0; 1 << 20], format: "raw" };
    let flavor = json!({"name": "bench", "ram": 64, "vcpus": 1, "disk": 1});
    let mut world = World::prepare(access, disk, flavor).await?;

    let with_servers = SUITES.iter().any(|suite| suite.needs_servers && amount.wants(suite));
    let mut hosts = Vec::new();
    if with_servers {
        hosts.push(simulated::start(&cloud, "many", HOSTS - 1)?);
        hosts.push(simulated::start(&cloud, "one", 1)?);
        simulated::wait_until_up(&world.client()?, HOSTS).await?;
        let begun = Instant::now();
        world.fill(amount.servers).await?;
        table.add(Row {
            what: format!("{} servers, until all are active", amount.servers),
            place: name.to_owned(),
            clients: Some(8),
            count: (amount.servers, 0),
            elapsed: Some(begun.elapsed()),
            middle: begun.elapsed().as_secs_f64(),
            slowest: None,
            unit: "s",
            goal: "",
        });
    }
    let world = Arc::new(world);
    let mut measured = amount.servers;
    for suite in SUITES.iter().filter(|suite| amount.wants(suite)) {
        for &clients in &amount.clients {
            let made = run(table, name, &world, suite, clients, amount.time).await?;
            if suite.name == "server_create" {
                measured += made;
                world.wait_active(measured).await?;
            }
        }
        if suite.name == "server_list" {
            remember_memory(table, name, &cloud, &hosts, &world, amount.servers).await?;
        }
    }
    if with_servers {
        let what = format!("cold start with {} servers", amount.servers);
        cold_start(table, name, &what, &mut cloud).await?;
    }
    Ok(())
}

/// One suite; how many requests were made in all.
async fn run(
    table: &mut Table,
    name: &str,
    world: &Arc<World>,
    suite: &'static Suite,
    clients: usize,
    time: Duration,
) -> Result<usize> {
    let limit = Limit { time, requests: suite.most };
    let callers = world.clone();
    let prepare = move || {
        let callers = callers.clone();
        async move { callers.caller() }
    };
    let load = load::repeat(clients, limit, prepare, suite.request).await?;
    table.add(Row {
        what: suite.what.to_owned(),
        place: name.to_owned(),
        clients: Some(clients),
        count: (load.answered.len(), load.failed),
        elapsed: Some(load.elapsed),
        middle: load.answered.millis(0.5),
        slowest: Some(load.answered.millis(0.99)),
        unit: "ms",
        goal: "",
    });
    Ok(load.answered.len() + clients)
}

/// From the start of the process to its first answer.
async fn cold_start(table: &mut Table, name: &str, what: &str, cloud: &mut Cloud) -> Result<()> {
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        cloud.kill_control_plane();
        let begun = Instant::now();
        cloud.start_control_plane().await?;
        times.push(begun.elapsed());
    }
    table.times(what, name, None, &Samples::new(times), "");
    Ok(())
}

async fn remember_memory(
    table: &mut Table,
    name: &str,
    cloud: &Cloud,
    hosts: &[black_box::Process],
    world: &Arc<World>,
    servers: usize,
) -> Result<()> {
    const REQUESTS: usize = 1000;
    let client = world.client()?;
    for _ in 0..REQUESTS {
        client.get("/compute/v2.1/servers?limit=10").await?.expect(200)?;
    }
    let mut add = |what: String, process: u32, goal| -> Result<()> {
        table.add(Row {
            what,
            place: name.to_owned(),
            clients: None,
            count: (1, 0),
            elapsed: None,
            middle: memory::pss_mib(process).context("no PSS of a process")?,
            slowest: None,
            unit: "MiB",
            goal,
        });
        Ok(())
    };
    let control_plane = cloud.control_plane().context("no control plane")?.id();
    add(format!("memory: control plane, {servers} servers"), control_plane, "< 100 MB")?;
    let agent = hosts.last().context("no hosts")?.id();
    add(format!("memory: agent, {} servers", servers / HOSTS), agent, "< 25 MB")
}
