//! What every service is handed: the database, who may do what, who is who, and the time.

use std::sync::Arc;
use std::time::Duration;

use cloud_types::Clock;
use database::{BoxFuture, Database, DatabaseError, Tx};

use crate::context::Ctx;
use crate::idempotency;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::rate::RateLimit;
use crate::token::TokenVerifier;

/// Limits and names that an operator may set.
#[derive(Clone, Debug)]
pub struct KitConfig {
    /// `https://cloud.example.org`: what links begin with. Unset, links repeat the scheme and the
    /// `Host` of the request.
    pub public_url: Option<String>,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-For` come from a proxy of ours.
    pub trust_forwarded: bool,
    /// Whether `/metrics` answers anybody, or only this machine.
    pub metrics_open: bool,
    /// How many requests may be under way at once; more are answered 503.
    pub max_in_flight: usize,
    /// How fast one project (or user without a project) may ask; more is answered 429.
    pub rate: RateLimit,
    /// How long the answer to somebody who asks too fast (429) is held back. A client that ignores
    /// `Retry-After` so costs no more than a request in this time for each that it has under way.
    pub hold_refusals: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency_lifetime: Duration,
    /// Names this process where it claims something, so that another can give the claims up when
    /// this one is dead.
    pub worker: String,
}

impl Default for KitConfig {
    fn default() -> Self {
        KitConfig {
            public_url: None,
            trust_forwarded: false,
            metrics_open: false,
            // Each request in flight may hold a body of 1 MiB; this bounds them to 2 GiB at worst.
            max_in_flight: 2048,
            rate: RateLimit::default(),
            hold_refusals: Duration::from_secs(1),
            idempotency_lifetime: Duration::from_secs(24 * 3600),
            worker: uuid::Uuid::new_v4().simple().to_string(),
        }
    }
}

/// What every service is handed. Cheap to clone.
#[derive(Clone)]
pub struct Kit {
    /// The database.
    pub db: Database,
    /// The rules in force.
    pub policy: Arc<Policy>,
    /// Verifies tokens.
    pub verifier: Arc<dyn TokenVerifier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Limits and names.
    pub config: Arc<KitConfig>,
    /// Counters of this process.
    pub metrics: Arc<Metrics>,
}

impl Kit {
    /// A kit on a database; the time is the database's.
    pub fn new(
        db: Database,
        policy: Policy,
        verifier: Arc<dyn TokenVerifier>,
        config: KitConfig,
    ) -> Kit {
        Kit {
            clock: db.clock(),
            db,
            policy: Arc::new(policy),
            verifier,
            config: Arc::new(config),
            metrics: Arc::new(Metrics::new()),
        }
    }

    /// A transaction on behalf of a request. Use it for everything that a mutating request
    /// changes: when the request carries an `Idempotency-Key`, the key's claim is checked and
    /// marked in the same transaction, so that the effect and the key commit together; and so is
    /// the answer, where the handler has said how it shows what the closure returns
    /// ([`Ctx::creating`]).
    ///
    /// # Errors
    /// Those of the closure and of the database; [`DatabaseError::Stale`] when another request
    /// took over the key because this one was thought dead.
    pub async fn transact<T, E, F>(&self, ctx: &Ctx, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
        F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
    {
        let Some(claim) = ctx.claim.clone() else {
            return self.db.transact(&ctx.origin(), closure).await;
        };
        let (closure, asker) = (Arc::new(closure), ctx.clone());
        self.db
            .transact(&ctx.origin(), move |tx| {
                let claim = claim.clone();
                let (closure, asker) = (closure.clone(), asker.clone());
                Box::pin(async move {
                    idempotency::mark_effect(tx, &claim).await?;
                    let made = closure(tx).await?;
                    idempotency::remember(tx, &asker, &made).await?;
                    Ok(made)
                })
            })
            .await
    }
}
