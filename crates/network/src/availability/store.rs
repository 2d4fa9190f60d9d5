//! Counts addresses: what the subnets' pools hold, and what ports have.

use std::collections::BTreeMap;

use cloud_types::{Fault, NetworkId, ProjectId, SubnetId};
use database::{DatabaseError, Row, Tx, Value};
use ipnet::IpNet;

use crate::address::model::{Pool, number};
use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};

/// What a list can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("network_id", "n.id"),
    Column::text("network_name", "n.name"),
    Column::text("project_id", "n.project_id"),
    Column::text("tenant_id", "n.project_id"),
    // The subnets that are counted, not the networks that are listed.
    Column::of("ip_version", "0", Kind::Int),
];

/// The addresses of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetAvailability {
    /// The subnet.
    pub id: SubnetId,
    /// Its name.
    pub name: String,
    /// Its range.
    pub cidr: IpNet,
    /// How many its pools hold.
    pub total: u128,
    /// How many ports have, in its pools or not.
    pub used: i64,
}

/// The addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAvailability {
    /// The network.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub project_id: ProjectId,
    /// Its subnets.
    pub subnets: Vec<SubnetAvailability>,
}

impl NetworkAvailability {
    /// How many addresses its subnets' pools hold.
    pub fn total(&self) -> u128 {
        self.subnets.iter().fold(0, |sum, subnet| sum.saturating_add(subnet.total))
    }

    /// How many addresses ports have.
    pub fn used(&self) -> i64 {
        self.subnets.iter().map(|subnet| subnet.used).sum()
    }
}

fn read(row: &Row) -> Result<NetworkAvailability, DatabaseError> {
    Ok(NetworkAvailability {
        id: row.parse("id")?,
        name: row.text("name")?,
        project_id: row.parse("project_id")?,
        subnets: Vec::new(),
    })
}

/// The network's addresses; with `version`, of its subnets of that version alone.
pub async fn get(tx: &mut Tx, id: &NetworkId) -> Result<Option<NetworkAvailability>, Fault> {
    let sql = "SELECT id, name, project_id FROM networks WHERE id = $1";
    let rows = tx.query(sql, &[Value::from(id)]).await?;
    let networks = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(complete(tx, networks, None).await?.pop())
}

/// A page of the networks with their addresses.
pub async fn list(
    tx: &mut Tx,
    query: &ListQuery,
    version: Option<i64>,
) -> Result<(Vec<NetworkAvailability>, bool), Fault> {
    let mut conditions = Conditions::default();
    conditions.filter(query, "'[]'", "0");
    let select = "SELECT n.id, n.name, n.project_id FROM networks n";
    let Page { rows, cut } = page(tx, select, conditions, query, "network").await?;
    let networks = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok((complete(tx, networks, version).await?, cut))
}

/// Adds the subnets: two statements for 500 networks.
async fn complete(
    tx: &mut Tx,
    mut networks: Vec<NetworkAvailability>,
    version: Option<i64>,
) -> Result<Vec<NetworkAvailability>, DatabaseError> {
    for chunk in networks.chunks_mut(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(|network| Value::from(network.id)));
        let used = format!(
            "SELECT a.subnet_id, COUNT(*) AS n FROM ip_allocations a JOIN subnets s \
             ON s.id = a.subnet_id WHERE s.network_id IN ({places}) GROUP BY a.subnet_id"
        );
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for row in tx.query_dynamic(used, conditions.values()).await? {
            counts.insert(row.text("subnet_id")?, row.int("n")?);
        }
        let subnets = format!(
            "SELECT id, network_id, name, cidr, ip_version, allocation_pools FROM subnets \
             WHERE network_id IN ({places}) ORDER BY created_at, id"
        );
        let mut found: BTreeMap<NetworkId, Vec<SubnetAvailability>> = BTreeMap::new();
        for row in tx.query_dynamic(subnets, conditions.values()).await? {
            if version.is_some_and(|version| row.int("ip_version").is_ok_and(|is| is != version)) {
                continue;
            }
            let pools: Vec<Pool> = row.json("allocation_pools")?;
            let size = |pool: &Pool| (number(pool.end) - number(pool.start)).saturating_add(1);
            let subnet = SubnetAvailability {
                id: row.parse("id")?,
                name: row.text("name")?,
                cidr: row.parse("cidr")?,
                total: pools.iter().map(size).fold(0, u128::saturating_add),
                used: counts.get(&row.text("id")?).copied().unwrap_or(0),
            };
            found.entry(row.parse("network_id")?).or_default().push(subnet);
        }
        for network in chunk {
            network.subnets = found.remove(&network.id).unwrap_or_default();
        }
    }
    Ok(networks)
}
