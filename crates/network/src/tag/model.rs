//! Which resources have tags, and what a tag may be. Pure.

use cloud_types::Fault;
use serde_json::Value;

use crate::faults::{http_bad_request, invalid_attribute};

/// Longest tag, in characters.
pub const TAG_MAX: usize = 255;
/// Most tags of one resource.
pub const TAGS_MAX: usize = 50;

/// Resources that have tags, as they are called in paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagged {
    /// `networks`
    Network,
    /// `subnets`
    Subnet,
    /// `ports`
    Port,
    /// `security-groups`
    SecurityGroup,
    /// `subnetpools`
    SubnetPool,
}

impl Tagged {
    /// The resource of a collection's name.
    pub fn from_collection(name: &str) -> Option<Self> {
        match name {
            "networks" => Some(Tagged::Network),
            "subnets" => Some(Tagged::Subnet),
            "ports" => Some(Tagged::Port),
            "security-groups" | "security_groups" => Some(Tagged::SecurityGroup),
            "subnetpools" => Some(Tagged::SubnetPool),
            _ => None,
        }
    }
}

/// Checks one tag.
pub fn check_tag(tag: &str) -> Result<(), Fault> {
    if tag.is_empty() || tag.chars().count() > TAG_MAX || tag.contains(',') || tag.contains('\0') {
        return Err(invalid_attribute(
            "tags",
            format!("a tag has 1 to {TAG_MAX} characters and no comma"),
        ));
    }
    Ok(())
}

/// Reads `{"tags": [...]}`: each once, sorted.
pub fn read_tags(body: &Value) -> Result<Vec<String>, Fault> {
    let map = body
        .as_object()
        .filter(|map| map.len() == 1 && map.contains_key("tags"))
        .ok_or_else(|| http_bad_request("Invalid tags body: {\"tags\": [...]} is expected"))?;
    let items = map
        .get("tags")
        .and_then(Value::as_array)
        .ok_or_else(|| invalid_attribute("tags", "it must be a list"))?;
    let mut tags = Vec::with_capacity(items.len());
    for item in items {
        let tag = item
            .as_str()
            .ok_or_else(|| invalid_attribute("tags", format!("{item} is not a valid string")))?;
        check_tag(tag)?;
        tags.push(tag.to_owned());
    }
    in_order(tags)
}

/// Each tag once, sorted; not too many.
pub fn in_order(mut tags: Vec<String>) -> Result<Vec<String>, Fault> {
    tags.sort();
    tags.dedup();
    if tags.len() > TAGS_MAX {
        return Err(http_bad_request(format!(
            "{} tags on one resource; at most {TAGS_MAX} are allowed",
            tags.len()
        )));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tags_are_a_sorted_set() {
        assert_eq!(read_tags(&json!({"tags": ["b", "a", "b"]})).unwrap(), ["a", "b"]);
        for bad in [
            json!({}),
            json!({"tags": "a"}),
            json!({"tags": [1]}),
            json!({"tags": [""]}),
            json!({"tags": ["a,b"]}),
            json!({"tags": [], "more": 1}),
        ] {
            assert!(read_tags(&bad).is_err(), "{bad}");
        }
    }
}
