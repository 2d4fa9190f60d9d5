//! The API as a whole: who sees what, lists, delete rules, quotas, security groups, tags.

use cloud_types::ServerId;
use serde_json::{Value, json};
use service_kit::Access;

use crate::test_support::{Cloud, id, on_both};
use crate::{NetworkId, NicRequest};

fn names(body: &Value, key: &str) -> Vec<String> {
    body[key]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn link(body: &Value, rel: &str) -> Option<String> {
    let links = body["networks_links"].as_array()?;
    let href = links.iter().find(|link| link["rel"] == rel)?["href"].as_str()?;
    Some(href.strip_prefix("http://cloud.test/network").unwrap().to_owned())
}

on_both! {
async fn every_route_but_discovery_needs_a_token(cloud: Cloud) {
    let mut public = Vec::new();
    for route in cloud.app.table().to_vec() {
        let path = route.path.strip_prefix("/network").unwrap().to_owned();
        if route.access == Access::Public {
            public.push(path);
            continue;
        }
        let path = path.replace(['{', '}'], "x");
        let body = Some(json!({}));
        let (status, _) = cloud.call("", route.method.as_str(), &path, body.clone()).await;
        assert_eq!(status, 401, "{} {path}", route.method);
        if route.method != "GET" {
            let (status, answer) = cloud.call("reader", route.method.as_str(), &path, body).await;
            assert_eq!(status, 403, "{} {path}: {answer}", route.method);
        }
    }
    assert_eq!(public, ["", "/v2.0"]);
}

async fn discovery_leads_to_the_collections(cloud: Cloud) {
    let versions = cloud.get("", "").await;
    let href = versions["versions"][0]["links"][0]["href"].as_str().unwrap();
    assert_eq!(href, "http://cloud.test/network/v2.0/");
    assert_eq!(cloud.get("", "/").await, versions);
    let resources = cloud.get("", "/v2.0/").await;
    assert!(resources["resources"].as_array().unwrap().iter().any(|r| r["name"] == "network"));
    let all = cloud.get("alice", "/v2.0/extensions").await;
    assert!(all["extensions"].as_array().unwrap().iter().any(|e| e["alias"] == "security-group"));
    assert_eq!(cloud.get("alice", "/v2.0/extensions/quotas").await["extension"]["alias"], "quotas");
    cloud.refused("alice", "GET", "/v2.0/extensions/router", None, 404, "HTTPNotFound").await;
}

async fn a_network_is_shown_in_neutrons_shape(cloud: Cloud) {
    let made = cloud
        .make("alice", "/v2.0/networks", "network", json!({"name": "n", "description": "d"}))
        .await;
    let uuid = id(&made);
    assert_eq!(
        made,
        json!({
            "id": uuid, "name": "n", "description": "d", "admin_state_up": true,
            "status": "ACTIVE", "shared": false, "router:external": false, "subnets": [], "mtu": 1500,
            "dns_domain": "", "ipv4_address_scope": null, "ipv6_address_scope": null,
            "port_security_enabled": true, "tags": [], "tenant_id": "p-alice",
            "project_id": "p-alice", "revision_number": 1,
            "created_at": "2023-11-14T22:13:20Z", "updated_at": "2023-11-14T22:13:20Z",
        })
    );
    let path = format!("/v2.0/networks/{uuid}");
    let few = cloud.get("alice", &format!("{path}?fields=id&fields=tenant_id")).await;
    assert_eq!(few["network"], json!({"id": uuid, "tenant_id": "p-alice"}));
    let body = Some(json!({"network": {"name": "m", "admin_state_up": "False"}}));
    let (status, answer) = cloud.call("alice", "PUT", &path, body).await;
    assert_eq!((status, &answer["network"]["revision_number"]), (200, &json!(2)));
    assert_eq!(answer["network"]["admin_state_up"], false);
}

async fn what_is_anothers_is_not_there_unless_it_is_shared(cloud: Cloud) {
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let port = id(&cloud.port_on(network, json!({})).await);
    let paths = [
        (format!("/v2.0/networks/{network}"), "NetworkNotFound"),
        (format!("/v2.0/subnets/{subnet}"), "SubnetNotFound"),
        (format!("/v2.0/ports/{port}"), "PortNotFound"),
    ];
    for (path, name) in &paths {
        for method in ["GET", "DELETE"] {
            cloud.refused("bob", method, path, None, 404, name).await;
        }
    }
    for list in ["networks", "subnets", "ports"] {
        assert_eq!(cloud.get("bob", &format!("/v2.0/{list}")).await[list], json!([]));
        assert_ne!(cloud.get("admin", &format!("/v2.0/{list}")).await[list], json!([]));
    }
    let body = Some(json!({"port": {"network_id": network}}));
    cloud.refused("bob", "POST", "/v2.0/ports", body, 404, "NetworkNotFound").await;
    let share = Some(json!({"network": {"shared": true}}));
    let denied = "PolicyNotAuthorized";
    cloud.refused("alice", "PUT", &paths[0].0, share.clone(), 403, denied).await;
    assert_eq!(cloud.call("admin", "PUT", &paths[0].0, share).await.0, 200);
    cloud.get("bob", &paths[0].0).await;
    cloud.get("bob", &paths[1].0).await;
    cloud.refused("bob", "GET", &paths[2].0, None, 404, "PortNotFound").await;
    cloud.refused("bob", "DELETE", &paths[0].0, None, 403, denied).await;
    let own = cloud.make("bob", "/v2.0/ports", "port", json!({"network_id": network})).await;
    // The network's owner sees, and may delete, what others plug into it.
    let path = format!("/v2.0/ports/{}", id(&own));
    cloud.get("alice", &path).await;
    let chosen =
        json!({"port": {"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.9"}]}});
    cloud.refused("bob", "POST", "/v2.0/ports", Some(chosen), 403, denied).await;
    let unshare = Some(json!({"network": {"shared": false}}));
    let multiple = "InvalidSharedSetting";
    cloud.refused("admin", "PUT", &paths[0].0, unshare, 409, multiple).await;
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
}

async fn only_operators_make_things_for_others(cloud: Cloud) {
    let body = json!({"name": "n", "project_id": "p-bob"});
    let wanted = Some(json!({ "network": body.clone() }));
    cloud.refused("alice", "POST", "/v2.0/networks", wanted, 400, "HTTPBadRequest").await;
    let made = cloud.make("admin", "/v2.0/networks", "network", body).await;
    assert_eq!(made["tenant_id"], "p-bob");
    cloud.get("bob", &format!("/v2.0/networks/{}", id(&made))).await;
}

async fn lists_filter_sort_and_page(cloud: Cloud) {
    let many: Vec<Value> =
        ["d", "a", "c", "b", "e"].iter().map(|name| json!({ "name": name })).collect();
    let (status, bulk) =
        cloud.call("alice", "POST", "/v2.0/networks", Some(json!({"networks": many}))).await;
    assert_eq!(status, 201, "{bulk}");
    assert_eq!(names(&bulk, "networks"), ["d", "a", "c", "b", "e"]);
    let list = |query: &str| {
        let (cloud, path) = (cloud.clone(), format!("/v2.0/networks?{query}"));
        async move { cloud.get("alice", &path).await }
    };
    let by_name = list("sort_key=name&sort_dir=desc").await;
    assert_eq!(names(&by_name, "networks"), ["e", "d", "c", "b", "a"]);
    assert_eq!(names(&list("name=a&name=c&sort_key=name").await, "networks"), ["a", "c"]);
    assert_eq!(names(&list("name=").await, "networks"), Vec::<String>::new());
    assert_eq!(list("shared=True").await["networks"], json!([]));
    assert_eq!(list("router:external=True").await["networks"], json!([]));
    assert_eq!(list("router%3Aexternal=False").await["networks"].as_array().unwrap().len(), 5);
    assert_eq!(list("status=ACTIVE").await["networks"].as_array().unwrap().len(), 5);
    // The way through, page by page, and back.
    let mut path = "/v2.0/networks?limit=2&sort_key=name&sort_dir=asc".to_owned();
    let mut seen = Vec::new();
    let mut last = Value::Null;
    for _ in 0..4 {
        last = cloud.get("alice", &path).await;
        seen.extend(names(&last, "networks"));
        let Some(next) = link(&last, "next") else { break };
        path = next;
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    let back = cloud.get("alice", &link(&last, "previous").unwrap()).await;
    assert_eq!(names(&back, "networks"), ["c", "d"]);
    assert_eq!(list("limit=0").await.get("networks_links"), None);
    for bad in ["colour=red", "limit=-1", "sort_key=colour", "shared=maybe", "marker=x&limit=1"] {
        let path = format!("/v2.0/networks?{bad}");
        assert_eq!(cloud.call("alice", "GET", &path, None).await.0, 400, "{bad}");
    }
}

async fn ports_are_found_by_address_device_and_group(cloud: Cloud) {
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let group = id(&cloud
        .make("alice", "/v2.0/security-groups", "security_group", json!({"name": "web"}))
        .await);
    let a = cloud
        .port_on(network, json!({"name": "a", "fixed_ips": [{"ip_address": "10.0.0.5"}]}))
        .await;
    cloud
        .port_on(
            network,
            json!({"name": "b", "device_id": "d", "device_owner": "me", "security_groups": [group],
                   "fixed_ips": [{"ip_address": "10.0.0.50"}]}),
        )
        .await;
    for (query, wanted) in [
        ("fixed_ips=ip_address%3D10.0.0.5".to_owned(), vec!["a"]),
        ("fixed_ips=ip_address_substr%3D0.0.5".to_owned(), vec!["a", "b"]),
        (format!("fixed_ips=subnet_id%3D{subnet}"), vec!["a", "b"]),
        (format!("fixed_ips=subnet_id%3D{subnet}&fixed_ips=ip_address%3D10.0.0.50"), vec!["b"]),
        (format!("fixed_ips=subnet_id%3D{}", ServerId::random()), vec![]),
        ("device_id=d".to_owned(), vec!["b"]),
        ("device_id=".to_owned(), vec!["a"]),
        ("device_owner=me&status=DOWN".to_owned(), vec!["b"]),
        (format!("mac_address={}", a["mac_address"].as_str().unwrap()), vec!["a"]),
        (format!("network_id={network}&admin_state_up=true"), vec!["a", "b"]),
        (format!("security_groups={group}"), vec!["b"]),
    ] {
        let found = cloud.get("alice", &format!("/v2.0/ports?sort_key=name&{query}")).await;
        assert_eq!(names(&found, "ports"), wanted, "{query}");
    }
}

async fn what_is_in_use_stays(cloud: Cloud) {
    let (network, subnet) = cloud.network_with("10.0.0.0/24").await;
    let port = cloud.port_on(network, json!({})).await;
    let (of_network, of_subnet) =
        (format!("/v2.0/networks/{network}"), format!("/v2.0/subnets/{subnet}"));
    cloud.refused("alice", "DELETE", &of_network, None, 409, "NetworkInUse").await;
    cloud.refused("alice", "DELETE", &of_subnet, None, 409, "SubnetInUse").await;
    let mac = json!({"port": {"network_id": network, "mac_address": port["mac_address"]}});
    cloud.refused("alice", "POST", "/v2.0/ports", Some(mac), 409, "MacAddressInUse").await;
    let twin = json!({"subnet": {"network_id": network, "cidr": "10.0.0.128/25", "ip_version": 4}});
    cloud.refused("alice", "POST", "/v2.0/subnets", Some(twin), 400, "InvalidInput").await;
    let path = format!("/v2.0/ports/{}", id(&port));
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    cloud.refused("alice", "DELETE", &path, None, 404, "PortNotFound").await;
    assert_eq!(cloud.call("alice", "DELETE", &of_network, None).await.0, 204);
    cloud.refused("alice", "GET", &of_subnet, None, 404, "SubnetNotFound").await;
    let usage = cloud.get("alice", "/v2.0/quotas/p-alice/details.json").await["quota"].clone();
    for resource in ["network", "subnet", "port"] {
        assert_eq!(usage[resource]["used"], 0, "{resource}");
    }
}

async fn quotas_are_kept_and_changed_by_operators(cloud: Cloud) {
    let set = |body: Value| Some(json!({ "quota": body }));
    let path = "/v2.0/quotas/p-alice";
    cloud
        .refused("alice", "PUT", path, set(json!({"network": 2})), 403, "PolicyNotAuthorized")
        .await;
    let (status, answer) = cloud.call("admin", "PUT", path, set(json!({"network": 2}))).await;
    assert_eq!((status, &answer["quota"]["network"]), (200, &json!(2)));
    assert_eq!(cloud.call("admin", "PUT", path, set(json!({"network": -2}))).await.0, 400);
    assert_eq!(cloud.call("admin", "PUT", path, set(json!({"beer": 2}))).await.0, 400);
    let many = json!({"networks": [{"name": "a"}, {"name": "b"}, {"name": "c"}]});
    cloud.refused("alice", "POST", "/v2.0/networks", Some(many), 409, "OverQuota").await;
    assert_eq!(cloud.get("alice", "/v2.0/networks").await["networks"], json!([]));
    assert_eq!(cloud.get("alice", &format!("{path}/default")).await["quota"]["network"], 100);
    cloud.refused("bob", "GET", path, None, 403, "PolicyNotAuthorized").await;
    assert_eq!(cloud.call("admin", "DELETE", path, None).await.0, 204);
    assert_eq!(cloud.get("alice", path).await["quota"]["network"], 100);
}

async fn a_project_has_one_default_group_that_stays(cloud: Cloud) {
    let found = cloud.get("alice", "/v2.0/security-groups").await;
    assert_eq!(names(&found, "security_groups"), ["default"]);
    let group = found["security_groups"][0].clone();
    let rules = group["security_group_rules"].as_array().unwrap();
    let shape: Vec<String> = rules
        .iter()
        .map(|rule| {
            let remote = if rule["remote_group_id"] == group["id"] { "self" } else { "any" };
            format!("{} {} {remote}", rule["direction"], rule["ethertype"]).replace('"', "")
        })
        .collect();
    for wanted in ["egress IPv4 any", "egress IPv6 any", "ingress IPv4 self", "ingress IPv6 self"] {
        assert!(shape.iter().any(|rule| rule == wanted), "{shape:?}");
    }
    let path = format!("/v2.0/security-groups/{}", id(&group));
    cloud.refused("alice", "DELETE", &path, None, 409, "SecurityGroupCannotRemoveDefault").await;
    let rename = Some(json!({"security_group": {"name": "x"}}));
    cloud.refused("alice", "PUT", &path, rename, 409, "SecurityGroupCannotUpdateDefault").await;
    let twin = Some(json!({"security_group": {"name": "default"}}));
    let exists = "SecurityGroupDefaultAlreadyExists";
    cloud.refused("alice", "POST", "/v2.0/security-groups", twin, 409, exists).await;
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let port = cloud.port_on(network, json!({})).await;
    assert_eq!(port["security_groups"], json!([id(&group)]));
}

async fn groups_and_rules_know_their_rules(cloud: Cloud) {
    let make = |body: Value| cloud.make("alice", "/v2.0/security-groups", "security_group", body);
    let group = id(&make(json!({"name": "web"})).await);
    let other = id(&make(json!({"name": "db"})).await);
    let rule = json!({"security_group_id": other, "direction": "ingress", "ethertype": "IPv4",
        "protocol": "tcp", "port_range_min": 5432, "port_range_max": 5432,
        "remote_group_id": group});
    let rules = "/v2.0/security-group-rules";
    let made = cloud.make("alice", rules, "security_group_rule", rule.clone()).await;
    let mut same = rule.clone();
    same["protocol"] = json!(6);
    let twin = Some(json!({ "security_group_rule": same }));
    cloud.refused("alice", "POST", rules, twin, 409, "SecurityGroupRuleExists").await;
    let mut foreign = rule.clone();
    foreign["remote_group_id"] = json!(ServerId::random());
    let foreign = Some(json!({ "security_group_rule": foreign }));
    cloud.refused("alice", "POST", rules, foreign, 404, "SecurityGroupNotFound").await;
    let found = cloud.get("alice", &format!("{rules}?remote_group_id={group}")).await;
    assert_eq!(found["security_group_rules"][0]["id"], made["id"]);
    // A group in use stays; a group that goes takes the rules that name it along.
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let port = cloud.port_on(network, json!({"security_groups": [group]})).await;
    assert_eq!(port["security_groups"], json!([group]));
    let path = format!("/v2.0/security-groups/{group}");
    cloud.refused("alice", "DELETE", &path, None, 409, "SecurityGroupInUse").await;
    assert_eq!(
        cloud.call("alice", "DELETE", &format!("/v2.0/ports/{}", id(&port)), None).await.0,
        204
    );
    assert_eq!(cloud.call("alice", "DELETE", &path, None).await.0, 204);
    let gone = format!("{rules}/{}", id(&made));
    cloud.refused("alice", "GET", &gone, None, 404, "SecurityGroupRuleNotFound").await;
    let usage = cloud.get("alice", "/v2.0/quotas/p-alice/details.json").await["quota"].clone();
    assert_eq!(usage["security_group"]["used"], 2);
    assert_eq!(usage["security_group_rule"]["used"], 6);
}

async fn port_security_and_groups_go_together(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let port = cloud.port_on(network, json!({})).await;
    let path = format!("/v2.0/ports/{}", id(&port));
    let off = json!({"port": {"port_security_enabled": false}});
    let has = "PortSecurityPortHasSecurityGroup";
    cloud.refused("alice", "PUT", &path, Some(off), 409, has).await;
    let off = json!({"port": {"port_security_enabled": false, "security_groups": []}});
    assert_eq!(cloud.call("alice", "PUT", &path, Some(off)).await.0, 200);
    let pairs = json!({"port": {"allowed_address_pairs": [{"ip_address": "10.0.0.9"}]}});
    let needs = "AddressPairAndPortSecurityRequired";
    cloud.refused("alice", "PUT", &path, Some(pairs), 409, needs).await;
    let mac = json!({"port": {"mac_address": "fa:16:3e:00:00:01"}});
    let denied = "PolicyNotAuthorized";
    cloud.refused("alice", "PUT", &path, Some(mac.clone()), 403, denied).await;
    assert_eq!(cloud.call("admin", "PUT", &path, Some(mac)).await.0, 200);
    let host = json!({"port": {"binding:host_id": "a"}});
    cloud.refused("alice", "PUT", &path, Some(host), 403, denied).await;
}

async fn tags_are_set_and_searched(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let path = format!("/v2.0/networks/{network}/tags");
    let body = Some(json!({"tags": ["red", "blue"]}));
    let (status, answer) = cloud.call("alice", "PUT", &path, body).await;
    assert_eq!((status, answer), (200, json!({"tags": ["blue", "red"]})));
    assert_eq!(cloud.call("alice", "PUT", &format!("{path}/green"), None).await.0, 201);
    assert_eq!(cloud.call("alice", "GET", &format!("{path}/green"), None).await.0, 204);
    assert_eq!(cloud.call("alice", "DELETE", &format!("{path}/blue"), None).await.0, 204);
    cloud.refused("alice", "GET", &format!("{path}/blue"), None, 404, "TagNotFound").await;
    for (query, found) in [
        ("tags=red,green", true),
        ("tags=red,blue", false),
        ("tags-any=red,blue", true),
        ("not-tags=red,blue", true),
        ("not-tags-any=red,blue", false),
        ("tags=re", false),
        ("tags=r%25", false),
    ] {
        let list = cloud.get("alice", &format!("/v2.0/networks?{query}")).await;
        assert_eq!(list["networks"] != json!([]), found, "{query}");
    }
    cloud.refused("bob", "GET", &path, None, 404, "NetworkNotFound").await;
    assert_eq!(cloud.call("alice", "GET", "/v2.0/cars/1/tags", None).await.0, 404);
}

async fn hosts_are_listed_as_agents_and_zones(cloud: Cloud) {
    cloud.host("a", "l2").await;
    let agents = cloud.get("admin", "/v2.0/agents").await;
    assert_eq!(agents["agents"][0]["host"], "a");
    assert_eq!(agents["agents"][0]["alive"], false, "it has never been heard of");
    let path = format!("/v2.0/agents/{}", id(&agents["agents"][0]));
    cloud.get("admin", &path).await;
    assert_eq!(cloud.get("admin", "/v2.0/agents?host=b").await["agents"], json!([]));
    cloud.refused("alice", "GET", "/v2.0/agents", None, 403, "PolicyNotAuthorized").await;
    let zones = cloud.get("alice", "/v2.0/availability_zones").await;
    let wanted = json!([{"name": "zone-1", "resource": "network", "state": "available"}]);
    assert_eq!(zones["availability_zones"], wanted);
}

async fn a_server_takes_ports_and_gives_them_back(cloud: Cloud) {
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let own = id(&cloud.port_on(network, json!({})).await);
    let (server, on) = (ServerId::random(), Some(network));
    let requests = vec![
        NicRequest {
            port: Some(own.parse().unwrap()),
            tag: Some("mgmt".into()),
            ..Default::default()
        },
        NicRequest {
            network: on,
            fixed_ip: Some("10.0.0.99".parse().unwrap()),
            ..Default::default()
        },
    ];
    let ports = cloud.prepare(server, requests.clone(), &["default"]).await.unwrap();
    assert_eq!(ports[0].id.to_string(), own);
    assert_eq!(ports[1].fixed_ips[0].1.to_string(), "10.0.0.99");
    assert_eq!((ports[1].mtu, ports[1].device_id.clone()), (1500, server.to_string()));
    let fault = cloud.prepare(ServerId::random(), requests, &[]).await.unwrap_err();
    assert_eq!(fault.status(), 409, "{fault}");
    let service = cloud.network.clone();
    let views = cloud
        .transact(move |tx| {
            let service = service.clone();
            Box::pin(async move { service.ports_of_servers(tx, &[server]).await })
        })
        .await
        .unwrap();
    let views = &views[&server];
    assert_eq!(views.len(), 2);
    assert_eq!((views[0].network_name.as_str(), views[0].tag.as_deref()), ("n", Some("mgmt")));
    assert_eq!(views[1].security_groups[0].1, "default");
    cloud.release(server).await;
    let left = cloud.get("alice", "/v2.0/ports").await["ports"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_eq!((id(&left[0]), &left[0]["device_id"]), (own, &json!("")));
}

async fn nics_that_cannot_be_are_refused_in_novas_words(cloud: Cloud) {
    let bare = id(&cloud.make("alice", "/v2.0/networks", "network", json!({"name": "b"})).await);
    let (network, _) = cloud.network_with("10.0.0.0/24").await;
    let on = |network: &str| NicRequest {
        network: Some(network.parse::<NetworkId>().unwrap()),
        ..NicRequest::default()
    };
    for (request, groups, status, word) in [
        (on(&bare), vec![], 400, "requires a subnet"),
        (on(&ServerId::random().to_string()), vec![], 400, "could not be found"),
        (on(&network.to_string()), vec!["nope"], 400, "Security group nope not found"),
        (NicRequest::default(), vec![], 400, "must name"),
    ] {
        let fault = cloud.prepare(ServerId::random(), vec![request], &groups).await.unwrap_err();
        assert_eq!(fault.status(), status, "{fault}");
        assert!(fault.message.contains(word), "{fault}");
    }
    let (service, ctx) = (cloud.network.clone(), cloud.ctx("alice"));
    let auto = |cloud: Cloud| {
        let (service, ctx) = (service.clone(), ctx.clone());
        async move {
            cloud
                .transact(move |tx| {
                    let (service, ctx) = (service.clone(), ctx.clone());
                    Box::pin(async move { service.auto_networks(tx, &ctx).await })
                })
                .await
        }
    };
    assert_eq!(auto(cloud.clone()).await.unwrap_err().status(), 409);
    cloud.call("alice", "DELETE", &format!("/v2.0/networks/{bare}"), None).await;
    assert_eq!(auto(cloud.clone()).await.unwrap()[0].network, Some(network));
    cloud.call("alice", "DELETE", &format!("/v2.0/networks/{network}"), None).await;
    assert!(auto(cloud.clone()).await.unwrap().is_empty());
}
}
