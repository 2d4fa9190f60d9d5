//! `/v3/domains/{domain_id}/config` and `/v3/domains/config/default`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{DomainId, Fault};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, Answer, ApiResult, Ctx, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::model;
use crate::fields::Fields;
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let all = "/v3/domains/{domain_id}/config";
    let group = format!("{all}/{{group}}");
    let option = format!("{group}/{{option}}");
    let (see, change, unset) = (
        rule("identity:get_domain_config"),
        rule("identity:update_domain_config"),
        rule("identity:delete_domain_config"),
    );
    let (defaults, passwords) = (
        rule("identity:get_domain_config_default"),
        rule("identity:get_security_compliance_domain_config"),
    );
    Routes::new(Service::Identity)
        .route(Method::PUT, all, rule("identity:create_domain_config"), put)
        .route(Method::GET, all, see, show_all)
        .route(Method::PATCH, all, change, update_all)
        .route(Method::DELETE, all, unset, delete_all)
        .route(Method::GET, &group, see, show_group)
        .route(Method::PATCH, &group, change, update_group)
        .route(Method::DELETE, &group, unset, delete_group)
        .route(Method::GET, &option, see, show_option)
        .route(Method::PATCH, &option, change, update_option)
        .route(Method::DELETE, &option, unset, delete_option)
        .route(Method::GET, &format!("{all}/security_compliance"), passwords, show_passwords)
        .route(
            Method::GET,
            &format!("{all}/security_compliance/{{option}}"),
            passwords,
            show_password_option,
        )
        .route(Method::GET, "/v3/domains/config/default", defaults, default_all)
        .route(Method::GET, "/v3/domains/config/{group}/default", defaults, default_group)
        .route(Method::GET, "/v3/domains/config/{group}/{option}/default", defaults, default_option)
}

fn id(text: &str) -> Result<DomainId, Fault> {
    wire::id("domain", text)
}

fn shown(config: Value) -> Json<Value> {
    Json(json!({"config": config}))
}

fn read(body: Value) -> Result<Map<String, Value>, Fault> {
    Fields::below("config", body)?.extra()
}

async fn put(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(domain): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Response> {
    let config = model::read(read(body)?)?;
    let (config, new) = identity.put_domain_config(&ctx, &id(&domain)?, config).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Answer(status, json!({"config": config})).into_response())
}

async fn show_all(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(domain): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.domain_config(&ctx, &id(&domain)?, None, None).await?))
}

async fn show_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, group)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.domain_config(&ctx, &id(&domain)?, Some(&group), None).await?))
}

async fn show_option(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, group, option)): Path<(String, String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.domain_config(&ctx, &id(&domain)?, Some(&group), Some(&option)).await?))
}

async fn update(
    identity: &Identity,
    ctx: &Ctx,
    domain: &str,
    body: Value,
    group: Option<String>,
    option: Option<String>,
) -> Result<Json<Value>, Fault> {
    let change = model::read_change(read(body)?, group.as_deref(), option.as_deref())?;
    let id = id(domain)?;
    Ok(shown(identity.update_domain_config(ctx, &id, change, group, option).await?))
}

async fn update_all(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(domain): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    Ok(update(&identity, &ctx, &domain, body, None, None).await?)
}

async fn update_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, group)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    Ok(update(&identity, &ctx, &domain, body, Some(group), None).await?)
}

async fn update_option(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, group, option)): Path<(String, String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    Ok(update(&identity, &ctx, &domain, body, Some(group), Some(option)).await?)
}

async fn delete_all(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(domain): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_domain_config(&ctx, &id(&domain)?, None, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, group)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.delete_domain_config(&ctx, &id(&domain)?, Some(group), None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_option(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, group, option)): Path<(String, String, String)>,
) -> ApiResult<StatusCode> {
    identity.delete_domain_config(&ctx, &id(&domain)?, Some(group), Some(option)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_passwords(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(domain): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.password_rule(&ctx, &id(&domain)?, None)?))
}

async fn show_password_option(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((domain, option)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.password_rule(&ctx, &id(&domain)?, Some(&option))?))
}

async fn default_all(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Json<Value>> {
    Ok(shown(identity.default_domain_config(&ctx, None, None)?))
}

async fn default_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(group): Path<String>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.default_domain_config(&ctx, Some(&group), None)?))
}

async fn default_option(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, option)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(shown(identity.default_domain_config(&ctx, Some(&group), Some(&option))?))
}
