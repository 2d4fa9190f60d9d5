//! What a user is.

use std::fmt;

use cloud_types::{DomainId, ProjectId, Timestamp, UserId};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use service_kit::Ctx;

use crate::wire::{self, Listed, Shown};

/// Attributes that are ours: what a caller stored under such a name is not shown.
const OWN: &[&str] = &[
    "id",
    "domain_id",
    "name",
    "enabled",
    "options",
    "password_expires_at",
    "description",
    "default_project_id",
    "links",
];

/// A user.
#[derive(Clone)]
pub(crate) struct User {
    pub id: UserId,
    pub domain_id: DomainId,
    pub name: String,
    pub description: Option<String>,
    pub enabled: bool,
    pub default_project_id: Option<ProjectId>,
    /// PHC string; `None` for a user who cannot log in with a password.
    pub password_hash: Option<String>,
    pub password_changed_at: Option<Timestamp>,
    pub standing: Standing,
    pub options: Map<String, Value>,
    pub extra: Map<String, Value>,
    pub serial: u64,
    pub generation: i64,
    pub created_at: Timestamp,
}

/// What else decides whether the user may log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// From then on the password has to be changed before it is good for anything else.
    pub password_expires_at: Option<Timestamp>,
    /// The user chose the password; otherwise an administrator did.
    pub chosen: bool,
    /// The day of the last login, counted from 1970.
    pub last_active_day: Option<i64>,
    /// After this the user is gone: a recovery's administrator.
    pub valid_until: Option<Timestamp>,
}

/// Leaves out the hash: it must not reach a log by way of `{:?}`.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("domain_id", &self.domain_id)
            .field("name", &self.name)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

impl User {
    /// A user of no name yet, enabled, without a password.
    pub fn blank(id: UserId, domain_id: DomainId, now: Timestamp) -> User {
        User {
            id,
            domain_id,
            name: String::new(),
            description: None,
            enabled: true,
            default_project_id: None,
            password_hash: None,
            password_changed_at: None,
            standing: Standing::default(),
            options: Map::new(),
            extra: Map::new(),
            serial: 0,
            generation: 1,
            created_at: now,
        }
    }

    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        Shown { what: self, base: Some(&ctx.service_url()) }.value()
    }

    /// As upstream writes it: microseconds, and no zone.
    pub fn password_expires_at(&self) -> Option<String> {
        self.standing.password_expires_at.map(|at| at.iso_micros_naive())
    }

    /// What the journal keeps: no hash.
    pub fn public(&self) -> Value {
        Shown::bare(self).value()
    }
}

impl Serialize for Shown<'_, User> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let user = self.what;
        let mut map = serializer.serialize_map(None)?;
        wire::write_extra(&mut map, &user.extra, OWN)?;
        map.serialize_entry("id", &user.id)?;
        map.serialize_entry("domain_id", &user.domain_id)?;
        map.serialize_entry("name", &user.name)?;
        map.serialize_entry("enabled", &user.enabled)?;
        map.serialize_entry("options", &user.options)?;
        map.serialize_entry("password_expires_at", &user.password_expires_at())?;
        if let Some(description) = &user.description {
            map.serialize_entry("description", description)?;
        }
        if let Some(project) = &user.default_project_id {
            map.serialize_entry("default_project_id", project)?;
        }
        if let Some(links) = self.links("users", user.id.as_str()) {
            map.serialize_entry("links", &links)?;
        }
        map.end()
    }
}

impl Listed for Shown<'_, User> {
    fn id(&self) -> Option<&str> {
        Some(self.what.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_beside_a_user_never_stands_for_an_attribute() {
        let mut user = User::blank(UserId::random(), DomainId::random(), Timestamp(0));
        for name in OWN.iter().chain(&["email"]) {
            user.extra.insert((*name).to_owned(), Value::from("stored"));
        }
        user.name = "ann".to_owned();
        let text = serde_json::to_string(&Shown { what: &user, base: Some("https://c") }).unwrap();
        for name in ["id", "name", "links", "email"] {
            assert_eq!(text.matches(&format!("\"{name}\":")).count(), 1, "{text}");
        }
        let view: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(view["name"], "ann");
        assert_eq!(view["email"], "stored");
        assert_eq!(view["links"]["self"], format!("https://c/v3/users/{}", user.id));
        assert_eq!(view.get("description"), None, "there is none");
        assert_eq!(user.public().get("links"), None);
    }
}
