//! Reading the attributes of an object from JSON as Keystone does: known attributes are typed and
//! bounded, unknown ones are kept as extra attributes of users, projects and domains, and refused
//! elsewhere. A fault names the attribute.

use cloud_types::Fault;
use serde_json::{Map, Value};

/// Longest name, in characters; upstream's columns have 64 for domains and projects and 255 for
/// users and roles.
pub(crate) const NAME_LONG: usize = 255;
/// For domains and projects.
pub(crate) const NAME_SHORT: usize = 64;
/// Longest free text.
const TEXT: usize = 65_535;
/// Extra attributes of one object together, in bytes of JSON.
const EXTRA_BYTES: usize = 16_384;

/// The attributes of one object, taken out one by one.
pub(crate) struct Fields {
    map: Map<String, Value>,
}

/// An attribute of an update: absent, null, or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patch<T> {
    Absent,
    Null,
    Set(T),
}

impl<T> Patch<T> {
    /// The new value where the attribute may be null.
    pub fn apply(self, to: &mut Option<T>) {
        match self {
            Patch::Absent => {}
            Patch::Null => *to = None,
            Patch::Set(value) => *to = Some(value),
        }
    }
}

impl Fields {
    /// The object below `root`: `{"user": {…}}`.
    pub fn below(root: &str, body: Value) -> Result<Fields, Fault> {
        match body {
            Value::Object(mut map) => match map.remove(root) {
                Some(Value::Object(map)) => Ok(Fields { map }),
                Some(other) => Err(wrong(root, &other, "an object")),
                None => Err(Fault::bad_request(format!("'{root}' is a required property"))),
            },
            other => Err(wrong("body", &other, "an object")),
        }
    }

    /// Text of at most `max` characters.
    pub fn text(&mut self, name: &str, max: usize) -> Result<Patch<String>, Fault> {
        match self.map.remove(name) {
            None => Ok(Patch::Absent),
            Some(Value::Null) => Ok(Patch::Null),
            Some(Value::String(text)) if text.chars().count() <= max => Ok(Patch::Set(text)),
            Some(Value::String(_)) => Err(Fault::bad_request(format!(
                "Invalid input for field '{name}': it is longer than {max} characters."
            ))),
            Some(other) => Err(wrong(name, &other, "a string")),
        }
    }

    /// A name: not empty, not only spaces, not null.
    pub fn name(&mut self, name: &str, max: usize) -> Result<Option<String>, Fault> {
        match self.text(name, max)? {
            Patch::Absent => Ok(None),
            Patch::Set(text) if !text.trim().is_empty() => Ok(Some(text)),
            _ => Err(Fault::bad_request(format!(
                "Invalid input for field '{name}': it must not be empty."
            ))),
        }
    }

    /// A name that must be there.
    pub fn required_name(&mut self, name: &str, max: usize) -> Result<String, Fault> {
        self.name(name, max)?
            .ok_or_else(|| Fault::bad_request(format!("'{name}' is a required property")))
    }

    /// A free text; null is the empty one.
    pub fn description(&mut self) -> Result<Option<String>, Fault> {
        Ok(match self.text("description", TEXT)? {
            Patch::Absent => None,
            Patch::Null => Some(String::new()),
            Patch::Set(text) => Some(text),
        })
    }

    /// A flag.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(name, &other, "a boolean")),
        }
    }

    /// A flag that may be null.
    pub fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        if self.map.get(name) == Some(&Value::Null) {
            self.map.remove(name);
        }
        self.flag(name)
    }

    /// A list of whatever; absent is empty.
    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Fault> {
        match self.map.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items),
            Some(other) => Err(wrong(name, &other, "a list")),
        }
    }

    /// A whole number that may be null.
    pub fn whole(&mut self, name: &str) -> Result<Option<i64>, Fault> {
        if self.map.get(name) == Some(&Value::Null) {
            self.map.remove(name);
        }
        self.integer(name)
    }

    /// A whole number.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, Fault> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, &value, "an integer")),
            },
        }
    }

    /// An identifier.
    pub fn id<T: std::str::FromStr>(&mut self, name: &str) -> Result<Patch<T>, Fault> {
        match self.text(name, 64)? {
            Patch::Absent => Ok(Patch::Absent),
            Patch::Null => Ok(Patch::Null),
            Patch::Set(text) => text.parse().map(Patch::Set).map_err(|_| {
                Fault::bad_request(format!(
                    "Invalid input for field '{name}': it is not an identifier."
                ))
            }),
        }
    }

    /// An object, kept as it is.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Fault> {
        match self.map.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(wrong(name, &other, "an object")),
        }
    }

    /// A value of any type, for a reader of its own.
    pub fn value(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// A number that is not negative.
    pub fn count(&mut self, name: &str) -> Result<Patch<u32>, Fault> {
        match self.map.remove(name) {
            None => Ok(Patch::Absent),
            Some(Value::Null) => Ok(Patch::Null),
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) => Ok(Patch::Set(number)),
                None => Err(wrong(name, &value, "a whole number from 0 to 4294967295")),
            },
        }
    }

    /// A list of short texts.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        match self.map.remove(name) {
            None => Ok(None),
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) if text.chars().count() <= NAME_LONG => Ok(text),
                    other => Err(wrong(name, &other, "a list of short strings")),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(other) => Err(wrong(name, &other, "a list")),
        }
    }

    /// Drops attributes that clients send back but that cannot be set.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// What is left, as extra attributes.
    pub fn extra(self) -> Result<Map<String, Value>, Fault> {
        if self.map.keys().any(|key| key.is_empty() || key.len() > NAME_LONG) {
            return Err(Fault::bad_request("The name of an attribute is empty or too long."));
        }
        let size = serde_json::to_string(&self.map).map_or(0, |text| text.len());
        if size > EXTRA_BYTES {
            let longest = self.map.iter().max_by_key(|(_, value)| value.to_string().len());
            let longest = longest.map_or("", |(name, _)| name.as_str());
            return Err(Fault::bad_request(format!(
                "The extra attributes have {size} bytes, most of them in '{longest}'; at most \
                 {EXTRA_BYTES} are kept."
            )));
        }
        Ok(self.map)
    }

    /// Refuses what is left.
    pub fn finish(self) -> Result<(), Fault> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => {
                let shown: String = name.chars().take(64).collect();
                Err(Fault::bad_request(format!(
                    "Additional properties are not allowed ('{shown}' was unexpected)"
                )))
            }
        }
    }
}

/// Changes extra attributes as an update says: null removes one.
pub(crate) fn merge_extra(into: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (key, value) in changes {
        if value.is_null() {
            into.remove(&key);
        } else {
            into.insert(key, value);
        }
    }
}

fn wrong(name: &str, value: &Value, wanted: &str) -> Fault {
    let shown: String = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(_) => "a string".to_owned(),
        other => other.to_string(),
    };
    Fault::bad_request(format!("Invalid input for field '{name}': {shown} is not {wanted}."))
}
