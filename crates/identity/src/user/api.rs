//! `/v3/users`.

use super::model::User;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};
use zeroize::Zeroizing;

use super::service::{NewPassword, UserChange};
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::password::MAX_PASSWORD;
use crate::wire::Shown;
use crate::{Identity, compliance, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/users", rule("identity:list_users"), list)
        .route(Method::POST, "/v3/users", rule("identity:create_user"), create)
        .route(Method::GET, "/v3/users/{user_id}", rule("identity:get_user"), show)
        .route(Method::PATCH, "/v3/users/{user_id}", rule("identity:update_user"), update)
        .route(Method::DELETE, "/v3/users/{user_id}", rule("identity:delete_user"), delete)
        .route(
            Method::POST,
            "/v3/users/{user_id}/password",
            // The old password is the proof: whose password has expired gets no token.
            Access::Public,
            change_password,
        )
        .route(
            Method::GET,
            "/v3/users/{user_id}/projects",
            rule("identity:list_user_projects"),
            projects,
        )
        .route(
            Method::GET,
            "/v3/users/{user_id}/groups",
            rule("identity:list_groups_for_user"),
            groups,
        )
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let users = identity.list_users(&ctx, filters.clone()).await?;
    let base = ctx.service_url();
    let rows = users.iter().map(|what| Shown { what, base: Some(base.as_str()) }).collect();
    Ok(wire::list(&ctx, "/users", "users", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let id = wire::id("user", &id)?;
    let user = identity.user(&ctx, "identity:get_user", &id).await?;
    let mut view = user.view(&ctx);
    if let Some(federated) = identity.providers_of(&user.id).await? {
        view["federated"] = federated;
    }
    Ok(Json(json!({"user": view})))
}

/// The attributes of a request; a new user must have a name.
fn read(body: Value, new: bool) -> Result<(UserChange, NewPassword), Fault> {
    let mut fields = Fields::below("user", body)?;
    let name = if new {
        Some(fields.required_name("name", NAME_LONG)?)
    } else {
        fields.name("name", NAME_LONG)?
    };
    let domain_id = match fields.id("domain_id")? {
        Patch::Set(id) => Some(id),
        Patch::Null | Patch::Absent => None,
    };
    let password = match fields.text("password", MAX_PASSWORD)? {
        Patch::Set(text) => Patch::Set(Zeroizing::new(text)),
        Patch::Null => Patch::Null,
        Patch::Absent => Patch::Absent,
    };
    fields.ignore(&["id", "links", "password_expires_at"]);
    let options = fields.object("options")?;
    compliance::options::check(options.as_ref().unwrap_or(&Map::new()))?;
    let change = UserChange {
        name,
        domain_id,
        description: fields.text("description", 65_535)?,
        enabled: fields.flag("enabled")?,
        default_project_id: fields.id("default_project_id")?,
        options,
        extra: fields.extra()?,
    };
    Ok((change, password))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (change, password) = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |user: &User| Created::new(json!({"user": user.view(&viewer)}));
    ctx.creating(show, async |ctx| identity.create_user(&ctx, change, password).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let (change, password) = read(body, false)?;
    let id = wire::id("user", &id)?;
    let user = identity.update_user(&ctx, &id, change, password).await?;
    Ok(Json(json!({"user": user.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_user(&ctx, &wire::id("user", &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// No `Debug`: it holds passwords.
#[derive(Deserialize)]
struct PasswordBody {
    user: PasswordPart,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordPart {
    original_password: String,
    password: String,
}

async fn change_password(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<PasswordBody>,
) -> ApiResult<StatusCode> {
    let PasswordPart { original_password, password } = body.user;
    let (original, new) = (Zeroizing::new(original_password), Zeroizing::new(password));
    identity.change_password(&id, original, new, ctx.origin(), ctx.source_ip).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn projects(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let user = identity.user(&ctx, "identity:list_user_projects", &wire::id("user", &id)?).await?;
    let rows = identity.projects_of(&ctx, &user.id, false).await?;
    Ok(wire::whole_list(&ctx, &format!("/users/{id}/projects"), "projects", &rows).into_response())
}

async fn groups(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let user =
        identity.user(&ctx, "identity:list_groups_for_user", &wire::id("user", &id)?).await?;
    let rows = identity.groups_of(&ctx, &user.id).await?;
    Ok(wire::whole_list(&ctx, &format!("/users/{id}/groups"), "groups", &rows).into_response())
}
