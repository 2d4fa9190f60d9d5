//! What a project is.

use cloud_types::{DomainId, ProjectId, Timestamp};
use serde_json::{Map, Value, json};
use service_kit::Ctx;

use crate::wire;

/// A project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub id: ProjectId,
    pub domain_id: DomainId,
    /// The project above this one; `None` directly below the domain.
    pub parent_id: Option<ProjectId>,
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
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "projects", self.id.as_str())});
        view
    }

    /// What the journal keeps.
    pub fn public(&self) -> Value {
        let parent = self.parent_id.as_ref().map_or(self.domain_id.as_str(), ProjectId::as_str);
        let mut view = self.extra.clone();
        view.insert("id".into(), json!(self.id));
        view.insert("domain_id".into(), json!(self.domain_id));
        view.insert("parent_id".into(), json!(parent));
        view.insert("name".into(), json!(self.name));
        view.insert("description".into(), json!(self.description));
        view.insert("enabled".into(), json!(self.enabled));
        view.insert("is_domain".into(), json!(false));
        view.insert("tags".into(), json!(self.tags));
        view.insert("options".into(), json!(self.options));
        Value::Object(view)
    }
}
