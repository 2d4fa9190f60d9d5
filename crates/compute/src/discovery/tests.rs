//! Discovery, as clients begin.

use serde_json::Value;
use service_kit::Method;

use crate::test_support::Cloud;

#[tokio::test]
async fn versions_are_told_without_a_token() {
    let cloud = Cloud::new(0).await;
    for path in ["/compute", "/compute/"] {
        let found = cloud.call(Method::GET, path, Value::Null, "").await.expect(200);
        assert_eq!(found["versions"][0]["id"], "v2.1");
    }
    for path in ["/compute/v2.1", "/compute/v2.1/"] {
        let found = cloud.call(Method::GET, path, Value::Null, "").await.expect(200);
        let version = &found["version"];
        assert_eq!(
            (version["version"].as_str(), version["min_version"].as_str()),
            (Some("2.96"), Some("2.1"))
        );
        assert_eq!(version["links"][0]["href"], "http://cloud.test/compute/v2.1/");
    }
}

#[tokio::test]
async fn extensions_and_groups_are_listed() {
    let cloud = Cloud::new(0).await;
    let all = cloud.get("/extensions").await;
    let alias = all["extensions"][0]["alias"].as_str().unwrap();
    cloud.get(&format!("/extensions/{alias}")).await;
    let path = "/compute/v2.1/extensions/none";
    cloud.call(Method::GET, path, Value::Null, "member").await.expect(404);
    assert_eq!(cloud.get("/os-server-groups").await["server_groups"], serde_json::json!([]));
}
