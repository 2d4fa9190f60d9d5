//! What a project is.

use cloud_types::{DomainId, ProjectId, Timestamp};
use serde_json::{Map, Value, json};
use service_kit::Ctx;

use crate::domain::model::Domain;
use crate::wire;

/// A project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub id: ProjectId,
    pub domain_id: DomainId,
    /// The project above this one; `None` directly below the domain.
    pub parent_id: Option<ProjectId>,
    /// Whether this is a domain, seen as the project at the root of its tree. Its `domain_id` is
    /// its own id then.
    pub is_domain: bool,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
    pub options: Map<String, Value>,
    pub extra: Map<String, Value>,
    pub serial: u64,
    pub generation: i64,
    pub created_at: Timestamp,
}

impl Project {
    /// The root of a domain's projects.
    pub fn of_domain(domain: &Domain) -> Project {
        Project {
            id: domain.id.as_str().parse().unwrap_or_else(|_| ProjectId::random()),
            domain_id: domain.id.clone(),
            parent_id: None,
            is_domain: true,
            name: domain.name.clone(),
            description: domain.description.clone(),
            enabled: domain.enabled,
            tags: domain.tags.clone(),
            options: domain.options.clone(),
            extra: domain.extra.clone(),
            serial: domain.serial,
            generation: domain.generation,
            created_at: domain.created_at,
        }
    }

    /// What is above it, as clients name it: a project, or the domain; nothing above a domain.
    pub fn parent(&self) -> Option<&str> {
        match &self.parent_id {
            _ if self.is_domain => None,
            Some(parent) => Some(parent.as_str()),
            None => Some(self.domain_id.as_str()),
        }
    }

    /// A project directly below its domain, enabled, without anything else.
    pub fn blank(id: ProjectId, domain_id: DomainId, name: String, now: Timestamp) -> Project {
        Project {
            id,
            domain_id,
            parent_id: None,
            is_domain: false,
            name,
            description: String::new(),
            enabled: true,
            tags: Vec::new(),
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
        view["links"] = json!({"self": wire::self_link(ctx, "projects", self.id.as_str())});
        view
    }

    /// What the journal keeps.
    pub fn public(&self) -> Value {
        let mut view = self.extra.clone();
        view.insert("id".into(), json!(self.id));
        view.insert("domain_id".into(), json!((!self.is_domain).then_some(&self.domain_id)));
        view.insert("parent_id".into(), json!(self.parent()));
        view.insert("name".into(), json!(self.name));
        view.insert("description".into(), json!(self.description));
        view.insert("enabled".into(), json!(self.enabled));
        view.insert("is_domain".into(), json!(self.is_domain));
        view.insert("tags".into(), json!(self.tags));
        view.insert("options".into(), json!(self.options));
        Value::Object(view)
    }
}
