//! Rules about more than one factor, and receipts.

use super::*;
use crate::token::Methods;
use crate::token::model::WantedScope;
use crate::token::service::Proven;

on_both!(
    a_factor_alone_gets_a_receipt_and_both_get_a_token,
    a_receipt_is_good_for_its_user_and_a_while
);

impl Cloud {
    async fn with_receipt(&self, receipt: &str, user: &str, password: &str) -> Answer {
        let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"id": "default"}, "password": password}}},
            "scope": "unscoped"}});
        let request = Request::builder()
            .method("POST")
            .uri("/identity/v3/auth/tokens")
            .header("openstack-auth-receipt", receipt)
            .body(Body::from(auth.to_string()))
            .unwrap();
        self.send(request).await
    }

    /// A token that an identity provider's word led to, which is the other factor here.
    async fn token_by_openid(&self) -> String {
        let user = self.made.demo.clone().unwrap().0;
        let proven = Proven::by(user, Methods::OPENID);
        self.identity.issue_for(proven, WantedScope::Unscoped, false).await.unwrap().text
    }

    async fn ask_for_two(&self) {
        let admin = self.admin().await;
        let user = self.made.demo.clone().unwrap().0;
        let options = json!({"multi_factor_auth_rules": [["password", "openid"]]});
        let body = json!({"user": {"options": options}});
        self.call(&admin, "PATCH", &format!("/v3/users/{user}"), body).await.expect(200);
    }
}

fn receipt(answer: &Answer) -> String {
    answer.headers["openstack-auth-receipt"].to_str().unwrap().to_owned()
}

async fn a_factor_alone_gets_a_receipt_and_both_get_a_token(cloud: Cloud) {
    let openid = cloud.token_by_openid().await;
    cloud.ask_for_two().await;
    let first = cloud.login("demo", "demo-secret", Value::Null).await.expect(401);
    assert!(!first.headers.contains_key("x-subject-token"));
    let shown = &first.body["receipt"];
    assert_eq!(shown["methods"], json!(["password"]));
    assert_eq!(shown["user"]["name"], "demo");
    assert_eq!(shown["user"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(shown["issued_at"], "2023-11-14T22:13:20.000000Z");
    assert_eq!(shown["expires_at"], "2023-11-14T22:18:20.000000Z");
    assert_eq!(first.body["required_auth_methods"], json!([["password", "openid"]]));
    // The receipt is no token, and no proof by itself.
    cloud.get(&receipt(&first), "/v3/auth/projects").await.expect(401);
    let same = cloud.with_receipt(&receipt(&first), "demo", "demo-secret").await.expect(401);
    assert_eq!(same.body["receipt"]["methods"], json!(["password"]));
    cloud.with_receipt(&receipt(&first), "demo", "wrong").await.expect(401);

    let other = cloud.rescope(&openid, json!("unscoped")).await.expect(401);
    assert_eq!(other.body["receipt"]["methods"], json!(["token", "openid"]));
    let both = cloud.with_receipt(&receipt(&other), "demo", "demo-secret").await.expect(201);
    assert_eq!(both.body["token"]["methods"], json!(["password", "token", "openid"]));
    // Such a token is good for others without asking again.
    cloud.rescope(&both.token(), json!("unscoped")).await.expect(201);

    let admin = cloud.admin().await;
    let user = cloud.made.demo.clone().unwrap().0;
    let off = json!({"user": {"options": {"multi_factor_auth_enabled": false}}});
    cloud.call(&admin, "PATCH", &format!("/v3/users/{user}"), off).await.expect(200);
    cloud.login("demo", "demo-secret", Value::Null).await.expect(201);
}

async fn a_receipt_is_good_for_its_user_and_a_while(cloud: Cloud) {
    let openid = cloud.token_by_openid().await;
    cloud.ask_for_two().await;
    let other = cloud.rescope(&openid, json!("unscoped")).await.expect(401);
    let receipt = receipt(&other);
    cloud.with_receipt(&receipt, "admin", "root-secret").await.expect(401);
    cloud.with_receipt("nonsense", "demo", "demo-secret").await.expect(401);
    cloud.with_receipt(&openid, "demo", "demo-secret").await.expect(401);
    cloud.with_receipt(&receipt, "demo", "demo-secret").await.expect(201);
    cloud.clock.advance(Duration::from_secs(300));
    cloud.with_receipt(&receipt, "demo", "demo-secret").await.expect(401);
    // What ends tokens ends receipts.
    let again = cloud.rescope(&openid, json!("unscoped")).await.expect(401);
    let receipt = again.headers["openstack-auth-receipt"].to_str().unwrap().to_owned();
    let user = cloud.made.demo.clone().unwrap().0;
    let admin = cloud.admin().await;
    let body = json!({"user": {"password": "another"}});
    cloud.call(&admin, "PATCH", &format!("/v3/users/{user}"), body).await.expect(200);
    cloud.with_receipt(&receipt, "demo", "another").await.expect(401);
}
