//! A provider as this process knows it: its discovery document and keys, kept for a while, and the
//! questions that can be put to it.
//!
//! Keys rotate: a token that names a key which is not known has the set read again, though not more
//! often than every few seconds, or anybody could have us ask the provider all day by sending
//! nonsense. What cannot be refreshed stays in use while the provider is away. Many who need the
//! same document wait for one question, and share its failure for a moment: a flood of logins
//! neither reaches the provider nor queues up behind one that does not answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Url};
use serde_json::{Map, Value};
use service_kit::percent_encode;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::http::{self, HttpError};
use super::jwt::{self, JwtError, KeySet, Signed};
use crate::identity_provider::model::OpenidClient;

/// How long a discovery document is relied upon.
const DISCOVERY_KEPT: Duration = Duration::from_secs(3600);
/// How long keys are relied upon without looking again.
const KEYS_KEPT: Duration = Duration::from_secs(600);
/// Keys are not read more often than this, whatever is sent to us.
const KEYS_APART: Duration = Duration::from_secs(5);
/// A provider that did not answer is not asked for its documents again for so long.
const FAILURE_KEPT: Duration = Duration::from_secs(2);
/// Providers remembered.
const MAX_PROVIDERS: usize = 256;

/// What a provider says about itself.
#[derive(Clone, Debug)]
struct Discovery {
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    introspection_endpoint: Option<Url>,
    userinfo_endpoint: Option<Url>,
    /// Whether the secret goes into the form rather than into a header.
    secret_in_form: bool,
}

struct Kept<T> {
    value: Arc<T>,
    at: Instant,
}

/// How an attempt failed, and when.
type Failed = (HttpError, Instant);

/// A document of the provider, and how the last attempt to read it failed.
struct Document<T> {
    /// Who reads it; the others wait.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<(Option<Kept<T>>, Option<Failed>)>,
}

impl<T> Default for Document<T> {
    fn default() -> Self {
        Document { turn: tokio::sync::Mutex::default(), known: Mutex::default() }
    }
}

impl<T> Document<T> {
    fn kept(&self, good_for: Duration) -> Option<Arc<T>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = known.0.as_ref()?;
        (kept.at.elapsed() < good_for).then(|| kept.value.clone())
    }

    /// What is known and not older than `good_for`, or else what `read` finds, or else what was
    /// known before.
    async fn get(
        &self,
        good_for: Duration,
        read: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<Arc<T>, HttpError> {
        if let Some(value) = self.kept(good_for) {
            return Ok(value);
        }
        let _turn = self.turn.lock().await;
        if let Some(value) = self.kept(good_for) {
            return Ok(value);
        }
        let failed = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = known.1.as_ref().filter(|(_, at)| at.elapsed() < FAILURE_KEPT);
            recent.map(|(error, _)| error.clone())
        };
        let result = match failed {
            Some(error) => Err(error),
            None => read.await,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(value) => {
                let value = Arc::new(value);
                *known = (Some(Kept { value: value.clone(), at: Instant::now() }), None);
                Ok(value)
            }
            Err(error) => {
                if known.1.as_ref().is_none_or(|(_, at)| at.elapsed() >= FAILURE_KEPT) {
                    tracing::warn!(%error, "a document of an identity provider could not be read");
                    known.1 = Some((error.clone(), Instant::now()));
                }
                known.0.as_ref().map(|kept| kept.value.clone()).ok_or(error)
            }
        }
    }
}

#[derive(Default)]
struct Known {
    discovery: Document<Discovery>,
    keys: Document<KeySet>,
}

/// One provider. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    issuer: String,
    client: Client,
    known: Arc<Known>,
}

/// The providers that this process has spoken with.
#[derive(Default)]
pub(crate) struct Providers {
    known: Mutex<HashMap<[u8; 32], Provider>>,
}

impl Providers {
    /// The provider of a client.
    ///
    /// # Errors
    /// When its certificate cannot be used.
    pub fn of(&self, client: &OpenidClient) -> Result<Provider, HttpError> {
        let ca = client.ca_certificate.as_deref();
        let named = format!("{}\n{}", client.issuer, ca.unwrap_or_default());
        let key: [u8; 32] = Sha256::digest(named.as_bytes()).into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = known.get(&key) {
            return Ok(provider.clone());
        }
        let provider = Provider {
            issuer: client.issuer.clone(),
            client: http::client(&client.issuer, ca)?,
            known: Arc::default(),
        };
        if known.len() >= MAX_PROVIDERS {
            known.clear();
        }
        known.insert(key, provider.clone());
        Ok(provider)
    }
}

/// The answer of a token endpoint. No `Debug`: it holds tokens.
pub(crate) struct Granted {
    pub id_token: Option<String>,
    pub access_token: Option<Zeroizing<String>>,
    pub refresh_token: Option<Zeroizing<String>>,
    /// Seconds that the access token lives.
    pub expires_in: Option<u64>,
}

/// A client's secret, opened for one request.
pub(crate) type Secret = Option<Zeroizing<String>>;

impl Provider {
    async fn discovery(&self) -> Result<Arc<Discovery>, HttpError> {
        self.known.discovery.get(DISCOVERY_KEPT, self.discover()).await
    }

    async fn discover(&self) -> Result<Discovery, HttpError> {
        let base = self.issuer.trim_end_matches('/');
        let url = http::address(&format!("{base}/.well-known/openid-configuration"))?;
        let document = http::json(self.client.get(url)).await?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        if text("issuer") != Some(self.issuer.as_str()) {
            return Err(HttpError::Unreachable(format!(
                "what is found there calls itself {:?}, not {:?}; the issuer has to be written \
                 exactly as the provider does",
                text("issuer").unwrap_or_default(),
                self.issuer
            )));
        }
        // Whoever answers under https sends us to no address without it, not even on this machine.
        let safe = self.issuer.starts_with("https://");
        let address = |name: &str, text: &str| match http::address(text) {
            Ok(found) if safe && found.scheme() != "https" => {
                Err(HttpError::Unreachable(format!("its description names a {name} without TLS")))
            }
            other => other,
        };
        let needed = |name: &str| {
            let found = text(name)
                .ok_or_else(|| HttpError::Unreachable(format!("its description has no {name}")))?;
            address(name, found)
        };
        let optional = |name: &str| text(name).map(|found| address(name, found)).transpose();
        let methods = document
            .get("token_endpoint_auth_methods_supported")
            .and_then(Value::as_array)
            .map(|methods| methods.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        Ok(Discovery {
            authorization_endpoint: needed("authorization_endpoint")?,
            token_endpoint: needed("token_endpoint")?,
            jwks_uri: needed("jwks_uri")?,
            introspection_endpoint: optional("introspection_endpoint")?,
            userinfo_endpoint: optional("userinfo_endpoint")?,
            secret_in_form: methods.is_some_and(|methods| {
                !methods.contains(&"client_secret_basic") && methods.contains(&"client_secret_post")
            }),
        })
    }

    /// The provider's keys; `renew`: a token names one that is not among them.
    async fn keys(&self, renew: bool) -> Result<Arc<KeySet>, HttpError> {
        let good_for = if renew { KEYS_APART } else { KEYS_KEPT };
        let read = async {
            let discovery = self.discovery().await?;
            let document = http::json(self.client.get(discovery.jwks_uri.clone())).await?;
            Ok(KeySet::parse(&Value::Object(document)))
        };
        self.known.keys.get(good_for, read).await
    }

    /// Checks a signature, reading the keys again where one is new.
    pub async fn verify(&self, text: &str) -> Result<Result<Signed, JwtError>, HttpError> {
        match jwt::verify(text, &*self.keys(false).await?) {
            Err(JwtError::UnknownKey | JwtError::Signature) => {
                Ok(jwt::verify(text, &*self.keys(true).await?))
            }
            other => Ok(other),
        }
    }

    /// Where a browser is sent to log in.
    pub async fn authorization_url(
        &self,
        parameters: &[(&str, &str)],
    ) -> Result<String, HttpError> {
        let mut url = self.discovery().await?.authorization_endpoint.clone();
        url.query_pairs_mut().extend_pairs(parameters);
        Ok(url.to_string())
    }

    async fn token_request(
        &self,
        client_id: &str,
        secret: &Secret,
        fields: &[(&str, &str)],
    ) -> Result<Granted, HttpError> {
        let discovery = self.discovery().await?;
        let answer =
            self.ask(&discovery.token_endpoint, &discovery, client_id, secret, fields).await?;
        let own = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(Granted {
            id_token: own("id_token"),
            access_token: own("access_token").map(Zeroizing::new),
            refresh_token: own("refresh_token").map(Zeroizing::new),
            expires_in: answer.get("expires_in").and_then(Value::as_u64),
        })
    }

    /// A request in the client's name: the secret in a header or in the form, or, of a public
    /// client, the id alone.
    async fn ask(
        &self,
        url: &Url,
        discovery: &Discovery,
        client_id: &str,
        secret: &Secret,
        fields: &[(&str, &str)],
    ) -> Result<Map<String, Value>, HttpError> {
        let mut request = self.client.post(url.clone());
        let mut fields = fields.to_vec();
        match secret {
            None => fields.push(("client_id", client_id)),
            Some(secret) if discovery.secret_in_form => {
                fields.push(("client_id", client_id));
                fields.push(("client_secret", secret));
            }
            Some(secret) => {
                // RFC 6749, 2.3.1: both are form-encoded first.
                let pair = format!("{}:{}", percent_encode(client_id), percent_encode(secret));
                let pair = Zeroizing::new(pair);
                request = request
                    .header("authorization", format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            }
        }
        http::json(http::form(request, &fields)).await
    }

    /// Turns a code into tokens.
    pub async fn redeem(
        &self,
        client_id: &str,
        secret: &Secret,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Granted, HttpError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        self.token_request(client_id, secret, &fields).await
    }

    /// Asks for new tokens: that it is granted shows that the person may still log in.
    pub async fn refresh(
        &self,
        client_id: &str,
        secret: &Secret,
        refresh_token: &str,
    ) -> Result<Granted, HttpError> {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        self.token_request(client_id, secret, &fields).await
    }

    /// What the provider says about an access token (RFC 7662).
    pub async fn introspect(
        &self,
        client_id: &str,
        secret: &Secret,
        token: &str,
    ) -> Result<Map<String, Value>, HttpError> {
        let discovery = self.discovery().await?;
        let Some(url) = &discovery.introspection_endpoint else {
            return Err(HttpError::Unreachable(
                "the provider has no introspection endpoint; set access_tokens to jwt".to_owned(),
            ));
        };
        let fields = [("token", token), ("token_type_hint", "access_token")];
        self.ask(url, &discovery, client_id, secret, &fields).await
    }

    /// More about the person of an access token; `None` where the provider has no such endpoint.
    pub async fn user_info(
        &self,
        access_token: &str,
    ) -> Result<Option<Map<String, Value>>, HttpError> {
        let Some(url) = self.discovery().await?.userinfo_endpoint.clone() else {
            return Ok(None);
        };
        let request = self.client.get(url).bearer_auth(access_token);
        http::json(request.header("accept", "application/json")).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const AN_HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn many_who_need_a_document_ask_once_and_share_a_failure() {
        let document = Document::<u8>::default();
        let asked = Cell::new(0);
        let read = |result: Result<u8, HttpError>| {
            let asked = &asked;
            async move {
                asked.set(asked.get() + 1);
                tokio::task::yield_now().await;
                result
            }
        };
        let away = || Err(HttpError::Unreachable("no route".to_owned()));
        let failed =
            futures::future::join_all((0..20).map(|_| document.get(AN_HOUR, read(away()))));
        assert!(failed.await.iter().all(Result::is_err));
        assert_eq!(asked.get(), 1, "the others are told what the first found");

        document.known.lock().unwrap().1 = None;
        let found = futures::future::join_all((0..20).map(|_| document.get(AN_HOUR, read(Ok(7)))));
        assert!(found.await.iter().all(|found| found.as_deref().is_ok_and(|value| *value == 7)));
        assert_eq!(asked.get(), 2);

        let stale = document.get(Duration::ZERO, read(away())).await;
        assert_eq!(stale.as_deref().ok(), Some(&7), "what was known stays in use");
        document.get(Duration::ZERO, read(Ok(8))).await.unwrap();
        assert_eq!(asked.get(), 3, "and it is not asked again at once");
    }
}
