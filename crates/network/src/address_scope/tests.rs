//! Address scopes through the API.

use serde_json::json;

use crate::test_support::{Cloud, id, on_both};

const SCOPES: &str = "/v2.0/address-scopes";

on_both! {
async fn a_scope_is_made_changed_and_deleted(cloud: Cloud) {
    let made = cloud.make("alice", SCOPES, "address_scope", json!({"name": "s", "ip_version": 6})).await;
    let path = format!("{SCOPES}/{}", id(&made));
    assert_eq!(
        made,
        json!({"id": id(&made), "name": "s", "ip_version": 6, "shared": false,
               "tenant_id": "p-alice", "project_id": "p-alice"})
    );
    let name = Some(json!({"address_scope": {"name": "t"}}));
    assert_eq!(cloud.call("alice", "PUT", &path, name).await.1["address_scope"]["name"], "t");
    let fixed = Some(json!({"address_scope": {"ip_version": 4}}));
    assert_eq!(cloud.call("alice", "PUT", &path, fixed).await.0, 400);
    for bad in [json!({"name": "s"}), json!({"name": "s", "ip_version": 5})] {
        let body = Some(json!({"address_scope": bad}));
        assert_eq!(cloud.call("alice", "POST", SCOPES, body).await.0, 400);
    }
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    cloud.refused("alice", "GET", &path, None, 404, "AddressScopeNotFound").await;
}

async fn operators_share_a_scope_for_good(cloud: Cloud) {
    let body = json!({"name": "s", "ip_version": 4, "shared": true});
    let denied = Some(json!({"address_scope": body}));
    cloud.refused("alice", "POST", SCOPES, denied, 403, "PolicyNotAuthorized").await;
    let made = cloud.make("admin", SCOPES, "address_scope", body).await;
    let path = format!("{SCOPES}/{}", id(&made));
    assert_eq!(cloud.get("bob", &path).await["address_scope"]["shared"], true);
    let off = Some(json!({"address_scope": {"shared": false}}));
    cloud.refused("admin", "PUT", &path, off, 400, "AddressScopeUpdateError").await;
    let own = cloud.make("admin", SCOPES, "address_scope", json!({"name": "t", "ip_version": 4})).await;
    let own = format!("{SCOPES}/{}", id(&own));
    let on = Some(json!({"address_scope": {"shared": true}}));
    assert_eq!(cloud.call("admin", "PUT", &own, on).await.1["address_scope"]["shared"], true);
}

async fn a_scope_with_pools_stays_and_its_pools_do_not_overlap(cloud: Cloud) {
    let scope = id(&cloud.make("alice", SCOPES, "address_scope", json!({"name": "s", "ip_version": 4})).await);
    let pool = |prefix: &str| {
        json!({"subnetpool": {"name": "p", "prefixes": [prefix], "address_scope_id": scope}})
    };
    let pools = "/v2.0/subnetpools";
    let made = cloud.call("alice", "POST", pools, Some(pool("10.0.0.0/16"))).await.1["subnetpool"].clone();
    let clash = "AddressScopePrefixConflict";
    cloud.refused("alice", "POST", pools, Some(pool("10.0.5.0/24")), 409, clash).await;
    cloud.refused("alice", "POST", pools, Some(pool("10.0.0.0/8")), 409, clash).await;
    let version = "IllegalSubnetPoolIpVersionAssociationToAddressScope";
    cloud.refused("alice", "POST", pools, Some(pool("fd00::/48")), 400, version).await;
    let other = cloud.call("alice", "POST", pools, Some(pool("10.1.0.0/16"))).await.1["subnetpool"].clone();
    let grow = Some(json!({"subnetpool": {"prefixes": ["10.0.0.0/12"]}}));
    let path = format!("{pools}/{}", id(&other));
    cloud.refused("alice", "PUT", &path, grow, 409, clash).await;
    cloud.refused("alice", "DELETE", &format!("{SCOPES}/{scope}"), None, 409, "AddressScopeInUse").await;
    // The scope of a network is that of its subnets' pool.
    let network = id(&cloud.make("alice", "/v2.0/networks", "network", json!({})).await);
    let subnet = json!({"network_id": network, "ip_version": 4, "subnetpool_id": id(&made), "prefixlen": 24});
    cloud.make("alice", "/v2.0/subnets", "subnet", subnet).await;
    let shown = cloud.get("alice", &format!("/v2.0/networks/{network}")).await["network"].clone();
    assert_eq!((&shown["ipv4_address_scope"], &shown["ipv6_address_scope"]), (&json!(scope), &json!(null)));
    let none = Some(json!({"subnetpool": {"address_scope_id": null}}));
    for pool in [&made, &other] {
        let path = format!("{pools}/{}", id(pool));
        assert_eq!(cloud.call("alice", "PUT", &path, none.clone()).await.0, 200);
    }
    assert_eq!(cloud.call("alice", "DELETE", &format!("{SCOPES}/{scope}"), None).await.0, 204);
}

async fn a_pool_in_anothers_scope_is_changed_by_the_scopes_owner(cloud: Cloud) {
    let body = json!({"name": "s", "ip_version": 4, "shared": true});
    let scope = id(&cloud.make("admin", SCOPES, "address_scope", body).await);
    let pools = "/v2.0/subnetpools";
    let body = json!({"name": "p", "prefixes": ["20.0.0.0/18"], "address_scope_id": scope});
    let pool = cloud.make("alice", pools, "subnetpool", body).await;
    let path = format!("{pools}/{}", id(&pool));
    let grow = Some(json!({"subnetpool": {"prefixes": ["20.0.0.0/16"]}}));
    cloud.refused("alice", "PUT", &path, grow.clone(), 400, "IllegalSubnetPoolUpdate").await;
    assert_eq!(cloud.call("admin", "PUT", &path, grow).await.0, 200);
    let foreign = id(&cloud.make("bob", SCOPES, "address_scope", json!({"name": "b", "ip_version": 4})).await);
    let body = Some(json!({"subnetpool": {"name": "q", "prefixes": ["9.0.0.0/8"], "address_scope_id": foreign}}));
    cloud.refused("alice", "POST", pools, body, 404, "AddressScopeNotFound").await;
    // A pool is shared with those alone who may use its scope.
    let policy = |target: &str| {
        Some(json!({"rbac_policy": {"object_type": "subnetpool", "object_id": id(&pool),
            "action": "access_as_shared", "target_tenant": target}}))
    };
    assert_eq!(cloud.call("alice", "POST", "/v2.0/rbac-policies", policy("p-bob")).await.0, 201);
    let body = json!({"name": "r", "prefixes": ["8.0.0.0/8"], "address_scope_id": foreign});
    let closed = cloud.make("bob", pools, "subnetpool", body).await;
    let body = Some(json!({"rbac_policy": {"object_type": "subnetpool", "object_id": id(&closed),
        "action": "access_as_shared", "target_tenant": "p-alice"}}));
    cloud.refused("bob", "POST", "/v2.0/rbac-policies", body, 400, "InvalidInput").await;
}
}
