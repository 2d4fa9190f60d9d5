//! Issuing, describing and revoking tokens.

mod delegated;
mod prove;
mod roles;
mod scope;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloud_types::{Fault, RoleId, Timestamp};
use database::{DatabaseError, Origin, Tx};
use serde_json::{Value, json};
use service_kit::{Ctx, Target};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use self::scope::{add_catalog, assemble, user_and_domain, view_of};
use super::format::{AuditId, Claims, Methods, Stamp};
use super::model::{Login, TokenView, WantedScope};
use super::receipt::Receipt;
use super::revocation::{Revocation, RevocationKind};
use super::store;
use crate::compliance::factors;
use crate::{Identity, application_credential};

pub(crate) use self::prove::Proven;
pub(crate) use self::roles::{RoleName, effective_roles, find_roles};
pub(crate) use self::scope::{find_domain, find_user};

/// Revocations are kept at least this long: longer than any token that an earlier configuration
/// may have issued, and the time for which services may still ask about it.
const REVOCATION_KEPT: Duration = Duration::from_secs(49 * 3600);

/// How long after its end a service may still ask about a token.
const EXPIRED_FOR: Duration = Duration::from_secs(24 * 3600);

/// A first good serial that no object reaches: what was deleted is never good again.
pub(crate) const GONE: u64 = u64::MAX >> 1;

/// How long a receipt is good: long enough to find the telephone.
const RECEIPT_LIFETIME: Duration = Duration::from_secs(300);

/// What a login comes to.
pub(crate) enum Answered {
    Token(Issued),
    /// More is asked of this user.
    Receipt(Issued),
}

/// A signed token, or receipt, and its body.
pub(crate) struct Issued {
    pub text: String,
    pub body: Value,
}

pub(crate) fn refused() -> Fault {
    Fault::unauthorized("The request you have made requires authentication.")
}

impl Identity {
    /// A login, or another scope for a token.
    pub(crate) async fn issue(
        &self,
        login: Login,
        with_catalog: bool,
        source: Option<IpAddr>,
        receipt: Option<String>,
    ) -> Result<Answered, Fault> {
        let Login { proofs, scope } = login;
        let mut proven: Option<Proven> = None;
        for proof in proofs {
            let next = self.prove(proof, source).await?;
            proven = Some(match proven {
                None => next,
                Some(before) => before.and(next)?,
            });
        }
        let mut proven = proven.ok_or_else(refused)?;
        if let Some(receipt) = self.further_factors(&mut proven, receipt).await? {
            return Ok(Answered::Receipt(receipt));
        }
        self.issue_for(proven, scope, with_catalog).await.map(Answered::Token)
    }

    /// Adds what a receipt says was proven before. Answers another receipt when the user's rules
    /// ask for more.
    async fn further_factors(
        &self,
        proven: &mut Proven,
        receipt: Option<String>,
    ) -> Result<Option<Issued>, Fault> {
        let id = proven.user.clone();
        let (user, domain) = self
            .look(move |tx| {
                let id = id.clone();
                Box::pin(async move { user_and_domain(tx, &id).await })
            })
            .await
            .map_err(|fault| if fault.status() == 404 { refused() } else { fault })?;
        let now = self.kit.clock.now();
        if let Some(text) = receipt {
            // Whatever is wrong with a receipt, there is none: it says nothing about itself.
            let good = self
                .tokens
                .read_receipt(&text, now)
                .filter(|receipt| receipt.user.id == user.id && receipt.user.serial == user.serial);
            let good = good.ok_or_else(|| Fault::unauthorized("Could not find auth receipt."))?;
            proven.methods = proven.methods.and(good.methods);
        }
        let rules = factors::rules(&user.options);
        if factors::satisfied(&rules, proven.methods) {
            return Ok(None);
        }
        // A code counts once, also when more is asked after it.
        self.use_codes(std::mem::take(&mut proven.totp)).await?;
        let receipt = Receipt {
            user: Stamp::new(user.id.clone(), user.serial),
            methods: proven.methods,
            issued_at: now,
            expires_at: now.after(RECEIPT_LIFETIME),
        };
        let text = self.tokens.sign_receipt(&receipt);
        let text = text.ok_or_else(|| Fault::internal("The receipt could not be written."))?;
        let body = json!({
            "receipt": {
                "methods": receipt.methods.names(),
                "user": {
                    "id": user.id,
                    "name": user.name,
                    "domain": {"id": domain.id, "name": domain.name},
                },
                "expires_at": receipt.expires_at.rfc3339_micros(),
                "issued_at": receipt.issued_at.rfc3339_micros(),
            },
            "required_auth_methods": rules,
        });
        Ok(Some(Issued { text, body }))
    }

    /// Marks codes of authenticator apps as used; 401 when one was already.
    async fn use_codes(&self, codes: Vec<(String, i64)>) -> Result<(), Fault> {
        if codes.is_empty() {
            return Ok(());
        }
        self.kit
            .db
            .transact(&Origin::system("authentication"), move |tx| {
                let codes = codes.clone();
                Box::pin(async move { scope::use_codes(tx, &codes).await })
            })
            .await
    }

    /// A token for somebody who was proven.
    pub(crate) async fn issue_for(
        &self,
        proven: Proven,
        wanted: WantedScope,
        with_catalog: bool,
    ) -> Result<Issued, Fault> {
        // What counts once is counted in the same transaction.
        let counts = !proven.totp.is_empty() || matches!(wanted, WantedScope::Trust(_));
        let proven = Arc::new(proven);
        let given = proven.clone();
        let (view, parts) = if counts {
            self.kit
                .db
                .transact(&Origin::system("authentication"), move |tx| {
                    let (given, wanted) = (given.clone(), wanted.clone());
                    Box::pin(async move { assemble(tx, &given, &wanted, with_catalog).await })
                })
                .await?
        } else {
            self.look(move |tx| {
                let (given, wanted) = (given.clone(), wanted.clone());
                Box::pin(async move { assemble(tx, &given, &wanted, with_catalog).await })
            })
            .await?
        };
        let view = self.with_role_names(view, &parts.roles).await?;
        let lifetime = parts.now.after(self.config.token_lifetime);
        let ends = [parts.ends_by.map_or(lifetime, |end| end.min(lifetime))]
            .into_iter()
            .chain(view.user.standing.valid_until);
        let recovery = view.user.standing.valid_until.is_some();
        let claims = Claims {
            methods: if recovery { proven.methods.and(Methods::RECOVERY) } else { proven.methods },
            issued_at: parts.now,
            expires_at: ends.min().unwrap_or(lifetime),
            user: Stamp::new(view.user.id.clone(), view.user.serial),
            user_domain: Stamp::new(view.user_domain.id.clone(), view.user_domain.serial),
            scope: parts.scope,
            roles: parts.roles,
            audit_id: AuditId::random(),
            chain_id: proven.from.as_ref().map(|from| from.chain()),
            basis: parts.basis,
        };
        // A trust ends with any of its people.
        let others = claims.basis.trust.iter().flat_map(|trust| &trust.others);
        for person in [&claims.user.id].into_iter().chain(others.map(|(user, _)| &user.id)) {
            self.note_token_of(person, claims.expires_at).await?;
        }
        Ok(Issued { text: self.tokens.sign(&claims)?, body: view.body(&claims) })
    }

    /// Fills in role names, reading the roles again when one is newer than this process's copy.
    async fn with_role_names(
        &self,
        mut view: TokenView,
        roles: &[RoleId],
    ) -> Result<TokenView, Fault> {
        let mut directory = self.tokens.roles();
        if roles.iter().any(|role| !directory.knows(role)) {
            self.tokens.reload().await?;
            directory = self.tokens.roles();
        }
        view.roles = directory.expand(roles);
        Ok(view)
    }

    /// The body of somebody's token as JSON, for who may see it; 404 when it is not good.
    pub(crate) async fn describe(&self, ctx: &Ctx, wanted: Described<'_>) -> Result<Bytes, Fault> {
        let rule =
            if wanted.only_checks { "identity:check_token" } else { "identity:validate_token" };
        // What a service began for somebody may take longer than the token that began it.
        let asker = ctx.token()?;
        let grace = wanted.allow_expired && (asker.has_role("service") || asker.has_role("admin"));
        let now = self.kit.clock.now();
        let moment = if grace { now.before(EXPIRED_FOR) } else { now };
        let claims = self.subject(ctx, wanted.token, rule, moment)?;
        let with_catalog = wanted.with_catalog;
        let credential = claims.basis.application_credential.as_ref();
        if credential.is_some_and(|it| it.access_rules.is_some()) && !wanted.knows_access_rules {
            // Whoever asks would take the token for one without limits.
            return Err(Fault::not_found("Could not find token."));
        }
        let key = (Sha256::digest(wanted.token.as_bytes()).into(), with_catalog);
        let moment = self.descriptions.moment(self.tokens.roles().version);
        if let Some(body) = self.descriptions.get(&key, moment) {
            return Ok(body);
        }
        let about = claims.clone();
        let view = self
            .look(move |tx| {
                let claims = about.clone();
                Box::pin(async move {
                    let (user, user_domain) = user_and_domain(tx, &claims.user.id).await?;
                    let scope = view_of(tx, &claims.scope).await?;
                    let application_credential = match &claims.basis.application_credential {
                        Some(it) => {
                            application_credential::store::get(tx, &it.credential.id).await?
                        }
                        None => None,
                    };
                    let mut view = TokenView {
                        user,
                        user_domain,
                        scope,
                        roles: Vec::new(),
                        catalog: None,
                        service_providers: Vec::new(),
                        application_credential,
                    };
                    add_catalog(tx, &mut view, with_catalog).await?;
                    Ok::<_, Fault>(view)
                })
            })
            .await?;
        let view = self.with_role_names(view, &claims.roles).await?;
        let body = Bytes::from(view.body(&claims).to_string());
        self.descriptions.keep(key, moment, body.clone());
        Ok(body)
    }

    /// Ends a token.
    pub(crate) async fn revoke(&self, ctx: &Ctx, subject: &str) -> Result<(), Fault> {
        let now = self.kit.clock.now();
        let claims = self.subject(ctx, subject, "identity:revoke_token", now)?;
        let audit = claims.audit_id.to_string();
        self.change(ctx, move |tx| {
            let audit = audit.clone();
            Box::pin(async move {
                let kind = RevocationKind::Token;
                Ok(((), vec![revoke(tx, kind, &audit, "", 0).await?]))
            })
        })
        .await
    }

    fn subject(
        &self,
        ctx: &Ctx,
        text: &str,
        rule: &str,
        now: Timestamp,
    ) -> Result<Arc<Claims>, Fault> {
        let (claims, _) = self.tokens.check(text, now).map_err(|fault| match fault.status() {
            401 => Fault::not_found("Could not find token."),
            _ => fault,
        })?;
        let user = &claims.user.id;
        ctx.authorise(rule, &Target::user(user).with("token.user_id", user.as_str()))?;
        Ok(claims)
    }
}

/// How a token is asked about.
pub(crate) struct Described<'a> {
    pub token: &'a str,
    pub with_catalog: bool,
    /// Whether only the status is wanted.
    pub only_checks: bool,
    /// Whether a token that expired a while ago is still described, to a service.
    pub allow_expired: bool,
    /// Whether whoever asks checks access rules.
    pub knows_access_rules: bool,
}

/// Writes a revocation in the transaction that makes it necessary. The caller hands it to
/// `Identity::change`, so that it holds in this process at once.
pub(crate) async fn revoke(
    tx: &mut Tx,
    kind: RevocationKind,
    subject: &str,
    scope: &str,
    first_good_serial: u64,
) -> Result<Revocation, DatabaseError> {
    let revocation = Revocation {
        id: Uuid::new_v4().simple().to_string(),
        kind,
        subject: subject.to_owned(),
        scope: scope.to_owned(),
        serial: first_good_serial,
        expires_at: tx.now().after(REVOCATION_KEPT),
    };
    store::add_revocation(tx, &revocation).await?;
    Ok(revocation)
}
