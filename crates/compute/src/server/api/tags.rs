//! `/servers/{id}/tags` (2.26).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{ApiResult, Ctx, Json, Path, StatusCode, StrictJson};

use super::super::model::TagChange;
use super::{parse_id, server_id};
use crate::Compute;
use crate::links;

fn since_2_26(ctx: &Ctx) -> Result<(), Fault> {
    if ctx.at_least(2, 26) {
        Ok(())
    } else {
        Err(Fault::not_found("The resource could not be found."))
    }
}

pub async fn list(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    since_2_26(&ctx)?;
    Ok(Json(json!({"tags": compute.tags(&ctx, server_id(id)?).await?})))
}

pub async fn replace(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    since_2_26(&ctx)?;
    let (_, tags) = compute.change_tags(&ctx, server_id(id)?, TagChange::read(body)?).await?;
    Ok(Json(json!({"tags": tags})))
}

pub async fn clear(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<StatusCode> {
    since_2_26(&ctx)?;
    compute.change_tags(&ctx, server_id(id)?, TagChange::Clear).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn check(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, tag)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    since_2_26(&ctx)?;
    let id = parse_id(&id)?;
    if compute.tags(&ctx, id).await?.contains(&tag) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let tag: String = tag.chars().take(64).collect();
    Err(Fault::not_found(format!("Server {id} has no tag '{tag}'")).into())
}

pub async fn add(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, tag)): Path<(String, String)>,
) -> ApiResult<Response> {
    since_2_26(&ctx)?;
    let server = parse_id(&id)?;
    let tag = TagChange::check(&tag)?;
    let (new, _) = compute.change_tags(&ctx, server, TagChange::Add(tag.clone())).await?;
    if !new {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let tag = service_kit::percent_encode(&tag);
    let location = format!("{}/servers/{id}/tags/{tag}", links::base(&ctx));
    Ok((StatusCode::CREATED, [("location", location)]).into_response())
}

pub async fn remove(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, tag)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    since_2_26(&ctx)?;
    compute.change_tags(&ctx, parse_id(&id)?, TagChange::Remove(tag)).await?;
    Ok(StatusCode::NO_CONTENT)
}
