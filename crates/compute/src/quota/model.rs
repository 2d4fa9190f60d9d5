//! The resources of a quota set, and which microversion shows which.

use std::collections::BTreeMap;

use cloud_types::Fault;
use serde_json::Value;
use service_kit::Microversion;
use service_kit::quota::{QuotaDefault, UNLIMITED};

use crate::keypair;
use crate::wire::{Fields, invalid};

/// Resources that projects use up, with the defaults of Nova.
pub const COUNTED: &[QuotaDefault] = &[
    QuotaDefault { resource: "instances", limit: 10 },
    QuotaDefault { resource: "cores", limit: 20 },
    QuotaDefault { resource: "ram", limit: 51_200 },
    QuotaDefault { resource: "server_groups", limit: 10 },
];

/// The most metadata items of a server.
pub const MAX_METADATA: usize = 128;

/// Limits that are the same for everybody: name, value, and the last microversion that shows it
/// (0 for all). −1 where another service counts.
const FIXED: &[(&str, i64, u16)] = &[
    ("metadata_items", MAX_METADATA as i64, 0),
    ("key_pairs", keypair::service::MAX_PER_USER, 0),
    ("server_group_members", 10, 0),
    ("injected_files", 5, 56),
    ("injected_file_content_bytes", 10_240, 56),
    ("injected_file_path_bytes", 255, 56),
    ("fixed_ips", UNLIMITED, 35),
    ("floating_ips", UNLIMITED, 35),
    ("security_groups", UNLIMITED, 35),
    ("security_group_rules", UNLIMITED, 35),
];

fn shown(last: u16, version: Microversion) -> bool {
    last == 0 || !version.at_least(2, last + 1)
}

/// A project's standing with one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The limit; −1 for none.
    pub limit: i64,
    /// How much there is.
    pub in_use: i64,
}

/// Adds the fixed limits that the microversion shows to the counted ones.
pub fn complete(
    counted: BTreeMap<String, Standing>,
    version: Microversion,
) -> BTreeMap<String, Standing> {
    let mut whole = counted;
    for (name, limit, last) in FIXED {
        if shown(*last, version) {
            whole.insert((*name).to_owned(), Standing { limit: *limit, in_use: 0 });
        }
    }
    whole
}

/// Reads `PUT /os-quota-sets/{project}`: new limits of counted resources, and whether they may be
/// lower than what is used.
///
/// # Errors
/// 400 with the place and the reason; also for another value of a limit that cannot be changed.
pub fn read_update(
    body: Value,
    version: Microversion,
) -> Result<(BTreeMap<&'static str, i64>, bool), Fault> {
    let mut root = Fields::root(body)?;
    let mut fields = root.required_object("quota_set")?;
    root.finish()?;
    let force = fields.boolean("force")?.unwrap_or(false);
    let mut limits = BTreeMap::new();
    for default in COUNTED {
        if let Some(value) = fields.take(default.resource) {
            limits.insert(default.resource, read_limit(default.resource, &value)?);
        }
    }
    for (name, limit, last) in FIXED {
        if !shown(*last, version) {
            continue;
        }
        if let Some(value) = fields.take(name) {
            let wanted = read_limit(name, &value)?;
            if wanted != *limit && *limit != UNLIMITED {
                return Err(invalid(
                    &format!("quota_set.{name}"),
                    &value,
                    &format!("this limit is the same for every project here: {limit}"),
                ));
            }
        }
    }
    // Clients of old send it along.
    if !version.at_least(2, 75) {
        fields.take("tenant_id");
    }
    fields.finish()?;
    Ok((limits, force))
}

fn read_limit(name: &str, value: &Value) -> Result<i64, Fault> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if (UNLIMITED..=0x7fff_ffff).contains(&number) => Ok(number),
        _ => Err(invalid(
            &format!("quota_set.{name}"),
            value,
            "it is not a whole number from -1 to 2147483647",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn network_resources_left_with_2_36_and_files_with_2_57() {
        let keys = |minor| {
            complete(BTreeMap::new(), Microversion::new(2, minor)).into_keys().collect::<Vec<_>>()
        };
        assert!(keys(35).contains(&"floating_ips".to_owned()));
        assert!(!keys(36).contains(&"floating_ips".to_owned()));
        assert!(keys(56).contains(&"injected_files".to_owned()));
        assert_eq!(keys(57), ["key_pairs", "metadata_items", "server_group_members"]);
    }

    #[test]
    fn limits_are_numbers_or_digits_and_unknown_ones_are_refused() {
        let read = |set: Value| read_update(json!({"quota_set": set}), Microversion::new(2, 57));
        let (limits, force) = read(json!({"cores": "40", "instances": -1, "force": true})).unwrap();
        assert_eq!((limits["cores"], limits["instances"], force), (40, -1, true));
        for bad in [
            json!({"cores": -2}),
            json!({"cores": "many"}),
            json!({"floating_ips": 1}),
            json!({"colour": 1}),
            json!({"key_pairs": 7}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
        assert!(read(json!({"key_pairs": 100})).is_ok());
    }
}
