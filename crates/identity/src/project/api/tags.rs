//! `/v3/projects/{project_id}/tags`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Ctx, HeaderValue, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::{MAX_TAGS, check_tags};
use crate::fields::Fields;
use crate::{Identity, wire};

pub(super) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let (all, one) = ("/v3/projects/{project_id}/tags", "/v3/projects/{project_id}/tags/{value}");
    Routes::new(Service::Identity)
        .route(Method::GET, all, rule("identity:list_project_tags"), list)
        .route(Method::PUT, all, rule("identity:update_project_tags"), replace)
        .route(Method::DELETE, all, rule("identity:delete_project_tags"), clear)
        .route(Method::GET, one, rule("identity:get_project_tag"), check)
        .route(Method::PUT, one, rule("identity:create_project_tag"), add)
        .route(Method::DELETE, one, rule("identity:delete_project_tag"), remove)
}

fn shown(ctx: &Ctx, id: &str, tags: &[String]) -> Json<Value> {
    let link = format!("{}/tags", wire::self_link(ctx, "projects", id));
    Json(json!({"tags": tags, "links": {"self": link}}))
}

async fn list(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let wanted = wire::id("project", &id)?;
    let project = identity.project(&ctx, "identity:list_project_tags", &wanted).await?;
    Ok(shown(&ctx, &id, &project.tags))
}

async fn replace(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("body", json!({"body": body}))?;
    let tags =
        fields.texts("tags")?.ok_or_else(|| Fault::bad_request("'tags' is a required property"))?;
    fields.finish()?;
    check_tags(&tags)?;
    let wanted = wire::id("project", &id)?;
    let rule = "identity:update_project_tags";
    let project = identity.retag(&ctx, rule, &wanted, move |_| Ok(tags.clone())).await?;
    Ok(shown(&ctx, &id, &project.tags))
}

async fn clear(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let id = wire::id("project", &id)?;
    identity.retag(&ctx, "identity:delete_project_tags", &id, |_| Ok(Vec::new())).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_tag(tag: &str) -> Fault {
    wire::not_found("project tag", tag)
}

async fn check(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((id, tag)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let id = wire::id("project", &id)?;
    let project = identity.project(&ctx, "identity:get_project_tag", &id).await?;
    if !project.tags.contains(&tag) {
        return Err(no_tag(&tag).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn add(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((id, tag)): Path<(String, String)>,
) -> ApiResult<Response> {
    check_tags(std::slice::from_ref(&tag))?;
    let wanted = wire::id("project", &id)?;
    let link = format!("{}/tags/{tag}", wire::self_link(&ctx, "projects", &id));
    identity
        .retag(&ctx, "identity:create_project_tag", &wanted, move |tags| {
            let mut tags = tags.to_vec();
            if !tags.contains(&tag) {
                tags.push(tag.clone());
            }
            if tags.len() > MAX_TAGS {
                return Err(Fault::bad_request(format!(
                    "The project has {MAX_TAGS} tags already; no more are kept."
                )));
            }
            Ok(tags)
        })
        .await?;
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(value) = HeaderValue::from_str(&link) {
        response.headers_mut().insert("location", value);
    }
    Ok(response)
}

async fn remove(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((id, tag)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let id = wire::id("project", &id)?;
    identity
        .retag(&ctx, "identity:delete_project_tag", &id, move |tags| {
            if !tags.contains(&tag) {
                return Err(no_tag(&tag));
            }
            Ok(tags.iter().filter(|other| **other != tag).cloned().collect())
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
