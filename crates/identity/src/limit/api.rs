//! `/v3/registered_limits`, `/v3/limits` and `/v3/limits/model`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{Limit, RegisteredLimit, Resource};
use super::service::{LimitChange, RegisteredChange};
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::{Identity, wire};

/// Most limits in one request; clients set them by the dozen.
const MOST_AT_ONCE: usize = 1000;
/// The largest limit, as upstream.
const LARGEST: i64 = 0x7fff_ffff;

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let (one, registered) =
        ("/v3/limits/{limit_id}", "/v3/registered_limits/{registered_limit_id}");
    Routes::new(Service::Identity)
        .route(
            Method::GET,
            "/v3/registered_limits",
            rule("identity:list_registered_limits"),
            list_registered,
        )
        .route(
            Method::POST,
            "/v3/registered_limits",
            rule("identity:create_registered_limits"),
            create_registered,
        )
        .route(Method::GET, registered, rule("identity:get_registered_limit"), show_registered)
        .route(
            Method::PATCH,
            registered,
            rule("identity:update_registered_limit"),
            update_registered,
        )
        .route(
            Method::DELETE,
            registered,
            rule("identity:delete_registered_limit"),
            delete_registered,
        )
        .route(Method::GET, "/v3/limits", rule("identity:list_limits"), list)
        .route(Method::POST, "/v3/limits", rule("identity:create_limits"), create)
        .route(Method::GET, "/v3/limits/model", rule("identity:get_limit_model"), model)
        .route(Method::GET, one, rule("identity:get_limit"), show)
        .route(Method::PATCH, one, rule("identity:update_limit"), update)
        .route(Method::DELETE, one, rule("identity:delete_limit"), delete)
}

/// The objects of a list below `root`, each read by `read`.
fn each<T>(
    root: &str,
    body: Value,
    read: impl Fn(Fields) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut body = body;
    let list = match body.get_mut(root).map(Value::take) {
        Some(Value::Array(list)) => list,
        Some(_) => {
            return Err(Fault::bad_request(format!(
                "Invalid input for field '{root}': it must be a list."
            )));
        }
        None => return Err(Fault::bad_request(format!("'{root}' is a required property"))),
    };
    if list.is_empty() || list.len() > MOST_AT_ONCE {
        return Err(Fault::bad_request(format!(
            "Invalid input for field '{root}': from 1 to {MOST_AT_ONCE} can be made at once."
        )));
    }
    list.into_iter().map(|item| Fields::below(root, json!({root: item})).and_then(&read)).collect()
}

fn number(fields: &mut Fields, name: &str) -> Result<Option<i64>, Fault> {
    match fields.integer(name)? {
        Some(number) if !(-1..=LARGEST).contains(&number) => Err(Fault::bad_request(format!(
            "Invalid input for field '{name}': {number} is not from -1 (no limit) to {LARGEST}."
        ))),
        other => Ok(other),
    }
}

fn required_number(fields: &mut Fields, name: &str) -> Result<i64, Fault> {
    number(fields, name)?
        .ok_or_else(|| Fault::bad_request(format!("'{name}' is a required property")))
}

fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn set(patch: Patch<String>) -> Option<String> {
    match patch {
        Patch::Set(text) => Some(text),
        Patch::Null | Patch::Absent => None,
    }
}

fn read_resource(fields: &mut Fields) -> Result<Resource, Fault> {
    Ok(Resource {
        service_id: fields.required_name("service_id", 64)?,
        region_id: set(fields.text("region_id", NAME_LONG)?),
        name: fields.required_name("resource_name", NAME_LONG)?,
    })
}

fn read_registered(mut fields: Fields) -> Result<RegisteredLimit, Fault> {
    let limit = RegisteredLimit {
        id: new_id(),
        resource: read_resource(&mut fields)?,
        default_limit: required_number(&mut fields, "default_limit")?,
        description: set(fields.text("description", 65_535)?),
    };
    fields.finish()?;
    Ok(limit)
}

fn read_limit(mut fields: Fields) -> Result<Limit, Fault> {
    let limit = Limit {
        id: new_id(),
        project_id: set(fields.text("project_id", 64)?),
        domain_id: set(fields.text("domain_id", 64)?),
        resource: read_resource(&mut fields)?,
        resource_limit: required_number(&mut fields, "resource_limit")?,
        description: set(fields.text("description", 65_535)?),
    };
    fields.finish()?;
    if limit.project_id.is_some() == limit.domain_id.is_some() {
        return Err(Fault::bad_request(
            "A limit is for a project or for a domain: give one of project_id and domain_id.",
        ));
    }
    Ok(limit)
}

async fn list_registered(
    State(identity): State<Identity>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let limits = identity.list_registered_limits(&ctx, filters.clone()).await?;
    let rows = limits.iter().map(|limit| limit.view(&ctx)).collect();
    let name = "registered_limits";
    Ok(wire::list(&ctx, "/registered_limits", name, &filters, &page, rows).into_response())
}

async fn create_registered(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let limits = each("registered_limits", body, read_registered)?;
    let viewer = ctx.clone();
    let show = move |limits: &Vec<RegisteredLimit>| {
        let rows: Value = limits.iter().map(|limit| limit.view(&viewer)).collect();
        Created::new(json!({"registered_limits": rows}))
    };
    ctx.creating(show, async |ctx| identity.create_registered_limits(&ctx, limits).await).await
}

async fn show_registered(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let limit = identity.registered_limit(&ctx, &id).await?;
    Ok(Json(json!({"registered_limit": limit.view(&ctx)})))
}

async fn update_registered(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("registered_limit", body)?;
    let change = RegisteredChange {
        service_id: fields.name("service_id", 64)?,
        region_id: fields.text("region_id", NAME_LONG)?,
        resource_name: fields.name("resource_name", NAME_LONG)?,
        default_limit: number(&mut fields, "default_limit")?,
        description: fields.text("description", 65_535)?,
    };
    fields.finish()?;
    let limit = identity.update_registered_limit(&ctx, &id, change).await?;
    Ok(Json(json!({"registered_limit": limit.view(&ctx)})))
}

async fn delete_registered(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_registered_limit(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let limits = identity.list_limits(&ctx, filters.clone()).await?;
    let rows = limits.iter().map(|limit| limit.view(&ctx)).collect();
    Ok(wire::list(&ctx, "/limits", "limits", &filters, &page, rows).into_response())
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let limits = each("limits", body, read_limit)?;
    let viewer = ctx.clone();
    let show = move |limits: &Vec<Limit>| {
        let rows: Value = limits.iter().map(|limit| limit.view(&viewer)).collect();
        Created::new(json!({"limits": rows}))
    };
    ctx.creating(show, async |ctx| identity.create_limits(&ctx, limits).await).await
}

async fn model(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Json<Value>> {
    ctx.authorise("identity:get_limit_model", &service_kit::Target::none())?;
    let model = identity.config.limit_model;
    Ok(Json(json!({"model": {"name": model.name(), "description": model.description()}})))
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let limit = identity.limit(&ctx, &id).await?;
    Ok(Json(json!({"limit": limit.view(&ctx)})))
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("limit", body)?;
    let change = LimitChange {
        resource_limit: number(&mut fields, "resource_limit")?,
        description: fields.text("description", 65_535)?,
    };
    fields.finish()?;
    let limit = identity.update_limit(&ctx, &id, change).await?;
    Ok(Json(json!({"limit": limit.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_limit(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
