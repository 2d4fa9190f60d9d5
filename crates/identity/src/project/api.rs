//! `/v3/projects`.

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
use crate::fields::{Fields, NAME_SHORT, Patch};
use crate::{Identity, wire};

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
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    // Clients ask for projects that act as domains; here domains are not projects.
    let projects = if filters.flag("is_domain")? == Some(true) {
        Vec::new()
    } else {
        identity.list_projects(&ctx, filters.clone()).await?
    };
    let rows = projects.iter().map(|project| project.view(&ctx)).collect();
    Ok(wire::list(&ctx, "/projects", "projects", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let id = wire::id("project", &id)?;
    let project = identity.project(&ctx, "identity:get_project", &id).await?;
    Ok(Json(json!({"project": project.view(&ctx)})))
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
    if fields.flag("is_domain")? == Some(true) {
        return Err(Fault::bad_request(
            "Projects do not act as domains here. Create a domain instead.",
        ));
    }
    let tags = fields.texts("tags")?;
    if let Some(tags) = &tags {
        let odd = |tag: &String| tag.is_empty() || tag.contains(['/', ',']);
        if tags.len() > MAX_TAGS || tags.iter().any(odd) {
            return Err(Fault::bad_request(format!(
                "Invalid input for field 'tags': at most {MAX_TAGS}, each without ',' and '/'."
            )));
        }
    }
    fields.ignore(&["id", "links"]);
    Ok(ProjectChange {
        name,
        domain_id,
        parent_id,
        description: fields.description()?,
        enabled: fields.flag("enabled")?,
        tags,
        options: fields.object("options")?,
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
