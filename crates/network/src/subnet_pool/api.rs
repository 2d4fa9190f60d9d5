//! Routes and wire shapes of subnet pools.

use axum::extract::State;
use cloud_types::{Fault, SubnetPoolId};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{BoundsWish, read_prefixes};
use super::service::{NewPool, PoolChange, PoolView, PrefixChange};
use super::store::COLUMNS;
use crate::Network;
use crate::attributes::{Attributes, DESCRIPTION_MAX, NAME_MAX, Verb, plain};
use crate::faults::{http_bad_request, invalid_attribute, subnet_pool_not_found};
use crate::if_match::IfMatch;
use crate::listing::api::{one, page, shown_as, standard};
use crate::listing::model::ListQuery;

const COLLECTION: &str = "/v2.0/subnetpools";
const ONE: &str = "/v2.0/subnetpools/{id}";
const GET: Access = Access::Rule("network:subnetpools:get");
const UPDATE: Access = Access::Rule("network:subnetpools:update");
/// Attributes that nobody writes.
const READ_ONLY: &[&str] =
    &["id", "ip_version", "revision_number", "created_at", "updated_at", "tags"];

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:subnetpools:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, UPDATE, update)
        .route(Method::DELETE, ONE, Access::Rule("network:subnetpools:delete"), delete)
        .route(Method::PUT, "/v2.0/subnetpools/{id}/add_prefixes", UPDATE, add_prefixes)
        .route(Method::PUT, "/v2.0/subnetpools/{id}/remove_prefixes", UPDATE, remove_prefixes)
        .route(Method::PUT, "/v2.0/subnetpools/{id}/onboard_network_subnets", UPDATE, onboard)
}

fn view(pool: &PoolView) -> Value {
    let row = &pool.row;
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("name".into(), json!(row.name));
    map.insert("description".into(), json!(row.description));
    map.insert("ip_version".into(), json!(row.ip_version));
    map.insert("prefixes".into(), json!(row.prefixes));
    // Lengths are texts in Neutron's answers.
    map.insert("min_prefixlen".into(), json!(row.bounds.min.to_string()));
    map.insert("max_prefixlen".into(), json!(row.bounds.max.to_string()));
    map.insert("default_prefixlen".into(), json!(row.bounds.default.to_string()));
    map.insert("default_quota".into(), json!(row.default_quota));
    map.insert("is_default".into(), json!(row.is_default));
    map.insert("shared".into(), json!(pool.shared));
    map.insert("address_scope_id".into(), json!(row.address_scope_id));
    map.insert("tags".into(), json!(row.tags));
    standard(&mut map, &row.project_id, row.revision, row.created_at, row.updated_at);
    Value::Object(map)
}

fn id_of(text: &str) -> Result<SubnetPoolId, Fault> {
    text.parse().map_err(|_| subnet_pool_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &["shared"])?;
    let (rows, cut) = network.subnet_pools(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "subnetpools", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.subnet_pool(&ctx, id_of(&id)?).await?;
    Ok(Json(one("subnetpool", view(&row), &filters)))
}

/// What may be written both when a pool is made and later.
fn read_change(body: &mut Attributes) -> Result<PoolChange, Fault> {
    const ANY: (i64, i64) = (0, i64::MAX);
    let scope = match body.take("address_scope_id") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(value) => {
            Some(Some(value.as_str().and_then(|id| id.parse().ok()).ok_or_else(|| {
                invalid_attribute(
                    "address_scope_id",
                    format!("'{}' is not a valid UUID", plain(&value)),
                )
            })?))
        }
    };
    let name = body.string("name", NAME_MAX)?;
    if name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        return Err(invalid_attribute("name", "'' Blank strings are not permitted"));
    }
    Ok(PoolChange {
        name,
        description: body.string("description", DESCRIPTION_MAX)?,
        prefixes: body.take("prefixes").map(|value| read_prefixes(&value)).transpose()?,
        bounds: BoundsWish {
            min: body.integer("min_prefixlen", ANY)?,
            max: body.integer("max_prefixlen", ANY)?,
            default: body.integer("default_prefixlen", ANY)?,
        },
        default_quota: if body.has("default_quota") {
            Some(body.integer("default_quota", ANY)?)
        } else {
            None
        },
        is_default: body.boolean("is_default")?,
        address_scope_id: scope,
        tags: None,
        if_match: IfMatch::default(),
    })
}

fn read_new(mut body: Attributes) -> Result<NewPool, Fault> {
    body.read_only(READ_ONLY)?;
    let (project, shared) = (body.project()?, body.boolean("shared")?);
    let change = read_change(&mut body)?;
    body.finish()?;
    let missing = |name: &str| {
        http_bad_request(format!(
            "Failed to parse request. Required attribute '{name}' not specified"
        ))
    };
    Ok(NewPool {
        project,
        name: change.name.ok_or_else(|| missing("name"))?,
        description: change.description.unwrap_or_default(),
        prefixes: change.prefixes.ok_or_else(|| missing("prefixes"))?,
        bounds: change.bounds,
        default_quota: change.default_quota.flatten(),
        is_default: change.is_default.unwrap_or(false),
        shared: shared.unwrap_or(false),
        address_scope_id: change.address_scope_id.flatten(),
    })
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "subnetpool", "subnetpools")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("subnetpool", "subnetpools", bulk, view);
    ctx.creating(show, async |ctx| network.create_subnet_pools(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "subnetpool", Verb::Update)?;
    body.read_only(READ_ONLY)?;
    body.read_only(&["tenant_id", "project_id", "shared"])?;
    let change = PoolChange { if_match, ..read_change(&mut body)? };
    body.finish()?;
    let row = network.update_subnet_pool(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "subnetpool": view(&row) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_subnet_pool(&ctx, id_of(&id)?, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The only attribute of an action's body.
fn only(body: Value, name: &str) -> Result<Value, Fault> {
    match body {
        Value::Object(mut map) if map.len() == 1 => map.remove(name),
        _ => None,
    }
    .ok_or_else(|| http_bad_request(format!("The body must be an object with '{name}' alone")))
}

fn prefixes_of(body: Value) -> Result<Vec<IpNet>, Fault> {
    read_prefixes(&only(body, "prefixes")?)
}

async fn add_prefixes(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = PrefixChange::Add(prefixes_of(body)?);
    let pool = network.change_prefixes(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "prefixes": pool.row.prefixes })))
}

async fn remove_prefixes(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = PrefixChange::Remove(prefixes_of(body)?);
    let pool = network.change_prefixes(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "prefixes": pool.row.prefixes })))
}

async fn onboard(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let value = only(body, "network_id")?;
    let from = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        invalid_attribute("network_id", format!("'{}' is not a valid UUID", plain(&value)))
    })?;
    let subnets = network.onboard_subnets(&ctx, id_of(&id)?, from).await?;
    let shown: Vec<Value> =
        subnets.iter().map(|row| json!({"id": row.id, "cidr": row.cidr})).collect();
    Ok(Json(Value::from(shown)))
}
