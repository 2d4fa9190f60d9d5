//! The load: tenants who use every route of the API at random, and send again what got lost.

pub mod pool;
pub mod wishes;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request};
use serde_json::Value;
use service_kit::RouteInfo;
use tower::ServiceExt;

use crate::network::Dice;
use crate::world::Region;
use pool::Pool;
use wishes::Wish;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(70);
/// How often a client sends again what got lost.
const TRIES: usize = 4;

/// Somebody who uses the cloud.
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// Its token.
    pub token: String,
    /// What it has.
    pub pool: Pool,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, when it is JSON.
    pub json: Value,
    /// `X-Subject-Token`.
    pub subject_token: Option<String>,
}

/// Sends one request to a replica. `None`: it got lost, or its answer did.
pub async fn send(
    region: &Region,
    dice: &Dice,
    wish: &Wish,
    token: Option<&str>,
    key: Option<&str>,
) -> Option<Answer> {
    travel(dice).await;
    if dice.chance(10) {
        return None;
    }
    let number = dice.below(region.count());
    let replica = region.replica(number)?;
    let mut request = Request::builder().method(&wish.method).uri(&wish.path);
    if let Some(token) = token {
        request = request.header("x-auth-token", token);
    }
    if let Some(subject) = &wish.subject {
        request = request.header("x-subject-token", subject);
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    if wish.path.starts_with("/compute") {
        request = request.header("openstack-api-version", "compute 2.90");
    }
    let body = match &wish.body {
        Some(body) => {
            let media = wish.media.unwrap_or("application/json");
            request = request.header("content-type", media);
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let request = request.body(body).ok()?;
    let work = async {
        replica.life.go_on().await;
        let response = replica.services.app.clone().oneshot(request).await.ok()?;
        replica.life.go_on().await;
        let status = response.status().as_u16();
        let subject_token = response.headers().get("x-subject-token");
        let subject_token = subject_token.and_then(|text| text.to_str().ok()).map(str::to_owned);
        let bytes = axum::body::to_bytes(response.into_body(), 8 << 20).await.ok()?;
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Some(Answer { status, json, subject_token })
    };
    let answer = tokio::select! {
        answer = work => answer,
        () = replica.life.ended() => None,
        () = tokio::time::sleep(PATIENCE) => None,
    };
    travel(dice).await;
    if dice.chance(10) { None } else { answer }
}

async fn travel(dice: &Dice) {
    let most = if dice.chance(5) { 3000 } else { 5 };
    let wait = dice.up_to(Duration::from_millis(most));
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

/// Everybody's requests, one client after the other on its own task.
pub struct Load {
    region: Region,
    dice: Dice,
    tenants: Arc<Vec<Tenant>>,
    admin: String,
    routes: Arc<Vec<RouteInfo>>,
}

impl Load {
    /// A load by these tenants on these routes.
    pub fn new(
        region: Region,
        dice: Dice,
        tenants: Vec<Tenant>,
        admin: String,
        routes: Vec<RouteInfo>,
    ) -> Load {
        Load { region, dice, tenants: Arc::new(tenants), admin, routes: Arc::new(routes) }
    }

    /// Uses the cloud until the region says that it is enough. `mean` is the time between two
    /// requests.
    pub async fn run(self: Arc<Self>, client: usize, mean: Duration) {
        while !self.region.is_quiet() {
            tokio::time::sleep(self.dice.around(mean)).await;
            if self.region.is_quiet() {
                return;
            }
            let Some(tenant) = self.dice.pick(&self.tenants) else { return };
            let Some(wish) = wishes::next(&self.dice, tenant, &self.routes, &self.region) else {
                continue;
            };
            self.one(client, tenant, wish).await;
        }
    }

    async fn one(&self, client: usize, tenant: &Tenant, wish: Wish) {
        let token = if wish.as_admin { &self.admin } else { &tenant.token };
        let keyed = wish.method == Method::POST && !wish.path.contains("/auth/");
        let key = keyed.then(|| format!("key-{}", self.region.next_number()));
        for attempt in 1..=TRIES {
            let answer = send(&self.region, &self.dice, &wish, Some(token), key.as_deref()).await;
            let status = answer.as_ref().map(|answer| answer.status);
            let told = status.map_or_else(|| "lost".to_owned(), |status| status.to_string());
            self.region.trace.say(format_args!(
                "client {client} of {}: {} {}{} -> {told}",
                tenant.name,
                wish.method,
                wish.path,
                wish.note()
            ));
            match answer {
                Some(answer) if answer.status < 500 => {
                    self.learn(tenant, &wish, &answer);
                    return;
                }
                // Only what can be sent twice without harm is.
                _ if key.is_none() && wish.method == Method::POST => return,
                Some(_) | None if attempt < TRIES => {
                    tokio::time::sleep(self.dice.up_to(Duration::from_secs(20))).await;
                }
                _ => {}
            }
        }
    }

    fn learn(&self, tenant: &Tenant, wish: &Wish, answer: &Answer) {
        if let Some(token) = &answer.subject_token {
            tenant.pool.add("tokens", token);
        }
        if !(200..300).contains(&answer.status) {
            if answer.status == 404
                && let Some((collection, id)) = &wish.about
            {
                tenant.pool.remove(collection, id);
            }
            return;
        }
        if wish.method == Method::DELETE
            && let Some((collection, id)) = &wish.about
            && wish.path.ends_with(id.as_str())
        {
            tenant.pool.remove(collection, id);
            self.region.ledger.removed(pool::singular(collection), id);
        }
        if wish.method == Method::POST || wish.method == Method::PUT {
            for (collection, id) in pool::made(&wish.path, &answer.json) {
                tenant.pool.add(collection, &id);
                self.region.ledger.made(pool::singular(collection), &id);
            }
        }
    }
}
