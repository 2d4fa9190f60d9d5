//! Reads documents. Each batch is in the store, synced, before the agent hears of it; a batch is
//! whatever has arrived meanwhile, so that a snapshot of thousands costs few syncs and a single
//! document does not wait for company.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use host_protocol::{Document, Frame, HostAnswer, HostQuery, Position, StreamTerms};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Backoff, ControlPlane, Gateways, LinkError};
use crate::BoxFuture;
use crate::store::{DocumentStore, StoreError, Verdict, Welcomed};

/// The most documents in one transaction of the store.
const MAX_BATCH: usize = 500;
/// Queries that are answered at the same time; more wait.
const MAX_QUERIES: usize = 8;

/// Who acts on what arrives.
pub trait Listener: Send + Sync + 'static {
    /// Documents that are new have been stored.
    fn documents(&self, documents: Vec<Document>);
    /// The region's database was restored: documents are unknown until they arrive again.
    fn new_lineage(&self);
    /// These documents were named again after a change of lineage.
    fn known_again(&self, documents: Vec<Document>);
    /// The connection is up (true) or lost.
    fn connected(&self, up: bool);
    /// Answers a query.
    fn answer(&self, query: HostQuery) -> BoxFuture<'_, HostAnswer>;
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nothing was heard for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the control plane closed the stream")]
    Closed,
    #[error("another gateway is this host's own")]
    Turned,
}

/// Follows the control plane until `shutdown`.
pub async fn follow(
    control_plane: Arc<dyn ControlPlane>,
    store: DocumentStore,
    listener: Arc<dyn Listener>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::default();
    recall_gateways(&*control_plane, &store).await;
    loop {
        let session = session(&control_plane, &store, &listener, &mut backoff);
        let ended = tokio::select! {
            ended = session => ended,
            () = shutdown.cancelled() => return,
        };
        listener.connected(false);
        let Err(ended) = ended;
        if matches!(ended, Ended::Turned) {
            tracing::info!("turning to the gateway that is this host's own");
            continue;
        }
        if let Some(gateways) = control_plane.gateways()
            && !matches!(ended, Ended::Store(_))
        {
            gateways.failed();
        }
        let wait = backoff.failed();
        tracing::info!(why = %ended, wait_ms = wait.as_millis() as u64, "not connected to the control plane; everything here goes on");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// A host that starts while its first gateway is down knows of others from before.
async fn recall_gateways(control_plane: &dyn ControlPlane, store: &DocumentStore) {
    let Some(gateways) = control_plane.gateways() else { return };
    match store.gateways().await {
        Ok(known) if !known.is_empty() => gateways.recall(known),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the gateways known before are forgotten"),
    }
}

async fn session(
    control_plane: &Arc<dyn ControlPlane>,
    store: &DocumentStore,
    listener: &Arc<dyn Listener>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Ended> {
    let (lineage, position) = store.position().await?;
    let mut frames = control_plane.documents(lineage, position).await?;
    let queries = Arc::new(Semaphore::new(MAX_QUERIES));
    let StreamTerms { silence_millis: first, .. } = StreamTerms::default();
    let (lineage, mut snapshot, mut terms) = match next(&mut frames, first).await? {
        Frame::Welcome { lineage, snapshot, terms } => (lineage, snapshot, terms),
        _ => return Err(LinkError::Protocol("the first frame is no welcome".to_owned()).into()),
    };
    if store.welcome(&lineage).await? == Welcomed::NewLineage {
        tracing::warn!(%lineage, "the region follows a new lineage: reporting everything, changing nothing that it does not name");
        listener.new_lineage();
    }
    let gateways = control_plane.gateways();
    if let Some(gateways) = gateways {
        gateways.welcomed(&terms);
        store.remember_gateways(&terms.gateways).await?;
    }
    backoff.reset();
    listener.connected(true);
    tracing::info!(
        %lineage, snapshot, gateway = gateways.map(Gateways::current),
        "connected to the control plane"
    );
    let mut batch: Vec<Document> = Vec::new();
    loop {
        // What has arrived already belongs to the batch; only an empty batch is worth waiting for.
        let frame = if batch.is_empty() {
            let turn = gateways.and_then(Gateways::turn_at);
            tokio::select! {
                frame = next(&mut frames, terms.silence_millis) => Some(frame?),
                () = until(turn) => {
                    if let Some(gateways) = gateways {
                        gateways.turn();
                    }
                    return Err(Ended::Turned);
                }
            }
        } else if batch.len() < MAX_BATCH {
            match frames.next().now_or_never() {
                Some(frame) => Some(frame.ok_or(Ended::Closed)??),
                None => None,
            }
        } else {
            None
        };
        match frame {
            Some(Frame::Document(document)) => batch.push(*document),
            other => {
                take(store, listener, std::mem::take(&mut batch), snapshot).await?;
                match other {
                    Some(Frame::SnapshotEnd { position }) => {
                        end_snapshot(store, &mut snapshot, position).await?;
                    }
                    Some(Frame::Query { id, query }) => {
                        answer(control_plane, listener, &queries, id, query);
                    }
                    Some(Frame::Welcome { .. }) => {
                        let twice = "a second welcome".to_owned();
                        return Err(LinkError::Protocol(twice).into());
                    }
                    Some(Frame::Ping { terms: Some(told) }) => {
                        terms = *told;
                        if let Some(gateways) = gateways {
                            gateways.learn(&terms.gateways);
                            store.remember_gateways(&terms.gateways).await?;
                        }
                    }
                    Some(Frame::Ping { terms: None } | Frame::Document(_)) | None => {}
                }
            }
        }
    }
}

/// Waits for a moment; for ever without one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn next(
    frames: &mut BoxStream<'static, Result<Frame, LinkError>>,
    silence_millis: u64,
) -> Result<Frame, Ended> {
    let limit = Duration::from_millis(silence_millis);
    match tokio::time::timeout(limit, frames.next()).await {
        Err(_) => Err(Ended::Silent(limit)),
        Ok(None) => Err(Ended::Closed),
        Ok(Some(frame)) => Ok(frame?),
    }
}

async fn end_snapshot(
    store: &DocumentStore,
    snapshot: &mut bool,
    position: Position,
) -> Result<(), Ended> {
    *snapshot = false;
    store.snapshot_end(position).await?;
    Ok(())
}

async fn take(
    store: &DocumentStore,
    listener: &Arc<dyn Listener>,
    batch: Vec<Document>,
    snapshot: bool,
) -> Result<(), Ended> {
    if batch.is_empty() {
        return Ok(());
    }
    let verdicts = store.store(batch.clone(), snapshot).await?;
    let (mut new, mut repeated) = (Vec::new(), Vec::new());
    for (document, verdict) in batch.into_iter().zip(verdicts) {
        let what = if document.tombstone { "tombstone" } else { "document" };
        kill_points::point(format_args!("agent.{what}.{}.stored", document.kind));
        match verdict {
            Verdict::Stored => {
                tracing::debug!(
                    kind = %document.kind, id = %document.id, generation = document.generation,
                    tombstone = document.tombstone, request_id = %document.request_id,
                    "document"
                );
                new.push(document);
            }
            Verdict::Repeated => repeated.push(document),
            Verdict::Older | Verdict::Buried => tracing::info!(
                kind = %document.kind, id = %document.id, generation = document.generation,
                ?verdict, "an outdated document is ignored"
            ),
        }
    }
    if !repeated.is_empty() {
        listener.known_again(repeated);
    }
    if !new.is_empty() {
        listener.documents(new);
    }
    Ok(())
}

fn answer(
    control_plane: &Arc<dyn ControlPlane>,
    listener: &Arc<dyn Listener>,
    queries: &Arc<Semaphore>,
    id: String,
    query: HostQuery,
) {
    let (control_plane, listener) = (Arc::clone(control_plane), Arc::clone(listener));
    let queries = Arc::clone(queries);
    tokio::spawn(async move {
        let Ok(_permit) = queries.acquire().await else {
            return;
        };
        let answer = listener.answer(query).await;
        if let Err(error) = control_plane.answer(&id, &answer).await {
            tracing::info!(%error, query = %id, "an answer was not taken");
        }
    });
}
