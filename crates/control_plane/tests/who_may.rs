//! The table of who may do what in `docs/`, made from the routes and rules that are served. To write
//! it anew: `WRITE_DOCS=1 cargo nextest run -p control_plane who_may`.

mod world;

use std::fmt::Write as _;
use std::path::Path;

use service_kit::policy::TokenScope;
use service_kit::{Access, Policy, RouteInfo, Service, Token};
use world::World;

/// From the least.
const LADDER: [&str; 4] = ["reader", "member", "manager", "admin"];

fn token(scope: TokenScope, role: Option<&str>) -> Token {
    let roles: Vec<&str> = role.into_iter().collect();
    let project = (scope == TokenScope::Project).then_some("p");
    let mut token = Token::for_test("u", project, &roles);
    match scope {
        TokenScope::Domain => token.domain = Some("d".parse().unwrap()),
        TokenScope::System => token.system = true,
        TokenScope::Project => {}
    }
    token
}

/// The least role with which a token of the scope could do one of the rules to something.
fn least(policy: &Policy, rules: &[&str], scope: TokenScope) -> &'static str {
    let could = |role| {
        let token = token(scope, role);
        rules.iter().any(|rule| policy.could_allow(rule, &token))
    };
    if could(None) {
        return "any";
    }
    LADDER.into_iter().find(|role| could(Some(role))).unwrap_or("—")
}

fn row(policy: &Policy, route: &RouteInfo) -> String {
    let rules = route.access.rules();
    let (who, names) = match route.access {
        Access::Public => ("anybody, without a token | | |".to_owned(), String::new()),
        Access::Token => ("any | any | any | any".to_owned(), "the service decides".to_owned()),
        _ => {
            let service = token(TokenScope::Project, Some("service"));
            let service = rules.iter().any(|rule| policy.could_allow(rule, &service));
            let columns = [TokenScope::Project, TokenScope::Domain, TokenScope::System]
                .map(|scope| least(policy, rules, scope));
            let names: Vec<String> = rules.iter().map(|rule| format!("`{rule}`")).collect();
            let service = if service { "yes" } else { "—" };
            (format!("{} | {service}", columns.join(" | ")), names.join(", "))
        }
    };
    format!("| {} | `{}` | {who} | {names} |", route.method, route.path)
}

fn table(world: &World) -> String {
    let policy = world.services.app.kit().policy.clone();
    let mut text = String::from(
        "# Who may do what\n\n\
         Made from the routes and rules of this release by a test that fails when it is stale \
         (`crates/control_plane/tests/who_may.rs`); do not edit it.\n\n\
         The columns say the least role, by the scope of the token, with which a request can \
         succeed for *some* object: of one's own user, project or domain as a rule, of all for \
         `admin`. `admin` implies `manager` implies `member` implies `reader`; `any` is a token \
         without roles. The rules' expressions follow below; an operator changes them in \
         `etc/policy.yaml`, and `meridian policy explain` says what holds for somebody.\n",
    );
    for service in Service::ALL {
        let mut routes: Vec<RouteInfo> =
            world.routes().into_iter().filter(|route| route.service == service).collect();
        if routes.is_empty() {
            continue;
        }
        routes.sort_by(|a, b| (&a.path, a.method.as_str()).cmp(&(&b.path, b.method.as_str())));
        writeln!(
            text,
            "\n## {}\n\n| method | path | project | domain | system | service role | rules |\n\
             |---|---|---|---|---|---|---|",
            service.catalog_type()
        )
        .unwrap();
        for route in &routes {
            writeln!(text, "{}", row(&policy, route)).unwrap();
        }
    }
    text.push_str("\n## The rules\n\n| rule | what | scopes | expression |\n|---|---|---|---|\n");
    for (name, expression, description) in policy.rules() {
        let scopes: Vec<&str> = policy.scopes(name).iter().map(|scope| scope.as_str()).collect();
        let expression = if expression.is_empty() { "(always)" } else { expression };
        let scopes = scopes.join(", ");
        writeln!(text, "| `{name}` | {description} | {scopes} | `{expression}` |").unwrap();
    }
    text
}

#[tokio::test]
async fn the_table_of_who_may_do_what_is_that_of_the_routes_served() {
    let world = World::new().await;
    let made = table(&world);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/who-may-do-what.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let stale = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
    assert!(
        made == kept,
        "docs/who-may-do-what.md is stale ({stale:?}); write it anew with \
         WRITE_DOCS=1 cargo nextest run -p control_plane who_may"
    );
}
