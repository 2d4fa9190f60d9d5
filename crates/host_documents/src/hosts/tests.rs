//! Joining.

use std::time::Duration;

use host_protocol::{DocumentKind, HostSpec};

use super::*;
use crate::documents;
use crate::test_support::{database, enrol, host, token, transact};

#[tokio::test]
async fn a_token_works_once() {
    let (db, _) = database().await;
    let token = token(&db).await;
    assert_eq!(enrol(&db, &token, "h1").await.unwrap().host_number, 1);
    assert_eq!(enrol(&db, &token, "h2").await.unwrap_err().status(), 401);
    assert_eq!(enrol(&db, "mj1-0000", "h2").await.unwrap_err().status(), 401);
}

#[tokio::test]
async fn a_token_expires() {
    let (db, clock) = database().await;
    let token = token(&db).await;
    clock.advance(Duration::from_secs(JOIN_TOKEN_HOURS * 3600));
    assert_eq!(enrol(&db, &token, "h1").await.unwrap_err().status(), 401);
}

#[tokio::test]
async fn a_refused_name_does_not_use_the_token_up() {
    let (db, _) = database().await;
    host(&db, "h1").await;
    let token = token(&db).await;
    assert_eq!(enrol(&db, &token, "h1").await.unwrap_err().status(), 409);
    assert_eq!(enrol(&db, &token, "../h2").await.unwrap_err().status(), 400);
    assert_eq!(enrol(&db, &token, "h2").await.unwrap().host_number, 2);
}

#[tokio::test]
async fn hosts_of_a_domain_learn_of_each_other() {
    let (db, _) = database().await;
    let (one, two) = (host(&db, "h1").await, host(&db, "h2").await);
    let peers = |id: cloud_types::HostId| {
        let db = db.clone();
        async move {
            let document = transact(&db, move |tx| {
                Box::pin(async move {
                    Ok(documents::get(tx, &id, DocumentKind::Host, &id.to_string()).await?)
                })
            })
            .await
            .unwrap()
            .unwrap();
            document.read::<HostSpec>().unwrap().peers
        }
    };
    assert_eq!(peers(one.id).await, [2]);
    assert_eq!(peers(two.id).await, [1]);
}

#[tokio::test]
async fn a_host_is_alive_while_it_is_seen() {
    let (db, clock) = database().await;
    let id = host(&db, "h1").await.id;
    transact(&db, move |tx| Box::pin(async move { seen(tx, &id).await })).await.unwrap();
    let host =
        transact(&db, move |tx| Box::pin(async move { Ok(get(tx, &id).await?) })).await.unwrap();
    let host = host.unwrap();
    let now = || cloud_types::Clock::now(&clock);
    assert!(host.is_alive(now()));
    clock.advance(Duration::from_secs(ALIVE_SECONDS));
    assert!(!host.is_alive(now()));
}
