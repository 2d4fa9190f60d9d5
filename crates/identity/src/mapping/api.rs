//! `/v3/OS-FEDERATION/mappings`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::Mapping;
use crate::fields::{Fields, Patch};
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let one = "/v3/OS-FEDERATION/mappings/{mapping_id}";
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/OS-FEDERATION/mappings", rule("identity:list_mappings"), list)
        .route(Method::PUT, one, rule("identity:create_mapping"), create)
        .route(Method::GET, one, rule("identity:get_mapping"), show)
        .route(Method::PATCH, one, rule("identity:update_mapping"), update)
        .route(Method::DELETE, one, rule("identity:delete_mapping"), delete)
}

fn view(ctx: &Ctx, mapping: &Mapping) -> Value {
    let mut view = mapping.public();
    view["links"] = json!({"self": wire::self_link(ctx, "OS-FEDERATION/mappings", &mapping.id)});
    view
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let found = identity.list_mappings(&ctx, &filters).await?;
    let rows = found.iter().map(|mapping| view(&ctx, mapping)).collect();
    let path = "/OS-FEDERATION/mappings";
    Ok(wire::list(&ctx, path, "mappings", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let mapping = identity.mapping(&ctx, &id).await?;
    Ok(Json(json!({"mapping": view(&ctx, &mapping)})))
}

fn read(body: Value) -> Result<(Option<String>, Value), Fault> {
    let mut fields = Fields::below("mapping", body)?;
    let version = match fields.text("schema_version", 5)? {
        Patch::Set(text) => Some(text),
        Patch::Null | Patch::Absent => None,
    };
    let rules = fields
        .value("rules")
        .ok_or_else(|| Fault::bad_request("'rules' is a required property"))?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    Ok((version, rules))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    wire::short_id("mapping", &id)?;
    let (version, rules) = read(body)?;
    let viewer = ctx.clone();
    let show = move |made: &Mapping| Created::new(json!({"mapping": view(&viewer, made)}));
    ctx.creating(show, async |ctx| {
        identity.create_mapping(&ctx, &id, version.as_deref(), &rules).await
    })
    .await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let (version, rules) = read(body)?;
    let mapping = identity.update_mapping(&ctx, &id, version.as_deref(), &rules).await?;
    Ok(Json(json!({"mapping": view(&ctx, &mapping)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_mapping(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
