//! Looking up again whoever has live tokens.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use cloud_types::{DomainId, Fault, Timestamp, UserId};
use database::Origin;
use futures::StreamExt as _;

use super::entry::Kind;
use super::store;
use crate::Identity;

/// People taken at once, and looked up at the same time.
const BATCH: u32 = 100;
const AT_ONCE: usize = 4;

impl Identity {
    /// Notes that somebody of a directory has a token, so that they are looked up again.
    pub(crate) async fn note_token_of(&self, user: &UserId, until: Timestamp) -> Result<(), Fault> {
        if self.entry_of(Kind::User, user.as_str()).await?.is_none() {
            return Ok(());
        }
        let user = user.clone();
        self.kit
            .db
            .transact(&Origin::system("directory"), move |tx| {
                let user = user.clone();
                Box::pin(
                    async move { Ok::<_, Fault>(store::note_session(tx, &user, until).await?) },
                )
            })
            .await
    }

    async fn recheck_person(
        &self,
        user: &UserId,
        away: &Mutex<HashSet<DomainId>>,
    ) -> Result<(), Fault> {
        let Some(entry) = self.entry_of(Kind::User, user.as_str()).await? else {
            return Ok(());
        };
        if away.lock().unwrap_or_else(PoisonError::into_inner).contains(&entry.domain_id) {
            return Ok(());
        }
        match self.refresh_user(user).await {
            // A directory that is away ends nobody's work.
            Err(fault) if fault.status() == 503 => {
                away.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.domain_id);
                Ok(())
            }
            other => other,
        }
    }

    /// Looks up everybody who has live tokens and is due.
    pub(crate) async fn recheck_directories(&self) -> Result<(), Fault> {
        // Who waits for a directory that is away would keep the people of others waiting.
        let away = Mutex::new(HashSet::new());
        loop {
            let every = self.config.recheck;
            let due = self
                .kit
                .db
                .transact(&Origin::system("account-recheck"), move |tx| {
                    Box::pin(async move {
                        let before = tx.now().before(every);
                        Ok::<_, Fault>(store::take_due(tx, before, BATCH).await?)
                    })
                })
                .await?;
            let more = due.len() == BATCH as usize;
            let away = &away;
            let results: Vec<Result<(), Fault>> = futures::stream::iter(due)
                .map(|user| async move { self.recheck_person(&user, away).await })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            results.into_iter().collect::<Result<Vec<()>, Fault>>()?;
            if !more {
                return Ok(());
            }
        }
    }
}
