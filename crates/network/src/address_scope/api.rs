//! Routes and wire shapes of address scopes.

use axum::extract::State;
use cloud_types::{AddressScopeId, Fault};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::service::{NewScope, ScopeView};
use super::store::COLUMNS;
use crate::Network;
use crate::attributes::{Attributes, NAME_MAX, Verb};
use crate::faults::{address_scope_not_found, invalid_attribute};
use crate::listing::api::{one, page, shown_as};
use crate::listing::model::ListQuery;

const COLLECTION: &str = "/v2.0/address-scopes";
const ONE: &str = "/v2.0/address-scopes/{id}";
const GET: Access = Access::Rule("network:address_scopes:get");

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:address_scopes:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, Access::Rule("network:address_scopes:update"), update)
        .route(Method::DELETE, ONE, Access::Rule("network:address_scopes:delete"), delete)
}

fn view(scope: &ScopeView) -> Value {
    let row = &scope.row;
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("name".into(), json!(row.name));
    map.insert("ip_version".into(), json!(row.ip_version));
    map.insert("shared".into(), json!(scope.shared));
    map.insert("tenant_id".into(), json!(row.project_id));
    map.insert("project_id".into(), json!(row.project_id));
    Value::Object(map)
}

fn id_of(text: &str) -> Result<AddressScopeId, Fault> {
    text.parse().map_err(|_| address_scope_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &["shared"])?;
    let (rows, cut) = network.address_scopes(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "address_scopes", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.address_scope(&ctx, id_of(&id)?).await?;
    Ok(Json(one("address_scope", view(&row), &filters)))
}

fn read_new(mut body: Attributes) -> Result<NewScope, Fault> {
    body.read_only(&["id"])?;
    let ip_version = match body.integer("ip_version", (i64::MIN, i64::MAX))? {
        Some(4) => 4,
        Some(6) => 6,
        Some(other) => {
            return Err(invalid_attribute("ip_version", format!("'{other}' is not in [4, 6]")));
        }
        None => return Err(invalid_attribute("ip_version", "'None' is not in [4, 6]")),
    };
    let new = NewScope {
        project: body.project()?,
        name: body.string("name", NAME_MAX)?.unwrap_or_default(),
        ip_version,
        shared: body.boolean("shared")?.unwrap_or(false),
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "address_scope", "address_scopes")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("address_scope", "address_scopes", bulk, view);
    ctx.creating(show, async |ctx| network.create_address_scopes(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "address_scope", Verb::Update)?;
    body.read_only(&["id", "ip_version", "tenant_id", "project_id"])?;
    let (name, shared) = (body.string("name", NAME_MAX)?, body.boolean("shared")?);
    body.finish()?;
    let row = network.update_address_scope(&ctx, id_of(&id)?, name, shared).await?;
    Ok(Json(json!({ "address_scope": view(&row) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_address_scope(&ctx, id_of(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
