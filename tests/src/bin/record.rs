//! Records the answers of the real services, for the comparison in `tests/recorded`.
//!
//! ```text
//! MERIDIAN_SHARED=DIR PEER=DIR cargo run -p black_box --bin record [GROUP…]
//! ```
//!
//! `$MERIDIAN_SHARED/peer/env.sh` says where the services listen and what their password is; they
//! were installed under `$PEER` and must run. The recorder makes a project and a user `demo`,
//! sends the requests of `tests/recorded/requests`, takes away what they made, and writes
//! `tests/recorded/answers`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use black_box::recorded::{Account, GROUPS, Talk, directory, read_requests};
use serde_json::{Value, json};

/// The host of the real services, as their scripts call it.
const HOST: &str = "peer1";
/// The recorder's own user, on a test bed that only this machine reaches.
const DEMO_PASSWORD: &str = "demo-for-recording";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // A second provider is none the worse; reqwest wants one even for plain HTTP.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (identity, password) = find_peer()?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for group in GROUPS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == group) {
            continue;
        }
        make_demo(&identity, &password).await?;
        let accounts = [
            Account { name: "admin".into(), password: password.clone() },
            Account { name: "demo".into(), password: DEMO_PASSWORD.into() },
        ];
        let mut talk = Talk::begin(&identity, None, &accounts).await?.with_hosts(&[HOST]);
        let answers = talk.all(&read_requests(group)?).await.with_context(|| group.to_owned())?;
        let path = directory().join(format!("answers/{group}.json"));
        let mut text = serde_json::to_string_pretty(&answers)?;
        text.push('\n');
        std::fs::write(&path, text).with_context(|| format!("{}", path.display()))?;
        println!("{group}: {} answers", answers.len());
    }
    Ok(())
}

/// Where identity is, and the administrator's password.
fn find_peer() -> Result<(String, String)> {
    let shared = std::env::var("MERIDIAN_SHARED").unwrap_or_default();
    let script = format!("{shared}/peer/env.sh");
    if shared.is_empty() || !std::path::Path::new(&script).exists() {
        bail!(
            "the real services are not here: MERIDIAN_SHARED must name a directory with \
             peer/env.sh (it is {shared:?})"
        );
    }
    let peer = std::env::var("PEER").unwrap_or_default();
    if !std::path::Path::new(&peer).join("run/keystone.pid").exists() {
        bail!(
            "the real services do not run: PEER must name the directory where the scripts of \
             {shared}/peer installed and started them (it is {peer:?})"
        );
    }
    let output = Command::new("bash")
        .args(["-c", ". \"$0\" && printf '%s\\n%s\\n' \"$KS\" \"$PW\"", &script])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut lines = text.lines().map(str::to_owned);
    let identity = lines.next().with_context(|| format!("{script} names no address"))?;
    let password = lines.next().with_context(|| format!("{script} names no password"))?;
    Ok((identity, password))
}

/// A project and a user `demo`, member of it, where there are none yet.
async fn make_demo(identity: &str, password: &str) -> Result<()> {
    let http = reqwest::Client::new();
    let domain = json!({"id": "default"});
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {
            "user": {"name": "admin", "domain": domain, "password": password},
        }},
        "scope": {"project": {"name": "admin", "domain": domain}},
    }});
    let answer = http.post(format!("{identity}/auth/tokens")).json(&body).send().await?;
    let token = answer.headers().get("x-subject-token").context("the login failed")?.clone();
    let find = async |kind: &str, name: &str| -> Result<Option<String>> {
        let url = format!("{identity}/{kind}s?name={name}");
        let answer = http.get(url).header("x-auth-token", &token).send().await?;
        let body: Value = answer.error_for_status()?.json().await?;
        let id = &body[format!("{kind}s")][0]["id"];
        Ok(id.as_str().map(str::to_owned))
    };
    let make = async |kind: &str, body: Value| -> Result<String> {
        let sent = http.post(format!("{identity}/{kind}s")).header("x-auth-token", &token);
        let answer = sent.json(&json!({ kind: body })).send().await?.error_for_status()?;
        let body: Value = answer.json().await?;
        Ok(body[kind]["id"].as_str().context("no id")?.to_owned())
    };
    let project = match find("project", "demo").await? {
        Some(id) => id,
        None => make("project", json!({"name": "demo", "domain_id": "default"})).await?,
    };
    let user = match find("user", "demo").await? {
        Some(id) => id,
        None => {
            let body = json!({"name": "demo", "domain_id": "default", "password": DEMO_PASSWORD});
            make("user", body).await?
        }
    };
    let role = find("role", "member").await?.context("there is no role member")?;
    let url = format!("{identity}/projects/{project}/users/{user}/roles/{role}");
    http.put(url).header("x-auth-token", &token).send().await?.error_for_status()?;
    Ok(())
}
