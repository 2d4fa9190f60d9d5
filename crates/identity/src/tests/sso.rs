//! Single sign-on against a real, certified provider (the npm package `oidc-provider`), and what the
//! tests of it share: the provider, a browser, and a cloud with a provider set up.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloud_types::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Answer, Cloud, on_both};

on_both! {
    a_person_logs_in_with_a_browser_and_works_with_what_the_mapping_gives,
    a_browser_is_sent_only_to_trusted_dashboards,
    a_login_cannot_be_finished_twice_nor_in_another_browser,
    scripts_log_in_by_device_code_and_introspection,
    scripts_log_in_with_signed_access_tokens,
    who_is_disabled_at_the_provider_loses_their_tokens_and_nobody_else,
    a_logout_at_the_provider_ends_the_tokens_of_that_login,
    a_new_key_of_the_provider_is_found,
    a_script_whose_person_is_disabled_loses_its_tokens,
    a_program_with_a_signed_token_works_until_that_ends,
}

/// Where the package is installed.
fn modules() -> PathBuf {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/oidc-provider");
    let home = std::env::var("HOME").unwrap_or_default();
    let places = [
        std::env::var("MERIDIAN_OIDC_PROVIDER").unwrap_or_default(),
        workspace.to_owned(),
        format!("{home}/.cache/meridian/oidc-provider"),
    ];
    places
        .iter()
        .map(PathBuf::from)
        .find(|place| place.join("node_modules/oidc-provider").is_dir())
        .unwrap_or_else(|| {
            panic!(
                "the npm package oidc-provider, against which single sign-on is tested, is not \
                 installed. ./dev test installs it; by hand: copy tools/testbed/oidc_provider to \
                 target/oidc-provider and run `npm ci` there"
            )
        })
}

pub(super) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A real provider. Ends with the test.
pub(super) struct Op {
    child: Child,
    pub issuer: String,
    port: u16,
    place: tempfile::TempDir,
    http: reqwest::Client,
}

impl Drop for Op {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn http() -> reqwest::Client {
    // Each test is a process of its own; a second installation in one is refused, and is no matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .build()
        .unwrap()
}

impl Op {
    /// A provider with the clients that a cloud at `base` has.
    pub async fn start(base: &str) -> Op {
        let protocol = format!(
            "{base}/identity/v3/auth/OS-FEDERATION/identity_providers/corp/protocols/openid"
        );
        let clients = json!([
            {"client_id": "cloud", "client_secret": "the/cloud's secret",
             "redirect_uris": [format!("{protocol}/callback")],
             "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
             "backchannel_logout_uri": format!("{protocol}/backchannel_logout"),
             "backchannel_logout_session_required": false},
            {"client_id": "cli", "token_endpoint_auth_method": "none", "redirect_uris": [],
             "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"],
             "response_types": []},
            {"client_id": "stranger", "token_endpoint_auth_method": "none", "redirect_uris": [],
             "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"],
             "response_types": []},
            {"client_id": "robot", "client_secret": "robot-secret", "redirect_uris": [],
             "grant_types": ["client_credentials"], "response_types": []},
        ]);
        let place = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = json!({"port": port, "clients": clients, "keys": ["first"]});
        std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        let child = Op::spawn(&place);
        let op =
            Op { child, issuer: format!("http://127.0.0.1:{port}"), port, place, http: http() };
        op.wait().await;
        op
    }

    fn spawn(place: &tempfile::TempDir) -> Child {
        let script =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/testbed/oidc_provider/provider.mjs");
        let log = std::fs::File::create(place.path().join("log")).unwrap();
        Command::new("node")
            .arg(script)
            .arg(modules())
            .arg(place.path().join("config.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("node starts (Debian's package nodejs)")
    }

    async fn wait(&self) {
        let url = format!("{}/.well-known/openid-configuration", self.issuer);
        let began = Instant::now();
        while self.http.get(&url).send().await.is_err() {
            let log = || std::fs::read_to_string(self.place.path().join("log")).unwrap();
            assert!(began.elapsed() < Duration::from_secs(120), "no provider: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again, at the same address, with other keys.
    pub async fn restart(&mut self, key: &str) {
        self.stop();
        let file = self.place.path().join("config.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["keys"] = json!([key]);
        std::fs::write(&file, config.to_string()).unwrap();
        self.child = Op::spawn(&self.place);
        self.wait().await;
        assert!(self.port > 0);
    }

    /// Plays the provider's administrator.
    pub async fn administer(&self, what: &str) -> Value {
        let url = format!("{}/test/{what}", self.issuer);
        let answer = self.http.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{what}");
        answer.json().await.unwrap()
    }

    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let url = format!("{}{path}", self.issuer);
        let request = crate::openid::http::form(self.http.post(url), fields);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{status} {body}");
        body
    }

    /// The access token of somebody who approves a device.
    pub async fn device_login(&self, client: &str, account: &str) -> String {
        let asked =
            self.form("/device/auth", &[("client_id", client), ("scope", "openid profile")]).await;
        let code = asked["user_code"].as_str().unwrap();
        self.administer(&format!("approve?account={account}&user_code={code}")).await;
        let granted = self
            .form(
                "/token",
                &[
                    ("client_id", client),
                    ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                    ("device_code", asked["device_code"].as_str().unwrap()),
                ],
            )
            .await;
        granted["access_token"].as_str().unwrap().to_owned()
    }
}

/// A browser: it follows redirects, and keeps cookies apart by address.
pub(super) struct Browser {
    http: reqwest::Client,
    cookies: HashMap<(String, String), String>,
    /// Who they say that they are at the provider.
    pub person: String,
    /// The addresses that it was sent to.
    pub visited: Vec<String>,
}

impl Browser {
    pub fn of(person: &str) -> Browser {
        Browser {
            http: http(),
            cookies: HashMap::new(),
            person: person.to_owned(),
            visited: Vec::new(),
        }
    }

    /// Goes to an address without following.
    pub async fn get(&mut self, url: &str) -> (u16, Option<String>, String) {
        let url = reqwest::Url::parse(url).unwrap();
        let place = url.authority().to_owned();
        let sent: Vec<String> = self
            .cookies
            .iter()
            .filter(|((at, _), _)| *at == place)
            .map(|((_, name), value)| format!("{name}={value}"))
            .collect();
        let mut request = self.http.get(url.clone());
        if !sent.is_empty() {
            request = request.header("cookie", sent.join("; "));
        }
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all("set-cookie") {
            let text = set.to_str().unwrap();
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            let key = (place.clone(), name.to_owned());
            if value.is_empty() || text.contains("Max-Age=0") {
                self.cookies.remove(&key);
            } else {
                self.cookies.insert(key, value.to_owned());
            }
        }
        let status = answer.status().as_u16();
        let location = answer
            .headers()
            .get("location")
            .map(|to| url.join(to.to_str().unwrap()).unwrap().to_string());
        (status, location, answer.text().await.unwrap())
    }

    /// Goes to an address and wherever it leads, naming the person to the provider.
    pub async fn follow(&mut self, url: &str) -> (u16, String) {
        let mut next = url.to_owned();
        for _ in 0..20 {
            self.visited.push(next.clone());
            let (status, location, text) = self.get(&next).await;
            match location {
                None => return (status, text),
                Some(to) if to.contains("/auth?") => {
                    next = format!("{to}&login_hint={}", self.person);
                }
                Some(to) => next = to,
            }
        }
        panic!("too many redirects: {:?}", self.visited)
    }

    /// The address at which the provider sent the browser back to the cloud.
    pub fn callback(&self) -> String {
        self.visited.iter().find(|url| url.contains("/callback?")).unwrap().clone()
    }

    pub fn cookie_values(&self) -> Vec<String> {
        self.cookies.values().cloned().collect()
    }

    pub fn forget_cookies(&mut self) {
        self.cookies.clear();
    }
}

pub(super) const DASHBOARD: &str = "https://console.example/auth/websso/";

/// A cloud that listens, with the provider `corp` set up.
pub(super) struct Sso {
    pub cloud: Cloud,
    pub base: String,
    pub op: Op,
    pub admin: String,
    pub domain: String,
    pub project: String,
    pub group: String,
    shutdown: CancellationToken,
}

impl Drop for Sso {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(super) async fn listen(cloud: &Cloud, shutdown: CancellationToken) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Providers and their tokens live in the world's time.
    cloud.clock.set(Timestamp(jiff_now()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let config = service_kit::ServeConfig::default();
    tokio::spawn(service_kit::serve(listener, None, cloud.app.clone(), config, shutdown));
    base
}

fn jiff_now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_micros()).unwrap()
}

/// The rules with which people of the provider come in.
pub(super) fn rules() -> Value {
    json!([{
        "local": [
            {"user": {"name": "{0}", "email": "{2}"}},
            {"groups": "{1}", "domain": {"name": "Corp"}},
        ],
        "remote": [{"type": "OIDC-sub"},
                   {"type": "OIDC-groups", "whitelist": ["staff", "guests"]},
                   {"type": "OIDC-email"}],
    }, {
        "local": [{"user": {"name": "{0}"}}, {"groups": "{1}", "domain": {"name": "Corp"}}],
        "remote": [{"type": "OIDC-sub"}, {"type": "OIDC-groups", "whitelist": ["staff"]}],
    }, {
        "local": [{"user": {"name": "robot"}}],
        "remote": [{"type": "OIDC-sub", "any_one_of": ["robot"]}],
    }])
}

/// What is set up for a provider at `issuer`, by the API as an operator would: a domain with a
/// project and a group that is a member of it; mapping, provider, protocol.
pub(super) async fn set_up(cloud: &Cloud, issuer: &str) -> (String, String, String, String) {
    let admin = cloud.admin().await;
    let made = |answer: Answer, root: &str| answer.body[root]["id"].as_str().unwrap().to_owned();
    let call = |method: &'static str, path: String, body: Value| {
        let admin = admin.clone();
        async move { cloud.call(&admin, method, &path, body).await }
    };
    let domain = call("POST", "/v3/domains".into(), json!({"domain": {"name": "Corp"}})).await;
    let domain = made(domain.expect(201), "domain");
    let body = json!({"project": {"name": "work", "domain_id": domain}});
    let project = made(call("POST", "/v3/projects".into(), body).await.expect(201), "project");
    let body = json!({"group": {"name": "staff", "domain_id": domain}});
    let group = made(call("POST", "/v3/groups".into(), body).await.expect(201), "group");
    let member = cloud.role(&admin, "member").await;
    let grant = format!("/v3/projects/{project}/groups/{group}/roles/{member}");
    call("PUT", grant, Value::Null).await.expect(204);
    let mapping = json!({"mapping": {"rules": rules()}});
    call("PUT", "/v3/OS-FEDERATION/mappings/people".into(), mapping).await.expect(201);
    let provider = json!({"identity_provider": {"enabled": true, "domain_id": domain,
                                                "remote_ids": [issuer]}});
    call("PUT", "/v3/OS-FEDERATION/identity_providers/corp".into(), provider).await.expect(201);
    let path = "/v3/OS-FEDERATION/identity_providers/corp/protocols/openid";
    let protocol = json!({"protocol": {"mapping_id": "people"}});
    call("PUT", path.into(), protocol).await.expect(201);
    (admin, domain, project, group)
}

impl Sso {
    pub async fn on(cloud: Cloud) -> Sso {
        let shutdown = CancellationToken::new();
        let base = listen(&cloud, shutdown.clone()).await;
        let op = Op::start(&base).await;
        let (admin, domain, project, group) = set_up(&cloud, &op.issuer).await;
        let sso = Sso { cloud, base, op, admin, domain, project, group, shutdown };
        sso.client(json!({})).await;
        sso
    }

    /// Sets the OpenID client up, with changes to what it ordinarily is.
    pub async fn client(&self, changes: Value) {
        let mut client = json!({
            "issuer": self.op.issuer, "client_id": "cloud", "client_secret": "the/cloud's secret",
            "scopes": ["openid", "profile", "email", "offline_access"],
            "trusted_dashboards": [DASHBOARD],
        });
        for (name, value) in changes.as_object().unwrap() {
            client[name] = value.clone();
        }
        let path = "/v3/OS-FEDERATION/identity_providers/corp/protocols/openid/openid_client";
        let body = json!({"openid_client": client});
        let answer = self.cloud.call(&self.admin, "PUT", path, body).await.expect(200);
        assert!(!answer.body.to_string().contains("cloud's secret"));
    }

    pub fn web_login(&self, origin: &str) -> String {
        let origin = service_kit::percent_encode(origin);
        format!("{}/identity/v3/auth/OS-FEDERATION/websso/openid?origin={origin}", self.base)
    }

    /// A token by way of a browser.
    pub async fn browse(&self, browser: &mut Browser) -> String {
        let (status, page) = browser.follow(&self.web_login(DASHBOARD)).await;
        assert_eq!(status, 200, "{page}");
        token_of(&page)
    }

    /// A token for an access token.
    pub async fn bear(&self, access_token: &str) -> Answer {
        let request = http::Request::builder()
            .method("POST")
            .uri("/identity/v3/OS-FEDERATION/identity_providers/corp/protocols/openid/auth")
            .header("authorization", format!("Bearer {access_token}"))
            .body(axum::body::Body::empty())
            .unwrap();
        self.cloud.send(request).await
    }

    pub async fn in_project(&self, token: &str) -> Answer {
        self.cloud.rescope(token, json!({"project": {"id": self.project}})).await
    }
}

/// The token in the page that takes it to the dashboard.
pub(super) fn token_of(page: &str) -> String {
    let at = page.find("name=\"token\"").unwrap();
    let value = page[at..].split("value=\"").nth(1).unwrap();
    value.split('"').next().unwrap().to_owned()
}

async fn a_person_logs_in_with_a_browser_and_works_with_what_the_mapping_gives(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    let mut browser = Browser::of("ada");
    let (status, page) = browser.follow(&sso.web_login(DASHBOARD)).await;
    assert_eq!(status, 200, "{page}");
    assert!(page.contains(&format!("action=\"{DASHBOARD}\"")), "{page}");
    let token = token_of(&page);
    let shown = sso.cloud.about(&token, "GET", &token).await.expect(200).body["token"].clone();
    assert_eq!(shown["user"]["name"], "ada");
    assert_eq!(shown["user"]["domain"]["id"], sso.domain);
    let federation = &shown["user"]["OS-FEDERATION"];
    assert_eq!(federation["identity_provider"]["id"], "corp");
    assert_eq!(federation["protocol"]["id"], "openid");
    // Of her groups at the provider, the one that is let through and exists here.
    assert_eq!(federation["groups"], json!([{"id": sso.group}]));
    assert_eq!(shown["methods"], json!(["openid"]));
    assert!(shown.get("roles").is_none() && shown.get("project").is_none());

    for path in ["/v3/OS-FEDERATION/projects", "/v3/auth/projects"] {
        let listed = sso.cloud.get(&token, path).await.expect(200);
        assert_eq!(listed.body["projects"][0]["id"], sso.project);
    }
    sso.cloud.get(&token, "/v3/OS-FEDERATION/domains").await.expect(200);
    let scoped = sso.in_project(&token).await.expect(201);
    assert_eq!(scoped.body["token"]["roles"][0]["name"], "member");
    let user = shown["user"]["id"].as_str().unwrap();
    let found = sso.cloud.get(&sso.admin, &format!("/v3/users/{user}")).await.expect(200);
    assert_eq!(found.body["user"]["email"], "ada@example.org");
    let federated = json!([{"idp_id": "corp",
                            "protocols": [{"protocol_id": "openid", "unique_id": "ada"}]}]);
    assert_eq!(found.body["user"]["federated"], federated);
    // The same person again is the same user.
    let again = sso.browse(&mut Browser::of("ada")).await;
    let shown = sso.cloud.about(&again, "GET", &again).await.expect(200);
    assert_eq!(shown.body["token"]["user"]["id"], *user);
}

async fn a_browser_is_sent_only_to_trusted_dashboards(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    let mut browser = Browser::of("ada");
    for (origin, wanted) in [
        ("https://evil.example/auth/websso/", 401),
        ("https://console.example/elsewhere", 401),
        ("javascript:alert(document.domain)", 401),
        ("", 400),
    ] {
        let (status, location, _) = browser.get(&sso.web_login(origin)).await;
        assert_eq!((status, location), (wanted, None), "{origin}");
    }
    // Trust that is taken away while somebody logs in counts.
    let (_, location, _) = browser.get(&sso.web_login(DASHBOARD)).await;
    sso.client(json!({"trusted_dashboards": ["https://other.example/"]})).await;
    let (status, page) = browser.follow(&format!("{}&login_hint=ada", location.unwrap())).await;
    assert_eq!(status, 401, "{page}");
    assert!(!page.contains("name=\"token\""));
}

async fn a_login_cannot_be_finished_twice_nor_in_another_browser(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    let mut browser = Browser::of("ada");
    let first = sso.browse(&mut browser).await;
    let callback = browser.callback();
    // Replayed: the cookie went with the first use, and with it put back the state is used up.
    let (status, _, page) = browser.get(&callback).await;
    assert_eq!(status, 401, "{page}");
    assert!(sso.cloud.is_good(&first).await);

    // A login that an attacker began, opened in the victim's browser.
    let mut attacker = Browser::of("eve");
    let (_, location, _) = attacker.get(&sso.web_login(DASHBOARD)).await;
    let mut next = format!("{}&login_hint=eve", location.unwrap());
    while !next.contains("/callback?") {
        next = attacker.get(&next).await.1.unwrap();
    }
    let mut victim = Browser::of("ada");
    let (status, _, page) = victim.get(&next).await;
    assert_eq!(status, 401, "{page}");
    assert!(page.contains("this browser"), "{page}");
    // Nor does the attacker's own browser finish it with another code or state.
    for (from, to) in [("code=", "code=x"), ("state=", "state=x")] {
        let (status, _, _) = attacker.get(&next.replace(from, to)).await;
        assert_eq!(status, 401);
    }
    attacker.forget_cookies();
    assert_eq!(attacker.get(&next).await.0, 401);
}

async fn scripts_log_in_by_device_code_and_introspection(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    sso.client(json!({"access_tokens": "introspection", "audiences": ["cloud", "cli"]})).await;
    let access = sso.op.device_login("cli", "bob").await;
    let answer = sso.bear(&access).await.expect(201);
    assert_eq!(answer.body["token"]["user"]["name"], "bob");
    sso.in_project(&answer.token()).await.expect(201);
    // A token that was made for another client of the same provider is not for us.
    let foreign = sso.op.device_login("stranger", "bob").await;
    sso.bear(&foreign).await.expect(401);
    for nonsense in ["", "x", "a.b.c"] {
        sso.bear(nonsense).await.expect(401);
    }
    let path = "/v3/OS-FEDERATION/identity_providers/corp/protocols/openid/auth";
    sso.cloud.call("", "POST", path, Value::Null).await.expect(401);
}

/// A signed access token of a program's own, for a resource.
async fn signed_token(sso: &Sso, resource: &str) -> String {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", "robot"),
        ("client_secret", "robot-secret"),
        ("resource", resource),
        ("scope", "read"),
    ];
    let granted = sso.op.form("/token", &fields).await;
    granted["access_token"].as_str().unwrap().to_owned()
}

async fn scripts_log_in_with_signed_access_tokens(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    sso.client(json!({"audiences": ["urn:cloud"]})).await;
    let good = signed_token(&sso, "urn:cloud").await;
    let answer = sso.bear(&good).await.expect(201);
    assert_eq!(answer.body["token"]["user"]["name"], "robot");
    sso.bear(&signed_token(&sso, "urn:other").await).await.expect(401);
    // Later than it lives.
    sso.cloud.clock.advance(Duration::from_secs(700));
    let refusal = sso.bear(&good).await.expect(401);
    assert!(refusal.body.to_string().contains("expired"), "{}", refusal.body);
}

async fn who_is_disabled_at_the_provider_loses_their_tokens_and_nobody_else(cloud: Cloud) {
    let mut sso = Sso::on(cloud).await;
    let ada = sso.browse(&mut Browser::of("ada")).await;
    let bob = sso.browse(&mut Browser::of("bob")).await;
    let at_work = sso.in_project(&ada).await.expect(201).token();
    let wait = Duration::from_secs(31);
    // Twice, so that the refresh token that the provider put in place of the first is used, too.
    for _ in 0..2 {
        sso.cloud.clock.advance(wait);
        sso.cloud.identity.recheck_accounts().await.unwrap();
        assert!(sso.cloud.is_good(&ada).await && sso.cloud.is_good(&bob).await);
    }
    sso.op.administer("disable?account=ada").await;
    // Not due yet: nothing is asked.
    sso.cloud.identity.recheck_accounts().await.unwrap();
    assert!(sso.cloud.is_good(&ada).await);
    sso.cloud.clock.advance(wait);
    sso.cloud.identity.recheck_accounts().await.unwrap();
    assert!(!sso.cloud.is_good(&ada).await && !sso.cloud.is_good(&at_work).await);
    assert!(sso.cloud.is_good(&bob).await);
    // A provider that is away ends nobody's work.
    sso.op.stop();
    sso.cloud.clock.advance(wait);
    sso.cloud.identity.recheck_accounts().await.unwrap();
    assert!(sso.cloud.is_good(&bob).await);
}

async fn a_logout_at_the_provider_ends_the_tokens_of_that_login(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    let ada = sso.browse(&mut Browser::of("ada")).await;
    let bob = sso.browse(&mut Browser::of("bob")).await;
    let at_work = sso.in_project(&ada).await.expect(201).token();
    let told = sso.op.administer("logout?account=ada&client=cloud").await;
    assert_eq!(told["told"], "told");
    assert!(!sso.cloud.is_good(&ada).await && !sso.cloud.is_good(&at_work).await);
    assert!(sso.cloud.is_good(&bob).await);
    // She may log in again.
    let again = sso.browse(&mut Browser::of("ada")).await;
    assert!(sso.cloud.is_good(&again).await);
}

async fn a_new_key_of_the_provider_is_found(cloud: Cloud) {
    let mut sso = Sso::on(cloud).await;
    sso.browse(&mut Browser::of("ada")).await;
    sso.op.restart("second").await;
    // Keys are not read again at once, or anybody could have us ask the provider all day.
    let began = Instant::now();
    loop {
        let (status, page) = Browser::of("ada").follow(&sso.web_login(DASHBOARD)).await;
        if status == 200 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "{status} {page}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn a_script_whose_person_is_disabled_loses_its_tokens(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    sso.client(json!({"access_tokens": "introspection", "audiences": ["cloud", "cli"]})).await;
    let come = async |who: &str| {
        let access = sso.op.device_login("cli", who).await;
        sso.bear(&access).await.expect(201).token()
    };
    let (ada, bob) = (come("ada").await, come("bob").await);
    let look = async || {
        sso.cloud.clock.advance(Duration::from_secs(31));
        sso.cloud.identity.recheck_accounts().await.unwrap();
    };
    look().await;
    assert!(sso.cloud.is_good(&ada).await && sso.cloud.is_good(&bob).await);
    sso.op.administer("disable?account=ada").await;
    look().await;
    assert!(!sso.cloud.is_good(&ada).await && sso.cloud.is_good(&bob).await);
}

async fn a_program_with_a_signed_token_works_until_that_ends(cloud: Cloud) {
    let sso = Sso::on(cloud).await;
    sso.client(json!({"audiences": ["urn:cloud"]})).await;
    let token = sso.bear(&signed_token(&sso, "urn:cloud").await).await.expect(201).token();
    // The provider does not know the token again, which says nothing about it.
    sso.cloud.clock.advance(Duration::from_secs(31));
    sso.cloud.identity.recheck_accounts().await.unwrap();
    assert!(sso.cloud.is_good(&token).await);
    // It lives ten minutes there.
    sso.cloud.clock.advance(Duration::from_secs(600));
    assert!(!sso.cloud.is_good(&token).await);
}
