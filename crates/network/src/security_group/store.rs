//! All SQL on security groups, their rules, and which ports are in them.

use std::collections::{HashMap, HashSet};

use cloud_types::{AddressGroupId, Fault, PortId, ProjectId, SecurityGroupId, SecurityGroupRuleId};
use database::{DatabaseError, Row, Tx, Value, params};
use host_protocol::Direction;

use super::model::{GroupRow, RuleRow, RuleSpec, direction_name, ethertype_name};
use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::rbac::model::ObjectType;
use crate::rbac::store::{filter_shared, shared_ids};

/// What a list of groups can be filtered and sorted by.
pub const GROUP_COLUMNS: &[Column] = &[
    Column::text("id", "g.id"),
    Column::text("name", "g.name"),
    Column::text("description", "g.description"),
    Column::text("project_id", "g.project_id"),
    Column::text("tenant_id", "g.project_id"),
    Column::of("stateful", "g.stateful", Kind::Bool),
    Column::of("revision_number", "g.revision", Kind::Int),
    Column::of("created_at", "g.created_at", Kind::Time),
    Column::of("updated_at", "g.updated_at", Kind::Time),
];

/// What a list of rules can be filtered and sorted by.
pub const RULE_COLUMNS: &[Column] = &[
    Column::text("id", "r.id"),
    Column::text("description", "r.description"),
    Column::text("project_id", "r.project_id"),
    Column::text("tenant_id", "r.project_id"),
    Column::text("security_group_id", "r.group_id"),
    Column::text("direction", "r.direction"),
    Column::text("ethertype", "r.ethertype"),
    Column::text("protocol", "r.protocol"),
    Column::text("remote_ip_prefix", "r.remote_ip_prefix"),
    Column::text("remote_group_id", "r.remote_group_id"),
    Column::text("remote_address_group_id", "r.remote_address_group_id"),
    Column::of("port_range_min", "COALESCE(r.port_range_min, -1)", Kind::Int),
    Column::of("port_range_max", "COALESCE(r.port_range_max, -1)", Kind::Int),
    Column::of("revision_number", "r.revision", Kind::Int),
    Column::of("created_at", "r.created_at", Kind::Time),
    Column::of("updated_at", "r.updated_at", Kind::Time),
];

fn read_group(row: &Row) -> Result<GroupRow, DatabaseError> {
    Ok(GroupRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        name: row.text("name")?,
        description: row.text("description")?,
        is_default: row.bool("is_default")?,
        stateful: row.bool("stateful")?,
        tags: row.json("tags")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn port_of(value: Option<i64>) -> Option<u16> {
    value.and_then(|number| u16::try_from(number).ok())
}

fn read_rule(row: &Row) -> Result<RuleRow, DatabaseError> {
    Ok(RuleRow {
        id: row.parse("id")?,
        project_id: row.parse("project_id")?,
        group_id: row.parse("group_id")?,
        spec: RuleSpec {
            direction: if row.text("direction")? == "egress" {
                Direction::Egress
            } else {
                Direction::Ingress
            },
            ipv6: row.text("ethertype")? == "IPv6",
            protocol: some(row.text("protocol")?),
            port_min: port_of(row.opt_int("port_range_min")?),
            port_max: port_of(row.opt_int("port_range_max")?),
            remote_ip_prefix: some(row.text("remote_ip_prefix")?).and_then(|net| net.parse().ok()),
            remote_group_id: row.text("remote_group_id")?.parse().ok(),
            remote_address_group_id: row.text("remote_address_group_id")?.parse().ok(),
        },
        description: row.text("description")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The group.
pub async fn get(tx: &mut Tx, id: &SecurityGroupId) -> Result<Option<GroupRow>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM security_groups WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read_group).transpose()
}

/// Groups of the project with this name; the caller decides what several mean.
pub async fn by_name(
    tx: &mut Tx,
    project: &ProjectId,
    name: &str,
) -> Result<Vec<GroupRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM security_groups WHERE project_id = $1 AND name = $2 ORDER BY id LIMIT 2",
            &params![project, name],
        )
        .await?;
    rows.iter().map(read_group).collect()
}

/// The default group of the project, if it has been made.
pub async fn default_of(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Option<SecurityGroupId>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT group_id FROM default_security_groups WHERE project_id = $1",
            &params![project],
        )
        .await?;
    row.map(|row| row.parse("group_id")).transpose()
}

/// Remembers the default group of a project; `false` when it has one already.
pub async fn set_default(
    tx: &mut Tx,
    project: &ProjectId,
    group: &SecurityGroupId,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "INSERT INTO default_security_groups (project_id, group_id) VALUES ($1, $2) \
             ON CONFLICT DO NOTHING",
            &params![project, group],
        )
        .await?;
    Ok(rows == 1)
}

/// The default group of a project is gone; the next port makes another.
pub async fn forget_default(tx: &mut Tx, project: &ProjectId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM default_security_groups WHERE project_id = $1", &params![project])
        .await?;
    Ok(())
}

/// A page of the groups that `viewer` sees; of all when it is `None`. `caller` is the caller's own
/// project.
pub async fn list(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    caller: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<GroupRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        let shared = shared_ids(ObjectType::SecurityGroup, &project);
        conditions.and(format!("g.project_id = {project} OR g.id IN ({shared})"));
    }
    conditions.filter(query, "g.tags", "g.updated_at");
    filter_shared(&mut conditions, query, ObjectType::SecurityGroup, "g.id", caller)?;
    let select = "SELECT g.* FROM security_groups g";
    let Page { rows, cut } = page(tx, select, conditions, query, "security group").await?;
    Ok((rows.iter().map(read_group).collect::<Result<_, _>>()?, cut))
}

/// A page of the rules that `viewer` sees; of all when it is `None`.
pub async fn list_rules(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    query: &ListQuery,
) -> Result<(Vec<RuleRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    if let Some(project) = viewer {
        let project = conditions.bind(project);
        conditions.and(format!("r.project_id = {project}"));
    }
    conditions.filter(query, "'[]'", "r.updated_at");
    let select = "SELECT r.* FROM security_group_rules r";
    let Page { rows, cut } = page(tx, select, conditions, query, "security group rule").await?;
    Ok((rows.iter().map(read_rule).collect::<Result<_, _>>()?, cut))
}

/// Adds a group.
pub async fn insert(tx: &mut Tx, row: &GroupRow) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO security_groups (id, project_id, name, description, is_default, tags, \
         revision, created_at, updated_at, stateful) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        &params![
            row.id,
            row.project_id,
            row.name,
            row.description,
            row.is_default,
            serde_json::json!(row.tags),
            row.revision,
            row.created_at,
            row.updated_at,
            row.stateful
        ],
    )
    .await?;
    Ok(())
}

/// Writes a changed group; `row.revision` is the one that was read, and is raised.
pub async fn update(tx: &mut Tx, row: &mut GroupRow) -> Result<(), DatabaseError> {
    row.updated_at = tx.now();
    let rows = tx
        .execute(
            "UPDATE security_groups SET name = $3, description = $4, tags = $5, updated_at = $6, \
             stateful = $7, revision = revision + 1 WHERE id = $1 AND revision = $2",
            &params![
                row.id,
                row.revision,
                row.name,
                row.description,
                serde_json::json!(row.tags),
                row.updated_at,
                row.stateful
            ],
        )
        .await?;
    tx.expect_one(rows, "security group", row.id)?;
    row.revision += 1;
    Ok(())
}

/// Counts a change of the group's rules as a change of the group, as Neutron does.
pub async fn bump(tx: &mut Tx, id: &SecurityGroupId) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "UPDATE security_groups SET revision = revision + 1, updated_at = $2 WHERE id = $1",
        &params![id, now],
    )
    .await?;
    Ok(())
}

/// Removes a group and its rules; how many rules is returned.
pub async fn delete(tx: &mut Tx, id: &SecurityGroupId) -> Result<u64, DatabaseError> {
    tx.execute("DELETE FROM security_groups WHERE id = $1", &params![id]).await?;
    tx.execute("DELETE FROM security_group_rules WHERE group_id = $1", &params![id]).await
}

/// Whether a port is in the group.
pub async fn has_ports(tx: &mut Tx, id: &SecurityGroupId) -> Result<bool, DatabaseError> {
    let row = tx
        .query("SELECT port_id FROM port_security_groups WHERE group_id = $1 LIMIT 1", &params![id])
        .await?;
    Ok(!row.is_empty())
}

/// The groups whose rules name an address group, with the owner of each.
pub async fn naming_addresses(
    tx: &mut Tx,
    id: &AddressGroupId,
) -> Result<Vec<(SecurityGroupId, ProjectId)>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT DISTINCT group_id, project_id FROM security_group_rules \
             WHERE remote_address_group_id = $1 ORDER BY group_id",
            &params![id],
        )
        .await?;
    rows.iter().map(|row| Ok((row.parse("group_id")?, row.parse("project_id")?))).collect()
}

/// Those of the groups that are not stateful.
pub async fn stateless_among(
    tx: &mut Tx,
    groups: &[SecurityGroupId],
) -> Result<HashSet<SecurityGroupId>, DatabaseError> {
    let mut found = HashSet::new();
    for chunk in groups.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!("SELECT id FROM security_groups WHERE stateful = 0 AND id IN ({places})");
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.insert(row.parse("id")?);
        }
    }
    Ok(found)
}

/// The owners of groups; of those that do not exist, none.
pub async fn owners_of(
    tx: &mut Tx,
    groups: &[SecurityGroupId],
) -> Result<Vec<ProjectId>, DatabaseError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let mut conditions = Conditions::default();
    let places = conditions.bind_all(groups.iter().map(Value::from));
    let sql = format!(
        "SELECT DISTINCT project_id FROM security_groups WHERE id IN ({places}) ORDER BY project_id"
    );
    let rows = tx.query_dynamic(sql, conditions.values()).await?;
    rows.iter().map(|row| row.parse("project_id")).collect()
}

/// Rules of other groups that name this group as their remote side.
pub async fn rules_naming(
    tx: &mut Tx,
    id: &SecurityGroupId,
) -> Result<Vec<RuleRow>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM security_group_rules WHERE remote_group_id = $1 AND group_id <> $1",
            &params![id],
        )
        .await?;
    rows.iter().map(read_rule).collect()
}

/// Adds a rule; `false` when the group has one that says the same.
pub async fn insert_rule(tx: &mut Tx, row: &RuleRow) -> Result<bool, DatabaseError> {
    let spec = &row.spec;
    let rows = tx
        .execute(
            "INSERT INTO security_group_rules (id, project_id, group_id, direction, ethertype, \
             protocol, port_range_min, port_range_max, remote_ip_prefix, remote_group_id, \
             description, same_key, revision, created_at, updated_at, remote_address_group_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
             ON CONFLICT (same_key) DO NOTHING",
            &params![
                row.id,
                row.project_id,
                row.group_id,
                direction_name(spec.direction),
                ethertype_name(spec.ipv6),
                spec.protocol.clone().unwrap_or_default(),
                spec.port_min.map(i64::from),
                spec.port_max.map(i64::from),
                spec.remote_ip_prefix.map(|net| net.to_string()).unwrap_or_default(),
                spec.remote_group_id.map(|id| id.to_string()).unwrap_or_default(),
                row.description,
                spec.same_key(&row.group_id),
                row.revision,
                row.created_at,
                row.updated_at,
                spec.remote_address_group_id.map(|id| id.to_string()).unwrap_or_default()
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// The rule that says the same.
pub async fn same_rule(
    tx: &mut Tx,
    same_key: &str,
) -> Result<Option<SecurityGroupRuleId>, DatabaseError> {
    let row = tx
        .query_opt("SELECT id FROM security_group_rules WHERE same_key = $1", &params![same_key])
        .await?;
    row.map(|row| row.parse("id")).transpose()
}

/// The rule.
pub async fn get_rule(
    tx: &mut Tx,
    id: &SecurityGroupRuleId,
) -> Result<Option<RuleRow>, DatabaseError> {
    let row =
        tx.query_opt("SELECT * FROM security_group_rules WHERE id = $1", &params![id]).await?;
    row.as_ref().map(read_rule).transpose()
}

/// Removes a rule; whether it was there.
pub async fn delete_rule(tx: &mut Tx, id: &SecurityGroupRuleId) -> Result<bool, DatabaseError> {
    let rows = tx.execute("DELETE FROM security_group_rules WHERE id = $1", &params![id]).await?;
    Ok(rows == 1)
}

/// The rules of each of the groups.
pub async fn rules_of(
    tx: &mut Tx,
    groups: &[SecurityGroupId],
) -> Result<HashMap<SecurityGroupId, Vec<RuleRow>>, DatabaseError> {
    let mut found: HashMap<SecurityGroupId, Vec<RuleRow>> = HashMap::new();
    for chunk in groups.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!(
            "SELECT * FROM security_group_rules WHERE group_id IN ({places}) ORDER BY created_at, id"
        );
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            let rule = read_rule(&row)?;
            found.entry(rule.group_id).or_default().push(rule);
        }
    }
    Ok(found)
}

/// The groups of each of the ports, sorted.
pub async fn groups_of_ports(
    tx: &mut Tx,
    ports: &[PortId],
) -> Result<HashMap<PortId, Vec<SecurityGroupId>>, DatabaseError> {
    let mut found: HashMap<PortId, Vec<SecurityGroupId>> = HashMap::new();
    for chunk in ports.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!(
            "SELECT port_id, group_id FROM port_security_groups WHERE port_id IN ({places}) \
             ORDER BY port_id, group_id"
        );
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.entry(row.parse("port_id")?).or_default().push(row.parse("group_id")?);
        }
    }
    Ok(found)
}

/// Names of the groups.
pub async fn names_of(
    tx: &mut Tx,
    groups: &[SecurityGroupId],
) -> Result<HashMap<SecurityGroupId, String>, DatabaseError> {
    let mut found = HashMap::new();
    for chunk in groups.chunks(500) {
        let mut conditions = Conditions::default();
        let places = conditions.bind_all(chunk.iter().map(Value::from));
        let sql = format!("SELECT id, name FROM security_groups WHERE id IN ({places})");
        for row in tx.query_dynamic(sql, conditions.values()).await? {
            found.insert(row.parse("id")?, row.text("name")?);
        }
    }
    Ok(found)
}

/// Puts a port into exactly these groups.
pub async fn set_groups_of_port(
    tx: &mut Tx,
    port: &PortId,
    groups: &[SecurityGroupId],
) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM port_security_groups WHERE port_id = $1", &params![port]).await?;
    for group in groups {
        tx.execute(
            "INSERT INTO port_security_groups (port_id, group_id) VALUES ($1, $2)",
            &params![port, group],
        )
        .await?;
    }
    Ok(())
}

/// Bound ports that are in one of the groups.
pub async fn bound_ports_in(
    tx: &mut Tx,
    groups: &[SecurityGroupId],
) -> Result<Vec<PortId>, DatabaseError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let mut conditions = Conditions::default();
    let places = conditions.bind_all(groups.iter().map(Value::from));
    let sql = format!(
        "SELECT DISTINCT p.id FROM ports p JOIN port_security_groups m ON m.port_id = p.id \
         WHERE p.bound_host IS NOT NULL AND m.group_id IN ({places}) ORDER BY p.id"
    );
    let rows = tx.query_dynamic(sql, conditions.values()).await?;
    rows.iter().map(|row| row.parse("id")).collect()
}
