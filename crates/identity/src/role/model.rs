//! What a role is.

use cloud_types::{DomainId, RoleId, Timestamp};
use serde_json::{Map, Value, json};
use service_kit::Ctx;

use crate::wire;

/// A role.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub id: RoleId,
    pub name: String,
    pub description: Option<String>,
    /// Of the domain that the role belongs to; `None` for a role of the cloud.
    pub domain_id: Option<DomainId>,
    pub options: Map<String, Value>,
    pub created_at: Timestamp,
}

impl Role {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "roles", self.id.as_str())});
        view
    }

    /// What the journal keeps.
    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "domain_id": self.domain_id,
            "description": self.description,
            "options": self.options,
        })
    }

    /// The short form in lists of implications.
    pub fn reference(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "links": {"self": wire::self_link(ctx, "roles", self.id.as_str())},
        })
    }
}
