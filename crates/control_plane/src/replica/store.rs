//! SQL of replicas, and of what all of them must have in common.

use cloud_types::Timestamp;
use database::{DatabaseError, Migration, MigrationSet, Row, Tx, params};

use super::model::Replica;

/// The control plane's own tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    service: "control_plane",
    migrations: &[Migration {
        number: 1,
        name: "replicas",
        sql: "
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    api TEXT NOT NULL,
    version TEXT NOT NULL,
    worker TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    beat BIGINT NOT NULL,
    serving BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE TABLE region_facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
)",
    }],
};

fn read(row: &Row) -> Result<Replica, DatabaseError> {
    Ok(Replica {
        id: row.text("id")?,
        gateway: row.text("gateway")?,
        api: row.text("api")?,
        version: row.text("version")?,
        worker: row.text("worker")?,
        epoch: row.u64("epoch")?,
        beat: row.u64("beat")?,
        serving: row.bool("serving")?,
        started_at: row.timestamp("started_at")?,
        seen_at: row.timestamp("seen_at")?,
    })
}

pub async fn list(tx: &mut Tx) -> Result<Vec<Replica>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id, gateway, api, version, worker, epoch, beat, serving, started_at, seen_at
             FROM replicas ORDER BY id",
            &[],
        )
        .await?;
    rows.iter().map(read).collect()
}

pub async fn get(tx: &mut Tx, id: &str) -> Result<Option<Replica>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT id, gateway, api, version, worker, epoch, beat, serving, started_at, seen_at
             FROM replicas WHERE id = $1",
            &params![id],
        )
        .await?;
    row.as_ref().map(read).transpose()
}

/// Writes a process of a replica, and returns its epoch: above that of every process before it.
pub async fn register(tx: &mut Tx, replica: &Replica) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.query_one(
        "INSERT INTO replicas
             (id, gateway, api, version, worker, epoch, beat, serving, started_at, seen_at)
         VALUES ($1, $2, $3, $4, $5, 1, 0, 1, $6, $6)
         ON CONFLICT (id) DO UPDATE SET
             gateway = excluded.gateway, api = excluded.api, version = excluded.version,
             worker = excluded.worker, epoch = replicas.epoch + 1, beat = 0, serving = 1,
             started_at = excluded.started_at, seen_at = excluded.seen_at
         RETURNING epoch",
        &params![replica.id, replica.gateway, replica.api, replica.version, replica.worker, now],
    )
    .await?
    .u64("epoch")
}

/// A sign of life. False when another process of the replica has registered, or nobody knows it.
pub async fn beat(tx: &mut Tx, id: &str, epoch: u64) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let changed = tx
        .execute(
            "UPDATE replicas SET beat = beat + 1, serving = 1, seen_at = $3
             WHERE id = $1 AND epoch = $2",
            &params![id, epoch, now],
        )
        .await?;
    Ok(changed == 1)
}

/// Takes a replica for dead, if it has given no sign of life since it was looked at.
pub async fn silence(tx: &mut Tx, replica: &Replica) -> Result<bool, DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE replicas SET serving = 0
             WHERE id = $1 AND epoch = $2 AND beat = $3 AND serving = 1",
            &params![replica.id, replica.epoch, replica.beat],
        )
        .await?;
    Ok(changed == 1)
}

/// A process ends and says so.
pub async fn leave(tx: &mut Tx, id: &str, epoch: u64) -> Result<(), DatabaseError> {
    tx.execute("UPDATE replicas SET serving = 0 WHERE id = $1 AND epoch = $2", &params![id, epoch])
        .await?;
    Ok(())
}

pub async fn forget_silent(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, DatabaseError> {
    tx.execute(
        "DELETE FROM replicas WHERE id IN (
             SELECT id FROM replicas WHERE serving = 0 AND seen_at < $1 ORDER BY id LIMIT $2)",
        &params![before, limit],
    )
    .await
}

/// Which image store the region's rows speak of.
pub async fn image_store(tx: &mut Tx) -> Result<Option<String>, DatabaseError> {
    let row =
        tx.query_opt("SELECT value FROM region_facts WHERE name = 'image_store'", &[]).await?;
    row.map(|row| row.text("value")).transpose()
}

/// Says so, where nobody has yet.
pub async fn set_image_store(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO region_facts (name, value) VALUES ('image_store', $1)
         ON CONFLICT (name) DO NOTHING",
        &params![id],
    )
    .await?;
    Ok(())
}

/// Whether the database was restored, and an operator is to compare it with the hosts.
pub async fn under_review(tx: &mut Tx) -> Result<bool, DatabaseError> {
    let row = tx.query_opt("SELECT value FROM region_facts WHERE name = 'review'", &[]).await?;
    Ok(row.is_some())
}

/// Begins or ends that.
pub async fn set_under_review(tx: &mut Tx, review: bool) -> Result<(), DatabaseError> {
    if review {
        tx.execute(
            "INSERT INTO region_facts (name, value) VALUES ('review', 'pending')
             ON CONFLICT (name) DO NOTHING",
            &[],
        )
        .await?;
    } else {
        tx.execute("DELETE FROM region_facts WHERE name = 'review'", &[]).await?;
    }
    Ok(())
}
