//! Waiting for a condition, never for luck.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long a condition may take before the test gives up. Far longer than it should: a slow
/// machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long between two looks at something that only polling can see from outside.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` says true.
///
/// # Panics
/// When the deadline passes; the message names `what`.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    until_some(what, || {
        let seen = look();
        async move { seen.await.then_some(()) }
    })
    .await;
}

/// Waits until `look` finds something, and returns it.
///
/// # Panics
/// When the deadline passes; the message names `what`.
pub async fn until_some<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
