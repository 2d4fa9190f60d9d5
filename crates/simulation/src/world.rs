//! A run: a region is made, used and troubled for a while, left alone until it rests, and judged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use auditor::Finding;
use control_plane::pki::Authority;
use control_plane::server;
use database::{Database, DatabaseConfig, Origin};
use host_documents::hosts;
use http::{Method, Request};
use identity::{BootstrapConfig, DemoConfig};
use serde_json::{Value, json};
use service_kit::{App, RouteInfo};
use tower::ServiceExt;

use crate::clock::SimulatedClock;
use crate::faults::Troubles;
use crate::host::SimulatedHost;
use crate::ledger::Ledger;
use crate::load::pool::Pool;
use crate::load::{Load, Tenant};
use crate::network::{Dice, Partitions};
use crate::replica::{Common, HASHING, Replica};
use crate::store;
use crate::trace::Trace;
use crate::verdict::Judge;

/// Everybody's password.
pub const PASSWORD: &str = "a-password-for-tests";
/// A key that tenants import.
pub const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKqbmz0x3Hcl6Jm3mLxLBbLb0x3Hcl6Jm3mLxLBbLb0 sim";
/// Tenants.
const TENANTS: usize = 3;
/// Hosts of one L2 domain.
const DOMAIN: usize = 40;
/// After the load, all must have come to rest within so long.
const REST: Duration = Duration::from_secs(3600);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
    /// How many control planes.
    pub replicas: usize,
    /// How long the region is used and troubled.
    pub busy: Duration,
    /// The time between two requests of a client.
    pub pace: Duration,
    /// The time between two troubles.
    pub trouble: Duration,
    /// The time between two audits while it runs.
    pub audit: Duration,
    /// Clients.
    pub clients: usize,
    /// Servers that one tenant has at most.
    pub most_servers: usize,
    /// A planted bug that is there from when the region is made.
    pub bug: Option<String>,
}

impl Options {
    /// The usual run of a seed: its size follows from the number of hosts. In one of three seeds
    /// tenants want more than hosts have room for.
    pub fn usual(seed: u64, hosts: usize, busy: Duration) -> Options {
        let large = hosts > 100;
        let crowded = Dice::new(seed, "size").chance(333);
        let most_servers = if crowded { hosts * 2 } else { hosts * 2 / TENANTS };
        Options {
            seed,
            hosts,
            replicas: 3,
            busy,
            pace: Duration::from_millis(3000),
            trouble: Duration::from_secs(if large { 4 } else { 12 }),
            audit: Duration::from_secs(if large { 120 } else { 7 }),
            clients: if large { 24 } else { 6 },
            most_servers: most_servers.clamp(4, 60),
            bug: None,
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The story of the first finding's object.
    pub story: Vec<String>,
    /// The hash of the trace, and how many lines it has.
    pub trace: (String, u64),
    /// The trace itself, as far as it is kept.
    pub lines: Vec<String>,
    /// How much time passed in the region.
    pub passed: Duration,
    /// Transactions that changed something.
    pub journal: usize,
    /// Servers that were made.
    pub servers: usize,
}

/// The region, as every part sees it. Clones are the same one.
#[derive(Clone)]
pub struct Region {
    /// What replicas share.
    pub common: Common,
    /// What is cut off.
    pub partitions: Partitions,
    /// What happened.
    pub trace: Trace,
    /// What was promised.
    pub ledger: Ledger,
    replicas: Arc<Mutex<Vec<Option<Arc<Replica>>>>>,
    quiet: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
    most_servers: usize,
}

impl Region {
    fn replicas(&self) -> MutexGuard<'_, Vec<Option<Arc<Replica>>>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many replicas there should be.
    pub fn count(&self) -> usize {
        self.replicas().len()
    }

    /// A replica, if it runs.
    pub fn replica(&self, number: usize) -> Option<Arc<Replica>> {
        self.replicas().get(number).cloned().flatten()
    }

    /// Kills a replica; whether it ran.
    pub fn crash(&self, number: usize) -> bool {
        let replica = self.replicas().get_mut(number).and_then(Option::take);
        if let Some(replica) = &replica {
            replica.crash();
        }
        replica.is_some()
    }

    /// Starts a replica that does not run.
    pub async fn restart(&self, number: usize) {
        if self.replica(number).is_some() {
            return;
        }
        match Replica::start(number, &self.common).await {
            Ok(replica) => {
                let mut replicas = self.replicas();
                match replicas.get_mut(number) {
                    Some(place @ None) => {
                        self.trace.say(format_args!("{} starts", replica.name));
                        *place = Some(Arc::new(replica));
                    }
                    _ => replica.crash(),
                }
            }
            Err(error) => {
                self.trace.say(format_args!("replica {number} does not start: {error:#}"))
            }
        }
    }

    /// Whether nobody asks for anything any more and nothing goes wrong.
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }

    /// A number that was not used before.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// Servers that one tenant has at most.
    pub fn most_servers(&self) -> usize {
        self.most_servers
    }
}

struct World {
    region: Region,
    hosts: Arc<Vec<Arc<SimulatedHost>>>,
    tenants: Vec<Tenant>,
    admin: String,
    routes: Vec<RouteInfo>,
    _directory: tempfile::TempDir,
}

/// Runs a region as the seed says.
///
/// # Errors
/// When the region cannot even be made.
pub async fn run(options: &Options) -> Result<Outcome> {
    let world = make(options).await.context("making the region")?;
    let World { region, hosts, tenants, admin, routes, _directory: directory } = world;
    if let Some(bug) = &options.bug {
        planted_bugs::choose(bug).map_err(anyhow::Error::msg)?;
    }
    let dice = |purpose: &str| Dice::new(options.seed, purpose);
    let load = Arc::new(Load::new(region.clone(), dice("load"), tenants, admin, routes));
    for client in 0..options.clients {
        tokio::spawn(load.clone().run(client, options.pace));
    }
    let troubles = Arc::new(Troubles::new(region.clone(), hosts.clone(), dice("troubles")));
    tokio::spawn(troubles.clone().run(options.trouble));
    let mut judge = Judge::new(region.clone(), hosts.clone());
    let end = tokio::time::Instant::now() + options.busy;
    let mut findings = Vec::new();
    while findings.is_empty() && tokio::time::Instant::now() < end {
        tokio::time::sleep(options.audit).await;
        findings = judge.meanwhile().await?;
    }
    if findings.is_empty() {
        findings = rest(&region, &troubles, &mut judge).await?;
    }
    let story = match findings.first() {
        Some(finding) => judge.story(&finding.object).await?,
        None => Vec::new(),
    };
    let journal = store::journal(&region.common.db).await?;
    for entry in &journal {
        region.trace.say(format_args!("journal {} {} {}", entry.kind, entry.id, entry.action));
    }
    let servers =
        journal.iter().filter(|entry| entry.kind == "server" && entry.action == "create").count();
    drop(directory);
    Ok(Outcome {
        findings,
        story,
        trace: region.trace.hash(),
        lines: region.trace.lines(),
        passed: Duration::from_micros(region.common.clock.passed().unsigned_abs()),
        journal: journal.len(),
        servers,
    })
}

/// Ends load and troubles, and waits until all has come to rest.
async fn rest(region: &Region, troubles: &Troubles, judge: &mut Judge) -> Result<Vec<Finding>> {
    region.quiet.store(true, Ordering::SeqCst);
    region.trace.say("load and troubles end");
    // Troubles that are under way end by themselves within this, and are then ended for good.
    tokio::time::sleep(Duration::from_secs(60)).await;
    troubles.end().await;
    let end = tokio::time::Instant::now() + REST;
    loop {
        tokio::time::sleep(LOOK).await;
        troubles.end().await;
        let late = tokio::time::Instant::now() >= end;
        if store::open_workflows(&region.common.db).await? > 0 && !late {
            continue;
        }
        let findings = judge.at_rest().await?;
        if findings.is_empty() || late {
            return Ok(findings);
        }
    }
}

async fn make(options: &Options) -> Result<World> {
    let clock = SimulatedClock::new();
    let directory = tempfile::tempdir()?;
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(clock.clone())).await?;
    db.seed(options.seed);
    server::migrate(&db).await?;
    let wanted = BootstrapConfig {
        admin_password: PASSWORD.to_owned(),
        region: "region-1".to_owned(),
        base_url: "http://localhost".to_owned(),
        demo: Some(DemoConfig { name: "demo".to_owned(), password: PASSWORD.to_owned() }),
        hashing: HASHING,
    };
    identity::bootstrap(&db, &wanted).await?;
    let partitions = Partitions::default();
    let common = Common {
        db: db.clone(),
        clock: clock.clone(),
        seed: options.seed,
        directory: directory.path().to_owned(),
        authority: Arc::new(Authority::open_or_create(
            &directory.path().join("pki"),
            "Simulation",
        )?),
        partitions: partitions.clone(),
        dice: Dice::new(options.seed, "database"),
    };
    let region = Region {
        common,
        partitions,
        trace: Trace::new(clock),
        ledger: Ledger::default(),
        replicas: Arc::new(Mutex::new((0..options.replicas).map(|_| None).collect())),
        quiet: Arc::default(),
        numbers: Arc::default(),
        most_servers: options.most_servers,
    };
    // Before anything runs by itself: what is done with files is done on other threads, and would
    // not be on the schedule.
    let app = region.common.assemble(&db).await?.app;
    let admin =
        login(&app, "admin", json!({"name": "admin", "domain": {"name": "Default"}})).await?;
    let tenants = tenants(&app, &admin).await?;
    let routes = app.table().to_vec();
    for number in 0..options.replicas {
        region.restart(number).await;
    }
    let hosts = Arc::new(join(&region, options).await?);
    for host in hosts.iter() {
        host.start();
    }
    for _ in 0..600 {
        if store::ready_hosts(&region.common.db).await? == hosts.len() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(World { region, hosts, tenants, admin, routes, _directory: directory })
}

/// Takes machines in as hosts.
async fn join(region: &Region, options: &Options) -> Result<Vec<Arc<SimulatedHost>>> {
    let mut joined = Vec::with_capacity(options.hosts);
    for number in 0..options.hosts {
        let (name, domain) = (format!("host-{number}"), format!("l2-{}", number / DOMAIN));
        let wanted = name.clone();
        let host = region
            .common
            .db
            .transact(&Origin::system("simulation"), move |tx| {
                let (name, domain) = (wanted.clone(), domain.clone());
                Box::pin(async move {
                    let token =
                        hosts::create_join_token(tx, "zone-1", "cluster-1", &domain).await?;
                    hosts::enrol(tx, &token, &name, name.as_bytes()).await
                })
            })
            .await?;
        let dice = Dice::new(options.seed, &name);
        joined.push(Arc::new(SimulatedHost::new(name, host.id, region.clone(), dice)?));
    }
    Ok(joined)
}

/// A request of the one who makes the region; nothing goes wrong yet.
async fn ask(
    app: &App,
    token: Option<&str>,
    method: Method,
    path: &str,
    body: (&str, Vec<u8>),
) -> Result<(Value, Option<String>)> {
    let mut request = Request::builder().method(&method).uri(path).header("content-type", body.0);
    if let Some(token) = token {
        request = request.header("x-auth-token", token);
    }
    let request = request.body(axum::body::Body::from(body.1))?;
    let response = app.clone().oneshot(request).await?;
    let status = response.status();
    let subject = response.headers().get("x-subject-token");
    let subject = subject.and_then(|text| text.to_str().ok()).map(str::to_owned);
    let bytes = axum::body::to_bytes(response.into_body(), 8 << 20).await?;
    if !status.is_success() {
        bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
    }
    Ok((serde_json::from_slice(&bytes).unwrap_or(Value::Null), subject))
}

async fn post(app: &App, token: &str, path: &str, body: Value) -> Result<Value> {
    let body = ("application/json", body.to_string().into_bytes());
    Ok(ask(app, Some(token), Method::POST, path, body).await?.0)
}

async fn put(app: &App, token: &str, path: &str, body: Value) -> Result<Value> {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let body = ("application/json", text.into_bytes());
    Ok(ask(app, Some(token), Method::PUT, path, body).await?.0)
}

async fn login(app: &App, user: &str, project: Value) -> Result<String> {
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {
            "user": {"name": user, "domain": {"name": "Default"}, "password": PASSWORD}}},
        "scope": {"project": project},
    }});
    let body = ("application/json", body.to_string().into_bytes());
    let (_, token) = ask(app, None, Method::POST, "/identity/v3/auth/tokens", body).await?;
    token.context("a login answers a token")
}

fn id(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("an identifier")
}

/// Projects with users, quota, images, flavors and networks.
async fn tenants(app: &App, admin: &str) -> Result<Vec<Tenant>> {
    let mut flavors = Vec::new();
    for (name, ram, vcpus) in [("tiny", 64, 1), ("small", 256, 1), ("large", 1024, 2)] {
        let body = json!({"flavor": {"name": name, "ram": ram, "vcpus": vcpus, "disk": 1}});
        let made = post(app, admin, "/compute/v2.1/flavors", body).await?;
        flavors.push(id(&made["flavor"]["id"])?);
    }
    let body = json!({"name": "disk", "disk_format": "raw", "container_format": "bare",
        "visibility": "public"});
    let image = id(&post(app, admin, "/image/v2/images", body).await?["id"])?;
    let file = ("application/octet-stream", vec![0; 4096]);
    let path = format!("/image/v2/images/{image}/file");
    ask(app, Some(admin), Method::PUT, &path, file).await?;
    let roles = ask(app, Some(admin), Method::GET, "/identity/v3/roles", ("", Vec::new())).await?.0;
    let member = roles["roles"].as_array().into_iter().flatten();
    let member = member.clone().find(|role| role["name"] == "member").context("the role member")?;
    let member = id(&member["id"])?;
    let path = "/identity/v3/users?name=admin";
    let found = ask(app, Some(admin), Method::GET, path, ("", Vec::new())).await?.0;
    let administrator = id(&found["users"][0]["id"])?;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        let name = format!("tenant-{number}");
        let body = json!({"project": {"name": name, "domain_id": "default"}});
        let project = post(app, admin, "/identity/v3/projects", body).await?;
        let project = id(&project["project"]["id"])?;
        let body = json!({"user": {"name": name, "domain_id": "default", "password": PASSWORD}});
        let user = id(&post(app, admin, "/identity/v3/users", body).await?["user"]["id"])?;
        let path = format!("/identity/v3/projects/{project}/users/{user}/roles/{member}");
        put(app, admin, &path, Value::Null).await?;
        let body = json!({"quota_set": {"instances": 1000, "cores": 4000, "ram": 4_000_000}});
        put(app, admin, &format!("/compute/v2.1/os-quota-sets/{project}"), body).await?;
        let body = json!({"quota": {"network": 1000, "subnet": 1000, "port": 5000,
            "security_group": 1000, "security_group_rule": 10000}});
        put(app, admin, &format!("/network/v2.0/quotas/{project}"), body).await?;
        let token = login(app, &name, json!({"id": project})).await?;
        let pool = Pool::default();
        pool.add("administrator", &administrator);
        flavors.iter().for_each(|flavor| pool.add("base-flavors", flavor));
        pool.add("base-images", &image);
        // The last has room for a handful of servers, so that an address is wanted again soon after
        // it was given back.
        for (at, pool_of, length) in
            [(0, "base-networks", 26), (1, "base-networks", 26), (2, "tight-networks", 29)]
        {
            let body = json!({"network": {"name": format!("{name}-{at}")}});
            let network = post(app, &token, "/network/v2.0/networks", body).await?;
            let network = id(&network["network"]["id"])?;
            let body = json!({"subnet": {"network_id": network, "ip_version": 4,
                "cidr": format!("172.16.{at}.0/{length}")}});
            post(app, &token, "/network/v2.0/subnets", body).await?;
            pool.add(pool_of, &network);
        }
        tenants.push(Tenant { name, project, token, pool });
    }
    ensure!(!tenants.is_empty(), "there are tenants");
    Ok(tenants)
}

/// The routes of a region, as they are served.
///
/// # Errors
/// When the region cannot be made.
pub async fn routes() -> Result<Vec<RouteInfo>> {
    let options = Options::usual(1, 0, Duration::ZERO);
    Ok(make(&options).await?.routes)
}
