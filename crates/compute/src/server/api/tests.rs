//! The wire of servers: who may, what is shown in which microversion, what lists understand.

use serde_json::{Value, json};
use service_kit::{Access, Method};

use crate::test_support::{Cloud, On, on_both, text};

fn has(server: &Value, key: &str) -> bool {
    server.get(key).is_some()
}

#[tokio::test]
async fn a_servers_shape_follows_the_microversion() {
    let cloud = Cloud::new(1).await;
    let id = cloud.boot_settled("web").await;
    let path = format!("/compute/v2.1/servers/{id}");
    // field, first minor version that shows it to a member
    let table = [
        ("locked", 9),
        ("description", 19),
        ("tags", 26),
        ("trusted_image_certificates", 63),
        ("server_groups", 71),
        ("locked_reason", 73),
        ("OS-EXT-SRV-ATTR:hostname", 90),
        ("pinned_availability_zone", 96),
    ];
    for (field, first) in table {
        for (minor, shown) in [(first - 1, false), (first, true), (96, true)] {
            let version = format!("2.{minor}");
            let answer = cloud
                .call_at(Method::GET, &path, Value::Null, "member", &version)
                .await
                .expect(200);
            assert_eq!(has(&answer["server"], field), shown, "{field} at {version}");
        }
    }
    let at = async |version: &str, token: &str| {
        cloud.call_at(Method::GET, &path, Value::Null, token, version).await.expect(200)["server"]
            .clone()
    };
    assert_eq!(at("2.46", "member").await["flavor"]["id"], "1");
    let flavor = at("2.47", "member").await["flavor"].clone();
    assert_eq!((flavor["original_name"].as_str(), has(&flavor, "id")), (Some("tiny"), false));
    assert_eq!(flavor["extra_specs"], json!({}));
    let operators = at("2.96", "admin").await;
    assert_eq!(operators["OS-EXT-SRV-ATTR:host"], "host-1");
    assert_eq!(operators["host_status"], "UP");
    assert!(!has(&at("2.96", "member").await, "OS-EXT-SRV-ATTR:host"));
    assert!(!has(&at("2.15", "admin").await, "host_status"));
    let member = at("2.1", "member").await;
    assert_eq!(text(&member["hostId"]).len(), 56);
    assert_eq!(member["config_drive"], "");
    assert_eq!(member["links"][0]["href"], format!("http://cloud.test{path}"));
    assert!(member["image"]["links"][0]["href"].as_str().unwrap().contains("/images/"));
}

#[tokio::test]
async fn the_answer_to_a_request_is_novas() {
    let cloud = Cloud::new(1).await;
    let mut wish = cloud.wish("web");
    wish["server"]["adminPass"] = json!("chosen");
    wish["server"]["security_groups"] = json!([{"name": "default"}]);
    let path = "/compute/v2.1/servers";
    let made = cloud.call(Method::POST, path, wish, "member").await.expect(202)["server"].clone();
    let mut keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["OS-DCF:diskConfig", "adminPass", "id", "links", "security_groups"]);
    assert_eq!(made["adminPass"], "chosen");
    let mut wish = cloud.wish("more");
    wish["server"]["return_reservation_id"] = json!(true);
    let made = cloud.call(Method::POST, path, wish, "member").await.expect(202);
    let reservation = text(&made["reservation_id"]);
    assert!(reservation.starts_with("r-") && reservation.len() == 10);
    let found = cloud.get(&format!("/servers?reservation_id={reservation}")).await;
    assert_eq!(found["servers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_made() {
    let cloud = Cloud::new(1).await;
    let missing = "12345678-1234-4234-8234-123456789012";
    let table = [
        ("flavorRef", json!("77"), 400),
        ("imageRef", json!(missing), 400),
        ("imageRef", json!("nonsense"), 400),
        ("networks", json!([{"uuid": missing}]), 400),
        ("networks", json!([{"port": missing}]), 400),
        ("security_groups", json!([{"name": "none-such"}]), 400),
        ("key_name", json!("none-such"), 400),
        ("availability_zone", json!("none-such"), 400),
        ("availability_zone", json!("zone-1:host-1"), 403),
        ("name", json!(""), 400),
        ("name", json!("x".repeat(256)), 400),
        ("metadata", json!({"k": "v".repeat(256)}), 400),
        ("accessIPv4", json!("eins"), 400),
        ("accessIPv6", json!("zwei"), 400),
    ];
    for (field, value, status) in table {
        let mut wish = cloud.wish("web");
        wish["server"][field] = value.clone();
        let answer = cloud.call(Method::POST, "/compute/v2.1/servers", wish, "member").await;
        assert_eq!(answer.status, status, "{field}={value}: {}", answer.body);
    }
    let reader = cloud.call(Method::POST, "/compute/v2.1/servers", cloud.wish("w"), "reader").await;
    reader.expect(403);
    assert_eq!((cloud.used("instances").await, cloud.ports().await), (0, 0));
    let all = cloud.get("/servers").await;
    assert_eq!(all["servers"], json!([]));
}

#[tokio::test]
async fn another_projects_server_does_not_exist() {
    let cloud = Cloud::new(1).await;
    let id = cloud.boot_settled("web").await;
    let path = format!("/compute/v2.1/servers/{id}");
    for (method, rest, body) in [
        (Method::GET, "", Value::Null),
        (Method::PUT, "", json!({"server": {"name": "mine"}})),
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/action", json!({"os-stop": null})),
        (Method::POST, "/action", json!({"os-getConsoleOutput": {}})),
        (Method::POST, "/action", json!({"lock": null})),
        (Method::GET, "/metadata", Value::Null),
        (Method::POST, "/metadata", json!({"metadata": {"a": "b"}})),
        (Method::GET, "/ips", Value::Null),
        (Method::GET, "/os-interface", Value::Null),
        (Method::GET, "/tags", Value::Null),
        (Method::PUT, "/tags/t", Value::Null),
        (Method::GET, "/os-instance-actions", Value::Null),
        (Method::GET, "/os-volume_attachments", Value::Null),
    ] {
        let url = format!("{path}{rest}");
        let answer = cloud.call(method.clone(), &url, body.clone(), "other").await;
        assert_eq!(answer.status, 404, "{method} {rest} {body}: {}", answer.body);
    }
    let reader = cloud.call(Method::DELETE, &path, Value::Null, "reader").await;
    assert_eq!(reader.status, 403, "who may see it is told that this is not allowed");
    let list = cloud.call(Method::GET, "/compute/v2.1/servers", Value::Null, "other").await;
    assert_eq!(list.expect(200)["servers"], json!([]));
    let all = "/compute/v2.1/servers?all_tenants=1";
    cloud.call(Method::GET, all, Value::Null, "member").await.expect(403);
    let list = cloud.call(Method::GET, all, Value::Null, "admin").await.expect(200);
    assert_eq!(list["servers"].as_array().unwrap().len(), 1);
}

/// Every route that is not public refuses a caller without a token, and every route with a rule
/// refuses one whose roles allow nothing.
#[tokio::test]
async fn no_route_is_open_by_mistake() {
    let cloud = Cloud::new(0).await;
    let table = cloud.compute.routes::<()>().table();
    assert!(table.len() > 60, "{}", table.len());
    for route in table {
        let path = route
            .path
            .replace("{id}", "12345678-1234-4234-8234-123456789012")
            .replace(['{', '}'], "");
        let body = if route.method == Method::GET { Value::Null } else { json!({}) };
        let answer = cloud.call(route.method.clone(), &path, body.clone(), "no-such-token").await;
        let expected = if route.access == Access::Public { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{} {}", route.method, route.path);
        if let Access::Rule(rule) = route.access {
            let answer = cloud.call(route.method.clone(), &path, body, "nobody").await;
            let open = [
                "compute:flavors:list",
                "compute:flavors:show",
                "compute:zones:list",
                "compute:quotas:defaults",
                "compute:limits:show",
                "compute:extensions:list",
            ];
            let own = rule.starts_with("compute:keypairs:");
            if !open.contains(&rule) && !own {
                assert_eq!(answer.status, 403, "{} {}: {}", route.method, route.path, answer.body);
            }
        }
    }
}

on_both! {

async fn lists_filter_sort_and_page(on: On) {
    let cloud = on.cloud(2).await;
    let mut ids = Vec::new();
    for name in ["alpha-1", "Alpha-2", "beta-1", "beta-2"] {
        ids.push(cloud.boot(name).await);
        cloud.clock.advance(std::time::Duration::from_secs(1));
    }
    cloud.settle().await;
    cloud.act(&ids[2], json!({"os-stop": null})).await.expect(202);
    cloud.call(Method::PUT, &format!("/compute/v2.1/servers/{}/tags/red", ids[0]), Value::Null, "member").await.expect(201);
    cloud.call(Method::PUT, &format!("/compute/v2.1/servers/{}/tags/blue", ids[0]), Value::Null, "member").await.expect(201);
    cloud.call(Method::PUT, &format!("/compute/v2.1/servers/{}/tags/red", ids[1]), Value::Null, "member").await.expect(201);
    cloud.settle().await;
    let address = text(&cloud.server(&ids[3]).await["addresses"]["net"][0]["addr"]);
    let names = async |query: &str| -> Vec<String> {
        let shown = cloud.get(&format!("/servers?{query}")).await;
        shown["servers"].as_array().unwrap().iter().map(|server| text(&server["name"])).collect()
    };
    assert_eq!(names("").await, ["beta-2", "beta-1", "Alpha-2", "alpha-1"], "newest first");
    assert_eq!(names("name=alpha").await, ["Alpha-2", "alpha-1"]);
    assert_eq!(names("name=%5Ebeta-%5B2-9%5D%24").await, ["beta-2"]);
    assert_eq!(names("name=a%25").await, Vec::<String>::new());
    assert_eq!(names("status=SHUTOFF").await, ["beta-1"]);
    assert_eq!(names("status=active&sort_key=display_name&sort_dir=asc").await, ["Alpha-2", "alpha-1", "beta-2"]);
    assert_eq!(names("status=rescue").await, Vec::<String>::new());
    assert_eq!(names("flavor=1&limit=2").await, ["beta-2", "beta-1"]);
    assert_eq!(names("flavor=2").await, Vec::<String>::new());
    assert_eq!(names(&format!("image={}&limit=1", cloud.image)).await, ["beta-2"]);
    assert_eq!(names("tags=red,blue").await, ["alpha-1"]);
    assert_eq!(names("tags-any=red,blue").await, ["Alpha-2", "alpha-1"]);
    assert_eq!(names("not-tags=red,blue").await, ["beta-2", "beta-1", "Alpha-2"]);
    assert_eq!(names("not-tags-any=red").await, ["beta-2", "beta-1"]);
    assert_eq!(names(&format!("ip=%5E{}%24", address.replace('.', "%5C."))).await, ["beta-2"]);
    assert_eq!(names("power_state=4").await, ["beta-1"]);
    assert_eq!(names("sort_key=created_at&sort_dir=asc&limit=1").await, ["alpha-1"]);
    assert_eq!(names("locked=false&limit=1").await, ["beta-2"]);
    // pages: every row once, in order, and no link after the last
    let mut seen = Vec::new();
    let mut next = Some("/servers/detail?limit=3&sort_key=display_name&sort_dir=desc".to_owned());
    while let Some(path) = next.take() {
        let page = cloud.get(&path).await;
        seen.extend(page["servers"].as_array().unwrap().iter().map(|server| text(&server["name"])));
        next = page["servers_links"][0]["href"]
            .as_str()
            .map(|href| href.trim_start_matches("http://cloud.test/compute/v2.1").to_owned());
    }
    assert_eq!(seen, ["beta-2", "beta-1", "alpha-1", "Alpha-2"]);
    let member = |query: &str| {
        let path = format!("/compute/v2.1/servers?{query}");
        let cloud = &cloud;
        async move { cloud.call(Method::GET, &path, Value::Null, "member").await.status }
    };
    for bad in [
        "status=nonsense", "marker=12345678-1234-4234-8234-123456789012", "limit=-1", "colour=1",
        "changes-since=soon", "sort_key=secret", "name=(", "metadata=1", "all_tenants=maybe", "created_at=2020",
    ] {
        assert_eq!(member(bad).await, 400, "{bad}");
    }
    assert_eq!(member("sort_key=host").await, 403);
    assert_eq!(member("status=deleted").await, 403);
    let path = "/compute/v2.1/servers?colour=1";
    cloud.call_at(Method::GET, path, Value::Null, "member", "2.74").await.expect(200);
}

async fn what_changed_since_includes_what_is_gone(on: On) {
    let cloud = on.cloud(1).await;
    let first = cloud.boot_settled("first").await;
    cloud.clock.advance(std::time::Duration::from_secs(10));
    let since = cloud.kit.clock.now().rfc3339_seconds();
    cloud.drive().await;
    let second = cloud.boot_settled("second").await;
    let path = format!("/compute/v2.1/servers/{second}");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(204);
    cloud.settle().await;
    let changed = cloud.get(&format!("/servers/detail?changes-since={since}")).await;
    let changed = changed["servers"].as_array().unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0]["id"].as_str(), changed[0]["status"].as_str()), (Some(second.as_str()), Some("DELETED")));
    let live = cloud.get("/servers").await;
    assert_eq!(live["servers"][0]["id"], first);
    assert_eq!(live["servers"].as_array().unwrap().len(), 1);
    let actions = cloud.get(&format!("/servers/{second}/os-instance-actions")).await;
    assert_eq!(actions["instanceActions"].as_array().unwrap().len(), 2, "also of one that is gone");
    let path = "/compute/v2.1/servers?status=DELETED&all_tenants=1";
    let gone = cloud.call(Method::GET, path, Value::Null, "admin").await.expect(200);
    assert_eq!(gone["servers"][0]["id"], second);
}

async fn free_text_changes_and_reaches_the_guest(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    let path = format!("/compute/v2.1/servers/{id}");
    let body = json!({"server": {"name": "renamed", "description": null, "accessIPv4": "192.0.2.1"}});
    let shown = cloud.call(Method::PUT, &path, body, "member").await.expect(200);
    assert_eq!((shown["server"]["name"].as_str(), shown["server"]["accessIPv4"].as_str()), (Some("renamed"), Some("192.0.2.1")));
    let url = format!("{path}/metadata");
    let body = json!({"metadata": {"a": "1", "b": "2"}});
    cloud.call(Method::POST, &url, body, "member").await.expect(200);
    let shown = cloud.call(Method::PUT, &format!("{url}/a"), json!({"meta": {"a": "3"}}), "member").await;
    assert_eq!(shown.expect(200), json!({"meta": {"a": "3"}}));
    cloud.call(Method::DELETE, &format!("{url}/b"), Value::Null, "member").await.expect(204);
    cloud.call(Method::DELETE, &format!("{url}/b"), Value::Null, "member").await.expect(404);
    assert_eq!(cloud.get(&format!("/servers/{id}/metadata")).await, json!({"metadata": {"a": "3"}}));
    let document = cloud.server_documents(&id).await[0].1.clone();
    assert_eq!(document.spec["name"], "renamed");
    assert_eq!(document.spec["metadata"]["meta"], json!({"a": "3"}));
    assert_eq!(document.spec["metadata"]["hostname"], "web", "a host name stays");
    let tags = cloud.call(Method::PUT, &format!("{path}/tags"), json!({"tags": ["x", "y"]}), "member").await;
    assert_eq!(tags.expect(200), json!({"tags": ["x", "y"]}));
    cloud.call(Method::PUT, &format!("{path}/tags/x"), Value::Null, "member").await.expect(204);
    cloud.call(Method::GET, &format!("{path}/tags/z"), Value::Null, "member").await.expect(404);
    cloud.call(Method::DELETE, &format!("{path}/tags"), Value::Null, "member").await.expect(204);
}

async fn a_locked_server_is_for_administrators(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    cloud.act(&id, json!({"lock": {"locked_reason": "because"}})).await.expect(202);
    assert_eq!(cloud.server(&id).await["locked_reason"], "because");
    cloud.act(&id, json!({"os-stop": null})).await.expect(409);
    let path = format!("/compute/v2.1/servers/{id}");
    cloud.call(Method::DELETE, &path, Value::Null, "member").await.expect(409);
    cloud.act(&id, json!({"unlock": null})).await.expect(202);
    let url = format!("{path}/action");
    cloud.call(Method::POST, &url, json!({"lock": null}), "admin").await.expect(202);
    cloud.act(&id, json!({"unlock": null})).await.expect(403);
    cloud.call(Method::POST, &url, json!({"os-stop": null}), "admin").await.expect(202);
}

async fn interfaces_and_consoles_are_asked_where_they_are(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    let ports = cloud.get(&format!("/servers/{id}/os-interface")).await["interfaceAttachments"].clone();
    assert_eq!(ports[0]["port_state"], "ACTIVE");
    assert_eq!(ports[0]["net_id"], cloud.network_id);
    let port = text(&ports[0]["port_id"]);
    let one = cloud.get(&format!("/servers/{id}/os-interface/{port}")).await;
    assert_eq!(one["interfaceAttachment"]["mac_addr"], ports[0]["mac_addr"]);
    let ips = cloud.get(&format!("/servers/{id}/ips/net")).await;
    assert_eq!(ips["net"][0]["addr"], ports[0]["fixed_ips"][0]["ip_address"]);
    let groups = cloud.get(&format!("/servers/{id}/os-security-groups")).await;
    assert_eq!(groups["security_groups"][0]["name"], "default");
    let rules = groups["security_groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "what comes in, over IPv4 and IPv6");
    assert_eq!(rules[0]["group"]["name"], "default", "from its own members");
    assert_eq!(rules[0]["parent_group_id"], groups["security_groups"][0]["id"]);
    let output = cloud.act(&id, json!({"os-getConsoleOutput": {"length": "5"}})).await.expect(200);
    assert_eq!(output["output"], format!("{id} Some(5) login: "), "without the bell");
    for bad in [json!({"length": -2}), json!({"length": "x"}), json!({"lines": 1})] {
        cloud.act(&id, json!({"os-getConsoleOutput": bad})).await.expect(400);
    }
    for (action, status) in [("resize", 501), ("no-such-action", 400)] {
        assert_eq!(cloud.act(&id, json!({action: {}})).await.status, status, "{action}");
    }
    let unknown = "12345678-1234-4234-8234-123456789012";
    cloud.act(unknown, json!({"resize": {"flavorRef": "1"}})).await.expect(404);
}

async fn states_refuse_in_novas_words(on: On) {
    let cloud = on.cloud(1).await;
    let id = cloud.boot_settled("web").await;
    let refused = cloud.act(&id, json!({"os-start": null})).await.expect(409);
    assert_eq!(
        refused["conflictingRequest"]["message"],
        format!("Cannot 'start' instance {id} while it is in vm_state active")
    );
    cloud.act(&id, json!({"os-stop": null})).await.expect(202);
    let refused = cloud.act(&id, json!({"os-stop": null})).await.expect(409);
    assert_eq!(
        refused["conflictingRequest"]["message"],
        format!("Cannot 'stop' instance {id} while it is in task_state powering-off")
    );
    cloud.settle().await;
    cloud.act(&id, json!({"reboot": {"type": "SOFT"}})).await.expect(409);
    cloud.act(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    cloud.settle().await;
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
}

}
