//! The app as a whole: what every service's clients rely on, without any service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use cloud_types::{SystemClock, TestClock};
use database::test_support::TestDatabase;
use database::{BoxFuture, Database, DatabaseConfig, DatabaseError, Origin};
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::rate::RateLimit;
use crate::{
    Access, AccessRule, Answer, ApiResult, Created, Ctx, FixedTokens, Json, KitConfig, Path,
    Policy, PolicyRule, RouteOptions, StrictJson, Target, Token, TokenApplicationCredential,
    idempotency,
};

/// Runs tests on both databases: `name::sqlite`, `name::postgres`.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use super::{Fixture, KitConfig, TestDatabase};

            #[tokio::test]
            async fn sqlite() {
                let place = TestDatabase::sqlite(&[crate::MIGRATIONS]).await;
                super::$name(Fixture::on(place, KitConfig::default()).await).await;
            }

            #[tokio::test]
            async fn postgres() {
                let place = TestDatabase::postgres(&[crate::MIGRATIONS]).await;
                super::$name(Fixture::on(place, KitConfig::default()).await).await;
            }
        }
    )*};
}

on_both!(
    a_repeat_gets_the_same_answer_and_has_no_second_effect,
    a_passing_failure_is_not_remembered,
    a_crash_before_the_effect_leaves_the_key_free_after_a_while,
    a_crash_after_the_effect_is_told_or_answered,
);

const RULES: &[PolicyRule] = &[
    PolicyRule::new("t:read", "rule:project_reader", ""),
    PolicyRule::new("t:write", "rule:project_member", ""),
];

#[derive(Clone)]
struct World {
    kit: Kit,
    made: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thing {
    name: String,
}

async fn make(
    State(world): State<World>,
    ctx: Ctx,
    StrictJson(thing): StrictJson<Thing>,
) -> ApiResult<Answer<Value>> {
    ctx.authorise("t:write", &Target::project(&ctx.project()?))?;
    let made = world.made.fetch_add(1, Ordering::SeqCst) + 1;
    let ctx = match thing.name.as_str() {
        "remembered" => ctx.answering(|made: &Value| Created::new(made.clone())),
        _ => ctx,
    };
    let body = json!({"name": thing.name, "made": made});
    let stored = body.clone();
    let fails = thing.name == "fails";
    world
        .kit
        .transact(&ctx, move |tx| {
            let stored = stored.clone();
            Box::pin(async move {
                if fails {
                    return Err(Fault::unavailable("not now"));
                }
                tx.execute("INSERT INTO things (id) VALUES ($1)", &database::params![made as i64])
                    .await?;
                Ok::<_, Fault>(stored)
            }) as BoxFuture<'_, Result<Value, Fault>>
        })
        .await?;
    if thing.name == "dies" {
        // Stands for a process that is killed between its transaction and its answer.
        std::future::pending::<()>().await;
    }
    Ok(Answer(StatusCode::CREATED, body))
}

async fn show(ctx: Ctx, Path(id): Path<uuid::Uuid>) -> Json<Value> {
    Json(json!({"id": id, "asked": ctx.microversion.to_string(), "base": ctx.service_url()}))
}

async fn panics() -> &'static str {
    panic!("a bug");
}

async fn sleeps() -> &'static str {
    std::future::pending::<()>().await;
    "never"
}

async fn count(body: Body) -> ApiResult<Json<Value>> {
    use futures::StreamExt as _;
    let mut stream = body.into_data_stream();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        total += chunk.map_err(|_| Fault::bad_request("cut"))?.len();
    }
    Ok(Json(json!({"bytes": total})))
}

fn routes(service: Service, world: World) -> Routes {
    let short =
        RouteOptions { time_limit: Some(Duration::from_millis(20)), ..RouteOptions::default() };
    Routes::new(service)
        .route(Method::GET, "/things/{id}", Access::Rule("t:read"), show)
        .route(Method::POST, "/things", Access::Rule("t:write"), make)
        .route(Method::GET, "/panics", Access::Public, panics)
        .route(Method::POST, "/panics", Access::Token, panics)
        .route_with(Method::GET, "/sleeps", Access::Public, short, sleeps)
        .route_with(Method::PUT, "/upload", Access::Token, RouteOptions::STREAMING, count)
        .with_state(world)
}

struct Fixture {
    app: App,
    db: Database,
    clock: TestClock,
    made: Arc<AtomicUsize>,
    /// Kept: it goes with its database.
    _place: TestDatabase,
}

impl Fixture {
    async fn new() -> Fixture {
        Fixture::with(KitConfig::default()).await
    }

    async fn with(config: KitConfig) -> Fixture {
        Fixture::on(TestDatabase::sqlite(&[crate::MIGRATIONS]).await, config).await
    }

    async fn on(place: TestDatabase, config: KitConfig) -> Fixture {
        let (db, clock) = (place.db.clone(), place.clock.clone());
        db.transact(&Origin::system("test"), |tx| {
            Box::pin(async move { tx.execute("CREATE TABLE things (id BIGINT)", &[]).await })
                as BoxFuture<'_, Result<u64, DatabaseError>>
        })
        .await
        .unwrap();
        let tokens = FixedTokens::default()
            .with("member", Token::for_test("ann", Some("p"), &["member"]))
            .with("other", Token::for_test("bob", Some("q"), &["member"]))
            .with("reader", Token::for_test("ron", Some("p"), &["reader"]))
            .with("narrow", narrow());
        let kit = Kit::new(db.clone(), Policy::new(&[RULES]).unwrap(), Arc::new(tokens), config);
        let made = Arc::new(AtomicUsize::new(0));
        let world = World { kit: kit.clone(), made: made.clone() };
        let services =
            Service::ALL.into_iter().map(|service| routes(service, world.clone())).collect();
        Fixture { app: App::new(kit, services).unwrap(), db, clock, made, _place: place }
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 22).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn rows(&self) -> usize {
        self.db
            .read(|tx| {
                Box::pin(async move { tx.query("SELECT id FROM things", &[]).await })
                    as BoxFuture<'_, Result<Vec<database::Row>, DatabaseError>>
            })
            .await
            .unwrap()
            .len()
    }

    async fn make(&self, token: &str, name: &str, key: &str) -> (StatusCode, HeaderMap, Value) {
        let request = ask("POST", "/meridian/things", token)
            .header("idempotency-key", key)
            .body(Body::from(json!({"name": name}).to_string()))
            .unwrap();
        let (status, headers, text) = self.send(request).await;
        (status, headers, serde_json::from_str(&text).unwrap())
    }
}

/// A member's token that may show one kind of thing of one service, and nothing else.
fn narrow() -> Token {
    let mut token = Token::for_test("ann", Some("p"), &["member"]);
    token.delegation.application_credential = Some(TokenApplicationCredential {
        id: "c".into(),
        restricted: true,
        access_rules: Some(vec![AccessRule {
            service: "network".into(),
            method: "GET".into(),
            path: "/things/*".into(),
        }]),
    });
    token
}

#[tokio::test]
async fn access_rules_hold_in_every_service_before_anything_is_looked_up() {
    let fixture = Fixture::new().await;
    for service in Service::ALL {
        let prefix = service.prefix();
        let show = ask("GET", &format!("{prefix}/things/{ID}"), "narrow");
        let (shown, _, _) = fixture.send(show.body(Body::empty()).unwrap()).await;
        assert_eq!(shown, if service == Service::Network { 200 } else { 401 }, "{prefix}");
        let make = ask("POST", &format!("{prefix}/things"), "narrow");
        let body = Body::from(json!({"name": "a"}).to_string());
        assert_eq!(fixture.send(make.body(body).unwrap()).await.0, 401, "{prefix}");
    }
    assert_eq!(fixture.made.load(Ordering::SeqCst), 0);
}

fn ask(method: &str, path: &str, token: &str) -> http::request::Builder {
    let builder = Request::builder().method(method).uri(path).header("host", "cloud:5000");
    if token.is_empty() { builder } else { builder.header("x-auth-token", token) }
}

const ID: &str = "0d4c5f7e-8b64-4d0c-9d5e-2d5d3c1a7b11";

#[tokio::test]
async fn unknown_paths_and_methods_speak_the_services_language() {
    let fixture = Fixture::new().await;
    for service in Service::ALL {
        let path = format!("{}/nothing/here", service.prefix());
        let request = ask("GET", &path, "").header("accept", "application/json");
        let (status, headers, text) = fixture.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, 404, "{path}");
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        let body: Value = serde_json::from_str(&text).unwrap();
        let found = match service {
            Service::Identity => body["error"]["title"] == "Not Found",
            Service::Compute => body["itemNotFound"]["code"] == 404,
            Service::Network => body["NeutronError"]["type"] == "HTTPNotFound",
            Service::Image => body["code"] == "404 Not Found",
            Service::Meridian => body["fault"]["code"] == 404,
        };
        assert!(found, "{text}");
        let path = format!("{}/things", service.prefix());
        let (status, headers, text) =
            fixture.send(ask("DELETE", &path, "").body(Body::empty()).unwrap()).await;
        assert_eq!(status, 405, "{text}");
        assert_eq!(headers["allow"], "POST");
        assert!(headers["x-openstack-request-id"].to_str().unwrap().starts_with("req-"));
    }
    let (status, _, text) = fixture.send(ask("GET", "/x", "").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 404);
    assert!(text.contains("fault"), "{text}");
}

#[tokio::test]
async fn a_trailing_slash_and_a_wrong_id_are_no_surprise() {
    let fixture = Fixture::new().await;
    for path in [format!("/image/things/{ID}"), format!("/image/things/{ID}/?x=1")] {
        let (status, _, text) =
            fixture.send(ask("GET", &path, "reader").body(Body::empty()).unwrap()).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("http://cloud:5000/image"), "{text}");
    }
    let request = ask("GET", "/compute/things/not-an-id", "reader");
    let (status, _, text) = fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, 404);
    assert!(text.contains("itemNotFound"), "{text}");
}

#[tokio::test]
async fn tokens_and_rules_are_asked_before_the_handler() {
    let fixture = Fixture::new().await;
    let path = format!("/network/things/{ID}");
    for (token, wanted) in [("", 401), ("forged", 401), ("reader", 200), ("member", 200)] {
        let (status, headers, text) =
            fixture.send(ask("GET", &path, token).body(Body::empty()).unwrap()).await;
        assert_eq!(status, wanted, "{token}: {text}");
        assert_eq!(headers.contains_key("www-authenticate"), wanted == 401);
    }
    let body = Body::from(r#"{"name": "x"}"#);
    let (status, _, text) =
        fixture.send(ask("POST", "/network/things", "reader").body(body).unwrap()).await;
    assert_eq!(status, 403);
    assert!(text.contains("PolicyNotAuthorized"), "{text}");
    assert_eq!(fixture.made.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn microversions_are_negotiated_and_told() {
    let fixture = Fixture::new().await;
    let path = format!("/compute/things/{ID}");
    let (_, headers, text) = fixture
        .send(
            ask("GET", &path, "reader")
                .header("openstack-api-version", "compute 2.47")
                .body(Body::empty())
                .unwrap(),
        )
        .await;
    assert!(text.contains(r#""asked":"2.47""#), "{text}");
    assert_eq!(headers["openstack-api-version"], "compute 2.47");
    assert_eq!(headers["x-openstack-nova-api-version"], "2.47");
    assert_eq!(headers["x-compute-request-id"], headers["x-openstack-request-id"]);
    let vary: Vec<_> = headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"]);
    let request = ask("GET", &path, "reader").header("openstack-api-version", "compute 2.999");
    let (status, _, text) = fixture.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, 406);
    assert!(text.contains("computeFault") && text.contains("2.999"), "{text}");
}

#[tokio::test]
async fn bodies_are_bounded_and_typed() {
    let fixture = Fixture::new().await;
    let post = |body: Body| ask("POST", "/compute/things", "member").body(body).unwrap();
    let (status, _, text) = fixture.send(post(Body::from(r#"{"name": 7}"#))).await;
    assert_eq!(status, 400);
    assert!(text.contains("badRequest") && text.contains("name"), "{text}");
    let (status, _, text) = fixture.send(post(Body::from(r#"{"name":"a","x":1}"#))).await;
    assert_eq!(status, 400, "{text}");
    let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(2 << 20));
    let (status, _, text) = fixture.send(post(Body::from(large.clone()))).await;
    assert_eq!(status, 413, "{text}");
    // The same without a length in advance.
    let chunks = futures::stream::iter([Ok::<_, std::io::Error>(large)]);
    let (status, _, text) = fixture.send(post(Body::from_stream(chunks))).await;
    assert_eq!(status, 413);
    assert!(text.contains("overLimit"), "{text}");
    let request = ask("POST", "/compute/things", "member").header("content-type", "text/plain");
    let (status, _, text) = fixture.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(status, 415);
    assert!(text.contains("badMediaType"), "{text}");
    // An upload has no such limit.
    let chunks = (0..40).map(|_| Ok::<_, std::io::Error>(vec![0u8; 1 << 16]));
    let body = Body::from_stream(futures::stream::iter(chunks));
    let (status, _, text) =
        fixture.send(ask("PUT", "/image/upload", "member").body(body).unwrap()).await;
    assert_eq!((status.as_u16(), text.as_str()), (200, r#"{"bytes":2621440}"#));
}

#[tokio::test]
async fn bugs_and_delays_are_answered() {
    let fixture = Fixture::new().await;
    for (method, token) in [("GET", ""), ("POST", "member")] {
        let request = ask(method, "/compute/panics", token).body(Body::empty()).unwrap();
        let (status, _, text) = fixture.send(request).await;
        assert_eq!(status, 500);
        assert!(text.contains("computeFault") && !text.contains("a bug"), "{text}");
    }
    let request = ask("GET", "/identity/sleeps", "").body(Body::empty()).unwrap();
    let (status, _, text) = fixture.send(request).await;
    assert_eq!(status, 504);
    assert!(text.contains("Gateway Timeout"), "{text}");
}

async fn a_repeat_gets_the_same_answer_and_has_no_second_effect(fixture: Fixture) {
    let (one, two) =
        tokio::join!(fixture.make("member", "a", "k"), fixture.make("member", "a", "k"));
    assert_eq!((one.0, two.0), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(one.2, two.2);
    assert_eq!(fixture.rows().await, 1);
    let (status, headers, _) = fixture.make("member", "a", "k").await;
    assert_eq!(status, 201);
    assert_eq!(headers[idempotency::REPLAYED], "true");
    assert_ne!(headers["x-openstack-request-id"], one.1["x-openstack-request-id"]);
    // Another body, another user, another key.
    let (status, _, body) = fixture.make("member", "b", "k").await;
    assert_eq!(status, 409);
    assert_eq!(body["fault"]["name"], "IdempotencyKeyReused");
    assert_eq!(fixture.make("other", "a", "k").await.2["made"], 2);
    assert_eq!(fixture.make("member", "a", "k2").await.2["made"], 3);
    // After its lifetime the key is free.
    fixture.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(fixture.make("member", "b", "k").await.2["made"], 4);
    assert_eq!(fixture.rows().await, 4);
    for bad in ["", &"k".repeat(256)] {
        assert_eq!(fixture.make("member", "a", bad).await.0, 400);
    }
}

async fn a_passing_failure_is_not_remembered(fixture: Fixture) {
    assert_eq!(fixture.make("member", "fails", "k").await.0, 503);
    assert_eq!(fixture.make("member", "fails", "k").await.0, 503);
    assert_eq!(fixture.made.load(Ordering::SeqCst), 2, "the handler ran again");
    assert_eq!(fixture.rows().await, 0);
}

async fn a_crash_before_the_effect_leaves_the_key_free_after_a_while(fixture: Fixture) {
    // A request that claimed the key and was killed.
    let token = Token::for_test("ann", Some("p"), &["member"]);
    let body = json!({"name": "a"}).to_string();
    let path = "/meridian/things";
    let asked = idempotency::Request::new(&token, &Method::POST, path, None, "k", body.as_bytes());
    let origin = Origin::system("req-dead");
    let lifetime = Duration::from_secs(3600);
    let begun = idempotency::begin(&fixture.db, &origin, asked, lifetime, "worker").await.unwrap();
    let idempotency::Begin::Run(claim) = begun else { panic!("a fresh key was not claimed") };
    fixture.clock.advance(idempotency::CLAIM_LIFETIME + Duration::from_secs(1));
    let (status, _, body) = fixture.make("member", "a", "k").await;
    assert_eq!((status.as_u16(), &body["made"]), (201, &json!(1)));
    // Should the first one wake up after all, its transaction is refused.
    let late = fixture
        .db
        .transact(&origin, move |tx| {
            let claim = claim.clone();
            Box::pin(async move { idempotency::mark_effect(tx, &claim).await })
                as BoxFuture<'_, Result<(), DatabaseError>>
        })
        .await;
    assert!(matches!(late, Err(DatabaseError::Stale { .. })));
}

async fn a_crash_after_the_effect_is_told_or_answered(fixture: Fixture) {
    let dying = tokio::spawn({
        let app = fixture.app.clone();
        let request = ask("POST", "/meridian/things", "member")
            .header("idempotency-key", "k")
            .body(Body::from(json!({"name": "dies"}).to_string()))
            .unwrap();
        app.oneshot(request)
    });
    while fixture.rows().await == 0 {
        tokio::task::yield_now().await;
    }
    dying.abort();
    fixture.clock.advance(idempotency::CLAIM_LIFETIME + Duration::from_secs(1));
    let (status, _, body) = fixture.make("member", "dies", "k").await;
    assert_eq!(status, 409);
    assert_eq!(body["fault"]["name"], "IdempotencyAnswerLost");
    assert_eq!(fixture.rows().await, 1);

    // An answer that was stored with the effect survives whatever happens to the process.
    let (_, _, first) = fixture.make("member", "remembered", "k3").await;
    // Whoever reads the database does not read the answer.
    let sealed = fixture
        .db
        .read(|tx| {
            Box::pin(async move {
                let rows = tx.query("SELECT answer FROM idempotency_keys", &[]).await?;
                let answers = rows.iter().map(|row| row.opt_bytes("answer"));
                Ok(answers.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }) as BoxFuture<'_, Result<Vec<Vec<u8>>, DatabaseError>>
        })
        .await
        .unwrap();
    assert_eq!(sealed.len(), 1);
    assert!(!String::from_utf8_lossy(&sealed[0]).contains("remembered"));
    let forget = "UPDATE idempotency_keys SET claimed_at = 0 WHERE state = 'answered'";
    fixture
        .db
        .transact(&Origin::system("test"), move |tx| {
            Box::pin(async move { tx.execute(forget, &[]).await })
                as BoxFuture<'_, Result<u64, DatabaseError>>
        })
        .await
        .unwrap();
    assert_eq!(fixture.make("member", "remembered", "k3").await.2, first);
}

#[tokio::test]
async fn limits_answer_429_and_503() {
    let rate = RateLimit { per_second: 1, burst: 2 };
    let hold_refusals = Duration::ZERO;
    let fixture = Fixture::with(KitConfig { rate, hold_refusals, ..KitConfig::default() }).await;
    let path = format!("/compute/things/{ID}");
    let mut answers = Vec::new();
    for token in ["reader", "reader", "reader", "other"] {
        let (status, headers, _) =
            fixture.send(ask("GET", &path, token).body(Body::empty()).unwrap()).await;
        assert_eq!(headers.contains_key("retry-after"), status == 429);
        answers.push(status.as_u16());
    }
    assert_eq!(answers, [200, 200, 429, 200]);

    let none = Fixture::with(KitConfig { max_in_flight: 0, ..KitConfig::default() }).await;
    let (status, _, text) =
        none.send(ask("GET", &path, "reader").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 503);
    assert!(text.contains("serviceUnavailable"), "{text}");
    let (status, ..) = none.send(ask("GET", "/healthz", "").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 200, "health answers under load");
}

#[tokio::test]
async fn who_asks_too_fast_waits_for_the_refusal_unless_too_many_do() {
    let rate = RateLimit { per_second: 1, burst: 1 };
    // As many are held as may be under way: one.
    let config =
        |hold_refusals| KitConfig { rate, hold_refusals, max_in_flight: 1, ..KitConfig::default() };
    let path = format!("/compute/things/{ID}");
    let request = || ask("GET", &path, "reader").body(Body::empty()).unwrap();

    let fixture = Fixture::with(config(Duration::from_secs(3600))).await;
    assert_eq!(fixture.send(request()).await.0, 200);
    let mut held = std::pin::pin!(fixture.send(request()));
    assert!(futures::poll!(held.as_mut()).is_pending());
    assert_eq!(fixture.send(request()).await.0, 429, "there is room for one");
    assert!(futures::poll!(held.as_mut()).is_pending());

    let fixture = Fixture::with(config(Duration::from_millis(1))).await;
    assert_eq!(fixture.send(request()).await.0, 200);
    assert_eq!(fixture.send(request()).await.0, 429, "it is answered in the end");
}

#[tokio::test]
async fn metrics_name_routes_and_never_paths() {
    let fixture = Fixture::new().await;
    for path in [format!("/compute/things/{ID}"), "/compute/secret-path".to_owned()] {
        fixture.send(ask("GET", &path, "reader").body(Body::empty()).unwrap()).await;
    }
    let (_, _, text) = fixture.send(ask("GET", "/metrics", "").body(Body::empty()).unwrap()).await;
    let line = "meridian_http_requests_total{service=\"compute\",method=\"GET\",\
                route=\"/compute/things/{id}\",status=\"200\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("route=\"unmatched\"") && !text.contains("secret-path"), "{text}");
    let mut request = ask("GET", "/metrics", "").body(Body::empty()).unwrap();
    let address = "192.0.2.7:4000".parse().unwrap();
    request.extensions_mut().insert(Peer { address, tls: false });
    assert_eq!(fixture.send(request).await.0, 403);
    fixture.app.set_ready(false);
    let (status, ..) = fixture.send(ask("GET", "/healthz", "").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn links_follow_the_host_that_was_asked_but_not_nonsense() {
    let fixture = Fixture::new().await;
    let path = format!("/image/things/{ID}");
    for (host, wanted) in
        [("a.example:9", "http://a.example:9/image"), ("a\"b", "http://localhost/image")]
    {
        let request = Request::builder()
            .uri(&path)
            .header("host", host)
            .header("x-auth-token", "reader")
            .header("x-forwarded-proto", "https")
            .body(Body::empty())
            .unwrap();
        let (_, _, text) = fixture.send(request).await;
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn mistakes_in_the_table_are_found_at_the_start() {
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
    let policy = Policy::new(&[RULES]).unwrap();
    let kit = Kit::new(db, policy, Arc::new(FixedTokens::default()), KitConfig::default());
    let route = |rule: &'static str| -> Routes {
        Routes::new(Service::Image).route(Method::GET, "/x", Access::Rule(rule), panics)
    };
    let unknown = App::new(kit.clone(), vec![route("t:raed")]).err().unwrap();
    assert!(unknown.to_string().contains("GET /image/x"), "{unknown}");
    let twice = App::new(kit, vec![route("t:read"), route("t:read")]).err().unwrap();
    assert_eq!(twice, AppError::Twice(Method::GET, "/image/x".into()));
}
