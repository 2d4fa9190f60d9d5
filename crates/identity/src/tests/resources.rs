//! What a cloud keeps besides people and projects: trees, tags, roles of domains, limits, policies,
//! endpoint filters, configurations of domains, and programs that act for people.

use super::*;

on_both!(
    a_tree_of_projects_is_shown_switched_and_deleted_as_one,
    a_domain_is_seen_as_the_project_at_the_root,
    tags_choose_projects,
    what_is_immutable_stays_until_it_is_mutable,
    a_role_of_a_domain_stands_in_no_token_and_lends_what_it_implies,
    limits_have_a_default_to_differ_from,
    a_catalogue_shows_what_a_project_was_given,
    an_endpoint_follows_the_nearest_policy,
    a_domains_secrets_are_written_and_never_read,
    a_program_acts_for_a_person_until_it_may_not,
);

impl Cloud {
    async fn id_of(&self, token: &str, path: &str, root: &str, body: Value) -> String {
        let made = self.call(token, "POST", path, json!({root: body})).await.expect(201);
        made.body[root]["id"].as_str().unwrap().to_owned()
    }
}

async fn a_tree_of_projects_is_shown_switched_and_deleted_as_one(cloud: Cloud) {
    let admin = cloud.admin().await;
    let mut ids: Vec<String> = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let mut body = json!({"name": name});
        if let Some(parent) = ids.last() {
            body["parent_id"] = json!(parent);
        }
        ids.push(cloud.id_of(&admin, "/v3/projects", "project", body).await);
    }
    let too_deep = json!({"project": {"name": "f", "parent_id": ids[4]}});
    cloud.call(&admin, "POST", "/v3/projects", too_deep).await.expect(403);
    let path = |at: usize| format!("/v3/projects/{}", ids[at]);
    let shown = cloud.get(&admin, &format!("{}?parents_as_ids&subtree_as_ids", path(2))).await;
    let shown = &shown.expect(200).body["project"];
    let (a, b, d, e) = (&ids[0], &ids[1], &ids[3], &ids[4]);
    assert_eq!(shown["parents"], json!({b: {a: {"default": null}}}));
    assert_eq!(shown["subtree"], json!({d: {e: null}}));
    cloud.get(&admin, &format!("{}?parents_as_ids&parents_as_list", path(2))).await.expect(400);
    // Lists show what is the caller's own.
    let listed = cloud.get(&admin, &format!("{}?subtree_as_list", path(0))).await.expect(200);
    assert_eq!(listed.body["project"]["subtree"], json!([]));
    let reader = cloud.role(&admin, "reader").await;
    let grant = format!("{}/users/{}/roles/{reader}", path(3), cloud.made.admin_user);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let listed = cloud.get(&admin, &format!("{}?subtree_as_list", path(0))).await.expect(200);
    assert_eq!(listed.body["project"]["subtree"][0]["project"]["id"], json!(d));

    let off = json!({"project": {"enabled": false}});
    cloud.call(&admin, "PATCH", &path(2), off.clone()).await.expect(403);
    cloud.call(&admin, "DELETE", &format!("{}/cascade", path(0)), Value::Null).await.expect(403);
    let tree = format!("{}/cascade", path(2));
    let named = json!({"project": {"enabled": false, "name": "x"}});
    cloud.call(&admin, "PATCH", &tree, named).await.expect(400);
    cloud.call(&admin, "PATCH", &tree, off).await.expect(200);
    let below = cloud.get(&admin, &path(4)).await.expect(200);
    assert_eq!(below.body["project"]["enabled"], false);
    let on = json!({"project": {"enabled": true}});
    cloud.call(&admin, "PATCH", &path(4), on).await.expect(403);
    cloud.call(&admin, "DELETE", &tree, Value::Null).await.expect(204);
    cloud.get(&admin, &path(4)).await.expect(404);
    cloud.get(&admin, &path(1)).await.expect(200);
}

async fn a_domain_is_seen_as_the_project_at_the_root(cloud: Cloud) {
    let admin = cloud.admin().await;
    let body = json!({"name": "firm", "is_domain": true, "domain_id": null});
    let id = cloud.id_of(&admin, "/v3/projects", "project", body).await;
    let domain = cloud.get(&admin, &format!("/v3/domains/{id}")).await.expect(200);
    assert_eq!(domain.body["domain"]["name"], "firm");
    let path = format!("/v3/projects/{id}");
    let project = cloud.get(&admin, &path).await.expect(200).body["project"].clone();
    assert_eq!((&project["is_domain"], &project["domain_id"]), (&json!(true), &Value::Null));
    let roots = cloud.get(&admin, "/v3/projects?is_domain=true").await.expect(200);
    assert_eq!(roots.body["projects"].as_array().unwrap().len(), 2);
    let named = json!({"project": {"name": "firm2"}});
    cloud.call(&admin, "PATCH", &path, named).await.expect(200);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(403);
    let off = json!({"project": {"enabled": false}});
    cloud.call(&admin, "PATCH", &path, off).await.expect(200);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    cloud.get(&admin, &format!("/v3/domains/{id}")).await.expect(404);
    let below = json!({"project": {"name": "x", "is_domain": true, "parent_id": "default"}});
    cloud.call(&admin, "POST", "/v3/projects", below).await.expect(400);
}

async fn tags_choose_projects(cloud: Cloud) {
    let admin = cloud.admin().await;
    for (name, tags) in
        [("one", json!(["a", "b"])), ("two", json!(["b"])), ("three", json!(["a_"]))]
    {
        cloud.id_of(&admin, "/v3/projects", "project", json!({"name": name, "tags": tags})).await;
    }
    for (query, expected) in [
        ("tags=a,b", vec!["one"]),
        ("tags=b", vec!["one", "two"]),
        ("tags=a", vec!["one"]),
        ("tags-any=a,b", vec!["one", "two"]),
        ("tags-any=a_", vec!["three"]),
        ("not-tags=a,b", vec!["admin", "demo", "three", "two"]),
        ("not-tags-any=a,b", vec!["admin", "demo", "three"]),
        ("name__contains=o&tags=b", vec!["one", "two"]),
        ("name__istartswith=T", vec!["three", "two"]),
    ] {
        let found = cloud.get(&admin, &format!("/v3/projects?{query}")).await.expect(200);
        let mut names: Vec<&str> = found.body["projects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|project| project["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{query}");
    }
    let demo = &cloud.made.demo.as_ref().unwrap().1;
    let path = format!("/v3/projects/{demo}/tags");
    cloud.call(&admin, "PUT", &format!("{path}/blue"), Value::Null).await.expect(201);
    cloud.get(&admin, &format!("{path}/blue")).await.expect(204);
    cloud.get(&admin, &format!("{path}/red")).await.expect(404);
    cloud.call(&admin, "PUT", &path, json!({"tags": ["x", "y"]})).await.expect(200);
    cloud.call(&admin, "PUT", &path, json!({"tags": ["x", "x"]})).await.expect(400);
    cloud.call(&admin, "DELETE", &format!("{path}/x"), Value::Null).await.expect(204);
    assert_eq!(cloud.get(&admin, &path).await.expect(200).body["tags"], json!(["y"]));
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    let member = cloud.demo().await;
    assert_eq!(cloud.get(&member, &path).await.expect(200).body["tags"], json!([]));
    cloud.call(&member, "PUT", &format!("{path}/z"), Value::Null).await.expect(403);
}

async fn what_is_immutable_stays_until_it_is_mutable(cloud: Cloud) {
    let admin = cloud.admin().await;
    for (collection, kind) in [("projects", "project"), ("roles", "role"), ("domains", "domain")] {
        let body = json!({"name": "rock", "options": {"immutable": true}});
        let id = cloud.id_of(&admin, &format!("/v3/{collection}"), kind, body).await;
        let path = format!("/v3/{collection}/{id}");
        let change = |body: Value| cloud.call(&admin, "PATCH", &path, json!({kind: body}));
        change(json!({"name": "sand"})).await.expect(403);
        change(json!({"options": {"colour": true}})).await.expect(400);
        change(json!({"enabled": false, "options": {"immutable": true}}))
            .await
            .expect(if kind == "role" { 400 } else { 403 });
        cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(403);
        change(json!({"options": {"immutable": null}})).await.expect(200);
        if kind == "domain" {
            change(json!({"enabled": false})).await.expect(200);
        }
        cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    }
}

async fn a_role_of_a_domain_stands_in_no_token_and_lends_what_it_implies(cloud: Cloud) {
    let admin = cloud.admin().await;
    let firm = cloud.id_of(&admin, "/v3/domains", "domain", json!({"name": "firm"})).await;
    // Its name is that of the cloud's most powerful role.
    let body = json!({"name": "admin", "domain_id": firm});
    let own = cloud.id_of(&admin, "/v3/roles", "role", body.clone()).await;
    cloud.call(&admin, "POST", "/v3/roles", json!({"role": body})).await.expect(409);
    let of_cloud = cloud.get(&admin, "/v3/roles?name=admin").await.expect(200);
    assert_eq!(of_cloud.body["roles"].as_array().unwrap().len(), 1);
    let of_firm = cloud.get(&admin, &format!("/v3/roles?domain_id={firm}")).await.expect(200);
    assert_eq!(of_firm.body["roles"][0]["id"], json!(own));
    let reader = cloud.role(&admin, "reader").await;
    let implies = |prior: &str, implied: &str| format!("/v3/roles/{prior}/implies/{implied}");
    cloud.call(&admin, "PUT", &implies(&own, &reader), Value::Null).await.expect(201);
    cloud.call(&admin, "HEAD", &implies(&own, &reader), Value::Null).await.expect(204);
    cloud.call(&admin, "PUT", &implies(&reader, &own), Value::Null).await.expect(403);
    let top = cloud.role(&admin, "admin").await;
    cloud.call(&admin, "PUT", &implies(&own, &top), Value::Null).await.expect(403);

    let body = json!({"name": "mill", "domain_id": firm});
    let mill = cloud.id_of(&admin, "/v3/projects", "project", body).await;
    let body = json!({"name": "ann", "domain_id": firm, "password": "p"});
    let ann = cloud.id_of(&admin, "/v3/users", "user", body).await;
    let (_, demo) = cloud.made.demo.clone().unwrap();
    let elsewhere = format!("/v3/projects/{demo}/users/{ann}/roles/{own}");
    cloud.call(&admin, "PUT", &elsewhere, Value::Null).await.expect(403);
    let system = format!("/v3/system/users/{ann}/roles/{own}");
    cloud.call(&admin, "PUT", &system, Value::Null).await.expect(400);
    let grant = format!("/v3/projects/{mill}/users/{ann}/roles/{own}");
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let auth = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"id": ann, "password": "p"}}},
        "scope": {"project": {"id": mill}}}});
    let token = cloud.call("", "POST", "/v3/auth/tokens", auth).await.expect(201);
    let roles = token.body["token"]["roles"].as_array().unwrap().clone();
    assert_eq!(roles.len(), 1, "{roles:?}");
    assert_eq!(roles[0]["name"], "reader");
    cloud.get(&token.token(), "/v3/users").await.expect(403);
    let query = format!("/v3/role_assignments?user.id={ann}&effective");
    let listed = cloud.get(&admin, &query).await.expect(200);
    assert_eq!(listed.body["role_assignments"][0]["role"]["id"], json!(reader));
    let query =
        format!("/v3/role_assignments?scope.project.id={mill}&include_subtree&include_names");
    let listed = cloud.get(&admin, &query).await.expect(200);
    assert_eq!(listed.body["role_assignments"][0]["role"]["domain"]["name"], "firm");
}

async fn limits_have_a_default_to_differ_from(cloud: Cloud) {
    let admin = cloud.admin().await;
    let services = cloud.get(&admin, "/v3/services").await.expect(200);
    let service = services.body["services"][0]["id"].as_str().unwrap().to_owned();
    let demo = cloud.made.demo.as_ref().unwrap().1.to_string();
    let wanted = json!({"limits": [{"service_id": service, "resource_name": "cores",
                                    "project_id": demo, "resource_limit": 7}]});
    cloud.call(&admin, "POST", "/v3/limits", wanted.clone()).await.expect(400);
    let registered = json!({"registered_limits": [
        {"service_id": service, "resource_name": "cores", "default_limit": 5}]});
    let path = "/v3/registered_limits";
    let made = cloud.call(&admin, "POST", path, registered.clone()).await.expect(201);
    let registered_id = made.body["registered_limits"][0]["id"].as_str().unwrap().to_owned();
    cloud.call(&admin, "POST", path, registered).await.expect(409);
    let made = cloud.call(&admin, "POST", "/v3/limits", wanted.clone()).await.expect(201);
    let limit = made.body["limits"][0]["id"].as_str().unwrap().to_owned();
    cloud.call(&admin, "POST", "/v3/limits", wanted).await.expect(409);
    let one = format!("/v3/limits/{limit}");
    let member = cloud.demo().await;
    assert_eq!(cloud.get(&member, &one).await.expect(200).body["limit"]["resource_limit"], 7);
    let seen = cloud.get(&member, "/v3/limits").await.expect(200);
    assert_eq!(seen.body["limits"].as_array().unwrap().len(), 1);
    cloud.get(&member, "/v3/registered_limits").await.expect(200);
    assert_eq!(
        cloud.get(&member, "/v3/limits/model").await.expect(200).body["model"]["name"],
        "flat"
    );
    let change = json!({"limit": {"resource_limit": -2}});
    cloud.call(&admin, "PATCH", &one, change).await.expect(400);
    let change = json!({"limit": {"resource_limit": -1, "description": "all"}});
    cloud.call(&member, "PATCH", &one, change.clone()).await.expect(403);
    cloud.call(&admin, "PATCH", &one, change).await.expect(200);
    let registered = format!("/v3/registered_limits/{registered_id}");
    cloud.call(&admin, "DELETE", &registered, Value::Null).await.expect(403);
    cloud.call(&admin, "DELETE", &format!("/v3/services/{service}"), Value::Null).await.expect(409);
    // The limit goes with its project.
    cloud.call(&admin, "DELETE", &format!("/v3/projects/{demo}"), Value::Null).await.expect(204);
    cloud.get(&admin, &one).await.expect(404);
    cloud.call(&admin, "DELETE", &registered, Value::Null).await.expect(204);
}

async fn a_catalogue_shows_what_a_project_was_given(cloud: Cloud) {
    let admin = cloud.admin().await;
    let (_, demo) = cloud.made.demo.clone().unwrap();
    let endpoints = cloud.get(&admin, "/v3/endpoints?interface=public").await.expect(200);
    let one = endpoints.body["endpoints"][0].clone();
    let (id, service) = (one["id"].as_str().unwrap(), one["service_id"].as_str().unwrap());
    let given = format!("/v3/OS-EP-FILTER/projects/{demo}/endpoints/{id}");
    cloud.get(&admin, &given).await.expect(404);
    cloud.call(&admin, "PUT", &given, Value::Null).await.expect(204);
    cloud.get(&admin, &given).await.expect(204);
    let count = async || {
        let token = cloud.demo().await;
        let catalog = cloud.get(&token, "/v3/auth/catalog").await.expect(200);
        let services = catalog.body["catalog"].as_array().unwrap().clone();
        services.iter().map(|it| it["endpoints"].as_array().unwrap().len()).sum::<usize>()
    };
    assert_eq!(count().await, 1);
    let group = json!({"name": "g", "filters": {"service_id": service, "interface": "admin"}});
    let group =
        cloud.id_of(&admin, "/v3/OS-EP-FILTER/endpoint_groups", "endpoint_group", group).await;
    let of_group = format!("/v3/OS-EP-FILTER/endpoint_groups/{group}");
    let in_project = format!("{of_group}/projects/{demo}");
    cloud.call(&admin, "PUT", &in_project, Value::Null).await.expect(204);
    cloud.get(&admin, &in_project).await.expect(200);
    assert_eq!(count().await, 2);
    let found = cloud.get(&admin, &format!("{of_group}/endpoints")).await.expect(200);
    assert_eq!(found.body["endpoints"].as_array().unwrap().len(), 1);
    let found = cloud.get(&admin, &format!("{of_group}/projects")).await.expect(200);
    assert_eq!(found.body["projects"][0]["id"], json!(demo));
    let bad = json!({"endpoint_group": {"filters": {"colour": "red"}}});
    cloud.call(&admin, "PATCH", &of_group, bad).await.expect(400);
    cloud.call(&admin, "DELETE", &of_group, Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &given, Value::Null).await.expect(204);
    assert_eq!(count().await, 12);
}

async fn an_endpoint_follows_the_nearest_policy(cloud: Cloud) {
    let admin = cloud.admin().await;
    let endpoints = cloud.get(&admin, "/v3/endpoints").await.expect(200);
    let one = endpoints.body["endpoints"][0].clone();
    let (id, service) = (one["id"].as_str().unwrap(), one["service_id"].as_str().unwrap());
    let mut policies = Vec::new();
    for blob in ["service", "region", "endpoint"] {
        let body = json!({"type": "application/json", "blob": blob});
        policies.push(cloud.id_of(&admin, "/v3/policies", "policy", body).await);
    }
    let follows = format!("/v3/endpoints/{id}/OS-ENDPOINT-POLICY/policy");
    cloud.get(&admin, &follows).await.expect(404);
    let base = |at: usize| format!("/v3/policies/{}/OS-ENDPOINT-POLICY", policies[at]);
    for (at, path) in [
        (0, format!("{}/services/{service}", base(0))),
        (1, format!("{}/services/{service}/regions/region-1", base(1))),
        (2, format!("{}/endpoints/{id}", base(2))),
    ] {
        cloud.call(&admin, "PUT", &path, Value::Null).await.expect(204);
        cloud.get(&admin, &path).await.expect(204);
        let policy = cloud.get(&admin, &follows).await.expect(200);
        assert_eq!(policy.body["policy"]["id"], json!(policies[at]));
    }
    let listed = cloud.get(&admin, &format!("{}/endpoints", base(1))).await.expect(200);
    assert_eq!(listed.body["endpoints"].as_array().unwrap().len(), 3);
    let path = format!("/v3/policies/{}", policies[2]);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    let policy = cloud.get(&admin, &follows).await.expect(200);
    assert_eq!(policy.body["policy"]["blob"], "region");
}

async fn a_domains_secrets_are_written_and_never_read(cloud: Cloud) {
    let admin = cloud.admin().await;
    let firm = cloud.id_of(&admin, "/v3/domains", "domain", json!({"name": "firm"})).await;
    let path = format!("/v3/domains/{firm}/config");
    cloud.get(&admin, &path).await.expect(404);
    let config = json!({"config": {"identity": {"driver": "ldap"},
                                   "ldap": {"url": "ldap://x", "password": "hush-hush"}}});
    let made = cloud.call(&admin, "PUT", &path, config.clone()).await.expect(201);
    assert!(!made.body.to_string().contains("hush"), "{}", made.body);
    cloud.call(&admin, "PUT", &path, config).await.expect(200);
    let shown = cloud.get(&admin, &path).await.expect(200);
    let expected = json!({"identity": {"driver": "ldap"}, "ldap": {"url": "ldap://x"}});
    assert_eq!(shown.body["config"], expected);
    cloud.get(&admin, &format!("{path}/ldap/password")).await.expect(404);
    let change = json!({"config": {"url": "ldap://y"}});
    cloud.call(&admin, "PATCH", &format!("{path}/ldap/url"), change).await.expect(200);
    let shown = cloud.get(&admin, &format!("{path}/ldap/url")).await.expect(200);
    assert_eq!(shown.body["config"], json!({"url": "ldap://y"}));
    let wrong = json!({"config": {"ldap": {"colour": "red"}}});
    cloud.call(&admin, "PATCH", &path, wrong).await.expect(403);
    cloud.call(&admin, "DELETE", &format!("{path}/ldap"), Value::Null).await.expect(204);
    cloud.get(&admin, &format!("{path}/ldap")).await.expect(404);
    let default = cloud.get(&admin, "/v3/domains/config/ldap/url/default").await.expect(200);
    assert_eq!(default.body["config"], json!({"url": "ldap://localhost"}));
    let member = cloud.demo().await;
    cloud.get(&member, &path).await.expect(403);
    cloud.get(&member, "/v3/domains/default/config/security_compliance").await.expect(200);
    let journal = cloud
        .db
        .read(|tx| {
            Box::pin(async move {
                let rows = tx
                    .query("SELECT after_json FROM journal WHERE after_json IS NOT NULL", &[])
                    .await?;
                rows.iter().map(|row| row.text("after_json")).collect::<Result<Vec<_>, _>>()
            })
        })
        .await;
    let journal: Vec<String> = journal.map_err(|error: database::DatabaseError| error).unwrap();
    assert!(journal.iter().any(|text| text.contains("ldap://x")));
    assert!(!journal.iter().any(|text| text.contains("hush")));
}

/// A request of OAuth 1.0a, signed.
pub(super) fn signed(
    path: &str,
    consumer: &str,
    secret: &str,
    token: Option<(&str, &str)>,
    more: &[(&str, &str)],
) -> Request<Body> {
    use base64::Engine as _;
    let mut pairs = vec![
        ("oauth_consumer_key", consumer),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_timestamp", "1700000000"),
        ("oauth_nonce", "n"),
        ("oauth_version", "1.0"),
    ];
    pairs.extend(token.map(|(id, _)| ("oauth_token", id)));
    pairs.extend_from_slice(more);
    pairs.sort_unstable();
    let encode = service_kit::percent_encode;
    let text: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let url = format!("http://cloud.example/identity{path}");
    let base = format!("POST&{}&{}", encode(&url), encode(&text.join("&")));
    let key = format!("{secret}&{}", token.map_or("", |(_, secret)| secret));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
    let signature = ring::hmac::sign(&key, base.as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(signature.as_ref());
    pairs.push(("oauth_signature", &signature));
    let header: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", encode(value))).collect();
    Request::builder()
        .method("POST")
        .uri(format!("/identity{path}"))
        .header("host", "cloud.example")
        .header("authorization", format!("OAuth {}", header.join(", ")))
        .body(Body::empty())
        .unwrap()
}

/// The token and its secret of an answer in the form of RFC 5849.
pub(super) async fn pair(
    cloud: &Cloud,
    request: Request<Body>,
) -> Result<(String, String), StatusCode> {
    let response = cloud.app.clone().oneshot(request).await.unwrap();
    if response.status() != 201 {
        return Err(response.status());
    }
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let value = |name: &str| {
        let found = text.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")));
        found.unwrap().to_owned()
    };
    Ok((value("oauth_token"), value("oauth_token_secret")))
}

async fn a_program_acts_for_a_person_until_it_may_not(cloud: Cloud) {
    let admin = cloud.admin().await;
    let body = json!({"consumer": {"description": "a program"}});
    let made = cloud.call(&admin, "POST", "/v3/OS-OAUTH1/consumers", body).await.expect(201);
    let id = made.body["consumer"]["id"].as_str().unwrap().to_owned();
    let secret = made.body["consumer"]["secret"].as_str().unwrap().to_owned();
    let secret_of_consumer = secret.clone();
    let shown = cloud.get(&admin, &format!("/v3/OS-OAUTH1/consumers/{id}")).await.expect(200);
    assert!(shown.body["consumer"].get("secret").is_none());

    let project = cloud.made.admin_project.to_string();
    let ask = |secret: &str| {
        let path = "/v3/OS-OAUTH1/request_token";
        let mut request = signed(path, &id, secret, None, &[("oauth_callback", "oob")]);
        request.headers_mut().insert("requested-project-id", project.parse().unwrap());
        request
    };
    assert_eq!(pair(&cloud, ask("wrong")).await.unwrap_err(), 401);
    let (request, request_secret) = pair(&cloud, ask(&secret)).await.unwrap();
    let token = (request.as_str(), request_secret.as_str());
    let exchange = |verifier: &str| {
        let more = [("oauth_verifier", verifier)];
        signed("/v3/OS-OAUTH1/access_token", &id, &secret, Some(token), &more)
    };
    assert_eq!(pair(&cloud, exchange("abcdefgh")).await.unwrap_err(), 401, "nobody has said yes");
    let authorise = format!("/v3/OS-OAUTH1/authorize/{request}");
    let unknown = json!({"roles": [{"name": "service"}]});
    cloud.call(&admin, "PUT", &authorise, unknown).await.expect(401);
    let roles = json!({"roles": [{"name": "member"}]});
    let answer = cloud.call(&admin, "PUT", &authorise, roles).await.expect(200);
    let verifier = answer.body["token"]["oauth_verifier"].as_str().unwrap().to_owned();
    assert_eq!(pair(&cloud, exchange("abcdefgh")).await.unwrap_err(), 401);
    let (access, access_secret) = pair(&cloud, exchange(&verifier)).await.unwrap();
    assert_eq!(pair(&cloud, exchange(&verifier)).await.unwrap_err(), 404, "it is used once");

    let user = cloud.made.admin_user.to_string();
    let list = format!("/v3/users/{user}/OS-OAUTH1/access_tokens");
    let one = format!("{list}/{access}");
    let shown = cloud.get(&admin, &one).await.expect(200);
    assert_eq!(shown.body["access_token"]["project_id"], json!(project));
    assert_eq!(shown.body["access_token"]["consumer_id"], json!(id));
    let roles = cloud.get(&admin, &format!("{one}/roles")).await.expect(200);
    assert_eq!(roles.body["roles"][0]["name"], "member");
    let other = cloud.made.demo.as_ref().unwrap().0.to_string();
    cloud.get(&admin, &one.replace(&user, &other)).await.expect(404);

    // What the program was let do, and no more.
    let login = |secret: &str, scope: Value| {
        let pair = Some((access.as_str(), secret));
        let mut request = signed("/v3/auth/tokens", &id, &secret_of_consumer, pair, &[]);
        let mut auth = json!({"identity": {"methods": ["oauth1"], "oauth1": {}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        let json = "application/json".parse().unwrap();
        request.headers_mut().insert("content-type", json);
        *request.body_mut() = Body::from(json!({"auth": auth}).to_string());
        request
    };
    cloud.send(login("another", Value::Null)).await.expect(401);
    let system = json!({"system": {"all": true}});
    cloud.send(login(&access_secret, system.clone())).await.expect(401);
    let elsewhere = json!({"project": {"id": cloud.made.demo.as_ref().unwrap().1}});
    cloud.send(login(&access_secret, elsewhere)).await.expect(401);
    let here = json!({"project": {"id": project}});
    cloud.send(login(&access_secret, here)).await.expect(201);
    let answer = cloud.send(login(&access_secret, Value::Null)).await.expect(201);
    let token = &answer.body["token"];
    assert_eq!((&token["methods"], &token["user"]["id"]), (&json!(["oauth1"]), &json!(user)));
    assert_eq!(token["project"]["id"], json!(project));
    let names: Vec<&Value> =
        token["roles"].as_array().unwrap().iter().map(|role| &role["name"]).collect();
    assert_eq!(names, ["member", "reader"]);
    let of = json!({"access_token_id": access, "consumer_id": id});
    assert_eq!(token["OS-OAUTH1"], of);
    let acting = answer.token();
    cloud.rescope(&acting, system).await.expect(403);
    assert!(cloud.is_good(&acting).await);
    cloud.call(&admin, "DELETE", &one, Value::Null).await.expect(204);
    cloud.get(&admin, &one).await.expect(404);
    assert!(!cloud.is_good(&acting).await, "what it rests on is gone");
    cloud.send(login(&access_secret, Value::Null)).await.expect(401);
    let listed = cloud.get(&admin, &list).await.expect(200);
    assert_eq!(listed.body["access_tokens"], json!([]));
}
