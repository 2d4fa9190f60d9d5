//! Shapes answers: one resource, or a page with its links, cut to the attributes asked for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cloud_types::{Fault, Timestamp};
use serde_json::{Map, Value, json};
use service_kit::page::with_marker;
use service_kit::{ApiFault, Created, Ctx, Filters};

use super::model::ListQuery;
use crate::faults::http_bad_request;
use crate::if_match::IfMatch;

/// The attributes that every resource has beside its own.
pub fn standard(
    map: &mut Map<String, Value>,
    project: &impl std::fmt::Display,
    revision: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
) {
    let project = project.to_string();
    map.insert("tenant_id".into(), Value::from(project.clone()));
    map.insert("project_id".into(), Value::from(project));
    map.insert("revision_number".into(), Value::from(revision));
    map.insert("created_at".into(), Value::from(created_at.rfc3339_seconds()));
    map.insert("updated_at".into(), Value::from(updated_at.rfc3339_seconds()));
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiFault> {
        let Some(value) = parts.headers.get("if-match") else { return Ok(IfMatch(None)) };
        Ok(IfMatch::parse(value.to_str().unwrap_or_default())?)
    }
}

/// A resource without the attributes that were not asked for.
pub fn only(item: Value, fields: &[String]) -> Value {
    if fields.is_empty() {
        return item;
    }
    match item {
        Value::Object(map) => Value::Object(
            map.into_iter().filter(|(name, _)| fields.iter().any(|field| field == name)).collect(),
        ),
        other => other,
    }
}

/// `{"port": {...}}`, cut to the `fields` of the query string.
pub fn one(key: &str, item: Value, filters: &Filters) -> Value {
    let fields: Vec<String> = filters.all("fields").map(str::to_owned).collect();
    json!({ key: only(item, &fields) })
}

/// How a POST is answered: with one resource, or as many as were sent.
pub fn shown_as<T: 'static>(
    key: &'static str,
    collection: &'static str,
    bulk: bool,
    view: impl Fn(&T) -> Value + Clone + Send + Sync + 'static,
) -> impl Fn(&Vec<T>) -> Created + Clone + Send + Sync + 'static {
    move |made: &Vec<T>| {
        let mut items: Vec<Value> = made.iter().map(&view).collect();
        Created::new(if bulk { json!({ collection: items }) } else { json!({ key: items.pop() }) })
    }
}

/// `{"ports": [...], "ports_links": [...]}`. `path` is the collection's, below the service.
pub fn page(
    ctx: &Ctx,
    filters: &Filters,
    path: &str,
    key: &str,
    query: &ListQuery,
    items: Vec<Value>,
    cut: bool,
) -> Value {
    let links = links(&format!("{}{path}", ctx.service_url()), filters, query, &items, cut);
    let shown: Vec<Value> = items.into_iter().map(|item| only(item, &query.fields)).collect();
    let mut answer = Map::new();
    answer.insert(key.to_owned(), Value::from(shown));
    if !links.is_empty() {
        answer.insert(format!("{key}_links"), Value::from(links));
    }
    Value::Object(answer)
}

/// Neutron links to a next page whenever this one is full, without looking whether there is one;
/// clients follow the link until a page is not full.
fn links(
    url: &str,
    filters: &Filters,
    query: &ListQuery,
    items: &[Value],
    cut: bool,
) -> Vec<Value> {
    let full = match query.limit {
        Some(limit) => items.len() >= limit || cut,
        None => cut,
    };
    if query.limit.is_none() && !cut {
        return Vec::new();
    }
    let marker = |item: Option<&Value>| {
        item.and_then(|item| item.get("id").or_else(|| item.get("network_id")))
            .and_then(Value::as_str)
            .or(query.marker.as_deref())
            .unwrap_or_default()
            .to_owned()
    };
    let mut links = Vec::new();
    if full || query.reverse {
        let href = with_marker(url, filters, &marker(items.last()), false);
        links.push(json!({"rel": "next", "href": href}));
    }
    if full || !query.reverse {
        let href = with_marker(url, filters, &marker(items.first()), true);
        links.push(json!({"rel": "previous", "href": href}));
    }
    links
}

/// A list that is short by nature (extensions, agents): filtered, sorted and paged in memory.
pub fn short_list(
    ctx: &Ctx,
    filters: &Filters,
    path: &str,
    key: &str,
    mut items: Vec<Value>,
    id: &str,
) -> Result<Value, Fault> {
    const CONTROL: [&str; 6] =
        ["fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"];
    let text = |item: &Value, name: &str| match item.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    for (name, value) in filters.0.iter().filter(|(name, _)| !CONTROL.contains(&name.as_str())) {
        if items.iter().all(|item| item.get(name).is_none()) && !items.is_empty() {
            return Err(http_bad_request(format!("['{name}'] is invalid attribute for filtering")));
        }
        items.retain(|item| text(item, name).eq_ignore_ascii_case(value));
    }
    let sort_key = filters.get("sort_key").unwrap_or(id);
    items.sort_by_key(|item| text(item, sort_key));
    if filters.get("sort_dir") == Some("desc") {
        items.reverse();
    }
    let reverse = filters.get("page_reverse").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if let Some(marker) = filters.get("marker") {
        let at = items.iter().position(|item| text(item, id) == marker);
        let at =
            at.ok_or_else(|| http_bad_request(format!("The marker {marker} is not in the list")))?;
        items = if reverse { items.drain(..at).collect() } else { items.split_off(at + 1) };
    }
    let limit = filters.parsed::<usize>("limit")?.filter(|limit| *limit > 0);
    let mut links = Vec::new();
    if let Some(limit) = limit {
        let more = items.len() > limit;
        if reverse {
            items.drain(..items.len().saturating_sub(limit));
        } else {
            items.truncate(limit);
        }
        let url = format!("{}{path}", ctx.service_url());
        if let (true, Some(last)) = (more, items.last()) {
            let href = with_marker(&url, filters, &text(last, id), false);
            links.push(json!({"rel": "next", "href": href}));
        }
    }
    let fields: Vec<String> = filters.all("fields").map(str::to_owned).collect();
    let shown: Vec<Value> = items.into_iter().map(|item| only(item, &fields)).collect();
    let mut answer = Map::new();
    answer.insert(key.to_owned(), Value::from(shown));
    if !links.is_empty() {
        answer.insert(format!("{key}_links"), Value::from(links));
    }
    Ok(Value::Object(answer))
}
