//! Reads a query string into what a list is asked for. Pure.

use cloud_types::{Fault, Timestamp};

use crate::faults::{http_bad_request, invalid_input};

/// Most items in one answer, whatever is asked: a longer list continues at its `next` link.
pub const PAGE_MAX: usize = 2000;
/// Most values in the filters of one request.
pub const FILTER_VALUES_MAX: usize = 2000;

/// How a filter's text becomes a value of the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Compared as text.
    Text,
    /// `true`, `True`, `1`, …
    Bool,
    /// A whole number.
    Int,
    /// A moment, to the second.
    Time,
}

/// An attribute that a list can be filtered and sorted by.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The attribute's name in the API.
    pub name: &'static str,
    /// Its expression in the list's statement; never null.
    pub expression: &'static str,
    /// How a filter's text is read.
    pub kind: Kind,
}

impl Column {
    /// A column of text.
    pub const fn text(name: &'static str, expression: &'static str) -> Self {
        Column { name, expression, kind: Kind::Text }
    }

    /// A column of another kind.
    pub const fn of(name: &'static str, expression: &'static str, kind: Kind) -> Self {
        Column { name, expression, kind }
    }
}

/// The value of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterValue {
    /// Text.
    Text(String),
    /// A number, a truth value as 0 or 1, or the first microsecond of a second.
    Int(i64),
}

/// Which tags an object must, or must not, have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagFilter {
    /// All of these.
    pub all: Vec<String>,
    /// At least one of these.
    pub any: Vec<String>,
    /// Not all of these together.
    pub not_all: Vec<String>,
    /// None of these.
    pub not_any: Vec<String>,
}

/// What a list is asked for.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Attributes to show; all when empty.
    pub fields: Vec<String>,
    /// Order, first key first; `true` means descending. The id is always the last key.
    pub sort: Vec<(Column, bool)>,
    /// Items wanted, when the caller said so.
    pub limit: Option<usize>,
    /// The item after which (before which, when reversed) the page begins.
    pub marker: Option<String>,
    /// Whether the page lies before the marker.
    pub reverse: bool,
    /// Column and the values of which it must have one.
    pub filters: Vec<(Column, Vec<FilterValue>)>,
    /// Filters that the resource reads itself, by name.
    pub special: Vec<(String, Vec<String>)>,
    /// Conditions on tags.
    pub tags: TagFilter,
    /// Only what changed at or after this moment.
    pub changed_since: Option<Timestamp>,
}

impl ListQuery {
    /// Reads the pairs of a query string. `columns` are the resource's attributes, the id first;
    /// `special` names the filters that it reads itself.
    pub fn parse(
        pairs: &[(String, String)],
        columns: &'static [Column],
        special: &[&str],
    ) -> Result<Self, Fault> {
        let mut query = ListQuery {
            fields: Vec::new(),
            sort: Vec::new(),
            limit: None,
            marker: None,
            reverse: false,
            filters: Vec::new(),
            special: Vec::new(),
            tags: TagFilter::default(),
            changed_since: None,
        };
        if pairs.len() > FILTER_VALUES_MAX {
            return Err(http_bad_request(format!(
                "{} parameters in the query string; at most {FILTER_VALUES_MAX} are allowed",
                pairs.len()
            )));
        }
        let (mut keys, mut directions) = (Vec::new(), Vec::new());
        let mut unknown = Vec::new();
        for (name, value) in pairs {
            match name.as_str() {
                "fields" => {
                    query
                        .fields
                        .extend(value.split(',').filter(|f| !f.is_empty()).map(str::to_owned));
                }
                "sort_key" => keys.push(value.as_str()),
                "sort_dir" => directions.push(value.as_str()),
                "limit" => query.limit = limit(value)?,
                "marker" => query.marker = Some(value.clone()),
                "page_reverse" => query.reverse = value.eq_ignore_ascii_case("true"),
                "tags" => tags(&mut query.tags.all, value),
                "tags-any" => tags(&mut query.tags.any, value),
                "not-tags" => tags(&mut query.tags.not_all, value),
                "not-tags-any" => tags(&mut query.tags.not_any, value),
                "changed_since" => {
                    query.changed_since = Some(Timestamp::parse(value).ok_or_else(|| {
                        invalid_input(format!(
                            "The input changed_since must be in the following format: \
                             YYYY-MM-DDTHH:MM:SS[Z], not '{value}'"
                        ))
                    })?);
                }
                other if special.contains(&other) => {
                    add(&mut query.special, name.clone(), value.clone());
                }
                other => match columns.iter().find(|column| column.name == other) {
                    Some(column) => {
                        let value = filter_value(column, value)?;
                        match query.filters.iter_mut().find(|(c, _)| c.name == column.name) {
                            Some((_, values)) => values.push(value),
                            None => query.filters.push((*column, vec![value])),
                        }
                    }
                    None => unknown.push(other.to_owned()),
                },
            }
        }
        if !unknown.is_empty() {
            return Err(http_bad_request(format!(
                "{unknown:?} is invalid attribute for filtering"
            )));
        }
        query.sort = sort(&keys, &directions, columns)?;
        Ok(query)
    }

    /// How many rows to fetch at most.
    pub fn page_size(&self) -> usize {
        self.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX)
    }
}

fn add(list: &mut Vec<(String, Vec<String>)>, name: String, value: String) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some((_, values)) => values.push(value),
        None => list.push((name, vec![value])),
    }
}

fn tags(list: &mut Vec<String>, value: &str) {
    list.extend(value.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned));
}

/// Zero means "no limit", as upstream has it.
fn limit(value: &str) -> Result<Option<usize>, Fault> {
    match value.parse::<usize>() {
        Ok(0) => Ok(None),
        Ok(limit) => Ok(Some(limit)),
        Err(_) => Err(http_bad_request(format!(
            "Limit must be an integer 0 or greater and not '{value}'"
        ))),
    }
}

fn filter_value(column: &Column, value: &str) -> Result<FilterValue, Fault> {
    let wrong = |what| invalid_input(format!("'{value}' cannot be converted to {what}"));
    match column.kind {
        Kind::Text => Ok(FilterValue::Text(value.to_owned())),
        Kind::Bool => match value.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(FilterValue::Int(1)),
            "false" | "0" => Ok(FilterValue::Int(0)),
            _ => Err(wrong("boolean")),
        },
        Kind::Int => value.trim().parse().map(FilterValue::Int).map_err(|_| wrong("integer")),
        Kind::Time => Timestamp::parse(value)
            .map(|moment| FilterValue::Int(moment.0 - moment.0.rem_euclid(1_000_000)))
            .ok_or_else(|| wrong("a time")),
    }
}

fn sort(
    keys: &[&str],
    directions: &[&str],
    columns: &'static [Column],
) -> Result<Vec<(Column, bool)>, Fault> {
    if !directions.is_empty() && keys.len() != directions.len() {
        return Err(http_bad_request("The number of sort_keys and sort_dirs must be same"));
    }
    let mut order: Vec<(Column, bool)> = Vec::with_capacity(keys.len() + 1);
    for (at, key) in keys.iter().enumerate() {
        let column = columns.iter().find(|column| column.name == *key).ok_or_else(|| {
            http_bad_request(format!("['{key}'] is invalid attribute for sort_keys"))
        })?;
        let descending = match directions.get(at).copied().unwrap_or("asc") {
            "asc" => false,
            "desc" => true,
            other => {
                return Err(http_bad_request(format!(
                    "{other} is invalid value for sort_dirs, valid value is 'asc' and 'desc'"
                )));
            }
        };
        order.push((*column, descending));
    }
    let Some(id) = columns.first() else { return Ok(order) };
    if !order.iter().any(|(column, _)| column.name == id.name) {
        order.push((*id, false));
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::text("id", "n.id"),
        Column::text("name", "n.name"),
        Column::of("shared", "n.shared", Kind::Bool),
        Column::of("mtu", "n.mtu", Kind::Int),
    ];

    fn parse(text: &str) -> Result<ListQuery, Fault> {
        let pairs: Vec<(String, String)> = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter_map(|pair| pair.split_once('='))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect();
        ListQuery::parse(&pairs, COLUMNS, &["fixed_ips"])
    }

    #[test]
    fn repeated_filters_are_alternatives() {
        let query = parse("name=a&name=b&shared=True").unwrap();
        assert_eq!(query.filters.len(), 2);
        assert_eq!(query.filters[0].1.len(), 2);
        assert_eq!(query.filters[1].1, [FilterValue::Int(1)]);
    }

    #[test]
    fn the_id_is_always_the_last_key() {
        let keys = |query: ListQuery| -> Vec<(&'static str, bool)> {
            query.sort.iter().map(|(column, desc)| (column.name, *desc)).collect()
        };
        assert_eq!(keys(parse("").unwrap()), [("id", false)]);
        assert_eq!(
            keys(parse("sort_key=name&sort_dir=desc").unwrap()),
            [("name", true), ("id", false)]
        );
        assert_eq!(keys(parse("sort_key=id&sort_dir=desc").unwrap()), [("id", true)]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            "colour=red",
            "limit=-1",
            "limit=x",
            "sort_key=colour",
            "sort_key=name&sort_dir=up",
            "sort_key=name&sort_key=id&sort_dir=asc",
            "shared=perhaps",
            "mtu=big",
            "changed_since=yesterday",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limit_zero_means_no_limit() {
        assert_eq!(parse("limit=0").unwrap().limit, None);
        assert_eq!(parse("limit=3").unwrap().page_size(), 3);
        assert_eq!(parse("limit=999999").unwrap().page_size(), PAGE_MAX);
    }
}
