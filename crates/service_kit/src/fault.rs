//! The one place where a fault becomes HTTP. Handlers return [`ApiFault`]; it travels as an
//! extension of the response, and the outermost layer renders the body in the shape that the
//! clients of the service expect, because only it knows the path and what the caller accepts.
//!
//! | service | shape |
//! |---|---|
//! | identity | `{"error": {"code", "message", "title"}}` |
//! | compute | `{"itemNotFound": {"code", "message"}}`, the name chosen by status |
//! | network | `{"NeutronError": {"type", "message", "detail"}}` |
//! | image | HTML, or JSON with `code`, `title`, `message` where the client accepts only that |
//! | Meridian's own | `{"fault": {"code", "name", "message", "request_id", "retry_after"}}` |
//!
//! A 401 has Keystone's shape, since upstream the token middleware answers it; only images answer
//! it themselves.

use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, FaultKind};
use database::DatabaseError;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::Service;

/// A fault on its way out of a handler: `type ApiResult<T> = Result<T, ApiFault>`, and `?` on
/// anything that becomes a [`Fault`].
#[derive(Clone, Debug)]
pub struct ApiFault(pub Fault);

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiFault>;

impl<E: Into<Fault>> From<E> for ApiFault {
    fn from(error: E) -> Self {
        ApiFault(error.into())
    }
}

impl IntoResponse for ApiFault {
    fn into_response(self) -> Response {
        let mut response = StatusCode::from_u16(self.0.status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response();
        response.extensions_mut().insert(self.0);
        response
    }
}

/// Turns a failed transaction into the fault that its caller sees; for `map_err` where the error
/// type is not yet known to be a [`Fault`].
pub fn database_fault(error: DatabaseError) -> Fault {
    error.into()
}

/// What rendering needs to know about the request.
#[derive(Clone, Debug, Default)]
pub struct FaultContext {
    /// For Meridian's own body.
    pub request_id: String,
    /// For `WWW-Authenticate`.
    pub base_url: String,
    /// Whether `Accept` names JSON and not HTML; only images care.
    pub json_only: bool,
}

/// The reason phrase, as the services of upstream spell it.
pub fn title(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::BadRequest => "Bad Request",
        FaultKind::Unauthorized => "Unauthorized",
        FaultKind::Forbidden => "Forbidden",
        FaultKind::NotFound => "Not Found",
        FaultKind::MethodNotAllowed => "Method Not Allowed",
        FaultKind::NotAcceptable => "Not Acceptable",
        FaultKind::Conflict => "Conflict",
        FaultKind::Gone => "Gone",
        FaultKind::LengthRequired => "Length Required",
        FaultKind::PreconditionFailed => "Precondition Failed",
        FaultKind::TooLarge => "Request Entity Too Large",
        FaultKind::UnsupportedMediaType => "Unsupported Media Type",
        FaultKind::RangeNotSatisfiable => "Requested Range Not Satisfiable",
        FaultKind::TooManyRequests => "Too Many Requests",
        FaultKind::Internal => "Internal Server Error",
        FaultKind::NotImplemented => "Not Implemented",
        FaultKind::Unavailable => "Service Unavailable",
        FaultKind::Timeout => "Gateway Timeout",
    }
}

/// The class of a bare status, for answers that were made below us (axum's own refusals).
pub fn kind_of_status(status: StatusCode) -> FaultKind {
    match status.as_u16() {
        401 => FaultKind::Unauthorized,
        403 => FaultKind::Forbidden,
        404 => FaultKind::NotFound,
        405 => FaultKind::MethodNotAllowed,
        406 => FaultKind::NotAcceptable,
        409 => FaultKind::Conflict,
        410 => FaultKind::Gone,
        411 => FaultKind::LengthRequired,
        412 => FaultKind::PreconditionFailed,
        413 => FaultKind::TooLarge,
        415 => FaultKind::UnsupportedMediaType,
        416 => FaultKind::RangeNotSatisfiable,
        429 => FaultKind::TooManyRequests,
        501 => FaultKind::NotImplemented,
        503 => FaultKind::Unavailable,
        504 => FaultKind::Timeout,
        400..=499 => FaultKind::BadRequest,
        _ => FaultKind::Internal,
    }
}

/// The name under which Nova's clients find the fault.
pub fn compute_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::BadRequest => "badRequest",
        FaultKind::Unauthorized => "unauthorized",
        FaultKind::Forbidden => "forbidden",
        FaultKind::NotFound => "itemNotFound",
        FaultKind::MethodNotAllowed => "badMethod",
        FaultKind::Conflict => "conflictingRequest",
        FaultKind::TooLarge | FaultKind::TooManyRequests => "overLimit",
        FaultKind::UnsupportedMediaType => "badMediaType",
        FaultKind::NotImplemented => "notImplemented",
        FaultKind::Unavailable => "serviceUnavailable",
        _ => "computeFault",
    }
}

/// Neutron's `type` for faults that were not named: the class of webob's exceptions.
fn network_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::BadRequest => "HTTPBadRequest",
        FaultKind::Unauthorized => "HTTPUnauthorized",
        FaultKind::Forbidden => "PolicyNotAuthorized",
        FaultKind::NotFound => "HTTPNotFound",
        FaultKind::MethodNotAllowed => "HTTPMethodNotAllowed",
        FaultKind::NotAcceptable => "HTTPNotAcceptable",
        FaultKind::Conflict => "HTTPConflict",
        FaultKind::Gone => "HTTPGone",
        FaultKind::LengthRequired => "HTTPLengthRequired",
        FaultKind::PreconditionFailed => "HTTPPreconditionFailed",
        FaultKind::TooLarge => "HTTPRequestEntityTooLarge",
        FaultKind::UnsupportedMediaType => "HTTPUnsupportedMediaType",
        FaultKind::RangeNotSatisfiable => "HTTPRequestRangeNotSatisfiable",
        FaultKind::TooManyRequests => "HTTPTooManyRequests",
        FaultKind::Internal => "HTTPInternalServerError",
        FaultKind::NotImplemented => "HTTPNotImplemented",
        FaultKind::Unavailable => "HTTPServiceUnavailable",
        FaultKind::Timeout => "HTTPGatewayTimeout",
    }
}

/// Whether the client takes JSON and not HTML; webob's choice between the two prefers HTML for
/// `*/*` and for a missing header.
pub fn accepts_json_only(headers: &HeaderMap) -> bool {
    let accept =
        headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let mut json = false;
    for range in accept.split(',') {
        match range.split(';').next().unwrap_or("").trim() {
            "text/html" | "text/*" | "*/*" => return false,
            "application/json" | "application/*" => json = true,
            _ => {}
        }
    }
    json
}

/// The body and its media type.
pub fn body(service: Service, fault: &Fault, context: &FaultContext) -> (&'static str, String) {
    const JSON: &str = "application/json";
    let kind = fault.kind;
    let code = kind.status();
    if kind == FaultKind::Unauthorized && service != Service::Image {
        return (JSON, keystone(fault).to_string());
    }
    let value = match service {
        Service::Identity => keystone(fault),
        Service::Compute => {
            let mut inner = json!({"code": code, "message": fault.message});
            if let (Some(seconds), true) = (fault.retry_after, matches!(code, 413 | 429)) {
                inner["retryAfter"] = Value::from(seconds.to_string());
            }
            let name = fault.name.as_deref().unwrap_or(compute_name(kind));
            json!({ name: inner })
        }
        Service::Network => json!({"NeutronError": {
            "type": fault.name.as_deref().unwrap_or(network_name(kind)),
            "message": fault.message,
            "detail": "",
        }}),
        Service::Image if context.json_only => json!({
            "code": format!("{code} {}", title(kind)),
            "title": title(kind),
            "message": fault.message,
        }),
        Service::Image => return ("text/html; charset=UTF-8", html(fault)),
        Service::Meridian => json!({"fault": {
            "code": code,
            "name": fault.name.clone().unwrap_or_else(|| title(kind).replace(' ', "")),
            "message": fault.message,
            "request_id": context.request_id,
            "retry_after": fault.retry_after,
        }}),
    };
    (JSON, value.to_string())
}

fn keystone(fault: &Fault) -> Value {
    json!({"error": {
        "code": fault.status(),
        "message": fault.message,
        "title": title(fault.kind),
    }})
}

fn html(fault: &Fault) -> String {
    let head = format!("{} {}", fault.status(), title(fault.kind));
    let message = fault
        .message
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    format!(
        "<html>\n <head>\n  <title>{head}</title>\n </head>\n <body>\n  <h1>{head}</h1>\n  \
         {message}<br /><br />\n\n\n </body>\n</html>"
    )
}

/// The whole answer: status, body and the headers that belong to the fault's class. Headers that
/// `original` had (`Allow`, for one) are kept.
pub fn render(
    service: Service,
    fault: &Fault,
    context: &FaultContext,
    original: &HeaderMap,
) -> Response {
    let (media_type, text) = body(service, fault, context);
    let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    for (name, value) in original {
        if name != CONTENT_TYPE && name != http::header::CONTENT_LENGTH {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if fault.kind == FaultKind::Unauthorized {
        let identity = Service::Identity.prefix();
        let challenge = format!("Keystone uri=\"{}{identity}/v3\"", context.base_url);
        if let Ok(value) = HeaderValue::from_str(&challenge) {
            headers.insert(WWW_AUTHENTICATE, value);
        }
    }
    if let Some(seconds) = fault.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(service: Service, fault: &Fault) -> Value {
        serde_json::from_str(&body(service, fault, &FaultContext::default()).1).unwrap()
    }

    #[test]
    fn each_service_has_its_own_shape() {
        let fault = Fault::not_found("Could not find user: joe.");
        assert_eq!(
            shown(Service::Identity, &fault),
            json!({"error": {"code": 404, "message": "Could not find user: joe.",
                             "title": "Not Found"}})
        );
        assert_eq!(
            shown(Service::Compute, &fault),
            json!({"itemNotFound": {"code": 404, "message": "Could not find user: joe."}})
        );
        assert_eq!(
            shown(Service::Network, &fault.clone().named("NetworkNotFound")),
            json!({"NeutronError": {"type": "NetworkNotFound",
                   "message": "Could not find user: joe.", "detail": ""}})
        );
        let own = shown(Service::Meridian, &fault);
        assert_eq!(own["fault"]["name"], "NotFound");
        let context = FaultContext { json_only: true, ..FaultContext::default() };
        let (media, text) = body(Service::Image, &fault, &context);
        assert_eq!(media, "application/json");
        let image: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(image["code"], "404 Not Found");
        assert_eq!(image["title"], "Not Found");
    }

    #[test]
    fn compute_names_follow_the_status() {
        let table = [
            (FaultKind::BadRequest, "badRequest"),
            (FaultKind::Forbidden, "forbidden"),
            (FaultKind::NotFound, "itemNotFound"),
            (FaultKind::MethodNotAllowed, "badMethod"),
            (FaultKind::NotAcceptable, "computeFault"),
            (FaultKind::Conflict, "conflictingRequest"),
            (FaultKind::TooLarge, "overLimit"),
            (FaultKind::UnsupportedMediaType, "badMediaType"),
            (FaultKind::TooManyRequests, "overLimit"),
            (FaultKind::Internal, "computeFault"),
            (FaultKind::NotImplemented, "notImplemented"),
            (FaultKind::Unavailable, "serviceUnavailable"),
        ];
        for (kind, name) in table {
            let shown = shown(Service::Compute, &Fault::new(kind, "m"));
            assert_eq!(shown[name]["code"], kind.status(), "{name}");
        }
        let over = Fault::new(FaultKind::TooManyRequests, "slow down").retry_after(7);
        assert_eq!(shown(Service::Compute, &over)["overLimit"]["retryAfter"], "7");
    }

    #[test]
    fn an_unauthorized_answer_says_where_to_go_and_is_keystones_but_for_images() {
        let context =
            FaultContext { base_url: "https://cloud:5000".into(), ..FaultContext::default() };
        for service in Service::ALL {
            let fault = Fault::unauthorized("who are you");
            let response = render(service, &fault, &context, &HeaderMap::new());
            assert_eq!(response.status(), 401);
            assert_eq!(
                response.headers()[WWW_AUTHENTICATE],
                "Keystone uri=\"https://cloud:5000/identity/v3\""
            );
            let context = FaultContext { json_only: true, ..context.clone() };
            let (_, text) = body(service, &fault, &context);
            let shown: Value = serde_json::from_str(&text).unwrap();
            let own = if service == Service::Image { &shown } else { &shown["error"] };
            assert_eq!(own["title"], "Unauthorized");
        }
    }

    #[test]
    fn html_is_escaped() {
        let text = html(&Fault::bad_request("<script>alert(\"x\")</script>"));
        assert!(text.contains("&lt;script&gt;alert(&quot;x&quot;)"), "{text}");
        assert!(text.starts_with("<html>\n <head>\n  <title>400 Bad Request</title>"));
    }

    #[test]
    fn json_is_chosen_only_when_html_is_not_accepted() {
        let choose = |accept: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(http::header::ACCEPT, accept.parse().unwrap());
            }
            accepts_json_only(&headers)
        };
        assert!(choose(Some("application/json")));
        assert!(!choose(Some("*/*")));
        assert!(!choose(None));
        assert!(!choose(Some("text/html, application/json")));
    }
}
