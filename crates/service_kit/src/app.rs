//! All services on one port: the outermost layer. It gives every request its id and span, finds
//! the service by the path, turns faults into the body that the service's clients expect, adds
//! the headers of the answer, counts, and writes the request line of the log. It never logs a
//! header, a query string or a body.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, FaultKind};
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, HOST, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tower::{Service as TowerService, ServiceExt};
use tracing::Instrument;

use crate::Service;
use crate::fault::{self, FaultContext};
use crate::guard::{Answered, Arrived, Guard};
use crate::kit::Kit;
use crate::microversion::{self, Microversion};
use crate::policy::PolicyError;
use crate::rate::RateLimiter;
use crate::request_id;
use crate::routes::{BodyLimit, RouteInfo, Routes};
use crate::unread;

/// The peer of a connection, put into each request by [`crate::serve`].
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end of the TCP connection.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// Why the services cannot be put together; found at start-up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// Two handlers for one method and path.
    #[error("{0} {1} is routed twice")]
    Twice(Method, String),
    /// A route names a rule that no service declares.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// All services, as one tower service. Cheap to clone.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
    router: Router,
}

struct Inner {
    kit: Kit,
    table: Vec<RouteInfo>,
    ready: AtomicBool,
    in_flight: tokio::sync::Semaphore,
    /// Refusals that may be held back at once; they are under way no more.
    held: tokio::sync::Semaphore,
}

impl App {
    /// Puts the services together.
    ///
    /// # Errors
    /// When a route exists twice, or names a rule that the policy does not have.
    pub fn new(kit: Kit, services: Vec<Routes>) -> Result<App, AppError> {
        let limiter = Arc::new(RateLimiter::new(kit.config.rate));
        let mut table = Vec::new();
        let mut seen = HashSet::new();
        let mut router: Router = Router::new();
        for routes in services {
            for (info, handler) in routes.entries {
                if !seen.insert((info.method.clone(), info.path.clone())) {
                    return Err(AppError::Twice(info.method, info.path));
                }
                let missing = info.access.rules().iter().find(|rule| !kit.policy.contains(rule));
                if let Some(rule) = missing {
                    return Err(AppError::Policy(PolicyError::Dangling {
                        rule: (*rule).to_owned(),
                        by: format!("the route {} {}", info.method, info.path),
                    }));
                }
                let guard = Arc::new(Guard {
                    kit: kit.clone(),
                    route: Arc::new(info.clone()),
                    limiter: limiter.clone(),
                });
                let limit = match info.options.body {
                    BodyLimit::Bytes(bytes) => DefaultBodyLimit::max(bytes),
                    BodyLimit::Unlimited => DefaultBodyLimit::disable(),
                };
                let handler =
                    handler.route_layer(limit).route_layer(from_fn(move |request, next| {
                        crate::guard::guard(guard.clone(), request, next)
                    }));
                router = router.route(&info.path, handler);
                table.push(info);
            }
        }
        Ok(App {
            inner: Arc::new(Inner {
                in_flight: tokio::sync::Semaphore::new(kit.config.max_in_flight),
                held: tokio::sync::Semaphore::new(kit.config.max_in_flight),
                kit,
                table,
                ready: AtomicBool::new(true),
            }),
            router,
        })
    }

    /// Adds pages that are no OpenStack service (a console, a listener for hosts): they bring
    /// their own authentication and bodies, and get request ids, metrics and limits from here.
    #[must_use]
    pub fn merge_plain(mut self, router: Router) -> App {
        self.router = self.router.merge(router);
        self
    }

    /// Every route with who may call it.
    pub fn table(&self) -> &[RouteInfo] {
        &self.inner.table
    }

    /// The kit that the services share.
    pub fn kit(&self) -> &Kit {
        &self.inner.kit
    }

    /// Whether `/healthz` answers 200; false while the process starts or shuts down, so that a
    /// balancer sends requests elsewhere.
    pub fn set_ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Release);
    }

    async fn handle(self, mut request: Request) -> Response {
        let started = Instant::now();
        let kit = &self.inner.kit;
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let service = Service::of_path(&path);
        let peer = request.extensions().get::<Peer>().copied();
        let arrived = Arrived {
            request_id: request_id::fresh(),
            global_request_id: request_id::global(request.headers()),
            base_url: base_url(kit, request.headers(), request.uri(), peer),
            source_ip: source_ip(kit, request.headers(), peer),
        };
        let _counted = kit.metrics.begin();
        let context = FaultContext {
            request_id: arrived.request_id.clone(),
            base_url: arrived.base_url.clone(),
            json_only: fault::accepts_json_only(request.headers()),
        };
        let span = tracing::info_span!("request", id = %arrived.request_id);
        let response = match path.as_str() {
            "/healthz" => self.health(),
            "/metrics" => self.metrics(arrived.source_ip),
            _ => match self.inner.in_flight.try_acquire() {
                Err(_) => fault::ApiFault(
                    Fault::unavailable("Too many requests are under way. Try again.")
                        .retry_after(1),
                )
                .into_response(),
                Ok(_permit) => {
                    request.extensions_mut().insert(arrived.clone());
                    let (whole, rest) = unread::watched(request);
                    request = whole;
                    without_trailing_slash(&mut request);
                    let routed = self.router.clone().oneshot(request);
                    let Ok(response) = routed.instrument(span.clone()).await;
                    rest.read().await;
                    response
                }
            },
        };
        let answered = response.extensions().get::<Answered>().cloned();
        let mut response = as_fault(service, response, &context).await;
        finish_headers(service, &arrived.request_id, answered.as_ref(), &mut response);

        let status = response.status().as_u16();
        let took = started.elapsed();
        let route = answered.as_ref().map_or("unmatched", |answered| &answered.route.path);
        let name = service.map_or("none", Service::catalog_type);
        kit.metrics.answered(name, &method, route, status, took);
        let token = answered.as_ref().and_then(|answered| answered.token.as_ref());
        let entered = span.enter();
        tracing::info!(
            target: "access",
            %method,
            path = %shown_path(&path),
            status,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            user = token.map(|token| token.user_id.as_str()),
            project = token.and_then(|token| token.project.as_ref()).map(|p| p.id.as_str()),
            peer = arrived.source_ip.map(|ip| ip.to_string()),
            global_id = arrived.global_request_id.as_deref(),
            "answered"
        );
        drop(entered);
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            self.hold_back().await;
        }
        response
    }

    /// Lets a client that asks too fast wait for its refusal. Beyond a number of them the answer
    /// goes out at once, so that none of them costs more than a timer.
    async fn hold_back(&self) {
        if let Ok(_held) = self.inner.held.try_acquire() {
            tokio::time::sleep(self.inner.kit.config.hold_refusals).await;
        }
    }

    fn health(&self) -> Response {
        if self.inner.ready.load(Ordering::Acquire) {
            (StatusCode::OK, "ok\n").into_response()
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
    }

    fn metrics(&self, source: Option<IpAddr>) -> Response {
        let local = source.is_none_or(|ip| ip.is_loopback());
        if !local && !self.inner.kit.config.metrics_open {
            return fault::ApiFault(Fault::forbidden(
                "Metrics are shown to this machine only; metrics_open in the configuration opens \
                 them.",
            ))
            .into_response();
        }
        let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(CONTENT_TYPE, media)], self.inner.kit.metrics.text()).into_response()
    }
}

impl TowerService<http::Request<Body>> for App {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let app = self.clone();
        Box::pin(async move { Ok(app.handle(request).await) })
    }
}

/// Renders a fault, and gives a body to refusals that were made below us (an unknown path, a
/// method that the path does not have, a body that does not fit).
async fn as_fault(
    service: Option<Service>,
    mut response: Response,
    context: &FaultContext,
) -> Response {
    let style = service.unwrap_or(Service::Meridian);
    if let Some(found) = response.extensions_mut().remove::<Fault>() {
        return fault::render(style, &found, context, response.headers());
    }
    let status = response.status();
    // What has a body of a type of its own was meant as it is: a page of the console, say.
    let bare = !response.headers().contains_key(CONTENT_TYPE) || is_plain_text(response.headers());
    if !(status.is_client_error() || status.is_server_error()) || !bare {
        return response;
    }
    let (parts, body) = response.into_parts();
    let kind = fault::kind_of_status(status);
    let said = match kind {
        FaultKind::NotFound => "The resource could not be found.".to_owned(),
        FaultKind::MethodNotAllowed => "The method is not allowed for this resource.".to_owned(),
        _ => {
            let bytes = crate::body::read_body(body, 4096).await.unwrap_or_default();
            match String::from_utf8(bytes.to_vec()) {
                Ok(text) if !text.is_empty() => text,
                _ => fault::title(kind).to_owned(),
            }
        }
    };
    fault::render(style, &Fault::new(kind, said), context, &parts.headers)
}

fn is_plain_text(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/plain"))
}

fn finish_headers(
    service: Option<Service>,
    request_id: &str,
    answered: Option<&Answered>,
    response: &mut Response,
) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(request_id) {
        if let Some(name) = service.and_then(Service::legacy_request_id_header) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
        headers.insert(HeaderName::from_static(request_id::HEADER), value);
    }
    if let Some(range) = service.and_then(Service::microversions) {
        let spoken = answered
            .map(|answered| answered.microversion)
            .filter(|version| *version != Microversion::NONE)
            .unwrap_or(range.min);
        if let Ok(value) = HeaderValue::from_str(&format!("{} {spoken}", range.service_type)) {
            headers.insert(HeaderName::from_static(microversion::HEADER), value);
        }
        headers.append(VARY, HeaderValue::from_static("OpenStack-API-Version"));
        if let Some(name) = range.legacy_header {
            if let Ok(value) = HeaderValue::from_str(&spoken.to_string()) {
                headers.insert(HeaderName::from_static(name), value);
            }
            headers.append(VARY, HeaderValue::from_static("X-OpenStack-Nova-API-Version"));
        }
    }
    if service == Some(Service::Identity) {
        headers.append(VARY, HeaderValue::from_static("X-Auth-Token"));
    }
}

/// `/servers/` is `/servers`. Glance knows no such paths below its version, and there an id that a
/// client left empty must not become a list.
fn without_trailing_slash(request: &mut Request) {
    let path = request.uri().path();
    if path.len() < 2 || !path.ends_with('/') {
        return;
    }
    if path.strip_prefix("/image/v2/").is_some_and(|rest| !rest.is_empty()) {
        return;
    }
    let short = path.trim_end_matches('/');
    let short = if short.is_empty() { "/" } else { short };
    let whole = match request.uri().query() {
        Some(query) => format!("{short}?{query}"),
        None => short.to_owned(),
    };
    let mut parts = request.uri().clone().into_parts();
    if let Ok(path_and_query) = whole.parse() {
        parts.path_and_query = Some(path_and_query);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

fn base_url(kit: &Kit, headers: &HeaderMap, uri: &Uri, peer: Option<Peer>) -> String {
    if let Some(url) = &kit.config.public_url {
        return url.trim_end_matches('/').to_owned();
    }
    let forwarded = headers
        .get("x-forwarded-proto")
        .and_then(|value| value.to_str().ok())
        .filter(|_| kit.config.trust_forwarded);
    let scheme = match forwarded {
        Some("https") => "https",
        Some("http") => "http",
        _ if peer.is_some_and(|peer| peer.tls) => "https",
        _ => "http",
    };
    // HTTP/2 has the host in the URI, HTTP/1 in a header. It is repeated in links and in
    // WWW-Authenticate, so only what can be a host and port is taken.
    let host = uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| headers.get(HOST)?.to_str().ok())
        .filter(|host| {
            !host.is_empty()
                && host.len() <= 255
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b))
        })
        .unwrap_or("localhost");
    format!("{scheme}://{host}")
}

fn source_ip(kit: &Kit, headers: &HeaderMap, peer: Option<Peer>) -> Option<IpAddr> {
    let forwarded = headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok())
        .filter(|_| kit.config.trust_forwarded)
        // The last entry is the one that our own proxy wrote.
        .and_then(|list| list.rsplit(',').next()?.trim().parse().ok());
    forwarded.or(peer.map(|peer| peer.address.ip()))
}

/// Paths are logged, but never endlessly, and without control characters.
fn shown_path(path: &str) -> String {
    path.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests;
