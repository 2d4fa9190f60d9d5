//! From a query string to a condition: filters, sort keys and the page's marker. Values are
//! always parameters; names come from the tables below and from nowhere else.

use cloud_types::{Fault, ImageId, ProjectId, Timestamp};
use database::Value;
use service_kit::Filters;
use service_kit::page::{Direction, MAX_LIMIT, PageRequest};

use crate::image::model::Image;

/// Page size where the caller names none, as in Glance.
const DEFAULT_LIMIT: i64 = 25;

const SORTABLE: &[&str] = &[
    "name",
    "status",
    "container_format",
    "disk_format",
    "size",
    "id",
    "created_at",
    "updated_at",
];

/// Text columns that are filtered by equality, or by `in:a,b`.
const TEXT: &[(&str, &str)] = &[
    ("name", "name"),
    ("id", "id"),
    ("status", "status"),
    ("disk_format", "disk_format"),
    ("container_format", "container_format"),
    ("owner", "owner"),
    ("checksum", "checksum"),
    ("os_hash_value", "sha512"),
];

/// Keys that are not filters on a property.
const PAGING: &[&str] = &["limit", "marker", "sort", "sort_key", "sort_dir"];

/// A list to read.
#[derive(Clone, Debug)]
pub struct Query {
    conditions: Vec<String>,
    values: Vec<Value>,
    sort: Vec<(String, Direction)>,
    after: Option<Image>,
    /// How many rows to read: the page and one.
    pub rows: i64,
    /// How many rows the page has.
    pub page: usize,
    /// Where the page begins.
    pub marker: Option<ImageId>,
}

/// Whose list it is.
pub struct Viewer {
    /// The caller's project.
    pub project: Option<ProjectId>,
    /// Whether every project's images are shown.
    pub sees_all: bool,
}

impl Query {
    /// Reads the query string.
    ///
    /// # Errors
    /// 400 naming the parameter that is wrong.
    pub fn new(filters: &Filters, viewer: &Viewer) -> Result<Self, Fault> {
        let request = PageRequest::from_filters(filters, SORTABLE)?;
        let page = match request.limit {
            Some(limit) => i64::from(limit.min(MAX_LIMIT)),
            None => DEFAULT_LIMIT,
        };
        let marker = request
            .marker
            .as_deref()
            .map(|text| {
                text.parse().map_err(|_| {
                    Fault::bad_request(format!("Invalid marker: {text} is not an image's id."))
                })
            })
            .transpose()?;
        let mut sort = if request.sort.is_empty() {
            vec![("created_at".to_owned(), Direction::Descending)]
        } else {
            request.sort
        };
        let last = sort.last().map_or(Direction::Descending, |(_, direction)| *direction);
        for key in ["created_at", "id"] {
            if sort.iter().all(|(name, _)| name != key) {
                sort.push((key.to_owned(), last));
            }
        }
        let mut query = Query {
            conditions: vec!["status <> 'deleted'".to_owned()],
            values: Vec::new(),
            sort,
            after: None,
            rows: page + 1,
            page: usize::try_from(page).unwrap_or_default(),
            marker,
        };
        query.visible(filters, viewer)?;
        query.filter(filters)?;
        Ok(query)
    }

    /// Begins after this image, which the marker names.
    pub fn begin_after(&mut self, image: Image) {
        self.after = Some(image);
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// What the caller may see at all.
    fn visible(&mut self, filters: &Filters, viewer: &Viewer) -> Result<(), Fault> {
        let wanted = filters.get("visibility");
        if let Some(word) = wanted
            && !["public", "community", "shared", "private", "all"].contains(&word)
        {
            return Err(Fault::bad_request(format!(
                "Invalid visibility value: '{word}'; it can be public, community, shared, private or all."
            )));
        }
        let member_status = filters.get("member_status").unwrap_or("accepted");
        if !["accepted", "pending", "rejected", "all"].contains(&member_status) {
            return Err(Fault::bad_request(format!(
                "Invalid member_status value: '{member_status}'; it can be accepted, pending, rejected or all."
            )));
        }
        if let Some(word) = wanted.filter(|word| *word != "all") {
            let word = self.bind(word);
            self.conditions.push(format!("visibility = {word}"));
        }
        if viewer.sees_all {
            return Ok(());
        }
        let mut ways = vec!["visibility = 'public'".to_owned()];
        if matches!(wanted, Some("community" | "all")) {
            ways.push("visibility = 'community'".to_owned());
        }
        if let Some(project) = &viewer.project {
            let own = self.bind(project.as_str());
            ways.push(format!("owner = {own}"));
            let shared = if member_status == "all" {
                format!("SELECT image_id FROM image_members WHERE member = {own}")
            } else {
                let status = self.bind(member_status);
                format!(
                    "SELECT image_id FROM image_members WHERE member = {own} AND status = {status}"
                )
            };
            ways.push(format!("(visibility = 'shared' AND id IN ({shared}))"));
        }
        self.conditions.push(format!("({})", ways.join(" OR ")));
        Ok(())
    }

    fn filter(&mut self, filters: &Filters) -> Result<(), Fault> {
        let hidden = filters.flag("os_hidden")?.unwrap_or(false);
        let hidden = self.bind(hidden);
        self.conditions.push(format!("hidden = {hidden}"));
        if let Some(protected) = filters.flag("protected")? {
            let protected = self.bind(protected);
            self.conditions.push(format!("protected = {protected}"));
        }
        for (key, value) in &filters.0 {
            self.filter_one(key, value)?;
        }
        Ok(())
    }

    fn filter_one(&mut self, key: &str, value: &str) -> Result<(), Fault> {
        if let Some((_, column)) = TEXT.iter().find(|(name, _)| *name == key) {
            let choices: Vec<String> = match value.strip_prefix("in:") {
                Some(list) => split_list(list),
                None => vec![value.to_owned()],
            };
            let places: Vec<String> = choices.into_iter().map(|choice| self.bind(choice)).collect();
            self.conditions.push(format!("{column} IN ({})", places.join(", ")));
            return Ok(());
        }
        match key {
            "size_min" | "size_max" => {
                let bound: i64 = value.parse().map_err(|_| {
                    Fault::bad_request(format!(
                        "Invalid value '{value}' for {key}; it has to be a whole number of bytes."
                    ))
                })?;
                let operator = if key == "size_min" { ">=" } else { "<=" };
                let bound = self.bind(bound);
                self.conditions.push(format!("size {operator} {bound}"));
            }
            "created_at" | "updated_at" => {
                let (operator, moment) = comparison(key, value)?;
                let moment = self.bind(moment);
                self.conditions.push(format!("{key} {operator} {moment}"));
            }
            "tag" => {
                // A tag stands in the column as a JSON string; quoting it keeps `a` from matching
                // inside `ab`.
                let needle = self.bind(serde_json::Value::from(value).to_string());
                self.conditions.push(contains("tags", &needle));
            }
            "visibility" | "member_status" | "os_hidden" | "protected" => {}
            _ if PAGING.contains(&key) => {}
            _ => {
                let pair =
                    format!("{}:{}", serde_json::Value::from(key), serde_json::Value::from(value));
                let needle = self.bind(pair);
                self.conditions.push(contains("properties", &needle));
            }
        }
        Ok(())
    }

    /// The condition with its parameters, numbered from 1.
    pub fn condition(&self) -> (String, Vec<Value>) {
        let mut values = self.values.clone();
        let mut conditions = self.conditions.clone();
        if let Some(after) = &self.after {
            conditions.push(self.beyond(after, &mut values));
        }
        (conditions.join(" AND "), values)
    }

    /// Rows beyond the marker in the order of all sort keys together.
    fn beyond(&self, after: &Image, values: &mut Vec<Value>) -> String {
        let mut ways = Vec::new();
        let mut equal: Vec<String> = Vec::new();
        for (key, direction) in &self.sort {
            values.push(sort_value(key, after));
            let place = format!("${}", values.len());
            let column = sort_column(key);
            let operator = if *direction == Direction::Ascending { ">" } else { "<" };
            let mut way = equal.clone();
            way.push(format!("{column} {operator} {place}"));
            ways.push(format!("({})", way.join(" AND ")));
            equal.push(format!("{column} = {place}"));
        }
        format!("({})", ways.join(" OR "))
    }

    /// The order, without its keyword.
    pub fn order(&self) -> String {
        let keys: Vec<String> = self
            .sort
            .iter()
            .map(|(key, direction)| format!("{} {}", sort_column(key), direction.sql()))
            .collect();
        keys.join(", ")
    }
}

/// Missing values sort as empty or zero, so that a page can begin after one.
fn sort_column(key: &str) -> String {
    match key {
        "size" => "COALESCE(size, -1)".to_owned(),
        "name" | "disk_format" | "container_format" => format!("COALESCE({key}, '')"),
        other => other.to_owned(),
    }
}

fn sort_value(key: &str, image: &Image) -> Value {
    match key {
        "size" => image.size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1).into(),
        "name" => image.name.clone().unwrap_or_default().into(),
        "status" => image.status.as_str().into(),
        "disk_format" => image.disk_format.map_or("", |format| format.as_str()).into(),
        "container_format" => image.container_format.clone().unwrap_or_default().into(),
        "created_at" => image.created_at.0.into(),
        "updated_at" => image.updated_at.0.into(),
        _ => image.id.to_string().into(),
    }
}

/// A substring test that both databases have.
fn contains(column: &str, needle: &str) -> String {
    format!("{column} <> REPLACE({column}, {needle}, '')")
}

/// `gte:2026-01-01T00:00:00Z`, or a bare moment.
fn comparison(key: &str, value: &str) -> Result<(&'static str, Timestamp), Fault> {
    let operators =
        [("gte:", ">="), ("gt:", ">"), ("lte:", "<="), ("lt:", "<"), ("neq:", "<>"), ("eq:", "=")];
    let (operator, moment) = operators
        .iter()
        .find_map(|(word, operator)| value.strip_prefix(word).map(|rest| (*operator, rest)))
        .unwrap_or(("=", value));
    let moment = Timestamp::parse(moment).ok_or_else(|| {
        Fault::bad_request(format!("Invalid value '{value}' for {key}; it has to be a moment such as gte:2026-01-01T00:00:00Z."))
    })?;
    Ok((operator, moment))
}

/// `a,"b,c",d`.
fn split_list(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Fault> {
        let viewer = Viewer { project: Some("p1".parse().unwrap()), sees_all: false };
        Query::new(&Filters::parse(text).unwrap(), &viewer)
    }

    #[test]
    fn values_are_parameters_and_never_text() {
        let query = query("name=x'%20OR%201%3D1&color=turquoise&tag=a").unwrap();
        let (condition, values) = query.condition();
        assert!(!condition.contains("1=1") && !condition.contains("turquoise"), "{condition}");
        assert!(values.contains(&Value::Text("x' OR 1=1".into())));
        assert!(values.contains(&Value::Text("\"color\":\"turquoise\"".into())));
    }

    #[test]
    fn lists_may_be_quoted() {
        assert_eq!(split_list("a,\"b,c\",d"), ["a", "b,c", "d"]);
    }

    #[test]
    fn unknown_words_are_refused() {
        for text in [
            "visibility=everyone",
            "sort_key=sha256",
            "size_min=big",
            "created_at=soon",
            "marker=x",
            "member_status=maybe",
        ] {
            assert!(query(text).is_err(), "{text}");
        }
    }
}
