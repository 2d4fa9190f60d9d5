//! Resource options of projects, domains and roles. There is one: `immutable`. What carries it can
//! be neither changed nor deleted until it is taken away, by setting it to false or null.

use cloud_types::Fault;
use serde_json::{Map, Value};

use crate::fields::{Fields, merge_extra};

const IMMUTABLE: &str = "immutable";

/// Reads the options of a request.
pub(crate) fn read(fields: &mut Fields) -> Result<Option<Map<String, Value>>, Fault> {
    let options = fields.object("options")?;
    for (name, value) in options.iter().flatten() {
        if name != IMMUTABLE {
            let shown: String = name.chars().take(64).collect();
            return Err(Fault::bad_request(format!(
                "Invalid input for field 'options': there is no option '{shown}'; there is \
                 immutable."
            )));
        }
        if !(value.is_boolean() || value.is_null()) {
            return Err(Fault::bad_request(
                "Invalid input for field 'options/immutable': it must be true, false or null.",
            ));
        }
    }
    Ok(options)
}

fn is_immutable(options: &Map<String, Value>) -> bool {
    options.get(IMMUTABLE) == Some(&Value::Bool(true))
}

/// Changes the options as an update says; 403 when they forbid the update.
pub(crate) fn update(
    kind: &str,
    id: &str,
    options: &mut Map<String, Value>,
    changes: Option<Map<String, Value>>,
) -> Result<(), Fault> {
    let changes = changes.unwrap_or_default();
    if is_immutable(options) && !changes.contains_key(IMMUTABLE) {
        return Err(forbidden("update", kind, id));
    }
    if is_immutable(options) && is_immutable(&changes) {
        return Err(forbidden("update", kind, id));
    }
    merge_extra(options, changes);
    Ok(())
}

/// 403 when the options forbid deletion.
pub(crate) fn check_delete(
    kind: &str,
    id: &str,
    options: &Map<String, Value>,
) -> Result<(), Fault> {
    if is_immutable(options) { Err(forbidden("delete", kind, id)) } else { Ok(()) }
}

fn forbidden(what: &str, kind: &str, id: &str) -> Fault {
    Fault::forbidden(format!(
        "Unable to {what} immutable {kind} resource: {id}. Set resource option \"immutable\" to \
         false first."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_immutable_changes_only_by_becoming_mutable() {
        let mut options = map(json!({"immutable": true}));
        assert_eq!(update("role", "r", &mut options, None).unwrap_err().status(), 403);
        assert!(check_delete("role", "r", &options).is_err());
        update("role", "r", &mut options, Some(map(json!({"immutable": null})))).unwrap();
        assert_eq!(options, Map::new());
        update("role", "r", &mut options, Some(map(json!({"immutable": true})))).unwrap();
        update("role", "r", &mut options, Some(map(json!({"immutable": false})))).unwrap();
        assert!(check_delete("role", "r", &options).is_ok());
    }

    #[test]
    fn only_known_options_of_the_right_type_are_read() {
        for (options, good) in [
            (json!({"immutable": true}), true),
            (json!({"immutable": null}), true),
            (json!({"immutable": "yes"}), false),
            (json!({"colour": true}), false),
            (json!([]), false),
        ] {
            let mut fields = Fields::below("x", json!({"x": {"options": options}})).unwrap();
            assert_eq!(read(&mut fields).is_ok(), good, "{options}");
        }
    }
}
