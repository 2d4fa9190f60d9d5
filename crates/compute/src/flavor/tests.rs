//! Flavors through their API.

use serde_json::{Value, json};
use service_kit::Method;

use crate::test_support::{Cloud, On, on_both, text};

const FLAVORS: &str = "/compute/v2.1/flavors";

async fn make(cloud: &Cloud, id: &str, extra: Value) -> Value {
    let mut flavor = json!({"id": id, "name": format!("f-{id}"), "ram": 64, "vcpus": 1, "disk": 1});
    for (key, value) in extra.as_object().unwrap() {
        flavor[key] = value.clone();
    }
    let body = json!({ "flavor": flavor });
    cloud.call(Method::POST, FLAVORS, body, "admin").await.expect(200)["flavor"].clone()
}

#[tokio::test]
async fn a_flavors_shape_follows_the_microversion() {
    let cloud = Cloud::new(0).await;
    make(&cloud, "a", json!({"description": "d"})).await;
    let path = format!("{FLAVORS}/a");
    let at = async |version: &str| {
        cloud.call_at(Method::GET, &path, Value::Null, "member", version).await.expect(200)["flavor"]
            .clone()
    };
    assert!(at("2.54").await.get("description").is_none());
    assert_eq!(at("2.55").await["description"], "d");
    assert!(at("2.60").await.get("extra_specs").is_none());
    assert_eq!(at("2.61").await["extra_specs"], json!({}));
    assert_eq!(at("2.74").await["swap"], "");
    assert_eq!(at("2.75").await["swap"], 0);
}

on_both! {

async fn private_flavors_are_for_those_they_are_shared_with(on: On) {
    let cloud = on.cloud(0).await;
    make(&cloud, "p", json!({"os-flavor-access:is_public": false})).await;
    let path = format!("{FLAVORS}/p");
    cloud.call(Method::GET, &path, Value::Null, "member").await.expect(404);
    let url = format!("{path}/action");
    let add = json!({"addTenantAccess": {"tenant": "p1"}});
    cloud.call(Method::POST, &url, add.clone(), "member").await.expect(403);
    cloud.call(Method::POST, &url, add.clone(), "admin").await.expect(200);
    cloud.call(Method::POST, &url, add, "admin").await.expect(409);
    cloud.call(Method::GET, &path, Value::Null, "member").await.expect(200);
    cloud.call(Method::GET, &path, Value::Null, "other").await.expect(404);
    let listed = cloud.get("/flavors").await;
    assert_eq!(listed["flavors"].as_array().unwrap().len(), 2);
    let access = format!("{path}/os-flavor-access");
    let shown = cloud.call(Method::GET, &access, Value::Null, "admin").await.expect(200);
    assert_eq!(shown["flavor_access"], json!([{"flavor_id": "p", "tenant_id": "p1"}]));
    let remove = json!({"removeTenantAccess": {"tenant": "p1"}});
    cloud.call(Method::POST, &url, remove.clone(), "admin").await.expect(200);
    cloud.call(Method::POST, &url, remove, "admin").await.expect(404);
    let public = format!("{FLAVORS}/1/os-flavor-access");
    cloud.call(Method::GET, &public, Value::Null, "admin").await.expect(404);
}

async fn names_and_ids_are_taken_once(on: On) {
    let cloud = on.cloud(0).await;
    make(&cloud, "a", json!({})).await;
    for body in [
        json!({"flavor": {"id": "a", "name": "other", "ram": 1, "vcpus": 1, "disk": 0}}),
        json!({"flavor": {"id": "b", "name": "f-a", "ram": 1, "vcpus": 1, "disk": 0}}),
    ] {
        cloud.call(Method::POST, FLAVORS, body, "admin").await.expect(409);
    }
    let path = format!("{FLAVORS}/a");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(403);
    cloud.call(Method::DELETE, &path, Value::Null, "admin").await.expect(202);
    cloud.call(Method::DELETE, &path, Value::Null, "admin").await.expect(404);
    make(&cloud, "a", json!({})).await;
}

async fn a_server_keeps_its_flavor_when_the_flavor_goes(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.call(Method::DELETE, &format!("{FLAVORS}/1"), Value::Null, "admin").await.expect(202);
    assert_eq!(cloud.server(&id).await["flavor"]["original_name"], "tiny");
    cloud.act(&id, json!({"os-stop": null})).await.expect(202);
    cloud.settle().await;
    assert_eq!(cloud.server(&id).await["status"], "SHUTOFF");
}

async fn extra_specs_are_set_shown_and_unset(on: On) {
    let cloud = on.cloud(0).await;
    let url = format!("{FLAVORS}/1/os-extra_specs");
    let specs = json!({"extra_specs": {"hw:a": "1", "b": "2"}});
    cloud.call(Method::POST, &url, specs.clone(), "member").await.expect(403);
    assert_eq!(cloud.call(Method::POST, &url, specs.clone(), "admin").await.expect(200), specs);
    let one = format!("{url}/hw:a");
    cloud.call(Method::PUT, &one, json!({"other": "1"}), "admin").await.expect(400);
    cloud.call(Method::PUT, &one, json!({"hw:a": "3"}), "admin").await.expect(200);
    let shown = cloud.call(Method::GET, &one, Value::Null, "member").await.expect(200);
    assert_eq!(shown, json!({"hw:a": "3"}));
    cloud.call(Method::DELETE, &one, Value::Null, "admin").await.expect(200);
    cloud.call(Method::DELETE, &one, Value::Null, "admin").await.expect(404);
    cloud.call(Method::GET, &one, Value::Null, "member").await.expect(404);
}

async fn lists_filter_and_page(on: On) {
    let cloud = on.cloud(0).await;
    for (id, ram) in [("a", 128), ("b", 256), ("c", 1024)] {
        make(&cloud, id, json!({"ram": ram})).await;
    }
    let ids = async |query: &str| -> Vec<String> {
        let shown = cloud.get(&format!("/flavors?{query}")).await;
        shown["flavors"].as_array().unwrap().iter().map(|flavor| text(&flavor["id"])).collect()
    };
    assert_eq!(ids("").await, ["1", "a", "b", "c"]);
    assert_eq!(ids("minRam=256").await, ["1", "b", "c"]);
    assert_eq!(ids("sort_key=memory_mb&sort_dir=desc").await, ["c", "1", "b", "a"]);
    assert_eq!(ids("sort_key=memory_mb&sort_dir=desc&marker=1&limit=1").await, ["b"]);
    let page = cloud.get("/flavors?limit=2").await;
    assert!(text(&page["flavors_links"][0]["href"]).ends_with("limit=2&marker=a"), "{page}");
    for bad in ["minRam=x", "marker=none", "colour=1", "sort_key=secret"] {
        let path = format!("{FLAVORS}?{bad}");
        cloud.call(Method::GET, &path, Value::Null, "member").await.expect(400);
    }
}

}
