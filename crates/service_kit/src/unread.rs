//! What a client still sends when its answer is ready. A server that answers early and hangs up
//! tears the answer down with the connection: many clients then report a broken pipe instead of the
//! 413 or 403 that they were told. So the rest is read, up to a limit, before the answer goes out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

/// Bytes that are read in vain; whoever sends more loses the connection.
const MOST_BYTES: usize = 8 << 20;
/// How long a client may take for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body of which somebody else still has the rest when its reader drops it.
struct Watched(Arc<Mutex<Body>>);

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// What is left of a request's body.
pub(crate) struct Rest(Option<Arc<Mutex<Body>>>);

/// The request with a body that is watched; one without a body as it is.
pub(crate) fn watched(request: Request) -> (Request, Rest) {
    if http_body::Body::is_end_stream(request.body()) {
        return (request, Rest(None));
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let request = Request::from_parts(parts, Body::new(Watched(body.clone())));
    (request, Rest(Some(body)))
}

impl Rest {
    /// Reads what was not read, within limits.
    pub async fn read(self) {
        let Some(body) = self.0 else { return };
        let rest = async {
            let mut left = MOST_BYTES;
            let mut body = Watched(body);
            while let Some(Ok(frame)) = body.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(fewer) => left = fewer,
                    None => return,
                }
            }
        };
        // Whether it was all or not, the answer is the same.
        let _ = tokio::time::timeout(PATIENCE, rest).await;
    }
}
