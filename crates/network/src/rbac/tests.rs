//! Sharing through the API: who sees what, who may share it, and when it cannot be taken back.

use serde_json::{Value, json};

use crate::test_support::{Cloud, id, on_both};

const POLICIES: &str = "/v2.0/rbac-policies";

fn policy(kind: &str, object: &str, target: &str) -> Value {
    json!({"object_type": kind, "object_id": object, "action": "access_as_shared",
           "target_tenant": target})
}

/// One object of each kind that can be shared, of alice: its type, its path, its id.
async fn one_of_each(cloud: &Cloud) -> Vec<(&'static str, String, String)> {
    let mut made = Vec::new();
    for (kind, path, body) in [
        ("network", "networks", json!({"name": "n"})),
        ("security_group", "security-groups", json!({"name": "g"})),
        ("address_group", "address-groups", json!({"name": "a", "addresses": ["10.0.0.0/8"]})),
        ("address_scope", "address-scopes", json!({"name": "s", "ip_version": 4})),
        ("subnetpool", "subnetpools", json!({"name": "p", "prefixes": ["10.0.0.0/16"]})),
    ] {
        let path = format!("/v2.0/{path}");
        let one = cloud.make("alice", &path, kind, body).await;
        assert_eq!(one["shared"], false, "{one}");
        made.push((kind, format!("{path}/{}", id(&one)), id(&one)));
    }
    made
}

on_both! {
async fn what_is_shared_is_seen_by_the_target_alone(cloud: Cloud) {
    for (kind, path, object) in one_of_each(&cloud).await {
        assert_eq!(cloud.call("bob", "GET", &path, None).await.0, 404, "{kind}");
        let made = cloud.make("alice", POLICIES, "rbac_policy", policy(kind, &object, "p-bob")).await;
        assert_eq!(made["project_id"], "p-alice");
        let seen = cloud.get("bob", &path).await;
        assert_eq!(seen[kind]["shared"], true, "{kind}");
        assert_eq!(cloud.get("alice", &path).await[kind]["shared"], false, "{kind}");
        assert_eq!(cloud.call("carol", "GET", &path, None).await.0, 404, "{kind}");
        let list = path.rsplit_once('/').unwrap().0;
        let key = list.rsplit('/').next().unwrap().replace('-', "_");
        for (user, query, found) in [
            ("bob", "shared=true", true),
            ("bob", "shared=False", false),
            ("alice", "shared=true", false),
            ("alice", "shared=false", true),
            ("carol", "name=x", false),
        ] {
            let all = cloud.get(user, &format!("{list}?{query}")).await;
            let has = all[&key].as_array().unwrap().iter().any(|one| one["id"] == *object);
            assert_eq!(has, found, "{kind} {user} {query}");
        }
        // It is used, not changed; and who made the policy sees it, not its target.
        let root = json!({kind: {"name": "mine"}});
        assert_eq!(cloud.call("bob", "PUT", &path, Some(root)).await.0, 403, "{kind}");
        assert_eq!(cloud.call("bob", "DELETE", &path, None).await.0, 403, "{kind}");
        assert_eq!(cloud.get("bob", POLICIES).await["rbac_policies"], json!([]));
        let one = format!("{POLICIES}/{}", id(&made));
        assert_eq!(cloud.get("alice", &one).await["rbac_policy"], made);
        assert_eq!(cloud.call("alice", "DELETE", &one, None).await.0, 204);
        assert_eq!(cloud.call("bob", "GET", &path, None).await.0, 404, "{kind}");
    }
}

async fn owners_share_their_own_and_operators_with_everybody(cloud: Cloud) {
    for (kind, path, object) in one_of_each(&cloud).await {
        let make = |user: &'static str, body: Value| {
            let cloud = cloud.clone();
            async move { cloud.call(user, "POST", POLICIES, Some(json!({"rbac_policy": body}))).await }
        };
        let (status, answer) = make("alice", policy(kind, &object, "*")).await;
        assert_eq!(status, 403, "{answer}");
        assert_eq!(make("bob", policy(kind, &object, "p-bob")).await.0, 404, "{kind}");
        assert_eq!(make("alice", policy(kind, &object, "p-bob")).await.0, 201);
        assert_eq!(make("alice", policy(kind, &object, "p-bob")).await.0, 409, "twice");
        assert_eq!(make("bob", policy(kind, &object, "p-carol")).await.0, 400, "not its owner");
        assert_eq!(make("admin", policy(kind, &object, "*")).await.0, 201);
        assert_eq!(cloud.get("carol", &path).await[kind]["shared"], true, "{kind}");
    }
    for bad in [
        json!({"object_type": "router", "object_id": id(&json!({"id": "x"})), "action": "access_as_shared", "target_tenant": "p"}),
        json!({"object_type": "network", "object_id": "x", "action": "access_as_shared", "target_tenant": "p"}),
    ] {
        let body = Some(json!({"rbac_policy": bad}));
        assert_eq!(cloud.call("alice", "POST", POLICIES, body).await.0, 400);
    }
}

async fn a_policy_that_is_used_stays(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let network = network.to_string();
    let made =
        cloud.make("alice", POLICIES, "rbac_policy", policy("network", &network, "p-bob")).await;
    let path = format!("{POLICIES}/{}", id(&made));
    let domain = Some(json!({"port": {"network_id": network, "dns_name": "www",
                                      "dns_domain": "bank.example."}}));
    cloud.refused("bob", "POST", "/v2.0/ports", domain, 403, "PolicyNotAuthorized").await;
    let port = cloud.make("bob", "/v2.0/ports", "port", json!({"network_id": network})).await;
    cloud.refused("alice", "DELETE", &path, None, 409, "RbacPolicyInUse").await;
    let to = |target: &str| Some(json!({"rbac_policy": {"target_tenant": target}}));
    cloud.refused("alice", "PUT", &path, to("p-carol"), 409, "RbacPolicyInUse").await;
    cloud.refused("alice", "PUT", &path, to("*"), 403, "PolicyNotAuthorized").await;
    // Somebody else's permission does as well.
    let all = cloud.make("admin", POLICIES, "rbac_policy", policy("network", &network, "*")).await;
    let shown = cloud.get("carol", &format!("/v2.0/networks/{network}")).await;
    assert_eq!(shown["network"]["shared"], true);
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    let everybody = format!("{POLICIES}/{}", id(&all));
    cloud.refused("admin", "DELETE", &everybody, None, 409, "RbacPolicyInUse").await;
    let own = format!("/v2.0/ports/{}", id(&port));
    assert_eq!(cloud.call("bob", "DELETE", &own, None).await.0, 204);
    assert_eq!(cloud.call("admin", "DELETE", &everybody, None).await.0, 204);
    let usage = cloud.get("admin", "/v2.0/quotas/p-alice/details").await;
    assert_eq!(usage["quota"]["rbac_policy"]["used"], 0);
}

async fn groups_of_others_hold_ports_and_stand_in_rules(cloud: Cloud) {
    let group = id(&cloud
        .make("alice", "/v2.0/security-groups", "security_group", json!({"name": "g"}))
        .await);
    let made = cloud
        .make("alice", POLICIES, "rbac_policy", policy("security_group", &group, "p-bob"))
        .await;
    let path = format!("{POLICIES}/{}", id(&made));
    let network = id(&cloud.make("bob", "/v2.0/networks", "network", json!({})).await);
    let port = json!({"network_id": network, "security_groups": [group]});
    let port = cloud.make("bob", "/v2.0/ports", "port", port).await;
    assert_eq!(port["security_groups"], json!([group]));
    cloud.refused("alice", "DELETE", &path, None, 409, "RbacPolicyInUse").await;
    let own = format!("/v2.0/ports/{}", id(&port));
    let none = Some(json!({"port": {"security_groups": []}}));
    assert_eq!(cloud.call("bob", "PUT", &own, none).await.0, 200);
    let mine = id(&cloud
        .make("bob", "/v2.0/security-groups", "security_group", json!({"name": "mine"}))
        .await);
    let rule = json!({"security_group_id": mine, "direction": "ingress", "remote_group_id": group});
    let rules = "/v2.0/security-group-rules";
    let rule = cloud.make("bob", rules, "security_group_rule", rule).await;
    cloud.refused("alice", "DELETE", &path, None, 409, "RbacPolicyInUse").await;
    let rule = format!("{rules}/{}", id(&rule));
    assert_eq!(cloud.call("bob", "DELETE", &rule, None).await.0, 204);
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    let again = Some(json!({"port": {"security_groups": [group]}}));
    cloud.refused("bob", "PUT", &own, again, 404, "SecurityGroupNotFound").await;
}

async fn shared_of_a_network_is_a_policy_for_everybody(cloud: Cloud) {
    let body = json!({"name": "n", "shared": true});
    let network = cloud.make("admin", "/v2.0/networks", "network", body).await;
    let path = format!("/v2.0/networks/{}", id(&network));
    let of = format!("{POLICIES}?object_id={}", id(&network));
    let found = cloud.get("admin", &of).await["rbac_policies"].clone();
    assert_eq!(found[0]["target_tenant"], "*");
    assert_eq!(found.as_array().unwrap().len(), 1);
    let off = Some(json!({"network": {"shared": false}}));
    assert_eq!(cloud.call("admin", "PUT", &path, off).await.1["network"]["shared"], false);
    assert_eq!(cloud.get("admin", &of).await["rbac_policies"], json!([]));
    let on = Some(json!({"network": {"shared": true}}));
    assert_eq!(cloud.call("admin", "PUT", &path, on).await.1["network"]["shared"], true);
    let revision = cloud.get("bob", &path).await["network"]["revision_number"].as_i64().unwrap();
    let one = cloud.get("admin", &of).await["rbac_policies"][0].clone();
    let policy = format!("{POLICIES}/{}", id(&one));
    assert_eq!(cloud.call("admin", "DELETE", &policy, None).await.0, 204);
    let now = cloud.get("admin", &path).await["network"].clone();
    assert_eq!(now["shared"], false);
    assert!(now["revision_number"].as_i64().unwrap() > revision);
    assert_eq!(cloud.call("bob", "GET", &path, None).await.0, 404);
    // A network that goes takes its policies along.
    assert_eq!(
        cloud.call("admin", "PUT", &path, Some(json!({"network": {"shared": true}}))).await.0,
        200
    );
    assert_eq!(cloud.call("admin", "DELETE", &path, None).await.0, 204);
    assert_eq!(cloud.get("admin", &of).await["rbac_policies"], json!([]));
}

async fn policies_are_counted(cloud: Cloud) {
    let set = Some(json!({"quota": {"rbac_policy": 1}}));
    assert_eq!(cloud.call("admin", "PUT", "/v2.0/quotas/p-alice", set).await.0, 200);
    let network = id(&cloud.make("alice", "/v2.0/networks", "network", json!({})).await);
    cloud.make("alice", POLICIES, "rbac_policy", policy("network", &network, "p-bob")).await;
    let body = Some(json!({"rbac_policy": policy("network", &network, "p-carol")}));
    cloud.refused("alice", "POST", POLICIES, body, 409, "OverQuota").await;
    let path = format!("/v2.0/networks/{network}");
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    let usage = cloud.get("admin", "/v2.0/quotas/p-alice/details").await;
    assert_eq!(usage["quota"]["rbac_policy"]["used"], 0, "the network took its policy along");
    let quotas = cloud.get("admin", "/v2.0/quotas").await["quotas"].clone();
    assert_eq!(quotas[0]["project_id"], "p-alice");
    assert_eq!(quotas[0]["rbac_policy"], 1);
    assert_eq!(cloud.call("admin", "DELETE", "/v2.0/quotas/p-alice", None).await.0, 204);
    assert_eq!(cloud.get("admin", "/v2.0/quotas").await["quotas"], json!([]));
    cloud.refused("alice", "GET", "/v2.0/quotas", None, 403, "PolicyNotAuthorized").await;
}
}
