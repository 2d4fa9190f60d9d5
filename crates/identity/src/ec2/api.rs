//! `/v3/users/{id}/credentials/OS-EC2`, `/v3/ec2tokens` and `/v3/s3tokens`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{ProjectId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::model::{SignedBody, view};
use super::service::Dialect;
use crate::credential::model::Credential;
use crate::token::api::set_subject;
use crate::{Identity, wire};

/// A key that is gone is 404 to everybody: so the rules about one are asked when it has been
/// looked up.
pub(crate) fn routes() -> Routes<Identity> {
    const ALL: &str = "/v3/users/{user_id}/credentials/OS-EC2";
    const ONE: &str = "/v3/users/{user_id}/credentials/OS-EC2/{credential_id}";
    let rule = Access::Rule;
    Routes::new(Service::Identity)
        .route(Method::GET, ALL, rule("identity:ec2_list_credentials"), list)
        .route(Method::POST, ALL, rule("identity:ec2_create_credential"), create)
        .route(Method::GET, ONE, Access::AfterLookup(&["identity:ec2_get_credential"]), show)
        .route(
            Method::DELETE,
            ONE,
            Access::AfterLookup(&["identity:ec2_delete_credential"]),
            delete,
        )
        .route(Method::POST, "/v3/ec2tokens", rule("identity:ec2tokens_validate"), ec2_token)
        .route(Method::POST, "/v3/s3tokens", rule("identity:s3tokens_validate"), s3_token)
}

async fn list(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(owner): Path<String>,
) -> ApiResult<Response> {
    let owner: UserId = wire::id("user", &owner)?;
    let keys = identity.ec2_keys(&ctx, &owner).await?;
    let rows = keys.iter().map(|key| view(&ctx, key)).collect::<Result<Vec<_>, _>>()?;
    let path = format!("/users/{owner}/credentials/OS-EC2");
    Ok(wire::whole_list(&ctx, &path, "credentials", &rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((_, access)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let key = identity.ec2_key(&ctx, &access).await?;
    Ok(Json(json!({"credential": view(&ctx, &key)?})))
}

#[derive(Deserialize)]
struct NewKey {
    tenant_id: String,
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(owner): Path<String>,
    StrictJson(body): StrictJson<NewKey>,
) -> ApiResult<Created> {
    let owner: UserId = wire::id("user", &owner)?;
    let project: ProjectId = wire::id("project", &body.tenant_id)?;
    let viewer = ctx.clone();
    let show = move |made: &Credential| {
        // A key that was made here can be read.
        Created::new(json!({"credential": view(&viewer, made).unwrap_or_default()}))
    };
    let make = async |ctx: Ctx| identity.create_ec2_key(&ctx, &owner, &project).await;
    ctx.creating(show, make).await
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((_, access)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.delete_ec2_key(&ctx, &access).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn ec2_token(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<SignedBody>,
) -> ApiResult<Response> {
    signed(&identity, &ctx, body, Dialect::Ec2).await
}

async fn s3_token(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<SignedBody>,
) -> ApiResult<Response> {
    signed(&identity, &ctx, body, Dialect::S3).await
}

/// The token itself goes only to who speaks EC2's dialect, as upstream does: what is in front of
/// S3 needs to know who it is, not to act for them.
async fn signed(
    identity: &Identity,
    ctx: &Ctx,
    body: SignedBody,
    dialect: Dialect,
) -> ApiResult<Response> {
    let issued = identity.token_for_signed(ctx, body.into_signed(), dialect).await?;
    let mut response = Json(issued.body).into_response();
    if dialect == Dialect::Ec2 {
        set_subject(&mut response, &issued.text)?;
    }
    Ok(response)
}
