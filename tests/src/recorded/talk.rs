//! Sends the requests of a group to a cloud and writes down what it answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

use super::normal::{Normal, thin};
use super::request::Request;
use super::{Answers, Recorded};

/// The headers that clients look at.
const HEADERS: &[&str] = &[
    "allow",
    "content-type",
    "link",
    "location",
    "openstack-api-version",
    "openstack-image-import-methods",
    "openstack-image-store-ids",
    "retry-after",
    "vary",
    "www-authenticate",
    "x-compute-request-id",
    "x-openstack-nova-api-version",
    "x-openstack-request-id",
    "x-subject-token",
];

/// How long a state may take to come about, and how often one looks.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A user of the cloud, whose project has the same name.
#[derive(Clone, Debug)]
pub struct Account {
    /// Name of the user and of the project, in the domain `Default`.
    pub name: String,
    /// The password.
    pub password: String,
}

/// A conversation with a cloud.
pub struct Talk {
    http: reqwest::Client,
    normal: Normal,
    tokens: Vec<(String, String)>,
}

impl Talk {
    /// Logs the accounts in at `identity` (with `/v3`) and reads the catalogue. `authority` is the
    /// PEM of the cloud's authority, for a cloud that speaks TLS.
    ///
    /// # Errors
    /// When a login fails, or the catalogue lacks a service.
    pub async fn begin(
        identity: &str,
        authority: Option<&[u8]>,
        accounts: &[Account],
    ) -> Result<Self> {
        let mut http = reqwest::Client::builder()
            .timeout(Duration::from_secs(300))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(authority) = authority {
            http = http.tls_certs_only([Certificate::from_pem(authority)?]);
        }
        let http = http.build()?;
        let mut talk = Talk { http, normal: Normal::default(), tokens: Vec::new() };
        for account in accounts {
            talk.login(identity, account).await?;
        }
        Ok(talk)
    }

    /// What `hosts` are called in answers is not compared.
    #[must_use]
    pub fn with_hosts(mut self, hosts: &[&str]) -> Self {
        self.normal.hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        self
    }

    async fn login(&mut self, identity: &str, account: &Account) -> Result<()> {
        let Account { name, password } = account;
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": name, "domain": domain, "password": password},
            }},
            "scope": {"project": {"name": name, "domain": domain}},
        }});
        let answer = self.http.post(format!("{identity}/auth/tokens")).json(&body).send().await?;
        let status = answer.status();
        let token = answer.headers().get("x-subject-token").cloned();
        let body: Value = answer.json().await?;
        let token = token.with_context(|| format!("login of {name}: {status} {body}"))?;
        let token = token.to_str()?.to_owned();
        self.normal.remember(&format!("{name}_token"), &token);
        self.normal.remember(&format!("{name}_password"), password);
        for part in ["project", "user"] {
            let id = body["token"][part]["id"].as_str().context("an id in the token")?;
            self.normal.remember(&format!("{name}_{part}"), id);
        }
        self.tokens.push((name.clone(), token));
        if self.normal.roots.is_empty() {
            self.normal.roots = roots(&body["token"]["catalog"])?;
        }
        Ok(())
    }

    /// Sends the requests one after the other; returns the answers to those that are recorded.
    ///
    /// # Errors
    /// When a request cannot be sent, what it should remember is not in the answer, or what it
    /// waits for does not come.
    pub async fn all(&mut self, requests: &[Request]) -> Result<Answers> {
        let mut answers = Answers::new();
        for request in requests {
            let answer = self.one(request).await.with_context(|| request.name.clone())?;
            if request.record {
                answers.insert(request.name.clone(), answer);
            }
        }
        Ok(answers)
    }

    async fn one(&mut self, request: &Request) -> Result<Recorded> {
        let begun = Instant::now();
        loop {
            let (answer, body) = self.send(request).await?;
            let Some((pointer, wanted)) = &request.until else {
                return self.remember(request, answer, &body);
            };
            let seen = match pointer.as_str() {
                "status" => json!(answer.status),
                pointer => body.pointer(pointer).cloned().unwrap_or(Value::Null),
            };
            if seen == *wanted {
                return self.remember(request, answer, &body);
            }
            if begun.elapsed() > PATIENCE || (seen == "ERROR" && wanted != "ERROR") {
                bail!("waited in vain for {pointer} to be {wanted}; it is {seen}: {body}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn remember(&mut self, request: &Request, answer: Recorded, body: &Value) -> Result<Recorded> {
        for (name, pointer) in &request.keep {
            let value = match body.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => bail!("there is no {pointer} in {} {body}", answer.status),
            };
            self.normal.remember(name, &value);
        }
        if request.keep.is_empty() {
            return Ok(answer);
        }
        // The id has a name only now.
        let mut body = self.normal.json(body);
        if request.shapes {
            thin(&mut body);
        }
        Ok(Recorded { body, ..answer })
    }

    /// Sends it once: the answer in normal form, and its body as it came.
    async fn send(&mut self, request: &Request) -> Result<(Recorded, Value)> {
        let (method, service, path) = request.parts()?;
        let root = self.normal.roots.iter().find(|(_, name)| name == service);
        let root = &root.with_context(|| format!("there is no service {service}"))?.0;
        let url = format!("{root}{}", self.fill(path)?);
        let mut sent = self.http.request(Method::from_bytes(method.as_bytes())?, url);
        sent = sent.header("accept", "application/json");
        match request.who.as_str() {
            "none" => {}
            "wrong" => sent = sent.header("x-auth-token", "not-a-token"),
            name => {
                let token = self.tokens.iter().find(|(known, _)| known == name);
                let token = &token.with_context(|| format!("{name} is not logged in"))?.1;
                sent = sent.header("x-auth-token", token);
            }
        }
        if let Some(version) = &request.version {
            sent = sent
                .header("openstack-api-version", format!("compute {version}"))
                .header("x-openstack-nova-api-version", version);
        }
        for (name, value) in &request.headers {
            sent = sent.header(name, self.fill(value)?);
        }
        let json = "application/json";
        let body = match (&request.body, &request.text, request.bytes) {
            (Some(body), _, _) => Some((json, self.fill(&body.to_string())?.into_bytes())),
            (_, Some(text), _) => Some((json, text.clone().into_bytes())),
            (_, _, Some(size)) => Some(("application/octet-stream", pattern(size))),
            _ => None,
        };
        if let Some((usual, body)) = body {
            let content_type = request.content_type.as_deref().unwrap_or(usual);
            sent = sent.header("content-type", content_type).body(body);
        }
        let answer = sent.send().await?;
        let status = answer.status().as_u16();
        for (name, header) in &request.keep_header {
            let value = answer.headers().get(header).with_context(|| format!("no {header}"))?;
            self.normal.remember(name, value.to_str()?);
        }
        let mut headers = std::collections::BTreeMap::new();
        for &name in HEADERS {
            let values: Vec<_> = answer
                .headers()
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            if !values.is_empty() {
                let text = match name {
                    "x-subject-token" => "<token>".to_owned(),
                    _ => self.normal.text(&values.join(", ")),
                };
                headers.insert(name.to_owned(), text);
            }
        }
        let bytes = answer.bytes().await?;
        let raw: Option<Value> = serde_json::from_slice(&bytes).ok();
        let mut body = match &raw {
            Some(json) => self.normal.json(json),
            None => json!(self.opaque(headers.get("content-type"), &bytes)),
        };
        if request.shapes {
            thin(&mut body);
        }
        Ok((Recorded { status, headers, body }, raw.unwrap_or(Value::Null)))
    }

    /// What is written down for a body that is not JSON.
    fn opaque(&self, content_type: Option<&String>, bytes: &[u8]) -> Option<String> {
        if bytes.is_empty() {
            return None;
        }
        let texts = content_type.is_some_and(|kind| kind.starts_with("text/"));
        Some(if texts {
            self.normal.text(&String::from_utf8_lossy(bytes))
        } else {
            format!("<{} bytes>", bytes.len())
        })
    }

    /// Puts remembered values where their names stand.
    fn fill(&self, text: &str) -> Result<String> {
        let mut filled = text.to_owned();
        for (value, name) in &self.normal.known {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        Ok(filled)
    }
}

/// The roots of the services in a catalogue: their addresses without the version.
fn roots(catalog: &Value) -> Result<Vec<(String, String)>> {
    let mut roots = Vec::new();
    for (kind, version) in
        [("identity", "/v3"), ("compute", "/v2.1"), ("network", ""), ("image", "")]
    {
        let url = catalog
            .as_array()
            .into_iter()
            .flatten()
            .filter(|service| service["type"] == kind)
            .flat_map(|service| service["endpoints"].as_array().into_iter().flatten())
            .find(|endpoint| endpoint["interface"] == "public")
            .and_then(|endpoint| endpoint["url"].as_str())
            .with_context(|| format!("no public endpoint of {kind} in the catalogue"))?;
        let url = url.trim_end_matches('/');
        roots.push((url.strip_suffix(version).unwrap_or(url).to_owned(), kind.to_owned()));
    }
    Ok(roots)
}

/// The same bytes every time, so that checksums can be compared. They begin with nothing that
/// could be taken for a header.
fn pattern(size: usize) -> Vec<u8> {
    b"the same bytes every time. ".iter().copied().cycle().take(size).collect()
}
