//! OS-FEDERATION's objects as upstream's API reference has them.

use serde_json::{Value, json};

use super::{Cloud, on_both};

on_both! {
    an_identity_provider_lives_as_upstream_says,
    protocols_belong_to_a_provider_and_name_a_mapping,
    mappings_are_checked_when_they_are_written,
    service_providers_live_as_upstream_says,
    only_administrators_change_federation,
    a_domain_takes_its_providers_with_it,
    an_openid_client_is_checked_and_keeps_its_secret,
}

const PROVIDERS: &str = "/v3/OS-FEDERATION/identity_providers";
const MAPPINGS: &str = "/v3/OS-FEDERATION/mappings";
const SERVICE_PROVIDERS: &str = "/v3/OS-FEDERATION/service_providers";

fn rules() -> Value {
    json!([{"local": [{"user": {"name": "{0}"}}], "remote": [{"type": "OIDC-sub"}]}])
}

async fn an_identity_provider_lives_as_upstream_says(cloud: Cloud) {
    let admin = cloud.admin().await;
    let one = format!("{PROVIDERS}/corp");
    let call = async |method: &str, body: Value| cloud.call(&admin, method, &one, body).await;
    let body = json!({"identity_provider": {"remote_ids": ["b", "a"], "description": "Us"}});
    let made = call("PUT", body.clone()).await.expect(201).body;
    let provider = &made["identity_provider"];
    assert_eq!(provider["id"], "corp");
    assert_eq!(provider["enabled"], false);
    assert_eq!(provider["remote_ids"], json!(["a", "b"]));
    assert_eq!(provider["authorization_ttl"], Value::Null);
    let links = &provider["links"];
    let own = format!("https://cloud.example/identity{one}");
    assert!(links["self"].as_str().unwrap().ends_with(&one), "{links}");
    assert!(links["protocols"].as_str().unwrap().ends_with(&format!("{one}/protocols")), "{own}");
    // A domain was made for its people.
    let domain = provider["domain_id"].as_str().unwrap();
    cloud.get(&admin, &format!("/v3/domains/{domain}")).await.expect(200);

    call("PUT", body).await.expect(409);
    assert_eq!(call("GET", Value::Null).await.expect(200).body, made);
    let change = json!({"identity_provider": {"enabled": true, "authorization_ttl": 5}});
    let changed = call("PATCH", change).await.expect(200).body;
    assert_eq!(changed["identity_provider"]["enabled"], true);
    assert_eq!(changed["identity_provider"]["authorization_ttl"], 5);
    for (wrong, status) in [
        (json!({"identity_provider": {"domain_id": "default"}}), 400),
        (json!({"identity_provider": {"enabled": "yes"}}), 400),
        (json!({"identity_provider": {"authorization_ttl": -1}}), 400),
        (json!({"identity_provider": {"remote_ids": ["a", "a"]}}), 400),
        (json!({"identity_provider": {"colour": 1}}), 400),
        (json!({}), 400),
    ] {
        call("PATCH", wrong).await.expect(status);
    }
    // Two providers cannot both call themselves the same.
    let body = json!({"identity_provider": {"remote_ids": ["a"], "domain_id": "default"}});
    let taken = cloud.call(&admin, "PUT", &format!("{PROVIDERS}/other"), body).await.expect(409);
    assert!(taken.body.to_string().contains("remote ID"), "{}", taken.body);
    let body = json!({"identity_provider": {"domain_id": "nowhere"}});
    cloud.call(&admin, "PUT", &format!("{PROVIDERS}/other"), body).await.expect(404);
    let body = json!({"identity_provider": {"domain_id": "default"}});
    cloud.call(&admin, "PUT", &format!("{PROVIDERS}/other"), body).await.expect(201);

    let ids = async |query: &str| {
        let listed = cloud.get(&admin, &format!("{PROVIDERS}{query}")).await.expect(200).body;
        let rows = listed["identity_providers"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["corp", "other"]);
    assert_eq!(ids("?enabled=true").await, ["corp"]);
    assert_eq!(ids("?id=other").await, ["other"]);
    call("DELETE", Value::Null).await.expect(204);
    call("GET", Value::Null).await.expect(404);
    call("DELETE", Value::Null).await.expect(404);
    call("PATCH", json!({"identity_provider": {"enabled": true}})).await.expect(404);
}

async fn protocols_belong_to_a_provider_and_name_a_mapping(cloud: Cloud) {
    let admin = cloud.admin().await;
    let call =
        async |method: &str, path: &str, body: Value| cloud.call(&admin, method, path, body).await;
    let body = json!({"identity_provider": {"domain_id": "default"}});
    call("PUT", &format!("{PROVIDERS}/corp"), body).await.expect(201);
    for id in ["one", "two"] {
        let body = json!({"mapping": {"rules": rules()}});
        call("PUT", &format!("{MAPPINGS}/{id}"), body).await.expect(201);
    }
    let path = format!("{PROVIDERS}/corp/protocols/saml2");
    let body = json!({"protocol": {"mapping_id": "one"}});
    let made = call("PUT", &path, body.clone()).await.expect(201).body;
    assert_eq!(made["protocol"]["id"], "saml2");
    assert_eq!(made["protocol"]["mapping_id"], "one");
    let links = &made["protocol"]["links"];
    let above = format!("{PROVIDERS}/corp");
    assert!(links["identity_provider"].as_str().unwrap().ends_with(&above), "{links}");
    call("PUT", &path, body.clone()).await.expect(409);
    call("PUT", &format!("{PROVIDERS}/none/protocols/saml2"), body).await.expect(404);
    let wrong = json!({"protocol": {"mapping_id": "none"}});
    call("PUT", &format!("{PROVIDERS}/corp/protocols/x"), wrong.clone()).await.expect(400);
    call("PATCH", &path, wrong).await.expect(400);
    let change = json!({"protocol": {"mapping_id": "two", "remote_id_attribute": "Issuer"}});
    let changed = call("PATCH", &path, change).await.expect(200).body;
    assert_eq!(changed["protocol"]["mapping_id"], "two");
    let listed = call("GET", &format!("{PROVIDERS}/corp/protocols"), Value::Null).await;
    let listed = listed.expect(200).body;
    assert_eq!(listed["protocols"][0]["remote_id_attribute"], "Issuer");
    assert_eq!(listed["protocols"][0]["idp_id"], "corp");
    // A protocol that somebody else's software speaks cannot be logged in with here.
    call("GET", &format!("{path}/auth"), Value::Null).await.expect(401);
    call("DELETE", &path, Value::Null).await.expect(204);
    call("GET", &path, Value::Null).await.expect(404);
    call("DELETE", &path, Value::Null).await.expect(404);
}

async fn mappings_are_checked_when_they_are_written(cloud: Cloud) {
    let admin = cloud.admin().await;
    let path = format!("{MAPPINGS}/people");
    let call = async |method: &str, body: Value| cloud.call(&admin, method, &path, body).await;
    let made = call("PUT", json!({"mapping": {"rules": rules()}})).await.expect(201).body;
    assert_eq!(made["mapping"]["schema_version"], "1.0");
    assert_eq!(made["mapping"]["rules"], rules());
    call("PUT", json!({"mapping": {"rules": rules()}})).await.expect(409);
    for wrong in [
        json!({"mapping": {}}),
        json!({"mapping": {"rules": []}}),
        json!({"mapping": {"rules": rules(), "schema_version": "9.0"}}),
        json!({"mapping": {"rules": [{"local": [], "remote": []}]}}),
        json!({"mapping": {"rules": [{"local": [{"user": {"name": "{7}"}}],
                                      "remote": [{"type": "x"}]}]}}),
        json!({"mapping": {"rules": [{"local": [{"user": {"name": "x"}}],
            "remote": [{"type": "x", "any_one_of": ["("], "regex": true}]}]}}),
    ] {
        let refused = call("PATCH", wrong.clone()).await.expect(400);
        assert!(refused.body["error"]["message"].is_string(), "{wrong}");
    }
    let change = json!({"mapping": {"rules": rules(), "schema_version": "2.0"}});
    let changed = call("PATCH", change).await.expect(200).body;
    assert_eq!(changed["mapping"]["schema_version"], "2.0");
    let listed = cloud.get(&admin, MAPPINGS).await.expect(200).body;
    assert_eq!(listed["mappings"][0], changed["mapping"]);
    call("DELETE", Value::Null).await.expect(204);
    call("GET", Value::Null).await.expect(404);
}

async fn service_providers_live_as_upstream_says(cloud: Cloud) {
    let admin = cloud.admin().await;
    let path = format!("{SERVICE_PROVIDERS}/beta");
    let call = async |method: &str, body: Value| cloud.call(&admin, method, &path, body).await;
    let body = json!({"service_provider": {"auth_url": "https://beta/v3/auth",
                                           "sp_url": "https://beta/saml"}});
    let made = call("PUT", body.clone()).await.expect(201).body["service_provider"].clone();
    assert_eq!(made["enabled"], false);
    assert_eq!(made["relay_state_prefix"], "ss:mem:");
    call("PUT", body).await.expect(409);
    call("PATCH", json!({"service_provider": {"sp_url": "ftp://x"}})).await.expect(400);
    call("PATCH", json!({"service_provider": {"x": 1}})).await.expect(400);
    let changed = call("PATCH", json!({"service_provider": {"enabled": true}})).await.expect(200);
    assert_eq!(changed.body["service_provider"]["enabled"], true);
    let listed = cloud.get(&admin, &format!("{SERVICE_PROVIDERS}?enabled=1")).await.expect(200);
    assert_eq!(listed.body["service_providers"][0]["id"], "beta");
    // Tokens name those that are enabled.
    let named = async || {
        let token = cloud.admin().await;
        let shown = cloud.about(&token, "GET", &token).await.expect(200);
        shown.body["token"].get("service_providers").cloned()
    };
    let beta = json!([{"id": "beta", "auth_url": "https://beta/v3/auth",
                       "sp_url": "https://beta/saml"}]);
    assert_eq!(named().await, Some(beta));
    call("PATCH", json!({"service_provider": {"enabled": false}})).await.expect(200);
    assert_eq!(named().await, None);
    let without = json!({"service_provider": {"auth_url": "https://x"}});
    let missing = cloud.call(&admin, "PUT", &format!("{SERVICE_PROVIDERS}/x"), without).await;
    assert!(missing.expect(400).body.to_string().contains("sp_url"));
    call("DELETE", Value::Null).await.expect(204);
    call("GET", Value::Null).await.expect(404);
}

async fn only_administrators_change_federation(cloud: Cloud) {
    let (admin, demo) = (cloud.admin().await, cloud.demo().await);
    let body = json!({"identity_provider": {"domain_id": "default"}});
    cloud.call(&admin, "PUT", &format!("{PROVIDERS}/corp"), body).await.expect(201);
    for collection in [PROVIDERS, MAPPINGS, SERVICE_PROVIDERS] {
        cloud.get(&demo, collection).await.expect(403);
        for method in ["PUT", "GET", "PATCH", "DELETE"] {
            let path = format!("{collection}/corp");
            cloud.call(&demo, method, &path, json!({})).await.expect(403);
        }
    }
}

async fn a_domain_takes_its_providers_with_it(cloud: Cloud) {
    let admin = cloud.admin().await;
    let one = format!("{PROVIDERS}/corp");
    let made = cloud.call(&admin, "PUT", &one, json!({"identity_provider": {}})).await.expect(201);
    let domain = made.body["identity_provider"]["domain_id"].as_str().unwrap().to_owned();
    let path = format!("/v3/domains/{domain}");
    let disabled = json!({"domain": {"enabled": false}});
    cloud.call(&admin, "PATCH", &path, disabled).await.expect(200);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    cloud.get(&admin, &one).await.expect(404);
}

async fn an_openid_client_is_checked_and_keeps_its_secret(cloud: Cloud) {
    let admin = cloud.admin().await;
    let call =
        async |method: &str, path: &str, body: Value| cloud.call(&admin, method, path, body).await;
    call("PUT", &format!("{MAPPINGS}/m"), json!({"mapping": {"rules": rules()}})).await.expect(201);
    let body = json!({"identity_provider": {"domain_id": "default"}});
    call("PUT", &format!("{PROVIDERS}/corp"), body).await.expect(201);
    let protocol = format!("{PROVIDERS}/corp/protocols/openid");
    let path = format!("{protocol}/openid_client");
    let good = json!({"issuer": "https://login.example.org", "client_id": "cloud",
                      "client_secret": "do-not-tell"});
    let set = async |changes: Value| {
        let mut client = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            client[name] = value.clone();
        }
        call("PUT", &path, json!({"openid_client": client})).await
    };
    set(json!({})).await.expect(404);
    let body = json!({"protocol": {"mapping_id": "m"}});
    call("PUT", &protocol, body).await.expect(201);
    call("GET", &path, Value::Null).await.expect(404);
    for (changes, field) in [
        (json!({"issuer": "http://login.example.org"}), "issuer"),
        (json!({"issuer": "https://login.example.org?x=1"}), "issuer"),
        (json!({"client_id": ""}), "client_id"),
        (json!({"scopes": ["profile"]}), "scopes"),
        (json!({"scopes": ["openid", "a b"]}), "scopes"),
        (json!({"access_tokens": "believe"}), "access_tokens"),
        (json!({"trusted_dashboards": ["http://console.example/"]}), "trusted_dashboards"),
        (json!({"trusted_dashboards": ["javascript:x"]}), "trusted_dashboards"),
        (json!({"ca_certificate": "nonsense"}), "ca_certificate"),
        (json!({"colour": "blue"}), "colour"),
    ] {
        let refused = set(changes).await.expect(400);
        assert!(refused.body.to_string().contains(field), "{}", refused.body);
        assert!(!refused.body.to_string().contains("do-not-tell"));
    }
    let made = set(json!({})).await.expect(200).body["openid_client"].clone();
    assert_eq!(made["has_secret"], true);
    let base = "/v3/auth/OS-FEDERATION/identity_providers/corp/protocols/openid";
    assert!(made["redirect_uri"].as_str().unwrap().ends_with(&format!("{base}/callback")));
    let logout = made["backchannel_logout_uri"].as_str().unwrap();
    assert!(logout.ends_with(&format!("{base}/backchannel_logout")));
    // What is not said about the secret leaves it; null takes it away.
    let set_secret = async |secret: Option<Value>| {
        let mut client = json!({"issuer": "https://login.example.org", "client_id": "cloud"});
        if let Some(secret) = secret {
            client["client_secret"] = secret;
        }
        let answer = call("PUT", &path, json!({"openid_client": client})).await.expect(200);
        answer.body["openid_client"]["has_secret"].clone()
    };
    assert_eq!(set_secret(None).await, true);
    assert_eq!(set_secret(Some(Value::Null)).await, false);
    // Neither the database nor the journal holds it.
    set(json!({})).await.expect(200);
    let found = cloud
        .db
        .read(|tx| {
            Box::pin(async move {
                let mut texts = Vec::new();
                for table in ["identity_federation_protocols", "journal"] {
                    let rows = tx.query_dynamic(format!("SELECT * FROM {table}"), &[]).await?;
                    texts.push(format!("{rows:?}"));
                }
                Ok::<_, database::DatabaseError>(texts.concat())
            })
        })
        .await
        .unwrap();
    let digits: Vec<String> = b"do-not-tell".iter().map(u8::to_string).collect();
    assert!(found.contains("login.example.org"));
    assert!(!found.contains("do-not-tell") && !found.contains(&digits.join(", ")));
    call("DELETE", &path, Value::Null).await.expect(204);
    call("GET", &path, Value::Null).await.expect(404);
}
