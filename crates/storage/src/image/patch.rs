//! Changes in JSON-patch form (RFC 6902, restricted as in Glance: one level deep).

use cloud_types::{Fault, FaultKind};
use serde::Deserialize;
use serde_json::Value;

use super::model::{self, BASE_ATTRIBUTES, Image, ImageStatus, READ_ONLY};

/// One operation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    op: String,
    path: String,
    #[serde(default)]
    value: Option<Value>,
}

/// Applies all operations, or none.
///
/// # Errors
/// 400 for what cannot be read, 403 for attributes that only the service writes, 409 for a
/// property to remove or replace that is not there.
pub fn apply(image: &Image, operations: &[Operation]) -> Result<Image, Fault> {
    let mut changed = image.clone();
    for operation in operations {
        apply_one(&mut changed, operation)?;
    }
    model::validate(&changed)?;
    Ok(changed)
}

fn apply_one(image: &mut Image, operation: &Operation) -> Result<(), Fault> {
    let name = attribute(&operation.path)?;
    if READ_ONLY.contains(&name.as_str()) {
        return Err(Fault::forbidden(format!("Attribute '{name}' is read-only.")));
    }
    let base = BASE_ATTRIBUTES.contains(&name.as_str());
    match operation.op.as_str() {
        "remove" if base => Err(Fault::forbidden(format!("Property '{name}' may not be removed."))),
        "remove" => match image.properties.remove(&name) {
            Some(_) => Ok(()),
            None => Err(missing(&name)),
        },
        "add" | "replace" => {
            let value = operation.value.as_ref().ok_or_else(|| {
                Fault::bad_request(format!(
                    "Operation \"{}\" requires a member named \"value\".",
                    operation.op
                ))
            })?;
            if base {
                return set_base(image, &name, value);
            }
            model::check_property_name(&name)?;
            if operation.op == "replace" && !image.properties.contains_key(&name) {
                return Err(missing(&name));
            }
            image.properties.insert(name.clone(), text(&name, value)?);
            Ok(())
        }
        other => Err(Fault::bad_request(format!(
            "Operation {:?} is not known; there are add, replace and remove.",
            other.chars().take(40).collect::<String>()
        ))),
    }
}

fn missing(name: &str) -> Fault {
    Fault::conflict(format!("Property {name} does not exist."))
}

/// `/name`, with RFC 6901's escapes.
fn attribute(path: &str) -> Result<String, Fault> {
    let wrong = || {
        Fault::bad_request(format!(
            "Pointer {:?} has to name one attribute, as in \"/name\".",
            path.chars().take(80).collect::<String>()
        ))
    };
    let name = path.strip_prefix('/').ok_or_else(wrong)?;
    if name.is_empty() || name.contains('/') {
        return Err(wrong());
    }
    Ok(name.replace("~1", "/").replace("~0", "~"))
}

fn text(name: &str, value: &Value) -> Result<String, Fault> {
    value.as_str().map(str::to_owned).ok_or_else(|| {
        Fault::bad_request(format!("Provided object does not match schema 'image': {value} is not of type 'string' (property '{name}')"))
    })
}

fn flag(name: &str, value: &Value) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| {
        Fault::bad_request(format!("Provided object does not match schema 'image': {value} is not of type 'boolean' (attribute '{name}')"))
    })
}

fn count(name: &str, value: &Value) -> Result<u64, Fault> {
    value.as_u64().ok_or_else(|| {
        Fault::bad_request(format!("Provided object does not match schema 'image': {value} is not a whole number of at least 0 (attribute '{name}')"))
    })
}

/// Sets one attribute that is not a custom property; used by create too.
///
/// # Errors
/// As [`apply`].
pub fn set_base(image: &mut Image, name: &str, value: &Value) -> Result<(), Fault> {
    let fixed = |image: &Image| {
        if image.status == ImageStatus::Queued {
            Ok(())
        } else {
            Err(Fault::forbidden(format!(
                "Attribute '{name}' can be changed only while the image has no data."
            )))
        }
    };
    match name {
        "name" => image.name = if value.is_null() { None } else { Some(text(name, value)?) },
        "visibility" => {
            image.visibility = text(name, value)?
                .parse()
                .map_err(|why| Fault::bad_request(format!("Invalid visibility: {why}.")))?;
        }
        "owner" => {
            image.owner = text(name, value)?
                .parse()
                .map_err(|_| Fault::bad_request("Attribute 'owner' has to be a project's id."))?;
        }
        "protected" => image.protected = flag(name, value)?,
        "os_hidden" => image.hidden = flag(name, value)?,
        "min_disk" => image.min_disk = count(name, value)?,
        "min_ram" => image.min_ram = count(name, value)?,
        "disk_format" => {
            fixed(image)?;
            image.disk_format = if value.is_null() {
                None
            } else {
                Some(model::parse_format(&text(name, value)?)?)
            };
        }
        "container_format" => {
            fixed(image)?;
            image.container_format = if value.is_null() { None } else { Some(text(name, value)?) };
        }
        "tags" => {
            let list = value.as_array().ok_or_else(|| {
                Fault::bad_request("Attribute 'tags' has to be a list of strings.")
            })?;
            image.tags = list.iter().map(|tag| text("tags", tag)).collect::<Result<_, _>>()?;
            image.tags.sort();
            image.tags.dedup();
        }
        _ => {
            return Err(Fault::new(
                FaultKind::Forbidden,
                format!("Attribute '{name}' is reserved."),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::image;
    use super::*;

    fn patch(operations: Value) -> Result<Image, Fault> {
        let operations: Vec<Operation> = serde_json::from_value(operations).unwrap();
        apply(&image(), &operations)
    }

    #[test]
    fn attributes_and_properties_change() {
        let changed = patch(serde_json::json!([
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "add", "path": "/color~1shade", "value": "red"},
            {"op": "replace", "path": "/tags", "value": ["b", "a", "a"]},
        ]))
        .unwrap();
        assert_eq!(changed.name.as_deref(), Some("new"));
        assert_eq!(changed.properties["color/shade"], "red");
        assert_eq!(changed.tags, ["a", "b"]);
    }

    #[test]
    fn what_only_the_service_writes_is_refused() {
        for name in READ_ONLY {
            let fault = patch(
                serde_json::json!([{"op": "replace", "path": format!("/{name}"), "value": "x"}]),
            )
            .unwrap_err();
            assert_eq!(fault.status(), 403, "{name}");
        }
    }

    #[test]
    fn a_missing_property_is_a_conflict_and_rubbish_is_bad() {
        assert_eq!(
            patch(serde_json::json!([{"op": "remove", "path": "/none"}])).unwrap_err().status(),
            409
        );
        assert_eq!(
            patch(serde_json::json!([{"op": "replace", "path": "/none", "value": "x"}]))
                .unwrap_err()
                .status(),
            409
        );
        assert_eq!(
            patch(serde_json::json!([{"op": "add", "path": "none", "value": "x"}]))
                .unwrap_err()
                .status(),
            400
        );
        assert_eq!(
            patch(serde_json::json!([{"op": "add", "path": "/n", "value": 3}]))
                .unwrap_err()
                .status(),
            400
        );
        assert_eq!(
            patch(serde_json::json!([{"op": "move", "path": "/n"}])).unwrap_err().status(),
            400
        );
    }
}
