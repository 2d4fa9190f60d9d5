//! Tags: of a server, and of one of its devices.

use std::collections::BTreeSet;

use cloud_types::Fault;
use serde_json::Value;

use crate::wire::{Fields, invalid};

/// The most tags of a server (Nova's limit).
const MAX_TAGS: usize = 50;
/// The longest tag.
const MAX_TAG: usize = 60;

pub(super) fn read_tag(fields: &mut Fields) -> Result<Option<String>, Fault> {
    match fields.text("tag", 1, MAX_TAG)? {
        Some(tag) if tag.contains([',', '/']) => Err(invalid(
            &fields.path_of("tag"),
            &Value::String(tag),
            "a tag holds no comma and no slash",
        )),
        other => Ok(other),
    }
}

pub(super) fn read_tags(server: &mut Fields) -> Result<BTreeSet<String>, Fault> {
    let Some(items) = server.list("tags")? else { return Ok(BTreeSet::new()) };
    if items.len() > MAX_TAGS {
        return Err(Fault::bad_request(format!(
            "Invalid input for field/attribute tags. A server has at most {MAX_TAGS} tags"
        )));
    }
    items.into_iter().map(|item| check_tag("tags", item)).collect()
}

/// Checks one tag: 1 to 60 characters without comma and slash.
fn check_tag(path: &str, item: Value) -> Result<String, Fault> {
    match item {
        Value::String(tag)
            if (1..=MAX_TAG).contains(&tag.chars().count()) && !tag.contains([',', '/']) =>
        {
            Ok(tag)
        }
        other => {
            Err(invalid(path, &other, "a tag has 1 to 60 characters, none a comma or a slash"))
        }
    }
}

/// A change of a server's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagChange {
    /// These and no others.
    Replace(BTreeSet<String>),
    /// This one too.
    Add(String),
    /// Without this one.
    Remove(String),
    /// None.
    Clear,
}

impl TagChange {
    /// The most tags of a server.
    pub const MAX: usize = MAX_TAGS;

    /// Reads `PUT /servers/{id}/tags`.
    ///
    /// # Errors
    /// 400 with the place and the reason.
    pub fn read(body: Value) -> Result<Self, Fault> {
        let mut root = Fields::root(body)?;
        if !root.has("tags") {
            return Err(Fault::bad_request(
                "Invalid input for field/attribute the body. 'tags' is a required property",
            ));
        }
        let tags = read_tags(&mut root)?;
        root.finish()?;
        Ok(TagChange::Replace(tags))
    }

    /// Checks a tag out of a path.
    ///
    /// # Errors
    /// 400 when it is none.
    pub fn check(tag: &str) -> Result<String, Fault> {
        check_tag("tag", Value::String(tag.to_owned()))
    }
}
