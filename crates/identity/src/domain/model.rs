//! What a domain is.

use cloud_types::{DomainId, Timestamp};
use serde_json::{Map, Value, json};
use service_kit::Ctx;

use crate::wire;

/// A domain.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub id: DomainId,
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

impl Domain {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "domains", self.id.as_str())});
        view
    }

    /// What the journal keeps.
    pub fn public(&self) -> Value {
        let mut view = self.extra.clone();
        view.insert("id".into(), json!(self.id));
        view.insert("name".into(), json!(self.name));
        view.insert("description".into(), json!(self.description));
        view.insert("enabled".into(), json!(self.enabled));
        view.insert("options".into(), json!(self.options));
        view.insert("tags".into(), json!(self.tags));
        Value::Object(view)
    }
}
