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
use database::{Database, Origin};
use host_documents::{documents, hosts};
use host_protocol::{Document, Frame, PING_SECONDS, Position};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connections::Connection;

/// Documents read from the database at a time.
const BATCH: i64 = 200;
/// How often an open stream counts as a sign of life: well within `hosts::ALIVE_SECONDS`.
const SEEN_EVERY: Duration = Duration::from_secs(15);
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

/// Starts the stream; its lines arrive at the receiver until the host goes away.
pub fn start(
    db: Database,
    connection: Connection,
    host: HostId,
    known: Known,
    shutdown: CancellationToken,
) -> mpsc::Receiver<Result<Bytes, io::Error>> {
    let (lines, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut stream = Stream { db, connection, host, lines };
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = stream.run(known) => match ended {
                Ok(()) => {}
                Err(Ended::HostLeft) => tracing::debug!(%host, "document stream ended by the host"),
                Err(Ended::Failed(fault)) => {
                    tracing::warn!(%host, %fault, "document stream ended; the host will open another");
                }
            },
        }
    });
    receiver
}

enum Ended {
    HostLeft,
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
    lines: mpsc::Sender<Result<Bytes, io::Error>>,
}

impl Stream {
    async fn run(&mut self, known: Known) -> Result<(), Ended> {
        let lineage = self.db.lineage();
        let (snapshot, newest) = self.snapshot().await?;
        let follows = known.lineage.as_deref() == Some(lineage.as_str());
        let mut position = known.position;
        // A position beyond ours was given out by another database.
        if !follows || position == 0 || position > newest {
            self.send(&Frame::Welcome { lineage, snapshot: true }).await?;
            for document in snapshot {
                self.send(&Frame::Document(Box::new(document))).await?;
            }
            self.send(&Frame::SnapshotEnd { position: newest }).await?;
            position = newest;
        } else {
            drop(snapshot);
            self.send(&Frame::Welcome { lineage, snapshot: false }).await?;
        }
        self.follow(position).await
    }

    async fn follow(&mut self, mut position: Position) -> Result<(), Ended> {
        let notify: Arc<tokio::sync::Notify> = self.connection.documents.clone();
        let quiet = Duration::from_secs(PING_SECONDS);
        let mut seen = tokio::time::interval(SEEN_EVERY);
        seen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let batch = self.after(position).await?;
            for document in batch {
                position = document.position;
                self.send(&Frame::Document(Box::new(document))).await?;
            }
            // A notification that came while we read is kept by `Notify`, so nothing is missed.
            tokio::select! {
                () = notify.notified() => {}
                Some(query) = self.connection.queries.recv() => self.send(&query).await?,
                () = tokio::time::sleep(quiet) => self.send(&Frame::Ping).await?,
                _ = seen.tick() => self.seen().await?,
                () = self.lines.closed() => return Err(Ended::HostLeft),
            }
        }
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), Ended> {
        let mut line = serde_json::to_vec(frame).map_err(|error| {
            Fault::internal(format!("a frame for a host could not be written as JSON: {error}"))
        })?;
        line.push(b'\n');
        self.lines.send(Ok(line.into())).await.map_err(|_| Ended::HostLeft)
    }

    async fn seen(&self) -> Result<(), Fault> {
        let host = self.host;
        self.db
            .transact(&Origin::system("host-stream"), move |tx| {
                Box::pin(async move { hosts::seen(tx, &host).await })
            })
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
