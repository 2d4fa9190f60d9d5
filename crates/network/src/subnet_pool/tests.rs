//! Subnet pools through the API, and the subnets that they give ranges to.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::test_support::{Cloud, id, on_both};

const POOLS: &str = "/v2.0/subnetpools";
const SUBNETS: &str = "/v2.0/subnets";

async fn pool(cloud: &Cloud, more: Value) -> String {
    let mut body = json!({"name": "p", "prefixes": ["10.0.0.0/24"], "min_prefixlen": 26});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    id(&cloud.make("alice", POOLS, "subnetpool", body).await)
}

async fn network(cloud: &Cloud) -> String {
    id(&cloud.make("alice", "/v2.0/networks", "network", json!({})).await)
}

fn from(network: &str, pool: &str, more: Value) -> Value {
    let mut body = json!({"network_id": network, "ip_version": 4, "subnetpool_id": pool});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    json!({ "subnet": body })
}

on_both! {
async fn a_pool_is_shown_in_neutrons_shape(cloud: Cloud) {
    let body = json!({"name": "p", "prefixes": ["10.0.1.0/24", "10.0.0.0/24"], "min_prefixlen": "26",
                      "description": "d", "default_quota": 512});
    let made = cloud.make("alice", POOLS, "subnetpool", body).await;
    assert_eq!(
        made,
        json!({"id": id(&made), "name": "p", "description": "d", "ip_version": 4,
               "prefixes": ["10.0.0.0/23"], "min_prefixlen": "26", "max_prefixlen": "32",
               "default_prefixlen": "26", "default_quota": 512, "is_default": false, "shared": false,
               "address_scope_id": null, "tags": [], "tenant_id": "p-alice",
               "project_id": "p-alice", "revision_number": 0,
               "created_at": "2023-11-14T22:13:20Z", "updated_at": "2023-11-14T22:13:20Z"})
    );
    let path = format!("{POOLS}/{}", id(&made));
    let change = Some(json!({"subnetpool": {"default_quota": null, "max_prefixlen": 30}}));
    let (status, answer) = cloud.call("alice", "PUT", &path, change).await;
    assert_eq!((status, &answer["subnetpool"]["max_prefixlen"]), (200, &json!("30")));
    assert_eq!(answer["subnetpool"]["default_quota"], json!(null));
    let tags = Some(json!({"tags": ["red"]}));
    assert_eq!(cloud.call("alice", "PUT", &format!("{path}/tags"), tags).await.0, 200);
    let found = cloud.get("alice", &format!("{POOLS}?tags=red&fields=id")).await;
    assert_eq!(found["subnetpools"], json!([{"id": id(&made)}]));
    for bad in [
        json!({"prefixes": ["10.0.0.0/24"]}),
        json!({"name": "", "prefixes": ["10.0.0.0/24"]}),
        json!({"name": "p"}),
        json!({"name": "p", "prefixes": []}),
        json!({"name": "p", "prefixes": ["10.0.0.0/24", "fd00::/48"]}),
        json!({"name": "p", "prefixes": ["10.0.0.0/24"], "min_prefixlen": 30, "max_prefixlen": 29}),
        json!({"name": "p", "prefixes": ["10.0.0.0/24"], "default_quota": -1}),
        json!({"name": "p", "prefixes": ["10.0.0.0/24"], "address_scope_id": "x"}),
        json!({"name": "p", "prefixes": ["10.0.0.0/24"], "colour": "red"}),
    ] {
        let body = Some(json!({"subnetpool": bad}));
        let (status, answer) = cloud.call("alice", "POST", POOLS, body.clone()).await;
        assert_eq!(status, 400, "{body:?}: {answer}");
    }
    for (fixed, value) in [("shared", json!(true)), ("project_id", json!("p-bob"))] {
        let body = Some(json!({"subnetpool": {fixed: value}}));
        assert_eq!(cloud.call("admin", "PUT", &path, body).await.0, 400, "{fixed}");
    }
    for rights in ["is_default", "shared"] {
        let body = Some(json!({"subnetpool": {"name": "p", "prefixes": ["10.0.0.0/24"], rights: true}}));
        cloud.refused("alice", "POST", POOLS, body, 403, "PolicyNotAuthorized").await;
    }
    cloud.refused("bob", "GET", &path, None, 404, "SubnetPoolNotFound").await;
}

async fn subnets_get_ranges_within_bounds_and_quota(cloud: Cloud) {
    let pool = pool(&cloud, json!({"default_quota": 128})).await;
    let (first, second) = (network(&cloud).await, network(&cloud).await);
    let body = from(&first, &pool, json!({}));
    let (status, answer) = cloud.call("alice", "POST", SUBNETS, Some(body)).await;
    assert_eq!((status, &answer["subnet"]["cidr"]), (201, &json!("10.0.0.0/26")), "{answer}");
    assert_eq!(answer["subnet"]["subnetpool_id"], *pool);
    assert_eq!(answer["subnet"]["gateway_ip"], "10.0.0.1");
    let exact = from(&second, &pool, json!({"cidr": "10.0.0.128/27"}));
    assert_eq!(cloud.call("alice", "POST", SUBNETS, Some(exact)).await.0, 201);
    for (more, status, name) in [
        (json!({"cidr": "10.0.0.128/28"}), 409, "SubnetAllocationError"),
        (json!({"cidr": "10.0.9.0/27"}), 409, "SubnetAllocationError"),
        (json!({"prefixlen": 25}), 400, "MinPrefixSubnetAllocationError"),
        (json!({"prefixlen": 33}), 400, "MaxPrefixSubnetAllocationError"),
        (json!({"prefixlen": 26}), 409, "SubnetPoolQuotaExceeded"),
        (json!({"prefixlen": 27, "cidr": "10.0.0.192/27"}), 400, "BadRequest"),
        (json!({"ip_version": 6}), 400, "BadRequest"),
        (json!({"use_default_subnetpool": true}), 400, "BadRequest"),
    ] {
        let other = network(&cloud).await;
        let body = Some(from(&other, &pool, more));
        cloud.refused("alice", "POST", SUBNETS, body, status, name).await;
    }
    // On one network, all of one version come from one pool.
    let named = json!({"subnet": {"network_id": first, "ip_version": 4, "cidr": "192.0.2.0/24"}});
    let apart = "NetworkSubnetPoolAffinityError";
    cloud.refused("alice", "POST", SUBNETS, Some(named), 400, apart).await;
    let path = format!("{POOLS}/{pool}");
    cloud.refused("alice", "DELETE", &path, None, 400, "SubnetPoolDeleteError").await;
    for network in [first, second] {
        let path = format!("/v2.0/networks/{network}");
        assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    }
    let body = from(&network(&cloud).await, &pool, json!({}));
    assert_eq!(
        cloud.call("alice", "POST", SUBNETS, Some(body)).await.1["subnet"]["cidr"],
        "10.0.0.0/26",
        "what was given back is given again"
    );
}

async fn fifty_subnets_at_once_never_overlap(cloud: Cloud) {
    let pool = pool(&cloud, json!({"max_prefixlen": 29, "default_prefixlen": 29})).await;
    let mut networks = Vec::new();
    for _ in 0..50 {
        networks.push(network(&cloud).await);
    }
    let tasks: Vec<_> = networks
        .into_iter()
        .map(|network| {
            let (cloud, body) = (cloud.clone(), from(&network, &pool, json!({})));
            tokio::spawn(async move { cloud.call("alice", "POST", SUBNETS, Some(body)).await })
        })
        .collect();
    let (mut given, mut refused) = (BTreeSet::new(), 0);
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        if status == 201 {
            assert!(given.insert(answer["subnet"]["cidr"].to_string()), "given twice: {answer}");
        } else {
            assert_eq!(answer["NeutronError"]["type"], "SubnetAllocationError", "{answer}");
            refused += 1;
        }
    }
    assert_eq!((given.len(), refused), (32, 18), "a /24 holds 32 ranges of /29");
    let usage = cloud.get("alice", "/v2.0/quotas/p-alice/details").await;
    assert_eq!(usage["quota"]["subnet"]["used"], 32);
}

async fn the_clouds_pool_serves_those_who_name_none(cloud: Cloud) {
    let network = network(&cloud).await;
    let wish = json!({"subnet": {"network_id": network, "ip_version": 4, "use_default_subnetpool": true}});
    cloud.refused("alice", "POST", SUBNETS, Some(wish.clone()), 400, "BadRequest").await;
    let body = json!({"name": "cloud", "prefixes": ["10.8.0.0/16"], "default_prefixlen": 24,
                      "is_default": true, "shared": true});
    let pool = cloud.make("admin", POOLS, "subnetpool", body.clone()).await;
    let twice = Some(json!({"subnetpool": body}));
    cloud.refused("admin", "POST", POOLS, twice, 400, "InvalidInput").await;
    let (status, answer) = cloud.call("alice", "POST", SUBNETS, Some(wish)).await;
    assert_eq!((status, &answer["subnet"]["cidr"]), (201, &json!("10.8.0.0/24")), "{answer}");
    assert_eq!(answer["subnet"]["project_id"], "p-alice");
    let found = cloud.get("bob", &format!("{POOLS}?is_default=true&shared=true")).await;
    assert_eq!(found["subnetpools"][0]["id"], pool["id"]);
    let named = json!({"subnet": {"network_id": network, "ip_version": 4}});
    cloud.refused("alice", "POST", SUBNETS, Some(named), 400, "BadRequest").await;
}

async fn prefixes_come_and_go_as_long_as_they_are_unused(cloud: Cloud) {
    let pool = pool(&cloud, json!({})).await;
    let path = format!("{POOLS}/{pool}");
    let put = |action: &str, prefixes: Value| {
        let (cloud, path) = (cloud.clone(), format!("{path}/{action}"));
        async move { cloud.call("alice", "PUT", &path, Some(json!({"prefixes": prefixes}))).await }
    };
    let (status, answer) = put("add_prefixes", json!(["10.9.0.0/24"])).await;
    assert_eq!((status, &answer["prefixes"]), (200, &json!(["10.0.0.0/24", "10.9.0.0/24"])));
    let body = from(&network(&cloud).await, &pool, json!({"cidr": "10.9.0.0/26"}));
    assert_eq!(cloud.call("alice", "POST", SUBNETS, Some(body)).await.0, 201);
    let (status, answer) = put("remove_prefixes", json!(["10.9.0.0/24"])).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(put("remove_prefixes", json!(["10.7.0.0/24"])).await.0, 400);
    let (status, answer) = put("remove_prefixes", json!(["10.9.0.128/25"])).await;
    assert_eq!((status, &answer["prefixes"]), (200, &json!(["10.0.0.0/24", "10.9.0.0/25"])));
    assert_eq!(put("add_prefixes", json!(["fd00::/48"])).await.0, 400);
    let shrink = Some(json!({"subnetpool": {"prefixes": ["10.0.0.0/25"]}}));
    cloud.refused("alice", "PUT", &path, shrink, 400, "IllegalSubnetPoolPrefixUpdate").await;
    cloud.refused("bob", "PUT", &format!("{path}/add_prefixes"), Some(json!({"prefixes": ["9.0.0.0/8"]})), 404, "SubnetPoolNotFound").await;
}

async fn subnets_are_taken_into_a_pool_as_they_are(cloud: Cloud) {
    let pool = pool(&cloud, json!({})).await;
    let (network, subnet) = cloud.network_with("192.0.2.0/24").await;
    let path = format!("{POOLS}/{pool}/onboard_network_subnets");
    let body = Some(json!({"network_id": network}));
    let (status, answer) = cloud.call("alice", "PUT", &path, body.clone()).await;
    assert_eq!((status, answer), (200, json!([{"id": subnet, "cidr": "192.0.2.0/24"}])));
    let shown = cloud.get("alice", &format!("{SUBNETS}/{subnet}")).await;
    assert_eq!(shown["subnet"]["subnetpool_id"], *pool);
    let prefixes = cloud.get("alice", &format!("{POOLS}/{pool}")).await["subnetpool"]["prefixes"].clone();
    assert_eq!(prefixes, json!(["10.0.0.0/24", "192.0.2.0/24"]));
    cloud.refused("alice", "PUT", &path, body, 400, "IllegalSubnetPoolUpdate").await;
    let foreign = id(&cloud.make("bob", "/v2.0/networks", "network", json!({})).await);
    let body = Some(json!({"network_id": foreign}));
    cloud.refused("alice", "PUT", &path, body, 404, "NetworkNotFound").await;
}

async fn a_change_holds_only_for_the_revision_that_was_seen(cloud: Cloud) {
    let pool = pool(&cloud, json!({})).await;
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let port = id(&cloud.port_on(network, json!({})).await);
    let group = id(&cloud.make("alice", "/v2.0/security-groups", "security_group", json!({"name": "g"})).await);
    let list = json!({"name": "a", "addresses": ["10.0.0.0/8"]});
    let list = id(&cloud.make("alice", "/v2.0/address-groups", "address_group", list).await);
    for (path, key) in [
        (format!("/v2.0/ports/{port}"), "port"),
        (format!("{SUBNETS}/{subnet}"), "subnet"),
        (format!("/v2.0/networks/{network}"), "network"),
        (format!("/v2.0/security-groups/{group}"), "security_group"),
        (format!("/v2.0/address-groups/{list}"), "address_group"),
        (format!("{POOLS}/{pool}"), "subnetpool"),
    ] {
        let seen = cloud.get("alice", &path).await[key]["revision_number"].as_i64().unwrap();
        let body = Some(json!({key: {"name": "new"}}));
        let with = |revision: i64| Some(format!("revision_number={revision}"));
        let stale = cloud.call_if("alice", "PUT", &path, with(seen - 1), body.clone()).await;
        assert_eq!(stale.0, 412, "{key}: {}", stale.1);
        assert_eq!(stale.1["NeutronError"]["type"], "RevisionNumberConstraintFailed");
        let (status, answer) = cloud.call_if("alice", "PUT", &path, with(seen), body).await;
        assert_eq!((status, &answer[key]["name"]), (200, &json!("new")), "{answer}");
        let now = answer[key]["revision_number"].as_i64().unwrap();
        assert!(now > seen, "{key}");
        assert_eq!(cloud.call_if("alice", "DELETE", &path, with(seen), None).await.0, 412, "{key}");
        let odd = cloud.call_if("alice", "DELETE", &path, Some("*".into()), None).await;
        assert_eq!(odd.0, 400, "{key}");
        assert_eq!(cloud.call_if("alice", "DELETE", &path, with(now), None).await.0, 204, "{key}");
    }
}
}
