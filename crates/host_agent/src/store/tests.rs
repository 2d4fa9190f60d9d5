//! What the store promises: no older word wins, nothing is unlearnt by a restart.

use host_protocol::{
    Document, DocumentKind, OperationDirection, Report, ReportResult, ReportState,
};
use serde_json::json;

use super::*;

fn document(generation: u64, epoch: u64, position: u64) -> Document {
    Document {
        kind: DocumentKind::Server,
        id: "a".to_owned(),
        generation,
        epoch,
        position,
        tombstone: false,
        request_id: String::new(),
        spec: json!({ "generation": generation }),
    }
}

fn draft(generation: u64, state: ReportState) -> Draft {
    Draft {
        kind: DocumentKind::Server,
        id: "a".to_owned(),
        generation,
        epoch: 1,
        state,
        facts: json!(null),
        error: None,
    }
}

async fn store_one(store: &DocumentStore, document: Document) -> Verdict {
    store.store(vec![document], false).await.unwrap()[0]
}

#[tokio::test]
async fn an_older_generation_or_epoch_never_overwrites() {
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    assert_eq!(store_one(&store, document(5, 2, 10)).await, Verdict::Stored);
    assert_eq!(store_one(&store, document(4, 2, 11)).await, Verdict::Older);
    assert_eq!(store_one(&store, document(6, 1, 12)).await, Verdict::Older);
    assert_eq!(store_one(&store, document(5, 2, 13)).await, Verdict::Repeated);
    let kept = store.documents().await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].document.spec, json!({ "generation": 5 }));
    assert_eq!(store.position().await.unwrap(), (Some("one".to_owned()), 13));
}

#[tokio::test]
async fn a_snapshot_moves_the_position_at_its_end_only() {
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    store.store(vec![document(1, 1, 9)], true).await.unwrap();
    assert_eq!(store.position().await.unwrap().1, 0);
    store.snapshot_end(9).await.unwrap();
    assert_eq!(store.position().await.unwrap().1, 9);
}

#[tokio::test]
async fn what_was_removed_does_not_come_back_by_a_late_copy() {
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    let mut tombstone = document(7, 1, 20);
    tombstone.tombstone = true;
    store_one(&store, tombstone).await;
    assert!(!store.bury(DocumentKind::Server, "a", 6).await.unwrap());
    assert!(store.bury(DocumentKind::Server, "a", 7).await.unwrap());
    assert!(store.documents().await.unwrap().is_empty());
    assert_eq!(store_one(&store, document(6, 1, 19)).await, Verdict::Buried);
    // The region may begin its generations anew once the removal is acknowledged.
    assert_eq!(store_one(&store, document(1, 2, 30)).await, Verdict::Stored);
}

#[tokio::test]
async fn a_restored_region_does_not_bring_back_or_change_what_it_does_not_know() {
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    let mut tombstone = document(7, 1, 20);
    tombstone.tombstone = true;
    tombstone.id = "gone".to_owned();
    store_one(&store, tombstone).await;
    store.bury(DocumentKind::Server, "gone", 7).await.unwrap();
    store_one(&store, document(7, 1, 21)).await;
    store.put_report(draft(7, ReportState::Done)).await.unwrap();
    let due = store.due_reports(10).await.unwrap();
    store.reports_answered(vec![(due[0].clone(), ReportResult::Accepted)]).await.unwrap();
    assert!(store.due_reports(10).await.unwrap().is_empty());

    assert_eq!(store.welcome("two").await.unwrap(), Welcomed::NewLineage);
    assert_eq!(store.position().await.unwrap(), (Some("two".to_owned()), 0));
    assert!(!store.documents().await.unwrap()[0].known);
    assert_eq!(store.due_reports(10).await.unwrap().len(), 1);

    let mut deleted_since = document(5, 1, 40);
    deleted_since.id = "gone".to_owned();
    assert_eq!(store_one(&store, deleted_since).await, Verdict::Buried);
    assert_eq!(store_one(&store, document(5, 1, 41)).await, Verdict::Older);
    assert!(!store.documents().await.unwrap()[0].known);
    assert_eq!(store_one(&store, document(8, 1, 42)).await, Verdict::Stored);
    assert!(store.documents().await.unwrap()[0].known);
}

#[tokio::test]
async fn reports_rise_across_restarts_and_stay_until_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let first: Report = {
        let store = DocumentStore::open(&path).unwrap();
        assert!(store.put_report(draft(1, ReportState::Working)).await.unwrap());
        assert!(!store.put_report(draft(1, ReportState::Working)).await.unwrap());
        store.due_reports(10).await.unwrap().remove(0)
    };
    let store = DocumentStore::open(&path).unwrap();
    assert_eq!(store.due_reports(10).await.unwrap(), vec![first.clone()]);
    assert!(store.put_report(draft(1, ReportState::Done)).await.unwrap());
    // The answer to the report that was replaced meanwhile does not settle the new one.
    store.reports_answered(vec![(first.clone(), ReportResult::Accepted)]).await.unwrap();
    let second = store.due_reports(10).await.unwrap().remove(0);
    assert!(second.sequence > first.sequence);

    drop(store);
    std::fs::remove_file(&path).unwrap();
    let store = DocumentStore::open(&path).unwrap();
    store.put_report(draft(1, ReportState::Done)).await.unwrap();
    let third = store.due_reports(10).await.unwrap().remove(0);
    assert!(third.sequence > second.sequence, "also without the store");
}

#[tokio::test]
async fn gone_ends_the_document_and_leaves_nothing_due() {
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    let mut tombstone = document(3, 1, 5);
    tombstone.tombstone = true;
    store_one(&store, tombstone).await;
    store.put_report(draft(3, ReportState::Gone)).await.unwrap();
    let due = store.due_reports(10).await.unwrap().remove(0);
    let buried = store.reports_answered(vec![(due, ReportResult::Accepted)]).await.unwrap();
    assert_eq!(buried, vec![(DocumentKind::Server, "a".to_owned())]);
    assert!(store.documents().await.unwrap().is_empty());
    assert!(store.due_reports(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_damaged_file_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    let store = DocumentStore::open(&path).unwrap();
    assert!(store.documents().await.unwrap().is_empty());
    let aside = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().contains("damaged")
        })
        .count();
    assert_eq!(aside, 1);
}

#[tokio::test]
async fn nobody_else_reads_the_store_not_even_one_that_lay_open() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    std::fs::write(&path, "").unwrap();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, open).unwrap();
    let store = DocumentStore::open(&path).unwrap();
    assert!(store.documents().await.unwrap().is_empty());
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn slots_and_zones_are_shared_by_nobody() {
    let store = DocumentStore::in_memory().unwrap();
    assert_eq!(store.server_slot("a", 3, Some(1)).await.unwrap(), 1);
    assert_eq!(store.server_slot("b", 3, Some(1)).await.unwrap(), 0);
    assert_eq!(store.server_slot("c", 3, None).await.unwrap(), 2);
    assert!(store.server_slot("d", 3, None).await.is_err());
    assert_eq!(store.server_slot("a", 3, None).await.unwrap(), 1);
    store.forget_server("b").await.unwrap();
    assert_eq!(store.server_slot("d", 3, None).await.unwrap(), 0);

    let ports = vec!["p".to_owned(), "q".to_owned()];
    let zones = store.zones(ports.clone()).await.unwrap();
    assert_eq!(zones, vec![("p".to_owned(), 1), ("q".to_owned(), 2)]);
    store.free_zone("p").await.unwrap();
    assert_eq!(store.zone_of("p").await.unwrap(), None);
    assert_eq!(store.zones(vec!["r".to_owned()]).await.unwrap(), vec![("r".to_owned(), 1)]);
}

#[tokio::test]
async fn operations_are_remembered_with_the_highest_epoch() {
    let store = DocumentStore::in_memory().unwrap();
    let memory = OperationMemory {
        direction: OperationDirection::Forward,
        outcome: OperationOutcome::Pending,
        from_incarnation: 4,
    };
    store.set_operation("w/s", "w", 9, memory.clone()).await.unwrap();
    store.set_operation("w/t", "w", 7, memory.clone()).await.unwrap();
    assert_eq!(store.workflow_epoch("w").await.unwrap(), 9);
    assert_eq!(store.operation("w/s").await.unwrap(), Some(memory));
    assert_eq!(store.operation("w/u").await.unwrap(), None);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_does_not_silence_the_host() {
    let store = DocumentStore::in_memory().unwrap();
    store.welcome("one").await.unwrap();
    store.put_report(draft(1, ReportState::Working)).await.unwrap();
    let read_only = |on: bool| {
        let connection = store.connection.lock().unwrap();
        connection.pragma_update(None, "query_only", on).unwrap();
    };
    read_only(true);
    assert!(store.put_report(draft(1, ReportState::Failed)).await.unwrap());
    assert!(!store.put_report(draft(1, ReportState::Failed)).await.unwrap());
    let due = store.due_reports(10).await.unwrap();
    assert_eq!(due.len(), 1, "the later word alone");
    assert_eq!(due[0].state, ReportState::Failed);
    read_only(false);
    store.reports_answered(vec![(due[0].clone(), ReportResult::Accepted)]).await.unwrap();
    assert!(store.put_report(draft(1, ReportState::Done)).await.unwrap());
    let due = store.due_reports(10).await.unwrap();
    assert_eq!((due.len(), due[0].state), (1, ReportState::Done));
}
