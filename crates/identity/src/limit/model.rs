//! What limits are.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use service_kit::Ctx;

use crate::wire;

/// How limits add up over a tree of projects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementModel {
    /// Each project counts for itself.
    #[default]
    Flat,
    /// A project's limit is at most its domain's, and trees have two levels.
    StrictTwoLevel,
}

impl EnforcementModel {
    /// Its name on the wire and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            EnforcementModel::Flat => "flat",
            EnforcementModel::StrictTwoLevel => "strict_two_level",
        }
    }

    /// What it means, for people.
    pub const fn description(self) -> &'static str {
        match self {
            EnforcementModel::Flat => {
                "Limit enforcement and validation does not take project hierarchy into \
                 consideration."
            }
            EnforcementModel::StrictTwoLevel => {
                "This model requires project hierarchy never exceeds a depth of two"
            }
        }
    }

    /// How many levels of projects below a domain it allows; `None` for any.
    pub const fn levels(self) -> Option<usize> {
        match self {
            EnforcementModel::Flat => None,
            EnforcementModel::StrictTwoLevel => Some(1),
        }
    }
}

/// No limit at all.
pub(crate) const UNLIMITED: i64 = -1;

/// Which resource: the same for registered limits and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub service_id: String,
    pub region_id: Option<String>,
    pub name: String,
}

/// A default of the cloud.
#[derive(Clone, Debug)]
pub(crate) struct RegisteredLimit {
    pub id: String,
    pub resource: Resource,
    pub default_limit: i64,
    pub description: Option<String>,
}

/// The number of one project or domain.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub id: String,
    /// One of the two is set.
    pub project_id: Option<String>,
    pub domain_id: Option<String>,
    pub resource: Resource,
    pub resource_limit: i64,
    pub description: Option<String>,
}

impl RegisteredLimit {
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "registered_limits", &self.id)});
        view
    }

    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "service_id": self.resource.service_id,
            "region_id": self.resource.region_id,
            "resource_name": self.resource.name,
            "default_limit": self.default_limit,
            "description": self.description,
        })
    }
}

impl Limit {
    pub fn view(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "limits", &self.id)});
        view
    }

    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "project_id": self.project_id,
            "domain_id": self.domain_id,
            "service_id": self.resource.service_id,
            "region_id": self.resource.region_id,
            "resource_name": self.resource.name,
            "resource_limit": self.resource_limit,
            "description": self.description,
        })
    }
}

/// Whether `inner` is at most `outer`, where -1 is no limit.
pub(crate) fn within(inner: i64, outer: i64) -> bool {
    outer == UNLIMITED || (inner != UNLIMITED && inner <= outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_within_no_limit_only() {
        assert!(within(5, 5) && within(4, 5) && !within(6, 5));
        assert!(within(5, UNLIMITED) && within(UNLIMITED, UNLIMITED) && !within(UNLIMITED, 5));
    }
}
