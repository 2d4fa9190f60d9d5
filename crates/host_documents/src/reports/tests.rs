//! Believing reports.

use std::sync::{Arc, Mutex};

use cloud_types::{Fault, HostId};
use database::{BoxFuture, Database, Tx};
use host_protocol::{DocumentKind, Report, ReportResult, ReportState};
use serde_json::json;

use super::*;
use crate::documents;
use crate::test_support::{databases, host, transact};

#[derive(Default)]
struct Heard(Mutex<Vec<ReportState>>);

impl ReportSink for Heard {
    fn reported<'c>(
        &'c self,
        _: &'c mut Tx,
        _: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        self.0.lock().unwrap().push(report.state);
        Box::pin(async { Ok(()) })
    }
}

fn report(generation: u64, sequence: u64, state: ReportState) -> Report {
    Report {
        kind: DocumentKind::Port,
        id: "p".into(),
        generation,
        epoch: 0,
        sequence,
        state,
        facts: serde_json::Value::Null,
        error: None,
    }
}

async fn put_port(db: &Database, host: HostId, tombstone: bool) -> u64 {
    transact(db, move |tx| {
        Box::pin(async move {
            let generation =
                documents::put(tx, &host, DocumentKind::Port, "p", 0, &json!({})).await?;
            if !tombstone {
                return Ok(generation);
            }
            let dead = documents::put_tombstone(tx, &host, DocumentKind::Port, "p").await?;
            Ok(dead.unwrap_or_default())
        })
    })
    .await
    .unwrap()
}

async fn say(db: &Database, host: HostId, heard: &Arc<Heard>, said: Report) -> bool {
    let heard = heard.clone();
    let result = transact(db, move |tx| {
        let (heard, said) = (heard.clone(), said.clone());
        Box::pin(async move { apply(tx, &host, &said, &*heard).await })
    })
    .await
    .unwrap();
    result == ReportResult::Accepted
}

#[tokio::test]
async fn an_older_word_never_replaces_a_newer_one() {
    for (_keep, db, _) in databases().await {
        let (id, heard) = (host(&db, "h1").await.id, Arc::new(Heard::default()));
        let generation = put_port(&db, id, false).await;
        assert!(say(&db, id, &heard, report(generation, 2, ReportState::Done)).await);
        assert!(
            say(&db, id, &heard, report(generation, 2, ReportState::Done)).await,
            "a repetition"
        );
        assert!(!say(&db, id, &heard, report(generation, 1, ReportState::Working)).await);
        assert!(!say(&db, id, &heard, report(generation + 1, 3, ReportState::Done)).await);
        assert_eq!(*heard.0.lock().unwrap(), [ReportState::Done]);
    }
}

#[tokio::test]
async fn a_host_cannot_speak_of_anothers_objects() {
    for (_keep, db, _) in databases().await {
        let heard = Arc::new(Heard::default());
        let (one, two) = (host(&db, "h1").await.id, host(&db, "h2").await.id);
        let generation = put_port(&db, one, false).await;
        assert!(!say(&db, two, &heard, report(generation, 1, ReportState::Done)).await);
        say(&db, two, &heard, report(generation, 2, ReportState::Gone)).await;
        assert!(heard.0.lock().unwrap().is_empty());
        let there = transact(&db, move |tx| {
            Box::pin(async move { Ok(documents::get(tx, &one, DocumentKind::Port, "p").await?) })
        })
        .await
        .unwrap();
        assert!(there.is_some());
    }
}

#[tokio::test]
async fn gone_takes_away_only_what_has_a_tombstone() {
    for (_keep, db, _) in databases().await {
        let (id, heard) = (host(&db, "h1").await.id, Arc::new(Heard::default()));
        let live = put_port(&db, id, false).await;
        assert!(!say(&db, id, &heard, report(live, 1, ReportState::Gone)).await);
        let dead = put_port(&db, id, true).await;
        assert!(
            !say(&db, id, &heard, report(live, 2, ReportState::Gone)).await,
            "an older removal"
        );
        assert!(say(&db, id, &heard, report(dead, 3, ReportState::Gone)).await);
        assert_eq!(*heard.0.lock().unwrap(), [ReportState::Gone]);
        assert!(
            say(&db, id, &heard, report(dead, 3, ReportState::Gone)).await,
            "its answer was lost"
        );
        let left = transact(&db, move |tx| {
            Box::pin(async move { Ok(documents::get(tx, &id, DocumentKind::Port, "p").await?) })
        })
        .await
        .unwrap();
        assert!(left.is_none());
    }
}
