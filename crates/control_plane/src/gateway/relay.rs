//! Questions to hosts, wherever their streams are: here, or at another replica, to which the
//! question is passed on by way of the database.

use std::sync::Arc;

use cloud_types::{Fault, HostId};
use compute::HostQueries;
use database::{Database, Notification, Origin};
use futures::future::BoxFuture;
use host_documents::questions;
use host_protocol::{HostAnswer, HostQuery};
use tokio_util::sync::CancellationToken;

use super::connections::{ANSWER_DEADLINE, Connections, no_answer, not_connected};

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
        Box::pin(self.ask_anywhere(*host, query))
    }
}
