//! The links that Nova puts beside everything: `self` with the version, `bookmark` without.

use serde_json::{Value, json};
use service_kit::Ctx;

/// `scheme://host/compute/v2.1`.
pub fn base(ctx: &Ctx) -> String {
    format!("{}/v2.1", ctx.service_url())
}

/// Both links of an object of a collection.
pub fn of(ctx: &Ctx, collection: &str, id: &str) -> Value {
    json!([
        {"rel": "self", "href": format!("{}/{collection}/{id}", base(ctx))},
        {"rel": "bookmark", "href": bookmark(ctx, collection, id)},
    ])
}

/// The link that outlives versions.
pub fn bookmark(ctx: &Ctx, collection: &str, id: &str) -> String {
    format!("{}/{collection}/{id}", ctx.service_url())
}
