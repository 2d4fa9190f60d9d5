//! Ending the tokens of people who were disabled where their account is.
//!
//! A provider with back-channel logout says so itself. For all others, each live login is asked
//! about again every half minute or so: a refresh token must still be granted, an access token still
//! be in force, as far as the provider answers about it. Without a refresh token, the tokens of a
//! login end with the access token at the latest: later nobody could be asked. Only the provider's own
//! refusal ends anything: a provider that is away, or that answers nonsense, ends nobody's work. (A
//! refresh token that the provider took, and whose answer got lost, is refused the next time: that
//! login ends, and its owner logs in again.)
//!
//! ```text
//!   live ──due──► asked ──granted──► live (with the new refresh token)
//!                   ├──refused─────► ended: the chain of its tokens is revoked
//!                   └──no answer───► live, asked again when due
//! ```
//! A process takes due logins by marking them, so several processes share the work.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cloud_types::Fault;
use database::{JournalEntry, Origin, Tx};
use futures::StreamExt as _;
use serde_json::json;
use zeroize::Zeroizing;

use super::model::{Keep, Session};
use super::store;
use crate::openid::http::HttpError;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, group};

/// What may happen once is remembered for longer than anything that could do it again is good.
pub(crate) const USED_KEPT: Duration = Duration::from_secs(3600);
/// How often it is looked for logins that are due.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Logins taken at once.
const BATCH: u32 = 100;
/// Providers' answers waited for at once.
const AT_ONCE: usize = 8;
/// Memberships that are over, removed in one transaction.
const MEMBERSHIPS: u32 = 200;

/// What a provider says when it is asked again.
enum Answer {
    StillGood,
    /// With the refresh token that takes the place of the former one.
    Renewed(Zeroizing<String>),
    /// Why the login is over.
    Over(&'static str),
    Unknown,
    /// The provider cannot be reached.
    Away,
}

/// One round: asks about all logins that are due, and removes memberships that are over.
///
/// # Errors
/// The database's; the rest waits for the next round.
pub(crate) async fn round(identity: &Identity) -> Result<(), Fault> {
    expire_memberships(identity).await?;
    // Who waits for a provider that is away would keep the others waiting.
    let away = Mutex::new(HashSet::new());
    loop {
        let every = identity.config.recheck;
        let due = identity
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
            .map(|session| async move { look_again(identity, &session, away).await })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        results.into_iter().collect::<Result<Vec<()>, Fault>>()?;
        if !more {
            return Ok(());
        }
    }
}

async fn expire_memberships(identity: &Identity) -> Result<(), Fault> {
    loop {
        let (found, revocations) = identity
            .kit
            .db
            .transact(&Origin::system("membership-expiry"), |tx| {
                Box::pin(async move {
                    let users = store::expire_memberships(tx, MEMBERSHIPS).await?;
                    let ended = group::service::end_tokens(tx, &users).await?;
                    Ok::<_, Fault>((users.len(), ended))
                })
            })
            .await?;
        identity.changed(&revocations);
        if found == 0 {
            return Ok(());
        }
    }
}

async fn look_again(
    identity: &Identity,
    session: &Session,
    away: &Mutex<HashSet<String>>,
) -> Result<(), Fault> {
    if away.lock().unwrap_or_else(PoisonError::into_inner).contains(&session.idp_id) {
        return Ok(());
    }
    match ask(identity, session).await {
        Answer::StillGood | Answer::Unknown => Ok(()),
        Answer::Away => {
            away.lock().unwrap_or_else(PoisonError::into_inner).insert(session.idp_id.clone());
            Ok(())
        }
        Answer::Over(why) => end(identity, session, why).await,
        Answer::Renewed(token) => {
            let (now, name) = (identity.kit.clock.now(), Session::seal_name(&session.chain));
            let sealed = identity.tokens.vault().seal_at(now, &name, token.as_bytes())?.bytes;
            let (chain, former) = (session.chain.clone(), session.word.clone().unwrap_or_default());
            identity
                .kit
                .db
                .transact(&Origin::system("account-recheck"), move |tx| {
                    let (chain, former, sealed) = (chain.clone(), former.clone(), sealed.clone());
                    Box::pin(async move {
                        Ok::<_, Fault>(store::renew_word(tx, &chain, &former, &sealed).await?)
                    })
                })
                .await
        }
    }
}

async fn ask(identity: &Identity, session: &Session) -> Answer {
    let name = Session::seal_name(&session.chain);
    let vault = identity.tokens.vault();
    let secret = session.word.as_ref().and_then(|sealed| vault.open_sealed(&name, sealed).ok());
    let keep = Keep::from_parts(&session.word_kind, secret);
    let Ok(speaking) = identity.speaking(&session.idp_id, &session.protocol_id).await else {
        // A provider that was disabled or deleted has ended its tokens by itself.
        return Answer::Unknown;
    };
    let client = &speaking.client;
    match keep {
        Keep::Nothing => Answer::Unknown,
        Keep::Refresh(token) => {
            match speaking.provider.refresh(&client.client_id, &speaking.secret, &token).await {
                Ok(granted) => granted.refresh_token.map_or(Answer::StillGood, Answer::Renewed),
                Err(error) => refusal(session, &error, &["invalid_grant"]),
            }
        }
        Keep::Access(token, ways) => {
            if ways.introspection {
                let asked =
                    speaking.provider.introspect(&client.client_id, &speaking.secret, &token).await;
                match asked {
                    Ok(said) if said.get("active") == Some(&json!(false)) => {
                        return Answer::Over(
                            "the provider says that the access token is not in force",
                        );
                    }
                    Ok(_) => {}
                    Err(error) => return refusal(session, &error, &[]),
                }
            }
            if !ways.user_info {
                return Answer::StillGood;
            }
            match speaking.provider.user_info(&token).await {
                Ok(_) => Answer::StillGood,
                Err(error) => refusal(session, &error, &["invalid_token"]),
            }
        }
    }
}

/// Only a refusal that speaks of what was asked about ends a login: a wrong client secret does not.
fn refusal(session: &Session, error: &HttpError, over: &[&str]) -> Answer {
    match error {
        HttpError::Refused { error, .. } if over.contains(&error.as_str()) => {
            Answer::Over("the provider no longer grants it")
        }
        other => {
            tracing::warn!(
                idp = session.idp_id, error = %other,
                "a provider could not say whether a login still holds; it is asked again"
            );
            match other {
                HttpError::Unreachable(_) => Answer::Away,
                HttpError::Refused { .. } => Answer::Unknown,
            }
        }
    }
}

/// Ends a login with all of its tokens, unless the word that the provider refused has been renewed
/// meanwhile: then another process asked with the same one, and was first.
pub(crate) async fn end(
    identity: &Identity,
    session: &Session,
    why: &'static str,
) -> Result<(), Fault> {
    let refused = session.clone();
    let revocations = identity
        .kit
        .db
        .transact(&Origin::system("account-recheck"), move |tx| {
            let session = refused.clone();
            Box::pin(async move {
                let ended = match &session.word {
                    Some(word) => store::end_session_with(tx, &session.chain, word).await?,
                    None => store::end_session(tx, &session.chain).await?,
                };
                if !ended {
                    return Ok(Vec::new());
                }
                Ok::<_, Fault>(vec![record_end(tx, &session, why).await?])
            })
        })
        .await?;
    if !revocations.is_empty() {
        tracing::info!(user = %session.user_id, idp = session.idp_id, why, "a login is over");
    }
    identity.changed(&revocations);
    Ok(())
}

/// Ends a login within a transaction. Nothing where it was ended already.
pub(crate) async fn end_in(
    tx: &mut Tx,
    session: &Session,
    why: &'static str,
) -> Result<Vec<Revocation>, Fault> {
    if !store::end_session(tx, &session.chain).await? {
        return Ok(Vec::new());
    }
    Ok(vec![record_end(tx, session, why).await?])
}

/// What goes with a login whose row is gone.
async fn record_end(
    tx: &mut Tx,
    session: &Session,
    why: &'static str,
) -> Result<Revocation, Fault> {
    tx.journal(JournalEntry {
        kind: "federated_session",
        id: session.chain.clone(),
        project: None,
        action: "end",
        before: Some(json!({"user_id": session.user_id, "idp_id": session.idp_id})),
        after: Some(json!({"reason": why})),
    });
    Ok(revoke(tx, RevocationKind::Chain, &session.chain, "", 0).await?)
}
