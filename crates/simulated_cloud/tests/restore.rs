//! Yesterday's backup is restored while hosts run today's servers: nothing that runs is touched, and
//! `meridian adopt` merges what the operator confirms. And a whole cloud moves from SQLite to
//! PostgreSQL while its servers run.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use black_box::{Cloud, Database, Hosts, until};
use database::test_support::PostgresServer;
use serde_json::{Value, json};
use simulated_cloud::{Change, Standing, history};

use support::{Tenant, path, text};

const HOSTS: usize = 2;

/// Runs `meridian` with these words, and returns what it printed.
fn meridian(cloud: &Cloud, words: &[&str]) -> Result<String> {
    let ran = cloud.command().args(words).output()?;
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    ensure!(
        ran.status.success(),
        "meridian {words:?}: {said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    Ok(said)
}

/// Guests on all hosts, with the number of times that something was started or ended.
fn guests(hosts: &Hosts) -> Result<(BTreeMap<String, usize>, usize)> {
    let (mut guests, mut changes) = (BTreeMap::new(), 0);
    for number in 1..=HOSTS {
        let machine = hosts.machine(number);
        for server in Standing::read(&machine)?.guests.into_keys() {
            ensure!(guests.insert(server.clone(), number).is_none(), "{server} runs twice");
        }
        changes += history(&machine)?
            .iter()
            .filter(|entry| {
                matches!(
                    entry.change,
                    Change::Started { .. }
                        | Change::Ended { .. }
                        | Change::Power { .. }
                        | Change::DisksRemoved { .. }
                        | Change::DeviceRemoved { .. }
                )
            })
            .count();
    }
    Ok((guests, changes))
}

fn address(server: &Value) -> Result<String> {
    text(&server["addresses"]["net"][0]["addr"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yesterdays_backup_touches_nothing_that_runs_and_is_merged() -> Result<()> {
    let mut cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(HOSTS).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    // Yesterday: one that stays, one that will be stopped, one that will be deleted.
    let stays = tenant.boot("stays").await?;
    let stops = tenant.boot("stops").await?;
    let goes = tenant.boot("goes").await?;
    for server in [&stays, &stops, &goes] {
        tenant.active(server).await?;
    }
    let copy = cloud.state().join("yesterday.sqlite");
    meridian(&cloud, &["backup", "--to", &copy.to_string_lossy()])?;
    // Today.
    tenant.delete(&goes).await?;
    let new = tenant.boot("new").await?;
    let new_address = address(&tenant.active(&new).await?)?;
    let stop = format!("{}/action", path(&stops));
    tenant.user.post(&stop, &json!({"os-stop": null})).await?.expect(202)?;
    until("the server to stop", || async {
        tenant.show(&stops).await.is_ok_and(|shown| shown["status"] == "SHUTOFF")
    })
    .await;
    until("the deleted server to be gone from its host", || async {
        guests(&hosts).is_ok_and(|(guests, _)| !guests.contains_key(&goes))
    })
    .await;
    let before = guests(&hosts)?;

    cloud.kill_control_plane();
    meridian(&cloud, &["restore", "--from", &copy.to_string_lossy()])?;
    let log = cloud.state().join("review.log");
    let review =
        black_box::Process::start("control-plane", cloud.command().arg("control-plane"), &log)?;
    until("both hosts to have said what they have", || async {
        meridian(&cloud, &["adopt"])
            .is_ok_and(|said| said.contains("heard") && !said.contains("not heard"))
    })
    .await;
    let refused = cloud.anonymous()?.get("/compute/v2.1/servers").await?;
    ensure!(refused.status == 503, "during the review: {} {}", refused.status, refused.text);
    let said = meridian(&cloud, &["adopt"])?;
    for server in [&new, &stops, &goes] {
        ensure!(said.contains(&format!("server/{server}")), "{server} is not in: {said}");
    }
    ensure!(!said.contains(&format!("server/{stays}")), "nothing is different about it: {said}");
    ensure!(guests(&hosts)? == before, "something was touched before anybody confirmed");
    ensure!(meridian(&cloud, &["adopt", "--finish"]).is_err(), "differences are left");

    meridian(&cloud, &["adopt", "--confirm", "all"])?;
    meridian(&cloud, &["adopt", "--finish"])?;
    let anonymous = cloud.anonymous()?;
    until("the control plane to serve again", || async {
        anonymous.get("/healthz").await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    // Tokens were signed with keys that are in no backup: they are as good as before.
    let shown = tenant.active(&new).await?;
    ensure!(address(&shown)? == new_address, "another address: {}", shown["addresses"]);
    ensure!(tenant.show(&stays).await?["status"] == "ACTIVE");
    ensure!(tenant.show(&stops).await?["status"] == "SHUTOFF");
    let gone = tenant.show(&goes).await?;
    ensure!(gone["status"] == "ERROR" && gone["fault"].is_object(), "{gone}");
    ensure!(guests(&hosts)? == before, "adopting touched something that runs");

    // Everything can be acted upon again, and nothing is left of it in the end.
    let start = tenant.user.post(&stop, &json!({"os-start": null})).await?;
    ensure!(start.status == 202, "{}", start.text);
    tenant.active(&stops).await?;
    for server in [&new, &stays, &stops, &goes] {
        tenant.delete(server).await.with_context(|| format!("deleting {server}"))?;
    }
    until("nothing to be left on the hosts", || async {
        guests(&hosts).is_ok_and(|(guests, _)| guests.is_empty())
    })
    .await;
    let fresh = tenant.boot("fresh").await?;
    tenant.active(&fresh).await?;
    review.kill();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_moves_from_sqlite_to_postgresql_while_its_servers_run() -> Result<()> {
    let mut cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(HOSTS).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let server = tenant.boot("moves").await?;
    let shown = tenant.active(&server).await?;
    let before = guests(&hosts)?;
    let postgres = tokio::task::spawn_blocking(PostgresServer::shared).await?;
    let url = postgres.create_database_url().await;
    let running = cloud.command().args(["database", "move", "--to", &url]).output()?;
    ensure!(!running.status.success(), "the control plane runs");

    cloud.kill_control_plane();
    let said = meridian(&cloud, &["database", "move", "--to", &url])?;
    ensure!(said.contains("counted and compared"), "{said}");
    cloud.start_control_plane().await?;
    let after = tenant.show(&server).await?;
    ensure!(address(&after)? == address(&shown)? && after["status"] == "ACTIVE", "{after}");
    ensure!(guests(&hosts)? == before, "guests are untouched");
    let second = tenant.boot("second").await?;
    tenant.active(&second).await?;
    for server in [&server, &second] {
        tenant.delete(server).await?;
    }
    // The file is not used by mistake.
    let config = cloud.state().join("etc/meridian.toml");
    let text = std::fs::read_to_string(&config)?;
    ensure!(text.contains("postgres://"), "{text}");
    std::fs::write(&config, text.replace(&url, "sqlite:db/meridian.sqlite"))?;
    let refused = cloud.command().args(["host", "token"]).output()?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && why.contains("moved to"), "{why}");
    ensure!(Path::new(&cloud.state().join("db/meridian.sqlite")).exists());
    Ok(())
}
