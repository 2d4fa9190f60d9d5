//! Requests to identity providers, within limits: they are other people's machines. No redirect is
//! followed (a secret must not travel where the operator did not send it), an answer is small JSON,
//! and nothing waits long.

use std::time::Duration;

use reqwest::{Certificate, Client, RequestBuilder, StatusCode, Url};
use serde_json::{Map, Value};
use service_kit::percent_encode;

use crate::identity_provider::model::is_safe_url;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// Until the whole answer is here.
const ANSWER: Duration = Duration::from_secs(10);
/// Longest answer, in bytes: key sets of large providers have about 20,000.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why there is no answer to go by.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The provider cannot be reached, or answers nonsense or 5xx: nothing is known.
    #[error("{0}")]
    Unreachable(String),
    /// The provider refuses (4xx), with its own word for why.
    #[error("the provider answers {status} {error}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// OAuth's `error`, cut; empty where there is none.
        error: String,
    },
}

/// A client for one provider.
///
/// # Errors
/// When the certificate cannot be used.
pub(crate) fn client(issuer: &str, ca: Option<&str>) -> Result<Client, HttpError> {
    let failed = |error: reqwest::Error| HttpError::Unreachable(plain(error));
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(4)
        .user_agent("meridian");
    if issuer.starts_with("http://") {
        // Only this machine (see `is_safe_url`): no proxy may see it.
        builder = builder.no_proxy();
    }
    if let Some(pem) = ca {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(failed)?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(failed)
}

/// Without the URL: it may hold a secret.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// An address that secrets may travel to.
pub(crate) fn address(text: &str) -> Result<Url, HttpError> {
    if !is_safe_url(text) {
        let shown: String = text.chars().take(200).collect();
        return Err(HttpError::Unreachable(format!("{shown:?} is no https address")));
    }
    Url::parse(text).map_err(|_| HttpError::Unreachable("an address is malformed".to_owned()))
}

/// A form as OAuth wants it.
pub(crate) fn form(request: RequestBuilder, fields: &[(&str, &str)]) -> RequestBuilder {
    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
        .collect();
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(pairs.join("&"))
}

/// Sends, and reads a JSON object.
pub(crate) async fn json(request: RequestBuilder) -> Result<Map<String, Value>, HttpError> {
    let mut response =
        request.send().await.map_err(|error| HttpError::Unreachable(plain(error)))?;
    let status = response.status();
    let challenge =
        response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
    let challenge = challenge.and_then(error_of).map(str::to_owned);
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend(chunk),
            Ok(Some(_)) => {
                return Err(HttpError::Unreachable(format!(
                    "its answer is longer than {MAX_ANSWER} bytes"
                )));
            }
            Ok(None) => break,
            Err(error) => return Err(HttpError::Unreachable(plain(error))),
        }
    }
    let document = serde_json::from_slice::<Value>(&body).ok();
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        let word = document.as_ref().and_then(|document| document["error"].as_str());
        let word = word.or(challenge.as_deref()).unwrap_or_default();
        let error = word.chars().take(64).collect();
        return Err(HttpError::Refused { status: status.as_u16(), error });
    }
    match document {
        Some(Value::Object(object)) if status.is_success() => Ok(object),
        _ => Err(HttpError::Unreachable(format!(
            "it answers {} without a JSON object",
            status.as_u16()
        ))),
    }
}

/// The `error` of a `WWW-Authenticate` header, in which RFC 6750 wants it.
fn error_of(challenge: &str) -> Option<&str> {
    let (_, rest) = challenge.split_once("error=\"")?;
    rest.split_once('"').map(|(error, _)| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearers_refusal_is_read_from_its_header() {
        let challenge = "Bearer realm=\"x\", error=\"invalid_token\", error_description=\"gone\"";
        assert_eq!(error_of(challenge), Some("invalid_token"));
        assert_eq!(error_of("Bearer error_description=\"no error=here\""), None);
        assert_eq!(error_of("Basic realm=\"x\""), None);
    }
}
