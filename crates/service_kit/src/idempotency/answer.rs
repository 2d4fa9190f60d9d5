//! The answer to a creating request, made and stored in the transaction that creates.
//!
//! What is made and how it is shown are known in two places: the service's transaction and the
//! handler. The handler therefore hands its rendering down in the request's context, and
//! [`crate::Kit::transact`] applies it to what the closure returns, inside the transaction. The
//! service knows nothing of it, and no crash can come between the effect and its answer.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::Stored;
use crate::context::Ctx;
use crate::fault::ApiResult;

/// What a creating request is answered with: plain data, so that it can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    status: StatusCode,
    location: Option<String>,
    body: Value,
}

impl Created {
    /// 201 with this body.
    pub fn new(body: Value) -> Created {
        Created::with_status(StatusCode::CREATED, body)
    }

    /// Another status.
    pub fn with_status(status: StatusCode, body: Value) -> Created {
        Created { status, location: None, body }
    }

    /// With the address of what was made.
    #[must_use]
    pub fn at(mut self, location: String) -> Created {
        self.location = Some(location);
        self
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(Ok(location)) = self.location.as_deref().map(HeaderValue::from_str) {
            headers.insert(LOCATION, location);
        }
        headers
    }

    fn stored(&self) -> Stored {
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        Stored::of(self.status, &self.headers(), &body)
    }
}

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        (self.status, self.headers(), self.body.to_string()).into_response()
    }
}

type Render = dyn Fn(&dyn Any) -> Option<Created> + Send + Sync;

/// How the handler will show what the service makes; in the context of the request.
#[derive(Clone)]
pub(crate) struct Answering {
    render: Arc<Render>,
    used: Arc<AtomicBool>,
}

impl Answering {
    /// The answer for what a transaction returned; `None` when that is not what the handler shows.
    pub(super) fn stored(&self, made: &dyn Any) -> Option<Stored> {
        let stored = (self.render)(made)?.stored();
        self.used.store(true, Ordering::Relaxed);
        Some(stored)
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}

impl Ctx {
    /// This context, in which a transaction of [`crate::Kit::transact`] that returns a `T` stores
    /// the answer that `render` makes of it.
    #[must_use]
    pub fn answering<T: 'static>(
        mut self,
        render: impl Fn(&T) -> Created + Send + Sync + 'static,
    ) -> Ctx {
        self.answering = Some(Answering {
            render: Arc::new(move |made| made.downcast_ref::<T>().map(&render)),
            used: Arc::default(),
        });
        self
    }

    /// Lets `work` create a `T` and answers with what `render` makes of it; for a request with an
    /// `Idempotency-Key` the same answer is stored by the transaction that creates.
    ///
    /// ```text
    /// let show = |made: &Thing| Created::new(json!({"thing": view(made)}));
    /// ctx.creating(show, async |ctx| things.create(&ctx, wish).await).await
    /// ```
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn creating<T, R, W, F>(self, render: R, work: W) -> ApiResult<Created>
    where
        T: 'static,
        R: Fn(&T) -> Created + Clone + Send + Sync + 'static,
        W: FnOnce(Ctx) -> F,
        F: Future<Output = Result<T, Fault>>,
    {
        let ctx = self.answering(render.clone());
        let (answering, claimed) = (ctx.answering.clone(), ctx.claim.is_some());
        let made = work(ctx).await?;
        if let Some(answering) = answering.filter(|_| claimed)
            && !answering.used.load(Ordering::Relaxed)
        {
            // A mistake in the service: its transaction returns something else than it does.
            debug_assert!(false, "an answer was not stored with its effect");
            tracing::error!("an answer was not stored with its effect");
        }
        Ok(render(&made))
    }
}
