//! Every route that is served, walked with every persona. The routes come from the running router,
//! so one that is added without a thought about who may call it fails here.

mod world;

use serde_json::json;
use service_kit::Access;
use world::World;

/// A path with something in the place of each parameter.
fn concrete(path: &str) -> String {
    path.split('/')
        .map(
            |part| {
                if part.starts_with('{') { "00000000-0000-4000-8000-000000000000" } else { part }
            },
        )
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test]
async fn no_route_but_the_public_ones_answers_without_a_token() {
    let world = World::new().await;
    let mut public = Vec::new();
    for route in world.routes() {
        let path = concrete(&route.path);
        if route.access == Access::Public {
            public.push(format!("{} {}", route.method, route.path));
            continue;
        }
        for token in [None, Some("not-a-token"), Some("")] {
            let answer = world.ask(&route.method, &path, token, None).await;
            assert_eq!(
                answer.status, 401,
                "{} {path} with {token:?}: {}",
                route.method, answer.text
            );
        }
    }
    public.sort();
    public.dedup();
    // Discovery, and the one way in. A route that joins this list does so on purpose.
    let expected = include_str!("public_routes.txt");
    assert_eq!(public.join("\n"), expected.trim_end(), "the public routes have changed");
}

#[tokio::test]
async fn a_rule_that_refuses_a_persona_is_asked_before_anything_else() {
    let world = World::new().await;
    let (admin, demo) = (world.login("admin", "admin").await, world.login("demo", "demo").await);
    let (mut refused, mut reached) = (0, 0);
    let policy = world.services.app.kit().policy.clone();
    let admin_only = |rule: &str| {
        let names = ["rule:admin", "rule:admin_required", "role:admin"];
        policy.rules().any(|(name, text, _)| name == rule && names.contains(&text))
    };
    for route in world.routes() {
        let rules = route.access.rules();
        if rules.is_empty() {
            continue;
        }
        let path = concrete(&route.path);
        let first = !route.access.asked_first().is_empty();
        if rules.iter().all(|rule| admin_only(rule)) {
            let answer = world.ask(&route.method, &path, Some(&demo), Some(json!({}))).await;
            // Where the object is looked for first, there is none.
            let expected: &[u16] = if first { &[403] } else { &[400, 403, 404] };
            assert!(
                expected.contains(&answer.status),
                "{} {path} ({rules:?}): {} {}",
                route.method,
                answer.status,
                answer.text
            );
            refused += 1;
        }
        let answer = world.ask(&route.method, &path, Some(&admin), Some(json!({}))).await;
        // What is nobody's but the owner's, or a matter for a token of the system, refuses the
        // administrator of a project, too.
        let own = rules.iter().all(|rule| {
            let text = policy.rules().find(|(name, ..)| name == rule).map(|(_, text, _)| text);
            let text = text.unwrap_or_default().replace("role:admin and system_scope:all", "");
            !text.contains("admin")
        });
        assert!(
            ![401, 403].contains(&answer.status)
                || own
                || answer.text.contains("read-only")
                // Upstream's word, and status, for a group of options that there is not.
                || answer.text.contains("Invalid domain specific configuration")
                // A request that nobody signed.
                || answer.text.contains("EC2 Signature not supplied"),
            "{} {path} ({rules:?}) refuses the administrator: {}",
            route.method,
            answer.text
        );
        assert!(answer.status < 500, "{} {path}: {}", route.method, answer.text);
        reached += 1;
    }
    assert!(
        refused > 20 && reached > 100,
        "the table is too short: {refused} refused, {reached} reached"
    );
}
