//! Reads slices of servers, ports, networks and addresses.

use std::collections::{BTreeMap, BTreeSet};

use database::{DatabaseError, Row, Tx, Value, params};

use super::{Range, flag};
use crate::checks::fixed_ips;
use crate::rows::{
    AddressRow, Claim, DocumentRow, NetworkSlice, NumberRow, PortRow, PortSlice, ReportRow,
    ServerRow, ServerSlice, WorkflowRow,
};

/// Identifiers in one list of parameters.
const CHUNK: usize = 500;

/// Servers, and what is written about them elsewhere.
pub async fn servers(tx: &mut Tx, range: &Range) -> Result<ServerSlice, DatabaseError> {
    let part = params![range.low, range.high];
    let mut slice = ServerSlice::default();
    let rows = tx
        .query(
            "SELECT id, host_id, placement_epoch, vm_state, task_state, power_state, desired_power,
                 deleted_at
             FROM servers WHERE id >= $1 AND id < $2",
            &part,
        )
        .await?;
    for row in &rows {
        let server = ServerRow {
            id: row.text("id")?,
            host: row.opt_text("host_id")?,
            epoch: row.int("placement_epoch")?,
            vm_state: row.text("vm_state")?,
            task_state: row.opt_text("task_state")?,
            power_state: row.int("power_state")?,
            desired: row.opt_text("desired_power")?,
            deleted: row.opt_int("deleted_at")?.is_some(),
        };
        slice.servers.insert(server.id.clone(), server);
    }
    let rows = tx
        .query(
            "SELECT server_id, host_id, epoch FROM allocations
             WHERE server_id >= $1 AND server_id < $2",
            &part,
        )
        .await?;
    for row in &rows {
        slice.claims.push(Claim {
            server: row.text("server_id")?,
            host: row.text("host_id")?,
            epoch: row.int("epoch")?,
        });
    }
    slice.documents = documents(tx, "server", range, true).await?;
    let rows = tx
        .query(
            "SELECT id, kind, owner_kind, owner_id, status, step, wait_event, lease_owner, due_at,
                 deadline, updated_at, lease_epoch
             FROM workflows
             WHERE owner_kind = 'server' AND owner_id >= $1 AND owner_id < $2
               AND status IN ('runnable', 'waiting', 'parked')",
            &part,
        )
        .await?;
    slice.workflows = rows.iter().map(workflow).collect::<Result<_, _>>()?;
    let rows = tx
        .query(
            "SELECT id, network_id, device_id, device_owner, bound_host, bound_l2_domain,
                 port_number
             FROM ports WHERE device_id >= $1 AND device_id < $2 AND device_id <> ''",
            &part,
        )
        .await?;
    slice.ports = rows
        .iter()
        .map(port)
        .filter(|port| port.as_ref().map_or(true, PortRow::is_of_server))
        .collect::<Result<_, _>>()?;
    Ok(slice)
}

pub(super) fn workflow(row: &Row) -> Result<WorkflowRow, DatabaseError> {
    Ok(WorkflowRow {
        id: row.text("id")?,
        kind: row.text("kind")?,
        owner_kind: row.text("owner_kind")?,
        owner: row.text("owner_id")?,
        status: row.text("status")?,
        step: row.text("step")?,
        wait_event: row.opt_text("wait_event")?,
        leased: row.opt_text("lease_owner")?.is_some(),
        due_at: row.timestamp("due_at")?,
        deadline: row.timestamp("deadline")?,
        updated_at: row.timestamp("updated_at")?,
        lease_epoch: row.int("lease_epoch")?,
    })
}

fn port(row: &Row) -> Result<PortRow, DatabaseError> {
    Ok(PortRow {
        id: row.text("id")?,
        network: row.text("network_id")?,
        device: row.text("device_id")?,
        device_owner: row.text("device_owner")?,
        host: row.opt_text("bound_host")?,
        domain: row.opt_text("bound_l2_domain")?,
        number: row.opt_int("port_number")?,
    })
}

/// Documents of one kind, with reports; descriptions where they are asked for.
async fn documents(
    tx: &mut Tx,
    kind: &'static str,
    range: &Range,
    with_spec: bool,
) -> Result<Vec<DocumentRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT d.host_id, d.id, d.generation, d.epoch, d.tombstone,
                 CASE WHEN $4 = 1 THEN d.spec ELSE NULL END AS spec,
                 r.generation AS reported, r.state, r.facts, r.reported_at
             FROM host_documents d
             LEFT JOIN host_reports r ON r.host_id = d.host_id AND r.kind = d.kind AND r.id = d.id
             WHERE d.kind = $1 AND d.id >= $2 AND d.id < $3",
            &params![kind, range.low, range.high, i64::from(with_spec)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let report = match row.opt_int("reported")? {
                None => None,
                Some(generation) => Some(ReportRow {
                    generation,
                    state: row.text("state")?,
                    facts: row.json("facts")?,
                    at: row.timestamp("reported_at")?,
                }),
            };
            Ok(DocumentRow {
                host: row.text("host_id")?,
                id: row.text("id")?,
                generation: row.int("generation")?,
                epoch: row.int("epoch")?,
                tombstone: flag(row, "tombstone")?,
                spec: row.opt_json("spec")?.unwrap_or_default(),
                report,
            })
        })
        .collect()
}

async fn numbers(
    tx: &mut Tx,
    range: &Range,
    region: bool,
) -> Result<Vec<NumberRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT n.scope, n.number, n.owner, n.released,
                 (SELECT COUNT(*) FROM locator_waits w
                  WHERE w.scope = n.scope AND w.number = n.number) AS waits
             FROM locator_numbers n
             WHERE n.owner >= $1 AND n.owner < $2
               AND CASE WHEN n.scope = 'region' THEN 1 ELSE 0 END = $3",
            &params![range.low, range.high, i64::from(region)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(NumberRow {
                scope: row.text("scope")?,
                number: row.int("number")?,
                owner: row.text("owner")?,
                released: flag(row, "released")?,
                waits: row.int("waits")?,
            })
        })
        .collect()
}

/// Ports, and what is written about them elsewhere.
pub async fn ports(tx: &mut Tx, range: &Range) -> Result<PortSlice, DatabaseError> {
    let rows = tx
        .query(
            "SELECT id, network_id, device_id, device_owner, bound_host, bound_l2_domain,
                 port_number
             FROM ports WHERE id >= $1 AND id < $2",
            &params![range.low, range.high],
        )
        .await?;
    let mut slice = PortSlice::default();
    for row in &rows {
        let port = port(row)?;
        slice.ports.insert(port.id.clone(), port);
    }
    slice.documents = documents(tx, "port", range, true).await?;
    slice.neighbours = documents(tx, "neighbour", range, false).await?;
    slice.numbers = numbers(tx, range, false).await?;
    let going: BTreeSet<(String, String)> = slice
        .documents
        .iter()
        .filter(|document| document.tombstone)
        .flat_map(|document| fixed_ips(&document.spec))
        .collect();
    for (subnet, ip) in going {
        let holder = tx
            .query_opt(
                "SELECT port_id FROM ip_allocations WHERE subnet_id = $1 AND ip = $2",
                &params![subnet, ip],
            )
            .await?;
        if let Some(row) = holder {
            slice.holders.insert((subnet, ip), row.text("port_id")?);
        }
    }
    Ok(slice)
}

/// Networks, and what is written about them elsewhere.
pub async fn networks(tx: &mut Tx, range: &Range) -> Result<NetworkSlice, DatabaseError> {
    let part = params![range.low, range.high];
    let mut slice = NetworkSlice::default();
    let rows = tx.query("SELECT id FROM networks WHERE id >= $1 AND id < $2", &part).await?;
    slice.networks = rows.iter().map(|row| row.text("id")).collect::<Result<_, _>>()?;
    let rows = tx
        .query(
            "SELECT id, network_id, device_id, device_owner, bound_host, bound_l2_domain,
                 port_number
             FROM ports WHERE network_id >= $1 AND network_id < $2",
            &part,
        )
        .await?;
    slice.ports = rows.iter().map(port).collect::<Result<_, _>>()?;
    slice.documents = documents(tx, "network", range, false).await?;
    let bound: Vec<&PortRow> = slice.ports.iter().filter(|port| port.host.is_some()).collect();
    let mut neighbours: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for part in bound.chunks(CHUNK) {
        let places: Vec<String> = (1..=part.len()).map(|at| format!("${at}")).collect();
        let ids: Vec<Value> = part.iter().map(|port| Value::from(port.id.as_str())).collect();
        let sql = format!(
            "SELECT host_id, id FROM host_documents
             WHERE kind = 'neighbour' AND tombstone = 0 AND id IN ({})",
            places.join(", ")
        );
        for row in tx.query_dynamic(sql, &ids).await? {
            neighbours.entry(row.text("id")?).or_default().insert(row.text("host_id")?);
        }
    }
    slice.neighbours = neighbours;
    slice.numbers = numbers(tx, range, true).await?;
    Ok(slice)
}

/// Addresses of the subnets of a part.
pub async fn addresses(tx: &mut Tx, range: &Range) -> Result<Vec<AddressRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT a.subnet_id, a.ip, a.port_id, a.network_id, p.network_id AS port_network,
                 s.id AS subnet, r.ip_key AS released
             FROM ip_allocations a
             LEFT JOIN ports p ON p.id = a.port_id
             LEFT JOIN subnets s ON s.id = a.subnet_id
             LEFT JOIN released_addresses r
                 ON r.subnet_id = a.subnet_id AND r.ip_key = a.ip_key
             WHERE a.subnet_id >= $1 AND a.subnet_id < $2",
            &params![range.low, range.high],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(AddressRow {
                subnet: row.text("subnet_id")?,
                ip: row.text("ip")?,
                port: row.text("port_id")?,
                network: row.text("network_id")?,
                port_network: row.opt_text("port_network")?,
                subnet_exists: row.opt_text("subnet")?.is_some(),
                released: row.opt_text("released")?.is_some(),
            })
        })
        .collect()
}
