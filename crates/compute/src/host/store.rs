//! The rows of claims: `allocations`, one for each placed server, and `compute_hosts`, the sums.

use std::collections::HashMap;

use cloud_types::{HostId, ServerId};
use database::{DatabaseError, ObjectLock, Row, Tx, Value, params};
use planted_bugs::planted;

use crate::scheduler::Resources;

/// What is claimed on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nova's numeric id of the host, for old microversions.
    pub number: i64,
    /// The sum of the claims.
    pub used: Resources,
    /// How many servers hold one.
    pub servers: u64,
}

/// A server's claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// On this host.
    pub host: HostId,
    /// For this placement.
    pub epoch: u64,
    /// So much.
    pub resources: Resources,
}

fn resources(row: &Row) -> Result<Resources, DatabaseError> {
    Ok(Resources {
        vcpus: row.u64("vcpus")?,
        memory_mib: row.u64("memory_mib")?,
        disk_gib: row.u64("disk_gib")?,
    })
}

/// What is claimed, by host. Hosts that never had a claim are missing.
pub async fn usage(tx: &mut Tx) -> Result<HashMap<HostId, Usage>, DatabaseError> {
    tx.query("SELECT host_id, number, vcpus, memory_mib, disk_gib, servers FROM compute_hosts", &[])
        .await?
        .iter()
        .map(|row| {
            let usage = Usage {
                number: row.int("number")?,
                used: resources(row)?,
                servers: row.u64("servers")?,
            };
            Ok((row.parse("host_id")?, usage))
        })
        .collect()
}

/// What is claimed on these hosts. Hosts that never had a claim are missing.
pub async fn usage_of(
    tx: &mut Tx,
    hosts: &[HostId],
) -> Result<HashMap<HostId, Usage>, DatabaseError> {
    if hosts.is_empty() {
        return Ok(HashMap::new());
    }
    let places: Vec<String> = (1..=hosts.len()).map(|at| format!("${at}")).collect();
    let sql = format!(
        "SELECT host_id, number, vcpus, memory_mib, disk_gib, servers FROM compute_hosts
         WHERE host_id IN ({})",
        places.join(", ")
    );
    let ids: Vec<Value> = hosts.iter().map(Value::from).collect();
    tx.query_dynamic(sql, &ids)
        .await?
        .iter()
        .map(|row| {
            let usage = Usage {
                number: row.int("number")?,
                used: resources(row)?,
                servers: row.u64("servers")?,
            };
            Ok((row.parse("host_id")?, usage))
        })
        .collect()
}

/// Makes sure that the host has a row, and with it a number.
pub async fn know(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    let known =
        tx.query_opt("SELECT number FROM compute_hosts WHERE host_id = $1", &params![host]).await?;
    if known.is_some() {
        return Ok(());
    }
    tx.lock(&[ObjectLock::new("compute_hosts", "numbers")]).await?;
    let now = tx.now();
    tx.execute(
        "INSERT INTO compute_hosts (host_id, number, vcpus, memory_mib, disk_gib, servers, updated_at)
         SELECT $1, COALESCE(MAX(number), 0) + 1, 0, 0, 0, 0, $2 FROM compute_hosts
         WHERE TRUE ON CONFLICT DO NOTHING",
        &params![host, now],
    )
    .await?;
    Ok(())
}

/// The claim of a server.
pub async fn allocation(
    tx: &mut Tx,
    server: &ServerId,
) -> Result<Option<Allocation>, DatabaseError> {
    tx.query_opt(
        "SELECT host_id, epoch, vcpus, memory_mib, disk_gib FROM allocations WHERE server_id = $1",
        &params![server],
    )
    .await?
    .map(|row| {
        Ok(Allocation {
            host: row.parse("host_id")?,
            epoch: row.u64("epoch")?,
            resources: resources(&row)?,
        })
    })
    .transpose()
}

/// Claims room for a server, unless somebody was faster: the check and the change are one
/// statement on one row. `allowed` is what may be promised on the host in all. The server must
/// hold no claim.
pub async fn claim(
    tx: &mut Tx,
    server: &ServerId,
    claim: &Allocation,
    allowed: Resources,
) -> Result<bool, DatabaseError> {
    know(tx, &claim.host).await?;
    let now = tx.now();
    let Allocation { host, epoch, resources } = *claim;
    let changed = tx
        .execute(
            "UPDATE compute_hosts
             SET vcpus = vcpus + $1, memory_mib = memory_mib + $2, disk_gib = disk_gib + $3,
                 servers = servers + 1, updated_at = $4
             WHERE host_id = $5 AND vcpus + $1 <= $6 AND memory_mib + $2 <= $7
                 AND (disk_gib + $3 <= $8 OR $3 = 0)",
            &params![
                resources.vcpus,
                resources.memory_mib,
                resources.disk_gib,
                now,
                host,
                allowed.vcpus,
                allowed.memory_mib,
                allowed.disk_gib
            ],
        )
        .await?;
    if changed == 0 {
        return Ok(false);
    }
    tx.execute(
        "INSERT INTO allocations (server_id, host_id, epoch, vcpus, memory_mib, disk_gib, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &params![
            server,
            host,
            epoch,
            resources.vcpus,
            resources.memory_mib,
            resources.disk_gib,
            now
        ],
    )
    .await?;
    Ok(true)
}

/// Gives a server's claim back, if it holds one.
pub async fn release(tx: &mut Tx, server: &ServerId) -> Result<Option<Allocation>, DatabaseError> {
    let Some(held) = allocation(tx, server).await? else { return Ok(None) };
    let removed =
        tx.execute("DELETE FROM allocations WHERE server_id = $1", &params![server]).await?;
    if removed == 0 {
        return Ok(None);
    }
    let now = tx.now();
    let servers = i64::from(!planted("forget_sum"));
    tx.execute(
        "UPDATE compute_hosts
         SET vcpus = vcpus - $1, memory_mib = memory_mib - $2, disk_gib = disk_gib - $3,
             servers = servers - $6, updated_at = $4
         WHERE host_id = $5",
        &params![
            held.resources.vcpus,
            held.resources.memory_mib,
            held.resources.disk_gib,
            now,
            held.host,
            servers
        ],
    )
    .await?;
    Ok(Some(held))
}

/// Whether each host's sums are those of its claims: for the auditor. The hosts where they differ.
pub async fn wrong_sums(tx: &mut Tx) -> Result<Vec<HostId>, DatabaseError> {
    tx.query(
        "SELECT h.host_id AS host_id FROM compute_hosts h
         LEFT JOIN (SELECT host_id, SUM(vcpus) AS vcpus, SUM(memory_mib) AS memory_mib,
                        SUM(disk_gib) AS disk_gib, COUNT(*) AS servers
                    FROM allocations GROUP BY host_id) a ON a.host_id = h.host_id
         WHERE h.vcpus <> COALESCE(a.vcpus, 0) OR h.memory_mib <> COALESCE(a.memory_mib, 0)
            OR h.disk_gib <> COALESCE(a.disk_gib, 0) OR h.servers <> COALESCE(a.servers, 0)
         ORDER BY h.host_id",
        &[],
    )
    .await?
    .iter()
    .map(|row| row.parse("host_id"))
    .collect()
}
