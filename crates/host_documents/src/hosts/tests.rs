//! Joining.

use std::time::Duration;

use host_protocol::{DocumentKind, HostSpec};

use super::*;
use crate::documents;
use crate::test_support::{databases, enrol, enrol_key, host, token, transact};

#[tokio::test]
async fn a_token_works_once() {
    for (_keep, db, _) in databases().await {
        let token = token(&db).await;
        assert_eq!(enrol(&db, &token, "h1").await.unwrap().host_number, 1);
        assert_eq!(enrol(&db, &token, "h2").await.unwrap_err().status(), 401);
        assert_eq!(enrol(&db, "mj1-0000", "h2").await.unwrap_err().status(), 401);
    }
}

#[tokio::test]
async fn who_lost_the_answer_gets_it_again_and_nobody_else_does() {
    for (_keep, db, clock) in databases().await {
        let token = token(&db).await;
        let first = enrol_key(&db, &token, "h1", b"key").await.unwrap();
        assert_eq!(enrol_key(&db, &token, "h1", b"key").await.unwrap().id, first.id);
        assert_eq!(enrol_key(&db, &token, "h2", b"key").await.unwrap_err().status(), 409);
        assert_eq!(enrol_key(&db, &token, "h1", b"other").await.unwrap_err().status(), 401);
        assert_eq!(
            transact(&db, |tx| Box::pin(async move { Ok(list(tx).await?.len()) })).await.unwrap(),
            1
        );
        clock.advance(Duration::from_secs(JOIN_TOKEN_HOURS * 3600));
        assert_eq!(enrol_key(&db, &token, "h1", b"key").await.unwrap_err().status(), 401);
    }
}

#[tokio::test]
async fn a_token_expires() {
    for (_keep, db, clock) in databases().await {
        let token = token(&db).await;
        clock.advance(Duration::from_secs(JOIN_TOKEN_HOURS * 3600));
        assert_eq!(enrol(&db, &token, "h1").await.unwrap_err().status(), 401);
    }
}

#[tokio::test]
async fn a_refused_name_does_not_use_the_token_up() {
    for (_keep, db, _) in databases().await {
        host(&db, "h1").await;
        let token = token(&db).await;
        assert_eq!(enrol(&db, &token, "h1").await.unwrap_err().status(), 409);
        assert_eq!(enrol(&db, &token, "../h2").await.unwrap_err().status(), 400);
        assert_eq!(enrol(&db, &token, "h2").await.unwrap().host_number, 2);
    }
}

#[tokio::test]
async fn a_host_that_joins_is_told_who_it_is_and_nobody_else_is_told_anything() {
    for (_keep, db, _) in databases().await {
        let one = host(&db, "h1").await;
        let told = |id: cloud_types::HostId| {
            let db = db.clone();
            async move {
                transact(&db, move |tx| {
                    Box::pin(async move {
                        Ok(documents::get(tx, &id, DocumentKind::Host, &id.to_string()).await?)
                    })
                })
                .await
                .unwrap()
                .unwrap()
            }
        };
        let before = told(one.id).await;
        let two = host(&db, "h2").await;
        let spec: HostSpec = told(two.id).await.read().unwrap();
        assert_eq!((spec.host_number, spec.name.as_str()), (2, "h2"));
        assert_eq!(told(one.id).await, before);
    }
}

#[tokio::test]
async fn hosts_are_read_page_by_page_and_seen_together() {
    for (_keep, db, clock) in databases().await {
        let mut all = Vec::new();
        for name in ["h1", "h2", "h3"] {
            all.push(host(&db, name).await.id);
        }
        all.sort();
        clock.advance(Duration::from_secs(5));
        let (one, other, gone) = (all[0], all[2], cloud_types::HostId::random());
        let last_seen = |id| {
            transact(&db, move |tx| {
                Box::pin(async move { Ok(get(tx, &id).await?.unwrap().last_seen) })
            })
        };
        let known = transact(&db, move |tx| {
            Box::pin(async move {
                let session = connected(tx, &one).await?;
                // The other has opened a second stream, somewhere else.
                let former = connected(tx, &other).await?;
                connected(tx, &other).await?;
                let streams = [(one, session), (other, former), (gone, 1)].into();
                let known = super::seen_together(tx, &streams).await?;
                Ok((session, former, known))
            })
        })
        .await
        .unwrap();
        let (session, former, known) = known;
        // Each has one document, its own.
        assert_eq!(known, [(one, (session, 1)), (other, (former + 1, 1))].into());
        let before = last_seen(other).await.unwrap();
        clock.advance(Duration::from_secs(5));
        transact(&db, move |tx| {
            let streams = [(one, session), (other, former)].into();
            Box::pin(async move { Ok(super::seen_together(tx, &streams).await?) })
        })
        .await
        .unwrap();
        assert_eq!(last_seen(other).await.unwrap(), before, "its newest stream is elsewhere");
        assert!(last_seen(one).await.unwrap() > before);
        let (first, rest) = transact(&db, |tx| {
            Box::pin(async move {
                let first = super::page(tx, None, Some("l2-1"), 2).await?;
                let rest = super::page(tx, first.last().map(|host| host.id), None, 2).await?;
                Ok((first, rest))
            })
        })
        .await
        .unwrap();
        let pages: Vec<_> = first.iter().chain(&rest).map(|host| host.id).collect();
        assert_eq!((pages, first.len()), (all, 2));
        let seen: Vec<bool> =
            first.iter().chain(&rest).map(|host| host.last_seen.is_some()).collect();
        assert_eq!(seen, [true, false, true]);
    }
}

#[tokio::test]
async fn a_host_is_alive_while_it_is_seen() {
    for (_keep, db, clock) in databases().await {
        let id = host(&db, "h1").await.id;
        transact(&db, move |tx| Box::pin(async move { seen(tx, &id).await })).await.unwrap();
        let host = transact(&db, move |tx| Box::pin(async move { Ok(get(tx, &id).await?) }))
            .await
            .unwrap();
        let host = host.unwrap();
        let now = || cloud_types::Clock::now(&clock);
        assert!(host.is_alive(now()));
        clock.advance(Duration::from_secs(ALIVE_SECONDS));
        assert!(!host.is_alive(now()));
    }
}

#[tokio::test]
async fn a_host_is_removed_when_it_is_empty_and_its_number_stays_used() {
    for (_keep, db, _) in databases().await {
        host(&db, "h1").await;
        let two = host(&db, "h2").await;
        let forget = |id| transact(&db, move |tx| Box::pin(async move { remove(tx, &id).await }));
        transact(&db, move |tx| {
            Box::pin(async move {
                let spec = serde_json::json!({});
                documents::put(tx, &two.id, DocumentKind::Port, "p", 0, &spec).await?;
                Ok(())
            })
        })
        .await
        .unwrap();
        let refused = forget(two.id).await.unwrap_err();
        assert_eq!(refused.status(), 409);
        assert!(refused.message.contains("1 documents"), "{refused}");
        transact(&db, move |tx| {
            Box::pin(
                async move { Ok(documents::remove(tx, &two.id, DocumentKind::Port, "p").await?) },
            )
        })
        .await
        .unwrap();
        forget(two.id).await.unwrap();
        assert_eq!(forget(two.id).await.unwrap_err().status(), 404);
        assert_eq!(host(&db, "h2").await.host_number, 3);
    }
}

#[tokio::test]
async fn a_domain_without_numbers_left_says_so() {
    for (_keep, db, _) in databases().await {
        host(&db, "h1").await;
        transact(&db, |tx| {
            Box::pin(async move {
                Ok(tx.execute("UPDATE l2_domains SET last_host_number = 65534", &[]).await?)
            })
        })
        .await
        .unwrap();
        assert_eq!(host(&db, "h2").await.host_number, 65_535);
        let token = token(&db).await;
        let fault = enrol(&db, &token, "h3").await.unwrap_err();
        assert_eq!(fault.status(), 409);
        assert!(fault.message.contains("all 65535 host numbers"), "{fault}");
    }
}

#[tokio::test]
async fn only_the_newest_stream_of_a_host_is_believed() {
    for (_keep, db, _) in databases().await {
        let id = host(&db, "h1").await.id;
        let open = || transact(&db, move |tx| Box::pin(async move { connected(tx, &id).await }));
        let check = |session| {
            transact(&db, move |tx| Box::pin(async move { check_session(tx, &id, session).await }))
        };
        let first = open().await.unwrap();
        check(first).await.unwrap();
        let second = open().await.unwrap();
        assert!(second > first);
        assert_eq!(check(first).await.unwrap_err().status(), 409);
        check(second).await.unwrap();
        // An agent that does not count its streams is judged by generations and sequences alone.
        check(0).await.unwrap();
        let stranger = cloud_types::HostId::random();
        let refused =
            transact(&db, move |tx| Box::pin(async move { connected(tx, &stranger).await }));
        assert_eq!(refused.await.unwrap_err().status(), 403);
    }
}
