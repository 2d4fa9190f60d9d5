//! Shapes that all of Keystone's answers share.

use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{Ctx, Filters, Json, PageRequest, page};

/// `base/identity/v3/collection/id`.
pub(crate) fn self_link(ctx: &Ctx, collection: &str, id: &str) -> String {
    format!("{}/v3/{collection}/{id}", ctx.service_url())
}

/// `{"users": […], "links": {…}}`; `next` when more rows follow. `rows` may have one more than
/// the page.
pub(crate) fn list(
    ctx: &Ctx,
    path: &str,
    name: &str,
    filters: &Filters,
    request: &PageRequest,
    mut rows: Vec<Value>,
) -> Json<Value> {
    let more = request.cut(&mut rows);
    let url = format!("{}/v3{path}", ctx.service_url());
    let next = rows
        .last()
        .and_then(|row| row["id"].as_str())
        .filter(|_| more)
        .map(|last| page::with_marker(&url, filters, last, false));
    let own = page::with_query(&url, filters);
    Json(json!({
        name: rows,
        "links": {"self": own, "previous": null, "next": next},
    }))
}

/// A list without pages or filters.
pub(crate) fn whole_list(ctx: &Ctx, path: &str, name: &str, rows: &[Value]) -> Json<Value> {
    filtered_list(ctx, path, name, &Filters::default(), rows)
}

/// A list without pages.
pub(crate) fn filtered_list(
    ctx: &Ctx,
    path: &str,
    name: &str,
    filters: &Filters,
    rows: &[Value],
) -> Json<Value> {
    let url = page::with_query(&format!("{}/v3{path}", ctx.service_url()), filters);
    Json(json!({
        name: rows,
        "links": {"self": url, "previous": null, "next": null},
    }))
}

/// The page of a list that has no sort keys of its own.
pub(crate) fn page_request(filters: &Filters) -> Result<PageRequest, Fault> {
    PageRequest::from_filters(filters, &[])
}

/// Keystone's 404.
pub(crate) fn not_found(kind: &str, id: impl std::fmt::Display) -> Fault {
    let shown: String = id.to_string().chars().take(255).collect();
    Fault::not_found(format!("Could not find {kind}: {shown}."))
}

/// Keystone's 409 for a name that is taken.
pub(crate) fn duplicate(kind: &str, name: &str, place: &str) -> Fault {
    Fault::conflict(format!(
        "Conflict occurred attempting to store {kind} - Duplicate entry found with name \
         {name}{place}."
    ))
}

/// An identifier of the path: what is none names nothing.
pub(crate) fn id<T: std::str::FromStr>(kind: &str, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| not_found(kind, text))
}

/// Keystone's 409 for an id that is taken.
pub(crate) fn duplicate_id(kind: &str, id: &str) -> Fault {
    Fault::conflict(format!(
        "Conflict occurred attempting to store {kind} - Duplicate entry found with ID {id}."
    ))
}

/// An id that the caller chooses in the path of a new object: 1 to 64 characters that need no
/// quoting in a URL.
pub(crate) fn short_id(kind: &str, id: &str) -> Result<(), Fault> {
    let fits = (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits {
        return Ok(());
    }
    Err(Fault::bad_request(format!(
        "The id of a new {kind} has 1 to 64 letters, digits, '-', '_' or '.'."
    )))
}
