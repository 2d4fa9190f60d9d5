//! Lists of servers: filters, sorting and paging by key, all in SQL on an index. Only names out of
//! the tables here go into the text; whatever a caller wrote is a parameter.

use cloud_types::{ProjectId, ServerId, Timestamp, UserId};
use database::{DatabaseError, Tx, Value};
use service_kit::page::Direction;

use super::{columns, placeholders, read};
use crate::server::model::Server;

/// Whether deleted servers are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deleted {
    /// Only those that exist.
    #[default]
    Live,
    /// Only those that are gone.
    Gone,
    /// Both: what `changes-since` asks for.
    Both,
}

/// A condition on tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// Has every one.
    All(Vec<String>),
    /// Has at least one.
    Any(Vec<String>),
    /// Lacks at least one.
    NotAll(Vec<String>),
    /// Has none.
    NotAny(Vec<String>),
}

/// Which servers, in which order, from where, how many.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListQuery {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this user.
    pub user: Option<UserId>,
    /// Deleted ones?
    pub deleted: Deleted,
    /// Changed then or later.
    pub changed_since: Option<Timestamp>,
    /// Changed then or earlier.
    pub changed_before: Option<Timestamp>,
    /// With one of these values in a column of [`FILTER_COLUMNS`].
    pub equals: Vec<(&'static str, Vec<Value>)>,
    /// With text of ASCII letters in a column of [`FILTER_COLUMNS`], in any case.
    pub contains: Vec<(&'static str, String)>,
    /// Locked or not.
    pub locked: Option<bool>,
    /// By tag.
    pub tags: Vec<TagFilter>,
    /// Keys of [`SORT_KEYS`], most significant first; newest first when empty.
    pub sort: Vec<(String, Direction)>,
    /// After this server, in the list's order.
    pub marker: Option<ServerId>,
    /// At most so many.
    pub limit: i64,
}

/// Columns that filters may name.
pub const FILTER_COLUMNS: &[&str] = &[
    "id",
    "name",
    "hostname",
    "description",
    "vm_state",
    "task_state",
    "status",
    "power_state",
    "host_name",
    "zone",
    "flavor_id",
    "image_id",
    "key_name",
    "reservation_id",
    "launch_index",
    "locked_by",
    "config_drive",
    "progress",
    "disk_config",
];

/// Sort keys by their wire name: the expression, never NULL, so that paging can compare.
pub const SORT_KEYS: &[(&str, &str)] = &[
    ("created_at", "created_at"),
    ("updated_at", "updated_at"),
    ("launched_at", "COALESCE(launched_at, 0)"),
    ("terminated_at", "COALESCE(terminated_at, 0)"),
    ("display_name", "name"),
    ("display_description", "COALESCE(description, '')"),
    ("uuid", "id"),
    ("hostname", "hostname"),
    ("host", "COALESCE(host_name, '')"),
    ("node", "COALESCE(host_name, '')"),
    ("project_id", "project_id"),
    ("user_id", "user_id"),
    ("vm_state", "vm_state"),
    ("task_state", "COALESCE(task_state, '')"),
    ("power_state", "power_state"),
    ("progress", "progress"),
    ("image_ref", "COALESCE(image_id, '')"),
    ("instance_type_id", "flavor_id"),
    ("key_name", "COALESCE(key_name, '')"),
    ("launch_index", "launch_index"),
    ("availability_zone", "zone"),
    ("config_drive", "config_drive"),
    ("locked_by", "COALESCE(locked_by, '')"),
    ("locked", "COALESCE(locked_by, '')"),
    ("access_ip_v4", "COALESCE(access_ipv4, '')"),
    ("access_ip_v6", "COALESCE(access_ipv6, '')"),
    ("auto_disk_config", "disk_config"),
];

struct Statement {
    conditions: Vec<String>,
    parameters: Vec<Value>,
}

impl Statement {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.parameters.push(value.into());
        format!("${}", self.parameters.len())
    }

    fn bind_all(&mut self, values: &[String]) -> String {
        let first = self.parameters.len() + 1;
        self.parameters.extend(values.iter().map(Value::from));
        placeholders(first, values.len())
    }
}

/// The page.
///
/// # Errors
/// `RowCount` when the marker names no server.
pub async fn list(tx: &mut Tx, query: &ListQuery) -> Result<Vec<Server>, DatabaseError> {
    let order = order_of(&query.sort);
    let mut statement = Statement { conditions: Vec::new(), parameters: Vec::new() };
    filter(&mut statement, query);
    if let Some(marker) = query.marker {
        after_marker(tx, &mut statement, &order, marker).await?;
    }
    let limit = statement.bind(query.limit);
    let conditions = if statement.conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", statement.conditions.join(" AND "))
    };
    let keys: Vec<String> =
        order.iter().map(|(key, direction)| format!("{key} {}", direction.sql())).collect();
    let sql = format!(
        concat!("SELECT ", columns!(), " FROM servers{} ORDER BY {} LIMIT {}"),
        conditions,
        keys.join(", "),
        limit
    );
    tx.query_dynamic(sql, &statement.parameters).await?.iter().map(read).collect()
}

fn order_of(sort: &[(String, Direction)]) -> Vec<(&'static str, Direction)> {
    let mut order: Vec<(&'static str, Direction)> = Vec::new();
    for (key, direction) in sort {
        if let Some((_, expression)) = SORT_KEYS.iter().find(|(name, _)| name == key) {
            order.push((*expression, *direction));
        }
    }
    if order.is_empty() {
        order.push(("created_at", Direction::Descending));
    }
    // The id makes the order total, so that no page begins twice at the same place.
    let last = order.last().map_or(Direction::Descending, |(_, direction)| *direction);
    if !order.iter().any(|(expression, _)| *expression == "id") {
        order.push(("id", last));
    }
    order
}

fn filter(statement: &mut Statement, query: &ListQuery) {
    match query.deleted {
        Deleted::Live => statement.conditions.push("deleted_at IS NULL".to_owned()),
        Deleted::Gone => statement.conditions.push("deleted_at IS NOT NULL".to_owned()),
        Deleted::Both => {}
    }
    if let Some(project) = &query.project {
        let place = statement.bind(project);
        statement.conditions.push(format!("project_id = {place}"));
    }
    if let Some(user) = &query.user {
        let place = statement.bind(user);
        statement.conditions.push(format!("user_id = {place}"));
    }
    if let Some(since) = query.changed_since {
        let place = statement.bind(since);
        statement.conditions.push(format!("updated_at >= {place}"));
    }
    if let Some(before) = query.changed_before {
        let place = statement.bind(before);
        statement.conditions.push(format!("updated_at <= {place}"));
    }
    for (column, values) in &query.equals {
        debug_assert!(FILTER_COLUMNS.contains(column));
        let first = statement.parameters.len() + 1;
        statement.parameters.extend(values.iter().cloned());
        let condition = if values.is_empty() {
            "1 = 0".to_owned()
        } else {
            format!("{column} IN ({})", placeholders(first, values.len()))
        };
        statement.conditions.push(condition);
    }
    for (column, text) in &query.contains {
        debug_assert!(FILTER_COLUMNS.contains(column));
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let place = statement.bind(format!("%{}%", escaped.to_ascii_lowercase()));
        statement.conditions.push(format!("LOWER({column}) LIKE {place} ESCAPE '\\'"));
    }
    match query.locked {
        Some(true) => statement.conditions.push("locked_by IS NOT NULL".to_owned()),
        Some(false) => statement.conditions.push("locked_by IS NULL".to_owned()),
        None => {}
    }
    for filter in &query.tags {
        let (tags, enough, negate) = match filter {
            TagFilter::All(tags) => (tags, tags.len(), false),
            TagFilter::Any(tags) => (tags, 1, false),
            TagFilter::NotAll(tags) => (tags, tags.len(), true),
            TagFilter::NotAny(tags) => (tags, 1, true),
        };
        if tags.is_empty() {
            continue;
        }
        let places = statement.bind_all(tags);
        let enough = statement.bind(enough);
        let comparison = if negate { "<" } else { ">=" };
        statement.conditions.push(format!(
            "(SELECT COUNT(*) FROM server_tags t WHERE t.server_id = servers.id AND t.tag IN ({places})) \
             {comparison} {enough}"
        ));
    }
}

/// `(a, b, c)` after the marker's, each key in its own direction, written out.
async fn after_marker(
    tx: &mut Tx,
    statement: &mut Statement,
    order: &[(&'static str, Direction)],
    marker: ServerId,
) -> Result<(), DatabaseError> {
    let keys: Vec<String> = order
        .iter()
        .enumerate()
        .map(|(index, (expression, _))| format!("{expression} AS k{index}"))
        .collect();
    let sql = format!("SELECT {} FROM servers WHERE id = $1", keys.join(", "));
    let rows = tx.query_dynamic(sql, &[marker.into()]).await?;
    let Some(row) = rows.first() else {
        return Err(DatabaseError::RowCount { table: "servers".to_owned(), found: 0 });
    };
    let mut places = Vec::new();
    for index in 0..order.len() {
        let value = row.value(&format!("k{index}"))?.clone();
        places.push(statement.bind(value));
    }
    let alternatives: Vec<String> = (0..order.len())
        .map(|last| {
            let mut parts: Vec<String> =
                (0..last).map(|index| format!("{} = {}", order[index].0, places[index])).collect();
            let comparison = match order[last].1 {
                Direction::Ascending => ">",
                Direction::Descending => "<",
            };
            parts.push(format!("{} {comparison} {}", order[last].0, places[last]));
            format!("({})", parts.join(" AND "))
        })
        .collect();
    statement.conditions.push(format!("({})", alternatives.join(" OR ")));
    Ok(())
}
