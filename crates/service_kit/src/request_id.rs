//! Request ids: made here for every request, carried by a task-local and by the span of the log,
//! written into the journal by [`crate::Ctx::origin`], and sent to the host with the work.

use std::future::Future;

use http::HeaderMap;
use uuid::Uuid;

/// The header of the answer, and the caller's own id in the request.
pub const HEADER: &str = "x-openstack-request-id";

tokio::task_local! {
    static CURRENT: String;
}

/// A new id: `req-` and a random UUID.
pub fn fresh() -> String {
    format!("req-{}", Uuid::new_v4())
}

/// The id of the request that the current task works for.
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `future` under a request id.
pub async fn scope<F: Future>(request_id: String, future: F) -> F::Output {
    CURRENT.scope(request_id, future).await
}

/// The caller's own id, kept only when it has our form: it goes into logs.
pub(crate) fn global(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let uuid = Uuid::parse_str(text.strip_prefix("req-")?).ok()?;
    Some(format!("req-{uuid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_id_is_known_inside_its_scope_only() {
        assert_eq!(current(), None);
        let id = fresh();
        assert_eq!(scope(id.clone(), async { current() }).await, Some(id));
    }

    #[test]
    fn an_outside_id_must_have_our_form() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, text.parse().unwrap());
            global(&headers)
        };
        let id = "req-0d4c5f7e-8b64-4d0c-9d5e-2d5d3c1a7b11";
        assert_eq!(with(id), Some(id.to_owned()));
        assert_eq!(with("req-x"), None);
        assert_eq!(with("0d4c5f7e-8b64-4d0c-9d5e-2d5d3c1a7b11"), None);
    }
}
