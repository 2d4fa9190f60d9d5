//! `/v3/domains`.

use super::model::Domain;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{DomainId, Fault};
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::service::DomainChange;
use crate::fields::{Fields, NAME_SHORT, Patch};
use crate::{Identity, options, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/domains", rule("identity:list_domains"), list)
        .route(Method::POST, "/v3/domains", rule("identity:create_domain"), create)
        .route(Method::GET, "/v3/domains/{domain_id}", rule("identity:get_domain"), show)
        .route(
            Method::PATCH,
            "/v3/domains/{domain_id}",
            Access::AfterLookup(&["identity:update_domain"]),
            update,
        )
        .route(Method::DELETE, "/v3/domains/{domain_id}", rule("identity:delete_domain"), delete)
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let domains = identity.list_domains(&ctx, filters.clone()).await?;
    let rows = domains.iter().map(|domain| domain.view(&ctx)).collect();
    Ok(wire::list(&ctx, "/domains", "domains", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let domain = identity.domain(&ctx, &wire::id("domain", &id)?).await?;
    Ok(Json(json!({"domain": domain.view(&ctx)})))
}

fn read(body: Value, new: bool) -> Result<(DomainChange, Option<DomainId>), Fault> {
    let mut fields = Fields::below("domain", body)?;
    let name = if new {
        Some(fields.required_name("name", NAME_SHORT)?)
    } else {
        fields.name("name", NAME_SHORT)?
    };
    let explicit = match fields.id("explicit_domain_id")? {
        Patch::Set(id) if new => Some(id),
        _ => None,
    };
    fields.ignore(&["id", "links"]);
    let change = DomainChange {
        name,
        description: fields.description()?,
        enabled: fields.flag("enabled")?,
        tags: crate::project::api::read_tags(&mut fields)?,
        options: options::read(&mut fields)?,
        extra: fields.extra()?,
    };
    Ok((change, explicit))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (change, id) = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |domain: &Domain| Created::new(json!({"domain": domain.view(&viewer)}));
    ctx.creating(show, async |ctx| identity.create_domain(&ctx, change, id).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let (change, _) = read(body, false)?;
    let domain = identity.update_domain(&ctx, &wire::id("domain", &id)?, change).await?;
    Ok(Json(json!({"domain": domain.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_domain(&ctx, &wire::id("domain", &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
