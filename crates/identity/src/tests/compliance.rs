//! What is asked of passwords and accounts, and what is answered to those who guess.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

on_both!(
    a_password_is_changed_by_whoever_knows_it_and_that_ends_tokens,
    an_expired_password_is_good_for_one_thing,
    a_password_that_was_given_is_changed_at_its_first_use,
    a_new_password_differs_from_the_last_ones,
    a_password_that_was_chosen_is_kept_for_a_while,
    a_password_has_the_form_that_is_asked_for,
    who_may_not_change_the_password_is_told,
    wrong_passwords_lock_an_account_for_a_while,
    an_exempt_user_is_not_locked,
    who_does_not_log_in_is_disabled,
    users_are_found_by_when_their_passwords_end,
    options_are_those_of_upstream,
    everyone_who_is_not_let_in_costs_the_same_and_is_told_the_same,
    guesses_are_limited_by_user_and_by_source,
    hashes_of_another_cloud_are_renewed_at_the_first_login,
);

impl Cloud {
    async fn user(&self, admin: &str, body: Value) -> String {
        let made = self.call(admin, "POST", "/v3/users", json!({"user": body})).await.expect(201);
        made.body["user"]["id"].as_str().unwrap().to_owned()
    }

    async fn change_password(&self, id: &str, old: &str, new: &str) -> Answer {
        let body = json!({"user": {"original_password": old, "password": new}});
        self.call("", "POST", &format!("/v3/users/{id}/password"), body).await
    }

    async fn patch_user(&self, admin: &str, id: &str, body: Value) -> Answer {
        self.call(admin, "PATCH", &format!("/v3/users/{id}"), json!({"user": body})).await
    }

    async fn login_from(&self, user: &str, password: &str, source: &str) -> Answer {
        let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"id": "default"}, "password": password}}}}});
        let mut request = Request::builder()
            .method("POST")
            .uri("/identity/v3/auth/tokens")
            .body(Body::from(auth.to_string()))
            .unwrap();
        let address = std::net::SocketAddr::new(source.parse().unwrap(), 4711);
        request.extensions_mut().insert(service_kit::Peer { address, tls: true });
        self.send(request).await
    }
}

fn message(answer: &Answer) -> String {
    answer.body["error"]["message"].as_str().unwrap().to_owned()
}

async fn a_password_is_changed_by_whoever_knows_it_and_that_ends_tokens(cloud: Cloud) {
    let admin = cloud.admin().await;
    let id = cloud.user(&admin, json!({"name": "ann", "password": "one"})).await;
    let token = cloud.login("ann", "one", json!("unscoped")).await.expect(201).token();
    cloud.change_password(&id, "wrong", "two").await.expect(401);
    cloud.change_password("nobody", "one", "two").await.expect(401);
    assert!(cloud.is_good(&token).await);
    cloud.change_password(&id, "one", "two").await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.login("ann", "one", Value::Null).await.expect(401);
    cloud.login("ann", "two", Value::Null).await.expect(201);
    for (body, field) in [
        (json!({}), "user"),
        (json!({"user": {"password": "x"}}), "original_password"),
        (json!({"user": {"original_password": "two"}}), "password"),
        (json!({"user": {"original_password": "two", "password": null}}), "user.password"),
        (json!({"user": {"original_password": "two", "password": "x", "more": 1}}), "more"),
    ] {
        let path = format!("/v3/users/{id}/password");
        let refused = cloud.call("", "POST", &path, body).await.expect(400);
        assert!(message(&refused).contains(field), "{}", refused.body);
    }
}

async fn an_expired_password_is_good_for_one_thing(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.password_expires_days = 3).await;
    let admin = cloud.admin().await;
    let id = cloud.user(&admin, json!({"name": "ann", "password": "one"})).await;
    let shown = cloud.get(&admin, &format!("/v3/users/{id}")).await.expect(200);
    assert_eq!(shown.body["user"]["password_expires_at"], "2023-11-17T22:13:20.000000");
    let issued = cloud.login("ann", "one", Value::Null).await.expect(201);
    assert_eq!(issued.body["token"]["user"]["password_expires_at"], "2023-11-17T22:13:20.000000");
    cloud.clock.advance(DAY * 3);
    let expired = cloud.login("ann", "one", Value::Null).await.expect(401);
    let told = format!("The password is expired and needs to be changed for user: {id}.");
    assert_eq!(message(&expired), told);
    // Who does not know it learns nothing.
    let wrong = cloud.login("ann", "wrong", Value::Null).await.expect(401);
    assert_eq!(message(&wrong), "The request you have made requires authentication.");
    cloud.change_password(&id, "one", "two").await.expect(204);
    cloud.login("ann", "two", Value::Null).await.expect(201);
    cloud.clock.advance(DAY * 3);
    cloud.login("ann", "two", Value::Null).await.expect(401);
    let admin = cloud.admin().await;
    let exempt = json!({"options": {"ignore_password_expiry": true}});
    cloud.patch_user(&admin, &id, exempt).await.expect(200);
    cloud.login("ann", "two", Value::Null).await.expect(201);
}

async fn a_password_that_was_given_is_changed_at_its_first_use(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.change_password_upon_first_use = true).await;
    let admin = cloud.admin().await;
    let id = cloud.user(&admin, json!({"name": "ann", "password": "given"})).await;
    cloud.login("ann", "given", Value::Null).await.expect(401);
    cloud.change_password(&id, "given", "chosen").await.expect(204);
    cloud.login("ann", "chosen", Value::Null).await.expect(201);
    cloud.patch_user(&admin, &id, json!({"password": "reset"})).await.expect(200);
    cloud.login("ann", "reset", Value::Null).await.expect(401);
    let options = json!({"ignore_change_password_upon_first_use": true});
    let robot = json!({"name": "robot", "password": "given", "options": options});
    cloud.user(&admin, robot).await;
    cloud.login("robot", "given", Value::Null).await.expect(201);
}

async fn a_new_password_differs_from_the_last_ones(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.unique_last_password_count = 3).await;
    let admin = cloud.admin().await;
    let id = cloud.user(&admin, json!({"name": "ann", "password": "p1"})).await;
    let refused = cloud.change_password(&id, "p1", "p1").await.expect(400);
    assert!(message(&refused).contains("must be unique is 3"), "{}", refused.body);
    cloud.change_password(&id, "p1", "p2").await.expect(204);
    cloud.change_password(&id, "p2", "p3").await.expect(204);
    for used in ["p1", "p2", "p3"] {
        cloud.change_password(&id, "p3", used).await.expect(400);
    }
    cloud.change_password(&id, "p3", "p4").await.expect(204);
    cloud.change_password(&id, "p4", "p1").await.expect(204);
    // An administrator's reset is remembered, and not judged.
    cloud.patch_user(&admin, &id, json!({"password": "p1"})).await.expect(200);
}

async fn a_password_that_was_chosen_is_kept_for_a_while(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.minimum_password_age = 1).await;
    let admin = cloud.admin().await;
    let id = cloud.user(&admin, json!({"name": "ann", "password": "p1"})).await;
    cloud.change_password(&id, "p1", "p2").await.expect(204);
    let refused = cloud.change_password(&id, "p2", "p3").await.expect(400);
    assert!(message(&refused).contains("minimum password age"), "{}", refused.body);
    cloud.patch_user(&admin, &id, json!({"password": "p3"})).await.expect(200);
    cloud.change_password(&id, "p3", "p4").await.expect(204);
    cloud.clock.advance(DAY);
    cloud.change_password(&id, "p4", "p5").await.expect(204);
}

async fn a_password_has_the_form_that_is_asked_for(cloud: Cloud) {
    let strong = |asked: &mut SecurityCompliance| {
        asked.password_regex = r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$".into();
        asked.password_regex_description = "letters and digits, seven in all".into();
    };
    let cloud = cloud.asking(strong).await;
    let admin = cloud.admin().await;
    let weak = json!({"user": {"name": "ann", "password": "weak"}});
    let refused = cloud.call(&admin, "POST", "/v3/users", weak).await.expect(400);
    assert_eq!(
        message(&refused),
        "The password does not match the requirements: letters and digits, seven in all."
    );
    let id = cloud.user(&admin, json!({"name": "ann", "password": "stronger1"})).await;
    cloud.patch_user(&admin, &id, json!({"password": "weak"})).await.expect(400);
    cloud.change_password(&id, "stronger1", "weak").await.expect(400);
    cloud.change_password(&id, "stronger1", "stronger2").await.expect(204);
    cloud.patch_user(&admin, &id, json!({"password": null})).await.expect(200);
    // Whoever chooses one may ask first.
    let path = "/v3/domains/default/config/security_compliance";
    let told = cloud.get(&cloud.demo().await, path).await.expect(200);
    let told = &told.body["config"]["security_compliance"];
    assert_eq!(told["password_regex"], r"^(?=.*\d)(?=.*[a-zA-Z]).{7,}$");
    assert_eq!(told["password_regex_description"], "letters and digits, seven in all");
}

async fn who_may_not_change_the_password_is_told(cloud: Cloud) {
    let admin = cloud.admin().await;
    let locked = json!({"name": "kiosk", "password": "p1", "options": {"lock_password": true}});
    let id = cloud.user(&admin, locked).await;
    let refused = cloud.change_password(&id, "p1", "p2").await.expect(400);
    assert!(message(&refused).contains("disallowing password changes"), "{}", refused.body);
    cloud.patch_user(&admin, &id, json!({"options": {"lock_password": null}})).await.expect(200);
    cloud.change_password(&id, "p1", "p2").await.expect(204);
}

async fn wrong_passwords_lock_an_account_for_a_while(cloud: Cloud) {
    let lock = |asked: &mut SecurityCompliance| {
        (asked.lockout_failure_attempts, asked.lockout_duration) = (3, 60);
    };
    let cloud = cloud.asking(lock).await;
    let admin = cloud.admin().await;
    let id = cloud.user(&admin, json!({"name": "ann", "password": "right"})).await;
    for _ in 0..2 {
        cloud.login("ann", "wrong", Value::Null).await.expect(401);
    }
    cloud.login("ann", "right", Value::Null).await.expect(201);
    for _ in 0..3 {
        cloud.login("ann", "wrong", Value::Null).await.expect(401);
    }
    let locked = cloud.login("ann", "right", Value::Null).await.expect(401);
    assert_eq!(message(&locked), "The request you have made requires authentication.");
    cloud.change_password(&id, "right", "other").await.expect(401);
    cloud.clock.advance(Duration::from_secs(60));
    cloud.login("ann", "right", Value::Null).await.expect(201);
    // Failures before and after a lock do not add up, and an administrator opens it at once.
    for _ in 0..3 {
        cloud.login("ann", "wrong", Value::Null).await.expect(401);
    }
    cloud.clock.advance(Duration::from_secs(60));
    cloud.login("ann", "wrong", Value::Null).await.expect(401);
    cloud.login("ann", "right", Value::Null).await.expect(201);
    for _ in 0..3 {
        cloud.change_password(&id, "wrong", "other").await.expect(401);
    }
    cloud.login("ann", "right", Value::Null).await.expect(401);
    cloud.patch_user(&admin, &id, json!({"enabled": true})).await.expect(200);
    cloud.login("ann", "right", Value::Null).await.expect(201);
}

async fn an_exempt_user_is_not_locked(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.lockout_failure_attempts = 1).await;
    let admin = cloud.admin().await;
    let options = json!({"ignore_lockout_failure_attempts": true});
    let robot = json!({"name": "robot", "password": "right", "options": options});
    cloud.user(&admin, robot).await;
    for _ in 0..3 {
        cloud.login("robot", "wrong", Value::Null).await.expect(401);
    }
    cloud.login("robot", "right", Value::Null).await.expect(201);
}

async fn who_does_not_log_in_is_disabled(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.disable_user_account_days_inactive = 2).await;
    let admin = cloud.admin().await;
    cloud.user(&admin, json!({"name": "ann", "password": "p"})).await;
    let options = json!({"ignore_user_inactivity": true});
    cloud.user(&admin, json!({"name": "robot", "password": "p", "options": options})).await;
    cloud.clock.advance(DAY);
    cloud.login("ann", "p", Value::Null).await.expect(201);
    cloud.admin().await;
    cloud.clock.advance(DAY);
    assert_eq!(cloud.identity.disable_inactive().await.unwrap(), 1, "demo never logged in");
    cloud.login("ann", "p", Value::Null).await.expect(201);
    let token = cloud.login("ann", "p", json!("unscoped")).await.expect(201).token();
    let admin = cloud.admin().await;
    cloud.clock.advance(DAY * 2);
    cloud.login("ann", "p", Value::Null).await.expect(401);
    cloud.login("robot", "p", Value::Null).await.expect(201);
    // The one who runs the cloud has been away, too, and gets back in from the machine's console.
    let rows = cloud.identity.disable_inactive().await.unwrap();
    assert_eq!(rows, 2);
    assert!(!cloud.is_good(&token).await && !cloud.is_good(&admin).await);
    assert_eq!(cloud.identity.disable_inactive().await.unwrap(), 0);
}

async fn users_are_found_by_when_their_passwords_end(cloud: Cloud) {
    let cloud = cloud.asking(|asked| asked.password_expires_days = 3).await;
    let admin = cloud.admin().await;
    let ann = cloud.user(&admin, json!({"name": "ann", "password": "p"})).await;
    cloud.clock.advance(DAY);
    let admin = cloud.admin().await;
    let bob = cloud.user(&admin, json!({"name": "bob", "password": "p"})).await;
    let group = cloud.call(&admin, "POST", "/v3/groups", json!({"group": {"name": "g"}})).await;
    let group = group.expect(201).body["group"]["id"].as_str().unwrap().to_owned();
    for user in [&ann, &bob] {
        let path = format!("/v3/groups/{group}/users/{user}");
        cloud.call(&admin, "PUT", &path, Value::Null).await.expect(204);
    }
    for (filter, wanted) in [
        ("lt:2023-11-18T22:13:20Z", vec![&ann]),
        ("lte:2023-11-18T22:13:20Z", vec![&ann, &bob]),
        ("gt:2023-11-17T22:13:20Z", vec![&bob]),
        ("2023-11-17T22:13:20Z", vec![&ann]),
        ("neq:2023-11-17T22:13:20Z", vec![&bob]),
    ] {
        for path in ["/v3/users".to_owned(), format!("/v3/groups/{group}/users")] {
            let found = cloud.get(&admin, &format!("{path}?password_expires_at={filter}")).await;
            let found = found.expect(200).body["users"].clone();
            let ids: Vec<&str> =
                found.as_array().unwrap().iter().map(|u| u["id"].as_str().unwrap()).collect();
            let mut wanted = wanted.clone();
            wanted.sort();
            assert_eq!(ids, wanted, "{path} {filter}");
        }
    }
    for bad in ["soon", "lt:soon", "xx:2023-11-17T22:13:20Z"] {
        let path = format!("/v3/users?password_expires_at={bad}");
        let refused = cloud.get(&admin, &path).await.expect(400);
        assert!(message(&refused).contains("password_expires_at"));
    }
}

async fn options_are_those_of_upstream(cloud: Cloud) {
    let admin = cloud.admin().await;
    let options = json!({"lock_password": false, "multi_factor_auth_rules": [["password"]]});
    let id = cloud.user(&admin, json!({"name": "ann", "options": options.clone()})).await;
    let shown = cloud.get(&admin, &format!("/v3/users/{id}")).await.expect(200);
    assert_eq!(shown.body["user"]["options"], options);
    let gone = json!({"options": {"lock_password": null}});
    let shown = cloud.patch_user(&admin, &id, gone).await.expect(200);
    let left = json!({"multi_factor_auth_rules": [["password"]]});
    assert_eq!(shown.body["user"]["options"], left);
    for bad in [
        json!({"lock_password": "true"}),
        json!({"lock": true}),
        json!({"multi_factor_auth_rules": [["a", "a"]]}),
        json!([]),
    ] {
        let refused = cloud.patch_user(&admin, &id, json!({"options": bad})).await.expect(400);
        assert!(message(&refused).contains("options"), "{}", refused.body);
    }
}

async fn everyone_who_is_not_let_in_costs_the_same_and_is_told_the_same(cloud: Cloud) {
    let lock = |asked: &mut SecurityCompliance| {
        (asked.lockout_failure_attempts, asked.disable_user_account_days_inactive) = (2, 90);
    };
    let cloud = cloud.asking(lock).await;
    let admin = cloud.admin().await;
    for name in ["ann", "locked", "disabled"] {
        cloud.user(&admin, json!({"name": name, "password": "right"})).await;
    }
    cloud.user(&admin, json!({"name": "keyless"})).await;
    for _ in 0..2 {
        cloud.login("locked", "wrong", Value::Null).await.expect(401);
    }
    let found = cloud.get(&admin, "/v3/users?name=disabled").await.expect(200);
    let id = found.body["users"][0]["id"].as_str().unwrap().to_owned();
    cloud.patch_user(&admin, &id, json!({"enabled": false})).await.expect(200);
    let mut answers = Vec::new();
    for (user, password) in [
        ("nobody", "right"),
        ("ann", "wrong"),
        ("locked", "right"),
        ("locked", "wrong"),
        ("disabled", "right"),
        ("disabled", "wrong"),
        ("keyless", "right"),
    ] {
        let hashes = cloud.identity.passwords.computed();
        let commits = cloud.db.metrics().commits;
        let answer = cloud.login(user, password, Value::Null).await.expect(401);
        let cost = cloud.identity.passwords.computed() - hashes;
        answers.push((cost, cloud.db.metrics().commits - commits, answer.body));
    }
    assert_eq!(answers[0].0, 1);
    for other in &answers[1..] {
        assert_eq!(other, &answers[0]);
    }
}

async fn guesses_are_limited_by_user_and_by_source(cloud: Cloud) {
    let limits =
        LoginLimits { user_per_minute: 6, user_burst: 3, source_per_minute: 6, source_burst: 5 };
    let cloud = cloud.restarted(|settings| settings.login_limits = limits).await;
    for user in ["demo", "nobody"] {
        for guess in 0..3 {
            let source = format!("10.0.{guess}.1");
            cloud.login_from(user, "wrong", &source).await.expect(401);
        }
        let limited = cloud.login_from(user, "wrong", "10.0.9.1").await.expect(429);
        assert_eq!(limited.headers["retry-after"], "10");
        assert!(message(&limited).contains("for this user"));
    }
    for guess in 0..5 {
        cloud.login_from(&format!("name-{guess}"), "wrong", "10.1.0.1").await.expect(401);
    }
    let limited = cloud.login_from("admin", "root-secret", "10.1.0.1").await.expect(429);
    assert!(message(&limited).contains("from your address"));
    cloud.login_from("admin", "root-secret", "10.1.0.2").await.expect(201);
    cloud.clock.advance(Duration::from_secs(10));
    cloud.login_from("demo", "demo-secret", "10.1.0.1").await.expect(201);
    for _ in 0..50 {
        cloud.login_from("demo", "demo-secret", "10.1.0.3").await.expect(201);
    }
}

async fn hashes_of_another_cloud_are_renewed_at_the_first_login(cloud: Cloud) {
    let hash = bcrypt::hash("old-secret", 4).unwrap();
    let (id, given) = (cloud.made.demo.clone().unwrap().0, hash.clone());
    let stored = async |cloud: &Cloud| {
        let id = id.clone();
        let found = cloud.identity.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { Ok(crate::user::store::get(tx, &id).await?) })
        });
        found.await.unwrap().unwrap().password_hash.unwrap()
    };
    let origin = database::Origin::system("test");
    let renewed = cloud.db.transact(&origin, {
        let id = id.clone();
        move |tx| {
            let (id, given) = (id.clone(), given.clone());
            Box::pin(async move {
                let mut user = crate::user::store::get(tx, &id).await?.unwrap();
                user.password_hash = Some(given);
                crate::user::store::update(tx, &user).await
            })
        }
    });
    renewed.await.unwrap();
    cloud.login("demo", "wrong", Value::Null).await.expect(401);
    assert_eq!(stored(&cloud).await, hash);
    let token = cloud.login("demo", "old-secret", Value::Null).await.expect(201).token();
    let renewed = stored(&cloud).await;
    assert!(renewed.starts_with("$argon2id$"), "{renewed}");
    cloud.login("demo", "old-secret", Value::Null).await.expect(201);
    assert_eq!(stored(&cloud).await, renewed);
    assert!(cloud.is_good(&token).await, "the password is the same");
}

#[tokio::test]
async fn a_flood_of_logins_is_told_to_wait_and_tokens_are_checked_meanwhile() {
    let dear = HashParams { memory_kib: 32 * 1024, passes: 2, lanes: 1 };
    let settings = |settings: &mut IdentityConfig| {
        (settings.hashing, settings.hashing_workers, settings.hashing_queue) = (dear, 1, 2);
        settings.login_limits = LoginLimits::NONE;
    };
    let cloud = Cloud::sqlite().await.restarted(settings).await;
    let token = cloud.demo().await;
    let mut flood = tokio::task::JoinSet::new();
    for guess in 0..30 {
        let auth = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": format!("nobody-{guess}"), "domain": {"id": "default"}, "password": "x"}}}}});
        let request = Request::builder()
            .method("POST")
            .uri("/identity/v3/auth/tokens")
            .body(Body::from(auth.to_string()))
            .unwrap();
        let app = cloud.app.clone();
        flood.spawn(async move { app.oneshot(request).await.unwrap() });
    }
    let mut answered = std::collections::BTreeMap::<u16, usize>::new();
    let mut checked = 0;
    while let Some(answer) = flood.join_next().await {
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(answer.headers().contains_key("retry-after"), status == 429);
        *answered.entry(status).or_default() += 1;
        assert!(cloud.is_good(&token).await);
        checked += 1;
    }
    assert_eq!(answered.keys().copied().collect::<Vec<_>>(), [401, 429], "{answered:?}");
    assert!(answered[&401] >= 3 && checked == 30, "{answered:?}");
}
