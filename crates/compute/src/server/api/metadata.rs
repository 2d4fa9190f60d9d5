//! `/servers/{id}/metadata`.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{ApiResult, Ctx, Json, Path, StatusCode, StrictJson};

use super::super::service::MetadataChange;
use super::{parse_id, server_id};
use crate::Compute;
use crate::wire::Fields;

fn read(body: Value) -> Result<std::collections::BTreeMap<String, String>, Fault> {
    let mut root = Fields::root(body)?;
    let pairs = root.metadata("metadata")?;
    root.finish()?;
    pairs.ok_or_else(|| {
        Fault::bad_request(
            "Invalid input for field/attribute the body. 'metadata' is a required property",
        )
    })
}

pub async fn list(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
) -> ApiResult<Json<Value>> {
    let pairs = compute.metadata(&ctx, server_id(id)?).await?;
    Ok(Json(json!({"metadata": pairs})))
}

pub async fn replace(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = MetadataChange::Replace(read(body)?);
    let pairs = compute.change_metadata(&ctx, server_id(id)?, change).await?;
    Ok(Json(json!({"metadata": pairs})))
}

pub async fn merge(
    State(compute): State<Compute>,
    ctx: Ctx,
    id: Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = MetadataChange::Merge(read(body)?);
    let pairs = compute.change_metadata(&ctx, server_id(id)?, change).await?;
    Ok(Json(json!({"metadata": pairs})))
}

fn no_item() -> Fault {
    Fault::not_found("Metadata item was not found")
}

pub async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let pairs = compute.metadata(&ctx, parse_id(&id)?).await?;
    let value = pairs.get(&key).ok_or_else(no_item)?;
    Ok(Json(json!({"meta": {key: value}})))
}

pub async fn put(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut root = Fields::root(body)?;
    let pairs = root.metadata("meta")?.unwrap_or_default();
    root.finish()?;
    if pairs.len() != 1 {
        return Err(Fault::bad_request(
            "Invalid input for field/attribute meta. It holds one key and its value",
        )
        .into());
    }
    if !pairs.contains_key(&key) {
        return Err(Fault::bad_request("Request body and URI mismatch").into());
    }
    compute.change_metadata(&ctx, parse_id(&id)?, MetadataChange::Merge(pairs.clone())).await?;
    Ok(Json(json!({"meta": pairs})))
}

pub async fn delete(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    compute.change_metadata(&ctx, parse_id(&id)?, MetadataChange::Remove(key)).await?;
    Ok(StatusCode::NO_CONTENT)
}
