//! Repeats a request from a number of clients at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::table::Samples;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// After so long…
    pub time: Duration,
    /// …or after so many requests, whatever comes first.
    pub requests: usize,
}

/// What it came to.
pub struct Load {
    /// Those that were answered as they should be.
    pub answered: Samples,
    /// The others.
    pub failed: usize,
    /// In how long.
    pub elapsed: Duration,
}

/// Repeats `request` from `clients` clients. Each is a connection of its own to the server where
/// `prepare` makes one.
///
/// # Errors
/// When a client cannot be prepared.
pub async fn repeat<C, P, R, F, G>(
    clients: usize,
    limit: Limit,
    prepare: P,
    request: R,
) -> Result<Load>
where
    C: Send + Sync + 'static,
    P: Fn() -> G,
    G: Future<Output = Result<C>>,
    R: Fn(Arc<C>) -> F + Copy + Send + 'static,
    F: Future<Output = Result<()>> + Send,
{
    let mut prepared = Vec::with_capacity(clients);
    for _ in 0..clients {
        let client = Arc::new(prepare().await?);
        // The first request also connects, and is another matter.
        request(client.clone()).await?;
        prepared.push(client);
    }
    let begun = Instant::now();
    let sent = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = prepared
        .into_iter()
        .map(|client| {
            let sent = sent.clone();
            tokio::spawn(async move {
                let (mut times, mut failed) = (Vec::new(), 0);
                while begun.elapsed() < limit.time
                    && sent.fetch_add(1, Ordering::Relaxed) < limit.requests
                {
                    let at = Instant::now();
                    match request(client.clone()).await {
                        Ok(()) => times.push(at.elapsed()),
                        Err(error) => {
                            if failed == 0 {
                                eprintln!("first failure: {error:#}");
                            }
                            failed += 1;
                        }
                    }
                }
                (times, failed)
            })
        })
        .collect();
    let (mut times, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (some, bad) = task.await.context("a client panicked")?;
        times.extend(some);
        failed += bad;
    }
    Ok(Load { answered: Samples::new(times), failed, elapsed: begun.elapsed() })
}
