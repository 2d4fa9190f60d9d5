//! What is asked of a cloud: one request each, over things that were made beforehand.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use black_box::{Answer, Client};
use serde_json::{Value, json};

use crate::cloud::Access;

/// One request of a suite.
pub type Request = fn(Arc<Caller>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A suite.
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the table calls it.
    pub what: &'static str,
    /// One request of it.
    pub request: Request,
    /// Whether it needs hosts and servers.
    pub needs_servers: bool,
    /// What makes something is repeated at most so often.
    pub most: usize,
}

/// Enough that only the clock ends a suite that makes nothing.
const NO_END: usize = usize::MAX;

/// All suites, in the order in which they run: those that fill the cloud come last.
pub const SUITES: &[Suite] = &[
    suite("token_issue", "token issue (password)", false, NO_END, |c| Box::pin(token_issue(c))),
    suite("token_validate", "token validate", false, NO_END, |c| Box::pin(token_validate(c))),
    suite("image_show", "image show", false, NO_END, |c| {
        Box::pin(async move { c.get(&c.world.image_path()).await })
    }),
    suite("server_show", "server show", true, NO_END, |c| Box::pin(server_show(c))),
    suite("server_list", "server list, 500 in detail", true, NO_END, |c| {
        Box::pin(async move { c.get("/compute/v2.1/servers/detail?limit=500").await })
    }),
    suite("network_create", "network create", false, 2000, |c| Box::pin(network_create(c))),
    suite("port_create", "port create", false, 2000, |c| Box::pin(port_create(c))),
    suite("server_create", "server create, until accepted", true, 200, |c| {
        Box::pin(async move { c.world.create_server(&c.client, None).await.map(drop) })
    }),
];

const fn suite(
    name: &'static str,
    what: &'static str,
    needs_servers: bool,
    most: usize,
    request: Request,
) -> Suite {
    Suite { name, what, request, needs_servers, most }
}

/// What the requests need, made beforehand.
pub struct World {
    access: Access,
    token: String,
    network: String,
    image: String,
    flavor: String,
    servers: Vec<String>,
    made: AtomicU64,
}

/// One client with a connection of its own.
pub struct Caller {
    world: Arc<World>,
    client: Client,
}

impl Caller {
    async fn get(&self, path: &str) -> Result<()> {
        self.client.get(path).await?.expect(200)?;
        Ok(())
    }
}

/// The disk that servers boot from, and how it is uploaded.
pub struct Disk {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// `raw` or `qcow2`.
    pub format: &'static str,
}

impl World {
    /// Logs in, lifts the quotas, and makes a network, an image and a flavor.
    ///
    /// # Errors
    /// When the cloud refuses one of them.
    pub async fn prepare(access: Access, disk: Disk, flavor: Value) -> Result<Self> {
        let admin = access.admin().await?;
        let token = admin.token().context("no token")?.to_owned();
        let own = admin.clone().with_header("x-subject-token", &token);
        let own = own.get("/identity/v3/auth/tokens").await?.expect(200)?;
        let project = text(&own, &["token", "project", "id"])?;
        let unlimited = json!({"quota": {"network": -1, "port": -1, "subnet": -1}});
        admin.put(&format!("/network/v2.0/quotas/{project}"), &unlimited).await?.expect(200)?;
        let unlimited = json!({"quota_set": {"instances": -1, "cores": -1, "ram": -1}});
        let path = format!("/compute/v2.1/os-quota-sets/{project}");
        admin.put(&path, &unlimited).await?.expect(200)?;
        let body = json!({"network": {"name": "bench"}});
        let network = admin.post("/network/v2.0/networks", &body).await?.expect(201)?;
        let network = text(&network, &["network", "id"])?;
        let body = json!({"subnet": {
            "network_id": network, "ip_version": 4, "cidr": "10.128.0.0/12",
        }});
        admin.post("/network/v2.0/subnets", &body).await?.expect(201)?;
        let body = json!({
            "name": "bench", "disk_format": disk.format, "container_format": "bare",
        });
        let image = admin.post("/image/v2/images", &body).await?.expect(201)?;
        let image = text(&image, &["id"])?;
        let path = format!("/image/v2/images/{image}/file");
        admin.upload(&path, disk.bytes).await?.expect(204)?;
        let flavor =
            admin.post("/compute/v2.1/flavors", &json!({"flavor": flavor})).await?.expect(200)?;
        let flavor = text(&flavor, &["flavor", "id"])?;
        Ok(World {
            access,
            token,
            network,
            image,
            flavor,
            servers: Vec::new(),
            made: AtomicU64::new(0),
        })
    }

    fn image_path(&self) -> String {
        format!("/image/v2/images/{}", self.image)
    }

    /// A client with a connection of its own, logged in as the administrator.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn client(&self) -> Result<Client> {
        Ok(self.access.anonymous()?.with_token(Some(self.token.clone())))
    }

    /// The same, for a suite.
    ///
    /// # Errors
    /// When the authority cannot be read.
    pub fn caller(self: &Arc<Self>) -> Result<Caller> {
        Ok(Caller { client: self.client()?, world: self.clone() })
    }

    /// Asks for a server; its id when it is accepted.
    ///
    /// # Errors
    /// When it is not.
    pub async fn create_server(&self, client: &Client, name: Option<String>) -> Result<String> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let body = json!({"server": {
            "name": name.unwrap_or_else(|| format!("bench-{number}")),
            "imageRef": self.image,
            "flavorRef": self.flavor,
            "networks": [{"uuid": self.network}],
        }});
        let answer = client.post("/compute/v2.1/servers", &body).await?.expect(202)?;
        text(&answer, &["server", "id"])
    }

    /// How many servers there are in all, and which have ended in `ERROR`.
    ///
    /// # Errors
    /// When the list fails.
    async fn census(&self, client: &Client) -> Result<(usize, Vec<String>)> {
        let (mut active, mut failed, mut marker) = (0, Vec::new(), String::new());
        loop {
            let path = format!("/compute/v2.1/servers/detail?limit=1000{marker}");
            let page = client.get(&path).await?.expect(200)?;
            let servers = page.json["servers"].as_array().context("no servers")?;
            let Some(last) = servers.last() else { return Ok((active, failed)) };
            marker = format!("&marker={}", last["id"].as_str().unwrap_or_default());
            for server in servers {
                match server["status"].as_str() {
                    Some("ACTIVE") => active += 1,
                    Some("ERROR") => failed.push(server["fault"]["message"].to_string()),
                    _ => {}
                }
            }
        }
    }

    /// Waits until `count` servers are active.
    ///
    /// # Errors
    /// When one fails, or nothing gets further for a minute.
    pub async fn wait_active(&self, count: usize) -> Result<()> {
        let client = self.client()?;
        let (mut before, mut moved) = (0, std::time::Instant::now());
        loop {
            let (active, failed) = self.census(&client).await?;
            if let Some(why) = failed.first() {
                bail!("{} servers failed; the first: {why}", failed.len());
            }
            if active >= count {
                return Ok(());
            }
            if active != before {
                (before, moved) = (active, std::time::Instant::now());
            }
            if moved.elapsed() > Duration::from_secs(60) {
                bail!("only {active} of {count} servers are active, for a minute");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Makes `count` servers and waits until they are active.
    ///
    /// # Errors
    /// When one fails.
    pub async fn fill(&mut self, count: usize) -> Result<()> {
        const AT_ONCE: usize = 8;
        let client = self.client()?;
        for begun in (0..count).step_by(AT_ONCE) {
            let some = (begun..count.min(begun + AT_ONCE))
                .map(|_| self.create_server(&client, None))
                .collect::<Vec<_>>();
            for id in futures::future::join_all(some).await {
                self.servers.push(id?);
            }
        }
        self.wait_active(count).await
    }
}

/// A string somewhere in an answer.
fn text(answer: &Answer, path: &[&str]) -> Result<String> {
    let value = path.iter().fold(&answer.json, |value, key| &value[*key]);
    value
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("no {} in {}", path.join("."), answer.text))
}

async fn token_issue(caller: Arc<Caller>) -> Result<()> {
    let access = &caller.world.access;
    caller.client.clone().with_token(None).login("admin", access.password(), "admin").await?;
    Ok(())
}

async fn token_validate(caller: Arc<Caller>) -> Result<()> {
    let client = caller.client.clone().with_header("x-subject-token", &caller.world.token);
    client.get("/identity/v3/auth/tokens").await?.expect(200)?;
    Ok(())
}

async fn server_show(caller: Arc<Caller>) -> Result<()> {
    let world = &caller.world;
    let number = usize::try_from(world.made.fetch_add(1, Ordering::Relaxed)).unwrap_or_default();
    let id = world.servers.get(number % world.servers.len().max(1)).context("no servers")?;
    caller.get(&format!("/compute/v2.1/servers/{id}")).await
}

async fn network_create(caller: Arc<Caller>) -> Result<()> {
    let number = caller.world.made.fetch_add(1, Ordering::Relaxed);
    let body = json!({"network": {"name": format!("bench-{number}")}});
    caller.client.post("/network/v2.0/networks", &body).await?.expect(201)?;
    Ok(())
}

async fn port_create(caller: Arc<Caller>) -> Result<()> {
    let body = json!({"port": {"network_id": caller.world.network}});
    caller.client.post("/network/v2.0/ports", &body).await?.expect(201)?;
    Ok(())
}
