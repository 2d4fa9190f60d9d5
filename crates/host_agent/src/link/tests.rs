//! The link against a control plane played in the same process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use host_protocol::{
    Document, DocumentKind, Frame, HostAnswer, HostQuery, Position, ReportResult, ReportResults,
    ReportState, Reports, StreamTerms,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stream::Listener;
use super::*;
use crate::store::{DocumentStore, Draft};

type Asked = (Option<String>, Position);

/// A control plane whose streams are fed by the test.
#[derive(Default)]
struct Fake {
    streams: Mutex<Vec<mpsc::UnboundedReceiver<Frame>>>,
    asked: Mutex<Vec<Asked>>,
    answers: Mutex<Vec<(String, HostAnswer)>>,
    reported: Mutex<Vec<Reports>>,
    refuse_reports: Mutex<u32>,
}

impl ControlPlane for Fake {
    fn documents(
        &self,
        lineage: Option<String>,
        position: Position,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Frame, LinkError>>, LinkError>> {
        self.asked.lock().unwrap().push((lineage, position));
        let stream = {
            let mut streams = self.streams.lock().unwrap();
            if streams.is_empty() { None } else { Some(streams.remove(0)) }
        };
        Box::pin(async move {
            let receiver = stream.ok_or(LinkError::Unreachable("down".to_owned()))?;
            Ok(futures::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|frame| (Ok(frame), receiver))
            })
            .boxed())
        })
    }

    fn report<'a>(
        &'a self,
        reports: &'a Reports,
    ) -> BoxFuture<'a, Result<ReportResults, LinkError>> {
        Box::pin(async move {
            let mut refuse = self.refuse_reports.lock().unwrap();
            if *refuse > 0 {
                *refuse -= 1;
                return Err(LinkError::Unreachable("down".to_owned()));
            }
            self.reported.lock().unwrap().push(reports.clone());
            Ok(ReportResults { results: vec![ReportResult::Accepted; reports.reports.len()] })
        })
    }

    fn answer<'a>(
        &'a self,
        id: &'a str,
        answer: &'a HostAnswer,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        self.answers.lock().unwrap().push((id.to_owned(), answer.clone()));
        Box::pin(async { Ok(()) })
    }

    fn image<'a>(
        &'a self,
        image_id: &'a str,
        _offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
        Box::pin(async move { Err(ImageError::NotFound(image_id.to_owned())) })
    }
}

#[derive(Debug, PartialEq)]
enum Heard {
    Documents(Vec<String>),
    NewLineage,
    Known(Vec<String>),
    Connected(bool),
}

struct Ear(mpsc::UnboundedSender<Heard>);

fn ids(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|document| document.id.clone()).collect()
}

impl Listener for Ear {
    fn documents(&self, documents: Vec<Document>) {
        self.0.send(Heard::Documents(ids(&documents))).unwrap();
    }
    fn new_lineage(&self) {
        self.0.send(Heard::NewLineage).unwrap();
    }
    fn known_again(&self, documents: Vec<Document>) {
        self.0.send(Heard::Known(ids(&documents))).unwrap();
    }
    fn connected(&self, up: bool) {
        self.0.send(Heard::Connected(up)).unwrap();
    }
    fn answer(&self, query: HostQuery) -> BoxFuture<'_, HostAnswer> {
        Box::pin(async move {
            match query {
                HostQuery::ConsoleLog { server_id, .. } => {
                    HostAnswer::ConsoleLog { output: server_id }
                }
                HostQuery::Inventory => HostAnswer::Inventory { held: Vec::new() },
                HostQuery::NetworkState { .. } | HostQuery::Trace { .. } => {
                    HostAnswer::Failed { message: "no switch".into(), not_found: false }
                }
            }
        })
    }
}

struct World {
    fake: Arc<Fake>,
    store: DocumentStore,
    heard: mpsc::UnboundedReceiver<Heard>,
    streams: Vec<mpsc::UnboundedSender<Frame>>,
    shutdown: CancellationToken,
}

impl World {
    fn new(streams: usize) -> World {
        let fake = Arc::new(Fake::default());
        let mut senders = Vec::new();
        for _ in 0..streams {
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.push(sender);
            fake.streams.lock().unwrap().push(receiver);
        }
        let store = DocumentStore::in_memory().unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        tokio::spawn(stream::follow(
            fake.clone(),
            store.clone(),
            Arc::new(Ear(sender)),
            shutdown.clone(),
        ));
        World { fake, store, heard, streams: senders, shutdown }
    }

    fn send(&self, stream: usize, frame: Frame) {
        self.streams[stream].send(frame).unwrap();
    }

    async fn hears(&mut self, expected: Heard) {
        let heard = tokio::time::timeout(Duration::from_secs(300), self.heard.recv()).await;
        assert_eq!(heard.unwrap().unwrap(), expected);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn welcome(lineage: &str, snapshot: bool) -> Frame {
    Frame::Welcome { lineage: lineage.to_owned(), snapshot, terms: StreamTerms::default() }
}

fn document(id: &str, generation: u64, position: u64) -> Frame {
    Frame::Document(Box::new(Document {
        kind: DocumentKind::Network,
        id: id.to_owned(),
        generation,
        epoch: 0,
        position,
        tombstone: false,
        request_id: String::new(),
        spec: json!({}),
    }))
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_breaks_off_is_asked_for_again() {
    let mut world = World::new(2);
    world.send(0, welcome("one", true));
    world.hears(Heard::Connected(true)).await;
    world.send(0, document("a", 1, 7));
    world.hears(Heard::Documents(vec!["a".to_owned()])).await;
    world.streams.remove(0);
    world.hears(Heard::Connected(false)).await;
    world.send(0, welcome("one", true));
    world.hears(Heard::Connected(true)).await;
    world.send(0, document("a", 1, 7));
    world.send(0, document("b", 1, 8));
    world.send(0, Frame::SnapshotEnd { position: 9 });
    world.hears(Heard::Known(vec!["a".to_owned()])).await;
    world.hears(Heard::Documents(vec!["b".to_owned()])).await;
    world.send(0, document("c", 1, 10));
    world.hears(Heard::Documents(vec!["c".to_owned()])).await;
    assert_eq!(world.store.position().await.unwrap().1, 10);
    let asked = world.fake.asked.lock().unwrap().clone();
    assert_eq!(asked, vec![(None, 0), (Some("one".to_owned()), 0)]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_lost_connection_and_pings_are_not_silence() {
    let mut world = World::new(2);
    world.send(0, welcome("one", false));
    world.hears(Heard::Connected(true)).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        world.send(0, Frame::Ping { terms: None });
    }
    world.hears(Heard::Connected(false)).await;
    assert!(begun.elapsed() >= Duration::from_secs(150 + 35));
    world.send(1, welcome("one", false));
    world.hears(Heard::Connected(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_lineage_is_told_before_its_documents() {
    let mut world = World::new(2);
    world.send(0, welcome("one", false));
    world.send(0, document("a", 5, 1));
    world.hears(Heard::Connected(true)).await;
    world.hears(Heard::Documents(vec!["a".to_owned()])).await;
    world.streams.remove(0);
    world.hears(Heard::Connected(false)).await;
    world.send(0, welcome("two", true));
    world.send(0, document("a", 3, 1));
    world.send(0, document("b", 1, 2));
    world.hears(Heard::NewLineage).await;
    world.hears(Heard::Connected(true)).await;
    world.hears(Heard::Documents(vec!["b".to_owned()])).await;
}

#[tokio::test(start_paused = true)]
async fn queries_are_answered_by_their_id() {
    let mut world = World::new(1);
    world.send(0, welcome("one", false));
    world.hears(Heard::Connected(true)).await;
    let query = HostQuery::ConsoleLog { server_id: "s".to_owned(), lines: None };
    world.send(0, Frame::Query { id: "q1".to_owned(), query });
    while world.fake.answers.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let answers = world.fake.answers.lock().unwrap().clone();
    let output = HostAnswer::ConsoleLog { output: "s".to_owned() };
    assert_eq!(answers, vec![("q1".to_owned(), output)]);
}

#[tokio::test(start_paused = true)]
async fn reports_are_sent_until_they_are_answered() {
    let fake = Arc::new(Fake::default());
    *fake.refuse_reports.lock().unwrap() = 3;
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    let bell = outbox::OutboxBell::default();
    let shutdown = CancellationToken::new();
    let sender = outbox::send(fake.clone(), store.clone(), bell.clone(), |_| {}, shutdown.clone());
    tokio::spawn(sender);
    for id in ["a", "b"] {
        let draft = Draft {
            kind: DocumentKind::Network,
            id: id.to_owned(),
            generation: 1,
            epoch: 0,
            state: ReportState::Done,
            facts: json!(null),
            error: None,
        };
        store.put_report(draft).await.unwrap();
        bell.ring();
    }
    while !store.due_reports(10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let reported: Vec<String> = fake
        .reported
        .lock()
        .unwrap()
        .iter()
        .flat_map(|reports| reports.reports.iter().map(|report| report.id.clone()))
        .collect();
    assert_eq!(reported, ["a", "b"]);
    shutdown.cancel();
}
