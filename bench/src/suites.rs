//! What is measured: one request each, over things that were made beforehand.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use black_box::Client;
use serde_json::json;

/// One request of a suite.
pub type Request = fn(&Arc<World>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// All suites by name, in the order in which they run.
pub const SUITES: &[(&str, Request)] = &[
    ("token_issue", |world| Box::pin(token_issue(world.clone()))),
    ("token_validate", |world| Box::pin(get(world.clone(), "/identity/v3/auth/tokens"))),
    ("image_show", |world| {
        let path = world.image.clone();
        Box::pin(get(world.clone(), path))
    }),
    ("network_create", |world| Box::pin(network_create(world.clone()))),
    ("port_create", |world| Box::pin(port_create(world.clone()))),
    ("server_list", |world| {
        Box::pin(get(world.clone(), "/compute/v2.1/servers/detail?all_tenants=1&limit=500"))
    }),
];

/// A cloud to measure, and what the requests need.
pub struct World {
    admin: Client,
    anonymous: Client,
    password: String,
    image: String,
    network: String,
    made: AtomicU64,
}

impl World {
    /// Logs in and makes a network and an image record.
    pub async fn prepare(state: &Path) -> Result<Self> {
        let clouds = std::fs::read_to_string(state.join("etc/clouds.yaml"))?;
        let section =
            clouds.split_once("  meridian-admin:\n").context("no cloud meridian-admin")?.1;
        let value = |key: &str| -> Result<String> {
            section
                .lines()
                .find_map(|line| line.trim().strip_prefix(key))
                .map(|text| text.trim().to_owned())
                .with_context(|| format!("no {key} in clouds.yaml"))
        };
        let base = value("auth_url:")?.trim_end_matches("/identity/v3").to_owned();
        let password = value("password:")?;
        let authority = std::fs::read(state.join("pki/ca.pem"))?;
        let anonymous = Client::new(&base, &authority)?;
        let admin = anonymous.clone().login("admin", &password, "admin").await?;
        let network = admin
            .post("/network/v2.0/networks", &json!({"network": {"name": "bench"}}))
            .await?
            .expect(201)?;
        let network = network.json["network"]["id"].as_str().context("no network id")?.to_owned();
        admin
            .post(
                "/network/v2.0/subnets",
                &json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.128.0.0/12"}}),
            )
            .await?
            .expect(201)?;
        let project = admin.get("/identity/v3/auth/tokens").await.ok();
        if let Some(project) =
            project.and_then(|p| p.json["token"]["project"]["id"].as_str().map(str::to_owned))
        {
            admin
                .put(
                    &format!("/network/v2.0/quotas/{project}"),
                    &json!({"quota": {"network": -1, "port": -1, "subnet": -1}}),
                )
                .await?;
        }
        let image = admin
            .post(
                "/image/v2/images",
                &json!({"name": "bench", "disk_format": "raw", "container_format": "bare"}),
            )
            .await?
            .expect(201)?;
        let image = image.json["id"].as_str().context("no image id")?;
        Ok(World {
            image: format!("/image/v2/images/{image}"),
            admin,
            anonymous,
            password,
            network,
            made: AtomicU64::new(0),
        })
    }

    /// Takes away what the suites made.
    pub async fn clean_up(&self) -> Result<()> {
        self.admin.delete(&self.image).await?;
        let ports = self
            .admin
            .get(&format!("/network/v2.0/ports?network_id={}&fields=id", self.network))
            .await?;
        for port in ports.json["ports"].as_array().into_iter().flatten() {
            if let Some(id) = port["id"].as_str() {
                self.admin.delete(&format!("/network/v2.0/ports/{id}")).await?;
            }
        }
        let networks = self.admin.get("/network/v2.0/networks?fields=id&fields=name").await?;
        for network in networks.json["networks"].as_array().into_iter().flatten() {
            let ours = network["name"].as_str().is_some_and(|name| name.starts_with("bench"));
            if let Some(id) = network["id"].as_str().filter(|_| ours) {
                self.admin.delete(&format!("/network/v2.0/networks/{id}")).await?;
            }
        }
        Ok(())
    }
}

async fn get(world: Arc<World>, path: impl Into<String>) -> Result<()> {
    let path = path.into();
    let client = match world.admin.token() {
        Some(token) if path.ends_with("/auth/tokens") => {
            world.admin.clone().with_header("x-subject-token", token)
        }
        _ => world.admin.clone(),
    };
    client.get(&path).await?.expect(200)?;
    Ok(())
}

async fn token_issue(world: Arc<World>) -> Result<()> {
    world.anonymous.clone().login("admin", &world.password, "admin").await?;
    Ok(())
}

async fn network_create(world: Arc<World>) -> Result<()> {
    let number = world.made.fetch_add(1, Ordering::Relaxed);
    let body = json!({"network": {"name": format!("bench-{number}")}});
    world.admin.post("/network/v2.0/networks", &body).await?.expect(201)?;
    Ok(())
}

async fn port_create(world: Arc<World>) -> Result<()> {
    let body = json!({"port": {"network_id": world.network}});
    world.admin.post("/network/v2.0/ports", &body).await?.expect(201)?;
    Ok(())
}
