//! Passwords as the rules have them: proving one, choosing a new one, and what time does to an
//! account.

use std::net::IpAddr;
use std::sync::Arc;

use cloud_types::{Fault, Timestamp};
use database::{Origin, Tx};
use zeroize::Zeroizing;

use super::model::{self, ComplianceRules, Failures};
use super::store;
use crate::Identity;
use crate::token::Revocation;
use crate::token::model::Reference;
use crate::token::service::find_user;
use crate::user::model::User;
use crate::user::service::{locked, remove, save};

/// Inactive users that one transaction disables.
const SWEPT_AT_ONCE: i64 = 100;

/// Whoever gave the right password.
pub(crate) struct Authenticated {
    pub user: User,
    /// The hash that matched, or the one that took its place.
    pub hash: String,
    /// The password is good for nothing but changing it.
    pub expired: bool,
}

/// The one answer to every password that does not let its bearer in.
fn refused() -> Fault {
    Fault::unauthorized("The request you have made requires authentication.")
}

impl Identity {
    /// Whose password it is. Unknown, locked and disabled users, and wrong passwords, cost the
    /// same work and get the same answer.
    ///
    /// # Errors
    /// 401; 429 where too many attempts failed or too many wait.
    pub(crate) async fn authenticate(
        &self,
        who: Reference,
        secret: Zeroizing<String>,
        source: Option<IpAddr>,
    ) -> Result<Authenticated, Fault> {
        let name = name_of(&who);
        let (found, failures) = self
            .look(move |tx| {
                let who = who.clone();
                Box::pin(async move {
                    let found = find_user(tx, &who).await?;
                    let failures = match &found {
                        Some(user) => store::failures(tx, &user.id).await?,
                        None => Failures::default(),
                    };
                    Ok((found, failures))
                })
            })
            .await?;
        let key = found.as_ref().map_or(name, |user| user.id.to_string());
        let attempt = self.throttle.enter(&key, source, self.kit.clock.now())?;
        let hash = found.as_ref().and_then(|user| user.password_hash.clone());
        let verified = match self.passwords.verify_login(secret, hash.clone()).await {
            Ok(verified) => verified,
            Err(fault) => {
                // Nothing was learnt from it.
                attempt.give_back();
                return Err(fault);
            }
        };
        let now = self.kit.clock.now();
        let rules = self.rules.clone();
        let open = found.as_ref().is_some_and(|user| {
            user.enabled
                && !rules.is_locked(user, failures, now)
                && !rules.is_inactive(user, now)
                && user.standing.valid_until.is_none_or(|until| until > now)
        });
        match (found, hash) {
            (Some(user), Some(hash)) if open && verified.matches => {
                attempt.give_back();
                let hash = self.admit(&user, failures, hash, verified.better_hash, now).await?;
                let expired = model::password_is_expired(&user, now);
                Ok(Authenticated { user, hash, expired })
            }
            (found, _) => {
                // Who is not let in anyway is not counted, but the answer costs the same.
                let counted = found.filter(|_| open);
                self.record_failure(counted, failures, now).await?;
                Err(refused())
            }
        }
    }

    /// Writes down what a right password changes; the hash that holds from now on.
    async fn admit(
        &self,
        user: &User,
        failures: Failures,
        hash: String,
        better: Option<String>,
        now: Timestamp,
    ) -> Result<String, Fault> {
        let today = model::day_of(now);
        let active = user.standing.last_active_day.is_some_and(|day| day >= today);
        if active && better.is_none() && failures.count == 0 {
            return Ok(hash);
        }
        let id = user.id.clone();
        self.kit
            .db
            .transact(&Origin::system("login"), move |tx| {
                let (id, hash, better) = (id.clone(), hash.clone(), better.clone());
                Box::pin(async move {
                    store::note_activity(tx, &id, today).await?;
                    if failures.count > 0 {
                        store::forget_failures(tx, &id).await?;
                    }
                    match better {
                        Some(better) if store::renew_hash(tx, &id, &hash, &better).await? => {
                            Ok(better)
                        }
                        _ => Ok::<_, Fault>(hash),
                    }
                })
            })
            .await
    }

    async fn record_failure(
        &self,
        user: Option<User>,
        failures: Failures,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if !self.rules.counts_failures() {
            return Ok(());
        }
        let afresh = user.as_ref().is_some_and(|user| self.rules.lock_is_over(user, failures, now));
        let key = user.map_or_else(|| store::NOBODY.to_owned(), |user| user.id.to_string());
        self.kit
            .db
            .transact(&Origin::system("login"), move |tx| {
                let key = key.clone();
                Box::pin(async move {
                    store::add_failure(tx, &key, afresh, now).await.map_err(Fault::from)
                })
            })
            .await
    }

    /// Whether a new password has the form that is asked for, and its hash.
    pub(crate) async fn new_hash(&self, password: Zeroizing<String>) -> Result<String, Fault> {
        self.rules.check_strength(&password)?;
        self.passwords.hash(password).await
    }

    /// One's own password, known the old one, which may have expired.
    pub(crate) async fn change_password(
        &self,
        id: &str,
        original: Zeroizing<String>,
        new: Zeroizing<String>,
        origin: Origin,
        source: Option<IpAddr>,
    ) -> Result<(), Fault> {
        let who = Reference::Id(id.to_owned());
        let Authenticated { user, hash: old, .. } =
            self.authenticate(who, original, source).await?;
        self.rules.check_may_change(&user, self.kit.clock.now())?;
        self.rules.check_strength(&new)?;
        self.check_unused(&user, &new, &old).await?;
        let hash = self.passwords.hash(new).await?;
        let (id, rules) = (user.id.clone(), self.rules.clone());
        let origin = Origin { actor: Some(id.clone()), ..origin };
        let (_, revocations) = self
            .kit
            .db
            .transact(&origin, move |tx| {
                let (id, rules) = (id.clone(), rules.clone());
                let (old, hash) = (old.clone(), hash.clone());
                Box::pin(async move {
                    let before = locked(tx, &id).await?;
                    if before.password_hash.as_ref() != Some(&old) {
                        return Err(Fault::conflict(
                            "The password was changed by another request meanwhile.",
                        ));
                    }
                    let mut user = before.clone();
                    let now = tx.now();
                    user.password_hash = Some(hash);
                    user.password_changed_at = Some(now);
                    user.standing.password_expires_at = rules.expiry(&user.options, now);
                    user.standing.chosen = true;
                    remember(tx, &before, &rules).await?;
                    save(tx, before, user, true).await
                })
            })
            .await?;
        self.changed(&revocations);
        Ok(())
    }

    async fn check_unused(
        &self,
        user: &User,
        new: &Zeroizing<String>,
        current: &str,
    ) -> Result<(), Fault> {
        if self.rules.settings.unique_last_password_count == 0 {
            return Ok(());
        }
        let (id, count) = (user.id.clone(), self.rules.former_compared());
        let mut hashes = self
            .look(move |tx| {
                let id = id.clone();
                Box::pin(async move { Ok(store::former_passwords(tx, &id, count).await?) })
            })
            .await?;
        hashes.insert(0, current.to_owned());
        for hash in hashes {
            if self.passwords.verify(new.clone(), Some(hash)).await? {
                return Err(self.rules.used_before());
            }
        }
        Ok(())
    }

    /// How the user is shown: who has been away for too long is disabled.
    pub(crate) fn seen_now(&self, mut user: User) -> User {
        user.enabled &= !self.rules.is_inactive(&user, self.kit.clock.now());
        user
    }

    /// Disables who has been away for too long, and ends their tokens. Answers how many.
    pub(crate) async fn disable_inactive(&self) -> Result<usize, Fault> {
        let Some(day) = self.rules.least_active_day(self.kit.clock.now()) else {
            return Ok(0);
        };
        let rules = self.rules.clone();
        let revocations = self
            .kit
            .db
            .transact(&Origin::system("identity-sweeper"), move |tx| {
                let rules = rules.clone();
                Box::pin(async move { disable_since(tx, &rules, day).await })
            })
            .await?;
        self.changed(&revocations);
        Ok(revocations.len())
    }
}

impl Identity {
    /// Removes users who were made for a while that is over. Answers how many.
    pub(crate) async fn remove_ended(&self) -> Result<usize, Fault> {
        let now = self.kit.clock.now();
        let any = self.look(move |tx| Box::pin(async move { Ok(store::ended(tx, now).await?) }));
        if any.await?.is_empty() {
            return Ok(0);
        }
        let revocations = self
            .kit
            .db
            .transact(&Origin::system("identity-sweeper"), move |tx| {
                Box::pin(async move {
                    let mut ended = Vec::new();
                    for id in store::ended(tx, now).await? {
                        let user = locked(tx, &id).await?;
                        ended.extend(remove(tx, &user).await?);
                    }
                    Ok::<_, Fault>(ended)
                })
            })
            .await?;
        self.changed(&revocations);
        Ok(revocations.len())
    }
}

async fn disable_since(
    tx: &mut Tx,
    rules: &Arc<ComplianceRules>,
    day: i64,
) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::new();
    for id in store::inactive_since(tx, day, model::midnight(day), SWEPT_AT_ONCE).await? {
        let before = locked(tx, &id).await?;
        if !before.enabled || !rules.is_inactive(&before, tx.now()) {
            continue;
        }
        let user = User { enabled: false, ..before.clone() };
        ended.extend(save(tx, before, user, true).await?.1);
    }
    Ok(ended)
}

/// Keeps the password that is about to be replaced, as long as new ones are compared with it.
pub(crate) async fn remember(
    tx: &mut Tx,
    before: &User,
    rules: &ComplianceRules,
) -> Result<(), Fault> {
    let kept = rules.former_compared();
    if let (Some(hash), true) = (&before.password_hash, kept > 0) {
        store::remember_password(tx, &before.id, hash, kept).await?;
    }
    Ok(())
}

/// What a bucket of attempts is called for somebody who is not known.
fn name_of(who: &Reference) -> String {
    match who {
        Reference::Id(id) => format!("id {id}"),
        Reference::Name(name, domain) => format!("name {name} in {domain:?}"),
    }
}
