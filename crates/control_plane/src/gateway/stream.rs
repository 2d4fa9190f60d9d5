//! The document stream: a snapshot when it is needed, then what changes, as it changes.
//!
//! The position that a host names is what it has stored durably. Everything after it is sent
//! again, so a stream may break anywhere; a document that arrives twice has the same generation
//! and changes nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloud_types::{Fault, HostId};
use database::Database;
use host_documents::documents;
use host_protocol::{Document, Frame, Position};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connections::Connection;
use crate::replica::View;

/// Documents read from the database at a time.
const BATCH: i64 = 200;
/// Lines that may wait for a slow host before its stream stops reading the database.
const BACKLOG: usize = 16;

/// What a host says it has.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The lineage that it follows, if any.
    pub lineage: Option<String>,
    /// The position that it has stored.
    pub position: Position,
}

/// Starts the stream of this session; its lines arrive at the receiver until the host goes away.
pub fn start(
    db: Database,
    connection: Connection,
    (host, session): (HostId, u64),
    known: Known,
    view: watch::Receiver<View>,
    shutdown: CancellationToken,
) -> mpsc::Receiver<Result<Bytes, io::Error>> {
    let (lines, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let superseded = connection.superseded.clone();
        let mut stream =
            Stream { db, connection, host, session, view, lines, sent_at: Instant::now() };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = superseded.cancelled() => {
                tracing::debug!(%host, session, "a document stream ended: the host opened another, or is gone");
            }
            ended = stream.run(known) => match ended {
                Ok(()) => {}
                Err(Ended::OutOfTouch) => {
                    tracing::info!(%host, "a host is sent away: the database is out of reach");
                }
                Err(Ended::HostLeft) => tracing::debug!(%host, "document stream ended by the host"),
                Err(Ended::Failed(fault)) => {
                    tracing::warn!(%host, %fault, "document stream ended; the host will open another");
                }
            },
        }
    });
    receiver
}

/// Starts a stream on which a host is told nothing but the lineage: the database was restored, and
/// what it says is under review. Questions pass.
pub fn start_review(
    lineage: String,
    mut connection: Connection,
    shutdown: CancellationToken,
) -> mpsc::Receiver<Result<Bytes, io::Error>> {
    let (lines, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let terms = View::alone().terms(0);
        let quiet = Duration::from_millis(terms.ping_millis);
        // Without its end, a snapshot names nothing and takes nothing away.
        let mut next = Frame::Welcome { lineage, snapshot: true, terms };
        loop {
            let Ok(mut line) = serde_json::to_vec(&next) else { return };
            line.push(b'\n');
            if lines.send(Ok(line.into())).await.is_err() {
                return;
            }
            next = tokio::select! {
                () = shutdown.cancelled() => return,
                () = lines.closed() => return,
                Some(query) = connection.queries.recv() => query,
                () = tokio::time::sleep(quiet) => Frame::Ping { terms: None },
            };
        }
    });
    receiver
}

enum Ended {
    HostLeft,
    OutOfTouch,
    Failed(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended::Failed(fault)
    }
}

struct Stream {
    db: Database,
    connection: Connection,
    host: HostId,
    session: u64,
    view: watch::Receiver<View>,
    lines: mpsc::Sender<Result<Bytes, io::Error>>,
    /// When something was last sent.
    sent_at: Instant,
}

impl Stream {
    async fn run(&mut self, known: Known) -> Result<(), Ended> {
        let lineage = self.db.lineage();
        let follows = known.lineage.as_deref() == Some(lineage.as_str());
        let mut position = known.position;
        let terms = self.view.borrow_and_update().terms(self.session);
        // A position beyond ours was given out by another database. A host that follows is sent what
        // it lacks, and nothing else is read: all hosts may come back at once.
        if !follows || position == 0 || position > self.newest().await? {
            self.send(&Frame::Welcome { lineage, snapshot: true, terms }).await?;
            let (snapshot, newest) = self.snapshot().await?;
            for document in snapshot {
                self.send(&Frame::Document(Box::new(document))).await?;
            }
            self.send(&Frame::SnapshotEnd { position: newest }).await?;
            position = newest;
        } else {
            self.send(&Frame::Welcome { lineage, snapshot: false, terms }).await?;
        }
        self.follow(position).await
    }

    async fn follow(&mut self, mut position: Position) -> Result<(), Ended> {
        let notify: Arc<tokio::sync::Notify> = self.connection.documents.clone();
        let mut quiet = Duration::from_millis(self.view.borrow().terms(self.session).ping_millis);
        // Documents are read when something was written. Should word of it be lost, the next sign of
        // life (`heartbeat`) finds this stream behind, and wakes it.
        let mut look = true;
        loop {
            while std::mem::take(&mut look) {
                let batch = self.after(position).await?;
                look = i64::try_from(batch.len()).is_ok_and(|read| read == BATCH);
                for document in batch {
                    position = document.position;
                    self.send(&Frame::Document(Box::new(document))).await?;
                }
                self.connection.has_told(position);
            }
            // A notification that came while we read is kept by `Notify`, so nothing is missed.
            let ping_at = self.sent_at + quiet;
            tokio::select! {
                () = notify.notified() => look = true,
                Some(query) = self.connection.queries.recv() => self.send(&query).await?,
                () = tokio::time::sleep_until(ping_at) => {
                    self.send(&Frame::Ping { terms: None }).await?;
                }
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return Err(Ended::OutOfTouch);
                    }
                    let view = self.view.borrow_and_update().clone();
                    if !view.in_touch {
                        return Err(Ended::OutOfTouch);
                    }
                    let terms = view.terms(self.session);
                    quiet = Duration::from_millis(terms.ping_millis);
                    self.send(&Frame::Ping { terms: Some(Box::new(terms)) }).await?;
                }
                () = self.lines.closed() => return Err(Ended::HostLeft),
            }
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), Ended> {
        let mut line = serde_json::to_vec(frame).map_err(|error| {
            Fault::internal(format!("a frame for a host could not be written as JSON: {error}"))
        })?;
        line.push(b'\n');
        self.sent_at = Instant::now();
        self.lines.send(Ok(line.into())).await.map_err(|_| Ended::HostLeft)
    }

    async fn newest(&self) -> Result<Position, Fault> {
        let host = self.host;
        self.db
            .read(move |tx| Box::pin(async move { Ok(documents::position(tx, &host).await?) }))
            .await
    }

    async fn snapshot(&self) -> Result<(Vec<Document>, Position), Fault> {
        let host = self.host;
        self.db
            .read(move |tx| Box::pin(async move { Ok(documents::snapshot(tx, &host).await?) }))
            .await
    }

    async fn after(&self, position: Position) -> Result<Vec<Document>, Fault> {
        let host = self.host;
        self.db
            .read(move |tx| {
                Box::pin(async move { Ok(documents::after(tx, &host, position, BATCH).await?) })
            })
            .await
    }
}
