//! `/v3/OS-TRUST/trusts`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, ProjectId, RoleId, UserId};
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::Redelegation;
use super::service::{NewTrust, Shown};
use crate::application_credential::api::expiry;
use crate::fields::{Fields, Patch};
use crate::token::service::RoleName;
use crate::{Identity, wire};

/// A trust that is gone is 404 to everybody, also to those who could never see one: so the rules
/// are asked when it has been looked up.
pub(crate) fn routes() -> Routes<Identity> {
    const ALL: &str = "/v3/OS-TRUST/trusts";
    const ONE: &str = "/v3/OS-TRUST/trusts/{trust_id}";
    const ROLES: &str = "/v3/OS-TRUST/trusts/{trust_id}/roles";
    const ROLE: &str = "/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}";
    const LISTS: &[&str] = &[
        "identity:list_trusts",
        "identity:list_trusts_for_trustor",
        "identity:list_trusts_for_trustee",
    ];
    let after = Access::AfterLookup;
    Routes::new(Service::Identity)
        .route(Method::GET, ALL, Access::AnyOf(LISTS), list)
        .route(Method::POST, ALL, Access::Rule("identity:create_trust"), create)
        .route(Method::GET, ONE, after(&["identity:get_trust"]), show)
        .route(Method::DELETE, ONE, after(&["identity:delete_trust"]), delete)
        .route(Method::GET, ROLES, after(&["identity:list_roles_for_trust"]), list_roles)
        .route(Method::GET, ROLE, after(&["identity:get_role_for_trust"]), show_role)
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let found = identity.trusts(&ctx, filters.clone()).await?;
    let rows = found.iter().map(|trust| trust.summary(&ctx)).collect();
    Ok(wire::list(&ctx, "/OS-TRUST/trusts", "trusts", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let Shown { trust, roles } = identity.trust(&ctx, "identity:get_trust", &id).await?;
    Ok(Json(json!({"trust": trust.view(&ctx, &roles)})))
}

fn read(body: Value) -> Result<NewTrust, Fault> {
    let mut fields = Fields::below("trust", body)?;
    let required = |name: &str| Fault::bad_request(format!("'{name}' is a required property"));
    let user = |fields: &mut Fields, name: &str| match fields.id::<UserId>(name)? {
        Patch::Set(id) => Ok(id),
        Patch::Absent | Patch::Null => Err(required(name)),
    };
    let trustor = user(&mut fields, "trustor_user_id")?;
    let trustee = user(&mut fields, "trustee_user_id")?;
    let impersonation = fields.flag("impersonation")?.ok_or_else(|| required("impersonation"))?;
    let mut project_id = None;
    fields.id::<ProjectId>("project_id")?.apply(&mut project_id);
    let expires_at = expiry(&mut fields)?;
    let remaining_uses = fields.whole("remaining_uses")?;
    if remaining_uses.is_some_and(|uses| uses < 1) {
        return Err(Fault::bad_request(
            "Invalid input for field 'remaining_uses': it must be a positive integer or null.",
        ));
    }
    let count = fields.whole("redelegation_count")?;
    if count.is_some_and(|count| count < 0) {
        return Err(Fault::bad_request(
            "Invalid input for field 'redelegation_count': it must not be negative.",
        ));
    }
    let allowed = fields.optional_flag("allow_redelegation")?.unwrap_or(false);
    let mut roles = Vec::new();
    for role in fields.list("roles")? {
        roles.push(RoleName::read(role)?);
    }
    // What else is sent is bounded, and dropped: a trust has no attributes of one's own.
    fields.extra()?;
    Ok(NewTrust {
        trustor,
        trustee,
        project_id,
        impersonation,
        expires_at,
        remaining_uses,
        redelegation: Redelegation { allowed, count },
        roles,
    })
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let new = read(body)?;
    let viewer = ctx.clone();
    let show =
        move |made: &Shown| Created::new(json!({"trust": made.trust.view(&viewer, &made.roles)}));
    ctx.creating(show, async |ctx| identity.create_trust(&ctx, new).await).await
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_trust(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_roles(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let shown = identity.trust(&ctx, "identity:list_roles_for_trust", &id).await?;
    let rows: Vec<Value> = shown.roles.iter().map(|role| role.view(&ctx)).collect();
    let path = format!("/OS-TRUST/trusts/{id}/roles");
    Ok(wire::whole_list(&ctx, &path, "roles", &rows).into_response())
}

async fn show_role(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((id, role)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let shown = identity.trust(&ctx, "identity:get_role_for_trust", &id).await?;
    let wanted: RoleId = wire::id("role", &role)?;
    let found = shown.roles.iter().find(|role| role.id == wanted);
    let role = found.ok_or_else(|| wire::not_found("role", &wanted))?;
    Ok(Json(json!({"role": role.view(&ctx)})))
}
