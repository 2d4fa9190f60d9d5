//! The verifier that every request goes through: signature, expiry, revocation, role names; all
//! from memory. A signature takes 50 µs to check, so what was checked is remembered for a while,
//! by a hash of the text; expiry and revocation are looked at every time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use cloud_types::{Fault, Timestamp};
use database::{Database, DatabaseError, Notification};
use service_kit::{Token, TokenProject, TokenVerifier};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::directory::RoleDirectory;
use super::format::{Claims, Scope};
use super::keys::{KeySet, KeySource};
use super::receipt::Receipt;
use super::revocation::{Revocation, Revocations};
use super::store;
use crate::key_files::KeyError;
use crate::vault::Vault;

/// Channel of changes to roles and what they imply.
pub(crate) const ROLES_CHANNEL: &str = "identity_roles";
/// Channel of new revocations.
pub(crate) const REVOCATIONS_CHANNEL: &str = "identity_revocations";
/// Everything is read again this often even without a notification, which is only a hint.
const RELOAD_EVERY: Duration = Duration::from_secs(20);
/// A process that has not heard of revocations for this long serves reads only.
const READ_ONLY_AFTER: Duration = Duration::from_secs(60);
/// And after this long, unless the configuration says otherwise, refuses tokens rather than honour
/// a revoked one.
const REFUSE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Checked tokens remembered; each takes about 1 KiB.
const CACHE_ENTRIES: usize = 8192;

struct Checked {
    claims: Arc<Claims>,
    token: Arc<Token>,
    roles_version: u64,
}

/// The keys, roles and revocations of this process. Implements [`TokenVerifier`].
pub struct Tokens {
    db: Database,
    source: KeySource,
    keys: ArcSwap<KeySet>,
    vault: Arc<Vault>,
    roles: ArcSwap<RoleDirectory>,
    revocations: RwLock<Revocations>,
    cache: Mutex<HashMap<[u8; 32], Checked>>,
    /// When the database last told all; `None` until [`Tokens::run`] follows it. Measured on the
    /// monotonic clock, so that a jump of the wall clock refuses nobody.
    heard_at: Mutex<Option<Instant>>,
    /// After how many seconds without news tokens are refused.
    refuse_after: AtomicU64,
}

/// Why tokens cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The signing keys cannot be used.
    #[error("the token signing keys: {0}")]
    Keys(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Tokens {
    /// Reads keys, roles and revocations. The schema must have been migrated.
    ///
    /// # Errors
    /// When the keys cannot be used or the database fails.
    pub async fn open(db: &Database, keys: &KeySource) -> Result<Arc<Tokens>, OpenError> {
        let tokens = Arc::new(Tokens {
            db: db.clone(),
            source: keys.clone(),
            keys: ArcSwap::from_pointee(KeySet::load(keys)?),
            vault: Arc::new(Vault::open(keys)?),
            roles: ArcSwap::default(),
            revocations: RwLock::default(),
            cache: Mutex::default(),
            heard_at: Mutex::new(None),
            refuse_after: AtomicU64::new(REFUSE_AFTER.as_secs()),
        });
        tokens.reload().await?;
        Ok(tokens)
    }

    /// Follows roles and revocations until `shutdown`. One task for each process.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut roles = self.db.subscribe(ROLES_CHANNEL);
        let mut revocations = self.db.subscribe(REVOCATIONS_CHANNEL);
        loop {
            self.reload_keys().await;
            match self.reload().await {
                Ok(()) => {
                    let mut heard_at = self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
                    *heard_at = Some(Instant::now());
                }
                Err(error) => tracing::warn!(%error, "revocations could not be read"),
            }
            // A revocation is applied by its id; all else is read again. However many there are,
            // the next full reading is not put off by them.
            let again = tokio::time::Instant::now() + RELOAD_EVERY;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep_until(again) => break,
                    _ = roles.recv() => break,
                    news = revocations.recv() => match news {
                        Notification::Key(id) if self.load_one(&id).await.is_ok() => {}
                        _ => break,
                    },
                }
            }
        }
    }

    /// Looks for keys that a rotation added or removed. What is there now stays in force when they
    /// cannot be read.
    async fn reload_keys(&self) {
        if !matches!(self.source, KeySource::Directory(_)) {
            return;
        }
        let (source, vault) = (self.source.clone(), self.vault.clone());
        let read = tokio::task::spawn_blocking(move || {
            vault.reload()?;
            KeySet::load(&source)
        });
        let read = read.await;
        match read {
            Ok(Ok(keys)) if keys == **self.keys.load() => {}
            Ok(Ok(keys)) => {
                self.keys.store(Arc::new(keys));
                // A key may be gone, and with it what was checked with it.
                self.cache.lock().unwrap_or_else(PoisonError::into_inner).clear();
                tracing::info!("the token signing keys have changed");
            }
            Ok(Err(error)) => tracing::warn!(%error, "the keys could not be read"),
            Err(error) => tracing::warn!(%error, "the keys could not be read"),
        }
    }

    async fn load_one(&self, id: &str) -> Result<(), DatabaseError> {
        let id = id.to_owned();
        let found = self
            .db
            .read(move |tx| {
                let id = id.clone();
                Box::pin(async move { store::revocation(tx, &id).await })
            })
            .await?;
        if let Some(revocation) = found {
            self.apply(&[revocation]);
        }
        Ok(())
    }

    /// Reads all roles and revocations.
    pub(crate) async fn reload(&self) -> Result<(), DatabaseError> {
        let (mut directory, revocations) = self
            .db
            .read(|tx| {
                Box::pin(async move {
                    let directory = store::role_directory(tx).await?;
                    let revocations = store::live_revocations(tx).await?;
                    Ok::<_, DatabaseError>((directory, revocations))
                })
            })
            .await?;
        let current = self.roles.load();
        directory.version = current.version;
        if directory != **current {
            directory.version += 1;
            self.roles.store(Arc::new(directory));
        }
        self.apply(&revocations);
        self.revocations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .forget_expired(self.db.clock().now());
        Ok(())
    }

    /// Makes revocations known in this process, after they were committed.
    pub(crate) fn apply(&self, revocations: &[Revocation]) {
        let mut known = self.revocations.write().unwrap_or_else(PoisonError::into_inner);
        for revocation in revocations {
            known.add(revocation);
        }
    }

    /// Seals and opens what is kept secret.
    pub(crate) fn vault(&self) -> Arc<Vault> {
        self.vault.clone()
    }

    pub(crate) fn roles(&self) -> Arc<RoleDirectory> {
        self.roles.load_full()
    }

    /// Signs what was decided.
    ///
    /// # Errors
    /// 400 when it is too much for one token.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, Fault> {
        claims.sign(&self.keys.load()).map_err(|error| {
            Fault::bad_request(format!(
                "There are too many roles, groups or access rules for one token ({error}). Ask \
                 for a narrower scope."
            ))
        })
    }

    /// Signs what was proven so far.
    pub(crate) fn sign_receipt(&self, receipt: &Receipt) -> Option<String> {
        receipt.sign(&self.keys.load())
    }

    /// What a receipt says that has not run out.
    pub(crate) fn read_receipt(&self, text: &str, now: Timestamp) -> Option<Receipt> {
        Receipt::read(text, &self.keys.load()).filter(|receipt| receipt.expires_at > now)
    }

    /// What a good token says, with the form that services see.
    ///
    /// # Errors
    /// 401 when it is not good; 503 when revocations have not been heard of for too long.
    pub(crate) fn check(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<(Arc<Claims>, Arc<Token>), Fault> {
        let refused = || Fault::unauthorized("The request you have made requires authentication.");
        if self.freshness() == Freshness::Unknown {
            return Err(Fault::unavailable(
                "Tokens cannot be checked: this server has not been able to learn of revoked \
                 tokens for too long. Try another server, or later.",
            )
            .retry_after(10));
        }
        let (claims, token) = self.checked(text).ok_or_else(refused)?;
        if claims.expires_at <= now {
            return Err(refused());
        }
        let revoked =
            self.revocations.read().unwrap_or_else(PoisonError::into_inner).covers(&claims);
        // A scoped token whose every role was deleted has nothing left to stand for.
        let hollow = claims.scope != Scope::Unscoped && token.roles.is_empty();
        if revoked || hollow {
            return Err(refused());
        }
        Ok((claims, token))
    }

    /// Sets after how long without news of revocations tokens are refused.
    pub(crate) fn refuse_after(&self, age: Duration) {
        self.refuse_after.store(age.as_secs(), Ordering::Relaxed);
    }

    fn freshness(&self) -> Freshness {
        let heard_at = *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        let refuse_after = Duration::from_secs(self.refuse_after.load(Ordering::Relaxed));
        heard_at.map_or(Freshness::Fresh, |at| freshness(at.elapsed(), refuse_after))
    }

    fn checked(&self, text: &str) -> Option<(Arc<Claims>, Arc<Token>)> {
        let roles = self.roles.load();
        let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let cached = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(&hash).map(|checked| {
                (checked.claims.clone(), checked.token.clone(), checked.roles_version)
            })
        };
        let claims = match cached {
            Some((claims, token, version)) if version == roles.version => {
                return Some((claims, token));
            }
            Some((claims, _, _)) => claims,
            None => match Claims::read(text, &self.keys.load()) {
                Ok(claims) => Arc::new(claims),
                Err(reason) => {
                    tracing::debug!(%reason, "a token was refused");
                    return None;
                }
            },
        };
        let token = Arc::new(as_token(&claims, &roles));
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_ENTRIES {
            // Rare, and cheaper than keeping an order: everybody pays one signature again.
            cache.clear();
        }
        cache.insert(
            hash,
            Checked { claims: claims.clone(), token: token.clone(), roles_version: roles.version },
        );
        Some((claims, token))
    }
}

impl TokenVerifier for Tokens {
    fn verify(&self, text: &str, now: Timestamp) -> Result<Arc<Token>, Fault> {
        self.check(text, now).map(|(_, token)| token)
    }

    fn may_write(&self) -> Result<(), Fault> {
        match self.freshness() {
            Freshness::Fresh => Ok(()),
            Freshness::Stale | Freshness::Unknown => Err(Fault::unavailable(
                "This server has not been able to learn of revoked tokens for a minute, so it \
                 answers questions only. Nothing was changed. Try another server, or later.",
            )
            .retry_after(10)),
        }
    }
}

/// How far what is known of revocations can be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Freshness {
    Fresh,
    Stale,
    Unknown,
}

fn freshness(age: Duration, refuse_after: Duration) -> Freshness {
    match age {
        age if age > refuse_after => Freshness::Unknown,
        age if age <= READ_ONLY_AFTER => Freshness::Fresh,
        _ => Freshness::Stale,
    }
}

fn as_token(claims: &Claims, roles: &RoleDirectory) -> Token {
    let (project, domain, system) = match &claims.scope {
        Scope::Unscoped => (None, None, false),
        Scope::Project(project, domain) => (
            Some(TokenProject { id: project.id.clone(), domain_id: domain.id.clone(), name: None }),
            None,
            false,
        ),
        Scope::Domain(domain) => (None, Some(domain.id.clone()), false),
        Scope::System => (None, None, true),
    };
    let mut audit_ids = vec![claims.audit_id.to_string()];
    audit_ids.extend(claims.chain_id.map(|chain| chain.to_string()));
    Token {
        user_id: claims.user.id.clone(),
        user_name: None,
        user_domain_id: claims.user_domain.id.clone(),
        project,
        domain,
        system,
        roles: roles.expand(&claims.roles),
        methods: claims.methods.names(),
        issued_at: claims.issued_at,
        expires_at: claims.expires_at,
        audit_ids,
        delegation: claims.basis.delegation(&claims.user.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_known_ages_into_reads_only_and_then_into_nothing() {
        let after = |age, refuse| freshness(Duration::from_secs(age), Duration::from_secs(refuse));
        assert_eq!(after(60, 900), Freshness::Fresh);
        assert_eq!(after(61, 900), Freshness::Stale);
        assert_eq!(after(901, 900), Freshness::Unknown);
        assert_eq!(after(901, 3600), Freshness::Stale);
        assert_eq!(after(31, 30), Freshness::Unknown);
        let place = database::test_support::TestDatabase::sqlite(&[crate::MIGRATIONS]).await;
        let tokens = Tokens::open(&place.db, &KeySource::Ephemeral).await.unwrap();
        let status = |result: Result<(), Fault>| result.map_err(|fault| fault.status());
        let ask = || tokens.check("x", Timestamp(0)).map(|_| ()).map_err(|fault| fault.status());
        assert_eq!((status(tokens.may_write()), ask()), (Ok(()), Err(401)));
        for (age, write, read) in [(10, Ok(()), 401), (100, Err(503), 401), (1000, Err(503), 503)] {
            let Some(at) = Instant::now().checked_sub(Duration::from_secs(age)) else {
                continue; // The machine has just been started.
            };
            *tokens.heard_at.lock().unwrap() = Some(at);
            assert_eq!((status(tokens.may_write()), ask()), (write, Err(read)), "{age} s");
        }
        tokens.refuse_after(Duration::from_secs(3600));
        if tokens.freshness() == Freshness::Stale {
            assert_eq!(ask(), Err(401), "an operator may choose availability");
        }
    }
}
