//! SQL of hosts and join tokens.

use cloud_types::{HostId, Timestamp};
use database::{DatabaseError, Row, Tx, params};
use host_protocol::HostFacts;

use super::model::{Host, HostState};

const COLUMNS: &str = "id, name, host_number, l2_domain, zone, cluster, enabled, disabled_reason, \
     facts, last_seen, created_at, updated_at, generation";

fn read(row: &Row) -> Result<Host, DatabaseError> {
    Ok(Host {
        id: row.parse("id")?,
        name: row.text("name")?,
        host_number: u16::try_from(row.int("host_number")?).unwrap_or_default(),
        l2_domain: row.text("l2_domain")?,
        zone: row.text("zone")?,
        cluster: row.text("cluster")?,
        state: if row.bool("enabled")? {
            HostState::Enabled
        } else {
            HostState::Disabled { reason: row.opt_text("disabled_reason")?.unwrap_or_default() }
        },
        facts: row.opt_json("facts")?,
        last_seen: row.opt_timestamp("last_seen")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
        generation: row.int("generation")?,
    })
}

/// What a token lets a machine join.
pub struct JoinToken {
    pub zone: String,
    pub cluster: String,
    pub l2_domain: String,
    pub expires_at: Timestamp,
    pub used_by: Option<String>,
}

pub async fn insert_token(tx: &mut Tx, hash: &str, token: &JoinToken) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO host_join_tokens (token_hash, zone, cluster, l2_domain, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &params![hash, token.zone, token.cluster, token.l2_domain, tx.now(), token.expires_at],
    )
    .await?;
    Ok(())
}

pub async fn token(tx: &mut Tx, hash: &str) -> Result<Option<JoinToken>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT zone, cluster, l2_domain, expires_at, used_by
             FROM host_join_tokens WHERE token_hash = $1",
            &params![hash],
        )
        .await?;
    row.map(|row| {
        Ok(JoinToken {
            zone: row.text("zone")?,
            cluster: row.text("cluster")?,
            l2_domain: row.text("l2_domain")?,
            expires_at: row.timestamp("expires_at")?,
            used_by: row.opt_text("used_by")?,
        })
    })
    .transpose()
}

/// Uses the token up; 0 when somebody did so before.
pub async fn use_token(tx: &mut Tx, hash: &str, host: HostId) -> Result<u64, DatabaseError> {
    tx.execute(
        "UPDATE host_join_tokens SET used_by = $1 WHERE token_hash = $2 AND used_by IS NULL",
        &params![host, hash],
    )
    .await
}

/// The next number of an L2 domain. Numbers only rise: another host may still know the old one.
pub async fn next_host_number(tx: &mut Tx, l2_domain: &str) -> Result<i64, DatabaseError> {
    let row = tx
        .query_one(
            "INSERT INTO l2_domains (name, last_host_number) VALUES ($1, 1)
             ON CONFLICT (name) DO UPDATE SET last_host_number = l2_domains.last_host_number + 1
             RETURNING last_host_number",
            &params![l2_domain],
        )
        .await?;
    row.int("last_host_number")
}

pub async fn insert(tx: &mut Tx, host: &Host) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO hosts (id, name, host_number, l2_domain, zone, cluster, enabled, position,
                            created_at, updated_at, generation)
         VALUES ($1, $2, $3, $4, $5, $6, 1, 0, $7, $7, 1)",
        &params![
            host.id,
            host.name,
            host.host_number,
            host.l2_domain,
            host.zone,
            host.cluster,
            host.created_at
        ],
    )
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: &HostId) -> Result<Option<Host>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM hosts WHERE id = $1");
    tx.query_dynamic(sql, &params![id]).await?.first().map(read).transpose()
}

pub async fn get_by_name(tx: &mut Tx, name: &str) -> Result<Option<Host>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM hosts WHERE name = $1");
    tx.query_dynamic(sql, &params![name]).await?.first().map(read).transpose()
}

pub async fn list(tx: &mut Tx) -> Result<Vec<Host>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM hosts ORDER BY name");
    tx.query_dynamic(sql, &[]).await?.iter().map(read).collect()
}

pub async fn seen(tx: &mut Tx, id: &HostId) -> Result<u64, DatabaseError> {
    tx.execute("UPDATE hosts SET last_seen = $1 WHERE id = $2", &params![tx.now(), id]).await
}

pub async fn set_facts(tx: &mut Tx, id: &HostId, facts: &HostFacts) -> Result<(), DatabaseError> {
    let facts = serde_json::to_value(facts).unwrap_or_default();
    tx.execute(
        "UPDATE hosts SET facts = $1, updated_at = $2, generation = generation + 1 WHERE id = $3",
        &params![facts, tx.now(), id],
    )
    .await?;
    Ok(())
}

pub async fn set_enabled(
    tx: &mut Tx,
    id: &HostId,
    reason: Option<&str>,
) -> Result<u64, DatabaseError> {
    tx.execute(
        "UPDATE hosts SET enabled = $1, disabled_reason = $2, updated_at = $3,
                          generation = generation + 1
         WHERE id = $4",
        &params![reason.is_none(), reason, tx.now(), id],
    )
    .await
}
