//! All SQL on ports. A port is read with its addresses and groups: three statements for any
//! number of ports.

use std::collections::HashMap;

use cloud_types::{Fault, HostId, MacAddress, NetworkId, PortId, ProjectId, ServerId};
use database::{DatabaseError, Row, Tx, Value, params};
use serde_json::json;

use super::model::{Port, PortBinding, PortStatus};
use crate::address::store as addresses;
use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::network::model::domain;
use crate::security_group::store as groups;

/// What a list of ports can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "p.id"),
    Column::text("name", "p.name"),
    Column::text("description", "p.description"),
    Column::text("project_id", "p.project_id"),
    Column::text("tenant_id", "p.project_id"),
    Column::text("network_id", "p.network_id"),
    Column::text("device_id", "p.device_id"),
    Column::text("device_owner", "p.device_owner"),
    Column::text("mac_address", "p.mac_address"),
    Column::text("status", "p.status"),
    Column::text("binding:host_id", "p.binding_host"),
    Column::text("binding:vnic_type", "p.vnic_type"),
    Column::text("dns_domain", "p.dns_domain"),
    Column::text("dns_name", "CASE WHEN p.dns_name = '' THEN p.hostname ELSE p.dns_name END"),
    Column::of("admin_state_up", "p.admin_state_up", Kind::Bool),
    Column::of("port_security_enabled", "p.port_security_enabled", Kind::Bool),
    Column::of("revision_number", "p.revision", Kind::Int),
    Column::of("created_at", "p.created_at", Kind::Time),
    Column::of("updated_at", "p.updated_at", Kind::Time),
];

/// Filters that are not a column.
pub const SPECIAL: &[&str] = &["fixed_ips", "security_groups", "security_group_ids"];

const SELECT: &str = "SELECT p.*, n.mtu AS network_mtu, n.admin_state_up AS network_up, \
     n.dns_domain AS clouds_domain, n.tenant_dns_domain AS tenants_domain FROM ports p \
     JOIN networks n ON n.id = p.network_id";

/// A condition on `fixed_ips`, already read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FixedIpFilter {
    /// An address of this subnet.
    Subnet(String),
    /// This address.
    Address(String),
    /// An address that holds this text.
    Part(String),
}

fn read(row: &Row) -> Result<Port, DatabaseError> {
    let host: Option<HostId> = row.opt_parse("bound_host")?;
    let binding = match host {
        None => None,
        Some(host) => Some(PortBinding {
            host,
            host_number: u16::try_from(row.int("bound_host_number")?).unwrap_or(0),
            l2_domain: row.text("bound_l2_domain")?,
            port_number: u32::try_from(row.int("port_number")?).unwrap_or(0),
            attachment: row.json("attachment")?,
        }),
    };
    Ok(Port {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        network_id: row.parse("network_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        admin_state_up: row.bool("admin_state_up")?,
        mac: row.parse("mac_address")?,
        fixed_ips: Vec::new(),
        security_groups: Vec::new(),
        device_id: row.text("device_id")?,
        device_owner: row.text("device_owner")?,
        device_index: row.int("device_index")?,
        device_tag: row.text("device_tag")?,
        made_for_device: row.bool("made_for_device")?,
        hostname: row.text("hostname")?,
        dns_name: row.text("dns_name")?,
        extra_dhcp_opts: row.json("extra_dhcp_opts")?,
        domain: match row.text("dns_domain")?.trim_end_matches('.') {
            "" => domain(&row.text("tenants_domain")?, &row.text("clouds_domain")?).to_owned(),
            own => own.to_owned(),
        },
        dns_domain: row.text("dns_domain")?,
        status: if row.text("status")? == PortStatus::Active.as_str() {
            PortStatus::Active
        } else {
            PortStatus::Down
        },
        port_security_enabled: row.bool("port_security_enabled")?,
        allowed_address_pairs: row.json("allowed_address_pairs")?,
        vnic_type: row.text("vnic_type")?,
        binding_host: row.text("binding_host")?,
        binding_profile: row.json("binding_profile")?,
        binding,
        mtu: u16::try_from(row.int("network_mtu")?).unwrap_or(u16::MAX),
        network_up: row.bool("network_up")?,
        tags: row.json("tags")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// Reads rows and adds each port's addresses and groups.
async fn complete(tx: &mut Tx, rows: &[Row]) -> Result<Vec<Port>, DatabaseError> {
    let mut ports = rows.iter().map(read).collect::<Result<Vec<Port>, _>>()?;
    let ids: Vec<PortId> = ports.iter().map(|port| port.id).collect();
    if ids.is_empty() {
        return Ok(ports);
    }
    let mut ips = addresses::of_ports(tx, &ids).await?;
    let mut memberships = groups::groups_of_ports(tx, &ids).await?;
    for port in &mut ports {
        port.fixed_ips = ips.remove(&port.id).unwrap_or_default();
        port.security_groups = memberships.remove(&port.id).unwrap_or_default();
    }
    Ok(ports)
}

/// Ports that meet a condition, in an order.
async fn select(
    tx: &mut Tx,
    conditions: &Conditions,
    order: &str,
) -> Result<Vec<Port>, DatabaseError> {
    let sql = format!("{SELECT} WHERE {} ORDER BY {order}", conditions.text());
    let rows = tx.query_dynamic(sql, conditions.values()).await?;
    complete(tx, &rows).await
}

/// The port.
pub async fn get(tx: &mut Tx, id: &PortId) -> Result<Option<Port>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT p.*, n.mtu AS network_mtu, n.admin_state_up AS network_up, \
             n.dns_domain AS clouds_domain, n.tenant_dns_domain AS tenants_domain FROM ports p \
             JOIN networks n ON n.id = p.network_id WHERE p.id = $1",
            &params![id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(complete(tx, &[row]).await?.pop())
}

/// Network and owner of a port, which never change: what has to be locked before it is read.
pub async fn place_of(
    tx: &mut Tx,
    id: &PortId,
) -> Result<Option<(NetworkId, ProjectId)>, DatabaseError> {
    let row = tx
        .query_opt("SELECT network_id, project_id FROM ports WHERE id = $1", &params![id])
        .await?;
    row.map(|row| Ok((row.parse("network_id")?, row.parse("project_id")?))).transpose()
}

/// The owners of the groups that a port is in: what has to be locked beside [`place_of`] before the
/// port is read.
pub async fn owners_of_groups(tx: &mut Tx, id: &PortId) -> Result<Vec<ProjectId>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT DISTINCT g.project_id FROM port_security_groups m \
             JOIN security_groups g ON g.id = m.group_id WHERE m.port_id = $1 ORDER BY g.project_id",
            &params![id],
        )
        .await?;
    rows.iter().map(|row| row.parse("project_id")).collect()
}

/// The ports, sorted by id; those that do not exist are left out.
pub async fn get_many(tx: &mut Tx, ids: &[PortId]) -> Result<Vec<Port>, DatabaseError> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        conditions.and(format!("p.id IN ({places})"));
        found.extend(select(tx, &conditions, "p.id").await?);
    }
    Ok(found)
}

/// A page of the ports that `viewer` sees, its own and all on its networks; of all ports when it
/// is `None`.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    query: &ListQuery,
    fixed_ips: &[FixedIpFilter],
    in_groups: &[String],
) -> Result<(Vec<Port>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        conditions.and(format!("p.project_id = {project} OR n.project_id = {project}"));
    }
    conditions.filter(query, "p.tags", "p.updated_at");
    filter_fixed_ips(&mut conditions, fixed_ips);
    if !in_groups.is_empty() {
        let places = conditions.bind_all(in_groups.iter().map(Value::from));
        conditions.and(format!(
            "p.id IN (SELECT m.port_id FROM port_security_groups m WHERE m.group_id IN ({places}))"
        ));
    }
    let Page { rows, cut } = page(tx, SELECT, conditions, query, "port").await?;
    Ok((complete(tx, &rows).await?, cut))
}

/// Several subnets are alternatives, several addresses are alternatives; both kinds together must
/// hold, as in Neutron.
fn filter_fixed_ips(conditions: &mut Conditions, wanted: &[FixedIpFilter]) {
    let (mut subnets, mut addresses) = (Vec::new(), Vec::new());
    for filter in wanted {
        match filter {
            FixedIpFilter::Subnet(id) => {
                let place = conditions.bind(id);
                subnets.push(format!("a.subnet_id = {place}"));
            }
            FixedIpFilter::Address(ip) => {
                let place = conditions.bind(ip);
                addresses.push(format!("a.ip = {place}"));
            }
            FixedIpFilter::Part(part) => {
                let escaped = part.replace('!', "!!").replace('%', "!%").replace('_', "!_");
                let place = conditions.bind(format!("%{escaped}%"));
                addresses.push(format!("a.ip LIKE {place} ESCAPE '!'"));
            }
        }
    }
    let both: Vec<String> = [subnets, addresses]
        .into_iter()
        .filter(|clauses| !clauses.is_empty())
        .map(|clauses| format!("({})", clauses.join(" OR ")))
        .collect();
    if !both.is_empty() {
        conditions.and(format!(
            "p.id IN (SELECT a.port_id FROM ip_allocations a WHERE {})",
            both.join(" AND ")
        ));
    }
}

/// Every port of a network.
pub async fn of_network(tx: &mut Tx, network: &NetworkId) -> Result<Vec<Port>, DatabaseError> {
    let mut conditions = Conditions::default();
    let place = conditions.bind(network);
    conditions.and(format!("p.network_id = {place}"));
    select(tx, &conditions, "p.id").await
}

/// The ports of a network that live on a host of the L2 domain.
pub async fn bound_in(
    tx: &mut Tx,
    network: &NetworkId,
    l2_domain: &str,
) -> Result<Vec<Port>, DatabaseError> {
    let mut conditions = Conditions::default();
    let (network, domain) = (conditions.bind(network), conditions.bind(l2_domain));
    conditions.and(format!(
        "p.network_id = {network} AND p.bound_host IS NOT NULL AND p.bound_l2_domain = {domain}"
    ));
    select(tx, &conditions, "p.id").await
}

/// Whether the port's network has no other port on the host.
pub async fn is_alone(tx: &mut Tx, port: &Port, host: &HostId) -> Result<bool, DatabaseError> {
    let others = tx
        .query(
            "SELECT id FROM ports WHERE bound_host = $1 AND network_id = $2 AND id <> $3 LIMIT 1",
            &params![host, port.network_id, port.id],
        )
        .await?;
    Ok(others.is_empty())
}

/// The hosts on which a network has ports, with the L2 domain of each, sorted.
pub async fn hosts_of_network(
    tx: &mut Tx,
    network: &NetworkId,
) -> Result<Vec<(HostId, String)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT DISTINCT bound_host, bound_l2_domain FROM ports \
             WHERE network_id = $1 AND bound_host IS NOT NULL ORDER BY bound_host",
            &params![network],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("bound_host")?, row.text("bound_l2_domain")?))).collect()
}

/// The ports of the servers, NIC by NIC.
pub async fn of_servers(tx: &mut Tx, servers: &[ServerId]) -> Result<Vec<Port>, DatabaseError> {
    let mut found = Vec::new();
    for chunk in servers.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        conditions.and(format!("p.device_id IN ({places})"));
        found.extend(select(tx, &conditions, "p.device_id, p.device_index, p.id").await?);
    }
    found.retain(Port::is_compute);
    Ok(found)
}

/// Names of the networks.
pub async fn network_names(
    tx: &mut Tx,
    networks: &[NetworkId],
) -> Result<HashMap<NetworkId, String>, DatabaseError> {
    let mut found = HashMap::new();
    for chunk in networks.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!("SELECT id, name FROM networks WHERE id IN ({places})");
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.insert(row.parse("id")?, row.text("name")?);
        }
    }
    Ok(found)
}

/// Whether a port of the network has the address.
pub async fn mac_is_taken(
    tx: &mut Tx,
    network: &NetworkId,
    mac: MacAddress,
) -> Result<bool, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT id FROM ports WHERE network_id = $1 AND mac_address = $2",
            &params![network, mac],
        )
        .await?;
    Ok(row.is_some())
}

/// Adds a port; addresses and groups are written by their own stores.
pub async fn insert(tx: &mut Tx, port: &Port) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO ports (id, project_id, network_id, name, description, admin_state_up, \
         mac_address, device_id, device_owner, device_index, device_tag, made_for_device, \
         hostname, status, port_security_enabled, allowed_address_pairs, vnic_type, binding_host, \
         binding_profile, tags, revision, created_at, updated_at, dns_name, extra_dhcp_opts, \
         dns_domain) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
         $19, $20, $21, $22, $23, $24, $25, $26)",
        &params![
            port.id,
            port.project_id,
            port.network_id,
            port.name,
            port.description,
            port.admin_state_up,
            port.mac,
            port.device_id,
            port.device_owner,
            port.device_index,
            port.device_tag,
            port.made_for_device,
            port.hostname,
            port.status.as_str(),
            port.port_security_enabled,
            json!(port.allowed_address_pairs),
            port.vnic_type,
            port.binding_host,
            port.binding_profile,
            json!(port.tags),
            port.revision,
            port.created_at,
            port.updated_at,
            port.dns_name,
            json!(port.extra_dhcp_opts),
            port.dns_domain
        ],
    )
    .await?;
    Ok(())
}

/// Writes a changed port; `port.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, port: &mut Port) -> Result<(), DatabaseError> {
    port.updated_at = tx.now();
    let binding = port.binding.as_ref();
    let rows = tx
        .execute(
            "UPDATE ports SET name = $3, description = $4, admin_state_up = $5, mac_address = $6, \
             device_id = $7, device_owner = $8, device_index = $9, device_tag = $10, \
             made_for_device = $11, hostname = $12, status = $13, port_security_enabled = $14, \
             allowed_address_pairs = $15, vnic_type = $16, binding_host = $17, \
             binding_profile = $18, bound_host = $19, bound_host_number = $20, \
             bound_l2_domain = $21, port_number = $22, attachment = $23, tags = $24, \
             updated_at = $25, dns_name = $26, extra_dhcp_opts = $27, dns_domain = $28, \
             revision = revision + 1 WHERE id = $1 AND revision = $2",
            &params![
                port.id,
                port.revision,
                port.name,
                port.description,
                port.admin_state_up,
                port.mac,
                port.device_id,
                port.device_owner,
                port.device_index,
                port.device_tag,
                port.made_for_device,
                port.hostname,
                port.status.as_str(),
                port.port_security_enabled,
                json!(port.allowed_address_pairs),
                port.vnic_type,
                port.binding_host,
                port.binding_profile,
                binding.map(|binding| binding.host),
                binding.map(|binding| binding.host_number),
                binding.map(|binding| binding.l2_domain.clone()),
                binding.map(|binding| binding.port_number),
                binding.map(|binding| json!(binding.attachment)),
                json!(port.tags),
                port.updated_at,
                port.dns_name,
                json!(port.extra_dhcp_opts),
                port.dns_domain
            ],
        )
        .await?;
    tx.expect_one(rows, "port", port.id)?;
    port.revision += 1;
    Ok(())
}

/// Removes a port; its addresses and groups are removed by their own stores.
pub async fn delete(tx: &mut Tx, id: &PortId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM ports WHERE id = $1", &params![id]).await?;
    Ok(())
}
