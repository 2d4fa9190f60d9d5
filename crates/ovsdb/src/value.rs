//! OVSDB's notation in JSON (RFC 7047 section 5.1): sets, maps and references are arrays with a tag,
//! and a set of one may stand for its element.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A reference to a row.
pub fn reference(row: Uuid) -> Value {
    json!(["uuid", row.to_string()])
}

/// A reference to a row that the same transaction inserts under this name.
pub fn named(name: &str) -> Value {
    json!(["named-uuid", name])
}

/// A set.
pub fn set(elements: impl IntoIterator<Item = Value>) -> Value {
    json!(["set", elements.into_iter().collect::<Vec<_>>()])
}

/// A set of references.
pub fn references(rows: impl IntoIterator<Item = Uuid>) -> Value {
    set(rows.into_iter().map(reference))
}

/// A map of texts.
pub fn map<K: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (K, V)>) -> Value {
    let pairs: Vec<Value> =
        pairs.into_iter().map(|(k, v)| json!([k.as_ref(), v.as_ref()])).collect();
    json!(["map", pairs])
}

/// The array after a tag.
fn tagged<'a>(value: &'a Value, tag: &str) -> Option<&'a Value> {
    match value.as_array()?.as_slice() {
        [name, inner] if name.as_str() == Some(tag) => Some(inner),
        _ => None,
    }
}

fn uuid(value: &Value) -> Option<Uuid> {
    tagged(value, "uuid")?.as_str()?.parse().ok()
}

/// Some columns of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row(pub Map<String, Value>);

impl Row {
    /// A column as it is.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.0.get(column)
    }

    /// The elements of a column, whether it is a set or a single value.
    pub fn elements(&self, column: &str) -> Vec<&Value> {
        match self.get(column) {
            None => Vec::new(),
            Some(value) => match tagged(value, "set").and_then(Value::as_array) {
                Some(elements) => elements.iter().collect(),
                None => vec![value],
            },
        }
    }

    fn only(&self, column: &str) -> Option<&Value> {
        match self.elements(column)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// A text; `None` where the column is absent or empty.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.only(column)?.as_str()
    }

    /// A number; `None` where the column is absent or empty.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.only(column)?.as_i64()
    }

    /// A truth value; `None` where the column is absent or empty.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        self.only(column)?.as_bool()
    }

    /// A set of texts.
    pub fn texts(&self, column: &str) -> Vec<&str> {
        self.elements(column).into_iter().filter_map(Value::as_str).collect()
    }

    /// A set of references.
    pub fn references(&self, column: &str) -> Vec<Uuid> {
        self.elements(column).into_iter().filter_map(uuid).collect()
    }

    /// A map of texts; empty where the column is absent.
    pub fn map(&self, column: &str) -> BTreeMap<String, String> {
        let pairs = self.get(column).and_then(|v| tagged(v, "map")).and_then(Value::as_array);
        pairs
            .into_iter()
            .flatten()
            .filter_map(|pair| match pair.as_array()?.as_slice() {
                [key, value] => Some((key.as_str()?.to_owned(), value.as_str()?.to_owned())),
                _ => None,
            })
            .collect()
    }

    /// The row's own identity, where `_uuid` was selected.
    pub fn uuid(&self) -> Option<Uuid> {
        uuid(self.get("_uuid")?)
    }

    /// Sets a column.
    pub fn with(mut self, column: &str, value: impl Into<Value>) -> Self {
        self.0.insert(column.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_one_may_stand_for_its_element() {
        let id = Uuid::from_u128(7);
        let row = Row::default()
            .with("one", "a")
            .with("many", set(["a".into(), "b".into()]))
            .with("none", set([]))
            .with("ports", reference(id))
            .with("more", references([id, id]))
            .with("number", 5)
            .with("ids", map([("k", "v")]));
        assert_eq!(
            (row.text("one"), row.text("many"), row.text("none"), row.text("other")),
            (Some("a"), None, None, None)
        );
        assert_eq!(row.texts("many"), ["a", "b"]);
        assert_eq!((row.references("ports"), row.references("more").len()), (vec![id], 2));
        assert_eq!((row.integer("number"), row.integer("one")), (Some(5), None));
        assert_eq!(row.map("ids"), BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        assert!(row.map("one").is_empty() && row.references("one").is_empty());
    }
}
