//! The smallest client that can see everything: status, headers and JSON.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Method};
use serde_json::{Value, json};

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as JSON; null when it is empty or is not JSON.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// This answer, when its status is `status`.
    ///
    /// # Errors
    /// Otherwise, with the body.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status == status {
            Ok(self)
        } else {
            bail!("expected {status}, got {}: {}", self.status, self.text)
        }
    }
}

/// A client, with a token or without.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client that trusts `authority` (PEM).
    ///
    /// # Errors
    /// When the authority is not a certificate.
    pub fn new(base: &str, authority: &[u8]) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(authority)?])
            .timeout(Duration::from_secs(60))
            .build()?;
        Ok(Client { base: base.to_owned(), http, token: None, headers: Vec::new() })
    }

    /// The same client, logged in to a project.
    ///
    /// # Errors
    /// When the login is refused.
    pub async fn login(mut self, user: &str, password: &str, project: &str) -> Result<Self> {
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": domain, "password": password}},
            },
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let answer = self.post("/identity/v3/auth/tokens", &body).await?.expect(201)?;
        let token = answer.headers.get("x-subject-token").context("no token in the answer")?;
        self.token = Some(token.to_str()?.to_owned());
        Ok(self)
    }

    /// The token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token;
        self
    }

    /// The same client, which sends one more header with everything.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a request with a body of bytes.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !content_type.is_empty() {
            request = request.header("content-type", content_type).body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8_lossy(&response.bytes().await?).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, json, text })
    }

    /// GET.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, "", Vec::new()).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, "", Vec::new()).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, "application/json", body.to_string().into_bytes()).await
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, "application/json", body.to_string().into_bytes()).await
    }

    /// PUT of bytes.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn upload(&self, path: &str, body: Vec<u8>) -> Result<Answer> {
        self.send(Method::PUT, path, "application/octet-stream", body).await
    }
}
