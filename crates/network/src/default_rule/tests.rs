//! What new security groups begin with.

use serde_json::{Value, json};

use crate::test_support::{Cloud, id, on_both};

const RULES: &str = "/v2.0/default-security-group-rules";
const KEY: &str = "default_security_group_rule";

fn ssh(in_default: bool, in_others: bool) -> Value {
    json!({"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22,
           "used_in_default_sg": in_default, "used_in_non_default_sg": in_others})
}

on_both! {
async fn a_cloud_begins_with_neutrons_rules(cloud: Cloud) {
    let found = cloud.get("alice", &format!("{RULES}?sort_key=direction&sort_key=ethertype")).await;
    let shape: Vec<String> = found["default_security_group_rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            format!(
                "{} {} {} {} {}",
                rule["direction"],
                rule["ethertype"],
                rule["remote_group_id"],
                rule["used_in_default_sg"],
                rule["used_in_non_default_sg"]
            )
            .replace('"', "")
        })
        .collect();
    assert_eq!(
        shape,
        [
            "egress IPv4 null true true",
            "egress IPv6 null true true",
            "ingress IPv4 PARENT true false",
            "ingress IPv6 PARENT true false"
        ]
    );
}

async fn new_groups_begin_with_what_operators_set(cloud: Cloud) {
    let body = Some(json!({KEY: ssh(true, true)}));
    cloud.refused("alice", "POST", RULES, body.clone(), 403, "PolicyNotAuthorized").await;
    let made = cloud.make("admin", RULES, KEY, ssh(true, false)).await;
    for same in [ssh(true, false), ssh(true, true)] {
        let body = Some(json!({KEY: same}));
        cloud.refused("admin", "POST", RULES, body, 409, "DefaultSecurityGroupRuleExists").await;
    }
    cloud.make("admin", RULES, KEY, ssh(false, true)).await;
    let parent = json!({"direction": "ingress", "protocol": "udp", "remote_group_id": "PARENT"});
    cloud.make("admin", RULES, KEY, parent).await;
    let count = |group: &Value, protocol: &str| {
        let rules = group["security_group_rules"].as_array().unwrap();
        rules.iter().filter(|rule| rule["protocol"] == protocol).count()
    };
    let group = cloud.make("alice", "/v2.0/security-groups", "security_group", json!({"name": "g"})).await;
    assert_eq!((count(&group, "tcp"), count(&group, "udp")), (1, 1), "{group}");
    let udp = group["security_group_rules"].as_array().unwrap().iter().find(|r| r["protocol"] == "udp");
    assert_eq!(udp.unwrap()["remote_group_id"], group["id"]);
    let default = cloud.get("bob", "/v2.0/security-groups?name=default").await;
    let default = &default["security_groups"][0];
    assert_eq!((count(default, "tcp"), count(default, "udp")), (1, 0), "{default}");
    let usage = cloud.get("bob", "/v2.0/quotas/p-bob/details").await;
    assert_eq!(usage["quota"]["security_group_rule"]["used"], 5);
    let path = format!("{RULES}/{}", id(&made));
    cloud.refused("alice", "DELETE", &path, None, 403, "PolicyNotAuthorized").await;
    assert_eq!(cloud.call("admin", "DELETE", &path, None).await.0, 204);
    cloud.refused("admin", "GET", &path, None, 404, "DefaultSecurityGroupRuleNotFound").await;
    for bad in [
        json!({"direction": "up"}),
        json!({"direction": "ingress", "remote_group_id": "x"}),
        json!({"direction": "ingress", "port_range_min": 5}),
        json!({"direction": "ingress", "colour": "red"}),
    ] {
        assert_eq!(cloud.call("admin", "POST", RULES, Some(json!({KEY: bad}))).await.0, 400);
    }
}

async fn an_operator_who_lists_a_projects_groups_finds_its_default_one(cloud: Cloud) {
    let found = cloud.get("admin", "/v2.0/security-groups?project_id=p-new&name=default").await;
    assert_eq!(found["security_groups"][0]["project_id"], "p-new");
}
}
