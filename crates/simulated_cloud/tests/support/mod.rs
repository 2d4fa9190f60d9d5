//! A project with what a server needs, and what tests ask of its servers.

// Each test binary uses a part of it.
#![allow(dead_code)]

pub mod proxy;
pub mod region;
pub mod strikes;

use anyhow::{Context, Result, bail};
use black_box::{Client, Cloud, DEADLINE, until, until_some};
use serde_json::{Value, json};

/// A project with an image, a flavor and a network.
pub struct Tenant {
    /// The demo user. Its token outlives restarts of the control plane.
    pub user: Client,
    /// The administrator.
    pub admin: Client,
    image: String,
    flavor: String,
    network: String,
}

impl Tenant {
    /// Makes everything that a server needs.
    pub async fn prepare(cloud: &Cloud) -> Result<Tenant> {
        let (user, admin) = (cloud.demo().await?, cloud.admin().await?);
        let flavor = json!({"flavor": {"name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}});
        let flavor = admin.post("/compute/v2.1/flavors", &flavor).await?.expect(200)?;
        let image = upload(&user, "disk", vec![0; 4096]).await?;
        let network = json!({"network": {"name": "net"}});
        let network = user.post("/network/v2.0/networks", &network).await?.expect(201)?;
        let network = text(&network.json["network"]["id"])?;
        let subnet =
            json!({"subnet": {"network_id": network, "cidr": "10.9.0.0/24", "ip_version": 4}});
        user.post("/network/v2.0/subnets", &subnet).await?.expect(201)?;
        Ok(Tenant { user, admin, image, flavor: text(&flavor.json["flavor"]["id"])?, network })
    }

    /// Logs in again, after the tokens have run out.
    pub async fn renew(&mut self, cloud: &Cloud) -> Result<()> {
        (self.user, self.admin) = (cloud.demo().await?, cloud.admin().await?);
        Ok(())
    }

    /// Uploads a raw image, and returns its id.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>) -> Result<String> {
        upload(&self.user, name, bytes).await
    }

    /// The body of a request for a server.
    pub fn wish(&self, name: &str) -> Value {
        self.wish_of(name, &self.image)
    }

    /// The same, of another image.
    pub fn wish_of(&self, name: &str, image: &str) -> Value {
        json!({"server": {
            "name": name, "imageRef": image, "flavorRef": self.flavor,
            "networks": [{"uuid": self.network}],
        }})
    }

    /// Asks for a server, and returns its id.
    pub async fn boot(&self, name: &str) -> Result<String> {
        self.boot_of(name, &self.image).await
    }

    /// The same, of another image.
    pub async fn boot_of(&self, name: &str, image: &str) -> Result<String> {
        let wish = self.wish_of(name, image);
        let made = self.user.post("/compute/v2.1/servers", &wish).await?.expect(202)?;
        text(&made.json["server"]["id"])
    }

    /// The server as the administrator sees it.
    pub async fn show(&self, id: &str) -> Result<Value> {
        let shown = self.admin.get(&path(id)).await?.expect(200)?;
        Ok(shown.json["server"].clone())
    }

    /// The server once it is no longer being built.
    pub async fn settled(&self, id: &str) -> Value {
        until_some(&format!("server {id} to be ACTIVE or ERROR"), || async {
            let shown = self.show(id).await.ok()?;
            (shown["status"] == "ACTIVE" || shown["status"] == "ERROR").then_some(shown)
        })
        .await
    }

    /// The server once it is ACTIVE.
    pub async fn active(&self, id: &str) -> Result<Value> {
        let shown = self.settled(id).await;
        if shown["status"] != "ACTIVE" {
            bail!("server {id} failed: {}", shown["fault"]);
        }
        Ok(shown)
    }

    /// Deletes a server, and waits until it is gone for its owner.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.user.delete(&path(id)).await?.expect(204)?;
        self.gone(id).await;
        Ok(())
    }

    /// Waits until a server is gone for its owner.
    pub async fn gone(&self, id: &str) {
        until(&format!("server {id} to be gone"), || async {
            self.user.get(&path(id)).await.is_ok_and(|shown| shown.status == 404)
        })
        .await;
    }
}

async fn upload(user: &Client, name: &str, bytes: Vec<u8>) -> Result<String> {
    let image = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
    let image = user.post("/image/v2/images", &image).await?.expect(201)?;
    let image = text(&image.json["id"])?;
    user.upload(&format!("/image/v2/images/{image}/file"), bytes).await?.expect(204)?;
    Ok(image)
}

/// Waits until `look` says true, for something that takes a minute by itself.
pub async fn until_long<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let begun = std::time::Instant::now();
    while !look().await {
        assert!(begun.elapsed() < DEADLINE * 3, "waited in vain for: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// A number that the commit chooses, so that runs on different commits test different parts of
/// what is too much for one; 0 outside a repository.
pub fn commit_number() -> usize {
    let hash = std::process::Command::new("git")
        .args(["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    hash.get(..8).and_then(|digits| usize::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// Where a server is.
pub fn path(id: &str) -> String {
    format!("/compute/v2.1/servers/{id}")
}

/// A text in JSON.
pub fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("no text: {value}"))?.to_owned())
}
