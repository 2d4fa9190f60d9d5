//! Writing documents.

use host_protocol::DocumentKind::Port;
use serde_json::json;

use super::*;
use crate::test_support::{database, host, transact};

#[tokio::test]
async fn the_same_document_again_changes_nothing() {
    let (db, _) = database().await;
    let id = host(&db, "h1").await.id;
    let put_port = |spec: serde_json::Value| {
        let db = db.clone();
        async move {
            transact(&db, move |tx| {
                let spec = spec.clone();
                Box::pin(async move { Ok(put(tx, &id, Port, "p", 0, &spec).await?) })
            })
            .await
            .unwrap()
        }
    };
    let first = put_port(json!({"mac": 1})).await;
    assert_eq!(put_port(json!({"mac": 1})).await, first);
    let second = put_port(json!({"mac": 2})).await;
    assert!(second > first);
}

#[tokio::test]
async fn generations_rise_across_a_removal() {
    let (db, _) = database().await;
    let id = host(&db, "h1").await.id;
    let (first, second) = transact(&db, move |tx| {
        Box::pin(async move {
            let first = put(tx, &id, Port, "p", 0, &json!({})).await?;
            remove(tx, &id, Port, "p").await?;
            Ok((first, put(tx, &id, Port, "p", 0, &json!({})).await?))
        })
    })
    .await
    .unwrap();
    assert!(second > first);
}

#[tokio::test]
async fn a_tombstone_keeps_the_last_spec_and_a_new_put_wins_over_it() {
    let (db, _) = database().await;
    let id = host(&db, "h1").await.id;
    transact(&db, move |tx| {
        Box::pin(async move {
            assert_eq!(put_tombstone(tx, &id, Port, "p").await?, None);
            put(tx, &id, Port, "p", 3, &json!({"mac": 1})).await?;
            put_tombstone(tx, &id, Port, "p").await?;
            let dead = get(tx, &id, Port, "p").await?.unwrap();
            assert!(dead.tombstone && dead.epoch == 3 && dead.spec == json!({"mac": 1}));
            put(tx, &id, Port, "p", 4, &json!({"mac": 1})).await?;
            assert!(!get(tx, &id, Port, "p").await?.unwrap().tombstone);
            Ok(())
        })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_host_reads_on_from_its_position_and_sees_only_its_own() {
    let (db, _) = database().await;
    let (one, two) = (host(&db, "h1").await.id, host(&db, "h2").await.id);
    transact(&db, move |tx| {
        Box::pin(async move {
            let (_, position) = snapshot(tx, &one).await?;
            put(tx, &two, Port, "other", 0, &json!({})).await?;
            put(tx, &one, Port, "p", 0, &json!({})).await?;
            put(tx, &one, Port, "q", 0, &json!({})).await?;
            let ids: Vec<_> =
                after(tx, &one, position, 10).await?.into_iter().map(|d| d.id).collect();
            assert_eq!(ids, ["p", "q"]);
            let (all, newest) = snapshot(tx, &one).await?;
            assert_eq!(newest, position + 2);
            assert!(all.iter().all(|document| document.id != "other"));
            Ok(())
        })
    })
    .await
    .unwrap();
}
