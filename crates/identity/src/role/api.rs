//! `/v3/roles` and `/v3/role_inferences`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{DomainId, Fault, RoleId};
use serde_json::{Value, json};
use service_kit::{
    Access, Answer, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service,
    StatusCode, StrictJson,
};

use super::model::Role;
use super::service::RoleChange;
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::{Identity, options, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let role = "/v3/roles/{role_id}";
    let list_roles = Access::AnyOf(&["identity:list_roles", "identity:list_domain_roles"]);
    let create_role = Access::AnyOf(&["identity:create_role", "identity:create_domain_role"]);
    let get_role = Access::AfterLookup(&["identity:get_role", "identity:get_domain_role"]);
    let update_role = Access::AfterLookup(&["identity:update_role", "identity:update_domain_role"]);
    let delete_role = Access::AfterLookup(&["identity:delete_role", "identity:delete_domain_role"]);
    let pair = "/v3/roles/{role_id}/implies/{implied_role_id}";
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/roles", list_roles, list)
        .route(Method::POST, "/v3/roles", create_role, create)
        .route(Method::GET, role, get_role, show)
        .route(Method::PATCH, role, update_role, update)
        .route(Method::DELETE, role, delete_role, delete)
        .route(
            Method::GET,
            "/v3/roles/{role_id}/implies",
            rule("identity:list_implied_roles"),
            implied_by,
        )
        .route(Method::PUT, pair, rule("identity:create_implied_role"), imply)
        .route(Method::GET, pair, rule("identity:get_implied_role"), get)
        .route(Method::HEAD, pair, rule("identity:check_implied_role"), check)
        .route(Method::DELETE, pair, rule("identity:delete_implied_role"), end)
        .route(
            Method::GET,
            "/v3/role_inferences",
            rule("identity:list_role_inference_rules"),
            inferences,
        )
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let roles = identity.list_roles(&ctx, filters.clone()).await?;
    let rows = roles.iter().map(|role| role.view(&ctx)).collect();
    Ok(wire::list(&ctx, "/roles", "roles", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let role = identity.role(&ctx, &wire::id("role", &id)?).await?;
    Ok(Json(json!({"role": role.view(&ctx)})))
}

fn read(body: Value, new: bool) -> Result<(RoleChange, Option<DomainId>), Fault> {
    let mut fields = Fields::below("role", body)?;
    let name = if new {
        Some(fields.required_name("name", NAME_LONG)?)
    } else {
        fields.name("name", NAME_LONG)?
    };
    let domain = match fields.id("domain_id")? {
        Patch::Set(id) => Some(id),
        Patch::Null | Patch::Absent => None,
    };
    let description = fields.text("description", NAME_LONG)?;
    let options = options::read(&mut fields)?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    Ok((RoleChange { name, description, options }, domain))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (change, domain) = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |role: &Role| Created::new(json!({"role": role.view(&viewer)}));
    ctx.creating(show, async |ctx| identity.create_role(&ctx, change, domain).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let (change, _) = read(body, false)?;
    let id = wire::id("role", &id)?;
    let role = identity.update_role(&ctx, &id, change).await?;
    Ok(Json(json!({"role": role.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_role(&ctx, &wire::id("role", &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn inference(ctx: &Ctx, prior: &Role, implied: &[Role]) -> Value {
    json!({
        "prior_role": prior.reference(ctx),
        "implies": implied.iter().map(|role| role.reference(ctx)).collect::<Value>(),
    })
}

async fn implied_by(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let prior = wire::id("role", &id)?;
    let found = identity.implications(&ctx, "identity:list_implied_roles", Some(prior)).await?;
    let shown = found.first().map(|(prior, implied)| inference(&ctx, prior, implied));
    let link = format!("{}/implies", wire::self_link(&ctx, "roles", &id));
    Ok(Json(json!({"role_inference": shown, "links": {"self": link}})))
}

async fn inferences(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Json<Value>> {
    let found = identity.implications(&ctx, "identity:list_role_inference_rules", None).await?;
    let rows: Vec<Value> =
        found.iter().map(|(prior, implied)| inference(&ctx, prior, implied)).collect();
    let link = format!("{}/v3/role_inferences", ctx.service_url());
    Ok(Json(json!({"role_inferences": rows, "links": {"self": link}})))
}

fn pair((prior, implied): (String, String)) -> Result<(RoleId, RoleId), Fault> {
    Ok((wire::id("role", &prior)?, wire::id("role", &implied)?))
}

fn one_inference(ctx: &Ctx, prior: &Role, implied: &Role) -> Value {
    json!({"role_inference": {
        "prior_role": prior.reference(ctx),
        "implies": implied.reference(ctx),
    }})
}

async fn imply(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(ids): Path<(String, String)>,
) -> ApiResult<Response> {
    let (prior, implied) = pair(ids)?;
    let (prior, implied) = identity.imply(&ctx, &prior, &implied).await?;
    Ok(Answer(StatusCode::CREATED, one_inference(&ctx, &prior, &implied)).into_response())
}

async fn get(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(ids): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    Ok(Json(implication(&identity, &ctx, "identity:get_implied_role", ids).await?))
}

/// `HEAD` answers 204, not what `GET` would.
async fn check(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(ids): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    implication(&identity, &ctx, "identity:check_implied_role", ids).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn implication(
    identity: &Identity,
    ctx: &Ctx,
    rule: &str,
    ids: (String, String),
) -> Result<Value, Fault> {
    let (prior, implied) = pair(ids)?;
    let found = identity.implications(ctx, rule, Some(prior.clone())).await?;
    let hit = found.iter().find_map(|(from, to)| {
        let to = to.iter().find(|role| role.id == implied)?;
        Some(one_inference(ctx, from, to))
    });
    hit.ok_or_else(|| Fault::not_found(format!("{prior} does not imply {implied}")))
}

async fn end(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(ids): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let (prior, implied) = pair(ids)?;
    identity.end_implication(&ctx, &prior, &implied).await?;
    Ok(StatusCode::NO_CONTENT)
}
