//! The options that a domain may set, with what holds where it does not; and a configuration.

use std::collections::BTreeMap;

use cloud_types::Fault;
use serde_json::{Map, Value, json};

use crate::directory::settings::LdapSettings;

/// Group, then option, then value.
pub(crate) type Config = BTreeMap<String, BTreeMap<String, Value>>;

/// Longest value, in bytes of JSON: a certificate fits.
const LONGEST: usize = 16_384;

/// Options that are secret.
const SECRET: [(&str, &str); 1] = [("ldap", "password")];

/// The options that may be set and read, with their defaults.
pub(crate) fn defaults() -> Config {
    serde_json::from_str(include_str!("defaults.json")).unwrap_or_default()
}

pub(crate) fn is_secret(group: &str, option: &str) -> bool {
    SECRET.contains(&(group, option))
}

fn invalid(reason: impl std::fmt::Display) -> Fault {
    Fault::forbidden(format!("Invalid domain specific configuration: {reason}."))
}

/// Refuses a group or option that a domain cannot set.
pub(crate) fn check_place(group: Option<&str>, option: Option<&str>) -> Result<(), Fault> {
    let Some(group) = group else { return Ok(()) };
    let known = defaults();
    let Some(options) = known.get(group) else {
        return Err(invalid(format_args!(
            "Group {group} is not supported for domain specific configurations"
        )));
    };
    match option {
        Some(option) if !options.contains_key(option) && !is_secret(group, option) => {
            Err(invalid(format_args!(
                "Option {option} in group {group} is not supported for domain specific \
                 configurations"
            )))
        }
        _ => Ok(()),
    }
}

/// Reads the configuration of a request.
pub(crate) fn read(config: Map<String, Value>) -> Result<Config, Fault> {
    if config.is_empty() {
        return Err(invalid("No options specified"));
    }
    let mut read = Config::new();
    for (group, options) in config {
        check_place(Some(&group), None)?;
        let Value::Object(options) = options else {
            return Err(not_options(&group));
        };
        if options.is_empty() {
            return Err(not_options(&group));
        }
        for (option, value) in &options {
            check_place(Some(&group), Some(option))?;
            if value.to_string().len() > LONGEST {
                return Err(invalid(format_args!(
                    "the value of option {option} in group {group} is longer than {LONGEST} bytes"
                )));
            }
        }
        if group == "ldap" {
            LdapSettings::of(options.clone()).map_err(|why| {
                Fault::bad_request(format!("Invalid domain specific configuration: {why}."))
            })?;
        }
        read.insert(group, options.into_iter().collect());
    }
    Ok(read)
}

fn not_options(group: &str) -> Fault {
    invalid(format_args!(
        "The value of group {group} specified in the config should be a dictionary of options"
    ))
}

/// The change that a request makes: of all, of a group (`{"ldap": {…}}`) or of one option
/// (`{"url": …}`).
pub(crate) fn read_change(
    config: Map<String, Value>,
    group: Option<&str>,
    option: Option<&str>,
) -> Result<Config, Fault> {
    check_place(group, option)?;
    let config = match (group, option) {
        (Some(group), Some(_)) => {
            let mut whole = Map::new();
            whole.insert(group.to_owned(), Value::Object(config));
            whole
        }
        _ => config,
    };
    let change = read(config)?;
    if let Some(group) = group {
        let others = change.keys().find(|other| other.as_str() != group);
        if let Some(other) = others {
            return Err(invalid(format_args!(
                "request to update group {group}, but config provided contains group {other} \
                 instead"
            )));
        }
    }
    if let (Some(group), Some(option)) = (group, option)
        && change.get(group).is_none_or(|set| set.len() != 1 || !set.contains_key(option))
    {
        return Err(invalid(format_args!(
            "Trying to update option {option} in group {group}, so that, and only that, option \
             must be specified  in the config"
        )));
    }
    Ok(change)
}

/// What may be read: without the secrets.
pub(crate) fn readable(config: &Config) -> Config {
    let mut shown = config.clone();
    for (group, options) in &mut shown {
        options.retain(|option, _| !is_secret(group, option));
    }
    shown.retain(|_, options| !options.is_empty());
    shown
}

/// The part that was asked for, as answers show it; `None` when it is not set.
pub(crate) fn part(config: &Config, group: Option<&str>, option: Option<&str>) -> Option<Value> {
    match (group, option) {
        (None, _) => (!config.is_empty()).then(|| json!(config)),
        (Some(group), None) => config.get(group).map(|options| json!({group: options})),
        (Some(group), Some(option)) => {
            config.get(group)?.get(option).map(|value| json!({option: value}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_read() {
        assert_eq!(defaults()["identity"]["driver"], "sql");
        assert!(defaults()["ldap"].len() > 40);
    }

    #[test]
    fn only_known_options_are_read() {
        for (config, status) in [
            (json!({"ldap": {"url": "ldap://x", "password": "s"}}), None),
            (json!({}), Some(403)),
            (json!({"ldap": {}}), Some(403)),
            (json!({"ldap": "x"}), Some(403)),
            (json!({"token": {"provider": "fernet"}}), Some(403)),
            (json!({"ldap": {"colour": "red"}}), Some(403)),
        ] {
            let result = read(map(config.clone())).map_err(|fault| fault.status());
            assert_eq!(result.err(), status, "{config}");
        }
    }

    #[test]
    fn a_change_of_one_option_names_that_option_only() {
        let change = |config: Value| read_change(map(config), Some("ldap"), Some("url"));
        assert_eq!(change(json!({"url": "x"})).unwrap()["ldap"]["url"], "x");
        assert!(change(json!({"url": "x", "user": "y"})).is_err());
        assert!(change(json!({"user": "y"})).is_err());
        let group = |config: Value| read_change(map(config), Some("ldap"), None);
        assert!(group(json!({"ldap": {"url": "x"}})).is_ok());
        assert!(group(json!({"identity": {"driver": "ldap"}})).is_err());
    }

    #[test]
    fn secrets_are_not_readable() {
        let config = read(map(json!({"ldap": {"password": "s"}, "identity": {"driver": "ldap"}})));
        let shown = readable(&config.unwrap());
        assert_eq!(json!(shown), json!({"identity": {"driver": "ldap"}}));
        assert_eq!(part(&shown, Some("ldap"), Some("password")), None);
        let driver = part(&shown, Some("identity"), Some("driver"));
        assert_eq!(driver, Some(json!({"driver": "ldap"})));
    }
}
