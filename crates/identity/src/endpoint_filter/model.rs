//! What chooses endpoints.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::Fault;
use serde_json::{Map, Value, json};
use service_kit::Ctx;

use crate::catalog::model::Endpoint;
use crate::wire;

/// Attributes of an endpoint by which a group may choose.
const KEYS: [&str; 3] = ["service_id", "region_id", "interface"];

/// Endpoints chosen by what they are.
#[derive(Clone, Debug)]
pub(crate) struct EndpointGroup {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    /// Attribute to value; all must match.
    pub filters: BTreeMap<String, String>,
}

/// The filters of a request: at least one, of known attributes.
pub(crate) fn read_filters(filters: Map<String, Value>) -> Result<BTreeMap<String, String>, Fault> {
    if filters.is_empty() {
        return Err(Fault::bad_request("filters field is required and cannot be empty"));
    }
    filters
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) if KEYS.contains(&key.as_str()) && text.len() <= 255 => {
                Ok((key, text))
            }
            _ => Err(Fault::bad_request(format!(
                "Invalid input for field 'filters': it takes {} with a text each.",
                KEYS.join(", ")
            ))),
        })
        .collect()
}

impl EndpointGroup {
    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "filters": self.filters,
            "links": {"self": wire::self_link(ctx, "OS-EP-FILTER/endpoint_groups", &self.id)},
        })
    }

    /// Whether the endpoint is one of the group.
    pub fn includes(&self, endpoint: &Endpoint) -> bool {
        self.filters.iter().all(|(key, wanted)| match key.as_str() {
            "service_id" => endpoint.service_id == *wanted,
            "region_id" => endpoint.region_id.as_deref() == Some(wanted),
            "interface" => endpoint.interface == *wanted,
            _ => false,
        })
    }
}

/// What a project was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProjectFilter {
    pub endpoints: BTreeSet<String>,
    pub groups: Vec<EndpointGroup>,
}

impl ProjectFilter {
    /// Whether the project was given the endpoint, by itself or in a group.
    pub fn includes(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.contains(&endpoint.id)
            || self.groups.iter().any(|group| group.includes(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_includes_what_matches_all_of_its_filters() {
        let group = |filters: Value| EndpointGroup {
            id: "g".into(),
            name: "g".into(),
            description: None,
            filters: read_filters(filters.as_object().unwrap().clone()).unwrap(),
        };
        let endpoint = Endpoint {
            id: "e".into(),
            service_id: "s".into(),
            region_id: Some("r".into()),
            interface: "public".into(),
            url: "u".into(),
            enabled: true,
            makes_region: false,
        };
        assert!(group(json!({"service_id": "s"})).includes(&endpoint));
        assert!(group(json!({"service_id": "s", "interface": "public"})).includes(&endpoint));
        assert!(!group(json!({"service_id": "s", "interface": "admin"})).includes(&endpoint));
        assert!(group(json!({"region_id": "r"})).includes(&endpoint));
        for bad in [json!({}), json!({"url": "u"}), json!({"region_id": 1})] {
            assert!(read_filters(bad.as_object().unwrap().clone()).is_err(), "{bad}");
        }
    }
}
