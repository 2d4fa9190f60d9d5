//! What a flavor is, and how its request reads.

use std::collections::BTreeMap;

use cloud_types::{Fault, FlavorId, Timestamp};
use serde_json::{Value, json};
use service_kit::Microversion;

use crate::server::FlavorSnapshot;
use crate::wire::{Fields, MAX_AMOUNT, NAME_CHARS, invalid};

/// The longest description (Nova's limit).
const MAX_DESCRIPTION: usize = 65_535;

/// A flavor.
#[derive(Clone, Debug, PartialEq)]
pub struct Flavor {
    /// Its key in the database; never shown.
    pub id: FlavorId,
    /// Its public id.
    pub flavor_id: String,
    /// Its name.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Root disk in GiB.
    pub disk_gib: u64,
    /// Second disk in GiB.
    pub ephemeral_gib: u64,
    /// Swap in MiB.
    pub swap_mib: u64,
    /// Kept as given; nothing here uses it.
    pub rxtx_factor: f64,
    /// Whether every project may use it.
    pub is_public: bool,
    /// Free text.
    pub description: Option<String>,
    /// Extra specs.
    pub extra_specs: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Flavor {
    /// The copy that a server keeps.
    pub fn snapshot(&self) -> FlavorSnapshot {
        FlavorSnapshot {
            id: self.flavor_id.clone(),
            name: self.name.clone(),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            disk_gib: self.disk_gib,
            ephemeral_gib: self.ephemeral_gib,
            swap_mib: self.swap_mib,
            extra_specs: self.extra_specs.clone(),
        }
    }

    /// What the journal says of it.
    pub fn journal_view(&self) -> Value {
        json!({
            "flavor_id": self.flavor_id, "name": self.name, "vcpus": self.vcpus,
            "memory_mib": self.memory_mib, "disk_gib": self.disk_gib,
            "is_public": self.is_public, "extra_specs": self.extra_specs,
        })
    }

    /// Reads `POST /flavors`.
    ///
    /// # Errors
    /// 400 with the place and the reason.
    pub fn read(body: Value, version: Microversion, now: Timestamp) -> Result<Self, Fault> {
        let mut root = Fields::root(body)?;
        let mut fields = root.required_object("flavor")?;
        root.finish()?;
        let name = fields.required_name("name")?;
        let flavor_id = match fields.take("id") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(Value::String(text)) if text == "auto" => None,
            Some(Value::String(text)) if is_flavor_id(&text) => Some(text),
            Some(other) => {
                return Err(invalid(
                    "flavor.id",
                    &other,
                    "an id has 1 to 255 letters, digits and any of . _ - with spaces only inside",
                ));
            }
        };
        let memory_mib = fields.required_amount("ram", 1, MAX_AMOUNT)?;
        let vcpus = fields.required_amount("vcpus", 1, MAX_AMOUNT)?;
        let disk_gib = fields.required_amount("disk", 0, MAX_AMOUNT)?;
        let ephemeral_gib = fields.amount("OS-FLV-EXT-DATA:ephemeral", 0, MAX_AMOUNT)?.unwrap_or(0);
        let swap_mib = fields.amount("swap", 0, MAX_AMOUNT)?.unwrap_or(0);
        let rxtx_factor = read_factor(&mut fields)?;
        let is_public = fields.boolean("os-flavor-access:is_public")?.unwrap_or(true);
        let description = if version.at_least(2, 55) {
            fields.description("description", MAX_DESCRIPTION)?.flatten()
        } else {
            None
        };
        fields.finish()?;
        let id = FlavorId::random();
        Ok(Flavor {
            id,
            flavor_id: flavor_id.unwrap_or_else(|| FlavorId::random().to_string()),
            name,
            vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX),
            memory_mib,
            disk_gib,
            ephemeral_gib,
            swap_mib,
            rxtx_factor,
            is_public,
            description,
            extra_specs: BTreeMap::new(),
            created_at: now,
        })
    }
}

/// Reads `PUT /flavors/{id}` (2.55): the new description.
///
/// # Errors
/// 400 with the place and the reason.
pub fn read_description(body: Value) -> Result<Option<String>, Fault> {
    let mut root = Fields::root(body)?;
    let mut fields = root.required_object("flavor")?;
    root.finish()?;
    let description = fields.description("description", MAX_DESCRIPTION)?;
    fields.finish()?;
    description.ok_or_else(|| {
        Fault::bad_request(
            "Invalid input for field/attribute flavor. 'description' is a required property",
        )
    })
}

fn is_flavor_id(text: &str) -> bool {
    (1..=NAME_CHARS).contains(&text.len())
        && text.trim() == text
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b". _-".contains(&byte))
}

fn read_factor(fields: &mut Fields) -> Result<f64, Fault> {
    let Some(value) = fields.take("rxtx_factor") else { return Ok(1.0) };
    let number = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            text.parse().ok()
        }
        _ => None,
    };
    match number {
        Some(number) if number > 0.0 && number <= 3.402_82e38 => Ok(number),
        _ => Err(invalid("flavor.rxtx_factor", &value, "it is not a number above 0")),
    }
}

/// Reads extra specs: `{"extra_specs": {...}}`, keys of letters, digits and `-_:. `, values that
/// are strings or numbers of at most 255 characters.
///
/// # Errors
/// 400 with the place and the reason.
pub fn read_extra_specs(body: Value) -> Result<BTreeMap<String, String>, Fault> {
    let mut root = Fields::root(body)?;
    let specs = root.take("extra_specs").ok_or_else(|| {
        Fault::bad_request(
            "Invalid input for field/attribute the body. 'extra_specs' is a required property",
        )
    })?;
    root.finish()?;
    read_specs("extra_specs", specs)
}

/// Reads the object inside.
///
/// # Errors
/// 400 with the place and the reason.
pub fn read_specs(path: &str, specs: Value) -> Result<BTreeMap<String, String>, Fault> {
    let Value::Object(map) = specs else {
        return Err(invalid(path, &specs, "it is not an object"));
    };
    map.into_iter()
        .map(|(key, value)| {
            if !crate::wire::is_metadata_key(&key) {
                return Err(invalid(
                    path,
                    &Value::String(key),
                    "a key has 1 to 255 letters, digits, spaces and any of - _ : .",
                ));
            }
            let text = match &value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            match text {
                Some(text) if text.chars().count() <= NAME_CHARS => Ok((key, text)),
                _ => Err(invalid(
                    &format!("{path}.{key}"),
                    &value,
                    "it is not a string or number of at most 255 characters",
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Microversion = Microversion::new(2, 96);
    const OLD: Microversion = Microversion::new(2, 1);

    fn body(extra: &[(&str, Value)]) -> Value {
        let mut flavor = json!({"name": "m1", "ram": 512, "vcpus": "2", "disk": 1});
        for (key, value) in extra {
            flavor[*key] = value.clone();
        }
        json!({"flavor": flavor})
    }

    #[test]
    fn numbers_come_as_strings_too_and_auto_means_made_up() {
        let flavor = Flavor::read(body(&[("id", json!("auto"))]), OLD, Timestamp(0)).unwrap();
        assert_eq!((flavor.vcpus, flavor.memory_mib, flavor.flavor_id.len()), (2, 512, 36));
        let flavor = Flavor::read(body(&[("id", json!(42))]), OLD, Timestamp(0)).unwrap();
        assert_eq!(flavor.flavor_id, "42");
    }

    #[test]
    fn a_description_needs_2_55() {
        let with = body(&[("description", json!("d"))]);
        assert!(Flavor::read(with.clone(), OLD, Timestamp(0)).is_err());
        assert_eq!(
            Flavor::read(with, NEW, Timestamp(0)).unwrap().description.as_deref(),
            Some("d")
        );
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for (key, value) in [
            ("ram", json!(0)),
            ("vcpus", json!(-1)),
            ("disk", json!(0x8000_0000_u64)),
            ("id", json!(" x")),
            ("id", json!("a/b")),
            ("rxtx_factor", json!(0)),
            ("name", json!("")),
            ("os-flavor-access:is_public", json!("maybe")),
            ("other", json!(1)),
        ] {
            assert!(Flavor::read(body(&[(key, value)]), NEW, Timestamp(0)).is_err(), "{key}");
        }
    }

    #[test]
    fn extra_specs_are_strings_of_bounded_length() {
        let specs = read_extra_specs(json!({"extra_specs": {"hw:cpu_policy": "shared", "n": 1}}));
        assert_eq!(specs.unwrap()["n"], "1");
        for bad in [
            json!({}),
            json!({"extra_specs": []}),
            json!({"extra_specs": {"k": {}}}),
            json!({"extra_specs": {"a/b": "1"}}),
        ] {
            assert!(read_extra_specs(bad).is_err());
        }
    }
}
