//! `Idempotency-Key`: a mutating request that is sent again (a lost answer, a retrying client)
//! has its effect once and gets the same answer.
//!
//! A key is scoped to user, project, method and path. Its row:
//!
//! ```text
//!  (none) ──claim──► claimed, effect 0 ──Kit::transact──► claimed, effect 1
//!    ▲                  │      │                               │
//!    │   failed before  │      │ answer stored                 │ answer stored
//!    └──an effect (5xx)─┘      ▼                               ▼
//!    ▲                     answered ◄──────────────────────────┘
//!    └──────after its lifetime──┘
//! ```
//! * The claim commits before the handler runs. A second request with the key waits for the
//!   answer a while, then gets 409; with another body it gets 409 at once.
//! * [`crate::Kit::transact`] marks the effect in the transaction that makes it, and there checks
//!   that the claim is still this request's own. So a request that was thought dead (its claim
//!   older than [`CLAIM_LIFETIME`]) and replaced cannot take effect any more.
//! * The answer is stored after the handler; that of a request which creates, already in its
//!   transaction ([`Created`]).
//! * Stored answers are sealed with a key that only the caller has; `seal.rs` says why and how.
//! * A crash between the claim and the effect: the next request with the key takes the claim over
//!   and runs. A crash between the effect and the answer: the next request gets the answer if the
//!   first one created something; else 409, and is told which request took effect.

mod answer;
mod seal;
mod store;

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, Timestamp};
use database::{BoxFuture, Database, DatabaseError, Notification, Origin, Tx};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::context::Ctx;
use crate::fault::ApiFault;
use crate::token::Token;

pub(crate) use answer::Answering;
pub use answer::Created;
use seal::Seal;

/// The request's header.
pub const HEADER: &str = "idempotency-key";
/// Marks an answer that was stored earlier.
pub const REPLAYED: &str = "idempotent-replayed";
/// The channel that tells waiting requests that a key was answered or given up.
pub const CHANNEL: &str = "idempotency_keys";
/// A claim without an answer for this long belongs to a request that is dead: twice the time
/// limit of a request.
pub const CLAIM_LIFETIME: Duration = Duration::from_secs(120);
/// How long a second request waits for the first one's answer. Longer than nearly every request
/// takes, shorter than clients' patience.
const WAIT: Duration = Duration::from_secs(15);
/// Longest key.
const MAX_KEY: usize = 255;
/// Answers with longer bodies are not stored; a repeat is told so.
const MAX_ANSWER: usize = 1024 * 1024;

/// A claim on a key, held by the request that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub(crate) scope: String,
    pub(crate) owner: String,
    pub(crate) seal: Seal,
}

/// What a request with a key is to do.
pub(crate) enum Begin {
    /// Run, under this claim.
    Run(Claim),
    /// Give the stored answer.
    Replay(Response),
}

pub(super) enum Found {
    Claimed,
    Answered(Stored),
    OtherBody,
    InProgress,
    EffectWithoutAnswer { owner: String },
}

/// Reads the header.
///
/// # Errors
/// 400 when it is empty, too long or not printable ASCII.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if (1..=MAX_KEY).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(Fault::bad_request(format!(
            "Idempotency-Key must have 1 to {MAX_KEY} printable ASCII characters."
        ))),
    }
}

/// Claims the key, or finds the answer.
///
/// # Errors
/// 409 when the key was used for another body, is still being worked on, or took effect without
/// leaving an answer.
pub(crate) async fn begin(
    db: &Database,
    origin: &Origin,
    request: Request,
    lifetime: Duration,
    worker: &str,
) -> Result<Begin, Fault> {
    let mut news = db.subscribe(CHANNEL);
    let deadline = tokio::time::Instant::now() + WAIT;
    let Request { scope, hash: body_hash, seal } = request;
    let claim = Claim { scope, owner: origin.request_id.clone(), seal };
    loop {
        let (wanted, hash, worker) = (claim.clone(), body_hash.clone(), worker.to_owned());
        let found = db
            .transact(origin, move |tx| {
                let (wanted, hash, worker) = (wanted.clone(), hash.clone(), worker.clone());
                Box::pin(async move { store::claim(tx, &wanted, &hash, lifetime, &worker).await })
            })
            .await
            .map_err(|error: DatabaseError| Fault::from(error))?;
        match found {
            Found::Claimed => return Ok(Begin::Run(claim)),
            Found::Answered(stored) => return Ok(Begin::Replay(replay(stored))),
            Found::OtherBody => {
                return Err(Fault::conflict(
                    "This Idempotency-Key was used before, for a request with another body. Use \
                     a new key for a new request.",
                )
                .named("IdempotencyKeyReused"));
            }
            Found::EffectWithoutAnswer { owner } => {
                return Err(Fault::conflict(format!(
                    "The request {owner} with this Idempotency-Key took effect, but the answer \
                     was lost before it could be stored. Look at what it made; to do it again, \
                     use a new key."
                ))
                .named("IdempotencyAnswerLost"));
            }
            Found::InProgress => {}
        }
        loop {
            match tokio::time::timeout_at(deadline, news.recv()).await {
                Ok(Notification::Key(key)) if key != claim.scope && !key.is_empty() => {}
                Ok(_) => break,
                Err(_) => {
                    return Err(Fault::conflict(
                        "A request with this Idempotency-Key is still under way. Try again to \
                         get its answer.",
                    )
                    .named("IdempotencyKeyInUse")
                    .retry_after(2));
                }
            }
        }
    }
}

/// Stores the answer after the handler, or gives the key up when the request failed before it had
/// an effect. Answers the response to send.
pub(crate) async fn end(
    db: &Database,
    origin: &Origin,
    claim: &Claim,
    lifetime: Duration,
    response: Response,
) -> Response {
    let (parts, body) = response.into_parts();
    let bytes = match crate::body::read_body(body, MAX_ANSWER).await {
        Ok(bytes) => bytes,
        Err(_) => {
            // Too long to store, or a stream: the effect stays marked, so a repeat is refused
            // with a reason rather than done twice.
            return ApiFault(Fault::internal(
                "The answer is too long to be remembered for its Idempotency-Key.",
            ))
            .into_response();
        }
    };
    let stored = Stored::of(parts.status, &parts.headers, &bytes);
    let (claim, origin) = (claim.clone(), origin.clone());
    let result = db
        .transact(&origin, move |tx| {
            let (claim, stored) = (claim.clone(), stored.clone());
            Box::pin(async move { store::finish(tx, &claim, &stored, lifetime).await })
        })
        .await;
    if let Err(error) = result {
        let error: DatabaseError = error;
        // The effect is marked where it was made: a repeat is told so. The caller's answer is
        // true either way.
        tracing::warn!(%error, "the answer to a request with an idempotency key was not stored");
    }
    Response::from_parts(parts, axum::body::Body::from(bytes))
}

/// Stores the answer to what a transaction has made, in that transaction, so that not even a crash
/// between the two can lose it. For transactions that return more than what is shown;
/// [`crate::Kit::transact`] does it for the others. Nothing without a key, or when the handler
/// shows something else.
///
/// # Errors
/// The database's; [`DatabaseError::Stale`] when the claim was taken over.
pub fn remember<'c, T: 'static>(
    tx: &'c mut Tx,
    ctx: &'c Ctx,
    made: &T,
) -> BoxFuture<'c, Result<(), DatabaseError>> {
    let answer = match (&ctx.claim, &ctx.answering) {
        (Some(claim), Some(answering)) => answering.stored(made).map(|stored| (claim, stored)),
        _ => None,
    };
    Box::pin(async move {
        match answer {
            Some((claim, stored)) => store::remember(tx, claim, &stored).await,
            None => Ok(()),
        }
    })
}

/// Checks that the claim is still held and marks that the request has an effect.
pub(crate) async fn mark_effect(tx: &mut Tx, claim: &Claim) -> Result<(), DatabaseError> {
    store::mark_effect(tx, claim).await
}

/// Forgets keys whose lifetime is over; for a background worker. Answers how many.
///
/// # Errors
/// The database's.
pub async fn expire(tx: &mut Tx) -> Result<u64, DatabaseError> {
    store::expire(tx).await
}

/// Gives up the claims of requests that had no effect when their process died, so that a repeat
/// need not wait until they are stale. Only for a start on a database that no other process uses.
/// Answers how many.
///
/// # Errors
/// The database's.
pub async fn succeed_all(tx: &mut Tx) -> Result<u64, DatabaseError> {
    store::succeed_all(tx).await
}

/// Gives up the claims of a process that is known, or taken, to be dead, as
/// [`crate::KitConfig::worker`] named it. A request of it that lives after all can have no effect
/// any more: its claim is checked. Answers how many.
///
/// # Errors
/// The database's.
pub async fn succeed(tx: &mut Tx, worker: &str) -> Result<u64, DatabaseError> {
    let freed = store::succeed(tx, worker).await?;
    if freed > 0 {
        // No key: whoever waits for one looks again.
        tx.notify(CHANNEL, "");
    }
    Ok(freed)
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Stored {
    fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Stored {
        let kept: Vec<(&str, &str)> = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        Stored {
            status: status.as_u16(),
            headers: serde_json::to_string(&kept).unwrap_or_default(),
            body: body.to_vec(),
        }
    }

    /// Whether the failure is one that another attempt may not meet, so that, without an effect,
    /// it is better forgotten than repeated for a day.
    pub(super) fn is_transient(&self) -> bool {
        self.status >= 500 || matches!(self.status, 401 | 403 | 408 | 429)
    }
}

fn replay(Stored { status, headers, body }: Stored) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, body).into_response();
    let pairs: Vec<(String, String)> = serde_json::from_str(&headers).unwrap_or_default();
    for (name, value) in pairs {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// A request with a key, as far as it is known by it: hashes, so that the row is no secret's copy.
pub(crate) struct Request {
    /// Whose key it is, and for which call.
    scope: String,
    /// What must be the same in a repeat: query and body. The key is in it too: a body with a
    /// password in it must not be found by trying passwords.
    hash: String,
    seal: Seal,
}

impl Request {
    pub fn new(
        token: &Token,
        method: &Method,
        path: &str,
        query: Option<&str>,
        key: &str,
        body: &[u8],
    ) -> Request {
        let project = token.project.as_ref().map_or("", |project| project.id.as_str());
        let scope = [
            token.user_id.as_str().as_bytes(),
            project.as_bytes(),
            method.as_str().as_bytes(),
            path.as_bytes(),
            key.as_bytes(),
        ];
        let content = [query.unwrap_or("").as_bytes(), body];
        Request {
            scope: hex(&digest("scope", &scope)),
            hash: hex(&digest("request", &[&[key.as_bytes()][..], &content].concat())),
            seal: Seal::new(digest("seal", &[&scope[..], &content].concat())),
        }
    }
}

/// A hash for one purpose: of the same parts, that for another purpose says nothing about it.
fn digest(purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [purpose.as_bytes()].iter().chain(parts) {
        // The length before each part keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a claim made at `claimed_at` belongs to a request that must be dead.
pub(super) fn is_stale(claimed_at: Timestamp, now: Timestamp) -> bool {
    now.since(claimed_at) > CLAIM_LIFETIME
}
