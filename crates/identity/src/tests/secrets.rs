//! Nothing that is written down holds a password or a token: known secrets are sent through every
//! route that takes one, rightly and wrongly, and then looked for in the log, the journal, the
//! database and the answers.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::attacks_on_sso::{PROTOCOL, Stage};
use super::sso::token_of;
use super::*;

/// Everything that is logged, at the most talkative level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn install() -> Log {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// What was sent, and what was answered.
struct Trail {
    cloud: Cloud,
    secrets: Vec<String>,
    answers: Vec<String>,
    next: usize,
}

impl Trail {
    /// A secret that is like no other text.
    fn secret(&mut self) -> String {
        self.next += 1;
        let secret = format!("s3cr3t/{:02}+{}", self.next, "zq".repeat(6));
        self.secrets.push(secret.clone());
        secret
    }

    /// A request; tokens in the headers of its answer are secrets from then on.
    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/identity{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.cloud.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        for (name, value) in &answer.headers {
            let value = value.to_str().unwrap().to_owned();
            if ["x-subject-token", "openstack-auth-receipt"].contains(&name.as_str()) {
                self.secrets.push(value);
            } else {
                self.answers.push(format!("{name}: {value}"));
            }
        }
        self.answers.push(answer.body.to_string());
        answer
    }

    async fn login(&mut self, user: &str, password: &str) -> Answer {
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"id": "default"}, "password": password}}}}});
        self.send("POST", "/v3/auth/tokens", &[], &body.to_string()).await
    }
}

/// Every text of every row.
async fn database_texts(db: &Database) -> String {
    let read = db.read(|tx| {
        Box::pin(async move {
            let mut texts = String::new();
            let tables =
                tx.query("SELECT name FROM sqlite_master WHERE type = 'table'", &[]).await?;
            for table in tables {
                let table = table.text("name")?;
                let columns = tx
                    .query_dynamic(format!("SELECT name FROM pragma_table_info('{table}')"), &[])
                    .await?;
                let rows = tx.query_dynamic(format!("SELECT * FROM \"{table}\""), &[]).await?;
                for row in &rows {
                    for column in &columns {
                        let column = column.text("name")?;
                        match row.value(&column)? {
                            database::Value::Text(text) => texts.push_str(text),
                            database::Value::Bytes(bytes) => {
                                texts.push_str(&String::from_utf8_lossy(bytes));
                            }
                            _ => {}
                        }
                        texts.push('\n');
                    }
                }
            }
            Ok::<_, database::DatabaseError>(texts)
        })
    });
    read.await.unwrap()
}

/// The forms in which a secret might be written down.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        secret.to_owned(),
        STANDARD_NO_PAD.encode(bytes),
        URL_SAFE_NO_PAD.encode(bytes),
        hexadecimal,
        service_kit::percent_encode(secret),
        secret.replace('/', "\\/"),
        format!("{bytes:?}"),
    ]
}

/// Looks for the secrets in all that was written.
fn search(written: &[(&str, String)], secrets: &[String]) {
    for (place, text) in written {
        assert!(text.len() > 1000, "{place} has {} bytes: nothing was looked at", text.len());
        for secret in secrets {
            for form in forms(secret) {
                let found = text.find(&form).map(|at| {
                    let before: Vec<char> = text[..at].chars().rev().take(300).collect();
                    before.into_iter().rev().collect::<String>()
                });
                assert_eq!(found, None, "{secret} stands in {place}");
            }
        }
    }
}

#[tokio::test]
async fn nothing_that_is_written_down_holds_a_secret() {
    let log = Log::install();
    let asked = |asked: &mut SecurityCompliance| {
        (asked.lockout_failure_attempts, asked.unique_last_password_count) = (50, 3);
        asked.password_regex = ".{5,}".into();
    };
    let cloud = Cloud::sqlite().await.asking(asked).await;
    let mut trail = Trail {
        cloud,
        secrets: vec!["root-secret".into(), "demo-secret".into()],
        answers: Vec::new(),
        next: 0,
    };
    let admin = trail.login("admin", "root-secret").await.expect(201).token();
    let with_token = [("x-auth-token", admin.as_str())];

    // Users: rightly, and in ways that are refused.
    let first = trail.secret();
    let body = json!({"user": {"name": "ann", "password": first}}).to_string();
    let keyed = [("x-auth-token", admin.as_str()), ("idempotency-key", "k-1")];
    let made = trail.send("POST", "/v3/users", &keyed, &body).await.expect(201);
    trail.send("POST", "/v3/users", &keyed, &body).await.expect(201);
    trail.send("POST", "/v3/users", &with_token, &body).await.expect(409);
    let id = made.body["user"]["id"].as_str().unwrap().to_owned();
    let (user, password) = (format!("/v3/users/{id}"), format!("/v3/users/{id}/password"));
    for wrong in [
        |secret: &str| json!({"user": {"name": 5, "password": secret}}).to_string(),
        |secret: &str| json!({"user": {"name": "x", "password": [secret]}}).to_string(),
        |secret: &str| json!({"user": {"name": "x", "password": {"p": secret}}}).to_string(),
        |secret: &str| json!({"user": secret}).to_string(),
        |secret: &str| format!("{{\"user\": {{\"password\": \"{secret}\" oops"),
        |secret: &str| format!("{{\"user\": {{\"password\": \"{secret}\\u0000\"}}}}"),
        |secret: &str| json!({"user": {"name": "x", "password": secret, "options": 7}}).to_string(),
    ] {
        let secret = trail.secret();
        trail.send("POST", "/v3/users", &with_token, &wrong(&secret)).await.expect(400);
        let secret = trail.secret();
        trail.send("PATCH", &user, &with_token, &wrong(&secret)).await.expect(400);
    }
    let second = trail.secret();
    let body = json!({"user": {"password": second}}).to_string();
    trail.send("PATCH", &user, &with_token, &body).await.expect(200);

    // One's own password.
    let (third, wrong) = (trail.secret(), trail.secret());
    let change = |old: &str, new: &str| {
        json!({"user": {"original_password": old, "password": new}}).to_string()
    };
    trail.send("POST", &password, &[], &change(&wrong, &third)).await.expect(401);
    trail.send("POST", &password, &[], &change(&second, &second)).await.expect(400);
    trail.send("POST", &password, &[], &change(&second, &third)).await.expect(204);
    let odd = json!({"user": {"original_password": third, "password": 7, "x": wrong}});
    trail.send("POST", &password, &[], &odd.to_string()).await.expect(400);

    // Logins.
    let token = trail.login("ann", &third).await.expect(201).token();
    let wrong = trail.secret();
    trail.login("ann", &wrong).await.expect(401);
    trail.login("nobody", &wrong).await.expect(401);
    for shape in [
        |secret: &str| json!({"auth": {"identity": {"methods": ["password"], "password": secret}}}),
        |secret: &str| json!({"auth": {"identity": {"methods": ["token"], "token": {"id": secret}}}}),
        |secret: &str| json!({"auth": {"identity": {"methods": [secret]}}, "scope": secret}),
        |secret: &str| {
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": "a", "domain": 7, "password": secret}}}}})
        },
    ] {
        let secret = trail.secret();
        let body = shape(&secret).to_string();
        let answer = trail.send("POST", "/v3/auth/tokens", &[], &body).await;
        assert!(answer.status.is_client_error(), "{}", answer.status);
    }
    // Tokens: as bearer and subject, good and bad, in the wrong place.
    let both = [("x-auth-token", admin.as_str()), ("x-subject-token", token.as_str())];
    trail.send("GET", "/v3/auth/tokens", &both, "").await.expect(200);
    let rescope = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}},
                                  "scope": "unscoped"}});
    trail.send("POST", "/v3/auth/tokens", &[], &rescope.to_string()).await.expect(201);
    let forged = trail.secret();
    trail.send("GET", "/v3/users", &[("x-auth-token", forged.as_str())], "").await.expect(401);
    let subject = [("x-auth-token", admin.as_str()), ("x-subject-token", forged.as_str())];
    trail.send("GET", "/v3/auth/tokens", &subject, "").await.expect(404);
    trail
        .send("GET", "/v3/auth/tokens", &[("openstack-auth-receipt", forged.as_str())], "")
        .await
        .expect(401);
    trail.send("DELETE", "/v3/auth/tokens", &both, "").await.expect(204);
    let rules = json!({"user": {"options": {"multi_factor_auth_rules": [["password", "totp"]]}}});
    trail.send("PATCH", &user, &with_token, &rules.to_string()).await.expect(200);
    trail.login("ann", &third).await.expect(401);
    // And the way back in.
    let made = crate::recover(&trail.cloud.db, HashParams::CHEAP).await.unwrap();
    trail.secrets.push(made.password.to_string());
    trail.login(&made.user, &made.password).await;

    let written = [
        ("the log", log.text()),
        ("the database with its journal", database_texts(&trail.cloud.db).await),
        ("an answer", trail.answers.join("\n")),
    ];
    search(&written, &trail.secrets);
    // The search finds what is there.
    let (log, database) = (&written[0].1, &written[1].1);
    assert!(log.contains("/identity/v3/users"), "requests are logged");
    assert!(database.contains("$argon2id$") && database.contains("ann"));
}

/// The same for people who come from elsewhere: secrets of OpenID clients and directories, tokens of
/// providers, what passes a browser, and passwords that a directory is asked about.
#[tokio::test]
async fn nothing_that_single_sign_on_writes_down_holds_a_secret() {
    let log = Log::install();
    let stage = Stage::on(Cloud::sqlite().await).await;
    let (mut secrets, mut answers) = (Vec::new(), Vec::new());
    let mut number = 0;
    let mut secret = |secrets: &mut Vec<String>| {
        number += 1;
        let secret = format!("s3cr3t.{number:02}~{}", "zq".repeat(6));
        secrets.push(secret.clone());
        secret
    };
    let call = async |method: &str, path: &str, body: Value, answers: &mut Vec<String>| {
        let answer = stage.cloud.call(&stage.admin, method, path, body).await;
        answers.push(answer.body.to_string());
        answer.status.as_u16()
    };

    // The client's secret, rightly and in ways that are refused.
    let path = format!("{PROTOCOL}/openid_client");
    let issuer = stage.played.issuer.clone();
    let client = |more: Value| {
        let mut client = json!({"issuer": issuer, "client_id": "cloud",
                                "trusted_dashboards": [super::sso::DASHBOARD]});
        client.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"openid_client": client})
    };
    for wrong in [
        |secret: &str| json!({"client_secret": [secret]}),
        |secret: &str| json!({"client_secret": {"x": secret}}),
        |secret: &str| json!({"client_secret": secret, "scopes": 7}),
        |secret: &str| json!({"client_secret": secret, "issuer": "http://elsewhere.example"}),
        |secret: &str| json!({"client_secret": secret, "ca_certificate": "x"}),
    ] {
        let body = client(wrong(&secret(&mut secrets)));
        assert_eq!(call("PUT", &path, body, &mut answers).await, 400);
    }
    let good = client(json!({"client_secret": secret(&mut secrets)}));
    assert_eq!(call("PUT", &path, good, &mut answers).await, 200);
    assert_eq!(call("GET", &path, Value::Null, &mut answers).await, 200);

    // A browser's login with a refresh token, which is renewed; and one that comes back wrongly.
    *stage.played.refresh.lock().unwrap() = Some(secret(&mut secrets));
    let walk = stage.walk().await;
    assert_eq!(walk.status, 200, "{}", walk.page);
    secrets.extend([token_of(&walk.page), walk.state.clone(), walk.code.clone()]);
    secrets.extend(walk.cookies);
    *stage.played.refresh.lock().unwrap() = Some(secret(&mut secrets));
    stage.cloud.clock.advance(Duration::from_secs(31));
    stage.cloud.identity.recheck_accounts().await.unwrap();
    for query in [
        format!("state={}&code={}", walk.state, secret(&mut secrets)),
        format!("state={}&code=x", secret(&mut secrets)),
        format!("error={}&state={}", "access_denied", walk.state),
    ] {
        let path = "/v3/auth/OS-FEDERATION/identity_providers/corp/protocols/openid/callback";
        let path = format!("{path}?{query}");
        assert_eq!(call("GET", &path, Value::Null, &mut answers).await, 401);
    }

    // Tokens of the provider: brought by scripts, and telling of a logout.
    let sign = |claims: &Value| stage.played.signer.sign(claims);
    let mut tokens = vec![sign(&stage.good("ada"))];
    for wrong in [json!({"aud": "other"}), json!({"exp": 7}), json!({"sub": null})] {
        tokens.push(sign(&stage.with(wrong)));
    }
    tokens.push(secret(&mut secrets));
    tokens.push(format!("{}.{}.{}", "e30", "e30", secret(&mut secrets)));
    for (index, token) in tokens.iter().enumerate() {
        let answer = stage.bear(token).await.expect(if index == 0 { 201 } else { 401 });
        if index == 0 {
            secrets.push(answer.token());
        }
        answers.push(answer.body.to_string());
        assert_eq!(stage.logout(token).await, 400);
    }
    secrets.extend(tokens);

    // A directory that cannot be asked: its password, and those of people.
    let config = "/v3/domains/default/config";
    for (wrong, status) in [
        (json!({"ldap": {"password": secret(&mut secrets), "colour": "red"}}), 403),
        (
            json!({"ldap": {"url": "ldap://127.0.0.1:1", "user": "cn=reader",
                         "password": secret(&mut secrets)}, "identity": {"driver": "ldap"}}),
            201,
        ),
        (json!({"ldap": secret(&mut secrets)}), 403),
    ] {
        assert_eq!(call("PUT", config, json!({"config": wrong}), &mut answers).await, status);
    }
    let login = stage.cloud.login("somebody", &secret(&mut secrets), Value::Null).await;
    answers.push(login.expect(503).body.to_string());
    // Programs of OAuth.
    let body = json!({"consumer": {"description": "x"}});
    let made = stage.cloud.call(&stage.admin, "POST", "/v3/OS-OAUTH1/consumers", body).await;
    secrets.push(made.expect(201).body["consumer"]["secret"].as_str().unwrap().to_owned());

    let written = [
        ("the log", log.text()),
        ("the database with its journal", database_texts(&stage.cloud.db).await),
        ("an answer", answers.join("\n")),
    ];
    search(&written, &secrets);
    assert!(written[0].1.contains("OS-FEDERATION"), "requests are logged");
    assert!(written[1].1.contains("cn=reader"), "what is no secret stands in the database");
}
