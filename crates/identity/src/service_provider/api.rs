//! `/v3/OS-FEDERATION/service_providers`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{RELAY_STATE_PREFIX, ServiceProvider};
use super::service::ServiceProviderChange;
use crate::fields::{Fields, Patch};
use crate::{Identity, wire};

const COLLECTION: &str = "OS-FEDERATION/service_providers";
const URL: usize = 256;

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let all = "/v3/OS-FEDERATION/service_providers";
    let one = "/v3/OS-FEDERATION/service_providers/{service_provider_id}";
    Routes::new(Service::Identity)
        .route(Method::GET, all, rule("identity:list_service_providers"), list)
        .route(Method::PUT, one, rule("identity:create_service_provider"), create)
        .route(Method::GET, one, rule("identity:get_service_provider"), show)
        .route(Method::PATCH, one, rule("identity:update_service_provider"), update)
        .route(Method::DELETE, one, rule("identity:delete_service_provider"), delete)
}

fn view(ctx: &Ctx, provider: &ServiceProvider) -> Value {
    let mut view = provider.public();
    view["links"] = json!({"self": wire::self_link(ctx, COLLECTION, &provider.id)});
    view
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let found = identity.list_service_providers(&ctx, filters.clone()).await?;
    let rows = found.iter().map(|provider| view(&ctx, provider)).collect();
    let path = format!("/{COLLECTION}");
    Ok(wire::list(&ctx, &path, "service_providers", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let provider = identity.service_provider(&ctx, &id).await?;
    Ok(Json(json!({"service_provider": view(&ctx, &provider)})))
}

fn url(fields: &mut Fields, name: &str, new: bool) -> Result<Option<String>, Fault> {
    let text = if new { Some(fields.required_name(name, URL)?) } else { fields.name(name, URL)? };
    match text {
        Some(text) if !text.starts_with("http://") && !text.starts_with("https://") => {
            Err(Fault::bad_request(format!(
                "Invalid input for field '{name}': it is not an http or https address."
            )))
        }
        text => Ok(text),
    }
}

fn read(body: Value, new: bool) -> Result<ServiceProviderChange, Fault> {
    let mut fields = Fields::below("service_provider", body)?;
    let change = ServiceProviderChange {
        auth_url: url(&mut fields, "auth_url", new)?,
        sp_url: url(&mut fields, "sp_url", new)?,
        description: match fields.text("description", 65_535)? {
            Patch::Absent => None,
            Patch::Null => Some(None),
            Patch::Set(text) => Some(Some(text)),
        },
        enabled: fields.flag("enabled")?,
        relay_state_prefix: match fields.text("relay_state_prefix", 256)? {
            Patch::Absent => None,
            Patch::Null => Some(RELAY_STATE_PREFIX.to_owned()),
            Patch::Set(text) => Some(text),
        },
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    Ok(change)
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    wire::short_id("service provider", &id)?;
    let change = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |made: &ServiceProvider| {
        Created::new(json!({"service_provider": view(&viewer, made)}))
    };
    ctx.creating(show, async |ctx| identity.create_service_provider(&ctx, &id, change).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = read(body, false)?;
    let provider = identity.update_service_provider(&ctx, &id, change).await?;
    Ok(Json(json!({"service_provider": view(&ctx, &provider)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_service_provider(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
