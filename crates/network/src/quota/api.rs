//! Routes and wire shapes of quotas.

use axum::extract::State;
use cloud_types::{Fault, ProjectId};
use serde_json::{Map, Value, json};
use service_kit::quota::QuotaUsage;
use service_kit::{
    Access, ApiResult, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::DEFAULTS;
use crate::Network;
use crate::attributes::{Attributes, Verb};
use crate::faults::http_bad_request;
use crate::listing::api::short_list;

const ALL: &str = "/v2.0/quotas";
const ONE: &str = "/v2.0/quotas/{project}";
const GET: Access = Access::Rule("network:quotas:get");
const SET: Access = Access::Rule("network:quotas:update");
/// Highest limit that can be set (Neutron's).
const LIMIT_MAX: i64 = 0x7fff_ffff;

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, ALL, Access::Rule("network:quotas:list"), list)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, SET, update)
        .route(Method::DELETE, ONE, SET, reset)
        .route(Method::GET, "/v2.0/quotas/{project}/default", GET, defaults)
        .route(Method::GET, "/v2.0/quotas/{project}/details.json", GET, details)
        .route(Method::GET, "/v2.0/quotas/{project}/details", GET, details)
}

fn project_of(text: &str) -> Result<ProjectId, Fault> {
    text.parse().map_err(|_| Fault::not_found(format!("Project {text} could not be found.")))
}

fn limits(standing: &[QuotaUsage]) -> Value {
    let map: Map<String, Value> =
        standing.iter().map(|usage| (usage.resource.clone(), json!(usage.limit))).collect();
    json!({ "quota": map })
}

/// The quotas of projects that have any of their own.
async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let items = network
        .own_quotas(&ctx)
        .await?
        .into_iter()
        .map(|(project, standing)| {
            let mut map: Map<String, Value> =
                standing.into_iter().map(|usage| (usage.resource, json!(usage.limit))).collect();
            map.insert("tenant_id".into(), json!(project));
            map.insert("project_id".into(), json!(project));
            Value::Object(map)
        })
        .collect();
    Ok(Json(short_list(&ctx, &filters, ALL, "quotas", items, "project_id")?))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(Json(limits(&network.quota(&ctx, &project_of(&project)?).await?)))
}

async fn details(
    State(network): State<Network>,
    ctx: Ctx,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let standing = network.quota(&ctx, &project_of(&project)?).await?;
    let map: Map<String, Value> = standing
        .into_iter()
        .map(|usage| {
            let detail = json!({"limit": usage.limit, "used": usage.in_use, "reserved": 0});
            (usage.resource, detail)
        })
        .collect();
    Ok(Json(json!({ "quota": map })))
}

async fn defaults(
    State(network): State<Network>,
    ctx: Ctx,
    Path(project): Path<String>,
) -> ApiResult<Json<Value>> {
    let limits = network.default_quota(&ctx, &project_of(&project)?).await?;
    let map: Map<String, Value> =
        limits.into_iter().map(|(resource, limit)| (resource.to_owned(), json!(limit))).collect();
    Ok(Json(json!({ "quota": map })))
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    Path(project): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let project = project_of(&project)?;
    let mut body = Attributes::single(body, "quota", Verb::Update)?;
    let force = body.boolean("force")?.unwrap_or(false);
    // What it asks for is done anyway.
    body.boolean("check_limit")?;
    let mut wanted = Vec::new();
    for default in DEFAULTS {
        if let Some(limit) = body.integer(default.resource, (-1, LIMIT_MAX))? {
            wanted.push((default.resource, Some(limit)));
        }
    }
    body.finish()?;
    let standing = network.quota(&ctx, &project).await?;
    if !force {
        refuse_below_usage(&standing, &wanted)?;
    }
    network.set_quota(&ctx, &project, wanted).await?;
    Ok(Json(limits(&network.quota(&ctx, &project).await?)))
}

fn refuse_below_usage(
    standing: &[QuotaUsage],
    wanted: &[(&'static str, Option<i64>)],
) -> Result<(), Fault> {
    for (resource, limit) in wanted {
        let used = standing.iter().find(|usage| usage.resource == *resource);
        if let (Some(usage), Some(limit)) = (used, *limit)
            && limit >= 0
            && limit < usage.in_use
        {
            return Err(http_bad_request(format!(
                "Quota limit {limit} for {resource} must be greater than or equal to already \
                 used {}; force sets it nevertheless",
                usage.in_use
            )));
        }
    }
    Ok(())
}

async fn reset(
    State(network): State<Network>,
    ctx: Ctx,
    Path(project): Path<String>,
) -> ApiResult<StatusCode> {
    let all = DEFAULTS.iter().map(|default| (default.resource, None)).collect();
    network.set_quota(&ctx, &project_of(&project)?, all).await?;
    Ok(StatusCode::NO_CONTENT)
}
