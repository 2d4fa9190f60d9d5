//! What a group is.

use cloud_types::DomainId;
use serde_json::{Map, Value, json};
use service_kit::{Ctx, Target};

use crate::{target, wire};

/// A group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub id: String,
    pub domain_id: DomainId,
    pub name: String,
    pub description: String,
    pub extra: Map<String, Value>,
    /// Raised with what must end the tokens of users whom a mapping put into the group.
    pub serial: u64,
}

impl Group {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "groups", &self.id)});
        view
    }

    /// What the journal keeps.
    pub fn public(&self) -> Value {
        let mut view = self.extra.clone();
        view.insert("id".into(), json!(self.id));
        view.insert("domain_id".into(), json!(self.domain_id));
        view.insert("name".into(), json!(self.name));
        view.insert("description".into(), json!(self.description));
        Value::Object(view)
    }

    /// Where a rule about the group looks.
    pub fn target(&self) -> Target {
        target::group(&self.domain_id)
    }
}
