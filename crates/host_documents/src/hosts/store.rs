//! SQL of hosts and join tokens.

use std::collections::BTreeMap;

use cloud_types::{HostId, Timestamp};
use database::{DatabaseError, Row, Tx, Value, params};
use host_protocol::{HostFacts, Position};

use super::model::{Host, HostState};

macro_rules! select_hosts {
    ($rest:literal) => {
        concat!(
            "SELECT h.id, h.name, h.host_number, h.l2_domain, h.zone, h.cluster, h.enabled, \
             h.disabled_reason, h.facts, h.created_at, h.updated_at, h.generation, p.last_seen \
             FROM hosts h LEFT JOIN host_positions p ON p.host_id = h.id ",
            $rest
        )
    };
}

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
    pub used_by: Option<HostId>,
    /// SHA-256 of the public key that joined by it.
    pub used_key: Option<String>,
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
            "SELECT zone, cluster, l2_domain, expires_at, used_by, used_key
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
            used_by: row.opt_parse("used_by")?,
            used_key: row.opt_text("used_key")?,
        })
    })
    .transpose()
}

/// Forgets tokens that ended before `before`, at most `limit`.
pub async fn forget_tokens(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DatabaseError> {
    tx.execute(
        "DELETE FROM host_join_tokens WHERE token_hash IN (
             SELECT token_hash FROM host_join_tokens WHERE expires_at < $1
             ORDER BY expires_at, token_hash LIMIT $2)",
        &params![before, limit],
    )
    .await
}

/// Uses the token up; 0 when somebody did so before.
pub async fn use_token(
    tx: &mut Tx,
    hash: &str,
    host: HostId,
    key: &str,
) -> Result<u64, DatabaseError> {
    tx.execute(
        "UPDATE host_join_tokens SET used_by = $1, used_key = $3
         WHERE token_hash = $2 AND used_by IS NULL",
        &params![host, hash, key],
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
        "INSERT INTO hosts (id, name, host_number, l2_domain, zone, cluster, enabled, created_at,
                            updated_at, generation)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7, 1)",
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
    let row = tx.query_opt(select_hosts!("WHERE h.id = $1"), &params![id]).await?;
    row.as_ref().map(read).transpose()
}

pub async fn get_by_name(tx: &mut Tx, name: &str) -> Result<Option<Host>, DatabaseError> {
    let row = tx.query_opt(select_hosts!("WHERE h.name = $1"), &params![name]).await?;
    row.as_ref().map(read).transpose()
}

pub async fn list(tx: &mut Tx) -> Result<Vec<Host>, DatabaseError> {
    let rows = tx.query(select_hosts!("ORDER BY h.name"), &[]).await?;
    rows.iter().map(read).collect()
}

pub async fn page(
    tx: &mut Tx,
    after: Option<HostId>,
    l2_domain: Option<&str>,
    limit: u32,
) -> Result<Vec<Host>, DatabaseError> {
    let after = after.map(|host| host.to_string()).unwrap_or_default();
    let rows = match l2_domain {
        None => {
            let part = params![after, limit];
            tx.query(select_hosts!("WHERE h.id > $1 ORDER BY h.id LIMIT $2"), &part).await?
        }
        Some(domain) => {
            let part = params![after, limit, domain];
            tx.query(
                select_hosts!("WHERE h.id > $1 AND h.l2_domain = $3 ORDER BY h.id LIMIT $2"),
                &part,
            )
            .await?
        }
    };
    rows.iter().map(read).collect()
}

/// The newest session of each of these hosts, and the position given out last.
pub async fn sequences(
    tx: &mut Tx,
    hosts: &[HostId],
) -> Result<BTreeMap<HostId, (u64, Position)>, DatabaseError> {
    if hosts.is_empty() {
        return Ok(BTreeMap::new());
    }
    let places: Vec<String> = (1..=hosts.len()).map(|at| format!("${at}")).collect();
    let sql = format!(
        "SELECT host_id, session, position FROM host_positions WHERE host_id IN ({})",
        places.join(", ")
    );
    let ids: Vec<Value> = hosts.iter().map(Value::from).collect();
    tx.query_dynamic(sql, &ids)
        .await?
        .iter()
        .map(|row| Ok((row.parse("host_id")?, (row.u64("session")?, row.u64("position")?))))
        .collect()
}

pub async fn exists(tx: &mut Tx, id: &HostId) -> Result<bool, DatabaseError> {
    let row = tx.query_opt("SELECT id FROM hosts WHERE id = $1", &params![id]).await?;
    Ok(row.is_some())
}

/// Begins the next session of a host; `None` when there is no such host.
pub async fn open_session(tx: &mut Tx, id: &HostId) -> Result<Option<u64>, DatabaseError> {
    let now = tx.now();
    let row = tx
        .query_opt(
            "UPDATE host_positions SET session = session + 1, last_seen = $2
             WHERE host_id = $1 RETURNING session",
            &params![id, now],
        )
        .await?;
    row.map(|row| row.u64("session")).transpose()
}

/// The session that a host opened last; `None` when there is no such host.
pub async fn session(tx: &mut Tx, id: &HostId) -> Result<Option<u64>, DatabaseError> {
    let row =
        tx.query_opt("SELECT session FROM host_positions WHERE host_id = $1", &params![id]).await?;
    row.map(|row| row.u64("session")).transpose()
}

/// Written as one of the transaction's last acts: the row is also taken by whoever tells the
/// host something, and is held as briefly as can be.
pub fn seen(tx: &mut Tx, id: &HostId) {
    let now = tx.now();
    tx.defer(22, "UPDATE host_positions SET last_seen = $1 WHERE host_id = $2", &params![now, id]);
}

pub async fn delete(tx: &mut Tx, id: &HostId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM hosts WHERE id = $1", &params![id]).await?;
    Ok(())
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
