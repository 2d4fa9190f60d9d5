//! A region with two replicas of the control plane over one PostgreSQL, each with a way to it that
//! can be cut, and what is done to a server there while one of them is struck.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use black_box::{Answer, At, Client, Cloud, DEADLINE, Hosts, KillPoints, Replica, until};
use cloud_types::SystemClock;
use database::test_support::PostgresServer;
use database::{DatabaseConfig, DatabaseError};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use simulated_cloud::{Change, Standing, history};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::proxy::{Line, Proxy};
use super::{Tenant, path, text};

/// How many hosts the region has.
const HOSTS: usize = 2;
/// A point that was not passed so long after the end of the matter will not be.
const QUIET: Duration = Duration::from_millis(700);
/// How long between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// A replica that does not say how a server is in this time may have been stopped.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is done to a server in its life, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Create,
    Stop,
    Start,
    HardReboot,
    Delete,
}

impl Act {
    pub const LIFE: [Act; 5] = [Act::Create, Act::Stop, Act::Start, Act::HardReboot, Act::Delete];
}

/// What happens to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL.
    Killed,
    /// SIGSTOP, past all leases; it goes on after the others have finished its work.
    Stopped,
    /// The database does not answer it for a while.
    Cut,
}

/// A region under strikes.
pub struct Region {
    pub cloud: Cloud,
    pub replica: Replica,
    pub hosts: Hosts,
    pub tenant: Tenant,
    /// The ways of the two to the database.
    pub lines: [Proxy; 2],
    points: KillPoints,
    db: database::Database,
    rows: Vec<(&'static str, i64)>,
    /// How often a guest is started in a life that nobody disturbs.
    starts: usize,
    /// How long a replica is cut off.
    pub cut_for: Duration,
    /// The longest that a struck act took until it was done.
    pub slowest: Duration,
}

impl Region {
    /// Starts everything.
    pub async fn start() -> Result<Region> {
        let server = tokio::task::spawn_blocking(PostgresServer::shared).await?;
        let url = server.create_database_url().await;
        let lines = [Proxy::start(&url)?, Proxy::start(&url)?];
        let mut cloud =
            Cloud::start(&black_box::Database::Postgres(lines[0].url().to_owned())).await?;
        let points = KillPoints::new(&cloud.state().join("points"))?;
        let (name, value) = points.environment();
        cloud.kill_control_plane();
        cloud.set_environment(name, &value);
        cloud.start_control_plane().await?;
        let mut replica = Replica::join(&cloud, Some(lines[1].url()))?;
        replica.set_environment(name, &value);
        replica.start().await?;
        let hosts = cloud.simulated_hosts(HOSTS).await?;
        let tenant = Tenant::prepare(&cloud).await?;
        let config = DatabaseConfig::Postgres { url };
        let db = database::Database::open(&config, std::sync::Arc::new(SystemClock)).await?;
        Ok(Region {
            cloud,
            replica,
            hosts,
            tenant,
            lines,
            points,
            db,
            rows: Vec::new(),
            starts: 0,
            cut_for: Duration::from_secs(6),
            slowest: Duration::ZERO,
        })
    }

    /// A client of one of the two replicas.
    pub fn client(&self, number: usize) -> Result<Client> {
        if number == 0 {
            Ok(self.tenant.user.clone())
        } else {
            self.replica.client(&self.tenant.user)
        }
    }

    /// Lives a life undisturbed, and returns the points that were passed in each act.
    pub async fn discover(&mut self) -> Result<BTreeMap<Act, BTreeSet<String>>> {
        // The first server of all makes rows that stay.
        self.life("first", &BTreeMap::new()).await?;
        self.rows = self.quiet_rows().await?;
        let mut server = None;
        let mut points = BTreeMap::new();
        for act in Act::LIFE {
            self.points.record()?;
            self.act(act, "discovery", &mut server, None).await?;
            tokio::time::sleep(QUIET).await;
            let passed = self.points.passed();
            self.points.stop_recording();
            let own = passed.into_iter().filter(|name| name.starts_with("region."));
            points.insert(act, own.collect());
        }
        self.starts = self.started(server.as_deref().unwrap_or_default())?;
        self.nothing_is_left().await?;
        Ok(points)
    }

    /// One life under strikes: at most one in each act. Returns the points that were met.
    pub async fn life(
        &mut self,
        name: &str,
        strikes: &BTreeMap<Act, (String, Fault)>,
    ) -> Result<usize> {
        let (mut server, mut met) = (None, 0);
        for act in Act::LIFE {
            let strike = strikes.get(&act);
            let struck = self
                .act(act, name, &mut server, strike)
                .await
                .with_context(|| format!("{act:?} of {name}, struck by {strike:?}"))?;
            met += usize::from(struck);
        }
        let id = server.context("a server was made")?;
        if self.starts > 0 {
            let starts = self.started(&id)?;
            ensure!(
                starts == self.starts,
                "{name}: guests were started {starts} times in a life of {} starts: {strikes:?}",
                self.starts
            );
        }
        if !self.rows.is_empty() {
            self.nothing_is_left().await.with_context(|| format!("{name}: {strikes:?}"))?;
        }
        Ok(met)
    }

    async fn act(
        &mut self,
        act: Act,
        name: &str,
        server: &mut Option<String>,
        strike: Option<&(String, Fault)>,
    ) -> Result<bool> {
        if let Some((point, fault)) = strike {
            let at = if *fault == Fault::Killed { At::Dies } else { At::Stops };
            self.points.arm_for(point, 1, at)?;
        }
        // Each replica gets half of the requests.
        let first = name.len() % 2;
        let key = format!("{name}-{act:?}");
        let request = self.send(first, act, name, server.as_deref(), &key)?;
        let begun = Instant::now();
        let mut done_at: Option<Instant> = None;
        let met = loop {
            if strike.is_some() && self.points.died() {
                break true;
            }
            let over = request.is_finished() && self.is_done(first, act, name, server).await;
            if over {
                let since = *done_at.get_or_insert_with(Instant::now);
                if strike.is_none() || since.elapsed() > QUIET {
                    self.points.disarm();
                    if strike.is_none() || !self.points.died() {
                        break false;
                    }
                }
            }
            ensure!(begun.elapsed() < DEADLINE, "neither the point nor an end: {}", self.states());
            tokio::time::sleep(LOOK).await;
        };
        if let (true, Some((_, fault))) = (met, strike) {
            self.under_fault(*fault, act, name, server, request, &key).await?;
        } else {
            let answer = request.await??;
            ensure!(answer.status < 300, "{act:?}: {} {}", answer.status, answer.text);
        }
        if act == Act::Create && server.is_none() {
            *server = self.find(0, name).await;
        }
        Ok(met)
    }

    /// A replica was met by a fault: the other finishes, and then the first comes back.
    async fn under_fault(
        &mut self,
        fault: Fault,
        act: Act,
        name: &str,
        server: &mut Option<String>,
        request: JoinHandle<Result<Answer>>,
        key: &str,
    ) -> Result<()> {
        let met_at = Instant::now();
        let own = self.cloud.control_plane().map(black_box::Process::id);
        let victim = usize::from(self.points.victim() != own);
        let survivor = 1 - victim;
        if fault == Fault::Cut {
            self.lines[victim].set(Line::Silent);
            self.signal(victim, Signal::SIGCONT);
        }
        // What was answered stands; what was not is asked again, of the other.
        let answered = request.is_finished().then_some(request);
        let answered = match answered {
            Some(request) => request.await?.is_ok_and(|answer| answer.status < 300),
            None => false,
        };
        if !answered {
            let again = self.send(survivor, act, name, server.as_deref(), key)?.await??;
            let known = again.json["conflictingRequest"]["message"].as_str().unwrap_or_default();
            let lost = again.status == 409 && known.contains("took effect");
            let gone = act == Act::Delete && again.status == 404;
            ensure!(again.status < 300 || lost || gone, "{}: {}", again.status, again.text);
        }
        while !self.is_done(survivor, act, name, server).await {
            ensure!(met_at.elapsed() < DEADLINE, "stuck: {}", self.states());
            tokio::time::sleep(LOOK).await;
        }
        self.slowest = self.slowest.max(met_at.elapsed());
        match fault {
            Fault::Killed if victim == 0 => {
                self.cloud.kill_control_plane();
                self.cloud.start_control_plane().await?;
            }
            Fault::Killed => self.replica.ensure_running().await?,
            Fault::Stopped => self.signal(victim, Signal::SIGCONT),
            Fault::Cut => {
                tokio::time::sleep_until(met_at + self.cut_for).await;
                self.lines[victim].set(Line::Open);
            }
        }
        self.healthy(victim).await
    }

    async fn healthy(&self, number: usize) -> Result<()> {
        let client = self.client(number)?;
        until("the struck replica to serve again", || async {
            client.get("/healthz").await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        Ok(())
    }

    /// Sends a signal to one of the two.
    pub fn signal(&self, number: usize, signal: Signal) {
        if number == 0 {
            if let Some(process) = self.cloud.control_plane() {
                process.signal(signal);
            }
        } else {
            self.replica.signal(signal);
        }
    }

    fn send(
        &self,
        to: usize,
        act: Act,
        name: &str,
        server: Option<&str>,
        key: &str,
    ) -> Result<JoinHandle<Result<Answer>>> {
        let client = self.client(to)?.with_header("Idempotency-Key", key);
        let wish = self.tenant.wish(name);
        let server = server.map(str::to_owned);
        Ok(tokio::spawn(async move {
            let action =
                |body: Value| (format!("{}/action", path(server.as_deref().unwrap_or(""))), body);
            let (to, body) = match act {
                Act::Create => ("/compute/v2.1/servers".to_owned(), wish),
                Act::Stop => action(json!({"os-stop": null})),
                Act::Start => action(json!({"os-start": null})),
                Act::HardReboot => action(json!({"reboot": {"type": "HARD"}})),
                Act::Delete => {
                    return client.delete(&path(server.as_deref().unwrap_or(""))).await;
                }
            };
            client.post(&to, &body).await
        }))
    }

    async fn find(&self, at: usize, name: &str) -> Option<String> {
        let client = self.client(at).ok()?;
        let listed = client.get("/compute/v2.1/servers");
        let listed = tokio::time::timeout(PATIENCE, listed).await.ok()?.ok()?;
        let servers = listed.json["servers"].as_array()?.clone();
        let found: Vec<&Value> = servers.iter().filter(|one| one["name"] == name).collect();
        assert!(found.len() <= 1, "one request, and these servers: {found:?}");
        text(&found.first()?["id"]).ok()
    }

    /// Whether the act is over, as one replica sees it.
    async fn is_done(&self, at: usize, act: Act, name: &str, server: &mut Option<String>) -> bool {
        if server.is_none() {
            *server = self.find(at, name).await;
        }
        let Some(id) = server else { return false };
        let Ok(client) = self.client(at) else { return false };
        let place = path(id);
        let shown = tokio::time::timeout(PATIENCE, client.get(&place)).await;
        let Ok(Ok(shown)) = shown else { return false };
        let now = &shown.json["server"];
        let settled = now["OS-EXT-STS:task_state"].is_null();
        assert!(now["status"] != "ERROR", "{act:?} failed: {}", now["fault"]);
        match act {
            Act::Delete => shown.status == 404,
            Act::Stop => settled && now["status"] == "SHUTOFF",
            _ => settled && now["status"] == "ACTIVE",
        }
    }

    fn states(&self) -> String {
        let last = |log: String| {
            let lines: Vec<_> = log.lines().rev().take(6).map(str::to_owned).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!(
            "\nfirst replica:\n{}\nsecond replica:\n{}\nhosts:\n{}",
            last(self.cloud.control_plane_log()),
            last(self.replica.log()),
            last(self.hosts.log())
        )
    }

    /// How often guests of a server were started, on all hosts; at no instant were there two.
    fn started(&self, id: &str) -> Result<usize> {
        let mut happened = Vec::new();
        for number in 1..=HOSTS {
            for entry in history(&self.hosts.machine(number))? {
                match &entry.change {
                    Change::Started { server, .. } if server == id => {
                        happened.push((entry.at, true));
                    }
                    Change::Ended { server } if server == id => happened.push((entry.at, false)),
                    _ => {}
                }
            }
        }
        happened.sort_unstable();
        let mut alive = 0;
        for (at, started) in &happened {
            alive += if *started { 1 } else { -1 };
            ensure!(alive <= 1, "at {at} two guests of {id} ran");
        }
        Ok(happened.iter().filter(|(_, started)| *started).count())
    }

    async fn nothing_is_left(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let left = self.left().await?;
            if left.is_empty() {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < DEADLINE,
                "left after a delete: {}{}",
                left.join("; "),
                self.states()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for number in 1..=HOSTS {
            let now = Standing::read(&self.hosts.machine(number))?;
            for (what, count) in [
                ("guests", now.guests.len()),
                ("disks", now.disks.len()),
                ("devices", now.devices.len()),
                ("switch ports", now.ports.len()),
            ] {
                if count > 0 {
                    left.push(format!("{count} {what} of host {number}"));
                }
            }
        }
        for ((table, before), (_, now)) in self.rows.iter().zip(self.count_rows().await?) {
            if *before != now {
                left.push(format!("{table}: {before} rows before, {now} now"));
            }
        }
        Ok(left)
    }

    /// The rows once nothing is under way and no host has anything.
    async fn quiet_rows(&self) -> Result<Vec<(&'static str, i64)>> {
        let begun = Instant::now();
        loop {
            let rows = self.count_rows().await?;
            let under_way = |table: &str| {
                ["workflows", "host_documents", "locator_waits"]
                    .iter()
                    .any(|name| table.starts_with(name))
            };
            if rows.iter().all(|(table, count)| !under_way(table) || *count == 0) {
                return Ok(rows);
            }
            ensure!(begun.elapsed() < DEADLINE, "never quiet: {rows:?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Rows of everything that a server's life must leave as it was.
    pub async fn count_rows(&self) -> Result<Vec<(&'static str, i64)>> {
        const TABLES: [&str; 11] = [
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
        let counts = self.db.read(|tx| {
            Box::pin(async move {
                let mut counts = Vec::new();
                for table in TABLES {
                    let sql = format!("SELECT COUNT(*) AS n FROM {table}");
                    let row = tx.query_dynamic(sql, &[]).await?;
                    counts.push((table, row[0].int("n")?));
                }
                Ok::<_, DatabaseError>(counts)
            })
        });
        Ok(counts.await?)
    }
}
