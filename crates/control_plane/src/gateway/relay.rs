//! Questions to hosts, wherever their streams are: here, or at another replica, to which the
//! question is passed on by way of the database.
//!
//! A host may go from one replica to another between a question and its answer, and a stream that
//! broke off may look open for a while: such a question is never answered. So it is asked again, where
//! the host is by then, while the first may still be answered; questions change nothing, and the
//! first answer counts.

use std::sync::Arc;
use std::time::Duration;

use cloud_types::{Fault, HostId};
use compute::HostQueries;
use database::{Database, Notification, Origin};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use host_documents::questions;
use host_protocol::{HostAnswer, HostQuery};
use tokio_util::sync::CancellationToken;

use super::connections::{ANSWER_DEADLINE, Connections, no_answer, not_connected};

/// A question that has not been answered for so long is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(3);

/// Asks hosts. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    db: Database,
    connections: Arc<Connections>,
    /// Names this process among those who take questions.
    process: String,
}

impl Relay {
    /// Asks through these connections, and through the database for hosts that are not among them.
    pub fn new(db: Database, connections: Arc<Connections>, process: &str) -> Relay {
        Relay { db, connections, process: process.to_owned() }
    }

    async fn ask_until_answered(
        &self,
        host: HostId,
        query: HostQuery,
    ) -> Result<HostAnswer, Fault> {
        let mut asked = FuturesUnordered::new();
        asked.push(self.ask_anywhere(host, query.clone()));
        loop {
            tokio::select! {
                Some(result) = asked.next() => match result {
                    Err(_) if !asked.is_empty() => {}
                    settled => return settled,
                },
                () = tokio::time::sleep(AGAIN_AFTER) => {
                    asked.push(self.ask_anywhere(host, query.clone()));
                }
            }
        }
    }

    async fn ask_anywhere(&self, host: HostId, query: HostQuery) -> Result<HostAnswer, Fault> {
        // Alone on its database there is no other.
        if self.connections.has(host) || !self.db.is_shared() {
            return self.connections.ask_now(host, query).await;
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut answers = self.db.subscribe(questions::ANSWERED);
        let origin = Origin::system("host-question");
        let asked = id.clone();
        self.db
            .transact(&origin, move |tx| {
                let (asked, query) = (asked.clone(), query.clone());
                Box::pin(
                    async move { Ok::<_, Fault>(questions::ask(tx, &asked, &host, &query).await?) },
                )
            })
            .await?;
        let heard = tokio::time::timeout(ANSWER_DEADLINE, async {
            while !matches!(answers.recv().await, Notification::Key(key) if key == id) {}
        })
        .await;
        let answer = self
            .db
            .transact(&origin, move |tx| {
                let id = id.clone();
                Box::pin(async move { Ok::<_, Fault>(questions::collect(tx, &id).await?) })
            })
            .await?;
        match (answer, heard) {
            (Some(answer), _) => Ok(answer),
            (None, Ok(())) => Err(not_connected()),
            (None, Err(_)) => Err(no_answer()),
        }
    }

    /// Passes on what other replicas ask the hosts that are connected here, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        if !self.db.is_shared() {
            return;
        }
        let mut asked = self.db.subscribe(questions::ASKED);
        loop {
            let key = tokio::select! {
                () = shutdown.cancelled() => return,
                news = asked.recv() => match news {
                    Notification::Key(key) => key,
                    // Who asked asks again.
                    Notification::Lagged => continue,
                },
            };
            let Some((id, host)) = key.split_once(' ') else { continue };
            let Ok(host) = host.parse::<HostId>() else { continue };
            if self.connections.has(host) {
                tokio::spawn(self.clone().pass_on(id.to_owned(), host));
            }
        }
    }

    async fn pass_on(self, id: String, host: HostId) {
        if let Err(fault) = self.try_pass_on(&id, host).await {
            tracing::info!(%host, %fault, "a question of another replica was not answered");
        }
    }

    async fn try_pass_on(&self, id: &str, host: HostId) -> Result<(), Fault> {
        let origin = Origin::system("host-question");
        let (wanted, by) = (id.to_owned(), self.process.clone());
        let taken = self
            .db
            .transact(&origin, move |tx| {
                let (wanted, by) = (wanted.clone(), by.clone());
                Box::pin(async move { Ok::<_, Fault>(questions::take(tx, &wanted, &by).await?) })
            })
            .await?;
        let Some(query) = taken else { return Ok(()) };
        let answer = self.connections.ask_now(host, query).await?;
        let id = id.to_owned();
        self.db
            .transact(&origin, move |tx| {
                let (id, answer) = (id.clone(), answer.clone());
                Box::pin(async move { Ok(questions::answer(tx, &id, &answer).await?) })
            })
            .await
    }
}

impl HostQueries for Relay {
    fn ask(&self, host: &HostId, query: HostQuery) -> BoxFuture<'_, Result<HostAnswer, Fault>> {
        let host = *host;
        Box::pin(async move {
            let answered = self.ask_until_answered(host, query);
            tokio::time::timeout(ANSWER_DEADLINE, answered).await.map_err(|_| no_answer())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud_types::SystemClock;
    use database::DatabaseConfig;
    use host_protocol::Frame;

    fn console() -> HostQuery {
        HostQuery::ConsoleLog { server_id: "s".into(), lines: None }
    }

    /// Asks hosts of this process alone.
    async fn alone() -> Relay {
        let memory = DatabaseConfig::SqliteMemory;
        let db = Database::open(&memory, Arc::new(SystemClock)).await.unwrap();
        Relay::new(db, Arc::default(), "one")
    }

    /// The question that arrives on a stream.
    async fn question(stream: &mut crate::gateway::connections::Connection) -> String {
        match stream.queries.recv().await {
            Some(Frame::Query { id, .. }) => id,
            other => panic!("no question: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_host_that_came_back_on_another_stream_is_asked_there() {
        let relay = alone().await;
        let host = HostId::random();
        tokio::time::pause();
        let mut broken = relay.connections.open(host);
        let asking = {
            let relay = relay.clone();
            tokio::spawn(async move { relay.ask(&host, console()).await })
        };
        question(&mut broken).await;
        let mut again = relay.connections.open(host);
        let id = question(&mut again).await;
        let said = HostAnswer::ConsoleLog { output: "hello".into() };
        assert!(relay.connections.answer(host, &id, said.clone()));
        assert_eq!(asking.await.unwrap().unwrap(), said);
    }

    #[tokio::test]
    async fn a_slow_answer_to_the_first_question_counts() {
        let relay = alone().await;
        let host = HostId::random();
        tokio::time::pause();
        let mut stream = relay.connections.open(host);
        let asking = {
            let relay = relay.clone();
            tokio::spawn(async move { relay.ask(&host, console()).await })
        };
        let first = question(&mut stream).await;
        tokio::time::sleep(ANSWER_DEADLINE - Duration::from_secs(1)).await;
        let said = HostAnswer::ConsoleLog { output: "late".into() };
        assert!(relay.connections.answer(host, &first, said.clone()));
        assert_eq!(asking.await.unwrap().unwrap(), said);
    }

    #[tokio::test]
    async fn a_host_that_says_nothing_is_waited_for_no_longer_than_the_deadline() {
        let relay = alone().await;
        let host = HostId::random();
        tokio::time::pause();
        let _mute = relay.connections.open(host);
        let began = tokio::time::Instant::now();
        assert_eq!(relay.ask(&host, console()).await.unwrap_err().status(), 504);
        assert_eq!(began.elapsed().as_secs(), ANSWER_DEADLINE.as_secs());
        let nobody = HostId::random();
        assert_eq!(relay.ask(&nobody, console()).await.unwrap_err().status(), 503);
    }
}
