//! Routes of tags: `/v2.0/{collection}/{id}/tags` and one tag below it.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Ctx, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::model::{Tagged, check_tag, in_order, read_tags};
use crate::Network;

const ALL: &str = "/v2.0/{collection}/{id}/tags";
const ONE: &str = "/v2.0/{collection}/{id}/tags/{tag}";
const GET: Access = Access::Rule("network:tags:get");
const SET: Access = Access::Rule("network:tags:update");

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, ALL, GET, list)
        .route(Method::PUT, ALL, SET, replace)
        .route(Method::DELETE, ALL, SET, clear)
        .route(Method::GET, ONE, GET, has)
        .route(Method::PUT, ONE, SET, add)
        .route(Method::DELETE, ONE, SET, remove)
}

fn kind_of(collection: &str) -> Result<Tagged, Fault> {
    Tagged::from_collection(collection)
        .ok_or_else(|| Fault::not_found("The resource could not be found.").named("HTTPNotFound"))
}

fn tag_not_found(tag: &str) -> Fault {
    Fault::not_found(format!("Tag {tag} could not be found.")).named("TagNotFound")
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    Path((collection, id)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let tags = network.tags(&ctx, kind_of(&collection)?, &id).await?;
    Ok(Json(json!({ "tags": tags })))
}

async fn replace(
    State(network): State<Network>,
    ctx: Ctx,
    Path((collection, id)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let tags = read_tags(&body)?;
    let tags = network.set_tags(&ctx, kind_of(&collection)?, &id, tags).await?;
    Ok(Json(json!({ "tags": tags })))
}

async fn clear(
    State(network): State<Network>,
    ctx: Ctx,
    Path((collection, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    network.set_tags(&ctx, kind_of(&collection)?, &id, Vec::new()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn has(
    State(network): State<Network>,
    ctx: Ctx,
    Path((collection, id, tag)): Path<(String, String, String)>,
) -> ApiResult<StatusCode> {
    let tags = network.tags(&ctx, kind_of(&collection)?, &id).await?;
    if !tags.contains(&tag) {
        return Err(tag_not_found(&tag).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn add(
    State(network): State<Network>,
    ctx: Ctx,
    Path((collection, id, tag)): Path<(String, String, String)>,
) -> ApiResult<StatusCode> {
    check_tag(&tag)?;
    let kind = kind_of(&collection)?;
    let mut tags = network.tags(&ctx, kind, &id).await?;
    tags.push(tag);
    network.set_tags(&ctx, kind, &id, in_order(tags)?).await?;
    Ok(StatusCode::CREATED)
}

async fn remove(
    State(network): State<Network>,
    ctx: Ctx,
    Path((collection, id, tag)): Path<(String, String, String)>,
) -> ApiResult<StatusCode> {
    let kind = kind_of(&collection)?;
    let mut tags = network.tags(&ctx, kind, &id).await?;
    if !tags.contains(&tag) {
        return Err(tag_not_found(&tag).into());
    }
    tags.retain(|known| *known != tag);
    network.set_tags(&ctx, kind, &id, tags).await?;
    Ok(StatusCode::NO_CONTENT)
}
