//! Routes and wire shapes of policies.

use axum::extract::State;
use cloud_types::{Fault, NetworkId, RbacPolicyId};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{PolicyRow, read_action, read_target, read_type};
use super::service::NewPolicy;
use super::store::COLUMNS;
use crate::Network;
use crate::attributes::{Attributes, Verb, plain};
use crate::faults::{invalid_attribute, rbac_policy_not_found};
use crate::listing::api::{one, page, shown_as};
use crate::listing::model::ListQuery;

const COLLECTION: &str = "/v2.0/rbac-policies";
const ONE: &str = "/v2.0/rbac-policies/{id}";
const GET: Access = Access::Rule("network:rbac_policies:get");

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:rbac_policies:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, Access::Rule("network:rbac_policies:update"), update)
        .route(Method::DELETE, ONE, Access::Rule("network:rbac_policies:delete"), delete)
}

fn view(row: &PolicyRow) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("object_type".into(), json!(row.object_type.as_str()));
    map.insert("object_id".into(), json!(row.object_id));
    map.insert("action".into(), json!(row.action));
    map.insert("target_tenant".into(), json!(row.target));
    map.insert("tenant_id".into(), json!(row.project_id));
    map.insert("project_id".into(), json!(row.project_id));
    Value::Object(map)
}

fn id_of(text: &str) -> Result<RbacPolicyId, Fault> {
    text.parse().map_err(|_| rbac_policy_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &[])?;
    let (rows, cut) = network.rbac_policies(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "rbac_policies", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.rbac_policy(&ctx, id_of(&id)?).await?;
    Ok(Json(one("rbac_policy", view(&row), &filters)))
}

fn read_new(mut body: Attributes) -> Result<NewPolicy, Fault> {
    body.read_only(&["id"])?;
    let object_type = read_type(&body.required("object_type")?)?;
    let object_id = body.required("object_id")?;
    // Every kind of object has a UUID; which one it is does not matter to its spelling.
    let parsed = object_id.as_str().and_then(|id| id.parse::<NetworkId>().ok());
    let object_id = parsed.ok_or_else(|| {
        invalid_attribute("object_id", format!("'{}' is not a valid UUID", plain(&object_id)))
    })?;
    let new = NewPolicy {
        project: body.project()?,
        object_type,
        object_id: object_id.to_string(),
        action: read_action(object_type, &body.required("action")?)?,
        target: read_target(&body.required("target_tenant")?)?,
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "rbac_policy", "rbac_policies")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("rbac_policy", "rbac_policies", bulk, view);
    ctx.creating(show, async |ctx| network.create_rbac_policies(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "rbac_policy", Verb::Update)?;
    let fixed = ["id", "object_type", "object_id", "action", "tenant_id", "project_id"];
    body.read_only(&fixed)?;
    let target = body.take("target_tenant").map(|value| read_target(&value)).transpose()?;
    body.finish()?;
    let row = network.update_rbac_policy(&ctx, id_of(&id)?, target).await?;
    Ok(Json(json!({ "rbac_policy": view(&row) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_rbac_policy(&ctx, id_of(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
