//! Identity, as Keystone v3 offers it: who is who, who may act where, and where the services are.
//!
//! | folder | what |
//! |---|---|
//! | [`token`] | format, keys, verification without I/O, revocation; `/v3/auth` |
//! | `user`, `group`, `project`, `domain`, `role` | what they are called, and their routes |
//! | `assignment` | who has which role where |
//! | `catalog` | regions, services, endpoints |
//! | `endpoint_filter` | which endpoints the tokens of a project show |
//! | `policy` | policies kept for services outside, and which endpoint follows which |
//! | `limit` | registered limits, and those of projects and domains |
//! | `oauth1` | programs that act for people |
//! | `domain_config` | what a domain sets differently |
//! | `rules` | who may do what |
//! | `credential`, `ec2` | secrets kept for users; EC2 and S3 |
//! | `application_credential`, `trust` | acting with a part of somebody's rights |
//! | `vault` | secrets that are kept, sealed |
//! | `password` | hashing within limits |
//! | `compliance`, `throttle` | what is asked of passwords and accounts; how often they may be guessed |
//! | `identity_provider`, [`mapping`], `federation`, `openid` | single sign-on |
//! | [`directory`] | LDAP and Active Directory as a domain's users |
//! | `bootstrap` | the first administrator, roles and catalogue; a way back in |
//! | [`import`] | the people of a Keystone |
//!
//! Start-up: [`bootstrap`] (idempotent), [`Tokens::open`], [`Identity::new`], [`routes`], and one
//! task that runs [`Identity::run`].

mod application_credential;
mod assignment;
mod bootstrap;
mod catalog;
mod compliance;
mod credential;
pub mod directory;
mod discovery;
mod domain;
mod domain_config;
mod ec2;
mod endpoint_filter;
mod federation;
mod fields;
mod filter;
mod group;
mod identity_provider;
pub mod import;
mod key_files;
mod limit;
pub mod mapping;
mod migrations;
mod oauth1;
mod openid;
mod options;
mod password;
mod policy;
mod project;
mod role;
mod rules;
mod service_provider;
pub mod standing;
mod target;
mod throttle;
pub mod token;
mod trust;
mod user;
mod vault;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use cloud_types::Fault;
use database::{BoxFuture, DatabaseError, Origin, Tx};
use service_kit::{Ctx, Kit, Routes, Service, idempotency};
use tokio_util::sync::CancellationToken;

pub use bootstrap::{
    BootstrapConfig, BootstrapError, Bootstrapped, DemoConfig, RECOVERY_DOMAIN, RECOVERY_LASTS,
    Recovered, bootstrap, recover, well_known_role,
};
pub use compliance::{ComplianceRules, SecurityCompliance};
pub use key_files::KeyError;
pub use limit::model::EnforcementModel;
pub use migrations::MIGRATIONS;
pub use password::{HashParams, PasswordPool};
pub use rules::POLICY;
pub use throttle::LoginLimits;
pub use token::{KeySource, Rotated, Tokens, rotate_token_keys};
pub use vault::{Resealed, reseal, rotate_credential_keys};

use token::Revocation;
use token::described::Descriptions;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// How long a token lives. A token got from a token ends with the first one.
    pub token_lifetime: Duration,
    /// How passwords are hashed from now on; older hashes stay valid.
    pub hashing: HashParams,
    /// How many hashes are computed at once; 0 has each request compute its own, on its thread.
    pub hashing_workers: usize,
    /// How many more wait for their turn; beyond it the answer is 429.
    pub hashing_queue: usize,
    /// How often logins may fail.
    pub login_limits: LoginLimits,
    /// What is asked of passwords and accounts.
    pub compliance: ComplianceRules,
    /// How many levels of projects may be below a domain.
    pub max_project_tree_depth: usize,
    /// How limits add up over a tree of projects.
    pub limit_model: EnforcementModel,
    /// After so long without news of revocations tokens are refused; after a minute nothing is
    /// changed any more.
    pub feed_refuse_after: Duration,
    /// How many steps of half a minute before the current one have a code that is still taken.
    pub totp_previous_windows: u8,
    /// For how many minutes a group membership that an identity provider vouched for is kept after
    /// a login, where the provider does not say; zero: not at all.
    pub authorization_ttl: u32,
    /// How long after the last time an account system is asked again about somebody who has live
    /// tokens.
    pub recheck: Duration,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        IdentityConfig {
            token_lifetime: Duration::from_secs(3600),
            hashing: HashParams::default(),
            // One core stays free for everything else while a flood of logins is hashed.
            hashing_workers: std::thread::available_parallelism()
                .map_or(1, |cores| cores.get().saturating_sub(1).max(1)),
            hashing_queue: 128,
            login_limits: LoginLimits::default(),
            compliance: ComplianceRules::default(),
            max_project_tree_depth: 5,
            limit_model: EnforcementModel::Flat,
            feed_refuse_after: Duration::from_secs(15 * 60),
            totp_previous_windows: 1,
            authorization_ttl: 0,
            // With the time between looks and the provider's answer: within a minute.
            recheck: Duration::from_secs(30),
        }
    }
}

/// The identity service. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    kit: Kit,
    tokens: Arc<Tokens>,
    descriptions: Arc<Descriptions>,
    passwords: Arc<PasswordPool>,
    rules: Arc<ComplianceRules>,
    throttle: Arc<throttle::Throttle>,
    providers: Arc<openid::provider::Providers>,
    directories: Arc<directory::service::DirectoryPool>,
    config: Arc<IdentityConfig>,
}

impl Identity {
    /// The service on a kit whose verifier is `tokens`.
    pub fn new(kit: Kit, tokens: Arc<Tokens>, config: IdentityConfig) -> Identity {
        tokens.refuse_after(config.feed_refuse_after);
        Identity {
            passwords: Arc::new(PasswordPool::new(
                config.hashing,
                config.hashing_workers,
                config.hashing_queue,
            )),
            rules: Arc::new(config.compliance.clone()),
            throttle: throttle::Throttle::new(config.login_limits),
            descriptions: Arc::default(),
            kit,
            tokens,
            providers: Arc::default(),
            directories: Arc::default(),
            config: Arc::new(config),
        }
    }

    /// Keeps this process's knowledge of roles and revocations fresh, and sweeps what is over,
    /// until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        if let Err(fault) = vault::seal_plain(&self.kit.db, &self.tokens.vault()).await {
            tracing::warn!(%fault, "secrets of an earlier release could not be sealed");
        }
        let follower = self.tokens.clone().run(shutdown.clone());
        let sweeper = async {
            for minute in 1_u64.. {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(Duration::from_secs(60)) => {}
                }
                if let Err(error) = self.remove_ended().await {
                    tracing::warn!(%error, "a recovery's administrator could not be removed");
                }
                if !minute.is_multiple_of(10) {
                    continue;
                }
                if let Err(error) = self.disable_inactive().await {
                    tracing::warn!(%error, "inactive users could not be disabled");
                }
                let swept = self
                    .kit
                    .db
                    .transact(&Origin::system("identity-sweeper"), |tx| {
                        Box::pin(async move {
                            token::store::sweep_revocations(tx).await?;
                            oauth1::store::sweep(tx).await?;
                            federation::store::sweep(tx).await?;
                            directory::store::sweep(tx).await?;
                            service_kit::idempotency::expire(tx).await
                        })
                    })
                    .await;
                if let Err(error) = swept {
                    let error: DatabaseError = error;
                    tracing::warn!(%error, "expired revocations and keys could not be removed");
                }
            }
        };
        let accounts = async {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(federation::sessions::LOOK_EVERY) => {}
                }
                if let Err(fault) = self.recheck_accounts().await {
                    tracing::warn!(%fault, "live logins could not be looked at again");
                }
            }
        };
        tokio::join!(follower, sweeper, accounts);
    }

    /// Asks account systems about everybody who has live tokens and is due, and ends the tokens of
    /// those who were disabled there. [`Identity::run`] does so all the time.
    ///
    /// # Errors
    /// The database's.
    pub async fn recheck_accounts(&self) -> Result<(), Fault> {
        let (logins, people) =
            tokio::join!(federation::sessions::round(self), self.recheck_directories());
        logins.and(people)
    }

    /// A change on behalf of a request. Revocations that it makes hold in this process as soon as
    /// it returns; other processes hear of them by the feed.
    async fn change<T, F>(&self, ctx: &Ctx, closure: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<(T, Vec<Revocation>), Fault>>
            + Send
            + Sync
            + 'static,
    {
        let (closure, asker) = (Arc::new(closure), ctx.clone());
        let (value, revocations) = self
            .kit
            .transact(ctx, move |tx| {
                let (closure, asker) = (closure.clone(), asker.clone());
                Box::pin(async move {
                    let (value, revocations) = closure(tx).await?;
                    idempotency::remember(tx, &asker, &value).await?;
                    Ok::<_, Fault>((value, revocations))
                })
            })
            .await?;
        self.changed(&revocations);
        Ok(value)
    }

    /// What was committed holds in this process from now on.
    fn changed(&self, revocations: &[Revocation]) {
        self.tokens.apply(revocations);
        self.descriptions.forget();
    }

    /// A look at the database.
    async fn look<T, F>(&self, closure: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync + 'static,
    {
        self.kit.db.read(closure).await
    }
}

/// The routes of the service.
pub fn routes(identity: Identity) -> Routes {
    Routes::new(Service::Identity)
        .merge(discovery::api::routes())
        .merge(token::api::routes())
        .merge(user::api::routes())
        .merge(group::api::routes())
        .merge(project::api::routes())
        .merge(domain::api::routes())
        .merge(role::api::routes())
        .merge(assignment::api::routes())
        .merge(catalog::api::routes())
        .merge(endpoint_filter::api::routes())
        .merge(policy::api::routes())
        .merge(limit::api::routes())
        .merge(domain_config::api::routes())
        .merge(oauth1::api::routes())
        .merge(credential::api::routes())
        .merge(ec2::api::routes())
        .merge(application_credential::api::routes())
        .merge(trust::api::routes())
        .merge(mapping::api::routes())
        .merge(identity_provider::api::routes())
        .merge(service_provider::api::routes())
        .merge(federation::api::routes())
        .with_state(identity)
}

#[cfg(test)]
mod tests;
