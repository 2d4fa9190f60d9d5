//! Shapes that all of Keystone's answers share.

use cloud_types::Fault;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use service_kit::{Ctx, Filters, Json, PageRequest, page};

/// `base/identity/v3/collection/id`.
pub(crate) fn self_link(ctx: &Ctx, collection: &str, id: &str) -> String {
    format!("{}/v3/{collection}/{id}", ctx.service_url())
}

/// An object as the API shows it, or without links as the journal keeps it. Lists of thousands are
/// written straight from their rows, so what an object looks like is its `Serialize`.
pub(crate) struct Shown<'a, T> {
    pub what: &'a T,
    /// What links begin with.
    pub base: Option<&'a str>,
}

impl<'a, T> Shown<'a, T> {
    /// Without links.
    pub fn bare(what: &'a T) -> Self {
        Shown { what, base: None }
    }

    /// The links of an object, for its last entry.
    pub fn links(&self, collection: &str, id: &str) -> Option<Links> {
        let own = |base: &str| format!("{base}/v3/{collection}/{id}");
        self.base.map(|base| Links { own: own(base) })
    }
}

impl<T> Shown<'_, T>
where
    for<'s> Shown<'s, T>: Serialize,
{
    /// As a value, for those who add to it.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The `links` of one object.
#[derive(Serialize)]
pub(crate) struct Links {
    #[serde(rename = "self")]
    own: String,
}

/// Writes what a caller stored beside an object's own attributes, which come after.
pub(crate) fn write_extra<M: SerializeMap>(
    map: &mut M,
    extra: &Map<String, Value>,
    own: &[&str],
) -> Result<(), M::Error> {
    for (name, value) in extra {
        if !own.contains(&name.as_str()) {
            map.serialize_entry(name, value)?;
        }
    }
    Ok(())
}

/// A row that a page can end with.
pub(crate) trait Listed: Serialize {
    /// Its id.
    fn id(&self) -> Option<&str>;
}

impl Listed for Value {
    fn id(&self) -> Option<&str> {
        self["id"].as_str()
    }
}

/// `{"users": […], "links": {"self": …, "previous": null, "next": …}}`.
pub(crate) struct Listing<'a, R> {
    name: &'a str,
    rows: R,
    own: String,
    next: Option<String>,
}

impl<R: Serialize> Serialize for Listing<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.name, &self.rows)?;
        let links = json!({"self": self.own, "previous": null, "next": self.next});
        map.serialize_entry("links", &links)?;
        map.end()
    }
}

/// `{"users": […], "links": {…}}`; `next` when more rows follow. `rows` may have one more than
/// the page.
pub(crate) fn list<'a, T: Listed>(
    ctx: &Ctx,
    path: &str,
    name: &'a str,
    filters: &Filters,
    request: &PageRequest,
    mut rows: Vec<T>,
) -> Json<Listing<'a, Vec<T>>> {
    let more = request.cut(&mut rows);
    let url = format!("{}/v3{path}", ctx.service_url());
    let next = rows
        .last()
        .and_then(Listed::id)
        .filter(|_| more)
        .map(|last| page::with_marker(&url, filters, last, false));
    let own = page::with_query(&url, filters);
    Json(Listing { name, rows, own, next })
}

/// A list without pages or filters.
pub(crate) fn whole_list<'a, T: Serialize>(
    ctx: &Ctx,
    path: &str,
    name: &'a str,
    rows: &'a [T],
) -> Json<Listing<'a, &'a [T]>> {
    filtered_list(ctx, path, name, &Filters::default(), rows)
}

/// A list without pages.
pub(crate) fn filtered_list<'a, T: Serialize>(
    ctx: &Ctx,
    path: &str,
    name: &'a str,
    filters: &Filters,
    rows: &'a [T],
) -> Json<Listing<'a, &'a [T]>> {
    let own = page::with_query(&format!("{}/v3{path}", ctx.service_url()), filters);
    Json(Listing { name, rows, own, next: None })
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
