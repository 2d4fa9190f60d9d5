//! Servers from request to guest and back, on simulated hosts.

use std::time::Duration;

use cloud_types::Fault;
use host_protocol::PowerState;
use serde_json::{Value, json};
use service_kit::Method;

use crate::Compute;
use crate::test_support::{Behaviour, On, on_both, text};

on_both! {

async fn a_server_boots_stops_starts_restarts_and_goes(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot("web").await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "BUILD");
    assert_eq!(server["addresses"], json!({}));
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ACTIVE", "{server}");
    assert_eq!(server["OS-EXT-STS:power_state"], 1);
    assert_eq!(server["OS-EXT-AZ:availability_zone"], "zone-1");
    assert_eq!(server["addresses"]["net"][0]["version"], 4);
    assert_eq!(server["security_groups"], json!([{"name": "default"}]));

    for (action, status) in [("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")] {
        assert_eq!(cloud.act(&id, json!({action: null})).await.status, 202);
        cloud.settle().await;
        assert_eq!(cloud.server(&id).await["status"], status);
    }
    for (kind, during) in [("SOFT", "REBOOT"), ("HARD", "HARD_REBOOT")] {
        assert_eq!(cloud.act(&id, json!({"reboot": {"type": kind}})).await.status, 202);
        assert_eq!(cloud.server(&id).await["status"], during);
        cloud.settle().await;
        assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
    }
    assert_eq!(cloud.operations().len(), 2);

    let path = format!("/compute/v2.1/servers/{id}");
    assert_eq!(cloud.call(Method::DELETE, &path, Value::Null, "member").await.status, 204);
    assert_eq!(cloud.used("instances").await, 0, "the quota ends with the request");
    assert_eq!(cloud.server(&id).await["OS-EXT-STS:task_state"], "deleting");
    cloud.settle().await;
    cloud.call(Method::GET, &path, Value::Null, "member").await.expect(404);
    assert_eq!(cloud.leftovers().await, []);
    assert_eq!(cloud.claims().await, (0, Vec::new()));
    assert_eq!(cloud.ports().await, 0);
}

async fn a_deleted_server_is_forgotten_when_its_time_is_over_and_not_before(on: On) {
    let cloud = on.cloud(1).await;
    let (gone, stays) = (cloud.boot_settled("gone").await, cloud.boot_settled("stays").await);
    let path = format!("/compute/v2.1/servers/{gone}");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
    cloud.settle().await;
    let purge = async |old: bool| {
        cloud
            .transact(move |tx| {
                Box::pin(async move {
                    let hour = Duration::from_secs(3600);
                    let before = if old { tx.now().after(hour) } else { tx.now().before(hour) };
                    Compute::purge_deleted(tx, before, 100).await
                })
            })
            .await
    };
    let deleted = "/compute/v2.1/servers?deleted=True&all_tenants=1";
    let listed = async || {
        let list = cloud.call(Method::GET, deleted, Value::Null, "admin").await.expect(200);
        list["servers"].as_array().unwrap().len()
    };
    assert_eq!((purge(false).await, listed().await), (0, 1));
    assert_eq!((purge(true).await, listed().await), (1, 0));
    let left = cloud
        .transact(move |tx| {
            Box::pin(async move {
                let rows = tx.query("SELECT server_id FROM server_actions", &[]).await?;
                rows.iter().map(|row| Ok(row.text("server_id")?)).collect::<Result<Vec<_>, Fault>>()
            })
        })
        .await;
    assert_eq!(left, std::slice::from_ref(&stays));
    assert_eq!(cloud.server(&stays).await["status"], "ACTIVE");
}

async fn a_server_whose_port_is_deleted_under_it_goes_on_and_starts_again_without(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    let ports = cloud.call(Method::GET, "/network/v2.0/ports", Value::Null, "member").await;
    let port = text(&ports.expect(200)["ports"][0]["id"]);
    let path = format!("/network/v2.0/ports/{port}");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!((&server["status"], &server["addresses"]), (&json!("ACTIVE"), &json!({})));
    let documents = cloud.server_documents(&id).await;
    assert_eq!(documents[0].1.spec["nics"], json!([]));
    for (action, status) in [("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")] {
        cloud.act(&id, json!({action: null})).await.expect(202);
        cloud.settle().await;
        assert_eq!(cloud.server(&id).await["status"], status);
    }
}

async fn every_action_is_recorded_with_its_request(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.act(&id, json!({"os-stop": null})).await.expect(202);
    cloud.settle().await;
    let path = format!("/servers/{id}/os-instance-actions");
    let actions = cloud.get(&path).await["instanceActions"].clone();
    let names: Vec<String> =
        actions.as_array().unwrap().iter().map(|action| text(&action["action"])).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"stop".to_owned()) && names.contains(&"create".to_owned()));
    let request = actions
        .as_array()
        .unwrap()
        .iter()
        .find(|action| action["action"] == "create")
        .map(|action| text(&action["request_id"]))
        .unwrap();
    let path = format!("/compute/v2.1{path}/{request}");
    let shown = cloud.call(Method::GET, &path, Value::Null, "admin").await.expect(200);
    let events = shown["instanceAction"]["events"].as_array().unwrap().clone();
    let schedule = events.iter().find(|event| event["event"] == "schedule").unwrap();
    assert_eq!(schedule["result"], "Success");
    assert!(text(&schedule["details"]).contains("hosts could take"), "{schedule}");
    let shown = cloud.get(&format!("/servers/{id}/os-instance-actions/{request}")).await;
    assert!(shown["instanceAction"]["events"][0].get("details").is_none(), "for operators only");
}

async fn a_guest_that_powers_itself_off_is_shutoff_and_stays_so(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.guest(&id, PowerState::Shutdown);
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "SHUTOFF");
    assert_eq!(server["OS-EXT-STS:power_state"], 4);
    let documents = cloud.server_documents(&id).await;
    assert_eq!(documents[0].1.spec["power"], "stopped", "its host must not start it again");
    cloud.act(&id, json!({"os-start": null})).await.expect(202);
    cloud.guest(&id, PowerState::Running);
    cloud.settle().await;
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
}

async fn a_guest_that_crashes_is_still_wanted(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.guest(&id, PowerState::Crashed);
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!(
        (server["status"].as_str(), server["OS-EXT-STS:power_state"].as_i64()),
        (Some("ACTIVE"), Some(6))
    );
    assert_eq!(cloud.server_documents(&id).await[0].1.spec["power"], "running");
}

async fn a_host_that_gives_a_guest_up_leaves_it_in_error_and_a_hard_reboot_heals_it(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.behave("host-1", Behaviour::Fails("disk_full", false));
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ERROR");
    assert!(text(&server["fault"]["message"]).contains("disk_full"));
    cloud.behave("host-1", Behaviour::Works);
    cloud.act(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ACTIVE", "{server}");
    assert!(server.get("fault").is_none());
}

async fn another_host_is_tried_when_one_fails_and_the_record_says_so(on: On) {
    let cloud = on.cloud(2).await;
    cloud.behave("host-1", Behaviour::Fails("qemu_exited", false));
    cloud.behave("host-2", Behaviour::Fails("qemu_exited", false));
    let id = cloud.boot("web").await;
    let engine = cloud.engine();
    engine.run_until_idle().await.unwrap();
    let first = cloud.server_documents(&id).await[0].0;
    for name in ["host-1", "host-2"] {
        // Whichever was chosen first goes on failing; the other one works.
        let chosen = cloud.compute_host(name).await == first;
        if !chosen {
            cloud.behave(name, Behaviour::Works);
        }
    }
    cloud.settle().await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ACTIVE", "{server}");
    let documents = cloud.server_documents(&id).await;
    assert_eq!(documents.len(), 1);
    assert_ne!(documents[0].0, first);
    assert_eq!(documents[0].1.epoch, 2, "each placement has an epoch of its own");
    assert_eq!(cloud.claims().await, (1, Vec::new()));
}

async fn when_every_host_fails_the_fault_says_what_each_said_and_nothing_is_left(on: On) {
    let cloud = on.cloud(2).await;
    cloud.behave("host-1", Behaviour::Fails("qemu_exited", false));
    cloud.behave("host-2", Behaviour::Fails("qemu_exited", false));
    let id = cloud.boot_settled("web").await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ERROR");
    let message = text(&server["fault"]["message"]);
    assert!(
        message.contains("host-1 failed before") && message.contains("host-2 failed before"),
        "{message}"
    );
    assert!(message.contains("not_tried"), "{message}");
    assert_eq!(cloud.leftovers().await, []);
    assert_eq!(cloud.claims().await, (0, Vec::new()));
    assert_eq!(cloud.used("instances").await, 1, "until its owner deletes it");
    let path = format!("/compute/v2.1/servers/{id}");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
    cloud.settle().await;
    assert_eq!((cloud.ports().await, cloud.used("instances").await), (0, 0));
}

async fn what_no_host_can_do_is_not_tried_on_another(on: On) {
    let cloud = on.cloud(2).await;
    cloud.behave("host-1", Behaviour::Fails("no_such_image", false));
    cloud.behave("host-2", Behaviour::Fails("no_such_image", false));
    let id = cloud.boot_settled("web").await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ERROR");
    let message = text(&server["fault"]["message"]);
    assert!(message.contains("(no_such_image)") && !message.contains("before"), "{message}");
    assert_eq!(cloud.leftovers().await, []);
}

async fn a_host_that_keeps_trying_gets_a_minute(on: On) {
    let cloud = on.cloud(1).await;
    cloud.behave("host-1", Behaviour::Fails("memory_short", true));
    let id = cloud.boot_settled("web").await;
    assert_eq!(cloud.server(&id).await["status"], "BUILD");
    cloud.pass(30).await;
    cloud.behave("host-1", Behaviour::Works);
    cloud.settle().await;
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
}

async fn no_host_fits_names_the_filters_and_what_would_fit(on: On) {
    let cloud = on.cloud(2).await;
    let flavor =
        json!({"flavor": {"id": "9", "name": "huge", "ram": 16384, "vcpus": 4, "disk": 10}});
    cloud.call(Method::POST, "/compute/v2.1/flavors", flavor, "admin").await.expect(200);
    let mut wish = cloud.wish("big");
    wish["server"]["flavorRef"] = json!("9");
    let made = cloud.call(Method::POST, "/compute/v2.1/servers", wish, "member").await.expect(202);
    cloud.settle().await;
    let server = cloud.server(&text(&made["server"]["id"])).await;
    assert_eq!(server["status"], "ERROR");
    let message = text(&server["fault"]["message"]);
    assert!(message.starts_with("No host fits"), "{message}");
    assert!(message.contains("2 were short of memory (memory)"), "{message}");
    assert!(message.contains("fits now: 2 vCPU, 8192 MiB of memory, 5 GiB of disk"), "{message}");
}

async fn deleting_a_server_that_is_being_built_ends_the_building(on: On) {
    for rounds in 0..4 {
        let cloud = on.cloud(1).await;
        let id = cloud.boot("web").await;
        let engine = cloud.engine();
        for _ in 0..rounds {
            engine.run_until_idle().await.unwrap();
            if rounds > 2 {
                cloud.drive().await;
            }
        }
        let path = format!("/compute/v2.1/servers/{id}");
        cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
        cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
        cloud.settle().await;
        cloud.call(Method::GET, &path, Value::Null, "member").await.expect(404);
        assert_eq!(cloud.leftovers().await, [], "after {rounds} rounds");
        assert_eq!(cloud.claims().await, (0, Vec::new()));
        assert_eq!((cloud.ports().await, cloud.used("cores").await), (0, 0));
    }
}

async fn a_server_on_a_silent_host_is_gone_for_its_owner_and_kept_until_the_host_says_so(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.behave("host-1", Behaviour::Silent);
    cloud.pass(60).await;
    let path = format!("/compute/v2.1/servers/{id}");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
    cloud.settle().await;
    cloud.call(Method::GET, &path, Value::Null, "member").await.expect(404);
    assert_eq!(cloud.claims().await.0, 1, "the host may still run it");
    assert_eq!(cloud.ports().await, 1, "and use its address");
    cloud.behave("host-1", Behaviour::Works);
    cloud.settle().await;
    assert_eq!(cloud.claims().await, (0, Vec::new()));
    assert_eq!(cloud.ports().await, 0);
    assert_eq!(cloud.leftovers().await, []);
}

async fn a_stop_that_the_host_never_answers_is_taken_back(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.behave("host-1", Behaviour::Silent);
    cloud.act(&id, json!({"os-stop": null})).await.expect(202);
    cloud.pass(300).await;
    let server = cloud.server(&id).await;
    assert_eq!(
        (server["status"].as_str(), &server["OS-EXT-STS:task_state"]),
        (Some("ACTIVE"), &Value::Null)
    );
    assert_eq!(cloud.server_documents(&id).await[0].1.spec["power"], "running");
}

async fn many_servers_by_one_request_share_what_the_quota_allows(on: On) {
    let cloud = on.cloud(3).await;
    let mut wish = cloud.wish("web");
    wish["server"]["min_count"] = json!(1);
    wish["server"]["max_count"] = json!("20");
    cloud.call(Method::POST, "/compute/v2.1/servers", wish.clone(), "member").await.expect(202);
    cloud.settle().await;
    let servers = cloud.get("/servers/detail").await["servers"].clone();
    let servers = servers.as_array().unwrap();
    assert_eq!(servers.len(), 10, "the default quota of instances");
    assert!(servers.iter().all(|server| server["status"] == "ACTIVE"));
    assert!(servers.iter().any(|server| server["name"] == "web-10"));
    let refused = cloud.call(Method::POST, "/compute/v2.1/servers", wish, "member").await;
    let message = text(&refused.expect(403)["forbidden"]["message"]);
    assert!(message.contains("Quota exceeded for instances"), "{message}");
    assert_eq!(cloud.claims().await, (10, Vec::new()));
}

async fn an_idempotency_key_makes_one_server(on: On) {
    let cloud = on.cloud(1).await;
    let wish = cloud.wish("web");
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(cloud.boot_with_key(&wish, "k1").await);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(cloud.get("/servers").await["servers"].as_array().unwrap().len(), 1);
}

}
