//! The load knows every route of the API.

use simulation::load::wishes::{NOT_USED, is_used, left_out};

#[tokio::test(start_paused = true)]
async fn every_route_is_asked_for_or_left_out_with_a_reason() {
    let routes = simulation::world::routes().await.unwrap();
    assert!(routes.len() > 150, "the table is too short: {} routes", routes.len());
    let unknown: Vec<String> = routes
        .iter()
        .filter(|route| !is_used(route) && !left_out(route))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert!(
        unknown.is_empty(),
        "the simulation does not know what to send to these routes; add a body in \
         crates/simulation/src/load/wishes.rs: {unknown:#?}"
    );
    for (method, path, _) in NOT_USED {
        let there = routes.iter().any(|route| route.method == *method && route.path == *path);
        assert!(there, "{method} {path} is left out, and is no route any more");
    }
}
