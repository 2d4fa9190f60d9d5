//! Claims under contention, and the operators' views.

use cloud_types::ServerId;
use serde_json::{Value, json};
use service_kit::Method;

use super::store::{Allocation, claim, release};
use crate::scheduler::Resources;
use crate::test_support::{Behaviour, On, on_both, text};

on_both! {

async fn contenders_never_take_more_than_there_is(on: On) {
    let cloud = std::sync::Arc::new(on.cloud(1).await);
    let host = cloud.compute_host("host-1").await;
    let allowed = Resources { vcpus: 100, memory_mib: 1000, disk_gib: 0 };
    let each = Resources { vcpus: 1, memory_mib: 100, disk_gib: 0 };
    let mut contenders = Vec::new();
    for _ in 0..40 {
        let cloud = cloud.clone();
        contenders.push(tokio::spawn(async move {
            let server = ServerId::random();
            let taken = cloud
                .transact(move |tx| {
                    Box::pin(async move {
                        let wanted = Allocation { host, epoch: 1, resources: each };
                        Ok(claim(tx, &server, &wanted, allowed).await?)
                    })
                })
                .await;
            (server, taken)
        }));
    }
    let mut winners = Vec::new();
    for contender in contenders {
        let (server, taken) = contender.await.unwrap();
        if taken {
            winners.push(server);
        }
    }
    assert_eq!(winners.len(), 10, "1000 MiB hold ten of 100");
    assert_eq!(cloud.claims().await, (10, Vec::new()));
    for server in winners {
        for given_back in [true, false] {
            let held = cloud
                .transact(move |tx| Box::pin(async move { Ok(release(tx, &server).await?) }))
                .await;
            assert_eq!(held.is_some(), given_back, "a claim is given back once");
        }
    }
    assert_eq!(cloud.claims().await, (0, Vec::new()));
}

async fn operators_see_hosts_and_nobody_else_does(on: On) {
    let cloud = on.cloud(2).await;
    let server = cloud.boot_settled("web").await;
    for path in ["os-hypervisors", "os-services", "os-aggregates", "os-availability-zone/detail"] {
        let path = format!("/compute/v2.1/{path}");
        cloud.call(Method::GET, &path, Value::Null, "member").await.expect(403);
        cloud.call(Method::GET, &path, Value::Null, "admin").await.expect(200);
    }
    let admin = async |path: &str, version: &str| {
        let path = format!("/compute/v2.1{path}");
        cloud.call_at(Method::GET, &path, Value::Null, "admin", version).await
    };
    let list = admin("/os-hypervisors?with_servers=true", "2.96").await.expect(200);
    let all = list["hypervisors"].as_array().unwrap();
    let holders: Vec<&Value> =
        all.iter().filter(|host| host["servers"][0]["uuid"] == server).collect();
    assert_eq!((all.len(), holders.len()), (2, 1));
    let id = text(&holders[0]["id"]);
    admin(&format!("/os-hypervisors/{id}"), "2.96").await.expect(200);
    admin("/os-hypervisors/1", "2.96").await.expect(400);
    admin("/os-hypervisors/12345678-1234-4234-8234-123456789012", "2.96").await.expect(404);
    let old = admin("/os-hypervisors/detail", "2.1").await.expect(200);
    let number = old["hypervisors"][0]["id"].as_i64().unwrap();
    let shown = admin(&format!("/os-hypervisors/{number}"), "2.1").await.expect(200);
    assert_eq!(shown["hypervisor"]["vcpus"], 4);
    let sums = admin("/os-hypervisors/statistics", "2.87").await.expect(200);
    assert_eq!(sums["hypervisor_statistics"]["running_vms"], 1);
    assert_eq!(sums["hypervisor_statistics"]["memory_mb_used"], 512);
    admin("/os-hypervisors/statistics", "2.88").await.expect(404);
    let found = admin("/os-hypervisors/host-1/search", "2.52").await.expect(200);
    assert_eq!(found["hypervisors"].as_array().unwrap().len(), 1);
    admin("/os-hypervisors?hypervisor_hostname_pattern=nope", "2.53").await.expect(404);
    let zones = cloud.get("/os-availability-zone").await;
    assert_eq!(zones["availabilityZoneInfo"][0]["zoneName"], "zone-1");
}

async fn a_disabled_host_gets_no_servers_and_keeps_those_it_has(on: On) {
    let cloud = on.cloud(1).await;
    let kept = cloud.boot_settled("kept").await;
    let list = cloud.call(Method::GET, "/compute/v2.1/os-services", Value::Null, "admin").await.expect(200);
    let path = format!("/compute/v2.1/os-services/{}", text(&list["services"][0]["id"]));
    let body = json!({"status": "disabled", "disabled_reason": "repair"});
    let shown = cloud.call(Method::PUT, &path, body, "admin").await.expect(200);
    assert_eq!(shown["service"]["disabled_reason"], "repair");
    let refused = cloud.boot_settled("refused").await;
    let message = text(&cloud.server(&refused).await["fault"]["message"]);
    assert!(message.contains("1 was disabled by an operator (enabled)"), "{message}");
    assert_eq!(cloud.server(&kept).await["status"], "ACTIVE");
    let body = json!({"host": "host-1", "binary": "nova-compute"});
    let enable = "/compute/v2.1/os-services/enable";
    cloud.call_at(Method::PUT, enable, body, "admin", "2.1").await.expect(200);
    let booted = cloud.boot_settled("booted").await;
    assert_eq!(cloud.server(&booted).await["status"], "ACTIVE");
}

async fn a_silent_host_is_down_and_not_chosen(on: On) {
    let cloud = on.cloud(2).await;
    cloud.behave("host-1", Behaviour::Silent);
    cloud.pass(60).await;
    let list = cloud.call(Method::GET, "/compute/v2.1/os-services", Value::Null, "admin").await.expect(200);
    let states: Vec<String> =
        list["services"].as_array().unwrap().iter().map(|service| text(&service["state"])).collect();
    assert_eq!(states, ["down", "up"]);
    for name in ["a", "b"] {
        let id = cloud.boot_settled(name).await;
        let path = format!("/compute/v2.1/servers/{id}");
        let shown = cloud.call(Method::GET, &path, Value::Null, "admin").await.expect(200);
        assert_eq!(shown["server"]["OS-EXT-SRV-ATTR:host"], "host-2");
    }
}

async fn a_server_goes_where_it_was_asked_to(on: On) {
    let cloud = on.cloud(1).await;
    cloud.join("far", "zone-2").await;
    cloud.settle().await;
    let mut wish = cloud.wish("web");
    wish["server"]["availability_zone"] = json!("zone-2");
    let path = "/compute/v2.1/servers";
    let made = cloud.call(Method::POST, path, wish, "member").await.expect(202);
    cloud.settle().await;
    let server = cloud.server(&text(&made["server"]["id"])).await;
    assert_eq!((server["status"].as_str(), server["OS-EXT-AZ:availability_zone"].as_str()), (Some("ACTIVE"), Some("zone-2")));
    assert_eq!(server["pinned_availability_zone"], "zone-2");
}

}
