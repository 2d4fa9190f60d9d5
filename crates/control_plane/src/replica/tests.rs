//! Who is taken for dead, and what hosts are told.

use std::sync::Arc;

use cloud_types::{SystemClock, Timestamp};
use database::{Database, DatabaseConfig};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::model::{SILENT_LOOKS, Watch, gateways};
use super::{Registry, Replica, View};

fn replica(id: &str, beat: u64) -> Replica {
    Replica {
        id: id.to_owned(),
        gateway: format!("https://{id}:5001"),
        api: String::new(),
        version: String::new(),
        worker: format!("worker-{id}"),
        epoch: 1,
        beat,
        serving: true,
        started_at: Timestamp(0),
        seen_at: Timestamp(0),
    }
}

#[test]
fn silence_in_several_looks_is_death_and_one_sign_of_life_is_not() {
    let mut watch = Watch::default();
    for look in 0..SILENT_LOOKS {
        let beats = u64::from(look);
        let all = [replica("own", beats), replica("quiet", 7), replica("lively", beats)];
        assert!(watch.look(&all, "own").is_empty(), "after {look} looks");
    }
    let all = [replica("own", 0), replica("quiet", 7), replica("lively", 9)];
    assert_eq!(watch.look(&all, "own"), [replica("quiet", 7)]);
    let all = [replica("quiet", 8), replica("lively", 9)];
    assert!(watch.look(&all, "own").is_empty());
}

#[test]
fn nobody_is_dead_because_the_database_was_away() {
    let mut watch = Watch::default();
    for _ in 0..SILENT_LOOKS {
        assert!(watch.look(&[replica("quiet", 7)], "own").is_empty());
    }
    watch.failed();
    assert!(watch.look(&[replica("quiet", 7)], "own").is_empty());
}

#[test]
fn a_new_process_of_a_replica_is_no_silence() {
    let mut watch = Watch::default();
    for _ in 0..SILENT_LOOKS {
        watch.look(&[replica("a", 0)], "own");
    }
    let restarted = Replica { epoch: 2, ..replica("a", 0) };
    assert!(watch.look(&[restarted], "own").is_empty());
}

#[test]
fn hosts_are_told_of_gateways_only_where_there_is_a_choice() {
    let one = [replica("a", 0)];
    assert!(gateways(&one).is_empty());
    let balanced = [replica("a", 0), Replica { id: "b".to_owned(), ..replica("a", 0) }];
    assert!(gateways(&balanced).is_empty(), "one address is no choice");
    let dead = Replica { serving: false, ..replica("b", 0) };
    let told = gateways(&[replica("a", 0), dead]);
    let serving: Vec<(&str, bool)> =
        told.iter().map(|gateway| (gateway.url.as_str(), gateway.serving)).collect();
    assert_eq!(serving, [("https://a:5001", true), ("https://b:5001", false)]);
    let several = View { in_touch: true, gateways: told.into() };
    assert!(several.terms(3).silence_millis < View::alone().terms(3).silence_millis);
}

/// Hosts' streams follow the view, and end with it: on SQLite nobody gives signs of life, and the
/// view must stand all the same.
#[tokio::test]
async fn a_control_plane_without_others_is_in_touch_until_it_is_shut_down() {
    let db = Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
    let registry = Registry::join(db, replica("own", 0)).await;
    let view = registry.view();
    assert_eq!(*view.borrow(), View::alone());
    let shutdown = CancellationToken::new();
    let mut running = Box::pin(registry.run(shutdown.clone()));
    assert_eq!((&mut running).now_or_never(), None, "it ends although nobody asked for that");
    assert!(view.has_changed().is_ok(), "nobody keeps the view: hosts are sent away");
    shutdown.cancel();
    running.await;
    assert!(view.has_changed().is_err());
}
