//! The JSON schemas that clients read to learn an image's attributes.

use serde_json::{Value, json};

fn image_properties() -> Value {
    let text = json!({"type": ["null", "string"]});
    let fixed_text = json!({"type": ["null", "string"], "readOnly": true});
    let fixed_number = json!({"type": ["null", "integer"], "readOnly": true});
    json!({
        "id": {"type": "string"},
        "name": {"type": ["null", "string"], "maxLength": 255},
        "status": {"type": "string", "readOnly": true, "enum": ["queued", "saving", "active", "deactivated"]},
        "visibility": {"type": "string", "enum": ["community", "public", "private", "shared"]},
        "protected": {"type": "boolean"},
        "os_hidden": {"type": "boolean"},
        "checksum": fixed_text, "os_hash_algo": fixed_text, "os_hash_value": fixed_text,
        "owner": text,
        "size": fixed_number, "virtual_size": fixed_number,
        "container_format": {"type": ["null", "string"], "enum": [null, "bare"]},
        "disk_format": {"type": ["null", "string"], "enum": [null, "raw", "qcow2"]},
        "created_at": {"type": "string", "readOnly": true},
        "updated_at": {"type": "string", "readOnly": true},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}},
        "min_ram": {"type": "integer"}, "min_disk": {"type": "integer"},
        "self": {"type": "string", "readOnly": true}, "file": {"type": "string", "readOnly": true},
        "schema": {"type": "string", "readOnly": true},
    })
}

fn member_properties() -> Value {
    json!({
        "created_at": {"type": "string"}, "image_id": {"type": "string"},
        "member_id": {"type": "string"}, "schema": {"type": "string", "readOnly": true},
        "status": {"type": "string", "enum": ["pending", "accepted", "rejected"]},
        "updated_at": {"type": "string"},
    })
}

fn collection(name: &str, items: &Value) -> Value {
    json!({
        "name": name,
        "properties": {
            name: {"type": "array", "items": items},
            "first": {"type": "string"}, "next": {"type": "string"}, "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    })
}

/// A schema by its name: `image`, `images`, `member`, `members`.
pub fn schema(name: &str) -> Option<Value> {
    let image = json!({
        "name": "image", "properties": image_properties(),
        "additionalProperties": {"type": "string"},
    });
    let member = json!({"name": "member", "properties": member_properties()});
    match name {
        "image" => Some(image),
        "images" => Some(collection("images", &image)),
        "member" => Some(member),
        "members" => Some(collection("members", &member)),
        _ => None,
    }
}
