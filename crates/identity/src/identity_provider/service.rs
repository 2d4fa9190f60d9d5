//! What can be done with identity providers, their protocols and OpenID clients.

use cloud_types::{DomainId, Fault};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};
use zeroize::Zeroizing;

use super::model::{IdentityProvider, OpenidClient, Protocol};
use super::store;
use crate::domain::model::Domain;
use crate::fields::Patch;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, domain, federation, group, mapping, token, wire};

/// A new provider, or what changes of one.
#[derive(Clone, Default)]
pub(crate) struct ProviderChange {
    pub domain_id: Option<DomainId>,
    pub enabled: Option<bool>,
    pub description: Option<Option<String>>,
    pub authorization_ttl: Option<Option<u32>>,
    pub remote_ids: Option<Vec<String>>,
}

/// A new protocol, or what changes of one.
#[derive(Clone)]
pub(crate) struct ProtocolChange {
    pub mapping_id: Option<String>,
    pub remote_id_attribute: Patch<String>,
}

/// A client's secret on its way in.
pub(crate) type NewSecret = Patch<Zeroizing<String>>;

fn journal(
    tx: &mut Tx,
    kind: &'static str,
    id: &str,
    action: &'static str,
    before: Option<Value>,
    after: Option<Value>,
) {
    tx.journal(JournalEntry { kind, id: id.to_owned(), project: None, action, before, after });
}

fn no_provider(id: &str) -> Fault {
    wire::not_found("identity provider", id)
}

fn no_protocol(idp: &str, id: &str) -> Fault {
    let shown: String = id.chars().take(255).collect();
    let provider: String = idp.chars().take(255).collect();
    Fault::not_found(format!(
        "Could not find federated protocol {shown} for identity provider: {provider}."
    ))
}

async fn locked(tx: &mut Tx, id: &str) -> Result<IdentityProvider, Fault> {
    tx.lock(&[ObjectLock::new("identity_provider", id)]).await?;
    store::get(tx, id).await?.ok_or_else(|| no_provider(id))
}

/// Deletes a provider, and ends the tokens of everybody for whom it vouched. Operators choose its id
/// and may give it again: that one begins above what is ended here (`first_serial`).
pub(crate) async fn remove(tx: &mut Tx, id: &str) -> Result<Vec<Revocation>, Fault> {
    let before = store::get(tx, id).await?;
    let above = before.as_ref().map_or(1, |before| before.serial + 1);
    let revocations = end_word(tx, id, above).await?;
    store::delete(tx, id).await?;
    let before = before.as_ref().map(IdentityProvider::public);
    journal(tx, "identity_provider", id, "delete", before, None);
    Ok(revocations)
}

/// A provider's word does not count any more: the tokens that rest on it end, and so do the
/// memberships in which it kept people, with all of their tokens that may rest on those.
async fn end_word(tx: &mut Tx, id: &str, first_good: u64) -> Result<Vec<Revocation>, Fault> {
    let kept = federation::store::drop_kept_by(tx, id).await?;
    let mut revocations = group::service::end_tokens(tx, &kept).await?;
    let kind = RevocationKind::IdentityProvider;
    revocations.push(revoke(tx, kind, id, "", first_good).await?);
    Ok(revocations)
}

/// The provider's own domain, where none was named.
async fn own_domain(tx: &mut Tx, provider: &str) -> Result<DomainId, Fault> {
    let id = DomainId::random();
    let made = Domain {
        name: id.to_string(),
        description: format!("Made for the people of identity provider {provider}"),
        enabled: true,
        tags: Vec::new(),
        options: Map::new(),
        extra: Map::new(),
        serial: 0,
        generation: 1,
        created_at: tx.now(),
        id: id.clone(),
    };
    if !domain::store::insert(tx, &made).await? {
        return Err(wire::duplicate("domain", &made.name, ""));
    }
    journal(tx, "domain", id.as_str(), "create", None, Some(made.public()));
    Ok(id)
}

/// Above everything that was ever ended of a provider of this id, as long as it can matter.
async fn first_serial(tx: &mut Tx, id: &str) -> Result<u64, Fault> {
    let ended = token::store::revocations_of(tx, &[id.to_owned()]).await?;
    let of_providers = ended.iter().filter(|it| it.kind == RevocationKind::IdentityProvider);
    Ok(of_providers.map(|it| it.serial).max().unwrap_or(0))
}

impl Identity {
    pub(crate) async fn list_identity_providers(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<IdentityProvider>, Fault> {
        ctx.authorise("identity:list_identity_providers", &Target::none())?;
        let enabled = filters.flag("enabled")?;
        let page = wire::page_request(&filters)?;
        self.look(move |tx| {
            let (filters, page) = (filters.clone(), page.clone());
            Box::pin(async move { Ok(store::list(tx, enabled, &filters, &page).await?) })
        })
        .await
    }

    pub(crate) async fn identity_provider(
        &self,
        ctx: &Ctx,
        id: &str,
    ) -> Result<IdentityProvider, Fault> {
        ctx.authorise("identity:get_identity_provider", &Target::none())?;
        let id = id.to_owned();
        self.look(move |tx| {
            let id = id.clone();
            Box::pin(async move { store::get(tx, &id).await?.ok_or_else(|| no_provider(&id)) })
        })
        .await
    }

    pub(crate) async fn create_identity_provider(
        &self,
        ctx: &Ctx,
        id: &str,
        change: ProviderChange,
    ) -> Result<IdentityProvider, Fault> {
        ctx.authorise("identity:create_identity_provider", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let (id, change) = (id.clone(), change.clone());
            Box::pin(async move {
                let domain_id = match change.domain_id {
                    Some(domain) if domain::store::get(tx, &domain).await?.is_none() => {
                        return Err(wire::not_found("domain", &domain));
                    }
                    Some(domain) => domain,
                    None => own_domain(tx, &id).await?,
                };
                tx.lock(&[ObjectLock::new("identity_provider", &id)]).await?;
                let serial = first_serial(tx, &id).await?;
                let provider = IdentityProvider {
                    domain_id,
                    enabled: change.enabled.unwrap_or(false),
                    description: change.description.flatten(),
                    authorization_ttl: change.authorization_ttl.flatten(),
                    remote_ids: change.remote_ids.unwrap_or_default(),
                    serial,
                    generation: 1,
                    id,
                };
                if !store::insert(tx, &provider).await? {
                    return Err(wire::duplicate_id("identity_provider", &provider.id));
                }
                claim_remote_ids(tx, &provider).await?;
                let shown = Some(provider.public());
                journal(tx, "identity_provider", &provider.id, "create", None, shown);
                Ok((provider, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_identity_provider(
        &self,
        ctx: &Ctx,
        id: &str,
        change: ProviderChange,
    ) -> Result<IdentityProvider, Fault> {
        ctx.authorise("identity:update_identity_provider", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let (id, change) = (id.clone(), change.clone());
            Box::pin(async move {
                let before = locked(tx, &id).await?;
                let mut provider = before.clone();
                if let Some(enabled) = change.enabled {
                    provider.enabled = enabled;
                }
                if let Some(description) = change.description {
                    provider.description = description;
                }
                if let Some(minutes) = change.authorization_ttl {
                    provider.authorization_ttl = minutes;
                }
                let mut revocations = Vec::new();
                if before.enabled && !provider.enabled {
                    provider.serial += 1;
                    revocations = end_word(tx, &id, provider.serial).await?;
                }
                if let Some(remote_ids) = change.remote_ids {
                    provider.remote_ids = remote_ids;
                    claim_remote_ids(tx, &provider).await?;
                }
                store::update(tx, &provider).await?;
                let (was, is) = (Some(before.public()), Some(provider.public()));
                journal(tx, "identity_provider", &id, "update", was, is);
                Ok((provider, revocations))
            })
        })
        .await
    }

    pub(crate) async fn delete_identity_provider(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        ctx.authorise("identity:delete_identity_provider", &Target::none())?;
        let id = id.to_owned();
        self.change(ctx, move |tx| {
            let id = id.clone();
            Box::pin(async move {
                locked(tx, &id).await?;
                Ok(((), remove(tx, &id).await?))
            })
        })
        .await
    }

    pub(crate) async fn list_protocols(
        &self,
        ctx: &Ctx,
        idp: &str,
    ) -> Result<Vec<Protocol>, Fault> {
        ctx.authorise("identity:list_protocols", &Target::none())?;
        let idp = idp.to_owned();
        self.look(move |tx| {
            let idp = idp.clone();
            Box::pin(async move { Ok(store::protocols(tx, &idp).await?) })
        })
        .await
    }

    pub(crate) async fn protocol(&self, ctx: &Ctx, idp: &str, id: &str) -> Result<Protocol, Fault> {
        ctx.authorise("identity:get_protocol", &Target::none())?;
        let (idp, id) = (idp.to_owned(), id.to_owned());
        self.look(move |tx| {
            let (idp, id) = (idp.clone(), id.clone());
            Box::pin(async move {
                store::protocol(tx, &idp, &id).await?.ok_or_else(|| no_protocol(&idp, &id))
            })
        })
        .await
    }

    pub(crate) async fn create_protocol(
        &self,
        ctx: &Ctx,
        idp: &str,
        id: &str,
        change: ProtocolChange,
    ) -> Result<Protocol, Fault> {
        ctx.authorise("identity:create_protocol", &Target::none())?;
        let (idp, id) = (idp.to_owned(), id.to_owned());
        self.change(ctx, move |tx| {
            let (idp, id, change) = (idp.clone(), id.clone(), change.clone());
            Box::pin(async move {
                locked(tx, &idp).await?;
                let mut remote_id_attribute = None;
                change.remote_id_attribute.apply(&mut remote_id_attribute);
                let mapping_id = change.mapping_id.unwrap_or_default();
                existing_mapping(tx, &mapping_id).await?;
                let protocol = Protocol {
                    id,
                    idp_id: idp,
                    mapping_id,
                    remote_id_attribute,
                    client: None,
                    generation: 1,
                };
                if !store::insert_protocol(tx, &protocol).await? {
                    return Err(wire::duplicate_id("federation_protocol", &protocol.id));
                }
                journal_protocol(tx, "create", None, Some(&protocol));
                Ok((protocol, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_protocol(
        &self,
        ctx: &Ctx,
        idp: &str,
        id: &str,
        change: ProtocolChange,
    ) -> Result<Protocol, Fault> {
        ctx.authorise("identity:update_protocol", &Target::none())?;
        self.alter_protocol(ctx, idp, id, move |protocol| {
            if let Some(mapping) = &change.mapping_id {
                protocol.mapping_id.clone_from(mapping);
            }
            change.remote_id_attribute.clone().apply(&mut protocol.remote_id_attribute);
            Ok(())
        })
        .await
    }

    /// Changes a protocol in one transaction.
    async fn alter_protocol<F>(
        &self,
        ctx: &Ctx,
        idp: &str,
        id: &str,
        alter: F,
    ) -> Result<Protocol, Fault>
    where
        F: Fn(&mut Protocol) -> Result<(), Fault> + Clone + Send + Sync + 'static,
    {
        let (idp, id) = (idp.to_owned(), id.to_owned());
        self.change(ctx, move |tx| {
            let (idp, id, alter) = (idp.clone(), id.clone(), alter.clone());
            Box::pin(async move {
                locked(tx, &idp).await?;
                let before =
                    store::protocol(tx, &idp, &id).await?.ok_or_else(|| no_protocol(&idp, &id))?;
                let mut protocol = before.clone();
                alter(&mut protocol)?;
                if protocol.mapping_id != before.mapping_id {
                    existing_mapping(tx, &protocol.mapping_id).await?;
                }
                store::update_protocol(tx, &protocol).await?;
                journal_protocol(tx, "update", Some(&before), Some(&protocol));
                Ok((protocol, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_protocol(
        &self,
        ctx: &Ctx,
        idp: &str,
        id: &str,
    ) -> Result<(), Fault> {
        ctx.authorise("identity:delete_protocol", &Target::none())?;
        let (idp, id) = (idp.to_owned(), id.to_owned());
        self.change(ctx, move |tx| {
            let (idp, id) = (idp.clone(), id.clone());
            Box::pin(async move {
                let before = store::protocol(tx, &idp, &id).await?;
                if !store::delete_protocol(tx, &idp, &id).await? {
                    return Err(no_protocol(&idp, &id));
                }
                journal_protocol(tx, "delete", before.as_ref(), None);
                // Nobody could be asked about them any more.
                let mut ended = Vec::new();
                for session in federation::store::sessions_of(tx, &idp, &id, None, None).await? {
                    let why = "the protocol was deleted";
                    ended.extend(federation::sessions::end_in(tx, &session, why).await?);
                }
                Ok(((), ended))
            })
        })
        .await
    }

    /// Makes or replaces the OpenID client of a protocol. A secret that is not named stays.
    pub(crate) async fn set_openid_client(
        &self,
        ctx: &Ctx,
        idp: &str,
        id: &str,
        client: OpenidClient,
        secret: NewSecret,
    ) -> Result<Protocol, Fault> {
        ctx.authorise("identity:update_protocol", &Target::none())?;
        client.check()?;
        let sealed = match &secret {
            Patch::Set(text) => {
                let (now, name) = (self.kit.clock.now(), secret_name(idp, id));
                Patch::Set(self.tokens.vault().seal_at(now, &name, text.as_bytes())?.bytes)
            }
            Patch::Null => Patch::Null,
            Patch::Absent => Patch::Absent,
        };
        self.alter_protocol(ctx, idp, id, move |protocol| {
            let mut kept = protocol.client.take().and_then(|client| client.secret);
            sealed.clone().apply(&mut kept);
            protocol.client = Some(OpenidClient { secret: kept, ..client.clone() });
            Ok(())
        })
        .await
    }

    pub(crate) async fn delete_openid_client(
        &self,
        ctx: &Ctx,
        idp: &str,
        id: &str,
    ) -> Result<(), Fault> {
        ctx.authorise("identity:update_protocol", &Target::none())?;
        let missing = no_client(id);
        self.alter_protocol(ctx, idp, id, move |protocol| {
            protocol.client.take().map(|_| ()).ok_or_else(|| missing.clone())
        })
        .await?;
        Ok(())
    }
}

/// To what a client's sealed secret belongs: it opens nowhere else.
pub(crate) fn secret_name(idp: &str, protocol: &str) -> String {
    format!("{}{idp}/{protocol}", store::CLIENT)
}

/// 404 for a protocol that somebody else's software speaks.
pub(crate) fn no_client(protocol: &str) -> Fault {
    wire::not_found("OpenID client of protocol", protocol)
}

async fn existing_mapping(tx: &mut Tx, id: &str) -> Result<(), Fault> {
    if mapping::store::get(tx, id).await?.is_some() {
        return Ok(());
    }
    let shown: String = id.chars().take(64).collect();
    Err(Fault::bad_request(format!("Invalid mapping id: {shown}")))
}

async fn claim_remote_ids(tx: &mut Tx, provider: &IdentityProvider) -> Result<(), Fault> {
    match store::set_remote_ids(tx, provider).await? {
        None => Ok(()),
        Some(taken) => Err(Fault::conflict(format!(
            "Conflict occurred attempting to store identity_provider - Duplicate remote ID: \
             {taken}."
        ))),
    }
}

fn journal_protocol(
    tx: &mut Tx,
    action: &'static str,
    before: Option<&Protocol>,
    after: Option<&Protocol>,
) {
    let Some(either) = after.or(before) else { return };
    let id = format!("{}/{}", either.idp_id, either.id);
    let (before, after) = (before.map(Protocol::public), after.map(Protocol::public));
    journal(tx, "federation_protocol", &id, action, before, after);
}
