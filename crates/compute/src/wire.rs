//! Reading request bodies the way Nova's JSON schemas do: a field is taken from the object by the
//! rule that the microversion gives it, and whatever is left over at the end was unexpected. A
//! field that a microversion does not know is simply not taken, so the same code that reads the
//! newest body refuses it from an older client.
//!
//! ```
//! use compute::wire::Fields;
//! use serde_json::json;
//!
//! let mut root = Fields::root(json!({"keypair": {"name": "laptop", "kind": "ssh"}})).unwrap();
//! let mut keypair = root.required_object("keypair").unwrap();
//! assert_eq!(keypair.required_name("name").unwrap(), "laptop");
//! let refusal = keypair.finish().unwrap_err();
//! assert!(refusal.message.contains("'kind' was unexpected"));
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use cloud_types::Fault;
use serde_json::{Map, Value};
use uuid::Uuid;

/// The longest name of anything, in characters.
pub const NAME_CHARS: usize = 255;
/// The largest amount that a field may carry (a signed 32-bit column upstream).
pub const MAX_AMOUNT: u64 = 0x7fff_ffff;

/// The fields of a JSON object that have not been read yet, and where the object stands.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The body itself.
    pub fn root(body: Value) -> Result<Self, Fault> {
        Self::at(String::new(), body)
    }

    fn at(path: String, value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(map) => Ok(Fields { path, map }),
            other => Err(invalid(&path, &other, "it is not an object")),
        }
    }

    /// The path of a field, as written in refusals.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the field is there, null included.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Takes the field as it stands.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    /// The names of the fields that are left.
    pub fn keys(&self) -> Vec<String> {
        self.map.keys().cloned().collect()
    }

    fn refuse<T>(&self, key: &str, value: &Value, why: &str) -> Result<T, Fault> {
        Err(invalid(&self.path_of(key), value, why))
    }

    fn missing(&self, key: &str) -> Fault {
        let whole = if self.path.is_empty() { "the body" } else { &self.path };
        Fault::bad_request(format!(
            "Invalid input for field/attribute {whole}. '{key}' is a required property"
        ))
    }

    /// Refuses a body with fields that nobody took.
    pub fn finish(self) -> Result<(), Fault> {
        let names: Vec<String> =
            self.map.keys().take(5).map(|key| format!("'{}'", cut(key))).collect();
        if names.is_empty() {
            return Ok(());
        }
        let whole = if self.path.is_empty() { "the body" } else { &self.path };
        let were = if self.map.len() == 1 { "was" } else { "were" };
        Err(Fault::bad_request(format!(
            "Invalid input for field/attribute {whole}. Additional properties are not allowed ({} {were} unexpected)",
            names.join(", ")
        )))
    }

    /// A nested object.
    pub fn object(&mut self, key: &str) -> Result<Option<Fields>, Fault> {
        let path = self.path_of(key);
        self.take(key).map(|value| Fields::at(path, value)).transpose()
    }

    /// A nested object that must be there.
    pub fn required_object(&mut self, key: &str) -> Result<Fields, Fault> {
        self.object(key)?.ok_or_else(|| self.missing(key))
    }

    /// A list.
    pub fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => self.refuse(key, &other, "it is not a list"),
        }
    }

    /// A list of objects, each with its index in its path.
    pub fn objects(&mut self, key: &str) -> Result<Option<Vec<Fields>>, Fault> {
        let path = self.path_of(key);
        let Some(items) = self.list(key)? else { return Ok(None) };
        items
            .into_iter()
            .enumerate()
            .map(|(index, item)| Fields::at(format!("{path}[{index}]"), item))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A string of `min` to `max` characters.
    pub fn text(&mut self, key: &str, min: usize, max: usize) -> Result<Option<String>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => {
                let length = text.chars().count();
                if length < min {
                    return self.refuse(key, &Value::String(text), "it is too short");
                }
                if length > max {
                    return self.refuse(key, &Value::String(text), "it is too long");
                }
                Ok(Some(text))
            }
            Some(other) => self.refuse(key, &other, "it is not a string"),
        }
    }

    /// A string, or null; the outer `None` means absent.
    pub fn nullable_text(
        &mut self,
        key: &str,
        min: usize,
        max: usize,
    ) -> Result<Option<Option<String>>, Fault> {
        if self.map.get(key).is_some_and(Value::is_null) {
            self.take(key);
            return Ok(Some(None));
        }
        Ok(self.text(key, min, max)?.map(Some))
    }

    /// A name: 1 to 255 printable characters that neither begin nor end with white space.
    pub fn name(&mut self, key: &str) -> Result<Option<String>, Fault> {
        let Some(text) = self.text(key, 1, NAME_CHARS)? else { return Ok(None) };
        if text.chars().any(char::is_control) || text.trim() != text {
            return self.refuse(
                key,
                &Value::String(text),
                "it must be printable characters that do not begin or end with white space",
            );
        }
        Ok(Some(text))
    }

    /// A name that must be there.
    pub fn required_name(&mut self, key: &str) -> Result<String, Fault> {
        self.name(key)?.ok_or_else(|| self.missing(key))
    }

    /// A description: up to `max` printable characters, or null.
    pub fn description(&mut self, key: &str, max: usize) -> Result<Option<Option<String>>, Fault> {
        let found = self.nullable_text(key, 0, max)?;
        match &found {
            Some(Some(text)) if text.chars().any(char::is_control) => {
                self.refuse(key, &Value::String(text.clone()), "it must be printable characters")
            }
            _ => Ok(found),
        }
    }

    /// One of the words.
    pub fn word(&mut self, key: &str, words: &[&str]) -> Result<Option<String>, Fault> {
        let Some(text) = self.text(key, 0, usize::MAX)? else { return Ok(None) };
        if words.contains(&text.as_str()) {
            return Ok(Some(text));
        }
        let why = format!("it is not one of {}", words.join(", "));
        self.refuse(key, &Value::String(text), &why)
    }

    /// A boolean, also in the spellings that Nova takes.
    pub fn boolean(&mut self, key: &str) -> Result<Option<bool>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(Value::String(text)) => match parse_boolean(&text) {
                Some(value) => Ok(Some(value)),
                None => self.refuse(key, &Value::String(text), "it is not a boolean"),
            },
            Some(other) => self.refuse(key, &other, "it is not a boolean"),
        }
    }

    /// A whole number between the bounds, also written as a string.
    pub fn amount(&mut self, key: &str, min: u64, max: u64) -> Result<Option<u64>, Fault> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        };
        match number {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => {
                let why = format!("it is not a whole number from {min} to {max}");
                self.refuse(key, &value, &why)
            }
        }
    }

    /// An amount that must be there.
    pub fn required_amount(&mut self, key: &str, min: u64, max: u64) -> Result<u64, Fault> {
        self.amount(key, min, max)?.ok_or_else(|| self.missing(key))
    }

    /// A UUID.
    pub fn uuid(&mut self, key: &str) -> Result<Option<Uuid>, Fault> {
        let Some(text) = self.text(key, 0, usize::MAX)? else { return Ok(None) };
        match Uuid::parse_str(&text) {
            Ok(uuid) => Ok(Some(uuid)),
            Err(_) => self.refuse(key, &Value::String(text), "it is not a 'uuid'"),
        }
    }

    /// A UUID, or null, which counts as absent.
    pub fn nullable_uuid(&mut self, key: &str) -> Result<Option<Uuid>, Fault> {
        if self.map.get(key).is_some_and(Value::is_null) {
            self.take(key);
            return Ok(None);
        }
        self.uuid(key)
    }

    /// An IP address of either family.
    pub fn ip(&mut self, key: &str) -> Result<Option<IpAddr>, Fault> {
        let Some(text) = self.text(key, 0, usize::MAX)? else { return Ok(None) };
        match text.parse() {
            Ok(ip) => Ok(Some(ip)),
            Err(_) => self.refuse(key, &Value::String(text), "it is not an IP address"),
        }
    }

    /// Key-value pairs: keys of 1 to 255 characters out of letters, digits and `-_:. `, values of
    /// up to 255 characters.
    pub fn metadata(&mut self, key: &str) -> Result<Option<BTreeMap<String, String>>, Fault> {
        let Some(fields) = self.object(key)? else { return Ok(None) };
        let path = fields.path.clone();
        let mut pairs = BTreeMap::new();
        for (name, value) in fields.map {
            if !is_metadata_key(&name) {
                return Err(Fault::bad_request(format!(
                    "Invalid input for field/attribute {path}. Additional properties are not allowed ('{}' was unexpected): \
                     a key has 1 to 255 letters, digits, spaces and any of - _ : .",
                    cut(&name)
                )));
            }
            match value {
                Value::String(text) if text.chars().count() <= NAME_CHARS => {
                    pairs.insert(name, text);
                }
                other => {
                    return Err(invalid(
                        &format!("{path}.{name}"),
                        &other,
                        "it is not a string of at most 255 characters",
                    ));
                }
            }
        }
        Ok(Some(pairs))
    }

    /// A host name: letters, digits and dashes; with dots too where `fqdn` says so.
    pub fn hostname(&mut self, key: &str, fqdn: bool) -> Result<Option<String>, Fault> {
        let max = if fqdn { 255 } else { 63 };
        let Some(text) = self.text(key, if fqdn { 1 } else { 2 }, max)? else { return Ok(None) };
        let fits = if fqdn {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        } else {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-')
        };
        if fits {
            return Ok(Some(text));
        }
        self.refuse(key, &Value::String(text), "it is not a host name")
    }

    /// A secret string: never repeated in a refusal.
    pub fn secret(&mut self, key: &str, max: usize) -> Result<Option<String>, Fault> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= max => Ok(Some(text)),
            Some(_) => Err(Fault::bad_request(format!(
                "Invalid input for field/attribute {}. It is not a string of at most {max} characters",
                self.path_of(key)
            ))),
        }
    }
}

/// Whether a metadata key is one that Nova takes.
pub fn is_metadata_key(key: &str) -> bool {
    (1..=NAME_CHARS).contains(&key.chars().count())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_:. ".contains(c))
}

/// The spellings of a boolean that Nova's schemas list.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        "True" | "TRUE" | "true" | "1" | "ON" | "On" | "on" | "YES" | "Yes" | "yes" => Some(true),
        "False" | "FALSE" | "false" | "0" | "OFF" | "Off" | "off" | "NO" | "No" | "no" => {
            Some(false)
        }
        _ => None,
    }
}

/// Refuses query parameters that the list does not know: what 2.75 made of unknown ones.
///
/// # Errors
/// 400 naming the parameter.
pub fn strict_query(filters: &service_kit::Filters, known: &[&str]) -> Result<(), Fault> {
    match filters.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, _)) => Err(Fault::bad_request(format!(
            "Invalid input for query parameters. Additional properties are not allowed ('{}' was unexpected)",
            cut(key)
        ))),
    }
}

/// A refusal that names the field, shows the beginning of the value, and says why.
pub fn invalid(path: &str, value: &Value, why: &str) -> Fault {
    let path = if path.is_empty() { "the body" } else { path };
    let shown = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Fault::bad_request(format!(
        "Invalid input for field/attribute {path}. Value: {}. {}: {why}",
        cut(&shown),
        cut(&shown)
    ))
}

/// The first 64 characters: what a caller sent is theirs, but not an answer's whole length.
fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(64).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::root(value).unwrap()
    }

    #[test]
    fn what_nobody_took_is_refused_with_its_path() {
        let mut root = fields(json!({"server": {"name": "a", "tags": []}, "extra": 1}));
        let mut server = root.required_object("server").unwrap();
        assert_eq!(server.required_name("name").unwrap(), "a");
        assert_eq!(
            server.finish().unwrap_err().message,
            "Invalid input for field/attribute server. Additional properties are not allowed ('tags' was unexpected)"
        );
        assert!(root.finish().unwrap_err().message.contains("'extra' was unexpected"));
    }

    #[test]
    fn names_are_printable_and_trimmed() {
        for bad in ["", " a", "a ", "a\nb", &"x".repeat(256)] {
            assert!(fields(json!({"name": bad})).name("name").is_err(), "{bad:?}");
        }
        assert!(fields(json!({"name": 12345})).name("name").is_err());
        assert_eq!(fields(json!({"name": "ø b"})).name("name").unwrap().unwrap(), "ø b");
    }

    #[test]
    fn amounts_come_as_numbers_and_digits() {
        let read = |value: Value| fields(json!({"n": value})).amount("n", 1, 100);
        assert_eq!(read(json!(7)).unwrap(), Some(7));
        assert_eq!(read(json!("7")).unwrap(), Some(7));
        for bad in
            [json!(0), json!(101), json!(-1), json!(1.5), json!("+7"), json!(""), json!(null)]
        {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_keys_and_values_are_bounded() {
        let read = |value: Value| fields(json!({"metadata": value})).metadata("metadata");
        assert_eq!(read(json!({"a b:c.d-e_f": "v"})).unwrap().unwrap().len(), 1);
        for bad in
            [json!({"": "v"}), json!({"k": 1}), json!({"ké": "v"}), json!({"k": "x".repeat(256)})]
        {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        assert!(read(json!({"k".repeat(256): "v"})).is_err());
    }

    #[test]
    fn null_is_not_absent() {
        let mut body = fields(json!({"description": null}));
        assert_eq!(body.description("description", 255).unwrap(), Some(None));
        assert_eq!(body.description("description", 255).unwrap(), None);
    }

    #[test]
    fn secrets_do_not_come_back() {
        let refusal = fields(json!({"p": ["hunter2"]})).secret("p", 10).unwrap_err();
        assert!(!refusal.message.contains("hunter2"));
    }
}
