//! `/v3/credentials`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, ProjectId, UserId};
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};
use zeroize::Zeroizing;

use super::model::Credential;
use super::service::{CredentialChange, NewCredential};
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::{Identity, wire};

/// Longest blob, in characters; upstream's column holds as much.
const BLOB: usize = 65_535;

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/credentials", rule("identity:list_credentials"), list)
        .route(Method::POST, "/v3/credentials", rule("identity:create_credential"), create)
        .route(
            Method::GET,
            "/v3/credentials/{credential_id}",
            rule("identity:get_credential"),
            show,
        )
        .route(
            Method::PATCH,
            "/v3/credentials/{credential_id}",
            rule("identity:update_credential"),
            update,
        )
        .route(
            Method::DELETE,
            "/v3/credentials/{credential_id}",
            rule("identity:delete_credential"),
            delete,
        )
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let found = identity.list_credentials(&ctx, filters.clone()).await?;
    let rows = found.iter().map(|credential| credential.view(&ctx)).collect();
    let name = "credentials";
    Ok(wire::list(&ctx, "/credentials", name, &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let credential = identity.credential(&ctx, "identity:get_credential", &id).await?;
    Ok(Json(json!({"credential": credential.view(&ctx)})))
}

fn read(body: Value) -> Result<CredentialChange, Fault> {
    let mut fields = Fields::below("credential", body)?;
    let user_id = match fields.id::<UserId>("user_id")? {
        Patch::Set(id) => Some(id),
        Patch::Absent => None,
        Patch::Null => return Err(not_null("user_id")),
    };
    let blob = match fields.text("blob", BLOB)? {
        Patch::Set(text) => Some(Zeroizing::new(text)),
        Patch::Absent => None,
        Patch::Null => return Err(not_null("blob")),
    };
    let kind = fields.name("type", NAME_LONG)?;
    let project_id = fields.id::<ProjectId>("project_id")?;
    fields.ignore(&["id", "links"]);
    Ok(CredentialChange { user_id, project_id, kind, blob, extra: fields.extra()? })
}

fn not_null(field: &str) -> Fault {
    Fault::bad_request(format!("Invalid input for field '{field}': None is not of type 'string'"))
}

fn required(field: &str) -> Fault {
    Fault::bad_request(format!("'{field}' is a required property"))
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let CredentialChange { user_id, project_id, kind, blob, extra } = read(body)?;
    let mut project = None;
    project_id.apply(&mut project);
    let new = NewCredential {
        blob: blob.ok_or_else(|| required("blob"))?,
        kind: kind.ok_or_else(|| required("type"))?,
        user_id: user_id.ok_or_else(|| required("user_id"))?,
        project_id: project,
        extra,
    };
    let viewer = ctx.clone();
    let show = move |made: &Credential| Created::new(json!({"credential": made.view(&viewer)}));
    ctx.creating(show, async |ctx| identity.create_credential(&ctx, new).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    if let Some(named) = body.pointer("/credential/id")
        && *named != json!(id)
    {
        return Err(Fault::bad_request("Cannot change credential ID").into());
    }
    let credential = identity.update_credential(&ctx, &id, read(body)?).await?;
    Ok(Json(json!({"credential": credential.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_credential(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
