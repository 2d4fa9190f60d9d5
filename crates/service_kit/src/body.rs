//! Request bodies and paths, read strictly: what does not fit is refused with the place in the
//! document that is wrong, in words that the caller can act upon.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cloud_types::{Fault, FaultKind};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::fault::ApiFault;
use crate::routes::BodyLimit;

/// A JSON body. Unknown fields are refused where the type says `deny_unknown_fields`; the fault
/// names the wrong field (`server.networks[1].uuid`).
#[derive(Clone, Copy, Debug, Default)]
pub struct StrictJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for StrictJson<T> {
    type Rejection = ApiFault;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiFault> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts) {
            return Err(ApiFault(Fault::new(
                FaultKind::UnsupportedMediaType,
                "Unsupported Content-Type: the body of this request must be application/json.",
            )));
        }
        let bytes = read_body(body, limit_of(&parts)).await?;
        Ok(StrictJson(from_slice(&bytes)?))
    }
}

/// A JSON body that may be left out altogether.
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionalJson<T>(pub Option<T>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiFault;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiFault> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(body, limit_of(&parts)).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(OptionalJson(None));
        }
        Ok(OptionalJson(Some(from_slice(&bytes)?)))
    }
}

/// Reads a document and, when it does not fit, says where.
///
/// # Errors
/// 400 with the path of the wrong field.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::bad_request("This request needs a JSON body, and none was sent."));
    }
    refuse_nul(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_syntax() || inner.is_eof() {
            return Fault::bad_request(format!("Malformed request body: {inner}."));
        }
        let reason = without_text(&without_position(&inner.to_string()));
        if path == "." {
            Fault::bad_request(format!("Invalid input for the request body: {reason}."))
        } else {
            Fault::bad_request(format!("Invalid input for field/attribute {path}: {reason}."))
        }
    })?;
    deserializer
        .end()
        .map_err(|error| Fault::bad_request(format!("Malformed request body: {error}.")))?;
    Ok(value)
}

/// The same for a value that is parsed already: for handlers that must look at a document before
/// they know its type.
///
/// # Errors
/// 400 with the path of the wrong field below `root`.
pub fn from_value<T: DeserializeOwned>(root: &str, value: serde_json::Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = without_text(&error.into_inner().to_string());
        let at = match path.as_str() {
            "." => root.to_owned(),
            path => format!("{root}.{path}"),
        };
        Fault::bad_request(format!("Invalid input for field/attribute {at}: {reason}."))
    })
}

/// No name, description or password may hold U+0000: no database column and no C program takes it.
fn refuse_nul(bytes: &[u8]) -> Result<(), Fault> {
    let mut escaped = false;
    for (index, byte) in bytes.iter().enumerate() {
        if escaped && bytes[index..].starts_with(b"u0000") {
            return Err(Fault::bad_request(
                "The request body holds the character U+0000, which no field may have.",
            ));
        }
        escaped = *byte == b'\\' && !escaped;
    }
    Ok(())
}

fn without_position(message: &str) -> String {
    match message.rfind(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message.to_owned(),
    }
}

/// `invalid type: string "…", expected …` without the text: it may be a password that stands in
/// the wrong place, and answers are written down by clients.
fn without_text(message: &str) -> String {
    for begin in ["invalid type: string ", "invalid value: string "] {
        if let (Some(rest), Some(end)) =
            (message.strip_prefix(begin), message.rfind("\", expected "))
            && rest.starts_with('"')
        {
            return format!("{}{}", begin.trim_end(), &message[end + 1..]);
        }
    }
    message.to_owned()
}

/// Reads a whole body, never more than the limit.
///
/// # Errors
/// 413 over the limit, 400 when the client stops half way.
pub async fn read_body(body: axum::body::Body, limit: usize) -> Result<Bytes, Fault> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(_) => Err(Fault::bad_request("The request body ended before it was complete.")),
    }
}

pub(crate) fn too_large(limit: usize) -> Fault {
    Fault::too_large(format!("The request body is larger than the limit of {limit} bytes."))
}

fn limit_of(parts: &Parts) -> usize {
    match parts.extensions.get::<BodyLimit>() {
        Some(BodyLimit::Bytes(limit)) => *limit,
        // A JSON document is never streamed: an upload route that reads one gets the default.
        Some(BodyLimit::Unlimited) | None => BodyLimit::DEFAULT_BYTES,
    }
}

fn is_json(parts: &Parts) -> bool {
    let Some(value) = parts.headers.get(CONTENT_TYPE) else {
        return true;
    };
    let media = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim();
    media.is_empty()
        || media.eq_ignore_ascii_case("application/json")
        || (media.to_ascii_lowercase().starts_with("application/")
            && media.to_ascii_lowercase().ends_with("+json"))
}

/// Parameters of the path. What does not parse as an identifier names nothing, hence 404.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiFault> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) if !parts.uri.path().contains("%00") => Ok(Path(value)),
            _ => Err(ApiFault(Fault::not_found("The resource could not be found."))),
        }
    }
}

/// A JSON answer with a status: `Answer(StatusCode::CREATED, body)`.
#[derive(Clone, Copy, Debug)]
pub struct Answer<T>(pub http::StatusCode, pub T);

impl<T: serde::Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        (self.0, axum::Json(self.1)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Nic {
        uuid: uuid::Uuid,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Server {
        name: String,
        #[serde(default)]
        networks: Vec<Nic>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Envelope {
        server: Server,
    }

    #[test]
    fn the_fault_points_at_the_wrong_field() {
        for (text, wanted) in [
            (r#"{"server": {"name": 1}}"#, "server.name"),
            (
                r#"{"server": {"name": "a", "networks": [{"uuid": "x"}]}}"#,
                "server.networks[0].uuid",
            ),
            (r#"{"server": {"name": "a", "colour": 1}}"#, "colour"),
            (r#"{"server": {}}"#, "`name`"),
            (r#"{"server": "#, "Malformed request body"),
            (r#"{"server": {"name": "a"}} x"#, "Malformed request body"),
            ("", "none was sent"),
            ("[]", "request body"),
            (r#"{"server": {"name": "a\u0000b"}}"#, "U+0000"),
        ] {
            let fault = from_slice::<Envelope>(text.as_bytes()).unwrap_err();
            assert_eq!(fault.status(), 400);
            assert!(fault.message.contains(wanted), "{text}: {}", fault.message);
        }
        assert!(from_slice::<Envelope>(br#"{"server": {"name": "a"}}"#).is_ok());
        assert!(from_slice::<Envelope>(br#"{"server": {"name": "a\\u0000"}}"#).is_ok());
    }

    #[test]
    fn a_text_in_the_wrong_place_is_not_repeated() {
        for text in [
            r#"{"server": "s3cret\", expected x"}"#,
            r#"{"server": {"name": "a", "networks": "s3cret"}}"#,
        ] {
            let fault = from_slice::<Envelope>(text.as_bytes()).unwrap_err();
            assert!(!fault.message.contains("s3cret"), "{}", fault.message);
            assert!(fault.message.contains("invalid type: string, expected"), "{}", fault.message);
        }
        let value = serde_json::json!({"server": "s3cret"});
        let fault = from_value::<Envelope>("body", value).unwrap_err();
        assert!(!fault.message.contains("s3cret"), "{}", fault.message);
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_413() {
        let body = axum::body::Body::from(vec![b' '; 100]);
        assert_eq!(read_body(body, 99).await.unwrap_err().status(), 413);
        let body = axum::body::Body::from(vec![b' '; 100]);
        assert_eq!(read_body(body, 100).await.unwrap().len(), 100);
    }
}
