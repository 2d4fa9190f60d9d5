//! What a user is.

use std::fmt;

use cloud_types::{DomainId, ProjectId, Timestamp, UserId};
use serde_json::{Map, Value, json};
use service_kit::Ctx;

use crate::wire;

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
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "users", self.id.as_str())});
        view
    }

    /// As upstream writes it: microseconds, and no zone.
    pub fn password_expires_at(&self) -> Value {
        json!(self.standing.password_expires_at.map(|at| at.iso_micros_naive()))
    }

    /// What the journal keeps: no hash.
    pub fn public(&self) -> Value {
        let mut view = self.extra.clone();
        view.insert("id".into(), json!(self.id));
        view.insert("domain_id".into(), json!(self.domain_id));
        view.insert("name".into(), json!(self.name));
        view.insert("enabled".into(), json!(self.enabled));
        view.insert("options".into(), json!(self.options));
        view.insert("password_expires_at".into(), self.password_expires_at());
        if let Some(description) = &self.description {
            view.insert("description".into(), json!(description));
        }
        if let Some(project) = &self.default_project_id {
            view.insert("default_project_id".into(), json!(project));
        }
        Value::Object(view)
    }
}
