//! Composes the statement of a list: visibility and filters, keyset paging, order.

use cloud_types::Fault;
use database::{Row, Tx, Value};

use super::model::{FilterValue, Kind, ListQuery};
use crate::faults::marker_not_found;

/// The conditions of a statement and the values that they bind.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    clauses: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    /// Binds a value and returns its place in the statement, `$n`.
    pub fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Binds several values for `IN (...)`.
    pub fn bind_all<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> String {
        let places: Vec<String> = values.into_iter().map(|value| self.bind(value)).collect();
        if places.is_empty() { "NULL".to_owned() } else { places.join(", ") }
    }

    /// Adds a condition that must hold as well.
    pub fn and(&mut self, clause: impl Into<String>) {
        self.clauses.push(clause.into());
    }

    /// The text after `WHERE`.
    pub fn text(&self) -> String {
        if self.clauses.is_empty() {
            "1 = 1".to_owned()
        } else {
            format!("({})", self.clauses.join(") AND ("))
        }
    }

    /// The values, in order of their places.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Adds the filters by column, by tag and by time. `tags` and `updated` are the expressions
    /// of these columns.
    pub fn filter(&mut self, query: &ListQuery, tags: &str, updated: &str) {
        for (column, wanted) in &query.filters {
            let expression = column.expression;
            if column.kind == Kind::Time {
                let ranges: Vec<String> = wanted
                    .iter()
                    .filter_map(|value| match value {
                        FilterValue::Int(from) => {
                            Some((self.bind(*from), self.bind(from + 999_999)))
                        }
                        FilterValue::Text(_) => None,
                    })
                    .map(|(from, to)| format!("{expression} BETWEEN {from} AND {to}"))
                    .collect();
                self.and(ranges.join(" OR "));
                continue;
            }
            let places = self.bind_all(wanted.iter().map(|value| match value {
                FilterValue::Text(text) => Value::from(text.clone()),
                FilterValue::Int(number) => Value::from(*number),
            }));
            self.and(format!("{expression} IN ({places})"));
        }
        self.filter_tags(query, tags);
        if let Some(moment) = query.changed_since {
            let from = self.bind(moment);
            self.and(format!("{updated} >= {from}"));
        }
    }

    fn filter_tags(&mut self, query: &ListQuery, column: &str) {
        let wanted = &query.tags;
        let mut each = |tags: &[String]| -> Vec<String> {
            tags.iter()
                .map(|tag| {
                    let pattern = self.bind(tag_pattern(tag));
                    format!("{column} LIKE {pattern} ESCAPE '!'")
                })
                .collect()
        };
        let (all, any) = (each(&wanted.all), each(&wanted.any));
        let (not_all, not_any) = (each(&wanted.not_all), each(&wanted.not_any));
        for (clauses, word, negated) in [
            (all, " AND ", false),
            (any, " OR ", false),
            (not_all, " AND ", true),
            (not_any, " OR ", true),
        ] {
            if !clauses.is_empty() {
                let joined = clauses.join(word);
                self.and(if negated { format!("NOT ({joined})") } else { joined });
            }
        }
    }
}

/// Tags are stored as a JSON list of texts, so a tag with its quotes is found whole.
fn tag_pattern(tag: &str) -> String {
    let quoted = serde_json::Value::from(tag).to_string();
    let escaped = quoted.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

/// One page of a list, in the caller's order, and whether the database holds more behind it.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether the page was cut by the server's own limit.
    pub cut: bool,
}

/// Runs a list. `select` is everything before `WHERE`; `word` names the kind in messages.
pub async fn page(
    tx: &mut Tx,
    select: &str,
    mut conditions: Conditions,
    query: &ListQuery,
    word: &str,
) -> Result<Page, Fault> {
    if let Some(marker) = &query.marker {
        after_marker(tx, select, &mut conditions, query, marker, word).await?;
    }
    let order: Vec<String> = query
        .sort
        .iter()
        .map(|(column, descending)| {
            let direction = if *descending != query.reverse { "DESC" } else { "ASC" };
            format!("{} {direction}", column.expression)
        })
        .collect();
    let size = query.page_size();
    let sql = format!(
        "{select} WHERE {} ORDER BY {} LIMIT {}",
        conditions.text(),
        order.join(", "),
        size + 1
    );
    let mut rows = tx.query_dynamic(sql, conditions.values()).await?;
    let more = rows.len() > size;
    rows.truncate(size);
    if query.reverse {
        rows.reverse();
    }
    Ok(Page { rows, cut: more && query.limit.is_none_or(|limit| limit > size) })
}

/// Restricts a list to what follows the marker in the order that was asked for.
async fn after_marker(
    tx: &mut Tx,
    select: &str,
    conditions: &mut Conditions,
    query: &ListQuery,
    marker: &str,
    word: &str,
) -> Result<(), Fault> {
    // The id is always among the keys (see `ListQuery::parse`).
    let id = query.sort.iter().find(|(column, _)| matches!(column.name, "id" | "network_id"));
    let id = id.map_or("id", |(column, _)| column.expression);
    let keys: Vec<String> = query
        .sort
        .iter()
        .enumerate()
        .map(|(at, (column, _))| format!("{} AS key_{at}", column.expression))
        .collect();
    let from = select.find(" FROM ").map_or(select, |at| &select[at..]);
    let sql = format!("SELECT {}{from} WHERE {id} = $1", keys.join(", "));
    let found = tx.query_dynamic(sql, &[Value::from(marker)]).await?;
    let row = found.first().ok_or_else(|| marker_not_found(word, marker))?;
    let mut alternatives = Vec::with_capacity(query.sort.len());
    let mut equal: Vec<String> = Vec::new();
    for (at, (column, descending)) in query.sort.iter().enumerate() {
        let place = conditions.bind(row.value(&format!("key_{at}"))?.clone());
        let beyond = if *descending != query.reverse { "<" } else { ">" };
        let mut terms = equal.clone();
        terms.push(format!("{} {beyond} {place}", column.expression));
        alternatives.push(terms.join(" AND "));
        equal.push(format!("{} = {place}", column.expression));
    }
    conditions.and(format!("({})", alternatives.join(") OR (")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_whole_and_wildcards_mean_themselves() {
        assert_eq!(tag_pattern("red"), "%\"red\"%");
        assert_eq!(tag_pattern("50%_!"), "%\"50!%!_!!\"%");
    }

    #[test]
    fn conditions_number_their_values() {
        let mut conditions = Conditions::default();
        let a = conditions.bind("x");
        conditions.and(format!("a = {a}"));
        let list = conditions.bind_all(["y", "z"]);
        conditions.and(format!("b IN ({list})"));
        assert_eq!(conditions.text(), "(a = $1) AND (b IN ($2, $3))");
        assert_eq!(conditions.values().len(), 3);
    }
}
