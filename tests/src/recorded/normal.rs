//! The normal form of an answer: what differs from one cloud, or one run, to the next is replaced
//! by a word for its format, so that two answers can be compared as they stand.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

static UUID: LazyLock<Regex> =
    LazyLock::new(|| regex(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"));
static HEX: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(?:[0-9a-f]{56}|[0-9a-f]{32})\b"));
static TIME: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?$"));
static MAC: LazyLock<Regex> = LazyLock::new(|| regex(r"^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$"));
static RESERVATION: LazyLock<Regex> = LazyLock::new(|| regex(r"^r-[0-9a-z]{8}$"));
static AUDIT: LazyLock<Regex> = LazyLock::new(|| regex(r"^[A-Za-z0-9_-]{22}$"));

/// The test's own unknown id, which stays as it is.
const UNKNOWN: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

/// What is known about the cloud that answers.
#[derive(Clone, Debug, Default)]
pub struct Normal {
    /// Roots of services, `https://host:port/compute`, and their names.
    pub roots: Vec<(String, String)>,
    /// Remembered values and their names.
    pub known: Vec<(String, String)>,
    /// Names of hosts.
    pub hosts: Vec<String>,
}

impl Normal {
    /// Remembers that `value` is called `{name}`.
    pub fn remember(&mut self, name: &str, value: &str) {
        self.known.retain(|(_, known)| known != name);
        self.known.push((value.to_owned(), name.to_owned()));
    }

    /// The remembered value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.known.iter().find(|(_, known)| known == name).map(|(value, _)| value.as_str())
    }

    /// A text in normal form.
    pub fn text(&self, text: &str) -> String {
        if text.contains("PRIVATE KEY") {
            return "<private key>".to_owned();
        }
        if text.starts_with("Traceback") {
            return "<traceback>".to_owned();
        }
        if self.hosts.iter().any(|host| host == text) {
            return "<host>".to_owned();
        }
        if let Some(time) = TIME.captures(text) {
            let fraction = time.get(1).map_or(0, |digits| digits.len() - 1);
            let zone = time.get(2).map_or("", |zone| zone.as_str());
            return format!("<time, {fraction} decimals, zone '{zone}'>");
        }
        if RESERVATION.is_match(text) {
            return "<reservation>".to_owned();
        }
        let mut text = text.to_owned();
        for (value, name) in self.roots.iter().chain(&self.known) {
            // Short values, such as a name, may stand anywhere by chance.
            if value.len() >= 16 {
                text = text.replace(value, &format!("{{{name}}}"));
            }
        }
        let uuid = |found: &regex::Captures<'_>| {
            let found = &found[0];
            if found == UNKNOWN { found.to_owned() } else { "<uuid>".to_owned() }
        };
        let text = UUID.replace_all(&text, uuid);
        let hex = |found: &regex::Captures<'_>| format!("<{} hex digits>", found[0].len());
        let text = HEX.replace_all(&text, hex);
        MAC.replace_all(&text, "<mac>").into_owned()
    }

    /// A body in normal form.
    pub fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| {
                    let value = match value {
                        Value::Array(items) if key == "audit_ids" => {
                            items.iter().map(audit).collect()
                        }
                        value => self.json(value),
                    };
                    (self.text(key), value)
                })
                .collect(),
            other => other.clone(),
        }
    }
}

fn audit(id: &Value) -> Value {
    match id.as_str() {
        Some(text) if AUDIT.is_match(text) => "<22 characters>".into(),
        _ => id.clone(),
    }
}

/// Lists with only the first element of each shape: enough to compare shapes, and small.
pub fn thin(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(thin);
            let mut seen = Vec::new();
            items.retain(|item| {
                let shape = shape(item);
                let new = !seen.contains(&shape);
                seen.push(shape);
                new
            });
        }
        Value::Object(map) => map.values_mut().for_each(thin),
        _ => {}
    }
}

/// Keys and types only.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => true.into(),
        Value::Number(_) => 0.into(),
        Value::String(text) if text.starts_with('<') => text.as_str().into(),
        Value::String(_) => "".into(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_are_told_apart() {
        let mut normal = Normal::default();
        normal.roots.push(("http://127.0.0.1:8774".into(), "compute".into()));
        normal.remember("server", "2c5a1f3a-4a5b-4e57-9a54-0d6d4c1f2c11");
        let text = |text: &str| normal.text(text);
        assert_eq!(
            text("http://127.0.0.1:8774/v2.1/servers/2c5a1f3a-4a5b-4e57-9a54-0d6d4c1f2c11"),
            "{compute}/v2.1/servers/{server}"
        );
        assert_eq!(text("req-0c5a1f3a-4a5b-4e57-9a54-0d6d4c1f2c11"), "req-<uuid>");
        assert_eq!(text("2c5a1f3a4a5b4e579a540d6d4c1f2c11"), "<32 hex digits>");
        assert_ne!(text("2026-01-02T03:04:05Z"), text("2026-01-02T03:04:05.000000"));
        assert_eq!(text("fa:16:3e:00:11:22"), "<mac>");
        assert_eq!(text(UNKNOWN), UNKNOWN);
    }

    #[test]
    fn thin_keeps_one_of_each_shape() {
        let mut list = json!([{"a": 1}, {"a": 2}, {"a": null}]);
        thin(&mut list);
        assert_eq!(list, json!([{"a": 1}, {"a": null}]));
    }
}
