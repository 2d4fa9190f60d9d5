//! What a group is.

use cloud_types::DomainId;
use serde_json::{Value, json};
use service_kit::{Ctx, Target};

use crate::wire;

/// A group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub id: String,
    pub domain_id: DomainId,
    pub name: String,
    pub description: String,
    /// Raised with what must end the tokens of users whom a mapping put into the group.
    #[allow(dead_code)] // Read where such a token is made.
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
        json!({
            "id": self.id,
            "domain_id": self.domain_id,
            "name": self.name,
            "description": self.description,
        })
    }

    /// Where a rule about the group looks.
    pub fn target(&self) -> Target {
        Target::domain(&self.domain_id)
    }
}
