//! Key pairs through their API.

use serde_json::{Value, json};
use service_kit::Method;

use crate::test_support::{On, on_both, text};

const PAIRS: &str = "/compute/v2.1/os-keypairs";
const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA a";

on_both! {

async fn a_key_is_kept_shown_listed_and_forgotten(on: On) {
    let cloud = on.cloud(0).await;
    let body = json!({"keypair": {"name": "laptop", "public_key": KEY}});
    let made = cloud.call(Method::POST, PAIRS, body.clone(), "member").await.expect(201);
    assert_eq!(made["keypair"]["type"], "ssh");
    assert!(made["keypair"].get("private_key").is_none());
    cloud.call(Method::POST, PAIRS, body.clone(), "member").await.expect(409);
    cloud.call(Method::POST, PAIRS, body, "other").await.expect(201);
    let path = format!("{PAIRS}/laptop");
    let shown = cloud.call(Method::GET, &path, Value::Null, "member").await.expect(200);
    assert_eq!(shown["keypair"]["fingerprint"], "3d:52:38:ce:ff:94:f5:d7:81:a4:a4:f9:2b:4f:fe:a0");
    let list = cloud.get("/os-keypairs").await;
    assert_eq!(list["keypairs"].as_array().unwrap().len(), 1, "only one's own");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(404);
    cloud.call(Method::GET, &path, Value::Null, "other").await.expect(200);
}

async fn anothers_keys_are_for_administrators(on: On) {
    let cloud = on.cloud(0).await;
    let body = json!({"keypair": {"name": "k", "public_key": KEY, "user_id": "alice"}});
    cloud.call(Method::POST, PAIRS, body.clone(), "other").await.expect(403);
    cloud.call(Method::POST, PAIRS, body, "admin").await.expect(201);
    let path = format!("{PAIRS}/k?user_id=alice");
    cloud.call(Method::GET, &path, Value::Null, "other").await.expect(403);
    cloud.call(Method::GET, &path, Value::Null, "admin").await.expect(200);
    cloud.call(Method::GET, &format!("{PAIRS}/k"), Value::Null, "member").await.expect(200);
}

}

#[tokio::test]
async fn pairs_are_made_until_2_91_and_only_imported_since() {
    let cloud = crate::test_support::Cloud::new(0).await;
    let body = json!({"keypair": {"name": "made"}});
    cloud.call_at(Method::POST, PAIRS, body.clone(), "member", "2.92").await.expect(400);
    let made = cloud.call_at(Method::POST, PAIRS, body, "member", "2.1").await.expect(200);
    assert!(text(&made["keypair"]["private_key"]).starts_with("-----BEGIN OPENSSH PRIVATE KEY"));
    assert!(made["keypair"].get("type").is_none());
    let path = format!("{PAIRS}/made");
    let shown = cloud.call(Method::GET, &path, Value::Null, "member").await.expect(200);
    assert!(shown["keypair"].get("private_key").is_none(), "shown once and kept nowhere");
    for (version, body) in [
        ("2.91", json!({"keypair": {"name": "a@b", "public_key": KEY}})),
        ("2.1", json!({"keypair": {"name": "x", "type": "ssh", "public_key": KEY}})),
        ("2.9", json!({"keypair": {"name": "x", "user_id": "alice", "public_key": KEY}})),
        ("2.92", json!({"keypair": {"name": "x", "public_key": "ssh-rsa no"}})),
        ("2.92", json!({"keypair": {"name": "x", "type": "x509", "public_key": KEY}})),
    ] {
        let answer = cloud.call_at(Method::POST, PAIRS, body.clone(), "member", version).await;
        assert_eq!(answer.status, 400, "{version} {body}: {}", answer.body);
    }
}

#[tokio::test]
async fn pages_follow_the_name() {
    let cloud = crate::test_support::Cloud::new(0).await;
    for name in ["c", "a", "b"] {
        let body = json!({"keypair": {"name": name, "public_key": KEY}});
        cloud.call(Method::POST, PAIRS, body, "member").await.expect(201);
    }
    let page = cloud.get("/os-keypairs?limit=2").await;
    assert_eq!(page["keypairs"][1]["keypair"]["name"], "b");
    assert!(text(&page["keypairs_links"][0]["href"]).contains("marker=b"));
    let rest = cloud.get("/os-keypairs?limit=2&marker=b").await;
    assert_eq!(rest["keypairs"].as_array().unwrap().len(), 1);
    assert!(rest.get("keypairs_links").is_none());
    let path = format!("{PAIRS}?marker=none");
    cloud.call(Method::GET, &path, Value::Null, "member").await.expect(400);
}
