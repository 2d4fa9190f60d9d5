//! What can be done with consumers, and the way to an access token.

use std::time::Duration;

use cloud_types::{Fault, ProjectId, RoleId, UserId};
use database::{BoxFuture, DatabaseError, JournalEntry, ObjectLock, Tx};
use rand::Rng as _;
use serde_json::{Value, json};
use service_kit::{Ctx, Filters, Target};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::{ACCESS, AccessToken, Authorised, CONSUMER, Consumer, RequestToken};
use super::signature::Parameters;
use super::store;
use crate::catalog::service::{Entry, Removed, Rules};
use crate::role::model::Role;
use crate::token::service::{GONE, Proven, revoke};
use crate::token::store::{Granted, roles_in_scope};
use crate::token::{Methods, OauthBasis, RevocationKind, Stamp};
use crate::vault::{Stored, Vault};
use crate::{Identity, project, role, wire};

/// How long a person has to answer, as upstream.
const REQUEST_LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// How long the answer holds, as upstream.
const ACCESS_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Letters of a verifier: people may have to copy it. 62^8 in eight hours is enough.
const VERIFIER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const VERIFIER_LENGTH: usize = 8;

impl Entry for Consumer {
    const KIND: &'static str = "consumer";
    const PLURAL: &'static str = "consumers";
    const PREFIX: &'static str = "/OS-OAUTH1";
    const FILTERS: &'static [&'static str] = &[];
    const RULES: Rules = Rules {
        get: "identity:get_consumer",
        list: "identity:list_consumers",
        create: "identity:create_consumer",
        update: "identity:update_consumer",
        delete: "identity:delete_consumer",
    };
    fn id(&self) -> &str {
        &self.id
    }
    fn view(&self, ctx: &Ctx) -> Value {
        Consumer::view(self, ctx)
    }
    fn get<'c>(tx: &'c mut Tx, id: &'c str) -> BoxFuture<'c, Result<Option<Self>, DatabaseError>> {
        Box::pin(store::consumer(tx, id))
    }
    fn all(tx: &mut Tx) -> BoxFuture<'_, Result<Vec<Self>, DatabaseError>> {
        Box::pin(store::consumers(tx))
    }
    fn put<'c>(&'c self, tx: &'c mut Tx, _new: bool) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move { Ok(store::put_consumer(tx, self).await?) })
    }
    fn remove<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, Removed> {
        Box::pin(async move {
            store::delete_consumer(tx, &self.id).await?;
            let kind = RevocationKind::OauthConsumer;
            Ok(vec![revoke(tx, kind, &self.id, "", GONE).await?])
        })
    }
}

/// 32 random hexadecimal digits, as identifiers and secrets have upstream.
pub(crate) fn random_hex() -> String {
    Uuid::new_v4().simple().to_string()
}

fn verifier() -> Zeroizing<String> {
    let mut random = rand::rng();
    let pick = |_| char::from(VERIFIER[random.random_range(0..VERIFIER.len())]);
    Zeroizing::new((0..VERIFIER_LENGTH).map(pick).collect())
}

fn journal(tx: &mut Tx, action: &'static str, token: &AccessToken) {
    let shown = Some(json!({
        "consumer_id": token.consumer_id,
        "authorizing_user_id": token.user_id,
        "roles": token.roles,
    }));
    let (before, after) = if action == "create" { (None, shown) } else { (shown, None) };
    tx.journal(JournalEntry {
        kind: "access_token",
        id: token.id.clone(),
        project: Some(token.project_id.clone()),
        action,
        before,
        after,
    });
}

/// The same words for a consumer that is unknown and a signature that is wrong.
fn not_signed() -> Fault {
    Fault::unauthorized("The request is not signed by a consumer that is known here.")
}

fn over() -> Fault {
    Fault::unauthorized("The request token has expired. Ask for a new one.")
}

/// A signed `POST`, as far as its signature covers it.
#[derive(Clone)]
pub(crate) struct Signed {
    pub parameters: Parameters,
    pub url: String,
    pub query: Filters,
}

impl Signed {
    fn is_signed(
        &self,
        vault: &Vault,
        consumer: &Consumer,
        token_secret: &str,
    ) -> Result<bool, Fault> {
        let secret = consumer.opened(vault)?;
        let (parameters, url, query) = (&self.parameters, &self.url, &self.query.0);
        Ok(parameters.are_signed("POST", url, query, &secret, token_secret))
    }
}

/// A role of a request, by id or name.
#[derive(Clone, Debug)]
pub(crate) enum WantedRole {
    Id(String),
    Name(String),
}

fn no_access(id: &str) -> Fault {
    wire::not_found("access token", id)
}

fn access_of<'t>(user: &UserId, token: &'t AccessToken) -> Result<&'t AccessToken, Fault> {
    if token.user_id == *user { Ok(token) } else { Err(no_access(&token.id)) }
}

impl Identity {
    /// A consumer asks to act for somebody in a project.
    pub(crate) async fn request_token(
        &self,
        ctx: &Ctx,
        signed: Signed,
        project: String,
    ) -> Result<RequestToken, Fault> {
        let consumer = signed.parameters.required("oauth_consumer_key")?.to_owned();
        let project: ProjectId = wire::id("project", &project)?;
        let vault = self.tokens.vault();
        self.change(ctx, move |tx| {
            let (signed, consumer, project) = (signed.clone(), consumer.clone(), project.clone());
            let vault = vault.clone();
            Box::pin(async move {
                let consumer = store::consumer(tx, &consumer).await?.ok_or_else(not_signed)?;
                if !signed.is_signed(&vault, &consumer, "")? {
                    return Err(not_signed());
                }
                if project::store::get(tx, &project).await?.is_none() {
                    return Err(wire::not_found("project", &project));
                }
                let token = RequestToken {
                    id: random_hex(),
                    secret: Zeroizing::new(random_hex()),
                    consumer_id: consumer.id,
                    project_id: project,
                    expires_at: tx.now().after(REQUEST_LIFETIME),
                    authorised: None,
                };
                store::add_request(tx, &vault, &token).await?;
                Ok((token, Vec::new()))
            })
        })
        .await
    }

    /// The caller lets the consumer act for them, with roles that they have in the project.
    pub(crate) async fn authorise_request(
        &self,
        ctx: &Ctx,
        id: &str,
        wanted: Vec<WantedRole>,
    ) -> Result<Zeroizing<String>, Fault> {
        ctx.authorise("identity:authorize_request_token", &Target::none())?;
        let token = ctx.token()?;
        if token.delegation.is_delegated() || token.delegation.application_credential.is_some() {
            return Err(Fault::forbidden(
                "Cannot authorize a request token with a token issued via delegation.",
            ));
        }
        let (id, user) = (id.to_owned(), token.user_id.clone());
        let (directory, vault) = (self.tokens.roles(), self.tokens.vault());
        self.change(ctx, move |tx| {
            let (id, user, wanted) = (id.clone(), user.clone(), wanted.clone());
            let (directory, vault) = (directory.clone(), vault.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("request_token", &id)]).await?;
                let request = store::request(tx, &vault, &id).await?;
                let request = request.ok_or_else(|| wire::not_found("request token", &id))?;
                if request.expires_at < tx.now() {
                    return Err(over());
                }
                let project = project::store::get(tx, &request.project_id).await?;
                let project =
                    project.ok_or_else(|| wire::not_found("project", &request.project_id))?;
                let granted = Granted::Project(&project.id, &project.domain_id);
                let held = directory.expand(&roles_in_scope(tx, &user, &granted).await?);
                let mut roles: Vec<RoleId> = Vec::new();
                for role in &wanted {
                    let has = held.iter().find(|held| match role {
                        WantedRole::Id(id) => held.id.as_str() == id,
                        WantedRole::Name(name) => held.name == *name,
                    });
                    match has {
                        Some(role) if !roles.contains(&role.id) => roles.push(role.id.clone()),
                        Some(_) => {}
                        None => {
                            return Err(Fault::unauthorized(
                                "authorizing user does not have role required",
                            ));
                        }
                    }
                }
                let verifier = verifier();
                let authorised = Authorised { user_id: user, roles, verifier: verifier.clone() };
                store::authorise(tx, &id, &authorised).await?;
                Ok((verifier, Vec::new()))
            })
        })
        .await
    }

    /// The consumer exchanges an authorised request token for an access token.
    pub(crate) async fn access_token(
        &self,
        ctx: &Ctx,
        signed: Signed,
    ) -> Result<AccessToken, Fault> {
        let consumer = signed.parameters.required("oauth_consumer_key")?.to_owned();
        let request = signed.parameters.required("oauth_token")?.to_owned();
        let verifier = Zeroizing::new(signed.parameters.required("oauth_verifier")?.to_owned());
        let vault = self.tokens.vault();
        self.change(ctx, move |tx| {
            let (signed, consumer, vault) = (signed.clone(), consumer.clone(), vault.clone());
            let (request, verifier) = (request.clone(), verifier.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("request_token", &request)]).await?;
                let found = store::request(tx, &vault, &request).await?;
                let found = found.ok_or_else(|| wire::not_found("request token", &request))?;
                if found.expires_at < tx.now() {
                    return Err(over());
                }
                let consumer = store::consumer(tx, &consumer)
                    .await?
                    .filter(|consumer| consumer.id == found.consumer_id)
                    .ok_or_else(not_signed)?;
                if !signed.is_signed(&vault, &consumer, &found.secret)? {
                    return Err(not_signed());
                }
                let authorised = found.authorised.ok_or_else(|| {
                    Fault::unauthorized("Request Token does not have an authorizing user id.")
                })?;
                if !same(&authorised.verifier, &verifier) {
                    return Err(Fault::unauthorized(
                        "Provided verifier does not match stored verifier",
                    ));
                }
                if !store::use_request(tx, &request).await? {
                    return Err(wire::not_found("request token", &request));
                }
                let (id, secret) = (random_hex(), Zeroizing::new(random_hex()));
                let sealed = vault.seal(tx, &format!("{ACCESS}{id}"), &secret)?;
                let token = AccessToken {
                    id,
                    secret: Stored::Sealed(sealed.bytes),
                    made: Some(secret),
                    consumer_id: consumer.id,
                    project_id: found.project_id,
                    user_id: authorised.user_id,
                    roles: authorised.roles,
                    expires_at: tx.now().after(ACCESS_LIFETIME),
                };
                store::add_access(tx, &token).await?;
                journal(tx, "create", &token);
                Ok((token, Vec::new()))
            })
        })
        .await
    }

    /// Who let the consumer act for them that signed this request with an access token.
    pub(crate) async fn prove_access_token(&self, signed: Signed) -> Result<Proven, Fault> {
        let consumer = signed.parameters.required("oauth_consumer_key")?.to_owned();
        let access = signed.parameters.required("oauth_token")?.to_owned();
        let found = self
            .look(move |tx| {
                let (consumer, access) = (consumer.clone(), access.clone());
                Box::pin(async move {
                    let consumer = store::consumer(tx, &consumer).await?;
                    let token = store::access(tx, &access).await?;
                    Ok::<_, Fault>(consumer.zip(token))
                })
            })
            .await?;
        let (now, vault) = (self.kit.clock.now(), self.tokens.vault());
        let (consumer, token) = found
            .filter(|(consumer, token)| token.consumer_id == consumer.id && now < token.expires_at)
            .ok_or_else(not_signed)?;
        if !signed.is_signed(&vault, &consumer, &token.opened(&vault)?)? {
            return Err(not_signed());
        }
        let mut proven = Proven::by(token.user_id, Methods::OAUTH1);
        proven.ends_by = Some(token.expires_at);
        proven.basis.oauth = Some(OauthBasis {
            consumer: Stamp::new(consumer.id, 0),
            access_token: Stamp::new(token.id, 0),
        });
        Ok(proven)
    }

    pub(crate) async fn access_tokens(
        &self,
        ctx: &Ctx,
        user: &UserId,
    ) -> Result<Vec<AccessToken>, Fault> {
        ctx.authorise("identity:list_access_tokens", &Target::none())?;
        let user = user.clone();
        self.look(move |tx| {
            let user = user.clone();
            Box::pin(async move { Ok(store::access_of_user(tx, &user).await?) })
        })
        .await
    }

    pub(crate) async fn access_token_of(
        &self,
        ctx: &Ctx,
        rule: &str,
        user: &UserId,
        id: &str,
    ) -> Result<AccessToken, Fault> {
        ctx.authorise(rule, &Target::none())?;
        let (user, id) = (user.clone(), id.to_owned());
        self.look(move |tx| {
            let (user, id) = (user.clone(), id.clone());
            Box::pin(async move {
                let token = store::access(tx, &id).await?.ok_or_else(|| no_access(&id))?;
                access_of(&user, &token).cloned()
            })
        })
        .await
    }

    /// The roles that an access token carries.
    pub(crate) async fn access_token_roles(
        &self,
        ctx: &Ctx,
        rule: &str,
        user: &UserId,
        id: &str,
    ) -> Result<Vec<Role>, Fault> {
        let token = self.access_token_of(ctx, rule, user, id).await?;
        self.look(move |tx| {
            let roles = token.roles.clone();
            Box::pin(async move {
                let mut found = Vec::new();
                for id in &roles {
                    found.extend(role::store::get(tx, id).await?);
                }
                Ok(found)
            })
        })
        .await
    }

    pub(crate) async fn delete_access_token(
        &self,
        ctx: &Ctx,
        user: &UserId,
        id: &str,
    ) -> Result<(), Fault> {
        ctx.authorise("identity:delete_access_token", &Target::none())?;
        let (user, id) = (user.clone(), id.to_owned());
        self.change(ctx, move |tx| {
            let (user, id) = (user.clone(), id.clone());
            Box::pin(async move {
                let token = store::access(tx, &id).await?.ok_or_else(|| no_access(&id))?;
                access_of(&user, &token)?;
                store::delete_access(tx, &id).await?;
                journal(tx, "delete", &token);
                let kind = RevocationKind::OauthToken;
                Ok(((), vec![revoke(tx, kind, &id, "", GONE).await?]))
            })
        })
        .await
    }

    /// A consumer to be, with the secret that is shown once.
    pub(crate) async fn create_consumer(
        &self,
        ctx: &Ctx,
        description: Option<String>,
    ) -> Result<Consumer, Fault> {
        let (id, secret) = (random_hex(), Zeroizing::new(random_hex()));
        let (now, name) = (self.kit.clock.now(), format!("{CONSUMER}{id}"));
        let sealed = self.tokens.vault().seal_at(now, &name, secret.as_bytes())?;
        let consumer =
            Consumer { id, description, secret: Stored::Sealed(sealed.bytes), made: Some(secret) };
        self.add_entry(ctx, consumer).await
    }
}

/// Compares in constant time.
fn same(a: &str, b: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    a.as_bytes().ct_eq(b.as_bytes()).into()
}
