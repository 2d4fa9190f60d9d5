//! Questions between two processes on one database.

use cloud_types::Fault;
use host_protocol::{HostAnswer, HostQuery};

use super::{answer, ask, collect, forget, take};
use crate::test_support::{databases, host, transact};

fn question() -> HostQuery {
    HostQuery::ConsoleLog { server_id: "s".to_owned(), lines: Some(3) }
}

#[tokio::test]
async fn a_question_is_taken_once_and_its_answer_collected_once() {
    for (_test, db, _clock) in databases().await {
        let asked = host(&db, "h1").await.id;
        let passed = transact(&db, move |tx| {
            Box::pin(async move {
                ask(tx, "q", &asked, &question()).await?;
                let first = take(tx, "q", "a").await?;
                let second = take(tx, "q", "b").await?;
                Ok((first, second))
            })
        });
        assert_eq!(passed.await.unwrap(), (Some(question()), None));
        let said = HostAnswer::ConsoleLog { output: "boot".to_owned() };
        let expected = said.clone();
        let answers = transact(&db, move |tx| {
            let said = said.clone();
            Box::pin(async move {
                answer(tx, "q", &said).await?;
                answer(tx, "nobody asked", &said).await?;
                Ok::<_, Fault>((collect(tx, "q").await?, collect(tx, "q").await?))
            })
        });
        assert_eq!(answers.await.unwrap(), (Some(expected), None));
    }
}

#[tokio::test]
async fn a_question_whose_asker_died_is_forgotten() {
    for (_test, db, clock) in databases().await {
        let asked = host(&db, "h1").await.id;
        let of = asked;
        transact(&db, move |tx| Box::pin(async move { Ok(ask(tx, "q", &of, &question()).await?) }))
            .await
            .unwrap();
        clock.advance(std::time::Duration::from_secs(60));
        let gone = transact(&db, |tx| {
            Box::pin(async move {
                let now = tx.now();
                Ok((forget(tx, now, 10).await?, take(tx, "q", "a").await?))
            })
        });
        assert_eq!(gone.await.unwrap(), (1, None));
    }
}
