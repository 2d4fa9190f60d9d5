//! Routes and wire shapes of address groups.

use axum::extract::State;
use cloud_types::{AddressGroupId, Fault};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::service::{ADDRESSES_MAX, AddressGroupChange, AddressGroupView, NewAddressGroup};
use super::store::COLUMNS;
use crate::Network;
use crate::attributes::{Attributes, LONG_DESCRIPTION_MAX, NAME_MAX, Verb, as_net, plain};
use crate::faults::{address_group_not_found, invalid_attribute};
use crate::if_match::IfMatch;
use crate::listing::api::{one, page, shown_as, standard};
use crate::listing::model::ListQuery;

const COLLECTION: &str = "/v2.0/address-groups";
const ONE: &str = "/v2.0/address-groups/{id}";
const GET: Access = Access::Rule("network:address_groups:get");
const UPDATE: Access = Access::Rule("network:address_groups:update");
/// Attributes that nobody writes.
const READ_ONLY: &[&str] = &["id", "shared", "revision_number", "created_at", "updated_at"];

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:address_groups:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, UPDATE, update)
        .route(Method::DELETE, ONE, Access::Rule("network:address_groups:delete"), delete)
        .route(Method::PUT, "/v2.0/address-groups/{id}/add_addresses", UPDATE, add_addresses)
        .route(Method::PUT, "/v2.0/address-groups/{id}/remove_addresses", UPDATE, remove_addresses)
}

fn view(group: &AddressGroupView) -> Value {
    let row = &group.row;
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("name".into(), json!(row.name));
    map.insert("description".into(), json!(row.description));
    map.insert("addresses".into(), json!(row.addresses));
    map.insert("shared".into(), json!(group.shared));
    standard(&mut map, &row.project_id, row.revision, row.created_at, row.updated_at);
    Value::Object(map)
}

fn id_of(text: &str) -> Result<AddressGroupId, Fault> {
    text.parse().map_err(|_| address_group_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &["shared"])?;
    let (rows, cut) = network.address_groups(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "address_groups", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.address_group(&ctx, id_of(&id)?).await?;
    Ok(Json(one("address_group", view(&row), &filters)))
}

/// Reads ranges; host bits are cut off. A bare address is a range of one, except where a group is
/// made: there Neutron wants its length.
fn read_addresses(value: &Value, bare: bool) -> Result<Vec<IpNet>, Fault> {
    let name = "addresses";
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.len() <= ADDRESSES_MAX => items,
        other => {
            return Err(invalid_attribute(
                name,
                format!("'{}' is not a list of at most {ADDRESSES_MAX} ranges", plain(other)),
            ));
        }
    };
    let read = |item: &Value| match as_net(name, item) {
        Ok(_) if !bare && item.as_str().is_some_and(|text| !text.contains('/')) => {
            Err(invalid_attribute(name, format!("'{}' is not a valid CIDR", plain(item))))
        }
        other => other.map(|net| net.trunc()),
    };
    items.iter().map(read).collect()
}

fn read_new(mut body: Attributes) -> Result<NewAddressGroup, Fault> {
    body.read_only(READ_ONLY)?;
    let new = NewAddressGroup {
        project: body.project()?,
        name: body.string("name", NAME_MAX)?.unwrap_or_default(),
        description: body.string("description", LONG_DESCRIPTION_MAX)?.unwrap_or_default(),
        addresses: body
            .take("addresses")
            .map_or_else(|| Ok(Vec::new()), |value| read_addresses(&value, false))?,
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "address_group", "address_groups")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("address_group", "address_groups", bulk, view);
    ctx.creating(show, async |ctx| network.create_address_groups(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "address_group", Verb::Update)?;
    body.read_only(READ_ONLY)?;
    body.read_only(&["tenant_id", "project_id", "addresses"])?;
    let change = AddressGroupChange {
        name: body.string("name", NAME_MAX)?,
        description: body.string("description", LONG_DESCRIPTION_MAX)?,
        if_match,
        ..AddressGroupChange::default()
    };
    body.finish()?;
    let row = network.update_address_group(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "address_group": view(&row) })))
}

/// The ranges of an action's body, which may be bare or wrapped as other bodies are.
fn ranges_of(body: Value) -> Result<Vec<IpNet>, Fault> {
    let wrapped = body.get("address_group").is_some();
    let body = if wrapped { body } else { json!({ "address_group": body }) };
    let mut body = Attributes::single(body, "address_group", Verb::Update)?;
    let addresses = read_addresses(&body.required("addresses")?, true)?;
    body.finish()?;
    Ok(addresses)
}

async fn add_addresses(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = AddressGroupChange { add: ranges_of(body)?, ..AddressGroupChange::default() };
    let row = network.update_address_group(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "address_group": view(&row) })))
}

async fn remove_addresses(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = AddressGroupChange { remove: ranges_of(body)?, ..AddressGroupChange::default() };
    let row = network.update_address_group(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "address_group": view(&row) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_address_group(&ctx, id_of(&id)?, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}
