//! Who has which role where, and who may decide it.

use super::*;

on_both!(
    grants_give_and_taking_them_away_ends_tokens_for_that_scope_only,
    assignments_are_listed_with_names_and_in_effect,
    each_filter_of_assignments_chooses_exactly_what_it_names,
    groups_carry_roles_and_leaving_one_ends_tokens,
    a_domain_manager_runs_that_domain_and_sees_no_other,
    roles_imply_and_deleting_one_takes_it_from_tokens,
);

async fn grants_give_and_taking_them_away_ends_tokens_for_that_scope_only(cloud: Cloud) {
    let admin = cloud.admin().await;
    let (user, demo) = cloud.made.demo.clone().unwrap();
    let body = json!({"project": {"name": "other"}});
    let other = cloud.call(&admin, "POST", "/v3/projects", body).await.expect(201);
    let other = other.body["project"]["id"].as_str().unwrap().to_owned();
    let role = cloud.role(&admin, "manager").await;
    let grant = format!("/v3/projects/{other}/users/{user}/roles/{role}");
    cloud.get(&admin, &grant).await.expect(404);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    cloud.get(&admin, &grant).await.expect(204);
    cloud.call(&admin, "HEAD", &grant, Value::Null).await.expect(204);
    let held = cloud.get(&admin, &format!("/v3/projects/{other}/users/{user}/roles")).await;
    assert_eq!(held.expect(200).body["roles"][0]["name"], "manager");

    let on_demo = cloud.demo().await;
    let answer = cloud.rescope(&on_demo, json!({"project": {"id": other}})).await.expect(201);
    let roles = answer.body["token"]["roles"].as_array().unwrap().len();
    assert_eq!(roles, 3, "manager, member, reader");
    let on_other = answer.token();
    // A member may grant nothing, a manager of a project neither.
    cloud.call(&on_other, "PUT", &grant, Value::Null).await.expect(403);

    cloud.call(&admin, "DELETE", &grant, Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &grant, Value::Null).await.expect(404);
    assert!(!cloud.is_good(&on_other).await);
    assert!(cloud.is_good(&on_demo).await);
    cloud.rescope(&on_demo, json!({"project": {"id": other}})).await.expect(401);
    cloud.rescope(&on_demo, json!({"project": {"id": demo}})).await.expect(201);
    let nobody = format!("/v3/projects/{other}/users/nobody/roles/{role}");
    cloud.call(&admin, "PUT", &nobody, Value::Null).await.expect(404);
}

async fn assignments_are_listed_with_names_and_in_effect(cloud: Cloud) {
    let admin = cloud.admin().await;
    let (user, project) = cloud.made.demo.clone().unwrap();
    let plain = cloud.get(&admin, &format!("/v3/role_assignments?user.id={user}")).await;
    let plain = plain.expect(200).body["role_assignments"].clone();
    assert_eq!(plain.as_array().unwrap().len(), 1);
    assert_eq!(plain[0]["scope"], json!({"project": {"id": project}}));
    let query = format!("/v3/role_assignments?user.id={user}&effective&include_names=True");
    let full = cloud.get(&admin, &query).await.expect(200).body["role_assignments"].clone();
    assert_eq!(full.as_array().unwrap().len(), 2, "{full}");
    assert_eq!(full[0]["user"]["name"], "demo");
    assert_eq!(full[0]["user"]["domain"]["name"], "Default");
    assert_eq!(full[0]["scope"]["project"]["name"], "demo");
    let system = cloud.get(&admin, "/v3/role_assignments?scope.system").await.expect(200);
    let system = &system.body["role_assignments"];
    assert_eq!(system[0]["scope"], json!({"system": {"all": true}}));
    let demo = cloud.demo().await;
    cloud.get(&demo, "/v3/role_assignments").await.expect(403);
}

async fn each_filter_of_assignments_chooses_exactly_what_it_names(cloud: Cloud) {
    let admin = cloud.admin().await;
    let (user, project) = cloud.made.demo.clone().unwrap();
    let body = json!({"group": {"name": "crew"}});
    let group = cloud.call(&admin, "POST", "/v3/groups", body).await.expect(201);
    let group = group.body["group"]["id"].as_str().unwrap().to_owned();
    let role = cloud.role(&admin, "manager").await;
    cloud
        .call(&admin, "PUT", &format!("/v3/groups/{group}/users/{user}"), Value::Null)
        .await
        .expect(204);
    for grant in [
        format!("/v3/projects/{project}/groups/{group}/roles/{role}"),
        format!("/v3/domains/default/users/{user}/roles/{role}"),
        format!("/v3/OS-INHERIT/domains/default/groups/{group}/roles/{role}/inherited_to_projects"),
    ] {
        cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    }
    let list = async |query: &str| {
        let path = format!("/v3/role_assignments{query}");
        let answer = cloud.get(&admin, &path).await.expect(200);
        answer.body["role_assignments"].as_array().unwrap().clone()
    };
    let inherited = "/scope/OS-INHERIT:inherited_to";
    for effective in ["", "&effective"] {
        let all = list(&format!("?x=y{effective}")).await;
        for (filter, value, pointer) in [
            ("user.id", user.to_string(), "/user/id"),
            ("group.id", group.clone(), "/group/id"),
            ("role.id", role.clone(), "/role/id"),
            ("scope.project.id", project.to_string(), "/scope/project/id"),
            ("scope.domain.id", "default".to_owned(), "/scope/domain/id"),
            ("scope.system", String::new(), "/scope/system"),
            ("scope.OS-INHERIT:inherited_to", "projects".to_owned(), inherited),
        ] {
            if !effective.is_empty()
                && ["group.id", "scope.OS-INHERIT:inherited_to"].contains(&filter)
            {
                continue;
            }
            let fits = |row: &&Value| match row.pointer(pointer) {
                Some(found) => found == &json!(value) || filter == "scope.system",
                None => false,
            };
            let wanted: Vec<Value> = all.iter().filter(fits).cloned().collect();
            assert!(
                !wanted.is_empty() && wanted.len() < all.len(),
                "{filter} {effective}: {all:?}"
            );
            let got = list(&format!("?{filter}={value}{effective}")).await;
            assert_eq!(got, wanted, "{filter} {effective}");
        }
    }
}

async fn groups_carry_roles_and_leaving_one_ends_tokens(cloud: Cloud) {
    let admin = cloud.admin().await;
    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let body = json!({"group": {"name": "crew", "description": "c"}});
    let group = cloud.call(&admin, "POST", "/v3/groups", body).await.expect(201);
    let group = group.body["group"]["id"].as_str().unwrap().to_owned();
    let member = format!("/v3/groups/{group}/users/{user}");
    cloud.get(&admin, &member).await.expect(404);
    cloud.call(&admin, "PUT", &member, Value::Null).await.expect(204);
    cloud.get(&admin, &member).await.expect(204);
    let role = cloud.role(&admin, "admin").await;
    let grant = format!("/v3/system/groups/{group}/roles/{role}");
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let system = json!({"system": {"all": true}});
    let token = cloud.login("demo", "demo-secret", system.clone()).await.expect(201).token();
    cloud.get(&token, "/v3/users").await.expect(200);
    cloud.call(&admin, "DELETE", &member, Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token).await);
    cloud.login("demo", "demo-secret", system).await.expect(401);
}

async fn a_domain_manager_runs_that_domain_and_sees_no_other(cloud: Cloud) {
    let admin = cloud.admin().await;
    let body = json!({"domain": {"name": "firm", "description": "f"}});
    let domain = cloud.call(&admin, "POST", "/v3/domains", body).await.expect(201);
    let domain = domain.body["domain"]["id"].as_str().unwrap().to_owned();
    let body = json!({"user": {"name": "boss", "password": "b", "domain_id": domain}});
    let boss = cloud.call(&admin, "POST", "/v3/users", body).await.expect(201);
    let boss = boss.body["user"]["id"].as_str().unwrap().to_owned();
    let manager = cloud.role(&admin, "manager").await;
    let grant = format!("/v3/domains/{domain}/users/{boss}/roles/{manager}");
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let auth = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {"id": boss, "password": "b"}}},
        "scope": {"domain": {"id": domain}}}});
    let token = cloud.call("", "POST", "/v3/auth/tokens", auth).await.expect(201).token();

    let users = cloud.get(&token, "/v3/users").await.expect(200);
    assert_eq!(users.body["users"].as_array().unwrap().len(), 1);
    let others = cloud.get(&token, "/v3/users?domain_id=default").await.expect(200);
    assert_eq!(others.body["users"], json!([]));
    // Who runs one domain names it.
    cloud.call(&token, "POST", "/v3/users", json!({"user": {"name": "x"}})).await.expect(403);
    let body = json!({"user": {"name": "clerk", "domain_id": domain}});
    let clerk = cloud.call(&token, "POST", "/v3/users", body).await.expect(201);
    assert_eq!(clerk.body["user"]["domain_id"], domain.as_str());
    let clerk = clerk.body["user"]["id"].as_str().unwrap().to_owned();
    let body = json!({"user": {"name": "spy", "domain_id": "default"}});
    cloud.call(&token, "POST", "/v3/users", body).await.expect(403);
    let (demo_user, demo_project) = cloud.made.demo.clone().unwrap();
    cloud.get(&token, &format!("/v3/users/{demo_user}")).await.expect(403);
    cloud.get(&token, &format!("/v3/projects/{demo_project}")).await.expect(403);
    let body = json!({"project": {"name": "mill", "domain_id": domain}});
    let mill = cloud.call(&token, "POST", "/v3/projects", body).await.expect(201);
    let mill = mill.body["project"]["id"].as_str().unwrap().to_owned();
    // What a manager has can be handed on, within the domain; admin cannot.
    let give = |project: &str, user: &str, role: &str| {
        let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
        let (cloud, token) = (&cloud, &token);
        async move { cloud.call(token, "PUT", &path, Value::Null).await }
    };
    give(&mill, &clerk, &manager).await.expect(204);
    give(&mill, &clerk, &cloud.role(&admin, "admin").await).await.expect(403);
    give(demo_project.as_str(), &clerk, &manager).await.expect(403);
    give(&mill, demo_user.as_str(), &manager).await.expect(403);
    let seen = cloud.get(&token, "/v3/role_assignments").await.expect(200);
    assert_eq!(seen.body["role_assignments"].as_array().unwrap().len(), 2);
    let domains = cloud.get(&token, "/v3/domains").await.expect(200);
    assert_eq!(domains.body["domains"].as_array().unwrap().len(), 1);

    // Disabling the domain ends all of that.
    let path = format!("/v3/domains/{domain}");
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(403);
    cloud.call(&admin, "PATCH", &path, json!({"domain": {"enabled": false}})).await.expect(200);
    assert!(!cloud.is_good(&token).await);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(409);
    cloud.call(&admin, "DELETE", &format!("/v3/projects/{mill}"), Value::Null).await.expect(204);
    cloud.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    cloud.get(&admin, &format!("/v3/users/{boss}")).await.expect(404);
}

async fn roles_imply_and_deleting_one_takes_it_from_tokens(cloud: Cloud) {
    let admin = cloud.admin().await;
    let body = json!({"role": {"name": "auditor", "description": "looks"}});
    let role = cloud.call(&admin, "POST", "/v3/roles", body).await.expect(201);
    let auditor = role.body["role"]["id"].as_str().unwrap().to_owned();
    let reader = cloud.role(&admin, "reader").await;
    let implies = format!("/v3/roles/{auditor}/implies/{reader}");
    cloud.call(&admin, "PUT", &implies, Value::Null).await.expect(201);
    cloud.get(&admin, &implies).await.expect(200);
    let back = format!("/v3/roles/{reader}/implies/{auditor}");
    cloud.call(&admin, "PUT", &back, Value::Null).await.expect(403);
    let list = cloud.get(&admin, &format!("/v3/roles/{auditor}/implies")).await.expect(200);
    assert_eq!(list.body["role_inference"]["implies"][0]["name"], "reader");
    let all = cloud.get(&admin, "/v3/role_inferences").await.expect(200);
    assert_eq!(all.body["role_inferences"].as_array().unwrap().len(), 4);

    let user = cloud.made.demo.as_ref().unwrap().0.to_string();
    let grant = format!("/v3/projects/{}/users/{user}/roles/{auditor}", cloud.made.admin_project);
    cloud.call(&admin, "PUT", &grant, Value::Null).await.expect(204);
    let scope = json!({"project": {"id": cloud.made.admin_project}});
    let token = cloud.login("demo", "demo-secret", scope).await.expect(201);
    assert_eq!(token.body["token"]["roles"].as_array().unwrap().len(), 2);
    cloud.call(&admin, "DELETE", &format!("/v3/roles/{auditor}"), Value::Null).await.expect(204);
    assert!(!cloud.is_good(&token.token()).await);
}
