//! `/v3/roles` and `/v3/role_inferences`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, RoleId};
use serde_json::{Value, json};
use service_kit::{
    Access, Answer, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service,
    StatusCode, StrictJson,
};

use super::model::Role;
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let pair = "/v3/roles/{role_id}/implies/{implied_role_id}";
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/roles", rule("identity:list_roles"), list)
        .route(Method::POST, "/v3/roles", rule("identity:create_role"), create)
        .route(Method::GET, "/v3/roles/{role_id}", rule("identity:get_role"), show)
        .route(Method::PATCH, "/v3/roles/{role_id}", rule("identity:update_role"), update)
        .route(Method::DELETE, "/v3/roles/{role_id}", rule("identity:delete_role"), delete)
        .route(
            Method::GET,
            "/v3/roles/{role_id}/implies",
            rule("identity:list_implied_roles"),
            implied_by,
        )
        .route(Method::PUT, pair, rule("identity:create_implied_role"), imply)
        .route(Method::GET, pair, rule("identity:list_implied_roles"), check)
        .route(Method::DELETE, pair, rule("identity:delete_implied_role"), end)
        .route(Method::GET, "/v3/role_inferences", rule("identity:list_implied_roles"), inferences)
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

fn read(body: Value, new: bool) -> Result<(Option<String>, Patch<String>), Fault> {
    let mut fields = Fields::below("role", body)?;
    let name = if new {
        Some(fields.required_name("name", NAME_LONG)?)
    } else {
        fields.name("name", NAME_LONG)?
    };
    if matches!(fields.id::<cloud_types::DomainId>("domain_id")?, Patch::Set(_)) {
        return Err(Fault::bad_request(
            "Roles of a domain are not offered; leave domain_id out for a role of the cloud.",
        ));
    }
    let description = fields.text("description", NAME_LONG)?;
    fields.ignore(&["id", "links", "options"]);
    fields.finish()?;
    Ok((name, description))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (name, description) = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |role: &Role| Created::new(json!({"role": role.view(&viewer)}));
    ctx.creating(show, async |ctx| {
        identity.create_role(&ctx, name.unwrap_or_default(), description).await
    })
    .await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let (name, description) = read(body, false)?;
    let id = wire::id("role", &id)?;
    let role = identity.update_role(&ctx, &id, name, description).await?;
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
    let found = identity.implications(&ctx, Some(prior)).await?;
    let shown = found.first().map(|(prior, implied)| inference(&ctx, prior, implied));
    let link = format!("{}/implies", wire::self_link(&ctx, "roles", &id));
    Ok(Json(json!({"role_inference": shown, "links": {"self": link}})))
}

async fn inferences(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Json<Value>> {
    let found = identity.implications(&ctx, None).await?;
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

async fn check(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(ids): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let (prior, implied) = pair(ids)?;
    let found = identity.implications(&ctx, Some(prior.clone())).await?;
    let hit = found.iter().find_map(|(from, to)| {
        let to = to.iter().find(|role| role.id == implied)?;
        Some(one_inference(&ctx, from, to))
    });
    match hit {
        Some(body) => Ok(Json(body)),
        None => Err(Fault::not_found(format!("{prior} does not imply {implied}")).into()),
    }
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
