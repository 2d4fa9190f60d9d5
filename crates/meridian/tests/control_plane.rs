//! The control plane as its users meet it: the real binary in a process of its own, over TLS, on
//! each database that it can keep its rows in.

use anyhow::{Context, Result};
use black_box::{Cloud, Database, until};
use database::test_support::PostgresServer;
use serde_json::json;

/// An empty database on the PostgreSQL server of this test process.
async fn postgres() -> Result<Database> {
    let server = tokio::task::spawn_blocking(PostgresServer::shared).await?;
    Ok(Database::Postgres(server.create_database_url().await))
}

/// A test body for both databases: `on_each_database!(name)` makes two tests of `async fn name`.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn on_sqlite() -> anyhow::Result<()> {
                super::$name(super::Database::Sqlite).await
            }

            #[tokio::test]
            async fn on_postgresql() -> anyhow::Result<()> {
                super::$name(super::postgres().await?).await
            }
        }
    )*};
}

on_each_database!(
    what_was_acknowledged_survives_sigkill,
    one_idempotency_key_makes_one_network,
    another_process_on_the_database_loses_nothing,
    secrets_are_in_no_log,
    a_server_without_any_host_says_why,
    init_again_keeps_every_secret,
    at_once_or_one_by_one_numbers_are_right,
    an_image_whose_id_was_left_empty_is_not_the_list,
);

async fn what_was_acknowledged_survives_sigkill(database: Database) -> Result<()> {
    let mut cloud = Cloud::start(&database).await?;
    let demo = cloud.demo().await?;
    let made = demo
        .post("/network/v2.0/networks", &json!({"network": {"name": "kept"}}))
        .await?
        .expect(201)?;
    let id = made.json["network"]["id"].as_str().context("no id")?.to_owned();
    cloud.kill_control_plane();
    cloud.start_control_plane().await?;
    // The token is as good as before: its key is on disk and nothing has revoked it.
    let found = demo.get(&format!("/network/v2.0/networks/{id}")).await?.expect(200)?;
    assert_eq!(found.json["network"]["name"], "kept");
    Ok(())
}

async fn one_idempotency_key_makes_one_network(database: Database) -> Result<()> {
    let cloud = Cloud::start(&database).await?;
    let demo = cloud.demo().await?.with_header("idempotency-key", "one-and-the-same");
    let body = json!({"network": {"name": "once"}});
    let first = demo.post("/network/v2.0/networks", &body).await?.expect(201)?;
    let again = demo.post("/network/v2.0/networks", &body).await?.expect(201)?;
    assert_eq!(first.json, again.json);
    let listed = cloud.demo().await?.get("/network/v2.0/networks?name=once").await?.expect(200)?;
    assert_eq!(listed.json["networks"].as_array().map(Vec::len), Some(1));
    let other = json!({"network": {"name": "another"}});
    let refused = demo.post("/network/v2.0/networks", &other).await?;
    assert!((400..500).contains(&refused.status), "{}: {}", refused.status, refused.text);
    Ok(())
}

/// Another process that opens and closes the database file must not take the log away under the
/// control plane: what was acknowledged after that would be gone with the process.
async fn another_process_on_the_database_loses_nothing(database: Database) -> Result<()> {
    let mut cloud = Cloud::start(&database).await?;
    let demo = cloud.demo().await?;
    for round in 0..3 {
        let visitor = cloud.command().args(["host", "token"]).output()?;
        anyhow::ensure!(visitor.status.success(), "{}", String::from_utf8_lossy(&visitor.stderr));
        let body = json!({"network": {"name": format!("round-{round}")}});
        demo.post("/network/v2.0/networks", &body).await?.expect(201)?;
    }
    cloud.kill_control_plane();
    cloud.start_control_plane().await?;
    let listed = demo.get("/network/v2.0/networks").await?.expect(200)?;
    let names: Vec<_> = listed.json["networks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|network| network["name"].as_str())
        .collect();
    for round in 0..3 {
        assert!(names.contains(&format!("round-{round}").as_str()), "{names:?}");
    }
    Ok(())
}

async fn secrets_are_in_no_log(database: Database) -> Result<()> {
    let cloud = Cloud::start(&database).await?;
    let admin = cloud.admin().await?;
    admin.get("/identity/v3/users").await?.expect(200)?;
    let wrong = cloud.anonymous()?.login("admin", "a-wrong-password-7391", "admin").await;
    assert!(wrong.is_err());
    let log = || async { cloud.control_plane_log().contains("/identity/v3/users") };
    until("the request to be logged", log).await;
    let text = cloud.control_plane_log();
    let token = admin.token().context("no token")?;
    for secret in [token, &cloud.password("meridian-admin")?, "a-wrong-password-7391"] {
        assert!(!text.contains(secret), "a secret stands in the log");
    }
    Ok(())
}

async fn a_server_without_any_host_says_why(database: Database) -> Result<()> {
    let cloud = Cloud::start(&database).await?;
    let (admin, demo) = (cloud.admin().await?, cloud.demo().await?);
    let flavor = json!({"flavor": {"name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}});
    let flavor = admin.post("/compute/v2.1/flavors", &flavor).await?.expect(200)?;
    let image = json!({"name": "disk", "disk_format": "raw", "container_format": "bare"});
    let image = demo.post("/image/v2/images", &image).await?.expect(201)?;
    let image = image.json["id"].as_str().context("no image")?.to_owned();
    demo.upload(&format!("/image/v2/images/{image}/file"), vec![0; 4096]).await?.expect(204)?;
    let server = json!({"server": {
        "name": "lonely", "imageRef": image, "flavorRef": flavor.json["flavor"]["id"],
    }});
    let server = demo.post("/compute/v2.1/servers", &server).await?.expect(202)?;
    let id = server.json["server"]["id"].as_str().context("no server")?.to_owned();
    let path = format!("/compute/v2.1/servers/{id}");
    until("the server to fail", || async {
        demo.get(&path).await.is_ok_and(|shown| shown.json["server"]["status"] == "ERROR")
    })
    .await;
    let shown = demo.get(&path).await?.expect(200)?;
    let message = shown.json["server"]["fault"]["message"].as_str().context("no fault")?.to_owned();
    assert!(message.contains("no hosts"), "{message}");
    demo.delete(&path).await?.expect(204)?;
    until("the server to be gone", || async {
        demo.get(&path).await.is_ok_and(|shown| shown.status == 404)
    })
    .await;
    let usage = demo.get("/compute/v2.1/limits").await?.expect(200)?;
    assert_eq!(usage.json["limits"]["absolute"]["totalInstancesUsed"], 0);
    Ok(())
}

async fn init_again_keeps_every_secret(database: Database) -> Result<()> {
    let cloud = Cloud::start(&database).await?;
    let before = cloud.password("meridian-admin")?;
    let again = cloud.command().arg("init").output()?;
    anyhow::ensure!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(cloud.password("meridian-admin")?, before);
    cloud.admin().await?.get("/identity/v3/users").await?.expect(200)?;
    Ok(())
}

/// Many clients at once: each port has an address of its own, and what is counted is what is
/// there.
async fn at_once_or_one_by_one_numbers_are_right(database: Database) -> Result<()> {
    const CLIENTS: usize = 16;
    let cloud = Cloud::start(&database).await?;
    let demo = cloud.demo().await?;
    let body = json!({"network": {"name": "busy"}});
    let network = demo.post("/network/v2.0/networks", &body).await?.expect(201)?;
    let network = network.json["network"]["id"].as_str().context("no network")?.to_owned();
    let body = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.1.0.0/24"}});
    demo.post("/network/v2.0/subnets", &body).await?.expect(201)?;
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (demo, body) = (demo.clone(), json!({"port": {"network_id": network}}));
            tokio::spawn(async move {
                for _ in 0..2 {
                    demo.post("/network/v2.0/ports", &body).await?.expect(201)?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let ports =
        demo.get(&format!("/network/v2.0/ports?network_id={network}")).await?.expect(200)?;
    let addresses: std::collections::BTreeSet<_> = ports.json["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| port["fixed_ips"][0]["ip_address"].as_str())
        .collect();
    assert_eq!(addresses.len(), 2 * CLIENTS, "{addresses:?}");
    Ok(())
}

/// A client that asks for the image with an empty id must not be told about all of them.
async fn an_image_whose_id_was_left_empty_is_not_the_list(database: Database) -> Result<()> {
    let cloud = Cloud::start(&database).await?;
    let demo = cloud.demo().await?;
    demo.get("/image/v2/images").await?.expect(200)?;
    demo.get("/image/v2/images/").await?.expect(404)?;
    demo.get("/image/v2/").await?.expect(200)?;
    demo.get("/network/v2.0/networks/").await?.expect(200)?;
    Ok(())
}

/// An operator tries the rules before anybody logs in: no cloud is asked, and scripts can rely on how
/// the command ends.
#[test]
fn a_mapping_is_tried_without_a_cloud() -> Result<()> {
    let place = tempfile::tempdir()?;
    let (rules, says) = (place.path().join("rules.json"), place.path().join("says.txt"));
    let list = json!([{"local": [{"user": {"name": "{0}"}}],
                       "remote": [{"type": "OIDC-sub"},
                                  {"type": "OIDC-groups", "any_one_of": ["staff"]}]}]);
    std::fs::write(&rules, list.to_string())?;
    let run = |says_what: &str| -> Result<(bool, String)> {
        std::fs::write(&says, says_what)?;
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["identity", "mapping", "test", "--rules"])
            .arg(&rules)
            .arg("--input")
            .arg(&says)
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(text)?))
    };
    let (fits, told) = run("OIDC-sub: ada\nOIDC-groups: guests;staff\n")?;
    assert!(fits && told.contains("rule 0 holds") && told.contains("\"ada\""), "{told}");
    let (fits, told) = run("OIDC-sub: ada\nOIDC-groups: guests\n")?;
    assert!(
        !fits && told.contains("does not apply") && told.contains("nobody can log in"),
        "{told}"
    );
    let (fits, told) = run("nonsense")?;
    assert!(!fits && told.contains("line 1"), "{told}");
    Ok(())
}
