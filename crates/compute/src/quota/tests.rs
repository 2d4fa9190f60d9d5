//! Quota sets and limits through their API.

use serde_json::{Value, json};
use service_kit::Method;

use crate::test_support::{Cloud, On, on_both};

const SET: &str = "/compute/v2.1/os-quota-sets/p1";

on_both! {

async fn a_projects_quota_is_shown_changed_and_reset(on: On) {
    let cloud = on.cloud(1).await;
    cloud.boot_settled("web").await;
    let shown = cloud.get("/os-quota-sets/p1").await["quota_set"].clone();
    assert_eq!((shown["id"].as_str(), shown["instances"].as_i64()), (Some("p1"), Some(10)));
    let detail = cloud.get("/os-quota-sets/p1/detail").await["quota_set"].clone();
    assert_eq!(detail["ram"], json!({"limit": 51200, "in_use": 512, "reserved": 0}));
    let set = |limit: i64, force: bool| json!({"quota_set": {"instances": limit, "force": force}});
    cloud.call(Method::PUT, SET, set(2, false), "member").await.expect(403);
    cloud.call(Method::PUT, SET, set(0, false), "admin").await.expect(400);
    let changed = cloud.call(Method::PUT, SET, set(0, true), "admin").await.expect(200);
    assert_eq!(changed["quota_set"]["instances"], 0);
    assert!(changed["quota_set"].get("id").is_none());
    let refused = cloud.call(Method::POST, "/compute/v2.1/servers", cloud.wish("w"), "member").await;
    refused.expect(403);
    cloud.call(Method::DELETE, SET, Value::Null, "admin").await.expect(202);
    assert_eq!(cloud.get("/os-quota-sets/p1").await["quota_set"]["instances"], 10);
    cloud.call(Method::GET, SET, Value::Null, "other").await.expect(403);
    let defaults = cloud.get("/os-quota-sets/p1/defaults").await;
    assert_eq!(defaults["quota_set"]["cores"], 20);
}

async fn limits_show_what_is_used(on: On) {
    let cloud = on.cloud(1).await;
    cloud.boot_settled("web").await;
    let limits = cloud.get("/limits").await["limits"]["absolute"].clone();
    assert_eq!((limits["totalInstancesUsed"].as_i64(), limits["maxTotalCores"].as_i64()), (Some(1), Some(20)));
    assert!(limits.get("maxImageMeta").is_none());
    let path = "/compute/v2.1/limits?tenant_id=p1";
    cloud.call(Method::GET, path, Value::Null, "other").await.expect(403);
    cloud.call(Method::GET, path, Value::Null, "admin").await.expect(200);
}

}

#[tokio::test]
async fn old_microversions_see_more_resources() {
    let cloud = Cloud::new(0).await;
    let at = async |version: &str| {
        cloud.call_at(Method::GET, SET, Value::Null, "member", version).await.expect(200)["quota_set"]
            .clone()
    };
    assert_eq!(at("2.35").await["floating_ips"], -1);
    assert!(at("2.36").await.get("floating_ips").is_none());
    assert_eq!(at("2.56").await["injected_files"], 5);
    assert!(at("2.57").await.get("injected_files").is_none());
}
