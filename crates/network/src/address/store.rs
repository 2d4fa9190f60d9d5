//! All SQL on who has which address.

use std::collections::HashMap;
use std::net::IpAddr;

use cloud_types::{NetworkId, PortId, SubnetId};
use database::{DatabaseError, Tx, Value, params};

use super::model::{from_key, key};
use crate::listing::store::Conditions;

/// How many taken addresses are read at once while looking for a gap.
pub const SCAN: usize = 256;

/// Gives an address to a port; `false` when somebody has it.
pub async fn insert(
    tx: &mut Tx,
    subnet: &SubnetId,
    ip: IpAddr,
    port: &PortId,
    network: &NetworkId,
    place: usize,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "INSERT INTO ip_allocations (subnet_id, ip_key, ip, port_id, network_id, place) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &params![subnet, key(ip), ip, port, network, place],
        )
        .await?;
    Ok(rows == 1)
}

/// Moves an address of a port to another place in its list.
pub async fn set_place(
    tx: &mut Tx,
    subnet: &SubnetId,
    ip: IpAddr,
    place: usize,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE ip_allocations SET place = $3 WHERE subnet_id = $1 AND ip_key = $2",
        &params![subnet, key(ip), place],
    )
    .await?;
    Ok(())
}

/// Takes an address away from its port.
pub async fn delete(tx: &mut Tx, subnet: &SubnetId, ip: IpAddr) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM ip_allocations WHERE subnet_id = $1 AND ip_key = $2",
        &params![subnet, key(ip)],
    )
    .await?;
    Ok(())
}

/// The addresses of the ports, each list in order.
pub async fn of_ports(
    tx: &mut Tx,
    ports: &[PortId],
) -> Result<HashMap<PortId, Vec<(SubnetId, IpAddr)>>, DatabaseError> {
    let mut found: HashMap<PortId, Vec<(SubnetId, IpAddr)>> = HashMap::new();
    for chunk in ports.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!(
            "SELECT port_id, subnet_id, ip FROM ip_allocations WHERE port_id IN ({places}) \
             ORDER BY port_id, place"
        );
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found
                .entry(row.parse("port_id")?)
                .or_default()
                .push((row.parse("subnet_id")?, row.parse("ip")?));
        }
    }
    Ok(found)
}

/// Ports with an address of the subnet, a few of them.
pub async fn users_of(
    tx: &mut Tx,
    subnet: &SubnetId,
) -> Result<Vec<(PortId, IpAddr)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT port_id, ip FROM ip_allocations WHERE subnet_id = $1 ORDER BY ip_key LIMIT 1000",
            &params![subnet],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("port_id")?, row.parse("ip")?))).collect()
}

/// The port that has the address.
pub async fn users_of_address(
    tx: &mut Tx,
    subnet: &SubnetId,
    ip: IpAddr,
) -> Result<Option<PortId>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT port_id FROM ip_allocations WHERE subnet_id = $1 AND ip_key = $2",
            &params![subnet, key(ip)],
        )
        .await?;
    row.map(|row| row.parse("port_id")).transpose()
}

/// Addresses that cannot be given automatically, in order, from `from` on, at most [`SCAN`]: those
/// that a port has, and those that were released and wait for their turn.
pub async fn taken_from(
    tx: &mut Tx,
    subnet: &SubnetId,
    from: IpAddr,
) -> Result<Vec<IpAddr>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT ip_key FROM (\
               SELECT ip_key FROM ip_allocations WHERE subnet_id = $1 AND ip_key >= $2 \
               UNION SELECT ip_key FROM released_addresses WHERE subnet_id = $1 AND ip_key >= $2\
             ) taken ORDER BY ip_key LIMIT 256",
            &params![subnet, key(from)],
        )
        .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        taken.extend(from_key(&row.text("ip_key")?));
    }
    Ok(taken)
}

/// Remembers a released address. With a port, it waits until that port is gone from every host.
pub async fn release(
    tx: &mut Tx,
    subnet: &SubnetId,
    ip: IpAddr,
    waits_for: Option<&PortId>,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO released_addresses (subnet_id, ip_key, released_at, port_id) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (subnet_id, ip_key) \
         DO UPDATE SET released_at = excluded.released_at, port_id = excluded.port_id",
        &params![subnet, key(ip), now, waits_for.map(|id| id.to_string()).unwrap_or_default()],
    )
    .await?;
    Ok(())
}

/// Released addresses that may be given again, longest released first, a few of them.
pub async fn reusable(tx: &mut Tx, subnet: &SubnetId) -> Result<Vec<IpAddr>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT ip_key FROM released_addresses WHERE subnet_id = $1 AND port_id = '' \
             ORDER BY released_at, ip_key LIMIT 16",
            &params![subnet],
        )
        .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.extend(from_key(&row.text("ip_key")?));
    }
    Ok(found)
}

/// Whether a released address still waits for a host; `None` when it is not a released one.
pub async fn is_waiting(
    tx: &mut Tx,
    subnet: &SubnetId,
    ip: IpAddr,
) -> Result<Option<bool>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT port_id FROM released_addresses WHERE subnet_id = $1 AND ip_key = $2",
            &params![subnet, key(ip)],
        )
        .await?;
    row.map(|row| Ok(!row.text("port_id")?.is_empty())).transpose()
}

/// Forgets that an address was released.
pub async fn forget_released(
    tx: &mut Tx,
    subnet: &SubnetId,
    ip: IpAddr,
) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM released_addresses WHERE subnet_id = $1 AND ip_key = $2",
        &params![subnet, key(ip)],
    )
    .await?;
    Ok(())
}

/// Forgets the released addresses of a subnet that wait for nobody: its pools were changed, and
/// allocation begins from the start.
pub async fn forget_all_released(tx: &mut Tx, subnet: &SubnetId) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM released_addresses WHERE subnet_id = $1 AND port_id = ''",
        &params![subnet],
    )
    .await?;
    Ok(())
}

/// Forgets everything about a subnet that goes.
pub async fn forget_subnet(tx: &mut Tx, subnet: &SubnetId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM released_addresses WHERE subnet_id = $1", &params![subnet]).await?;
    tx.execute("DELETE FROM ip_allocations WHERE subnet_id = $1", &params![subnet]).await?;
    Ok(())
}

/// No host uses the port any more: its addresses may be given again.
pub async fn port_is_gone(tx: &mut Tx, port: &str) -> Result<(), DatabaseError> {
    tx.execute("UPDATE released_addresses SET port_id = '' WHERE port_id = $1", &params![port])
        .await?;
    Ok(())
}
