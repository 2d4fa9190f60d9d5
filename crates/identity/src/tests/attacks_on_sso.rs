//! Attacks on single sign-on, with a provider that the test plays, so that it can say what no honest
//! one would: tokens for others, of others, too old, unsigned, replayed; and people who would like
//! to be somebody else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::sso::{Browser, DASHBOARD, listen, set_up, token_of};
use super::{Answer, Cloud, on_both};
use crate::federation::model::Session;
use crate::federation::{sessions, store};
use crate::openid::jwt::tests::Signer;

on_both! {
    an_access_token_that_is_not_for_us_opens_nothing,
    an_id_token_must_answer_the_login_that_it_comes_for,
    a_logout_token_is_checked_and_counts_once,
    nobody_becomes_somebody_who_is_here_already,
    a_domain_out_of_the_assertion_must_be_the_providers_own,
    a_group_out_of_the_assertion_must_be_of_the_providers_own_domain,
    what_takes_the_provider_away_ends_the_tokens,
    a_group_ends_with_its_time_and_when_the_provider_drops_it,
    a_token_ends_with_the_word_about_which_nobody_can_be_asked,
    a_group_that_the_provider_names_no_more_ends_earlier_logins,
    who_must_show_several_factors_does_not_get_in_by_a_providers_word,
    a_provider_that_is_disabled_takes_its_memberships_along,
    a_login_ends_with_its_protocol_and_not_with_a_word_that_was_renewed,
}

/// What the played provider has to say.
pub(super) struct Played {
    pub signer: Signer,
    pub issuer: String,
    /// Claims of the next ID token; its nonce is filled in where it is null.
    id_token: Mutex<Value>,
    /// A whole text in its place.
    instead: Mutex<Option<String>>,
    /// The refresh token of the next answer.
    pub refresh: Mutex<Option<String>>,
}

type Shared = State<Arc<Played>>;

async fn discovery(State(played): Shared) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", played.issuer);
    Json(json!({"issuer": played.issuer, "authorization_endpoint": at("/auth"),
                "token_endpoint": at("/token"), "jwks_uri": at("/jwks"),
                "introspection_endpoint": at("/introspect")}))
}

async fn keys(State(played): Shared) -> Json<Value> {
    Json(json!({"keys": [played.signer.public()]}))
}

/// The code is the nonce: the played browser brings it from one address to the other.
async fn token(State(played): Shared, body: String) -> Json<Value> {
    let form = service_kit::Filters::parse(&body).unwrap();
    let refresh = played.refresh.lock().unwrap().clone();
    if form.get("grant_type") == Some("refresh_token") {
        return Json(json!({"access_token": "of-the-provider", "refresh_token": refresh}));
    }
    assert!(form.get("code_verifier").is_some_and(|verifier| verifier.len() >= 43));
    let mut claims = played.id_token.lock().unwrap().clone();
    if claims["nonce"].is_null() {
        claims["nonce"] = json!(form.get("code").unwrap());
    }
    let text = played.instead.lock().unwrap().clone();
    let text = text.unwrap_or_else(|| played.signer.sign(&claims));
    Json(json!({"id_token": text, "refresh_token": refresh}))
}

pub(super) struct Stage {
    pub cloud: Cloud,
    base: String,
    pub played: Arc<Played>,
    pub admin: String,
    domain: String,
    project: String,
    group: String,
    shutdown: CancellationToken,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What passed a browser.
pub(super) struct Walk {
    pub status: u16,
    pub page: String,
    pub state: String,
    /// The played provider's code is the nonce.
    pub code: String,
    pub cookies: Vec<String>,
}

pub(super) const PROTOCOL: &str = "/v3/OS-FEDERATION/identity_providers/corp/protocols/openid";
const LOGIN: &str = "/identity/v3/auth/OS-FEDERATION/identity_providers/corp/protocols/openid";

impl Stage {
    pub(super) async fn on(cloud: Cloud) -> Stage {
        let shutdown = CancellationToken::new();
        let base = listen(&cloud, shutdown.clone()).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let played = Arc::new(Played {
            signer: Signer::new("k"),
            issuer: issuer.clone(),
            id_token: Mutex::new(Value::Null),
            instead: Mutex::new(None),
            refresh: Mutex::new(None),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .with_state(played.clone());
        let ended = shutdown.clone();
        tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(ended.cancelled_owned()).await
        });
        let (admin, domain, project, group) = set_up(&cloud, &issuer).await;
        let client = json!({"openid_client": {
            "issuer": issuer, "client_id": "cloud", "client_secret": "x",
            "trusted_dashboards": [DASHBOARD]}});
        let path = format!("{PROTOCOL}/openid_client");
        cloud.call(&admin, "PUT", &path, client).await.expect(200);
        let stage = Stage { cloud, base, played, admin, domain, project, group, shutdown };
        *stage.played.id_token.lock().unwrap() = stage.good("ada");
        stage
    }

    fn now(&self) -> i64 {
        use cloud_types::Clock as _;
        self.cloud.clock.now().0 / 1_000_000
    }

    /// Claims that are in order, of an ID token or an access token.
    pub(super) fn good(&self, subject: &str) -> Value {
        json!({"iss": self.played.issuer, "aud": "cloud", "sub": subject, "iat": self.now(),
               "exp": self.now() + 3600, "groups": ["staff"], "email": "x@example.org"})
    }

    pub(super) fn with(&self, changes: Value) -> Value {
        let mut claims = self.good("ada");
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    pub(super) async fn bear(&self, access_token: &str) -> Answer {
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("/identity{PROTOCOL}/auth"))
            .header("authorization", format!("Bearer {access_token}"))
            .body(axum::body::Body::empty())
            .unwrap();
        self.cloud.send(request).await
    }

    /// A token for somebody of whom the provider says this.
    pub(super) async fn come(&self, claims: &Value) -> Answer {
        self.bear(&self.played.signer.sign(claims)).await
    }

    async fn mapping(&self, rules: Value) {
        let body = json!({"mapping": {"rules": rules}});
        let path = "/v3/OS-FEDERATION/mappings/people";
        self.cloud.call(&self.admin, "PATCH", path, body).await.expect(200);
    }

    /// A browser's login: the status and the page at its end.
    async fn browse(&self) -> (u16, String) {
        let walk = self.walk().await;
        (walk.status, walk.page)
    }

    /// The same, with what passed the browser.
    pub(super) async fn walk(&self) -> Walk {
        let mut browser = Browser::of("ada");
        let origin = service_kit::percent_encode(DASHBOARD);
        let begin = format!("{}{LOGIN}/websso?origin={origin}", self.base);
        let (status, location, _) = browser.get(&begin).await;
        assert_eq!(status, 302);
        let cookies = browser.cookie_values();
        let url = reqwest::Url::parse(&location.unwrap()).unwrap();
        let own = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.to_string())
        };
        assert_eq!(own("code_challenge_method").as_deref(), Some("S256"));
        let (state, nonce) = (own("state").unwrap(), own("nonce").unwrap());
        let back = format!("{}?state={state}&code={nonce}", own("redirect_uri").unwrap());
        let (status, _, page) = browser.get(&back).await;
        Walk { status, page, state, code: nonce, cookies }
    }

    pub(super) async fn logout(&self, token: &str) -> u16 {
        let http = super::sso::http();
        let url = format!("{}{LOGIN}/backchannel_logout", self.base);
        let request = crate::openid::http::form(http.post(url), &[("logout_token", token)]);
        request.send().await.unwrap().status().as_u16()
    }
}

async fn an_access_token_that_is_not_for_us_opens_nothing(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    stage.come(&stage.good("ada")).await.expect(201);
    for (changes, why) in [
        (json!({"aud": "another-client"}), "somebody else"),
        (json!({"aud": null}), "somebody else"),
        (json!({"iss": "https://evil.example"}), "issued by"),
        (json!({"exp": stage.now() - 120}), "expired"),
        (json!({"exp": null}), "expires"),
        (json!({"nbf": stage.now() + 300}), "future"),
        (json!({"nonce": "of an ID token"}), "no access token"),
        (json!({"events": {}}), "no access token"),
        (json!({"sub": null}), "about whom"),
    ] {
        let refusal = stage.come(&stage.with(changes.clone())).await.expect(401);
        assert!(refusal.body.to_string().contains(why), "{changes}: {}", refusal.body);
    }
    // Signed by somebody else under the provider's name for its key.
    let forged = Signer::new("k").sign(&stage.good("ada"));
    stage.bear(&forged).await.expect(401);
    // Not signed, or signed by what everybody knows.
    let public = stage.played.signer.public().to_string();
    for alg in ["none", "HS256"] {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message =
            format!("{}.{}", part(&json!({"alg": alg, "kid": "k"})), part(&stage.good("ada")));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref());
        for signature in ["", &tag] {
            let refusal = stage.bear(&format!("{message}.{signature}")).await.expect(401);
            assert!(refusal.body.to_string().contains("algorithm"), "{}", refusal.body);
        }
    }
    // The key is of a curve; what says that it is RSA's does not get by.
    let header = json!({"alg": "RS256", "kid": "k"});
    stage.bear(&stage.played.signer.sign_with(&header, &stage.good("ada"))).await.expect(401);
}

async fn an_id_token_must_answer_the_login_that_it_comes_for(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let say = |claims: Value| *stage.played.id_token.lock().unwrap() = claims;
    let (status, page) = stage.browse().await;
    assert_eq!(status, 200, "{page}");
    assert!(stage.cloud.is_good(&token_of(&page)).await);
    for changes in [
        json!({"nonce": "of another login"}),
        json!({"aud": "another-client"}),
        json!({"aud": ["cloud", "another-client"]}),
        json!({"azp": "another-client"}),
        json!({"iss": "https://evil.example"}),
        json!({"exp": stage.now() - 120}),
        json!({"iat": stage.now() + 300}),
    ] {
        say(stage.with(changes.clone()));
        let (status, page) = stage.browse().await;
        assert_eq!(status, 401, "{changes}: {page}");
        assert!(!page.contains("name=\"token\""));
    }
    say(stage.good("ada"));
    for text in [Signer::new("k").sign(&stage.good("ada")), "a.b.c".to_owned(), String::new()] {
        *stage.played.instead.lock().unwrap() = Some(text);
        assert_eq!(stage.browse().await.0, 401);
    }
}

async fn a_logout_token_is_checked_and_counts_once(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let good = |id: &str| {
        json!({"iss": stage.played.issuer, "aud": "cloud", "iat": stage.now(), "jti": id,
               "sub": "ada", "events": event})
    };
    let ada = stage.come(&stage.good("ada")).await.expect(201).token();
    let bob = stage.come(&stage.good("bob")).await.expect(201).token();
    let changed = |name: &str, value: Value| {
        let mut claims = good("other");
        claims[name] = value;
        stage.played.signer.sign(&claims)
    };
    for refused in [
        changed("aud", json!("another-client")),
        changed("iss", json!("https://evil.example")),
        changed("iat", json!(stage.now() - 3600)),
        changed("events", json!({})),
        changed("nonce", json!("n")),
        Signer::new("k").sign(&good("forged")),
        stage.played.signer.sign(&stage.good("ada")),
        String::new(),
    ] {
        assert_eq!(stage.logout(&refused).await, 400);
    }
    assert!(stage.cloud.is_good(&ada).await);
    let token = stage.played.signer.sign(&good("once"));
    assert_eq!(stage.logout(&token).await, 200);
    assert!(!stage.cloud.is_good(&ada).await && stage.cloud.is_good(&bob).await);
    let again = stage.come(&stage.good("ada")).await.expect(201).token();
    assert_eq!(stage.logout(&token).await, 400);
    assert!(stage.cloud.is_good(&again).await);
    // Of one session of the provider's, where it names one.
    let one = stage.come(&stage.with(json!({"sid": "one"}))).await.expect(201).token();
    let two = stage.come(&stage.with(json!({"sid": "two"}))).await.expect(201).token();
    let mut claims = good("of a session");
    claims["sid"] = json!("one");
    assert_eq!(stage.logout(&stage.played.signer.sign(&claims)).await, 200);
    assert!(!stage.cloud.is_good(&one).await && stage.cloud.is_good(&two).await);
}

async fn nobody_becomes_somebody_who_is_here_already(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    // Somebody of the provider's domain who is no person of the provider.
    let body = json!({"user": {"name": "root", "domain_id": stage.domain, "password": "x"}});
    stage.cloud.call(&stage.admin, "POST", "/v3/users", body).await.expect(201);
    let refusal = stage.come(&stage.good("root")).await.expect(401);
    assert!(refusal.body.to_string().contains("called"), "{}", refusal.body);
    // By an id of the assertion into another domain: the administrator's.
    let found = stage.cloud.get(&stage.admin, "/v3/users?name=admin").await.expect(200);
    let admin_id = found.body["users"][0]["id"].as_str().unwrap().to_owned();
    stage
        .mapping(json!([{"local": [{"user": {"id": "{0}", "type": "local"}}],
                         "remote": [{"type": "OIDC-sub"}]}]))
        .await;
    stage.come(&stage.good(&admin_id)).await.expect(401);
    // Within the domain that the operator names, a local user may be meant.
    stage
        .mapping(json!([{"local": [{"user": {"name": "{0}", "type": "local",
                                             "domain": {"name": "Corp"}}}],
                         "remote": [{"type": "OIDC-sub"}]}]))
        .await;
    let token = stage.come(&stage.good("root")).await.expect(201);
    assert_eq!(token.body["token"]["user"]["name"], "root");
    stage.come(&stage.good("nobody")).await.expect(401);
    // A value with separators in it names one group, which is not here, and not two.
    stage
        .mapping(json!([{"local": [{"user": {"name": "{0}"}},
                                   {"groups": "{1}", "domain": {"name": "Corp"}}],
                         "remote": [{"type": "OIDC-sub"}, {"type": "OIDC-groups"}]}]))
        .await;
    let claims = stage.with(json!({"groups": ["x;staff", "['staff']", "staff,x"]}));
    let token = stage.come(&claims).await.expect(201);
    assert_eq!(token.body["token"]["user"]["OS-FEDERATION"]["groups"], json!([]));
}

async fn a_domain_out_of_the_assertion_must_be_the_providers_own(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    for local in [
        json!([{"user": {"name": "{0}", "domain": {"name": "{1}"}}}]),
        json!([{"user": {"name": "{0}", "type": "local", "domain": {"name": "{1}"}}}]),
        json!([{"user": {"name": "{0}"}}, {"groups": "{0}", "domain": {"name": "{1}"}}]),
    ] {
        let remote = json!([{"type": "OIDC-sub"}, {"type": "OIDC-company"}]);
        stage.mapping(json!([{"local": local, "remote": remote}])).await;
        for company in ["Default", "nowhere"] {
            let claims = stage.with(json!({"sub": "admin", "company": company}));
            stage.come(&claims).await.expect(401);
        }
    }
    stage
        .mapping(json!([{"local": [{"user": {"name": "{0}", "domain": {"name": "{1}"}}}],
                         "remote": [{"type": "OIDC-sub"}, {"type": "OIDC-company"}]}]))
        .await;
    let own = stage.come(&stage.with(json!({"company": "Corp"}))).await.expect(201);
    assert_eq!(own.body["token"]["user"]["domain"]["id"], stage.domain);
}

async fn a_group_out_of_the_assertion_must_be_of_the_providers_own_domain(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let body = json!({"group": {"name": "chiefs"}});
    let made = stage.cloud.call(&stage.admin, "POST", "/v3/groups", body).await.expect(201);
    let chiefs = made.body["group"]["id"].as_str().unwrap();
    let remote = json!([{"type": "OIDC-sub"}, {"type": "OIDC-company"}]);
    for place in [json!({"group_ids": "{1}"}), json!({"group": {"id": "{1}"}})] {
        let local = json!([{"user": {"name": "{0}"}}, place]);
        stage.mapping(json!([{"local": local, "remote": remote}])).await;
        stage.come(&stage.with(json!({"company": chiefs}))).await.expect(401);
        stage.come(&stage.with(json!({"company": stage.group}))).await.expect(201);
    }
    // The operator may give any.
    let local = json!([{"user": {"name": "{0}"}}, {"group": {"id": chiefs}}]);
    stage.mapping(json!([{"local": local, "remote": remote}])).await;
    stage.come(&stage.with(json!({"company": chiefs}))).await.expect(201);
}

async fn what_takes_the_provider_away_ends_the_tokens(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let provider = "/v3/OS-FEDERATION/identity_providers/corp";
    let enable = async |enabled: bool| {
        let body = json!({"identity_provider": {"enabled": enabled}});
        stage.cloud.call(&stage.admin, "PATCH", provider, body).await.expect(200);
    };
    let come = async || {
        let token = stage.come(&stage.good("ada")).await.expect(201).token();
        let scope = json!({"project": {"id": stage.project}});
        let scoped = stage.cloud.rescope(&token, scope).await.expect(201).token();
        (token, scoped)
    };
    let dead = async |tokens: &(String, String)| {
        !stage.cloud.is_good(&tokens.0).await && !stage.cloud.is_good(&tokens.1).await
    };
    let first = come().await;
    enable(false).await;
    assert!(dead(&first).await);
    stage.come(&stage.good("ada")).await.expect(403);
    enable(true).await;
    assert!(dead(&first).await);
    let second = come().await;
    assert!(stage.cloud.is_good(&second.1).await);
    // The group from which the role comes.
    let path = format!("/v3/groups/{}", stage.group);
    stage.cloud.call(&stage.admin, "DELETE", &path, Value::Null).await.expect(204);
    assert!(dead(&second).await);
    let third = stage.come(&stage.good("ada")).await.expect(201).token();
    stage.cloud.call(&stage.admin, "DELETE", provider, Value::Null).await.expect(204);
    assert!(!stage.cloud.is_good(&third).await);
    stage.come(&stage.good("ada")).await.expect(404);
    stage.cloud.get(&stage.admin, &format!("{PROTOCOL}/openid_client")).await.expect(404);
    // Made again under its id it counts again, and nothing of before does.
    let again = json!({"identity_provider": {"enabled": true, "domain_id": stage.domain}});
    stage.cloud.call(&stage.admin, "PUT", provider, again).await.expect(201);
    let protocol = json!({"protocol": {"mapping_id": "people"}});
    stage.cloud.call(&stage.admin, "PUT", PROTOCOL, protocol).await.expect(201);
    let client = json!({"openid_client": {
        "issuer": stage.played.issuer, "client_id": "cloud", "client_secret": "x"}});
    let path = format!("{PROTOCOL}/openid_client");
    stage.cloud.call(&stage.admin, "PUT", &path, client).await.expect(200);
    let fourth = stage.come(&stage.good("grace")).await.expect(201).token();
    assert!(stage.cloud.is_good(&fourth).await && !stage.cloud.is_good(&third).await);
}

async fn a_group_ends_with_its_time_and_when_the_provider_drops_it(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let provider = "/v3/OS-FEDERATION/identity_providers/corp";
    let body = json!({"identity_provider": {"authorization_ttl": 10}});
    stage.cloud.call(&stage.admin, "PATCH", provider, body).await.expect(200);
    let members = async || {
        let path = format!("/v3/groups/{}/users", stage.group);
        stage.cloud.get(&stage.admin, &path).await.expect(200).body["users"].clone()
    };
    let token = stage.come(&stage.good("ada")).await.expect(201).token();
    assert_eq!(members().await[0]["name"], "ada");
    // The provider no longer names the group: the membership ends, and tokens with it.
    let fewer = stage.come(&stage.with(json!({"groups": ["guests"]}))).await.expect(201).token();
    assert_eq!(members().await, json!([]));
    assert!(!stage.cloud.is_good(&token).await && stage.cloud.is_good(&fewer).await);
    // And it ends by itself.
    let token = stage.come(&stage.good("ada")).await.expect(201).token();
    stage.cloud.clock.advance(Duration::from_secs(9 * 60));
    stage.cloud.identity.recheck_accounts().await.unwrap();
    assert!(stage.cloud.is_good(&token).await);
    stage.cloud.clock.advance(Duration::from_secs(61));
    stage.cloud.identity.recheck_accounts().await.unwrap();
    assert_eq!(members().await, json!([]));
    assert!(!stage.cloud.is_good(&token).await);
}

async fn a_token_ends_with_the_word_about_which_nobody_can_be_asked(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let end = stage.now() + 300;
    let answer = stage.come(&stage.with(json!({"exp": end}))).await.expect(201);
    let ends = |answer: &Answer| {
        let text = answer.body["token"]["expires_at"].as_str().unwrap();
        cloud_types::Timestamp::parse(text).unwrap().0 / 1_000_000
    };
    assert_eq!(ends(&answer), end);
    let scope = json!({"project": {"id": stage.project}});
    let scoped = stage.cloud.rescope(&answer.token(), scope).await.expect(201);
    assert_eq!(ends(&scoped), end);
    // A browser's login without a refresh token: with the ID token, where nothing else is said.
    *stage.played.id_token.lock().unwrap() = stage.with(json!({"exp": stage.now() + 200}));
    let token = token_of(&stage.browse().await.1);
    let shown = stage.cloud.about(&token, "GET", &token).await.expect(200);
    assert!(ends(&shown) <= stage.now() + 200, "{}", shown.body);
    // With one the provider is asked again, so the token lives as long as any.
    *stage.played.refresh.lock().unwrap() = Some("again".to_owned());
    let token = token_of(&stage.browse().await.1);
    let shown = stage.cloud.about(&token, "GET", &token).await.expect(200);
    assert!(ends(&shown) > stage.now() + 3000, "{}", shown.body);
    // A provider that does not know again what it signed ends nothing.
    stage.cloud.clock.advance(Duration::from_secs(31));
    stage.cloud.identity.recheck_accounts().await.unwrap();
    assert!(stage.cloud.is_good(&answer.token()).await && stage.cloud.is_good(&token).await);
    stage.cloud.clock.advance(Duration::from_secs(300));
    assert!(!stage.cloud.is_good(&answer.token()).await && stage.cloud.is_good(&token).await);
}

async fn a_group_that_the_provider_names_no_more_ends_earlier_logins(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let first = stage.come(&stage.good("ada")).await.expect(201).token();
    let scope = json!({"project": {"id": stage.project}});
    let scoped = stage.cloud.rescope(&first, scope.clone()).await.expect(201).token();
    let bob = stage.come(&stage.good("bob")).await.expect(201).token();
    // Once more with the same groups: both logins stand.
    let second = stage.come(&stage.good("ada")).await.expect(201).token();
    assert!(stage.cloud.is_good(&first).await && stage.cloud.is_good(&second).await);
    let fewer = stage.come(&stage.with(json!({"groups": ["guests"]}))).await.expect(201).token();
    for ended in [&first, &scoped, &second] {
        assert!(!stage.cloud.is_good(ended).await);
    }
    assert!(stage.cloud.is_good(&fewer).await && stage.cloud.is_good(&bob).await);
    stage.cloud.rescope(&fewer, scope).await.expect(401);
}

async fn who_must_show_several_factors_does_not_get_in_by_a_providers_word(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let body = json!({"user": {"name": "root", "domain_id": stage.domain, "password": "x",
        "options": {"multi_factor_auth_enabled": true,
                    "multi_factor_auth_rules": [["password", "totp"]]}}});
    let made = stage.cloud.call(&stage.admin, "POST", "/v3/users", body).await.expect(201);
    stage
        .mapping(json!([{"local": [{"user": {"name": "{0}", "type": "local",
                                             "domain": {"name": "Corp"}}}],
                         "remote": [{"type": "OIDC-sub"}]}]))
        .await;
    let refusal = stage.come(&stage.good("root")).await.expect(401);
    assert!(refusal.body.to_string().contains("factors"), "{}", refusal.body);
    // Not even by a protocol that is called like the factors.
    for name in ["password", "totp"] {
        let protocol = format!("/v3/OS-FEDERATION/identity_providers/corp/protocols/{name}");
        let body = json!({"protocol": {"mapping_id": "people"}});
        stage.cloud.call(&stage.admin, "PUT", &protocol, body).await.expect(201);
        let client = json!({"openid_client": {"issuer": stage.played.issuer,
                                              "client_id": "cloud"}});
        let path = format!("{protocol}/openid_client");
        stage.cloud.call(&stage.admin, "PUT", &path, client).await.expect(200);
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("/identity{protocol}/auth"))
            .header(
                "authorization",
                format!("Bearer {}", stage.played.signer.sign(&stage.good("root"))),
            )
            .body(axum::body::Body::empty())
            .unwrap();
        stage.cloud.send(request).await.expect(401);
    }
    // Where the rules are content with the provider, they are.
    let path = format!("/v3/users/{}", made.body["user"]["id"].as_str().unwrap());
    let body = json!({"user": {"options": {"multi_factor_auth_rules": [["openid"]]}}});
    stage.cloud.call(&stage.admin, "PATCH", &path, body).await.expect(200);
    stage.come(&stage.good("root")).await.expect(201);
}

async fn a_provider_that_is_disabled_takes_its_memberships_along(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let provider = "/v3/OS-FEDERATION/identity_providers/corp";
    let set = async |attributes: Value| {
        let body = json!({"identity_provider": attributes});
        stage.cloud.call(&stage.admin, "PATCH", provider, body).await.expect(200);
    };
    set(json!({"authorization_ttl": 10})).await;
    let token = stage.come(&stage.good("ada")).await.expect(201);
    let user = token.body["token"]["user"]["id"].as_str().unwrap().to_owned();
    let scope = json!({"project": {"id": stage.project}});
    let scoped = stage.cloud.rescope(&token.token(), scope).await.expect(201).token();
    let path = format!("/v3/users/{user}/application_credentials");
    let body = json!({"application_credential": {"name": "robot"}});
    let made = stage.cloud.call(&scoped, "POST", &path, body).await.expect(201).body;
    let made = &made["application_credential"];
    let credential = json!({"id": made["id"], "secret": made["secret"]});
    let auth = json!({"auth": {"identity": {"methods": ["application_credential"],
                                            "application_credential": credential}}});
    let by_robot = async || stage.cloud.call("", "POST", "/v3/auth/tokens", auth.clone()).await;
    let robot = by_robot().await.expect(201).token();
    set(json!({"enabled": false})).await;
    assert!(!stage.cloud.is_good(&robot).await);
    by_robot().await.expect(401);
    let members = format!("/v3/groups/{}/users", stage.group);
    let left = stage.cloud.get(&stage.admin, &members).await.expect(200);
    assert_eq!(left.body["users"], json!([]));
    // It comes back with the next login.
    set(json!({"enabled": true})).await;
    by_robot().await.expect(401);
    stage.come(&stage.good("ada")).await.expect(201);
    by_robot().await.expect(201);
}

async fn a_login_ends_with_its_protocol_and_not_with_a_word_that_was_renewed(cloud: Cloud) {
    let stage = Stage::on(cloud).await;
    let identity = &stage.cloud.identity;
    *stage.played.refresh.lock().unwrap() = Some("again".to_owned());
    let token = token_of(&stage.browse().await.1);
    let kept = identity.look(|tx| {
        Box::pin(async move { Ok(store::sessions_of(tx, "corp", "openid", None, None).await?) })
    });
    let kept = kept.await.unwrap().remove(0);
    // Another process was first, and has what the provider gave in place of the word.
    let former = Session { word: Some(b"former".to_vec()), ..kept.clone() };
    sessions::end(identity, &former, "the provider no longer grants it").await.unwrap();
    assert!(stage.cloud.is_good(&token).await);
    sessions::end(identity, &kept, "the provider no longer grants it").await.unwrap();
    assert!(!stage.cloud.is_good(&token).await);

    let (token, brought) =
        (token_of(&stage.browse().await.1), stage.come(&stage.good("bob")).await.expect(201));
    assert!(stage.cloud.is_good(&token).await && stage.cloud.is_good(&brought.token()).await);
    stage.cloud.call(&stage.admin, "DELETE", PROTOCOL, Value::Null).await.expect(204);
    assert!(!stage.cloud.is_good(&token).await && !stage.cloud.is_good(&brought.token()).await);
}
