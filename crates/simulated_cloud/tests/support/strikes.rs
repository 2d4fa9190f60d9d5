//! Rounds of the kill matrix: a request, a kill at a point, the process started again, and a look
//! at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use black_box::{Client, Cloud, DEADLINE, Database, Hosts, KillPoints, until};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use simulated_cloud::{Change, Standing, history};
use tokio::time::Instant;

use super::{Tenant, path, text};

/// How many hosts the cloud has.
const HOSTS: usize = 2;
/// A point that was not passed so long after the end of the matter will not be.
const QUIET: Duration = Duration::from_millis(700);
/// How long between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Whose points are struck, and who dies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// The control plane, at its own.
    ControlPlane,
    /// The agents' process, at its own.
    Agents,
    /// Both, at either's.
    Both,
}

/// Which points are struck in one run.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Every one.
    All,
    /// A third, by the remainder of this number.
    Third(usize),
}

impl Part {
    /// That part of the points.
    pub fn of(self, points: Vec<Point>) -> Vec<Point> {
        match self {
            Part::All => points,
            Part::Third(which) => {
                points.into_iter().filter(|point| point.number() % 3 == which % 3).collect()
            }
        }
    }
}

/// A place in a process: its name, and which passing of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Which request is under way: `create` or `delete`.
    during: &'static str,
    /// Whether the agents' process passes it.
    agents: bool,
    /// Its name.
    name: String,
    /// From 1.
    nth: usize,
}

impl Point {
    /// A number that is always this point's (FNV-1a), however often others are passed, so that
    /// three runs with different parts strike every one.
    fn number(&self) -> usize {
        let text = format!("{}:{}", self.name, self.nth);
        text.bytes().fold(0xcbf2_9ce4_8422_2325_usize, |sum, byte| {
            (sum ^ usize::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    }
}

/// A cloud under strikes.
pub struct Strikes {
    victims: Victims,
    cloud: Cloud,
    hosts: Hosts,
    tenant: Tenant,
    control_plane: KillPoints,
    agents: KillPoints,
    /// How many rows each table had before the first server.
    rows: Vec<(String, i64)>,
    /// The flows' owners of each host before the first server.
    cookies: Vec<BTreeSet<u64>>,
    errors: Vec<String>,
}

impl Strikes {
    /// Starts a cloud with hosts, all of whose points are looked at.
    pub async fn prepare(victims: Victims) -> Result<Strikes> {
        let mut cloud = Cloud::start(&Database::Sqlite).await?;
        let control_plane = KillPoints::new(&cloud.state().join("points-of-control-plane"))?;
        let agents = KillPoints::new(&cloud.state().join("points-of-agents"))?;
        let mut hosts = cloud.simulated_hosts(HOSTS).await?;
        let tenant = Tenant::prepare(&cloud).await?;
        cloud.kill_control_plane();
        let (name, value) = control_plane.environment();
        cloud.set_environment(name, &value);
        cloud.start_control_plane().await?;
        restart(&mut hosts, &cloud, &agents)?;
        hosts.wait_until_up(&cloud).await?;
        let mut strikes = Strikes {
            victims,
            cloud,
            hosts,
            tenant,
            control_plane,
            agents,
            rows: Vec::new(),
            cookies: Vec::new(),
            errors: Vec::new(),
        };
        strikes.flows_are_settled().await;
        strikes.rows = strikes.count_rows()?;
        for number in 1..=HOSTS {
            strikes.cookies.push(Standing::read(&strikes.hosts.machine(number))?.cookies);
        }
        Ok(strikes)
    }

    async fn flows_are_settled(&self) {
        until("every host to have its flows", || async {
            (1..=HOSTS).all(|number| {
                Standing::read(&self.hosts.machine(number)).is_ok_and(|now| now.flows > 0)
            })
        })
        .await;
    }

    /// Creates and deletes a server, and returns what was passed on the way.
    pub async fn discover(&mut self) -> Result<(Vec<Point>, Vec<Point>)> {
        // The first server of all makes rows that stay (the default group, a quota's line).
        let first = self.tenant.boot("first").await?;
        self.tenant.active(&first).await?;
        self.tenant.delete(&first).await?;
        self.nothing_is_left(false).await?;
        self.rows = self.count_rows()?;
        self.record()?;
        let server = self.tenant.boot("discovery").await?;
        self.tenant.active(&server).await?;
        let create = self.recorded("create").await;
        self.record()?;
        self.tenant.delete(&server).await?;
        self.nothing_is_left(true).await?;
        let delete = self.recorded("delete").await;
        Ok((create, delete))
    }

    fn record(&self) -> Result<()> {
        self.control_plane.record()?;
        self.agents.record()
    }

    /// What was passed, once nothing more is.
    async fn recorded(&self, during: &'static str) -> Vec<Point> {
        let all = || (self.control_plane.passed(), self.agents.passed());
        let (mut last, mut since) = (all(), Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(LOOK).await;
            let now = all();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        self.control_plane.stop_recording();
        self.agents.stop_recording();
        let mut points = Vec::new();
        for (agents, names) in [(false, last.0), (true, last.1)] {
            let struck = match self.victims {
                Victims::ControlPlane => !agents,
                Victims::Agents => agents,
                Victims::Both => true,
            };
            let mut passes: BTreeMap<String, usize> = BTreeMap::new();
            for name in names.into_iter().filter(|_| struck) {
                let nth = passes.entry(name.clone()).or_default();
                *nth += 1;
                points.push(Point { during, agents, name, nth: *nth });
            }
        }
        points
    }

    /// Creates a server under a strike, and returns it once it has ended well.
    pub async fn create(
        &mut self,
        round: usize,
        at: Option<&Point>,
        struck: &mut BTreeMap<Point, bool>,
    ) -> Result<String> {
        let name = format!("round-{round}");
        let body = self.tenant.wish(&name);
        let user = self.tenant.user.clone().with_header("Idempotency-Key", &name);
        self.arm(at)?;
        let first = user.post("/compute/v2.1/servers", &body).await;
        let id = first.as_ref().ok().and_then(|answer| text(&answer.json["server"]["id"]).ok());
        let died = self.wait_for_death(at, id.as_deref(), false).await?;
        note(struck, at, died);
        let id = match (first, id) {
            (Ok(answer), Some(id)) if answer.status == 202 => id,
            _ => self.ask_again(&user, &name, &body).await?,
        };
        self.check_created(&name, &id).await.with_context(|| format!("killed at {at:?}"))?;
        Ok(id)
    }

    /// The answer was lost. The same request makes the server, or answers with the one it made.
    async fn ask_again(&self, user: &Client, name: &str, body: &Value) -> Result<String> {
        let servers = self.servers().await?;
        let accepted = servers.iter().find(|server| server["name"] == name);
        let again = user.post("/compute/v2.1/servers", body).await?.expect(202)?;
        if let Some(accepted) = accepted {
            ensure!(again.json["server"]["id"] == accepted["id"], "another: {}", again.text);
        }
        text(&again.json["server"]["id"])
    }

    async fn servers(&self) -> Result<Vec<Value>> {
        let listed = self.tenant.user.get("/compute/v2.1/servers").await?.expect(200)?;
        Ok(listed.json["servers"].as_array().cloned().unwrap_or_default())
    }

    async fn check_created(&mut self, name: &str, id: &str) -> Result<()> {
        let listed = self.servers().await?;
        ensure!(
            listed.len() == 1 && listed[0]["name"] == name && listed[0]["id"] == id,
            "one request, and these servers: {listed:?}"
        );
        let shown = self.tenant.settled(id).await;
        let active = shown["status"] == "ACTIVE";
        if active {
            ensure!(has_address(&shown), "no address: {}", shown["addresses"]);
            let ids: BTreeSet<String> = self.guests()?.into_iter().collect();
            ensure!(ids == BTreeSet::from([id.to_owned()]), "guests: {ids:?}");
        } else {
            let why = shown["fault"]["message"].as_str().unwrap_or_default();
            ensure!(!why.is_empty(), "ERROR without a reason: {shown}");
            self.errors.push(why.to_owned());
            until("no guest to run for a failed server", || async {
                self.guests().is_ok_and(|guests| guests.is_empty())
            })
            .await;
        }
        never_two_at_once(&self.hosts, id)
    }

    /// Deletes the server under a strike, and looks that nothing is left of it.
    pub async fn delete(
        &mut self,
        id: &str,
        at: Option<&Point>,
        struck: &mut BTreeMap<Point, bool>,
    ) -> Result<()> {
        self.arm(at)?;
        let first = self.tenant.user.delete(&path(id)).await;
        let died = self.wait_for_death(at, Some(id), true).await?;
        note(struck, at, died);
        if !first.is_ok_and(|answer| answer.status == 204) {
            let again = self.tenant.user.delete(&path(id)).await?;
            ensure!([204, 404].contains(&again.status), "{}: {}", again.status, again.text);
        }
        self.tenant.gone(id).await;
        self.nothing_is_left(true).await.with_context(|| format!("killed at {at:?}"))?;
        never_two_at_once(&self.hosts, id)
    }

    fn arm(&self, at: Option<&Point>) -> Result<()> {
        match at {
            Some(at) if at.agents => self.agents.arm(&at.name, at.nth),
            Some(at) => self.control_plane.arm(&at.name, at.nth),
            None => Ok(()),
        }
    }

    /// Waits until the process has died at its point, and starts again what was killed. False when
    /// the matter ended without passing the point.
    async fn wait_for_death(
        &mut self,
        at: Option<&Point>,
        id: Option<&str>,
        deleting: bool,
    ) -> Result<bool> {
        let Some(at) = at else { return Ok(false) };
        let points = if at.agents { &self.agents } else { &self.control_plane };
        let begun = Instant::now();
        let mut ended: Option<Instant> = None;
        while !points.died() {
            let over = match id {
                None => true,
                Some(id) if deleting => self.tenant.show(id).await.is_err(),
                Some(id) => self.tenant.show(id).await.is_ok_and(|shown| is_settled(&shown)),
            };
            if over && ended.get_or_insert_with(Instant::now).elapsed() > QUIET {
                points.disarm();
                if !points.died() {
                    return Ok(false);
                }
            }
            ensure!(begun.elapsed() < DEADLINE, "neither {at:?} nor an end");
            tokio::time::sleep(LOOK).await;
        }
        if !at.agents || self.victims == Victims::Both {
            self.cloud.kill_control_plane();
        }
        if at.agents || self.victims == Victims::Both {
            restart(&mut self.hosts, &self.cloud, &self.agents)?;
        }
        if !at.agents || self.victims == Victims::Both {
            self.cloud.start_control_plane().await?;
        }
        Ok(true)
    }

    /// Guests on all hosts.
    fn guests(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for number in 1..=HOSTS {
            all.extend(Standing::read(&self.hosts.machine(number))?.guests.into_keys());
        }
        Ok(all)
    }

    /// Waits until neither the hosts nor the region have anything of a server.
    async fn nothing_is_left(&self, rows_too: bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let left = self.left(rows_too)?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < DEADLINE, "left after a delete: {}", left.join("; "));
            tokio::time::sleep(LOOK).await;
        }
    }

    fn left(&self, rows_too: bool) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for number in 1..=HOSTS {
            let now = Standing::read(&self.hosts.machine(number))?;
            let mut say = |what: &str, empty: bool, all: &dyn std::fmt::Debug| {
                if !empty {
                    left.push(format!("{what} of host {number}: {all:?}"));
                }
            };
            say("guests", now.guests.is_empty(), &now.guests);
            say("disks", now.disks.is_empty(), &now.disks);
            say("devices", now.devices.is_empty(), &now.devices);
            say("switch ports", now.ports.is_empty(), &now.ports);
            say("DHCP entries", now.answered.is_empty(), &now.answered);
            if let Some(before) = self.cookies.get(number - 1) {
                let more: Vec<_> = now.cookies.difference(before).collect();
                say("flows", more.is_empty(), &more);
            }
            let store = self.hosts.machine(number).join("agent.db");
            let documents = count(&store, "documents WHERE kind <> 'host'")?;
            say("documents", documents == 0, &documents);
        }
        if rows_too {
            for ((table, before), (_, now)) in self.rows.iter().zip(self.count_rows()?) {
                if *before != now {
                    left.push(format!("{table}: {before} rows before, {now} now"));
                }
            }
        }
        Ok(left)
    }

    fn count_rows(&self) -> Result<Vec<(String, i64)>> {
        let file = self.cloud.state().join("db/meridian.sqlite");
        let tables = [
            "ports",
            "ip_allocations",
            "port_security_groups",
            "allocations",
            "compute_hosts WHERE servers + vcpus + memory_mib + disk_gib > 0",
            "server_payloads",
            "quota_usage WHERE in_use > 0 AND resource IN ('instances', 'cores', 'ram', 'port')",
            "host_documents WHERE kind <> 'host'",
            "host_reports WHERE kind <> 'host'",
            "locator_waits",
            "workflows WHERE status IN ('runnable', 'waiting', 'parked')",
        ];
        tables.iter().map(|table| Ok(((*table).to_owned(), count(&file, table)?))).collect()
    }

    /// Says in which words servers failed.
    pub fn report_errors(&self) {
        println!("{} servers ended in ERROR: {:?}", self.errors.len(), self.errors);
    }
}

fn restart(hosts: &mut Hosts, cloud: &Cloud, points: &KillPoints) -> Result<()> {
    let (name, value) = points.environment();
    hosts.restart(cloud, &[(name, &value)])
}

fn note(struck: &mut BTreeMap<Point, bool>, at: Option<&Point>, died: bool) {
    if let Some(at) = at {
        struck.insert(at.clone(), died);
    }
}

fn is_settled(shown: &Value) -> bool {
    shown["status"] == "ACTIVE" || shown["status"] == "ERROR"
}

fn has_address(shown: &Value) -> bool {
    shown["addresses"]["net"][0]["addr"].is_string()
}

/// Rows of a table (and condition), seen by another process.
fn count(file: &Path, table: &str) -> Result<i64> {
    let db = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(Duration::from_secs(10))?;
    let statement = format!("SELECT count(*) FROM {table}");
    db.query_row(&statement, [], |row| row.get(0)).with_context(|| statement.clone())
}

/// At no instant did two guests of a server run, on one host or on two.
fn never_two_at_once(hosts: &Hosts, id: &str) -> Result<()> {
    let mut happened = Vec::new();
    for number in 1..=HOSTS {
        for entry in history(&hosts.machine(number))? {
            match &entry.change {
                Change::Started { server, .. } if server == id => happened.push((entry.at, true)),
                Change::Ended { server } if server == id => happened.push((entry.at, false)),
                _ => {}
            }
        }
    }
    happened.sort_unstable();
    let mut alive = 0;
    for (at, started) in happened {
        alive += if started { 1 } else { -1 };
        ensure!(alive <= 1, "at {at} two guests of {id} ran");
    }
    Ok(())
}
