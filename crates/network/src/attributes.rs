//! Reads a request body the way Neutron does: a map of attributes in which an absent one, a null
//! and a value mean three different things, `tenant_id` and `project_id` are one attribute, and
//! whatever nobody asked for is refused by name. A derived struct cannot say "absent or null" and
//! loses the wording that clients match on, so resources take their attributes out one by one and
//! call [`Attributes::finish`] at the end.

use std::net::IpAddr;

use cloud_types::{Fault, MacAddress, ProjectId};
use ipnet::IpNet;
use serde_json::{Map, Value};

use crate::faults::{http_bad_request, invalid_attribute, invalid_input};

/// Longest name, in characters.
pub const NAME_MAX: usize = 255;
/// Longest description, in characters.
pub const DESCRIPTION_MAX: usize = 255;
/// Longest description where Neutron takes more, in characters.
pub const LONG_DESCRIPTION_MAX: usize = 1024;
/// Most items in one bulk request.
pub const BULK_MAX: usize = 1000;

/// Which request a body belongs to; decides the wording of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST
    Create,
    /// PUT
    Update,
}

/// The attributes of one resource that have not been read yet.
#[derive(Clone, Debug)]
pub struct Attributes {
    verb: Verb,
    left: Map<String, Value>,
}

impl Attributes {
    /// The body of a request about one resource: `{"port": {...}}`.
    pub fn single(body: Value, resource: &str, verb: Verb) -> Result<Self, Fault> {
        let mut body = object(body)?;
        let inner = body.remove(resource).ok_or_else(|| missing(resource))?;
        refuse_rest(&body)?;
        Self::from_value(inner, resource, verb)
    }

    /// The body of a POST, which may be bulk: `{"ports": [{...}, ...]}`. The second value says
    /// whether it was.
    pub fn one_or_many(
        body: Value,
        resource: &str,
        collection: &str,
    ) -> Result<(Vec<Self>, bool), Fault> {
        let mut map = object(body)?;
        let Some(many) = map.remove(collection) else {
            return Ok((vec![Self::single(Value::Object(map), resource, Verb::Create)?], false));
        };
        refuse_rest(&map)?;
        let Value::Array(items) = many else {
            return Err(http_bad_request(format!("{collection} must be a list")));
        };
        if items.is_empty() {
            return Err(http_bad_request("Resources required"));
        }
        if items.len() > BULK_MAX {
            return Err(http_bad_request(format!(
                "{} {collection} in one request; at most {BULK_MAX} are allowed",
                items.len()
            )));
        }
        let items = items.into_iter().map(|item| {
            // Upstream takes both [{...}] and [{"port": {...}}].
            let item = match item {
                Value::Object(mut map) if map.len() == 1 && map.contains_key(resource) => {
                    map.remove(resource).unwrap_or_default()
                }
                other => other,
            };
            Self::from_value(item, resource, Verb::Create)
        });
        Ok((items.collect::<Result<_, _>>()?, true))
    }

    fn from_value(value: Value, resource: &str, verb: Verb) -> Result<Self, Fault> {
        match value {
            Value::Object(left) => Ok(Attributes { verb, left }),
            _ => Err(http_bad_request(format!("{resource} must be an object"))),
        }
    }

    /// Refuses attributes that exist but may not be written by this request.
    pub fn read_only(&self, names: &[&str]) -> Result<(), Fault> {
        match names.iter().find(|name| self.left.contains_key(**name)) {
            None => Ok(()),
            Some(name) if self.verb == Verb::Create => {
                Err(http_bad_request(format!("Attribute '{name}' not allowed in POST")))
            }
            Some(name) => {
                Err(http_bad_request(format!("Cannot update read-only attribute {name}")))
            }
        }
    }

    /// Whether an attribute was sent, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Whether an attribute was sent and is this text.
    pub fn is_text(&self, name: &str, text: &str) -> bool {
        self.left.get(name).and_then(Value::as_str) == Some(text)
    }

    /// The raw value.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// The raw value of an attribute without which nothing can be done.
    pub fn required(&mut self, name: &str) -> Result<Value, Fault> {
        self.take(name).ok_or_else(|| {
            http_bad_request(format!(
                "Failed to parse request. Required attribute '{name}' not specified"
            ))
        })
    }

    /// A text of at most `max` characters; null is refused.
    pub fn string(&mut self, name: &str, max: usize) -> Result<Option<String>, Fault> {
        self.take(name).map(|value| text(name, &value, max)).transpose()
    }

    /// A text or null.
    pub fn nullable_string(
        &mut self,
        name: &str,
        max: usize,
    ) -> Result<Option<Option<String>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => text(name, &value, max).map(|text| Some(Some(text))),
        }
    }

    /// A truth value in any of the spellings that Neutron takes.
    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.take(name)
            .map(|value| {
                as_bool(&value).ok_or_else(|| {
                    let value = plain(&value);
                    invalid_input(format!("{name}: '{value}' cannot be converted to boolean"))
                })
            })
            .transpose()
    }

    /// A whole number within a range; null counts as absent.
    pub fn integer(&mut self, name: &str, range: (i64, i64)) -> Result<Option<i64>, Fault> {
        let Some(value) = self.take(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        let number = number.ok_or_else(|| {
            invalid_attribute(name, format!("'{}' is not an integer", plain(&value)))
        })?;
        if number < range.0 || number > range.1 {
            return Err(invalid_attribute(
                name,
                format!("'{number}' is not in range {} through {}", range.0, range.1),
            ));
        }
        Ok(Some(number))
    }

    /// An identifier of another resource.
    pub fn id<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        self.take(name).map(|value| as_id(name, &value)).transpose()
    }

    /// A list of identifiers; null counts as absent.
    pub fn ids<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<Vec<T>>, Fault> {
        let items = match self.take(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => {
                return Err(invalid_attribute(name, format!("'{}' is not a list", plain(&other))));
            }
        };
        let mut seen = std::collections::HashSet::new();
        if let Some(item) = items.iter().find(|item| !seen.insert(plain(item))) {
            let reason = format!("Duplicate items in the list: '{}'", plain(item));
            return Err(invalid_attribute(name, reason));
        }
        items.iter().map(|item| as_id(name, item)).collect::<Result<Vec<T>, _>>().map(Some)
    }

    /// The owner that the caller names, under either spelling; both must then agree.
    pub fn project(&mut self) -> Result<Option<ProjectId>, Fault> {
        let tenant = self.id::<ProjectId>("tenant_id")?;
        let project = self.id::<ProjectId>("project_id")?;
        match (tenant, project) {
            (Some(tenant), Some(project)) if tenant != project => {
                Err(http_bad_request("'project_id' and 'tenant_id' do not match"))
            }
            (tenant, project) => Ok(project.or(tenant)),
        }
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), Fault> {
        if self.left.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.left.keys().map(String::as_str).collect();
        Err(http_bad_request(format!("Unrecognized attribute(s) '{}'", names.join(", "))))
    }
}

fn object(body: Value) -> Result<Map<String, Value>, Fault> {
    match body {
        Value::Object(map) => Ok(map),
        Value::Null => Err(http_bad_request("Resource body required")),
        _ => Err(http_bad_request("The request body must be a JSON object")),
    }
}

fn missing(resource: &str) -> Fault {
    http_bad_request(format!("Unable to find '{resource}' in request body"))
}

fn refuse_rest(map: &Map<String, Value>) -> Result<(), Fault> {
    match map.keys().next() {
        None => Ok(()),
        Some(key) => Err(http_bad_request(format!("Unrecognized attribute(s) '{key}'"))),
    }
}

/// A value as people write it: texts without quotes, cut to 128 characters.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().take(128).collect(),
        other => other.to_string().chars().take(128).collect(),
    }
}

fn text(name: &str, value: &Value, max: usize) -> Result<String, Fault> {
    let Value::String(text) = value else {
        return Err(invalid_attribute(name, format!("'{}' is not a valid string", plain(value))));
    };
    if text.chars().count() > max {
        return Err(invalid_attribute(
            name,
            format!("'{}' exceeds maximum length of {max}", plain(value)),
        ));
    }
    if text.contains('\0') {
        return Err(invalid_attribute(name, "a text may not hold NUL"));
    }
    Ok(text.clone())
}

/// A truth value in any of the spellings that Neutron takes.
pub fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn as_id<T: std::str::FromStr>(name: &str, value: &Value) -> Result<T, Fault> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid_attribute(name, format!("'{}' is not a valid UUID", plain(value))))
}

/// An address inside a body.
pub fn as_ip(name: &str, value: &Value) -> Result<IpAddr, Fault> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        invalid_attribute(name, format!("'{}' is not a valid IP address", plain(value)))
    })
}

/// A range inside a body, host bits as given; a bare address is a range of one.
pub fn as_net(name: &str, value: &Value) -> Result<IpNet, Fault> {
    let parsed = value.as_str().and_then(|text| {
        text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
    });
    parsed.ok_or_else(|| {
        invalid_attribute(name, format!("'{}' is not a valid IP subnet", plain(value)))
    })
}

/// An Ethernet address inside a body; group addresses are refused.
pub fn as_mac(name: &str, value: &Value) -> Result<MacAddress, Fault> {
    let parsed =
        value.as_str().and_then(|text| text.to_ascii_lowercase().replace('-', ":").parse().ok());
    match parsed {
        Some(mac) if MacAddress::is_multicast(mac) || mac.0 == [0; 6] => {
            Err(invalid_attribute(name, format!("'{mac}' is not a unicast MAC address")))
        }
        Some(mac) => Ok(mac),
        None => {
            Err(invalid_attribute(name, format!("'{}' is not a valid MAC address", plain(value))))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_took_is_named() {
        let body = json!({"network": {"name": "a", "colour": "red"}});
        let mut attributes = Attributes::single(body, "network", Verb::Create).unwrap();
        assert_eq!(attributes.string("name", NAME_MAX).unwrap().as_deref(), Some("a"));
        let fault = attributes.finish().unwrap_err();
        assert_eq!(fault.message, "Unrecognized attribute(s) 'colour'");
        assert_eq!(fault.name.as_deref(), Some("HTTPBadRequest"));
    }

    #[test]
    fn bulk_takes_bare_and_wrapped_items() {
        let body = json!({"ports": [{"name": "a"}, {"port": {"name": "b"}}]});
        let (items, bulk) = Attributes::one_or_many(body, "port", "ports").unwrap();
        assert!(bulk);
        let names: Vec<_> = items
            .into_iter()
            .map(|mut item| item.string("name", NAME_MAX).unwrap().unwrap())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn two_spellings_of_the_owner_must_agree() {
        let of = |body| Attributes::single(json!({ "x": body }), "x", Verb::Create).unwrap();
        assert_eq!(of(json!({"tenant_id": "p1"})).project().unwrap().unwrap().as_str(), "p1");
        assert!(of(json!({"tenant_id": "p1", "project_id": "p2"})).project().is_err());
    }

    #[test]
    fn group_addresses_are_no_port_addresses() {
        assert!(as_mac("mac_address", &json!("01:00:5e:00:00:01")).is_err());
        assert!(as_mac("mac_address", &json!("00:00:00:00:00:00")).is_err());
        assert!(as_mac("mac_address", &json!("FA-16-3E-00-00-01")).is_ok());
    }
}
