//! What a service provider is.

use serde_json::{Value, json};
use service_kit::Ctx;

use crate::wire;

/// Another cloud.
#[derive(Clone, Debug)]
pub(crate) struct ServiceProvider {
    pub id: String,
    pub auth_url: String,
    pub sp_url: String,
    pub description: Option<String>,
    pub enabled: bool,
    pub relay_state_prefix: String,
}

/// Upstream's default.
pub(crate) const RELAY_STATE_PREFIX: &str = "ss:mem:";

impl ServiceProvider {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "auth_url": self.auth_url,
            "sp_url": self.sp_url,
            "description": self.description,
            "enabled": self.enabled,
            "relay_state_prefix": self.relay_state_prefix,
            "links": {"self": wire::self_link(ctx, "OS-FEDERATION/service_providers", &self.id)},
        })
    }

    /// What tokens show.
    pub fn in_token(&self) -> Value {
        json!({"id": self.id, "auth_url": self.auth_url, "sp_url": self.sp_url})
    }
}
