//! What an operator writes about a directory: Keystone's `[ldap]` options by their names and with
//! their defaults, as far as they make sense for a store that is only read.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Until a connection stands, and until an answer is there, unless an operator says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far below the tree's top is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryScope {
    /// Directly below.
    One,
    /// At any depth.
    Sub,
}

/// A directory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapSettings {
    /// `ldap://host`, `ldaps://host`, `ldapi://%2Fpath`; several with commas between, tried in turn.
    pub url: String,
    /// As whom the directory is searched; nobody (anonymous) when empty.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Below which everything is.
    pub suffix: String,
    /// How far down.
    pub query_scope: QueryScope,
    /// Entries asked for at once (RFC 2696).
    #[serde(deserialize_with = "number")]
    pub page_size: u32,
    /// Whether a `ldap://` connection is made safe with StartTLS before anything is said.
    #[serde(deserialize_with = "flag")]
    pub use_tls: bool,
    /// PEM of the authorities that are trusted; the system's when empty.
    pub tls_cacertfile: String,
    /// Seconds until a connection stands, and until an answer is there; 5 when not above zero.
    #[serde(deserialize_with = "number")]
    pub pool_connection_timeout: i64,
    /// Most connections at once.
    #[serde(deserialize_with = "number")]
    pub pool_size: u32,

    /// Where people are; `ou=Users` below the suffix when empty.
    pub user_tree_dn: String,
    /// A further condition on people, in LDAP's notation.
    pub user_filter: String,
    /// Their object class.
    pub user_objectclass: String,
    /// What names a person for good.
    pub user_id_attribute: String,
    /// What a person logs in with.
    pub user_name_attribute: String,
    /// Address.
    pub user_mail_attribute: String,
    /// Description.
    pub user_description_attribute: String,
    /// What says whether a person may log in; `userAccountControl` in Active Directory.
    pub user_enabled_attribute: String,
    /// Whether it says who may not (`nsAccountLock`, `pwdAccountLocked`).
    #[serde(deserialize_with = "flag")]
    pub user_enabled_invert: bool,
    /// The bit that says who may not; 2 in Active Directory.
    #[serde(deserialize_with = "number")]
    pub user_enabled_mask: u32,
    /// What counts where the attribute is missing: `True`, `False`, or a number with a mask.
    #[serde(deserialize_with = "word")]
    pub user_enabled_default: String,
    /// `LDAP_ATTRIBUTE:name` pairs that become attributes of users.
    pub user_additional_attribute_mapping: Vec<String>,

    /// Where groups are; `ou=UserGroups` below the suffix when empty.
    pub group_tree_dn: String,
    /// A further condition on groups.
    pub group_filter: String,
    /// Their object class.
    pub group_objectclass: String,
    /// What names a group for good.
    pub group_id_attribute: String,
    /// What it is called.
    pub group_name_attribute: String,
    /// Its members.
    pub group_member_attribute: String,
    /// Whether members are named by id rather than by their whole name (`memberUid`).
    #[serde(deserialize_with = "flag")]
    pub group_members_are_ids: bool,
    /// Description.
    pub group_desc_attribute: String,
    /// Whether groups within groups count, by Active Directory's own rule.
    #[serde(deserialize_with = "flag")]
    pub group_ad_nesting: bool,
}

/// Options of Keystone's that let fewer people in, and that are not understood here: whoever relies on
/// one must learn that it does not hold.
const NOT_UNDERSTOOD: [&str; 1] = ["user_enabled_emulation"];

impl LdapSettings {
    /// The settings out of a domain's options; those of Keystone's that make no sense here are passed
    /// over.
    ///
    /// # Errors
    /// Names the option that cannot be used, and never its value, which may be a password.
    pub fn of(options: Map<String, Value>) -> Result<LdapSettings, String> {
        let known = serde_json::to_value(LdapSettings::default()).unwrap_or_default();
        let mut kept = Map::new();
        for (name, value) in options {
            if NOT_UNDERSTOOD.contains(&name.as_str()) && is_set(&value) {
                return Err(format!("option {name} is not supported; leave it out"));
            }
            if known.get(&name).is_none() || value.is_null() {
                continue;
            }
            let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            if serde_json::from_value::<LdapSettings>(alone).is_err() {
                return Err(format!("option {name} has a value of another type or form"));
            }
            kept.insert(name, value);
        }
        serde_json::from_value(Value::Object(kept))
            .map_err(|_| "the options do not go together".to_owned())
    }
}

/// Whether a switch is on, as Keystone reads it.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => {
            !["", "0", "f", "false", "n", "no", "off"].contains(&text.to_lowercase().as_str())
        }
        _ => true,
    }
}

impl Default for LdapSettings {
    fn default() -> Self {
        let text = str::to_owned;
        LdapSettings {
            url: text("ldap://localhost"),
            user: String::new(),
            password: String::new(),
            suffix: text("cn=example,cn=com"),
            query_scope: QueryScope::One,
            page_size: 500,
            use_tls: false,
            tls_cacertfile: String::new(),
            pool_connection_timeout: -1,
            pool_size: 10,
            user_tree_dn: String::new(),
            user_filter: String::new(),
            user_objectclass: text("inetOrgPerson"),
            user_id_attribute: text("cn"),
            user_name_attribute: text("sn"),
            user_mail_attribute: text("mail"),
            user_description_attribute: text("description"),
            user_enabled_attribute: text("enabled"),
            user_enabled_invert: false,
            user_enabled_mask: 0,
            user_enabled_default: text("True"),
            user_additional_attribute_mapping: Vec::new(),
            group_tree_dn: String::new(),
            group_filter: String::new(),
            group_objectclass: text("groupOfNames"),
            group_id_attribute: text("cn"),
            group_name_attribute: text("ou"),
            group_member_attribute: text("member"),
            group_members_are_ids: false,
            group_desc_attribute: text("description"),
            group_ad_nesting: false,
        }
    }
}

/// Leaves out the password.
impl fmt::Debug for LdapSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LdapSettings")
            .field("url", &self.url)
            .field("user", &self.user)
            .field("suffix", &self.suffix)
            .finish_non_exhaustive()
    }
}

/// Directories by the names of their domains.
pub type Directories = BTreeMap<String, LdapSettings>;

impl LdapSettings {
    /// Checks what can be checked without a directory.
    ///
    /// # Errors
    /// What is wrong, naming the option.
    pub fn check(&self) -> Result<(), String> {
        if self.urls().is_empty() {
            return Err("url is empty".to_owned());
        }
        for url in self.urls() {
            let known = ["ldap://", "ldaps://", "ldapi://"].iter().any(|s| url.starts_with(s));
            if !known {
                return Err(format!("url {url:?} begins with none of ldap://, ldaps://, ldapi://"));
            }
        }
        for (name, filter) in
            [("user_filter", &self.user_filter), ("group_filter", &self.group_filter)]
        {
            let wrapped = filter.starts_with('(') && filter.ends_with(')');
            if !filter.is_empty() && (!wrapped || ldap3::parse_filter(filter).is_err()) {
                return Err(format!("{name} is no LDAP filter, which stands in parentheses"));
            }
        }
        for pair in &self.user_additional_attribute_mapping {
            if !pair.contains(':') {
                return Err(format!(
                    "user_additional_attribute_mapping has {pair:?}; it has to be ATTRIBUTE:name"
                ));
            }
        }
        if self.pool_size == 0 {
            return Err("pool_size is at least 1".to_owned());
        }
        Ok(())
    }

    pub(crate) fn urls(&self) -> Vec<&str> {
        self.url.split(',').map(str::trim).filter(|url| !url.is_empty()).collect()
    }

    pub(crate) fn users(&self) -> String {
        self.tree(&self.user_tree_dn, "ou=Users")
    }

    pub(crate) fn groups(&self) -> String {
        self.tree(&self.group_tree_dn, "ou=UserGroups")
    }

    fn tree(&self, own: &str, below: &str) -> String {
        if own.is_empty() { format!("{below},{}", self.suffix) } else { own.to_owned() }
    }

    pub(crate) fn patience(&self) -> Duration {
        match u64::try_from(self.pool_connection_timeout) {
            Ok(seconds @ 1..=600) => Duration::from_secs(seconds),
            Ok(601..) => Duration::from_secs(600),
            _ => PATIENCE,
        }
    }

    /// Whether passwords would cross a network in clear.
    pub(crate) fn is_open(&self) -> bool {
        !self.use_tls
            && self.urls().iter().any(|url| {
                url.strip_prefix("ldap://").is_some_and(|rest| {
                    !["localhost", "127.", "[::1]"].iter().any(|own| rest.starts_with(own))
                })
            })
    }
}

/// Keystone's configuration writes numbers and flags as texts, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Loose {
    Flag(bool),
    Number(i64),
    Text(String),
}

fn number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    let number = match Loose::deserialize(deserializer)? {
        Loose::Number(number) => Some(number),
        Loose::Text(text) => text.trim().parse().ok(),
        Loose::Flag(_) => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| serde::de::Error::custom("it has to be a whole number that fits"))
}

fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Loose::deserialize(deserializer)? {
        Loose::Flag(flag) => Ok(flag),
        Loose::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Loose::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(serde::de::Error::custom("it has to be true or false")),
    }
}

fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Loose::deserialize(deserializer)? {
        Loose::Flag(true) => "True".to_owned(),
        Loose::Flag(false) => "False".to_owned(),
        Loose::Number(number) => number.to_string(),
        Loose::Text(text) => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keystones_options_are_read_with_their_defaults_and_typos_are_refused() {
        let settings: LdapSettings = serde_json::from_value(serde_json::json!({
            "url": "ldaps://a, ldaps://b", "suffix": "dc=corp", "user_enabled_mask": "2",
            "user_enabled_default": 512, "group_ad_nesting": "True", "query_scope": "sub",
        }))
        .unwrap();
        assert_eq!(settings.urls(), ["ldaps://a", "ldaps://b"]);
        assert_eq!(settings.users(), "ou=Users,dc=corp");
        assert_eq!((settings.user_enabled_mask, settings.group_ad_nesting), (2, true));
        assert_eq!(settings.user_enabled_default, "512");
        assert!(settings.check().is_ok() && !settings.is_open());
        let typo = serde_json::json!({"urll": "x"});
        assert!(serde_json::from_value::<LdapSettings>(typo).is_err());
    }

    #[test]
    fn what_a_domain_sets_is_read_and_refused_without_telling_values() {
        let of =
            |options: serde_json::Value| LdapSettings::of(options.as_object().unwrap().clone());
        let passed = of(serde_json::json!({
            "url": "ldap://a", "use_pool": true, "user_enabled_emulation": "False",
            "user_filter": null,
        }));
        assert_eq!(passed.unwrap().urls(), ["ldap://a"]);
        for on in [serde_json::json!(true), serde_json::json!("yes"), serde_json::json!(1)] {
            let refused = of(serde_json::json!({"user_enabled_emulation": on})).unwrap_err();
            assert!(refused.contains("user_enabled_emulation"), "{refused}");
        }
        let refused = of(serde_json::json!({"password": 123_456})).unwrap_err();
        assert!(refused.contains("password") && !refused.contains("123456"), "{refused}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (change, why) in [
            (LdapSettings { url: "http://x".into(), ..LdapSettings::default() }, "url"),
            (LdapSettings { url: " ".into(), ..LdapSettings::default() }, "url"),
            (LdapSettings { user_filter: "x=y".into(), ..LdapSettings::default() }, "user_filter"),
            (
                LdapSettings { group_filter: "(x=y))(z=*".into(), ..LdapSettings::default() },
                "group",
            ),
            (LdapSettings { pool_size: 0, ..LdapSettings::default() }, "pool_size"),
        ] {
            assert!(change.check().unwrap_err().contains(why));
        }
        assert!(LdapSettings { url: "ldap://dc1".into(), ..LdapSettings::default() }.is_open());
        let settings = LdapSettings { password: "hunter2".into(), ..LdapSettings::default() };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
