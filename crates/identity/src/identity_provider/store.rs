//! The SQL of `identity_providers`, `identity_provider_remote_ids` and
//! `identity_federation_protocols`.

use cloud_types::DomainId;
use database::{DatabaseError, Row, Tx, params};
use service_kit::{Filters, PageRequest};

use super::model::{IdentityProvider, OpenidClient, Protocol};
use crate::filter::Where;
use crate::vault::Column;

/// What the sealed secret of a client is called, before provider and protocol.
pub(crate) const CLIENT: &str = "openid client ";

/// What is sealed here.
pub(crate) const SEALED: Column = Column {
    table: "identity_federation_protocols",
    prefix: CLIENT,
    key: "(idp_id || '/' || id)",
    sealed: "client_secret",
    key_id: None,
    plain: None,
};

fn provider_of(row: &Row) -> Result<IdentityProvider, DatabaseError> {
    Ok(IdentityProvider {
        id: row.text("id")?,
        domain_id: row.parse("domain_id")?,
        enabled: row.bool("enabled")?,
        description: row.opt_text("description")?,
        authorization_ttl: row
            .opt_int("authorization_ttl")?
            .map(|minutes| u32::try_from(minutes).unwrap_or(0)),
        remote_ids: Vec::new(),
        serial: u64::try_from(row.int("serial")?).unwrap_or(0),
        generation: row.int("generation")?,
    })
}

async fn remote_ids(tx: &mut Tx, id: &str) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT remote_id FROM identity_provider_remote_ids WHERE idp_id = $1
             ORDER BY remote_id",
            &params![id],
        )
        .await?;
    rows.iter().map(|row| row.text("remote_id")).collect()
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<IdentityProvider>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_providers WHERE id = $1", &params![id]).await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut provider = provider_of(&row)?;
    provider.remote_ids = remote_ids(tx, id).await?;
    Ok(Some(provider))
}

pub(crate) async fn list(
    tx: &mut Tx,
    enabled: Option<bool>,
    filters: &Filters,
    page: &PageRequest,
) -> Result<Vec<IdentityProvider>, DatabaseError> {
    let mut condition = Where::default();
    if let Some(enabled) = enabled {
        condition.equal("enabled", enabled);
    }
    condition.text("id", "id", filters);
    let (clause, params) = condition.page("id", page);
    let rows =
        tx.query_dynamic(format!("SELECT * FROM identity_providers{clause}"), &params).await?;
    let mut providers: Vec<IdentityProvider> =
        rows.iter().map(provider_of).collect::<Result<_, _>>()?;
    // One statement for the remote ids of all: providers are few.
    let rows = tx
        .query("SELECT idp_id, remote_id FROM identity_provider_remote_ids ORDER BY remote_id", &[])
        .await?;
    for row in rows {
        let (idp, remote) = (row.text("idp_id")?, row.text("remote_id")?);
        if let Some(provider) = providers.iter_mut().find(|provider| provider.id == idp) {
            provider.remote_ids.push(remote);
        }
    }
    Ok(providers)
}

/// False when the id is taken.
pub(crate) async fn insert(
    tx: &mut Tx,
    provider: &IdentityProvider,
) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let inserted = tx
        .execute(
            "INSERT INTO identity_providers
                 (id, domain_id, enabled, description, authorization_ttl, serial, generation,
                  created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            &params![
                provider.id,
                provider.domain_id,
                provider.enabled,
                provider.description,
                provider.authorization_ttl.map(i64::from),
                provider.serial,
                provider.generation,
                now
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update(tx: &mut Tx, provider: &IdentityProvider) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_providers
             SET enabled = $3, description = $4, authorization_ttl = $5, serial = $6,
                 generation = generation + 1
             WHERE id = $1 AND generation = $2",
            &params![
                provider.id,
                provider.generation,
                provider.enabled,
                provider.description,
                provider.authorization_ttl.map(i64::from),
                provider.serial
            ],
        )
        .await?;
    tx.expect_one(changed, "identity provider", &provider.id)
}

/// Replaces the remote ids. The id that another provider has already is answered.
pub(crate) async fn set_remote_ids(
    tx: &mut Tx,
    provider: &IdentityProvider,
) -> Result<Option<String>, DatabaseError> {
    tx.execute("DELETE FROM identity_provider_remote_ids WHERE idp_id = $1", &params![provider.id])
        .await?;
    for remote in &provider.remote_ids {
        let inserted = tx
            .execute(
                "INSERT INTO identity_provider_remote_ids (remote_id, idp_id) VALUES ($1, $2)
                 ON CONFLICT DO NOTHING",
                &params![remote, provider.id],
            )
            .await?;
        if inserted == 0 {
            return Ok(Some(remote.clone()));
        }
    }
    Ok(None)
}

/// With its protocols, and what people have by it alone (memberships that its word keeps aside: see
/// `federation::store::drop_kept_by`). Users stay: they may own things.
pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    let id = &params![id];
    tx.execute("DELETE FROM identity_provider_remote_ids WHERE idp_id = $1", id).await?;
    tx.execute("DELETE FROM identity_federation_protocols WHERE idp_id = $1", id).await?;
    tx.execute("DELETE FROM identity_federated_users WHERE idp_id = $1", id).await?;
    tx.execute("DELETE FROM identity_federated_sessions WHERE idp_id = $1", id).await?;
    tx.execute("DELETE FROM identity_providers WHERE id = $1", id).await?;
    Ok(())
}

pub(crate) async fn in_domain(
    tx: &mut Tx,
    domain: &DomainId,
) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query("SELECT id FROM identity_providers WHERE domain_id = $1", &params![domain])
        .await?;
    rows.iter().map(|row| row.text("id")).collect()
}

fn protocol_of(row: &Row) -> Result<Protocol, DatabaseError> {
    let mut client: Option<OpenidClient> = row.opt_json("client")?;
    if let Some(client) = &mut client {
        client.secret = row.opt_bytes("client_secret")?;
    }
    Ok(Protocol {
        id: row.text("id")?,
        idp_id: row.text("idp_id")?,
        mapping_id: row.text("mapping_id")?,
        remote_id_attribute: row.opt_text("remote_id_attribute")?,
        client,
        generation: row.int("generation")?,
    })
}

pub(crate) async fn protocol(
    tx: &mut Tx,
    idp: &str,
    id: &str,
) -> Result<Option<Protocol>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_federation_protocols WHERE idp_id = $1 AND id = $2",
            &params![idp, id],
        )
        .await?;
    row.as_ref().map(protocol_of).transpose()
}

pub(crate) async fn protocols(tx: &mut Tx, idp: &str) -> Result<Vec<Protocol>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_federation_protocols WHERE idp_id = $1 ORDER BY id",
            &params![idp],
        )
        .await?;
    rows.iter().map(protocol_of).collect()
}

/// All protocols of this name with a client, for choosing a provider by protocol alone.
pub(crate) async fn protocols_named(tx: &mut Tx, id: &str) -> Result<Vec<Protocol>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT p.* FROM identity_federation_protocols p
             JOIN identity_providers i ON i.id = p.idp_id
             WHERE p.id = $1 AND p.client IS NOT NULL AND i.enabled = 1 ORDER BY p.idp_id LIMIT 2",
            &params![id],
        )
        .await?;
    rows.iter().map(protocol_of).collect()
}

fn client_text(protocol: &Protocol) -> Option<String> {
    protocol.client.as_ref().and_then(|client| serde_json::to_string(client).ok())
}

/// False when the id is taken.
pub(crate) async fn insert_protocol(
    tx: &mut Tx,
    protocol: &Protocol,
) -> Result<bool, DatabaseError> {
    let secret = protocol.client.as_ref().and_then(|client| client.secret.clone());
    let inserted = tx
        .execute(
            "INSERT INTO identity_federation_protocols
                 (idp_id, id, mapping_id, remote_id_attribute, client, client_secret, generation)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            &params![
                protocol.idp_id,
                protocol.id,
                protocol.mapping_id,
                protocol.remote_id_attribute,
                client_text(protocol),
                secret,
                protocol.generation
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update_protocol(tx: &mut Tx, protocol: &Protocol) -> Result<(), DatabaseError> {
    let secret = protocol.client.as_ref().and_then(|client| client.secret.clone());
    let changed = tx
        .execute(
            "UPDATE identity_federation_protocols
             SET mapping_id = $4, remote_id_attribute = $5, client = $6, client_secret = $7,
                 generation = generation + 1
             WHERE idp_id = $1 AND id = $2 AND generation = $3",
            &params![
                protocol.idp_id,
                protocol.id,
                protocol.generation,
                protocol.mapping_id,
                protocol.remote_id_attribute,
                client_text(protocol),
                secret
            ],
        )
        .await?;
    tx.expect_one(changed, "protocol", &protocol.id)
}

/// False when there was none.
pub(crate) async fn delete_protocol(
    tx: &mut Tx,
    idp: &str,
    id: &str,
) -> Result<bool, DatabaseError> {
    let gone = tx
        .execute(
            "DELETE FROM identity_federation_protocols WHERE idp_id = $1 AND id = $2",
            &params![idp, id],
        )
        .await?;
    Ok(gone == 1)
}
