//! Writing documents.

use cloud_types::Fault;
use host_protocol::DocumentKind;
use host_protocol::DocumentKind::Port;
use serde_json::json;

use super::*;
use crate::test_support::{databases, host, transact};

#[tokio::test]
async fn the_same_document_again_changes_nothing() {
    for (_keep, db, _) in databases().await {
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
}

#[tokio::test]
async fn generations_rise_across_a_removal() {
    for (_keep, db, _) in databases().await {
        let id = host(&db, "h1").await.id;
        let put_port = || {
            transact(&db, move |tx| {
                Box::pin(async move { Ok(put(tx, &id, Port, "p", 0, &json!({})).await?) })
            })
        };
        let first = put_port().await.unwrap();
        transact(&db, move |tx| Box::pin(async move { Ok(remove(tx, &id, Port, "p").await?) }))
            .await
            .unwrap();
        let second = put_port().await.unwrap();
        assert!(second > first);
    }
}

#[tokio::test]
async fn a_tombstone_keeps_the_last_spec_and_a_new_put_wins_over_it() {
    for (_keep, db, _) in databases().await {
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
}

#[tokio::test]
async fn a_host_reads_on_from_its_position_and_sees_only_its_own() {
    for (_keep, db, _) in databases().await {
        let (one, two) = (host(&db, "h1").await.id, host(&db, "h2").await.id);
        let look = |position| {
            transact(&db, move |tx| {
                Box::pin(async move {
                    let new = after(tx, &one, position, 10).await?;
                    let ids: Vec<String> = new.into_iter().map(|document| document.id).collect();
                    Ok((ids, snapshot(tx, &one).await?))
                })
            })
        };
        let (_, (_, position)) = look(0).await.unwrap();
        transact(&db, move |tx| {
            Box::pin(async move {
                put(tx, &two, Port, "other", 0, &json!({})).await?;
                put(tx, &one, Port, "q", 0, &json!({})).await?;
                put(tx, &one, Port, "p", 0, &json!({})).await?;
                put(tx, &one, Port, "x", 0, &json!({})).await?;
                put(tx, &one, Port, "q", 0, &json!({"mac": 1})).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
        let (ids, (all, newest)) = look(position).await.unwrap();
        assert_eq!(ids, ["q", "p", "x"], "in the order of the calls, each once");
        assert_eq!(newest, position + 3);
        assert!(all.iter().all(|document| document.id != "other"));
        assert_eq!(all[0].kind, DocumentKind::Host);
        transact(&db, move |tx| {
            Box::pin(
                async move { put(tx, &one, Port, "q", 0, &json!({})).await.map_err(Fault::from) },
            )
        })
        .await
        .unwrap();
        let (ids, (_, last)) = look(newest).await.unwrap();
        assert_eq!((ids, last), (vec!["q".to_owned()], newest + 1));
    }
}

#[tokio::test]
async fn a_document_that_is_taken_back_at_once_disturbs_no_position() {
    for (_keep, db, _) in databases().await {
        let id = host(&db, "h1").await.id;
        for n in 0..3 {
            transact(&db, move |tx| {
                Box::pin(async move {
                    put(tx, &id, Port, "short", 0, &json!({})).await?;
                    put(tx, &id, Port, &format!("p{n}"), 0, &json!({})).await?;
                    remove(tx, &id, Port, "short").await?;
                    Ok(())
                })
            })
            .await
            .unwrap();
        }
        let (all, position) =
            transact(&db, move |tx| Box::pin(async move { Ok(snapshot(tx, &id).await?) }))
                .await
                .unwrap();
        assert_eq!(all.len(), 4, "itself and three ports");
        assert!(all.iter().all(|document| (1..=position).contains(&document.position)));
    }
}

#[tokio::test]
async fn a_placement_epoch_never_falls_and_an_unknown_host_is_refused() {
    for (_keep, db, _) in databases().await {
        let id = host(&db, "h1").await.id;
        let place = |host, epoch| {
            transact(&db, move |tx| {
                Box::pin(async move {
                    put(tx, &host, DocumentKind::Server, "s", epoch, &json!({}))
                        .await
                        .map_err(Fault::from)
                })
            })
        };
        place(id, 3).await.unwrap();
        assert!(place(id, 2).await.is_err());
        place(id, 4).await.unwrap();
        assert_eq!(place(cloud_types::HostId::random(), 1).await.unwrap_err().status(), 409);
    }
}

/// Twenty writers tell three hosts things at once, each in an order of its own: on every host the
/// positions are without a gap, and a reader that follows misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn positions_are_dense_under_concurrent_writers() {
    for (test, db, _) in databases().await {
        let mut hosts = Vec::new();
        for name in ["h1", "h2", "h3"] {
            hosts.push(host(&db, name).await.id);
        }
        let follower = {
            let (db, id) = (db.clone(), hosts[0]);
            tokio::spawn(async move {
                let (mut seen, mut position) = (std::collections::BTreeSet::new(), 0);
                let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
                while seen.len() < 200 {
                    assert!(tokio::time::Instant::now() < deadline, "only {} came", seen.len());
                    let new = transact(&db, move |tx| {
                        Box::pin(async move { Ok(after(tx, &id, position, 7).await?) })
                    })
                    .await
                    .unwrap();
                    for document in new {
                        assert!(document.position > position);
                        position = document.position;
                        if document.kind == Port {
                            seen.insert(document.id);
                        }
                    }
                }
            })
        };
        let mut writers = Vec::new();
        for writer in 0..20usize {
            let (db, hosts) = (db.clone(), hosts.clone());
            writers.push(tokio::spawn(async move {
                for number in 0..10 {
                    let mut order = hosts.clone();
                    order.rotate_left((writer + number) % 3);
                    if writer % 2 == 0 {
                        order.reverse();
                    }
                    transact(&db, move |tx| {
                        let order = order.clone();
                        Box::pin(async move {
                            for host in &order {
                                let id = format!("{writer}-{number}");
                                put(tx, host, Port, &id, 0, &json!({})).await?;
                            }
                            Ok(())
                        })
                    })
                    .await
                    .unwrap();
                }
            }));
        }
        for writer in writers {
            writer.await.unwrap();
        }
        follower.await.unwrap();
        for id in hosts {
            let (all, last) =
                transact(&db, move |tx| Box::pin(async move { Ok(snapshot(tx, &id).await?) }))
                    .await
                    .unwrap();
            let mut positions: Vec<u64> = all.iter().map(|document| document.position).collect();
            positions.sort_unstable();
            // The host's own document was written again as the others came; its last place is
            // before all ports.
            let first = last - 200;
            assert_eq!(positions[1..], ((first + 1)..=last).collect::<Vec<_>>(), "{}", test.name);
        }
        assert_eq!(db.metrics().failed, 0);
        assert_eq!(
            db.metrics().retried,
            0,
            "{}: writers wait for each other in a circle",
            test.name
        );
    }
}
