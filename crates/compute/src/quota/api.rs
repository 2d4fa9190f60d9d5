//! `/os-quota-sets` and `/limits`.

use std::collections::BTreeMap;

use axum::extract::State;
use cloud_types::{Fault, ProjectId};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::model::{self, Standing};
use super::service;
use crate::Compute;
use crate::wire::strict_query;

/// The routes.
pub fn routes() -> Routes<Compute> {
    const ONE: &str = "/v2.1/os-quota-sets/{project}";
    Routes::new(Service::Compute)
        .route(Method::GET, ONE, Access::Rule("compute:quotas:show"), show)
        .route(Method::PUT, ONE, Access::Rule("compute:quotas:update"), update)
        .route(Method::DELETE, ONE, Access::Rule("compute:quotas:update"), reset)
        .route(
            Method::GET,
            "/v2.1/os-quota-sets/{project}/detail",
            Access::Rule("compute:quotas:show"),
            detail,
        )
        .route(
            Method::GET,
            "/v2.1/os-quota-sets/{project}/defaults",
            Access::Rule("compute:quotas:defaults"),
            defaults,
        )
        .route(Method::GET, "/v2.1/limits", Access::Rule("compute:limits:show"), limits)
}

fn project(text: &str) -> Result<ProjectId, Fault> {
    text.parse().map_err(|_| {
        let text: String = text.chars().take(64).collect();
        Fault::bad_request(format!("Project ID {text} is not a valid project."))
    })
}

/// Quotas are of projects: a user's own share was never enforced by anybody, and asking for one
/// shows the project's.
fn check_query(ctx: &Ctx, filters: &Filters) -> Result<(), Fault> {
    if ctx.at_least(2, 75) { strict_query(filters, &["user_id"]) } else { Ok(()) }
}

fn plain(id: Option<&ProjectId>, standing: BTreeMap<String, Standing>, ctx: &Ctx) -> Value {
    let mut set: Map<String, Value> = model::complete(standing, ctx.microversion)
        .into_iter()
        .map(|(name, standing)| (name, json!(standing.limit)))
        .collect();
    if let Some(id) = id {
        set.insert("id".into(), json!(id));
    }
    json!({"quota_set": set})
}

async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    check_query(&ctx, &filters)?;
    let id = project(&id)?;
    let standing = service::standing(compute.kit(), &ctx, "compute:quotas:show", &id).await?;
    Ok(Json(plain(Some(&id), standing, &ctx)))
}

async fn detail(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    check_query(&ctx, &filters)?;
    let id = project(&id)?;
    let standing = service::standing(compute.kit(), &ctx, "compute:quotas:show", &id).await?;
    let mut set: Map<String, Value> = model::complete(standing, ctx.microversion)
        .into_iter()
        .map(|(name, Standing { limit, in_use })| {
            (name, json!({"limit": limit, "in_use": in_use, "reserved": 0}))
        })
        .collect();
    set.insert("id".into(), json!(id));
    Ok(Json(json!({"quota_set": set})))
}

async fn defaults(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let id = project(&id)?;
    let standing = service::defaults(compute.kit(), &ctx, &id).await?;
    Ok(Json(plain(Some(&id), standing, &ctx)))
}

async fn update(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    check_query(&ctx, &filters)?;
    let id = project(&id)?;
    let (limits, force) = model::read_update(body, ctx.microversion)?;
    let standing = service::update(compute.kit(), &ctx, &id, limits, force).await?;
    Ok(Json(plain(None, standing, &ctx)))
}

async fn reset(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<StatusCode> {
    check_query(&ctx, &filters)?;
    service::reset(compute.kit(), &ctx, &project(&id)?).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn limits(
    State(compute): State<Compute>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    // `reserved` was asked for by clients of old, and means nothing any more.
    if ctx.at_least(2, 75) {
        strict_query(&filters, &["reserved", "tenant_id"])?;
    }
    let (id, rule) = match filters.get("tenant_id") {
        Some(text) => (project(text)?, "compute:limits:other_project"),
        None => (ctx.project()?, "compute:limits:show"),
    };
    let standing = service::standing(compute.kit(), &ctx, rule, &id).await?;
    let standing = model::complete(standing, ctx.microversion);
    // Image metadata left with 2.39, together with the image proxy.
    const NAMES: &[(&str, &str)] = &[
        ("ram", "maxTotalRAMSize"),
        ("instances", "maxTotalInstances"),
        ("cores", "maxTotalCores"),
        ("key_pairs", "maxTotalKeypairs"),
        ("floating_ips", "maxTotalFloatingIps"),
        ("metadata_items", "maxServerMeta"),
        ("injected_files", "maxPersonality"),
        ("injected_file_content_bytes", "maxPersonalitySize"),
        ("security_groups", "maxSecurityGroups"),
        ("security_group_rules", "maxSecurityGroupRules"),
        ("server_groups", "maxServerGroups"),
        ("server_group_members", "maxServerGroupMembers"),
    ];
    const USED: &[(&str, &str)] = &[
        ("ram", "totalRAMUsed"),
        ("cores", "totalCoresUsed"),
        ("instances", "totalInstancesUsed"),
        ("floating_ips", "totalFloatingIpsUsed"),
        ("security_groups", "totalSecurityGroupsUsed"),
        ("server_groups", "totalServerGroupsUsed"),
    ];
    let mut absolute = Map::new();
    for (name, shown) in NAMES {
        if let Some(found) = standing.get(*name) {
            absolute.insert((*shown).to_owned(), json!(found.limit));
        }
    }
    if !ctx.at_least(2, 39) {
        absolute.insert("maxImageMeta".to_owned(), json!(model::MAX_METADATA));
    }
    for (name, shown) in USED {
        if let Some(found) = standing.get(*name) {
            absolute.insert((*shown).to_owned(), json!(found.in_use));
        }
    }
    Ok(Json(json!({"limits": {"rate": [], "absolute": absolute}})))
}
