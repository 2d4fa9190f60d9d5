//! All SQL on default rules.

use cloud_types::{DefaultSecurityGroupRuleId, Fault, Timestamp};
use database::{DatabaseError, Row, Tx, params};
use host_protocol::Direction;
use serde::Serialize;

use crate::listing::model::{Column, Kind, ListQuery};
use crate::listing::store::{Conditions, Page, page};
use crate::security_group::model::{RuleSpec, direction_name, ethertype_name};

/// The remote group that means the new group itself.
pub const PARENT: &str = "PARENT";

/// What a list of rules can be filtered and sorted by.
pub const COLUMNS: &[Column] = &[
    Column::text("id", "r.id"),
    Column::text("description", "r.description"),
    Column::text("direction", "r.direction"),
    Column::text("ethertype", "r.ethertype"),
    Column::text("protocol", "r.protocol"),
    Column::text("remote_ip_prefix", "r.remote_ip_prefix"),
    Column::text("remote_group_id", "r.remote_group_id"),
    Column::text("remote_address_group_id", "r.remote_address_group_id"),
    Column::of("port_range_min", "COALESCE(r.port_range_min, -1)", Kind::Int),
    Column::of("port_range_max", "COALESCE(r.port_range_max, -1)", Kind::Int),
    Column::of("used_in_default_sg", "r.used_in_default_sg", Kind::Bool),
    Column::of("used_in_non_default_sg", "r.used_in_non_default_sg", Kind::Bool),
    Column::of("revision_number", "r.revision", Kind::Int),
    Column::of("created_at", "r.created_at", Kind::Time),
    Column::of("updated_at", "r.updated_at", Kind::Time),
];

/// A rule for new groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DefaultRuleRow {
    /// Its id.
    pub id: DefaultSecurityGroupRuleId,
    /// What it says. The remote group is in `parent` when it is the new group itself.
    pub spec: RuleSpec,
    /// Whether the remote side is the new group itself.
    pub parent: bool,
    /// Whether default groups get it.
    pub in_default: bool,
    /// Whether all other groups get it.
    pub in_others: bool,
    /// Free text.
    pub description: String,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl DefaultRuleRow {
    /// The remote group in the API and in the database.
    pub fn remote_group(&self) -> String {
        match self.spec.remote_group_id {
            _ if self.parent => PARENT.to_owned(),
            Some(id) => id.to_string(),
            None => String::new(),
        }
    }

    /// The same for two rules that say the same thing.
    pub fn same_key(&self) -> String {
        self.spec.says(&self.remote_group())
    }
}

fn read(row: &Row) -> Result<DefaultRuleRow, DatabaseError> {
    let port = |value: Option<i64>| value.and_then(|number| u16::try_from(number).ok());
    let remote = row.text("remote_group_id")?;
    let protocol = row.text("protocol")?;
    Ok(DefaultRuleRow {
        id: row.parse("id")?,
        spec: RuleSpec {
            direction: if row.text("direction")? == "egress" {
                Direction::Egress
            } else {
                Direction::Ingress
            },
            ipv6: row.text("ethertype")? == "IPv6",
            protocol: Some(protocol).filter(|text| !text.is_empty()),
            port_min: port(row.opt_int("port_range_min")?),
            port_max: port(row.opt_int("port_range_max")?),
            remote_ip_prefix: row.text("remote_ip_prefix")?.parse().ok(),
            remote_group_id: remote.parse().ok(),
            remote_address_group_id: row.text("remote_address_group_id")?.parse().ok(),
        },
        parent: remote == PARENT,
        in_default: row.bool("used_in_default_sg")?,
        in_others: row.bool("used_in_non_default_sg")?,
        description: row.text("description")?,
        revision: row.int("revision")?,
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

/// The rule.
pub async fn get(
    tx: &mut Tx,
    id: &DefaultSecurityGroupRuleId,
) -> Result<Option<DefaultRuleRow>, DatabaseError> {
    let row = tx
        .query_opt("SELECT * FROM default_security_group_rules WHERE id = $1", &params![id])
        .await?;
    row.as_ref().map(read).transpose()
}

/// All rules, in one order.
pub async fn all(tx: &mut Tx) -> Result<Vec<DefaultRuleRow>, DatabaseError> {
    let sql = "SELECT * FROM default_security_group_rules ORDER BY created_at, id";
    tx.query(sql, &[]).await?.iter().map(read).collect()
}

/// The rules that say the same.
pub async fn same(tx: &mut Tx, same_key: &str) -> Result<Vec<DefaultRuleRow>, DatabaseError> {
    let rows = tx
        .query("SELECT * FROM default_security_group_rules WHERE same_key = $1", &params![same_key])
        .await?;
    rows.iter().map(read).collect()
}

/// A page of the rules.
pub async fn list(tx: &mut Tx, query: &ListQuery) -> Result<(Vec<DefaultRuleRow>, bool), Fault> {
    let mut conditions = Conditions::default();
    conditions.filter(query, "'[]'", "r.updated_at");
    let select = "SELECT r.* FROM default_security_group_rules r";
    let word = "default security group rule";
    let Page { rows, cut } = page(tx, select, conditions, query, word).await?;
    Ok((rows.iter().map(read).collect::<Result<_, _>>()?, cut))
}

/// Adds a rule.
pub async fn insert(tx: &mut Tx, row: &DefaultRuleRow) -> Result<(), DatabaseError> {
    let spec = &row.spec;
    tx.execute(
        "INSERT INTO default_security_group_rules (id, direction, ethertype, protocol, \
         port_range_min, port_range_max, remote_ip_prefix, remote_group_id, \
         remote_address_group_id, used_in_default_sg, used_in_non_default_sg, description, \
         same_key, revision, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        &params![
            row.id,
            direction_name(spec.direction),
            ethertype_name(spec.ipv6),
            spec.protocol.clone().unwrap_or_default(),
            spec.port_min.map(i64::from),
            spec.port_max.map(i64::from),
            spec.remote_ip_prefix.map(|net| net.to_string()).unwrap_or_default(),
            row.remote_group(),
            spec.remote_address_group_id.map(|id| id.to_string()).unwrap_or_default(),
            row.in_default,
            row.in_others,
            row.description,
            row.same_key(),
            row.revision,
            row.created_at,
            row.updated_at
        ],
    )
    .await?;
    Ok(())
}

/// Removes a rule.
pub async fn delete(tx: &mut Tx, id: &DefaultSecurityGroupRuleId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM default_security_group_rules WHERE id = $1", &params![id]).await?;
    Ok(())
}
