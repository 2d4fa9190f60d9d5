//! `/v3/groups`.

use super::model::Group;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::DomainId;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use crate::fields::{Fields, NAME_SHORT, Patch};
use crate::filter::ExpiryFilter;
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let gone_first = Access::AfterLookup(&["identity:delete_group"]);
    let member = "/v3/groups/{group_id}/users/{user_id}";
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/groups", rule("identity:list_groups"), list)
        .route(Method::POST, "/v3/groups", rule("identity:create_group"), create)
        .route(Method::GET, "/v3/groups/{group_id}", rule("identity:get_group"), show)
        .route(Method::PATCH, "/v3/groups/{group_id}", rule("identity:update_group"), update)
        .route(Method::DELETE, "/v3/groups/{group_id}", gone_first, delete)
        .route(
            Method::GET,
            "/v3/groups/{group_id}/users",
            rule("identity:list_users_in_group"),
            members,
        )
        .route(Method::PUT, member, rule("identity:add_user_to_group"), add)
        .route(Method::GET, member, rule("identity:check_user_in_group"), check)
        .route(Method::DELETE, member, rule("identity:remove_user_from_group"), remove)
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let groups = identity.list_groups(&ctx, filters.clone()).await?;
    let rows = groups.iter().map(|group| group.view(&ctx)).collect();
    Ok(wire::list(&ctx, "/groups", "groups", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let group = identity.group(&ctx, "identity:get_group", &id).await?;
    Ok(Json(json!({"group": group.view(&ctx)})))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let mut fields = Fields::below("group", body)?;
    let name = fields.required_name("name", NAME_SHORT)?;
    let domain = match fields.id::<DomainId>("domain_id")? {
        Patch::Set(id) => Some(id),
        Patch::Null | Patch::Absent => None,
    };
    let description = fields.description()?.unwrap_or_default();
    fields.ignore(&["id", "links"]);
    let extra = fields.extra()?;
    let viewer = ctx.clone();
    let show = move |group: &Group| Created::new(json!({"group": group.view(&viewer)}));
    ctx.creating(show, async |ctx| {
        identity.create_group(&ctx, name, description, extra, domain).await
    })
    .await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("group", body)?;
    let name = fields.name("name", NAME_SHORT)?;
    let description = fields.description()?;
    fields.ignore(&["id", "links", "domain_id"]);
    let extra = fields.extra()?;
    let group = identity.update_group(&ctx, &id, name, description, extra).await?;
    Ok(Json(json!({"group": group.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_group(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn members(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Response> {
    let expiry = ExpiryFilter::read(&filters)?;
    let users = identity.members(&ctx, &id, expiry).await?;
    let rows: Vec<Value> = users.iter().map(|user| user.view(&ctx)).collect();
    let path = format!("/groups/{id}/users");
    Ok(wire::filtered_list(&ctx, &path, "users", &filters, &rows).into_response())
}

async fn add(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, user)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.add_member(&ctx, &group, &wire::id("user", &user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, user)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.check_member(&ctx, &group, &wire::id("user", &user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, user)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.remove_member(&ctx, &group, &wire::id("user", &user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
