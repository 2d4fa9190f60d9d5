//! The way back in for whoever has the machine, whatever became of the administrators.

use super::*;
use crate::{RECOVERY_LASTS, Recovered, recover};

on_both!(
    an_operator_gets_back_in_whatever_happened,
    a_policy_that_denies_all_does_not_keep_an_operator_out,
    a_recovery_lasts_an_hour_and_is_journalled,
    a_start_changes_nothing_about_those_who_can_log_in,
);

impl Cloud {
    async fn recovered(&self) -> (Recovered, String) {
        let made = recover(&self.db, HashParams::CHEAP).await.unwrap();
        let token = self.login_recovered(&made, json!({"system": {"all": true}})).await;
        (made, token.expect(201).token())
    }

    async fn login_recovered(&self, made: &Recovered, scope: Value) -> Answer {
        let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": made.user, "domain": {"id": made.domain}, "password": *made.password}}},
            "scope": scope}});
        self.call("", "POST", "/v3/auth/tokens", auth).await
    }
}

async fn an_operator_gets_back_in_whatever_happened(cloud: Cloud) {
    let asked = |asked: &mut SecurityCompliance| {
        (asked.lockout_failure_attempts, asked.password_expires_days) = (1, 30);
        asked.disable_user_account_days_inactive = 30;
        asked.change_password_upon_first_use = true;
    };
    let cloud = cloud.asking(asked).await;
    let system = json!({"system": {"all": true}});
    let admin = cloud.login("admin", "root-secret", system.clone()).await.expect(201).token();
    let id = cloud.made.admin_user.to_string();
    let role = cloud.role(&admin, "admin").await;
    let expiring = json!({"user": {"password": "root-2",
                          "options": {"ignore_change_password_upon_first_use": true}}});
    let user = format!("/v3/users/{id}");
    cloud.call(&admin, "PATCH", &user, expiring).await.expect(200);
    let admin = cloud.login("admin", "root-2", system.clone()).await.expect(201).token();
    // Roles taken away, locked, expired, away for too long and so disabled: nobody is left.
    for path in [
        format!("/v3/projects/{}/users/{id}/roles/{role}", cloud.made.admin_project),
        format!("/v3/system/users/{id}/roles/{role}"),
    ] {
        cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    }
    cloud.login("admin", "wrong", Value::Null).await.expect(401);
    cloud.clock.advance(Duration::from_secs(90 * 24 * 3600));
    cloud.identity.disable_inactive().await.unwrap();
    cloud.login("admin", "root-2", Value::Null).await.expect(401);

    let (_, token) = cloud.recovered().await;
    let body = json!({"user": {"enabled": true, "password": "root-3"}});
    cloud.call(&token, "PATCH", &user, body).await.expect(200);
    let grant = format!("/v3/system/users/{id}/roles/{role}");
    cloud.call(&token, "PUT", &grant, Value::Null).await.expect(204);
    cloud.login("admin", "root-3", system).await.expect(201);
}

async fn a_policy_that_denies_all_does_not_keep_an_operator_out(cloud: Cloud) {
    let names = POLICY.iter().map(|rule| rule.name).chain(["admin", "system_reader", "service"]);
    let denying: String = names.map(|name| format!("\"{name}\" = \"!\"\n")).collect();
    let policy =
        Policy::with_overrides(&[POLICY], Some(service_kit::PolicyFile::Toml(&denying))).unwrap();
    let cloud = cloud.restarted_under(policy, |_| ()).await;
    let system = json!({"system": {"all": true}});
    let admin = cloud.login("admin", "root-secret", system).await.expect(201).token();
    cloud.get(&admin, "/v3/users").await.expect(403);
    let (_, token) = cloud.recovered().await;
    cloud.get(&token, "/v3/users").await.expect(200);
    let path = format!("/v3/users/{}", cloud.made.admin_user);
    let body = json!({"user": {"description": "seen"}});
    cloud.call(&token, "PATCH", &path, body).await.expect(200);
}

async fn a_recovery_lasts_an_hour_and_is_journalled(cloud: Cloud) {
    let (made, token) = cloud.recovered().await;
    assert_eq!(made.until, Timestamp(1_700_000_000_000_000).after(RECOVERY_LASTS));
    let shown = cloud.about(&token, "GET", &token).await.expect(200);
    assert_eq!(shown.body["token"]["methods"], json!(["password", "recovery"]));
    // It may not be made to last, and no route makes another.
    let id = shown.body["token"]["user"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v3/users/{id}/password");
    let body = json!({"user": {"original_password": *made.password, "password": "mine"}});
    cloud.call("", "POST", &path, body).await.expect(400);
    let body = json!({"user": {"name": "spy", "password": "p", "valid_until": 1,
                               "options": {}}});
    cloud.call(&token, "POST", "/v3/users", body).await.expect(201);
    let spy = cloud.login("spy", "p", json!("unscoped")).await.expect(201);
    assert_eq!(spy.body["token"]["methods"], json!(["password"]));

    let (one, two) = (cloud.recovered().await, cloud.recovered().await);
    assert_ne!(one.0.user, two.0.user, "each has a name of its own");
    let journal = cloud.db.read(|tx| {
        Box::pin(async move { database::journal::after(tx, Default::default(), 10_000).await })
    });
    let journal = journal.await.unwrap();
    let recovered: Vec<_> = journal.iter().filter(|row| row.action == "recover").collect();
    assert_eq!(recovered.len(), 3);
    let kept = format!("{:?}", recovered[0].after);
    assert!(kept.contains(&made.user) && !kept.contains(made.password.as_str()), "{kept}");

    cloud.clock.advance(RECOVERY_LASTS);
    assert!(!cloud.is_good(&token).await);
    cloud.login_recovered(&made, json!("unscoped")).await.expect(401);
    assert_eq!(cloud.identity.remove_ended().await.unwrap(), 3);
    let system = json!({"system": {"all": true}});
    let admin = cloud.login("admin", "root-secret", system).await.expect(201).token();
    cloud.get(&admin, &format!("/v3/users/{id}")).await.expect(404);
}

async fn a_start_changes_nothing_about_those_who_can_log_in(cloud: Cloud) {
    let admin = cloud.admin().await;
    let path = format!("/v3/users/{}", cloud.made.admin_user);
    let chosen = json!({"user": {"password": "chosen", "name": "root"}});
    cloud.call(&admin, "PATCH", &path, chosen).await.expect(200);
    // Strict settings from now on judge new passwords, not those that are there.
    let asked = |asked: &mut SecurityCompliance| {
        asked.password_regex = ".{30,}".into();
        asked.password_expires_days = 1;
        asked.change_password_upon_first_use = true;
        asked.disable_user_account_days_inactive = 1;
        asked.lockout_failure_attempts = 1;
    };
    let cloud = cloud.asking(asked).await;
    bootstrap(&cloud.db, &config()).await.unwrap();
    cloud.login("root", "chosen", Value::Null).await.expect(201);
}
