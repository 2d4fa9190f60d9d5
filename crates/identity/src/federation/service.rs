//! From what a provider said to a user here, and a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_types::{Fault, Timestamp, UserId};
use database::{ObjectLock, Origin, Tx};
use serde_json::{Value, json};

use super::landing::{land, not_mapped};
use super::model::{Keep, Session, Word};
use super::store;
use crate::compliance::factors;
use crate::identity_provider::model::{IdentityProvider, Protocol};
use crate::mapping::engine::{Mapped, apply};
use crate::mapping::model::Rules;
use crate::token::basis::Basis;
use crate::token::format::Methods;
use crate::token::model::WantedScope;
use crate::token::service::{Issued, Proven, refused};
use crate::{Identity, compliance, identity_provider, mapping, user};

/// The attribute in which a provider names itself, where the protocol does not say.
const REMOTE_ID_ATTRIBUTE: &str = "HTTP_OIDC_ISS";

/// Everything that a login needs to know of the configuration.
pub(crate) struct Entrance {
    pub provider: IdentityProvider,
    pub protocol: Protocol,
}

impl Identity {
    /// The provider and protocol of a login.
    ///
    /// # Errors
    /// 404 when there is none, 403 when the provider is disabled.
    pub(crate) async fn entrance(&self, idp: &str, protocol: &str) -> Result<Entrance, Fault> {
        let (idp, id) = (idp.to_owned(), protocol.to_owned());
        self.look(move |tx| {
            let (idp, id) = (idp.clone(), id.clone());
            Box::pin(async move { entrance_in(tx, &idp, &id).await })
        })
        .await
    }

    /// By which providers and protocols a user comes, as upstream shows it; `None` for others.
    pub(crate) async fn providers_of(&self, user: &UserId) -> Result<Option<Value>, Fault> {
        let user = user.clone();
        let links = self
            .look(move |tx| {
                let user = user.clone();
                Box::pin(async move { Ok(store::links_of(tx, &user).await?) })
            })
            .await?;
        let mut providers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for link in links {
            let protocol = json!({"protocol_id": link.protocol_id, "unique_id": link.unique_id});
            providers.entry(link.idp_id).or_default().push(protocol);
        }
        let shown: Vec<Value> = providers
            .into_iter()
            .map(|(idp, protocols)| json!({"idp_id": idp, "protocols": protocols}))
            .collect();
        Ok((!shown.is_empty()).then(|| json!(shown)))
    }

    /// Makes what a provider said into a token without a scope.
    ///
    /// # Errors
    /// 401 where it opens no account, 403 where the provider is not the one that it should be.
    pub(crate) async fn log_in_by(&self, entrance: &Entrance, word: Word) -> Result<Issued, Fault> {
        let protocol = &entrance.protocol;
        check_remote_id(&entrance.provider, protocol, &word)?;
        let must_end = word.must_end();
        let asserted = Arc::new(word.assertion);
        let (idp, id) = (protocol.idp_id.clone(), protocol.id.clone());
        let default_ttl = self.config.authorization_ttl;
        let methods = methods_of(protocol);
        // Read again within the transaction: what is decided by is what is true then.
        let (landed, revocations) = self
            .kit
            .db
            .transact(&Origin::system("federated-login"), move |tx| {
                let (idp, id, asserted) = (idp.clone(), id.clone(), asserted.clone());
                Box::pin(async move {
                    tx.lock(&[ObjectLock::new("identity_provider", &idp)]).await?;
                    let Entrance { provider, protocol } = entrance_in(tx, &idp, &id).await?;
                    let mapped = mapped(tx, &protocol, &asserted).await?;
                    let landed = land(tx, &provider, &protocol, &mapped, default_ttl).await?;
                    check_landed(tx, &protocol, &landed.0.user, methods).await?;
                    Ok::<_, Fault>(landed)
                })
            })
            .await?;
        self.changed(&revocations);
        let groups: Vec<String> =
            landed.basis.groups.iter().map(|group| group.id.clone()).collect();
        let proven = Proven {
            basis: Basis { federation: Some(landed.basis), ..Basis::default() },
            ends_by: must_end,
            ..Proven::by(landed.user.clone(), methods)
        };
        let issued = self.issue_for(proven, WantedScope::Unscoped, false).await?;
        let opened = Opened {
            user: landed.user,
            subject: word.subject,
            provider_session: word.provider_session,
            keep: word.keep,
            groups,
        };
        self.open_session(protocol, opened, &issued).await?;
        Ok(issued)
    }

    /// Remembers a login, before anybody has its token.
    async fn open_session(
        &self,
        protocol: &Protocol,
        opened: Opened,
        issued: &Issued,
    ) -> Result<(), Fault> {
        let token = &issued.body["token"];
        let chain = token["audit_ids"][0].as_str().unwrap_or_default().to_owned();
        let ends = token["expires_at"].as_str().and_then(Timestamp::parse);
        let (kind, secret) = opened.keep.parts();
        let (now, name) = (self.kit.clock.now(), Session::seal_name(&chain));
        let seal = |secret: &str| self.tokens.vault().seal_at(now, &name, secret.as_bytes());
        let word = secret.map(seal).transpose()?.map(|sealed| sealed.bytes);
        let session = Session {
            chain,
            user_id: opened.user,
            idp_id: protocol.idp_id.clone(),
            protocol_id: protocol.id.clone(),
            subject: opened.subject,
            provider_session: opened.provider_session,
            word_kind: kind.to_owned(),
            word,
            groups: opened.groups,
            expires_at: ends.unwrap_or_else(|| self.kit.clock.now()),
        };
        self.kit
            .db
            .transact(&Origin::system("federated-login"), move |tx| {
                let session = session.clone();
                Box::pin(async move { Ok::<_, Fault>(store::add_session(tx, &session).await?) })
            })
            .await
    }
}

struct Opened {
    user: UserId,
    subject: String,
    provider_session: Option<String>,
    keep: Keep,
    groups: Vec<String>,
}

/// How somebody was proven who came by a protocol, whatever the operator calls it.
fn methods_of(protocol: &Protocol) -> Methods {
    if protocol.id == "openid" { Methods::OPENID } else { Methods::MAPPED }
}

/// What holds of a user beside what the provider says: rules about several factors, which one more
/// word of the provider's does not satisfy; and that they were here today.
async fn check_landed(
    tx: &mut Tx,
    protocol: &Protocol,
    user: &UserId,
    methods: Methods,
) -> Result<(), Fault> {
    let user = user::store::get(tx, user).await?.ok_or_else(refused)?;
    if !factors::satisfied(&factors::rules(&user.options), methods) {
        return Err(not_mapped(
            protocol,
            "the account asks for factors that an identity provider's word does not have",
        ));
    }
    let today = compliance::model::day_of(tx.now());
    Ok(compliance::store::note_activity(tx, &user.id, today).await?)
}

async fn entrance_in(tx: &mut Tx, idp: &str, id: &str) -> Result<Entrance, Fault> {
    let provider = identity_provider::store::get(tx, idp)
        .await?
        .ok_or_else(|| crate::wire::not_found("identity provider", idp))?;
    if !provider.enabled {
        return Err(Fault::forbidden(format!("Identity Provider {} is disabled", provider.id)));
    }
    let protocol = identity_provider::store::protocol(tx, idp, id)
        .await?
        .ok_or_else(|| crate::wire::not_found("federated protocol", id))?;
    Ok(Entrance { provider, protocol })
}

/// The provider must name itself as one of the names that it is registered with, where there are
/// any.
fn check_remote_id(
    provider: &IdentityProvider,
    protocol: &Protocol,
    word: &Word,
) -> Result<(), Fault> {
    if provider.remote_ids.is_empty() {
        return Ok(());
    }
    let attribute = protocol
        .remote_id_attribute
        .as_deref()
        .filter(|attribute| !attribute.is_empty())
        .unwrap_or(REMOTE_ID_ATTRIBUTE);
    match word.assertion.get(attribute).map(Vec::as_slice) {
        Some([named]) if provider.remote_ids.contains(named) => Ok(()),
        Some([_]) => Err(Fault::forbidden(
            "Incoming identity provider identifier not included among the accepted identifiers.",
        )),
        _ => Err(not_mapped(
            protocol,
            &format!("what it says has no {attribute}, in which it would name itself"),
        )),
    }
}

async fn mapped(
    tx: &mut Tx,
    protocol: &Protocol,
    asserted: &mapping::engine::Assertion,
) -> Result<Mapped, Fault> {
    let found = mapping::store::get(tx, &protocol.mapping_id)
        .await?
        .ok_or_else(|| not_mapped(protocol, "its mapping is gone"))?;
    let rules = Rules::parse(found.version, &found.rules)?;
    apply(&rules, asserted).mapped.map_err(|why| not_mapped(protocol, &why))
}
