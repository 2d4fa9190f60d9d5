//! The SQL of `identity_service_providers`.

use database::{DatabaseError, Row, Tx, params};

use super::model::ServiceProvider;

fn provider_of(row: &Row) -> Result<ServiceProvider, DatabaseError> {
    Ok(ServiceProvider {
        id: row.text("id")?,
        auth_url: row.text("auth_url")?,
        sp_url: row.text("sp_url")?,
        description: row.opt_text("description")?,
        enabled: row.bool("enabled")?,
        relay_state_prefix: row.text("relay_state_prefix")?,
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<ServiceProvider>, DatabaseError> {
    let row = tx
        .query_opt("SELECT * FROM identity_service_providers WHERE id = $1", &params![id])
        .await?;
    row.as_ref().map(provider_of).transpose()
}

pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<ServiceProvider>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_service_providers ORDER BY id", &[]).await?;
    rows.iter().map(provider_of).collect()
}

/// Those that are enabled, for tokens.
pub(crate) async fn enabled(tx: &mut Tx) -> Result<Vec<ServiceProvider>, DatabaseError> {
    let rows = tx
        .query("SELECT * FROM identity_service_providers WHERE enabled = 1 ORDER BY id", &[])
        .await?;
    rows.iter().map(provider_of).collect()
}

/// False when the id is taken.
pub(crate) async fn insert(tx: &mut Tx, provider: &ServiceProvider) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_service_providers
                 (id, auth_url, sp_url, description, enabled, relay_state_prefix)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &params![
                provider.id,
                provider.auth_url,
                provider.sp_url,
                provider.description,
                provider.enabled,
                provider.relay_state_prefix
            ],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update(tx: &mut Tx, provider: &ServiceProvider) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_service_providers
             SET auth_url = $2, sp_url = $3, description = $4, enabled = $5,
                 relay_state_prefix = $6
             WHERE id = $1",
            &params![
                provider.id,
                provider.auth_url,
                provider.sp_url,
                provider.description,
                provider.enabled,
                provider.relay_state_prefix
            ],
        )
        .await?;
    tx.expect_one(changed, "service provider", &provider.id)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_service_providers WHERE id = $1", &params![id]).await?;
    Ok(())
}
