//! Entries of a directory as users and groups, and the filters that find them. Pure.

use std::collections::HashMap;

use cloud_types::DomainId;
use ldap3::ldap_escape;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::settings::LdapSettings;

/// Attributes by name in lower case: LDAP's names have no case.
pub(crate) type Attributes = HashMap<String, Vec<String>>;

/// What a public id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    User,
    Group,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Group => "group",
        }
    }
}

/// A person in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub dn: String,
    pub local_id: String,
    pub name: String,
    pub description: Option<String>,
    pub enabled: bool,
    pub extra: Map<String, Value>,
}

/// A group in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryGroup {
    pub dn: String,
    pub local_id: String,
    pub name: String,
    pub description: String,
    /// Whole names, or ids where the settings say so.
    pub members: Vec<String>,
}

/// The id under which an entry is known here: Keystone's own computation.
pub(crate) fn public_id(domain: &DomainId, kind: Kind, local_id: &str) -> String {
    let mut digest = Sha256::new();
    for part in [domain.as_str(), kind.as_str(), local_id] {
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn first<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    let values = attributes.get(&name.to_ascii_lowercase())?;
    values.first().map(String::as_str).filter(|text| !text.is_empty() && !text.contains('\0'))
}

/// A person, where the entry has an id and a name; one that has not cannot log in anywhere.
pub(crate) fn person(
    settings: &LdapSettings,
    dn: String,
    attributes: &Attributes,
) -> Option<Person> {
    let mut extra = Map::new();
    if let Some(mail) = first(attributes, &settings.user_mail_attribute) {
        extra.insert("email".to_owned(), json!(mail));
    }
    for pair in &settings.user_additional_attribute_mapping {
        if let Some((from, to)) = pair.split_once(':')
            && let Some(value) = first(attributes, from.trim())
        {
            extra.insert(to.trim().to_owned(), json!(value));
        }
    }
    let name = first(attributes, &settings.user_name_attribute)?;
    Some(Person {
        local_id: first(attributes, &settings.user_id_attribute)?.to_owned(),
        name: name.chars().take(crate::fields::NAME_LONG).collect(),
        description: first(attributes, &settings.user_description_attribute).map(str::to_owned),
        enabled: enabled(settings, attributes),
        extra,
        dn,
    })
}

/// A group, where the entry has an id and a name.
pub(crate) fn group(
    settings: &LdapSettings,
    dn: String,
    attributes: &Attributes,
) -> Option<DirectoryGroup> {
    let name = first(attributes, &settings.group_name_attribute)?;
    let member = settings.group_member_attribute.to_ascii_lowercase();
    Some(DirectoryGroup {
        local_id: first(attributes, &settings.group_id_attribute)?.to_owned(),
        name: name.chars().take(crate::fields::NAME_LONG).collect(),
        description: first(attributes, &settings.group_desc_attribute).unwrap_or("").to_owned(),
        members: attributes.get(&member).cloned().unwrap_or_default(),
        dn,
    })
}

/// Whether a person may log in. What cannot be read counts as no: an account whose state nobody
/// understands is not let in.
fn enabled(settings: &LdapSettings, attributes: &Attributes) -> bool {
    let found = first(attributes, &settings.user_enabled_attribute);
    let text = found.unwrap_or(&settings.user_enabled_default);
    if settings.user_enabled_mask != 0 {
        let mask = i64::from(settings.user_enabled_mask);
        // Active Directory writes a signed number of 32 bits.
        return text.trim().parse::<i64>().is_ok_and(|bits| bits & mask != mask);
    }
    let says_true = text.eq_ignore_ascii_case("true") || text == "1";
    let says_false = text.eq_ignore_ascii_case("false") || text == "0";
    if settings.user_enabled_invert { says_false } else { says_true }
}

/// `attribute` compared with what somebody typed: nothing in it means anything to the filter.
pub(crate) fn equal(attribute: &str, value: &str) -> String {
    format!("({attribute}={})", ldap_escape(value))
}

/// Active Directory's identifier, which is bytes; Keystone writes it as a UUID.
const GUID: &str = "objectguid";

/// A value as text: what is none is written in hexadecimal digits.
pub(crate) fn value_text(attribute: &str, bytes: &[u8]) -> String {
    if attribute.eq_ignore_ascii_case(GUID)
        && let Ok(bytes) = <[u8; 16]>::try_from(bytes)
    {
        return uuid::Uuid::from_bytes_le(bytes).hyphenated().to_string();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// [`equal`] for an attribute that identifies, which may be bytes in the directory.
pub(crate) fn equal_id(attribute: &str, value: &str) -> String {
    if attribute.eq_ignore_ascii_case(GUID)
        && let Ok(id) = uuid::Uuid::parse_str(value)
    {
        let bytes: String = id.to_bytes_le().iter().map(|byte| format!("\\{byte:02x}")).collect();
        return format!("({attribute}={bytes})");
    }
    equal(attribute, value)
}

/// A comparison of a part.
pub(crate) fn like(attribute: &str, before: &str, value: &str, after: &str) -> String {
    format!("({attribute}={before}{}{after})", ldap_escape(value))
}

/// People for whom all conditions hold.
pub(crate) fn people_filter(settings: &LdapSettings, conditions: &[String]) -> String {
    all_of(&settings.user_objectclass, &settings.user_filter, conditions)
}

/// Groups for which all conditions hold.
pub(crate) fn groups_filter(settings: &LdapSettings, conditions: &[String]) -> String {
    all_of(&settings.group_objectclass, &settings.group_filter, conditions)
}

fn all_of(class: &str, own: &str, conditions: &[String]) -> String {
    format!("(&{}{own}{})", equal("objectClass", class), conditions.concat())
}

/// Groups that have a person among their members.
pub(crate) fn groups_of_filter(settings: &LdapSettings, person: &Person) -> String {
    let member = &settings.group_member_attribute;
    let condition = if settings.group_members_are_ids {
        equal(member, &person.local_id)
    } else if settings.group_ad_nesting {
        // LDAP_MATCHING_RULE_IN_CHAIN
        equal(&format!("{member}:1.2.840.113556.1.4.1941:"), &person.dn)
    } else {
        equal(member, &person.dn)
    };
    groups_filter(settings, &[condition])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
    }

    fn settings() -> LdapSettings {
        LdapSettings {
            user_id_attribute: "entryUUID".into(),
            user_name_attribute: "uid".into(),
            user_additional_attribute_mapping: vec!["telephoneNumber:phone".into()],
            ..LdapSettings::default()
        }
    }

    #[test]
    fn a_public_id_is_the_one_that_keystone_computes() {
        // hashlib.sha256(b"default" + b"user" + b"ada").hexdigest()
        assert_eq!(
            public_id(&"default".parse().unwrap(), Kind::User, "ada"),
            "ed2b73e671f6aaadd25c0876f1894db788727a3f6bfa9cde2d8549948a45f0d1"
        );
    }

    #[test]
    fn active_directorys_id_is_read_and_sought_as_bytes() {
        let bytes: Vec<u8> = (0..16).collect();
        let text = value_text("objectGUID", &bytes);
        assert_eq!(text, "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(
            equal_id("objectGUID", &text),
            "(objectGUID=\\00\\01\\02\\03\\04\\05\\06\\07\\08\\09\\0a\\0b\\0c\\0d\\0e\\0f)"
        );
        assert_eq!(equal_id("objectGUID", "x*"), "(objectGUID=x\\2a)");
        assert_eq!(value_text("uid", b"ada"), "ada");
        assert_eq!(value_text("blob", b"\xff\x00"), "ff00");
    }

    #[test]
    fn an_entry_becomes_a_person_by_the_settings() {
        let found = person(
            &settings(),
            "uid=ada".into(),
            &attributes(&[
                ("entryuuid", "u-1"),
                ("uid", "ada"),
                ("mail", "ada@example.org"),
                ("telephonenumber", "7"),
            ]),
        )
        .unwrap();
        assert_eq!(
            (found.local_id.as_str(), found.name.as_str(), found.enabled),
            ("u-1", "ada", true)
        );
        assert_eq!(found.extra["email"], "ada@example.org");
        assert_eq!(found.extra["phone"], "7");
        assert!(person(&settings(), "x".into(), &attributes(&[("uid", "ada")])).is_none());
        assert!(person(&settings(), "x".into(), &attributes(&[("entryuuid", "1")])).is_none());
    }

    #[test]
    fn who_may_log_in_is_read_as_keystone_reads_it() {
        let state = |settings: &LdapSettings, value: Option<&str>| {
            let mut pairs = vec![("entryuuid", "1"), ("uid", "ada")];
            pairs.extend(value.map(|value| ("state", value)));
            person(settings, "x".into(), &attributes(&pairs)).unwrap().enabled
        };
        let base = LdapSettings { user_enabled_attribute: "State".into(), ..settings() };
        for (value, enabled) in
            [(None, true), (Some("TRUE"), true), (Some("false"), false), (Some("?"), false)]
        {
            assert_eq!(state(&base, value), enabled, "{value:?}");
        }
        let inverted = LdapSettings {
            user_enabled_invert: true,
            user_enabled_default: "False".into(),
            ..base.clone()
        };
        for (value, enabled) in
            [(None, true), (Some("TRUE"), false), (Some("FALSE"), true), (Some("?"), false)]
        {
            assert_eq!(state(&inverted, value), enabled, "{value:?}");
        }
        let active_directory =
            LdapSettings { user_enabled_mask: 2, user_enabled_default: "512".into(), ..base };
        for (value, enabled) in [
            (None, true),
            (Some("512"), true),
            (Some("514"), false),
            (Some("66048"), true),
            (Some("-2147483136"), true),
            (Some("x"), false),
        ] {
            assert_eq!(state(&active_directory, value), enabled, "{value:?}");
        }
    }

    #[test]
    fn groups_are_found_by_name_by_id_or_through_groups() {
        let person = Person {
            dn: "uid=ada,ou=Users".into(),
            local_id: "u-1".into(),
            name: "ada".into(),
            description: None,
            enabled: true,
            extra: Map::new(),
        };
        let filter = |settings: LdapSettings| groups_of_filter(&settings, &person);
        let by_dn = "(&(objectClass=groupOfNames)(member=uid=ada,ou=Users))";
        assert_eq!(filter(settings()), by_dn);
        let ids = LdapSettings { group_members_are_ids: true, ..settings() };
        assert_eq!(filter(ids), "(&(objectClass=groupOfNames)(member=u-1))");
        let nested = LdapSettings { group_ad_nesting: true, ..settings() };
        assert!(filter(nested).contains("(member:1.2.840.113556.1.4.1941:=uid=ada,ou=Users)"));
    }

    proptest! {
        /// Whatever somebody calls themselves, the filter stays one comparison with that text.
        #[test]
        fn no_name_changes_the_filter(name in ".{0,40}") {
            let filter = people_filter(&settings(), &[equal("uid", &name)]);
            prop_assert!(ldap3::parse_filter(&filter).is_ok());
            let inner = &filter["(&(objectClass=inetOrgPerson)(uid=".len()..filter.len() - 2];
            prop_assert!(!inner.contains(['(', ')', '*', '\0']));
            let backslashes = inner.matches('\\').count();
            let special = name.matches(['(', ')', '*', '\\', '\0']).count();
            prop_assert_eq!(backslashes, special);
        }
    }
}
