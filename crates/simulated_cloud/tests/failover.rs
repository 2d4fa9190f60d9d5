//! A whole cloud over a PostgreSQL primary with a synchronous standby. The primary is killed while
//! requests are under way and the standby promoted: every request is answered within its deadline,
//! what was accepted is there, and the cloud serves on without a restart.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use black_box::{Client, Cloud, Database, until, until_some};
use database::test_support::PostgresPair;
use serde_json::json;

use support::{Tenant, text};

/// Longer than any request may take.
const REQUEST: Duration = Duration::from_secs(60);

/// What one who asks was told.
#[derive(Default)]
struct Told {
    accepted: Vec<String>,
    refused: usize,
    slowest: Duration,
}

/// Makes security groups until it is told to end: one transaction each.
async fn keep_asking(user: Client, end: Arc<AtomicBool>) -> Result<Told> {
    let mut told = Told::default();
    let mut number = 0;
    while !end.load(Ordering::SeqCst) {
        number += 1;
        let body = json!({"security_group": {"name": format!("group-{number}")}});
        let begun = Instant::now();
        let answer = user.post("/network/v2.0/security-groups", &body).await?;
        told.slowest = told.slowest.max(begun.elapsed());
        if answer.status == 201 {
            told.accepted.push(text(&answer.json["security_group"]["id"])?);
            // The quota has an end.
            if told.accepted.len() > 6 {
                let oldest = told.accepted.remove(0);
                user.delete(&format!("/network/v2.0/security-groups/{oldest}")).await?;
            }
        } else {
            ensure!(answer.status >= 500, "{}: {}", answer.status, answer.text);
            told.refused += 1;
        }
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cloud_serves_on_when_its_database_fails_over() -> Result<()> {
    let mut pair = tokio::task::spawn_blocking(PostgresPair::start).await?;
    pair.create_database("cloud").await;
    pair.synchronize().await;
    let cloud = Cloud::start(&Database::Postgres(pair.url("cloud"))).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let before = tenant.boot("before").await?;
    tenant.active(&before).await?;

    let end = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn(keep_asking(tenant.user.clone(), end.clone()));
    let during = tenant.boot("during").await?;
    pair.first.kill();
    let pair = tokio::task::spawn_blocking(move || {
        pair.second.promote();
        pair
    })
    .await?;
    let promoted = Instant::now();
    let body = json!({"security_group": {"name": "after"}});
    until_some("a request to be accepted again", || async {
        let asked = tenant.user.post("/network/v2.0/security-groups", &body).await.ok()?;
        (asked.status == 201).then_some(())
    })
    .await;
    println!(
        "measured: a request is accepted {} ms after the promotion",
        promoted.elapsed().as_millis()
    );
    tenant.active(&during).await?;
    let after = tenant.boot("after").await?;
    tenant.active(&after).await?;
    println!(
        "measured: a new server is ACTIVE {} ms after the promotion",
        promoted.elapsed().as_millis()
    );

    end.store(true, Ordering::SeqCst);
    let told = asking.await??;
    ensure!(told.slowest < REQUEST, "a request took {:?}", told.slowest);
    println!("measured: slowest request {} ms, {} refused", told.slowest.as_millis(), told.refused);
    for group in &told.accepted {
        let found = tenant.user.get(&format!("/network/v2.0/security-groups/{group}")).await?;
        ensure!(found.status == 200, "accepted and lost: {group}");
    }
    for server in [&before, &during, &after] {
        tenant.delete(server).await?;
    }
    until("nothing to be under way any more", || async {
        cloud.control_plane().is_some()
            && tenant
                .user
                .get("/compute/v2.1/servers")
                .await
                .is_ok_and(|listed| listed.json["servers"].as_array().is_some_and(Vec::is_empty))
    })
    .await;
    drop((hosts, pair));
    Ok(())
}
