//! Users, projects, the catalogue, bootstrap.

use super::*;

on_both!(
    users_are_made_changed_and_deleted,
    wrong_attributes_are_named,
    a_disabled_or_deleted_project_ends_its_tokens,
    projects_are_made_below_each_other_and_listed_for_their_users,
    the_catalogue_can_be_changed,
    bootstrap_again_changes_nothing_that_was_chosen,
    an_idempotency_key_makes_one_user_and_one_answer,
);

async fn users_are_made_changed_and_deleted(cloud: Cloud) {
    let admin = cloud.admin().await;
    let body = json!({"user": {"name": "ann", "password": "one", "email": "ann@example.org",
                               "description": "Ann", "options": {}}});
    let made = cloud.call(&admin, "POST", "/v3/users", body.clone()).await.expect(201);
    let user = &made.body["user"];
    let path = format!("/v3/users/{}", user["id"].as_str().unwrap());
    assert_eq!(user["domain_id"], "default");
    assert_eq!(user["email"], "ann@example.org");
    assert!(user.get("password").is_none() && user.get("password_hash").is_none());
    assert_eq!(user["links"]["self"], format!("http://cloud.example/identity{path}"));
    let twice = cloud.call(&admin, "POST", "/v3/users", body).await.expect(409);
    assert_eq!(twice.body["error"]["title"], "Conflict");

    let token = cloud.login("ann", "one", Value::Null).await.expect(201).token();
    let shown = cloud.get(&token, &path).await.expect(200);
    assert_eq!(shown.body["user"]["name"], "ann");
    cloud.get(&token, "/v3/users").await.expect(403);

    // A new password ends the tokens, also one of the very same moment.
    let change = json!({"user": {"original_password": "one", "password": "two"}});
    let change_path = format!("{path}/password");
    cloud
        .call(
            &token,
            "POST",
            &change_path,
            json!({"user": {"original_password": "x", "password": "y"}}),
        )
        .await
        .expect(401);
    cloud.call(&token, "POST", &change_path, change).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.login("ann", "one", Value::Null).await.expect(401);
    let token = cloud.login("ann", "two", Value::Null).await.expect(201).token();
    assert!(cloud.is_good(&token).await);

    let off = json!({"user": {"enabled": false, "email": null}});
    let shown = cloud.call(&admin, "PATCH", &path, off).await.expect(200);
    assert_eq!(shown.body["user"]["enabled"], false);
    assert!(shown.body["user"].get("email").is_none());
    assert!(!cloud.is_good(&token).await);
    cloud.login("ann", "two", Value::Null).await.expect(401);
    let on = json!({"user": {"enabled": true, "name": "anne"}});
    cloud.call(&admin, "PATCH", &path, on).await.expect(200);
    assert!(!cloud.is_good(&token).await, "enabling brings no old token back");
    let token = cloud.login("anne", "two", Value::Null).await.expect(201).token();
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.get(&admin, &path).await.expect(404);
}

async fn wrong_attributes_are_named(cloud: Cloud) {
    let admin = cloud.admin().await;
    for (path, body, part) in [
        ("/v3/users", json!({"user": {"password": "x"}}), "'name'"),
        ("/v3/users", json!({"user": {"name": ""}}), "'name'"),
        ("/v3/users", json!({"user": {"name": 5}}), "'name'"),
        ("/v3/users", json!({"user": {"name": "a".repeat(256)}}), "'name'"),
        ("/v3/users", json!({"user": {"name": "a", "enabled": "yes"}}), "'enabled'"),
        ("/v3/users", json!({"name": "a"}), "'user'"),
        ("/v3/users", json!([]), "body"),
        ("/v3/projects", json!({"project": {"name": "p", "tags": "x"}}), "'tags'"),
        ("/v3/roles", json!({"role": {"name": "r", "colour": "red"}}), "'colour'"),
        ("/v3/endpoints", json!({"endpoint": {"interface": "public"}}), "'service_id'"),
    ] {
        let answer = cloud.call(&admin, "POST", path, body.clone()).await.expect(400);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(part), "{body}: {message}");
    }
}

async fn a_disabled_or_deleted_project_ends_its_tokens(cloud: Cloud) {
    let admin = cloud.admin().await;
    let project = cloud.made.demo.as_ref().unwrap().1.to_string();
    let path = format!("/v3/projects/{project}");
    let token = cloud.demo().await;
    let off = json!({"project": {"enabled": false}});
    cloud.call(&admin, "PATCH", &path, off).await.expect(200);
    assert!(!cloud.is_good(&token).await);
    // The default project does not work, so the login is unscoped.
    let answer = cloud.login("demo", "demo-secret", Value::Null).await.expect(201);
    assert!(answer.body["token"].get("project").is_none());
    cloud.call(&admin, "PATCH", &path, json!({"project": {"enabled": true}})).await.expect(200);
    assert!(!cloud.is_good(&token).await);
    let token = cloud.demo().await;
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.get(&admin, &path).await.expect(404);
}

async fn projects_are_made_below_each_other_and_listed_for_their_users(cloud: Cloud) {
    let admin = cloud.admin().await;
    let make = |body: Value| cloud.call(&admin, "POST", "/v3/projects", json!({"project": body}));
    let top = make(json!({"name": "top", "description": "d", "tags": ["a"]})).await.expect(201);
    let top = &top.body["project"];
    assert_eq!(top["parent_id"], "default");
    assert_eq!(top["is_domain"], false);
    let top = top["id"].as_str().unwrap().to_owned();
    let sub = make(json!({"name": "sub", "parent_id": top})).await.expect(201);
    let sub = sub.body["project"]["id"].as_str().unwrap().to_owned();
    make(json!({"name": "sub"})).await.expect(409);
    make(json!({"name": "x", "parent_id": "nowhere"})).await.expect(400);
    cloud.call(&admin, "DELETE", &format!("/v3/projects/{top}"), Value::Null).await.expect(403);

    // A role handed down by the upper project counts below it, and not on it.
    let demo_user = &cloud.made.demo.as_ref().unwrap().0;
    let reader = cloud.role(&admin, "reader").await;
    let grant = format!(
        "/v3/OS-INHERIT/projects/{top}/users/{demo_user}/roles/{reader}/inherited_to_projects"
    );
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let token = cloud.demo().await;
    let listed = cloud.get(&token, "/v3/auth/projects").await.expect(200);
    let mut names: Vec<&str> = listed.body["projects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|project| project["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["demo", "sub"]);
    cloud.rescope(&token, json!({"project": {"id": sub}})).await.expect(201);
    cloud.rescope(&token, json!({"project": {"id": top}})).await.expect(401);
    let below = cloud.get(&admin, &format!("/v3/projects?parent_id={top}")).await.expect(200);
    assert_eq!(below.body["projects"].as_array().unwrap().len(), 1);
    let page = cloud.get(&admin, "/v3/projects?limit=2").await.expect(200);
    assert_eq!(page.body["projects"].as_array().unwrap().len(), 2);
    let next = page.body["links"]["next"].as_str().unwrap();
    let next = next.strip_prefix("http://cloud.example/identity").unwrap();
    let rest = cloud.get(&admin, next).await.expect(200);
    assert_eq!(rest.body["projects"].as_array().unwrap().len(), 2);
    assert_eq!(rest.body["links"]["next"], Value::Null);
}

async fn the_catalogue_can_be_changed(cloud: Cloud) {
    let admin = cloud.admin().await;
    let endpoints = cloud.get(&admin, "/v3/endpoints").await.expect(200);
    assert_eq!(endpoints.body["endpoints"].as_array().unwrap().len(), 12);
    let body = json!({"service": {"type": "object-store", "name": "swift"}});
    let service = cloud.call(&admin, "POST", "/v3/services", body).await.expect(201);
    let id = service.body["service"]["id"].as_str().unwrap().to_owned();
    let url = "https://cloud.example/object-store/v1/AUTH_%(project_id)s";
    let body = json!({"endpoint": {"service_id": id, "interface": "public", "url": url,
                                   "region_id": "region-1"}});
    let endpoint = cloud.call(&admin, "POST", "/v3/endpoints", body).await.expect(201);
    let endpoint = endpoint.body["endpoint"]["id"].as_str().unwrap().to_owned();
    let demo = cloud.demo().await;
    let catalog = cloud.get(&demo, "/v3/auth/catalog").await.expect(200).body["catalog"].clone();
    let swift = catalog.as_array().unwrap().iter().find(|s| s["type"] == "object-store").unwrap();
    let project = &cloud.made.demo.as_ref().unwrap().1;
    let wanted = format!("https://cloud.example/object-store/v1/AUTH_{project}");
    assert_eq!(swift["endpoints"][0]["url"], wanted);
    let one = cloud.get(&admin, "/v3/endpoints?interface=public&service_id=nothing").await;
    assert_eq!(one.expect(200).body["endpoints"], json!([]));
    cloud.call(&admin, "DELETE", "/v3/regions/region-1", Value::Null).await.expect(409);
    let path = format!("/v3/endpoints/{endpoint}");
    cloud.call(&admin, "PATCH", &path, json!({"endpoint": {"enabled": false}})).await.expect(200);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &format!("/v3/services/{id}"), Value::Null).await.expect(204);
    cloud.get(&demo, "/v3/endpoints").await.expect(403);
    cloud.get(&demo, "/v3/regions").await.expect(200);
}

async fn bootstrap_again_changes_nothing_that_was_chosen(cloud: Cloud) {
    let admin = cloud.admin().await;
    let before = cloud.get(&admin, "/v3/role_assignments").await.expect(200).body;
    let path = format!("/v3/users/{}", cloud.made.admin_user);
    let body = json!({"user": {"password": "chosen"}});
    cloud.call(&admin, "PATCH", &path, body).await.expect(200);
    let moved = BootstrapConfig { base_url: "https://new.example/".into(), ..config() };
    assert_eq!(bootstrap(&cloud.db, &moved).await.unwrap(), cloud.made);
    cloud.login("admin", "root-secret", Value::Null).await.expect(401);
    let admin = cloud.login("admin", "chosen", Value::Null).await.expect(201).token();
    assert_eq!(cloud.get(&admin, "/v3/role_assignments").await.expect(200).body, before);
    let endpoints = cloud.get(&admin, "/v3/endpoints").await.expect(200).body;
    let endpoints = endpoints["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 12);
    assert!(
        endpoints.iter().all(|e| e["url"].as_str().unwrap().starts_with("https://new.example/"))
    );
}

async fn an_idempotency_key_makes_one_user_and_one_answer(cloud: Cloud) {
    let admin = cloud.admin().await;
    let send = |name: &'static str, key: &'static str| {
        let request = Request::builder()
            .method("POST")
            .uri("/identity/v3/users")
            .header("x-auth-token", &admin)
            .header("idempotency-key", key)
            .body(Body::from(json!({"user": {"name": name}}).to_string()))
            .unwrap();
        cloud.send(request)
    };
    let (one, two) = tokio::join!(send("twin", "k1"), send("twin", "k1"));
    let (one, two) = (one.expect(201), two.expect(201));
    assert_eq!(one.body, two.body);
    let replayed =
        [&one, &two].iter().filter(|a| a.headers.contains_key("idempotent-replayed")).count();
    assert_eq!(replayed, 1);
    send("other", "k1").await.expect(409);
    let taken = send("twin", "k2").await.expect(409);
    let again = send("twin", "k2").await.expect(409);
    assert_eq!(taken.body, again.body);
    assert!(again.headers.contains_key("idempotent-replayed"));
}
