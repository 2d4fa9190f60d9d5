//! `/v3/projects`.

mod tags;

use super::model::Project;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::service::ProjectChange;
use super::tree::Around;
use crate::fields::{Fields, NAME_SHORT, Patch};
use crate::wire::Shown;
use crate::{Identity, options, wire};

/// Upstream's limit on tags of one project.
const MAX_TAGS: usize = 80;

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    Routes::new(Service::Identity)
        .route(Method::GET, "/v3/projects", rule("identity:list_projects"), list)
        .route(Method::POST, "/v3/projects", rule("identity:create_project"), create)
        .route(Method::GET, "/v3/projects/{project_id}", rule("identity:get_project"), show)
        .route(Method::PATCH, "/v3/projects/{project_id}", rule("identity:update_project"), update)
        .route(Method::DELETE, "/v3/projects/{project_id}", rule("identity:delete_project"), delete)
        .route(
            Method::PATCH,
            "/v3/projects/{project_id}/cascade",
            rule("identity:update_project"),
            update_tree,
        )
        .route(
            Method::DELETE,
            "/v3/projects/{project_id}/cascade",
            rule("identity:delete_project"),
            delete_tree,
        )
        .merge(tags::routes())
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let projects = identity.list_projects(&ctx, filters.clone()).await?;
    let base = ctx.service_url();
    let rows = projects.iter().map(|what| Shown { what, base: Some(base.as_str()) }).collect();
    Ok(wire::list(&ctx, "/projects", "projects", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let id = wire::id("project", &id)?;
    let around = Around::read(&filters)?;
    let project = identity.project(&ctx, "identity:get_project", &id).await?;
    let mut view = project.view(&ctx);
    identity.add_tree(&ctx, &project, around, &mut view).await?;
    Ok(Json(json!({"project": view})))
}

/// Tags are short, unlike each other, and without what separates them in queries and paths.
fn check_tags(tags: &[String]) -> Result<(), Fault> {
    let odd = |tag: &String| tag.is_empty() || tag.contains(['/', ',']);
    let doubled = tags.iter().enumerate().any(|(at, tag)| tags[..at].contains(tag));
    if tags.len() > MAX_TAGS || doubled || tags.iter().any(odd) {
        return Err(Fault::bad_request(format!(
            "Invalid input for field 'tags': at most {MAX_TAGS}, no two the same, each of 1 to 255 \
             characters without ',' and '/'."
        )));
    }
    Ok(())
}

/// The tags of a project or domain.
pub(crate) fn read_tags(fields: &mut Fields) -> Result<Option<Vec<String>>, Fault> {
    let tags = fields.texts("tags")?;
    if let Some(tags) = &tags {
        check_tags(tags)?;
    }
    Ok(tags)
}

fn read(body: Value, new: bool) -> Result<ProjectChange, Fault> {
    let mut fields = Fields::below("project", body)?;
    let name = if new {
        Some(fields.required_name("name", NAME_SHORT)?)
    } else {
        fields.name("name", NAME_SHORT)?
    };
    let domain_id = match fields.id("domain_id")? {
        Patch::Set(id) => Some(id),
        Patch::Null | Patch::Absent => None,
    };
    let parent_id = match fields.text("parent_id", 64)? {
        Patch::Set(id) => Some(id),
        Patch::Null | Patch::Absent => None,
    };
    let is_domain = fields.flag("is_domain")?;
    let tags = read_tags(&mut fields)?;
    fields.ignore(&["id", "links"]);
    Ok(ProjectChange {
        name,
        domain_id,
        parent_id,
        is_domain,
        description: fields.description()?,
        enabled: fields.flag("enabled")?,
        tags,
        options: options::read(&mut fields)?,
        extra: fields.extra()?,
    })
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let wish = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |project: &Project| Created::new(json!({"project": project.view(&viewer)}));
    ctx.creating(show, async |ctx| identity.create_project(&ctx, wish).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let id = wire::id("project", &id)?;
    let project = identity.update_project(&ctx, &id, read(body, false)?).await?;
    Ok(Json(json!({"project": project.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_project(&ctx, &wire::id("project", &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Of a whole tree only `enabled` can be changed.
async fn update_tree(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let id = wire::id("project", &id)?;
    let mut fields = Fields::below("project", body)?;
    let enabled = fields
        .flag("enabled")?
        .ok_or_else(|| Fault::bad_request("'enabled' is a required property"))?;
    fields
        .finish()
        .map_err(|_| Fault::bad_request("Cascade update is only allowed for enabled attribute."))?;
    let project = identity.switch_tree(&ctx, &id, enabled).await?;
    Ok(Json(json!({"project": project.view(&ctx)})))
}

async fn delete_tree(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_tree(&ctx, &wire::id("project", &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
