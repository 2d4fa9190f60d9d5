//! What every route does before its handler: who asks, may they ever, in which dialect, within
//! which limits; and after it: the answer of an idempotency key. No route is reachable without it.
//!
//! ```text
//! token ──► rate ──► access rules ──► policy (could this ever be allowed?) ──► microversion
//!   ──► body length ──► idempotency key ──► handler, under its time limit
//!   ──► answer stored for the key
//! ```
//! Handlers of mutating methods run in a task of their own: a client that hangs up half way does
//! not cut a change in two.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, FaultKind};
use futures::{FutureExt, StreamExt};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use tracing::Instrument;

use crate::context::Ctx;
use crate::fault::ApiFault;
use crate::idempotency::{self, Begin};
use crate::kit::Kit;
use crate::microversion::Microversion;
use crate::rate::RateLimiter;
use crate::routes::{Access, BodyLimit, RouteInfo};
use crate::token::Token;
use crate::{body, policy, request_id};

/// The header with the token.
pub const TOKEN_HEADER: &str = "x-auth-token";
/// A stream that sends nothing for this long is cut: it holds memory and a connection.
const STREAM_IDLE: Duration = Duration::from_secs(60);

/// What the outermost layer knows about the request, before its route is known.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub request_id: String,
    pub global_request_id: Option<String>,
    pub base_url: String,
    pub source_ip: Option<std::net::IpAddr>,
}

/// Tells the outermost layer which route answered, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub route: Arc<RouteInfo>,
    pub token: Option<Arc<Token>>,
    pub microversion: Microversion,
}

/// What the guard of one route holds.
pub(crate) struct Guard {
    pub kit: Kit,
    pub route: Arc<RouteInfo>,
    pub limiter: Arc<RateLimiter>,
}

/// The whole way of a request through its route.
pub(crate) async fn guard(guard: Arc<Guard>, request: Request, next: Next) -> Response {
    let mut seen =
        Answered { route: guard.route.clone(), token: None, microversion: Microversion::NONE };
    let mut response = match admit(&guard, request, &mut seen).await {
        Ok(Admitted::Run(admitted)) => {
            let (request, ctx) = *admitted;
            run(&guard, request, ctx, next).await
        }
        Ok(Admitted::Answer(response)) => response,
        Err(fault) => ApiFault(fault).into_response(),
    };
    response.extensions_mut().insert(seen);
    response
}

enum Admitted {
    Run(Box<(Request, Ctx)>),
    Answer(Response),
}

async fn admit(
    guard: &Guard,
    mut request: Request,
    seen: &mut Answered,
) -> Result<Admitted, Fault> {
    let kit = &guard.kit;
    let route = &guard.route;
    let arrived = request
        .extensions()
        .get::<Arrived>()
        .cloned()
        .ok_or_else(|| Fault::internal("The request could not be processed."))?;
    let now = kit.clock.now();
    let token = token_of(kit, request.headers(), route.access, now)?;
    seen.token.clone_from(&token);
    if let Some(token) = &token {
        let caller =
            token.project.as_ref().map_or(token.user_id.as_str(), |project| project.id.as_str());
        guard.limiter.take(caller, now)?;
        if route.access != Access::Public {
            let (method, path) = (request.method().as_str(), request.uri().path());
            token.delegation.admits(route.service, method, path)?;
        }
        if is_mutating(request.method()) && route.access != Access::Public {
            kit.verifier.may_write()?;
        }
    }
    let microversion = match route.service.microversions() {
        Some(range) => range.negotiate(request.headers()),
        None => Ok(Microversion::NONE),
    };
    // A refusal is told in the client's dialect, too; whether there is one comes after the policy.
    if let Ok(microversion) = &microversion {
        seen.microversion = *microversion;
    }
    if let (Some(first), Some(token)) = (route.access.asked_first().first(), &token)
        && !route.access.asked_first().iter().any(|rule| kit.policy.could_allow(rule, token))
    {
        return Err(policy::denied(route.service, first));
    }
    let microversion = microversion?;
    check_length(request.headers(), route.options.body)?;

    let mut ctx = Ctx {
        request_id: arrived.request_id,
        global_request_id: arrived.global_request_id,
        service: route.service,
        token,
        microversion,
        base_url: arrived.base_url,
        source_ip: arrived.source_ip,
        idempotency_key: idempotency::key(request.headers())?,
        claim: None,
        answering: None,
        policy: kit.policy.clone(),
    };
    if is_mutating(request.method())
        && let (Some(key), Some(token)) = (&ctx.idempotency_key, &ctx.token)
    {
        let BodyLimit::Bytes(limit) = route.options.body else {
            return Err(Fault::bad_request(
                "An upload takes no Idempotency-Key: sending the same bytes again replaces \
                 nothing twice. Leave the header out.",
            ));
        };
        let (parts, stream) = request.into_parts();
        let bytes = body::read_body(stream, limit).await?;
        let uri = &parts.uri;
        let asked =
            idempotency::Request::new(token, &parts.method, uri.path(), uri.query(), key, &bytes);
        let lifetime = kit.config.idempotency_lifetime;
        let worker = &kit.config.worker;
        match idempotency::begin(&kit.db, &ctx.origin(), asked, lifetime, worker).await? {
            Begin::Run(claim) => ctx.claim = Some(Arc::new(claim)),
            Begin::Replay(response) => return Ok(Admitted::Answer(response)),
        }
        request = Request::from_parts(parts, Body::from(bytes));
    }
    request.extensions_mut().insert(route.options.body);
    request.extensions_mut().insert(ctx.clone());
    if route.options.body == BodyLimit::Unlimited {
        request = request.map(cut_when_idle);
    }
    Ok(Admitted::Run(Box::new((request, ctx))))
}

/// The verified token. On a public route a bad token counts as none: a client with an expired
/// token must be able to ask for a new one.
fn token_of(
    kit: &Kit,
    headers: &HeaderMap,
    access: Access,
    now: cloud_types::Timestamp,
) -> Result<Option<Arc<Token>>, Fault> {
    let text = headers.get(TOKEN_HEADER).map(|value| value.to_str().unwrap_or(""));
    match (access, text) {
        (Access::Public, None) => Ok(None),
        (Access::Public, Some(text)) => Ok(kit.verifier.verify(text, now).ok()),
        (_, Some(text)) => kit.verifier.verify(text, now).map(Some),
        (_, None) => Err(Fault::unauthorized("The request you have made requires authentication.")),
    }
}

fn check_length(headers: &HeaderMap, limit: BodyLimit) -> Result<(), Fault> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    match (limit, length) {
        (BodyLimit::Bytes(limit), Some(length)) if length > limit as u64 => {
            Err(body::too_large(limit))
        }
        _ => Ok(()),
    }
}

fn is_mutating(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

async fn run(guard: &Guard, request: Request, ctx: Ctx, next: Next) -> Response {
    let mutating = is_mutating(request.method());
    let limit = guard.route.options.time_limit;
    if !mutating {
        let handler = request_id::scope(ctx.request_id, next.run(request));
        let caught = AssertUnwindSafe(handler).catch_unwind();
        return match within(limit, caught).await {
            Some(Ok(response)) => response,
            Some(Err(_)) => panicked(),
            None => timed_out(false),
        };
    }
    let kit = guard.kit.clone();
    let work = async move {
        let request_id = ctx.request_id.clone();
        request_id::scope(request_id, async move {
            let response = next.run(request).await;
            match &ctx.claim {
                Some(claim) => {
                    let response = as_rendered(response, &ctx);
                    let lifetime = kit.config.idempotency_lifetime;
                    idempotency::end(&kit.db, &ctx.origin(), claim, lifetime, response).await
                }
                None => response,
            }
        })
        .await
    };
    let task = tokio::spawn(work.instrument(tracing::Span::current()));
    let abort = task.abort_handle();
    match within(limit, task).await {
        Some(Ok(response)) => response,
        Some(Err(_)) => panicked(),
        None => {
            abort.abort();
            timed_out(true)
        }
    }
}

/// A fault is stored for its key in the form in which it is sent. Images are asked for with keys
/// by our own clients only, which take JSON.
fn as_rendered(mut response: Response, ctx: &Ctx) -> Response {
    match response.extensions_mut().remove::<Fault>() {
        None => response,
        Some(fault) => {
            let context = crate::fault::FaultContext {
                request_id: ctx.request_id.clone(),
                base_url: ctx.base_url.clone(),
                json_only: true,
            };
            crate::fault::render(ctx.service, &fault, &context, response.headers())
        }
    }
}

async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

fn panicked() -> Response {
    // The panic hook has logged where; the request's span says for whom.
    tracing::error!("a handler panicked");
    ApiFault(Fault::internal(
        "The request failed inside the cloud. The operator's log says why, under this request id.",
    ))
    .into_response()
}

fn timed_out(mutating: bool) -> Response {
    let advice = if mutating {
        "It may still take effect: look before you send it again, or send an Idempotency-Key."
    } else {
        "Try again, or ask for less."
    };
    ApiFault(Fault::new(
        FaultKind::Timeout,
        format!("The request took longer than its time limit. {advice}"),
    ))
    .into_response()
}

fn cut_when_idle(body: Body) -> Body {
    let frames = futures::stream::unfold(Some(body.into_data_stream()), |stream| async {
        let mut stream = stream?;
        match tokio::time::timeout(STREAM_IDLE, stream.next()).await {
            Ok(None) => None,
            Ok(Some(frame)) => Some((frame, Some(stream))),
            Err(_) => {
                let late = std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    "the client sent nothing for a minute",
                );
                Some((Err(axum::Error::new(late)), None))
            }
        }
    });
    Body::from_stream(frames)
}
