//! Address groups through the API, and their ranges in the documents of hosts.

use host_protocol::{DocumentKind, PortSpec, Remote};
use serde_json::{Value, json};

use crate::test_support::{Cloud, id, on_both};

const GROUPS: &str = "/v2.0/address-groups";

on_both! {
async fn a_group_is_made_and_its_addresses_come_and_go(cloud: Cloud) {
    let body = json!({"name": "a", "addresses": ["192.168.0.10/24", "10.10.10.3/32", "2001:db8::f00/64"]});
    let made = cloud.make("alice", GROUPS, "address_group", body).await;
    let path = format!("{GROUPS}/{}", id(&made));
    assert_eq!(made["addresses"], json!(["10.10.10.3/32", "192.168.0.0/24", "2001:db8::/64"]));
    let act = |action: &str, addresses: Value| {
        let (cloud, path) = (cloud.clone(), format!("{path}/{action}"));
        async move { cloud.call("alice", "PUT", &path, Some(json!({"addresses": addresses}))).await }
    };
    let (status, answer) = act("add_addresses", json!(["10.20.30.40/32"])).await;
    assert_eq!(status, 200);
    assert_eq!(answer["address_group"]["addresses"].as_array().unwrap().len(), 4);
    let (status, answer) = act("remove_addresses", json!(["10.10.10.3/32"])).await;
    assert_eq!(status, 200);
    assert_eq!(answer["address_group"]["addresses"].as_array().unwrap().len(), 3);
    for (action, addresses, status, name) in [
        ("add_addresses", json!(["10.20.30.40/32"]), 400, "AddressesAlreadyExist"),
        ("add_addresses", json!(["x"]), 400, "HTTPBadRequest"),
        ("remove_addresses", json!(["10.200.200.200"]), 404, "AddressesNotFound"),
    ] {
        let (got, answer) = act(action, addresses).await;
        assert_eq!((got, &answer["NeutronError"]["type"]), (status, &json!(name)), "{answer}");
    }
    for bad in [json!(["10.20.30.40"]), json!(["x"]), json!("10.0.0.0/8"), json!([5])] {
        let body = Some(json!({"address_group": {"addresses": bad}}));
        assert_eq!(cloud.call("alice", "POST", GROUPS, body).await.0, 400);
    }
    let fixed = Some(json!({"address_group": {"addresses": []}}));
    assert_eq!(cloud.call("alice", "PUT", &path, fixed).await.0, 400);
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    cloud.refused("alice", "GET", &path, None, 404, "AddressGroupNotFound").await;
}

async fn hosts_hear_of_the_ranges_and_of_every_change(cloud: Cloud) {
    let host = cloud.host("a", "l2").await;
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let body = json!({"name": "a", "addresses": ["10.1.0.0/16", "fd00::/64"]});
    let list = id(&cloud.make("alice", GROUPS, "address_group", body).await);
    let group = cloud.get("alice", "/v2.0/security-groups?name=default").await;
    let group = id(&group["security_groups"][0]);
    let rule = json!({"security_group_id": group, "direction": "ingress", "protocol": "tcp",
                      "remote_address_group_id": list});
    let rules = "/v2.0/security-group-rules";
    let made = cloud.make("alice", rules, "security_group_rule", rule.clone()).await;
    assert_eq!(made["remote_address_group_id"], *list);
    let both = json!({"security_group_id": group, "direction": "ingress",
                      "remote_address_group_id": list, "remote_ip_prefix": "10.0.0.0/8"});
    let both = Some(json!({"security_group_rule": both}));
    assert_eq!(cloud.call("alice", "POST", rules, both).await.0, 400);
    let twin = Some(json!({"security_group_rule": rule}));
    cloud.refused("alice", "POST", rules, twin, 409, "SecurityGroupRuleExists").await;
    cloud.boot(network, &host).await;
    let ranges = || async {
        let ports: Vec<PortSpec> = cloud.specs(&host, DocumentKind::Port).await;
        let mut found: Vec<String> = ports[0]
            .security_rules
            .iter()
            .filter(|rule| rule.protocol == Some(6))
            .flat_map(|rule| match &rule.remote {
                Remote::Addresses(nets) => nets.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            })
            .collect();
        found.sort();
        found
    };
    assert_eq!(ranges().await, ["10.1.0.0/16"], "the rule is of IPv4");
    let path = format!("{GROUPS}/{list}");
    let more = Some(json!({"addresses": ["10.2.0.0/16"]}));
    assert_eq!(cloud.call("alice", "PUT", &format!("{path}/add_addresses"), more).await.0, 200);
    assert_eq!(ranges().await, ["10.1.0.0/16", "10.2.0.0/16"]);
    let less = Some(json!({"addresses": ["10.1.0.0/16", "10.2.0.0/16"]}));
    assert_eq!(cloud.call("alice", "PUT", &format!("{path}/remove_addresses"), less).await.0, 200);
    assert_eq!(ranges().await, Vec::<String>::new(), "an empty group allows nobody");
    cloud.refused("alice", "DELETE", &path, None, 409, "AddressGroupInUse").await;
    let rule = format!("{rules}/{}", id(&made));
    assert_eq!(cloud.call("alice", "DELETE", &rule, None).await.0, 204);
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
}

async fn anothers_addresses_stand_in_rules_once_they_are_shared(cloud: Cloud) {
    let body = json!({"name": "a", "addresses": ["10.1.0.0/16"]});
    let list = id(&cloud.make("bob", GROUPS, "address_group", body).await);
    let group = id(&cloud.make("alice", "/v2.0/security-groups", "security_group", json!({"name": "g"})).await);
    let rule = json!({"security_group_id": group, "direction": "ingress", "remote_address_group_id": list});
    let rules = "/v2.0/security-group-rules";
    let body = Some(json!({"security_group_rule": rule}));
    cloud.refused("alice", "POST", rules, body.clone(), 404, "AddressGroupNotFound").await;
    let policy = json!({"object_type": "address_group", "object_id": list,
                        "action": "access_as_shared", "target_tenant": "p-alice"});
    let policy = cloud.make("bob", "/v2.0/rbac-policies", "rbac_policy", policy).await;
    assert_eq!(cloud.call("alice", "POST", rules, body).await.0, 201);
    let path = format!("/v2.0/rbac-policies/{}", id(&policy));
    cloud.refused("bob", "DELETE", &path, None, 409, "RbacPolicyInUse").await;
}
}
