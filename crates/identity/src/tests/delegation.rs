//! Acting with a part of somebody's rights: credentials, EC2 keys, application credentials, trusts.

use super::*;
use crate::token::totp;

on_both!(
    credentials_are_kept_sealed_and_shown_to_their_owner,
    an_access_key_is_found_by_its_digest_and_cannot_be_taken_twice,
    a_code_counts_once_and_its_neighbour_still_counts,
    an_application_credential_acts_in_its_project_and_shows_its_secret_once,
    a_restricted_credential_makes_no_others_and_an_unrestricted_one_does,
    access_rules_travel_in_the_token_and_are_shared_and_kept,
    an_application_credential_ends_in_time_and_gives_only_what_is_still_held,
    a_trust_lends_roles_and_says_so,
    a_trust_is_handed_on_to_its_depth_and_gone_with_the_first,
    uses_of_a_trust_are_counted_once_each_however_many_ask_at_once,
    a_key_made_with_a_credential_opens_no_more_than_it,
    an_expired_token_is_described_to_services_for_a_while,
    the_catalogue_is_for_projects_and_revoked_tokens_are_not_listed,
    sealed_credentials_outlive_a_rotation_of_keys,
);

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Cloud {
    async fn auth(&self, identity: Value, scope: Value) -> Answer {
        let mut auth = json!({"identity": identity});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.call("", "POST", "/v3/auth/tokens", json!({"auth": auth})).await
    }

    /// A user with a password that is their name, as a member of a project.
    async fn member(&self, name: &str, project: &str) -> String {
        let admin = self.admin().await;
        let body = json!({"user": {"name": name, "password": name}});
        let made = self.call(&admin, "POST", "/v3/users", body).await.expect(201);
        let user = text(&made.body["user"]["id"]);
        let role = self.role(&admin, "member").await;
        let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
        self.call(&admin, "PUT", &path, Value::Null).await.expect(204);
        user
    }

    async fn by_credential(&self, made: &Value) -> Answer {
        let identity = json!({"methods": ["application_credential"], "application_credential":
                              {"id": made["id"], "secret": made["secret"]}});
        self.auth(identity, Value::Null).await
    }

    async fn make_credential(&self, token: &str, attributes: Value) -> Answer {
        let user = &self.made.demo.as_ref().unwrap().0;
        let path = format!("/v3/users/{user}/application_credentials");
        let body = json!({"application_credential": attributes});
        self.call(token, "POST", &path, body).await
    }

    /// A token for a request to EC2 that was signed with a key.
    async fn by_key(&self, asker: &str, access: &str, secret: &str) -> Answer {
        use base64::Engine as _;
        let key =
            ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let when = self.clock_text();
        let tag = ring::hmac::sign(&key, format!("x{when}").as_bytes());
        let signature = base64::engine::general_purpose::STANDARD.encode(tag);
        let params = json!({"SignatureVersion": "0", "Action": "x", "Timestamp": when});
        let body = json!({"credentials": {"access": access, "signature": signature,
                                          "params": params}});
        self.call(asker, "POST", "/v3/ec2tokens", body).await
    }

    fn clock_text(&self) -> String {
        self.db.clock().now().rfc3339_micros()
    }
}

async fn credentials_are_kept_sealed_and_shown_to_their_owner(cloud: Cloud) {
    let (demo, admin) = (cloud.demo().await, cloud.admin().await);
    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let body = json!({"credential": {"type": "cert", "blob": "a great secret", "user_id": user,
                                     "note": "mine"}});
    let made = cloud.call(&demo, "POST", "/v3/credentials", body).await.expect(201);
    let made = &made.body["credential"];
    assert_eq!(made["blob"], "a great secret");
    assert_eq!(made["note"], "mine");
    let path = format!("/v3/credentials/{}", text(&made["id"]));
    let rows = cloud
        .db
        .read(|tx| {
            Box::pin(
                async move { tx.query("SELECT blob, extra FROM identity_credentials", &[]).await },
            )
        })
        .await
        .unwrap();
    let stored = rows[0].bytes("blob").unwrap();
    assert!(!stored.windows(5).any(|part| part == b"great"));

    let of_admin = json!({"credential": {"type": "cert", "blob": "x",
                                         "user_id": cloud.made.admin_user}});
    cloud.call(&demo, "POST", "/v3/credentials", of_admin.clone()).await.expect(403);
    cloud.call(&admin, "POST", "/v3/credentials", of_admin).await.expect(201);
    let ids = async |token: &str, query: &str| {
        let listed = cloud.get(token, &format!("/v3/credentials{query}")).await.expect(200);
        listed.body["credentials"].as_array().unwrap().len()
    };
    assert_eq!(ids(&demo, "").await, 1);
    assert_eq!(ids(&admin, "").await, 2);
    assert_eq!(ids(&admin, &format!("?user_id={user}")).await, 1);
    assert_eq!(ids(&admin, "?type=ec2").await, 0);

    cloud.get(&demo, &path).await.expect(200);
    let other = cloud.member("ann", cloud.made.demo.as_ref().unwrap().1.as_str()).await;
    let scope = json!({"project": {"id": cloud.made.demo.as_ref().unwrap().1}});
    let ann = cloud.login("ann", "ann", scope).await.expect(201).token();
    cloud.get(&ann, &path).await.expect(403);
    cloud.get(&ann, "/v3/credentials/unknown").await.expect(403);
    cloud.get(&admin, "/v3/credentials/unknown").await.expect(404);
    let give_away = json!({"credential": {"user_id": other}});
    cloud.call(&demo, "PATCH", &path, give_away).await.expect(403);
    let change = json!({"credential": {"blob": "another"}});
    cloud.call(&demo, "PATCH", &path, change).await.expect(200);
    assert_eq!(cloud.get(&demo, &path).await.body["credential"]["blob"], "another");
    cloud.call(&demo, "DELETE", &path, Value::Null).await.expect(204);
    cloud.get(&admin, &path).await.expect(404);
}

async fn an_access_key_is_found_by_its_digest_and_cannot_be_taken_twice(cloud: Cloud) {
    let (demo, admin) = (cloud.demo().await, cloud.admin().await);
    let (user, project) = cloud.made.demo.clone().unwrap();
    let blob = json!({"access": "my-key", "secret": "s"}).to_string();
    let body = |blob: &str| {
        json!({"credential": {"type": "ec2", "blob": blob, "user_id": user,
                              "project_id": project}})
    };
    let made = cloud.call(&demo, "POST", "/v3/credentials", body(&blob)).await.expect(201);
    let id = text(&made.body["credential"]["id"]);
    assert_eq!(id, crate::credential::model::id_of_access_key("my-key"));
    cloud.call(&demo, "POST", "/v3/credentials", body(&blob)).await.expect(409);
    for bad in ["", "{}", "not json", "[]"] {
        cloud.call(&demo, "POST", "/v3/credentials", body(bad)).await.expect(400);
    }
    let free = json!({"credential": {"type": "ec2", "blob": blob, "user_id": user}});
    cloud.call(&demo, "POST", "/v3/credentials", free).await.expect(400);
    let one = format!("/v3/users/{user}/credentials/OS-EC2/my-key");
    let shown = cloud.get(&demo, &one).await.expect(200);
    assert_eq!(shown.body["credential"]["secret"], "s");
    assert_eq!(shown.body["credential"]["tenant_id"], project.as_str());
    cloud.get(&demo, &format!("/v3/users/{user}/credentials/OS-EC2/none")).await.expect(404);

    // Only services and administrators get tokens for signed requests.
    cloud.by_key(&demo, "my-key", "s").await.expect(403);
    let got = cloud.by_key(&admin, "my-key", "s").await.expect(200);
    assert_eq!(got.body["token"]["methods"], json!(["ec2credential"]));
    assert_eq!(got.body["token"]["project"]["id"], project.as_str());
    assert_eq!(got.body["token"]["user"]["name"], "demo");
    cloud.by_key(&admin, "my-key", "t").await.expect(401);
    cloud.by_key(&admin, "no-key", "s").await.expect(404);
    cloud.call(&demo, "DELETE", &one, Value::Null).await.expect(204);
    cloud.by_key(&admin, "my-key", "s").await.expect(404);
    assert!(!cloud.is_good(&got.token()).await);
    // The same access key again is another credential, whose tokens are good.
    cloud.clock.advance(Duration::from_secs(1));
    cloud.call(&demo, "POST", "/v3/credentials", body(&blob)).await.expect(201);
    let again = cloud.by_key(&admin, "my-key", "s").await.expect(200);
    assert!(cloud.is_good(&again.token()).await);
}

async fn a_code_counts_once_and_its_neighbour_still_counts(cloud: Cloud) {
    let admin = cloud.admin().await;
    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let body = json!({"credential": {"type": "totp", "user_id": user,
                                     "blob": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}});
    cloud.call(&admin, "POST", "/v3/credentials", body).await.expect(201);
    let step = totp::step_of(cloud.db.clock().now());
    let with = async |code: String| {
        let user = json!({"name": "demo", "domain": {"id": "default"}, "passcode": code});
        cloud.auth(json!({"methods": ["totp"], "totp": {"user": user}}), Value::Null).await
    };
    let code = |step: i64| totp::code(b"12345678901234567890", step);
    with(code(step + 1)).await.expect(401);
    with(code(step - 2)).await.expect(401);
    with("000000x".to_owned()).await.expect(401);
    let got = with(code(step - 1)).await.expect(201);
    assert_eq!(got.body["token"]["methods"], json!(["totp"]));
    with(code(step - 1)).await.expect(401);
    let all = futures_of(8, || with(code(step))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 201).count(), 1, "one of them");
    with(code(step - 1)).await.expect(401);
    cloud.clock.advance(Duration::from_secs(30));
    with(code(step + 1)).await.expect(201);
}

/// So many at once.
async fn futures_of<F: Future<Output = Answer>>(
    number: usize,
    make: impl Fn() -> F,
) -> Vec<Answer> {
    let mut running: Vec<_> = (0..number).map(|_| Box::pin(make())).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        running.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(answer) => {
                done.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

async fn an_application_credential_acts_in_its_project_and_shows_its_secret_once(cloud: Cloud) {
    let demo = cloud.demo().await;
    let (user, project) = cloud.made.demo.clone().unwrap();
    let made = cloud.make_credential(&demo, json!({"name": "robot"})).await.expect(201);
    let made = made.body["application_credential"].clone();
    assert_eq!(made["unrestricted"], false);
    assert_eq!(made["project_id"], project.as_str());
    assert_eq!(made["roles"].as_array().unwrap().len(), 2, "member and reader");
    cloud.make_credential(&demo, json!({"name": "robot"})).await.expect(409);
    let one = format!("/v3/users/{user}/application_credentials/{}", text(&made["id"]));
    let shown = cloud.get(&demo, &one).await.expect(200);
    assert!(shown.body["application_credential"].get("secret").is_none());
    let listed = format!("/v3/users/{user}/application_credentials?name=robot");
    let listed = cloud.get(&demo, &listed).await.expect(200);
    assert_eq!(listed.body["application_credentials"].as_array().unwrap().len(), 1);

    let got = cloud.by_credential(&made).await.expect(201);
    let token = &got.body["token"];
    assert_eq!(token["methods"], json!(["application_credential"]));
    assert_eq!(token["project"]["id"], project.as_str());
    assert_eq!(token["application_credential"]["name"], "robot");
    assert_eq!(token["application_credential"]["restricted"], true);
    assert!(got.token().len() < 600);
    let mut wrong = made.clone();
    wrong["secret"] = json!("guess");
    let wrong = cloud.by_credential(&wrong).await.expect(401);
    let mut unknown = made.clone();
    unknown["id"] = json!("00000000000000000000000000000000");
    assert_eq!(cloud.by_credential(&unknown).await.expect(401).body, wrong.body);
    // By its name and user, with a secret that was chosen.
    let chosen = json!({"name": "mine", "secret": "chosen", "description": "d"});
    cloud.make_credential(&demo, chosen).await.expect(201);
    let named = json!({"methods": ["application_credential"], "application_credential": {
        "name": "mine", "secret": "chosen", "user": {"id": user}}});
    cloud.auth(named.clone(), Value::Null).await.expect(201);
    // The scope is the credential's, and stays so.
    cloud.auth(named, json!({"project": {"id": project}})).await.expect(401);
    cloud.rescope(&got.token(), json!({"project": {"id": project}})).await.expect(403);
    let identity = json!({"methods": ["token"], "token": {"id": got.token()}});
    let again = cloud.auth(identity, Value::Null).await.expect(201);
    assert_eq!(again.body["token"]["application_credential"]["id"], made["id"]);
    assert_eq!(again.body["token"]["expires_at"], token["expires_at"]);

    // Another's is another's, whichever user the path names.
    cloud.member("ann", project.as_str()).await;
    let ann = cloud.login("ann", "ann", json!({"project": {"id": project}})).await.expect(201);
    let ann_id = text(&ann.body["token"]["user"]["id"]);
    let ann = ann.token();
    cloud.get(&ann, &one).await.expect(403);
    let crafted = one.replace(user.as_str(), &ann_id);
    cloud.get(&ann, &crafted).await.expect(403);
    cloud.make_credential(&ann, json!({"name": "x"})).await.expect(403);
    cloud.call(&demo, "DELETE", &one, Value::Null).await.expect(204);
    cloud.by_credential(&made).await.expect(401);
    cloud.get(&demo, &one).await.expect(404);
}

async fn a_restricted_credential_makes_no_others_and_an_unrestricted_one_does(cloud: Cloud) {
    let demo = cloud.demo().await;
    let (user, project) = cloud.made.demo.clone().unwrap();
    for (unrestricted, status) in [(false, 403), (true, 201)] {
        let name = format!("robot-{unrestricted}");
        let wanted = json!({"name": name, "unrestricted": unrestricted});
        let made = cloud.make_credential(&demo, wanted).await.expect(201);
        let token = cloud.by_credential(&made.body["application_credential"]).await.expect(201);
        let token = token.token();
        let child = json!({"name": format!("child-{unrestricted}")});
        cloud.make_credential(&token, child).await.expect(status);
        let keys = format!("/v3/users/{user}/credentials/OS-EC2");
        let body = json!({"tenant_id": project});
        cloud.call(&token, "POST", &keys, body).await.expect(status);
        // Whom its user trusts is no matter for a program's credential.
        let trust = json!({"trust": {"trustor_user_id": user, "trustee_user_id": user,
            "project_id": project, "impersonation": false, "roles": [{"name": "member"}]}});
        cloud.call(&token, "POST", "/v3/OS-TRUST/trusts", trust).await.expect(403);
        let trusts = format!("/v3/OS-TRUST/trusts?trustor_user_id={user}");
        cloud.get(&token, &trusts).await.expect(403);
    }
    let unassigned = json!({"name": "x", "roles": [{"name": "admin"}]});
    cloud.make_credential(&demo, unassigned).await.expect(400);
    // One that was given after the token was made counts, but a credential gives no more than it has.
    let admin = cloud.admin().await;
    let own = json!({"name": "before", "unrestricted": true});
    let before = cloud.make_credential(&demo, own).await.expect(201);
    let before = before.body["application_credential"].clone();
    let robot = cloud.by_credential(&before).await.expect(201).token();
    let manager = cloud.role(&admin, "manager").await;
    let grant = format!("/v3/projects/{project}/users/{user}/roles/{manager}");
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let more = |name: &str| json!({"name": name, "roles": [{"id": manager}]});
    cloud.make_credential(&robot, more("climbing")).await.expect(400);
    cloud.make_credential(&demo, more("given")).await.expect(201);
    let some = json!({"name": "reader", "roles": [{"name": "reader"}]});
    let made = cloud.make_credential(&demo, some).await.expect(201);
    assert_eq!(made.body["application_credential"]["roles"].as_array().unwrap().len(), 1);
    for bad in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x", "roles": [{}]}),
        json!({"name": "x", "roles": [{"id": "a", "name": "b"}]}),
        json!({"name": "x", "expires_at": "yesterday"}),
        json!({"name": "x", "expires_at": "2001-01-01T00:00:00Z"}),
        json!({"name": "x", "unrestricted": 7}),
        json!({"name": "x", "surprise": true}),
    ] {
        cloud.make_credential(&demo, bad).await.expect(400);
    }
}

async fn access_rules_travel_in_the_token_and_are_shared_and_kept(cloud: Cloud) {
    let (demo, admin) = (cloud.demo().await, cloud.admin().await);
    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let rule = json!({"service": "identity", "method": "GET", "path": "/v3/auth/projects"});
    let wanted = json!({"name": "a", "access_rules": [rule]});
    let made = cloud.make_credential(&demo, wanted).await.expect(201);
    let made = made.body["application_credential"].clone();
    let rule_id = text(&made["access_rules"][0]["id"]);
    let token = cloud.by_credential(&made).await.expect(201).token();
    cloud.get(&token, "/v3/auth/projects").await.expect(200);
    cloud.get(&token, "/v3/auth/domains").await.expect(401);
    cloud.call(&token, "POST", "/v3/users", json!({})).await.expect(401);
    // Whoever does not say that it checks access rules is not told of such a token.
    cloud.about(&admin, "GET", &token).await.expect(404);
    let request = Request::builder()
        .uri("/identity/v3/auth/tokens")
        .header("x-auth-token", &admin)
        .header("x-subject-token", &token)
        .header("openstack-identity-access-rules", "1.0")
        .body(Body::empty())
        .unwrap();
    let described = cloud.send(request).await.expect(200);
    let shown = &described.body["token"]["application_credential"]["access_rules"];
    assert_eq!(shown[0]["path"], "/v3/auth/projects");
    // A token that is got with it has the same limits.
    let identity = json!({"methods": ["token"], "token": {"id": token}});
    let again = cloud.auth(identity, Value::Null).await.expect(201).token();
    cloud.get(&again, "/v3/auth/domains").await.expect(401);

    let shared = json!({"name": "b", "access_rules": [
        {"id": rule_id},
        {"service": "compute", "method": "GET", "path": "/v2.1/servers/*/ips"}]});
    let second = cloud.make_credential(&demo, shared).await.expect(201);
    let second = second.body["application_credential"].clone();
    let listed = cloud.get(&demo, &format!("/v3/users/{user}/access_rules")).await.expect(200);
    assert_eq!(listed.body["access_rules"].as_array().unwrap().len(), 2);
    let one = format!("/v3/users/{user}/access_rules/{rule_id}");
    cloud.get(&demo, &one).await.expect(200);
    cloud.call(&demo, "DELETE", &one, Value::Null).await.expect(403);
    for credential in [&made, &second] {
        let path = format!("/v3/users/{user}/application_credentials/{}", text(&credential["id"]));
        cloud.call(&demo, "DELETE", &path, Value::Null).await.expect(204);
    }
    cloud.call(&demo, "DELETE", &one, Value::Null).await.expect(204);
    cloud.get(&demo, &one).await.expect(404);
    let long = "/x".repeat(100);
    let many: Vec<Value> = (0..20)
        .map(|n| json!({"service": "compute", "method": "GET", "path": format!("{long}{n}")}))
        .collect();
    let too_many = json!({"name": "c", "access_rules": many});
    let refused = cloud.make_credential(&demo, too_many).await.expect(400);
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("3000"));
}

async fn an_application_credential_ends_in_time_and_gives_only_what_is_still_held(cloud: Cloud) {
    let admin = cloud.admin().await;
    let (user, project) = cloud.made.demo.clone().unwrap();
    let grant = |role: &str| format!("/v3/projects/{project}/users/{user}/roles/{role}");
    let manager = cloud.role(&admin, "manager").await;
    cloud.call(&admin, "PUT", &grant(&manager), Value::Null).await.expect(204);
    let demo = cloud.demo().await;
    let end = cloud.db.clock().now().after(Duration::from_secs(600)).rfc3339_micros();
    let made = cloud.make_credential(&demo, json!({"name": "a", "expires_at": end})).await;
    let made = made.expect(201).body["application_credential"].clone();
    let got = cloud.by_credential(&made).await.expect(201);
    assert_eq!(got.body["token"]["expires_at"], end, "a token ends with its credential");
    assert_eq!(got.body["token"]["roles"].as_array().unwrap().len(), 3);
    cloud.call(&admin, "DELETE", &grant(&manager), Value::Null).await.expect(204);
    assert!(!cloud.is_good(&got.token()).await);
    let less = cloud.by_credential(&made).await.expect(201);
    assert_eq!(less.body["token"]["roles"].as_array().unwrap().len(), 2);
    let member = cloud.role(&admin, "member").await;
    cloud.call(&admin, "DELETE", &grant(&member), Value::Null).await.expect(204);
    cloud.by_credential(&made).await.expect(401);
    cloud.call(&admin, "PUT", &grant(&member), Value::Null).await.expect(204);
    cloud.clock.advance(Duration::from_secs(600));
    cloud.by_credential(&made).await.expect(401);
}

/// Ann, Bob and Carl, members of a project of theirs.
async fn people(cloud: &Cloud) -> (String, [String; 3]) {
    let admin = cloud.admin().await;
    let body = json!({"project": {"name": "ours"}});
    let project = cloud.call(&admin, "POST", "/v3/projects", body).await.expect(201);
    let project = text(&project.body["project"]["id"]);
    let ann = cloud.member("ann", &project).await;
    let bob = cloud.member("bob", &project).await;
    let carl = cloud.member("carl", &project).await;
    (project, [ann, bob, carl])
}

fn trust(from: &str, to: &str, project: &str) -> Value {
    json!({"trustor_user_id": from, "trustee_user_id": to, "project_id": project,
           "impersonation": true, "roles": [{"name": "member"}]})
}

impl Cloud {
    async fn try_trust(&self, token: &str, trust: Value) -> Answer {
        self.call(token, "POST", "/v3/OS-TRUST/trusts", json!({"trust": trust})).await
    }

    async fn by_trust(&self, who: &str, trust: &str) -> Answer {
        self.login(who, who, json!({"OS-TRUST:trust": {"id": trust}})).await
    }
}

async fn a_trust_lends_roles_and_says_so(cloud: Cloud) {
    let (project, [ann, bob, carl]) = people(&cloud).await;
    let scope = json!({"project": {"id": project}});
    let token = cloud.login("ann", "ann", scope.clone()).await.expect(201).token();
    let wanted = trust(&ann, &bob, &project);
    let with = |key: &str, value: Value| {
        let mut changed = wanted.clone();
        changed[key] = value;
        changed
    };
    for (bad, status) in [
        (with("trustor_user_id", json!(carl)), 403),
        (with("trustee_user_id", json!("nobody")), 404),
        (with("roles", json!([])), 403),
        (with("roles", json!([{"name": "admin"}])), 404),
        (with("roles", json!([{"name": "unheard-of"}])), 404),
        (with("expires_at", json!("bad.123Z")), 400),
        (with("expires_at", json!("2001-01-01T00:00:00Z")), 400),
        (with("remaining_uses", json!(0)), 400),
        (with("impersonation", json!("yes")), 400),
        (with("project_id", json!("unheard-of")), 404),
    ] {
        let answer = cloud.try_trust(&token, bad.clone()).await;
        assert_eq!(answer.status, status, "{bad}: {}", answer.body);
    }
    let made = cloud.try_trust(&token, wanted.clone()).await.expect(201);
    let made = made.body["trust"].clone();
    assert_eq!(made["redelegation_count"], 0);
    assert_eq!(made["roles"][0]["name"], "member");
    let id = text(&made["id"]);
    let got = cloud.by_trust("bob", &id).await.expect(201);
    let body = &got.body["token"];
    assert_eq!(body["user"]["name"], "ann");
    assert_eq!(body["OS-TRUST:trust"]["trustee_user"]["id"], bob.as_str());
    assert_eq!(body["OS-TRUST:trust"]["impersonation"], true);
    assert_eq!(body["project"]["id"], project.as_str());
    assert!(got.token().len() < 600);
    cloud.by_trust("carl", &id).await.expect(403);
    cloud.by_trust("bob", "unheard-of").await.expect(401);
    cloud.rescope(&got.token(), scope.clone()).await.expect(403);
    // With what was lent one manages no credentials of the one who lent it.
    let path = format!("/v3/users/{ann}/application_credentials");
    let body = json!({"application_credential": {"name": "x"}});
    cloud.call(&got.token(), "POST", &path, body).await.expect(403);
    let own = cloud.try_trust(&token, with("impersonation", json!(false))).await.expect(201);
    let own = cloud.by_trust("bob", own.body["trust"]["id"].as_str().unwrap()).await.expect(201);
    assert_eq!(own.body["token"]["user"]["name"], "bob");

    let bobs = cloud.login("bob", "bob", scope.clone()).await.expect(201).token();
    let carls = cloud.login("carl", "carl", scope).await.expect(201).token();
    let one = format!("/v3/OS-TRUST/trusts/{id}");
    cloud.get(&bobs, &one).await.expect(200);
    cloud.get(&carls, &one).await.expect(403);
    cloud.get(&carls, "/v3/OS-TRUST/trusts/unheard-of").await.expect(404);
    cloud.get(&carls, "/v3/OS-TRUST/trusts").await.expect(403);
    cloud.get(&carls, &format!("/v3/OS-TRUST/trusts?trustor_user_id={ann}")).await.expect(403);
    let listed = cloud.get(&bobs, &format!("/v3/OS-TRUST/trusts?trustee_user_id={bob}")).await;
    assert_eq!(listed.expect(200).body["trusts"].as_array().unwrap().len(), 2);
    let roles = cloud.get(&bobs, &format!("{one}/roles")).await.expect(200);
    let role = text(&roles.body["roles"][0]["id"]);
    cloud.get(&bobs, &format!("{one}/roles/{role}")).await.expect(200);
    cloud.call(&bobs, "HEAD", &format!("{one}/roles/{role}"), Value::Null).await.expect(200);
    cloud.get(&bobs, &format!("{one}/roles/unheard-of")).await.expect(404);
    cloud.call(&bobs, "DELETE", &one, Value::Null).await.expect(403);
    cloud.call(&token, "DELETE", &one, Value::Null).await.expect(204);
    cloud.get(&token, &one).await.expect(404);
    cloud.by_trust("bob", &id).await.expect(401);
}

async fn a_trust_is_handed_on_to_its_depth_and_gone_with_the_first(cloud: Cloud) {
    let (project, [ann, bob, carl]) = people(&cloud).await;
    let scope = json!({"project": {"id": project}});
    let token = cloud.login("ann", "ann", scope).await.expect(201).token();
    let end = cloud.db.clock().now().after(Duration::from_secs(1200)).rfc3339_micros();
    let mut wanted = trust(&ann, &bob, &project);
    wanted["allow_redelegation"] = json!(true);
    wanted["redelegation_count"] = json!(4);
    cloud.try_trust(&token, wanted.clone()).await.expect(403);
    wanted["redelegation_count"] = json!(1);
    wanted["expires_at"] = json!(end);
    let first = cloud.try_trust(&token, wanted).await.expect(201).body["trust"].clone();
    assert_eq!(first["redelegation_count"], 1);
    let bobs = cloud.by_trust("bob", &text(&first["id"])).await.expect(201);
    assert_eq!(bobs.body["token"]["expires_at"], end, "a token ends with its trust");
    let handed = trust(&ann, &carl, &project);
    let second = cloud.try_trust(&bobs.token(), handed.clone()).await.expect(201);
    let second = second.body["trust"].clone();
    assert_eq!(second["redelegated_trust_id"], first["id"]);
    assert_eq!(second["expires_at"], end);
    assert_eq!(second["redelegation_count"], 0);
    let mut longer = handed.clone();
    longer["expires_at"] = json!("2099-01-01T00:00:00Z");
    cloud.try_trust(&bobs.token(), longer).await.expect(403);
    let carls = cloud.by_trust("carl", &text(&second["id"])).await.expect(201);
    assert_eq!(carls.body["token"]["user"]["name"], "ann");
    cloud.try_trust(&carls.token(), trust(&ann, &bob, &project)).await.expect(403);
    // Whoever stands between them is part of it.
    let admin = cloud.admin().await;
    let path = format!("/v3/users/{bob}");
    let disable = json!({"user": {"enabled": false}});
    cloud.call(&admin, "PATCH", &path, disable).await.expect(200);
    assert!(!cloud.is_good(&carls.token()).await);
    cloud.by_trust("carl", &text(&second["id"])).await.expect(403);
    cloud.call(&admin, "PATCH", &path, json!({"user": {"enabled": true}})).await.expect(200);
    let carls = cloud.by_trust("carl", &text(&second["id"])).await.expect(201);
    let one = format!("/v3/OS-TRUST/trusts/{}", text(&first["id"]));
    cloud.call(&token, "DELETE", &one, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&carls.token()).await);
    cloud.by_trust("carl", &text(&second["id"])).await.expect(401);
    let one = format!("/v3/OS-TRUST/trusts/{}", text(&second["id"]));
    cloud.get(&token, &one).await.expect(404);
    // A user's trusts go with them.
    let token = cloud.login("ann", "ann", json!({"project": {"id": project}})).await.expect(201);
    let made = cloud.try_trust(&token.token(), trust(&ann, &bob, &project)).await.expect(201);
    let id = text(&made.body["trust"]["id"]);
    cloud.call(&admin, "DELETE", &format!("/v3/users/{ann}"), Value::Null).await.expect(204);
    cloud.get(&admin, &format!("/v3/OS-TRUST/trusts/{id}")).await.expect(404);
    cloud.by_trust("bob", &id).await.expect(401);
}

async fn uses_of_a_trust_are_counted_once_each_however_many_ask_at_once(cloud: Cloud) {
    let (project, [ann, bob, _]) = people(&cloud).await;
    let scope = json!({"project": {"id": project}});
    let token = cloud.login("ann", "ann", scope).await.expect(201).token();
    let mut wanted = trust(&ann, &bob, &project);
    wanted["remaining_uses"] = json!(5);
    let made = cloud.try_trust(&token, wanted).await.expect(201).body["trust"].clone();
    let id = text(&made["id"]);
    let one = format!("/v3/OS-TRUST/trusts/{id}");
    // What fails costs nothing.
    cloud.by_trust("carl", &id).await.expect(403);
    assert_eq!(cloud.get(&token, &one).await.body["trust"]["remaining_uses"], 5);
    let all = futures_of(12, || cloud.by_trust("bob", &id)).await;
    let got = all.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(got, 5);
    assert!(all.iter().all(|answer| [201, 401].contains(&answer.status.as_u16())));
    cloud.get(&token, &one).await.expect(404);
    for answer in all.iter().filter(|answer| answer.status == 201) {
        assert!(cloud.is_good(&answer.token()).await);
    }
}

async fn a_key_made_with_a_credential_opens_no_more_than_it(cloud: Cloud) {
    let (demo, admin) = (cloud.demo().await, cloud.admin().await);
    let (user, project) = cloud.made.demo.clone().unwrap();
    let wanted = json!({"name": "a", "unrestricted": true, "roles": [{"name": "reader"}]});
    let made = cloud.make_credential(&demo, wanted).await.expect(201);
    let made = made.body["application_credential"].clone();
    let robot = cloud.by_credential(&made).await.expect(201).token();
    // A reader makes no key in the first place; a credential of any kind may be made by its owner.
    let keys = format!("/v3/users/{user}/credentials/OS-EC2");
    cloud.call(&robot, "POST", &keys, json!({"tenant_id": project})).await.expect(403);
    let blob = json!({"access": "k", "secret": "s", "app_cred_id": "another"}).to_string();
    let key = json!({"credential": {"type": "ec2", "blob": blob, "user_id": user,
                                    "project_id": project}});
    let key = cloud.call(&robot, "POST", "/v3/credentials", key).await.expect(201);
    assert!(text(&key.body["credential"]["blob"]).contains(&text(&made["id"])));
    let got = cloud.by_key(&admin, "k", "s").await.expect(200);
    let roles = got.body["token"]["roles"].as_array().unwrap().clone();
    assert_eq!(roles.len(), 1, "{roles:?}");
    assert_eq!(got.body["token"]["application_credential"]["id"], made["id"]);
    // What is not of its project it neither sees nor makes.
    let mine = json!({"credential": {"type": "totp", "blob": "x", "user_id": user}});
    cloud.call(&robot, "POST", "/v3/credentials", mine.clone()).await.expect(403);
    cloud.call(&demo, "POST", "/v3/credentials", mine).await.expect(201);
    let seen = cloud.get(&robot, "/v3/credentials").await.expect(200);
    assert_eq!(seen.body["credentials"].as_array().unwrap().len(), 1);
    let one = format!("/v3/users/{user}/application_credentials/{}", text(&made["id"]));
    cloud.call(&demo, "DELETE", &one, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&got.token()).await);
    cloud.by_key(&admin, "k", "s").await.expect(401);
}

async fn an_expired_token_is_described_to_services_for_a_while(cloud: Cloud) {
    let (token, other) = (cloud.demo().await, cloud.demo().await);
    let admin = cloud.admin().await;
    cloud.about(&admin, "DELETE", &other).await.expect(204);
    cloud.clock.advance(Duration::from_secs(2 * 3600));
    let (admin, demo) = (cloud.admin().await, cloud.demo().await);
    let ask = async |asker: &str, subject: &str, query: &str| {
        let request = Request::builder()
            .uri(format!("/identity/v3/auth/tokens{query}"))
            .header("x-auth-token", asker)
            .header("x-subject-token", subject)
            .body(Body::empty())
            .unwrap();
        cloud.send(request).await
    };
    ask(&admin, &token, "").await.expect(404);
    let described = ask(&admin, &token, "?allow_expired=1").await.expect(200);
    assert_eq!(described.body["token"]["user"]["name"], "demo");
    ask(&demo, &token, "?allow_expired=1").await.expect(404);
    ask(&admin, &other, "?allow_expired=1").await.expect(404);
    let bare = ask(&admin, &token, "?allow_expired=1&nocatalog").await.expect(200);
    assert!(bare.body["token"].get("catalog").is_none());
    cloud.clock.advance(Duration::from_secs(24 * 3600));
    let admin = cloud.admin().await;
    ask(&admin, &token, "?allow_expired=1").await.expect(404);
}

async fn the_catalogue_is_for_projects_and_revoked_tokens_are_not_listed(cloud: Cloud) {
    let demo = cloud.demo().await;
    let catalog = cloud.get(&demo, "/v3/auth/catalog").await.expect(200);
    assert!(!catalog.body["catalog"].as_array().unwrap().is_empty());
    let system = json!({"system": {"all": true}});
    let system = cloud.login("admin", "root-secret", system).await.expect(201).token();
    cloud.get(&system, "/v3/auth/catalog").await.expect(403);
    let project = json!({"project": {"id": cloud.made.admin_project}});
    cloud.rescope(&system, project).await.expect(403);
    cloud.get(&demo, "/v3/auth/tokens/OS-PKI/revoked").await.expect(403);
    cloud.call(&demo, "HEAD", "/v3/auth/projects", Value::Null).await.expect(200);
}

async fn sealed_credentials_outlive_a_rotation_of_keys(cloud: Cloud) {
    let KeySource::Directory(directory) = cloud.keys.clone() else { unreachable!() };
    let (demo, user) = (cloud.demo().await, cloud.made.demo.as_ref().unwrap().0.to_string());
    let make = async |blob: &str| {
        let body = json!({"credential": {"type": "cert", "blob": blob, "user_id": user}});
        let made = cloud.call(&demo, "POST", "/v3/credentials", body).await.expect(201);
        format!("/v3/credentials/{}", text(&made.body["credential"]["id"]))
    };
    let old = make("old").await;
    let (now, wait) = (cloud.db.clock().now(), Duration::from_secs(60));
    let rotated = crate::rotate_credential_keys(&directory, now, wait).unwrap();
    assert_eq!(rotated.added, 2);
    // Not in use yet: there is nothing to do, and nothing is removed.
    let nothing = crate::reseal(&cloud.db, &directory).await.unwrap();
    assert_eq!(nothing, crate::Resealed::default());
    cloud.clock.advance(Duration::from_secs(121));
    let done = crate::reseal(&cloud.db, &directory).await.unwrap();
    assert_eq!((done.secrets, done.removed), (1, vec![1]));
    let tokens = Tokens::open(&cloud.db, &cloud.keys).await.unwrap();
    let kit = Kit::new(
        cloud.db.clone(),
        Policy::new(&[POLICY]).unwrap(),
        tokens.clone(),
        KitConfig::default(),
    );
    let settings = IdentityConfig { hashing: HashParams::CHEAP, ..IdentityConfig::default() };
    let identity = Identity::new(kit.clone(), tokens, settings);
    let app = App::new(kit, vec![routes(identity.clone())]).unwrap();
    let after = Cloud { app, identity, ..cloud };
    assert_eq!(after.get(&demo, &old).await.expect(200).body["credential"]["blob"], "old");
}
