//! `/v3/OS-EP-FILTER`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::model::{EndpointGroup, read_filters};
use super::store::Given;
use crate::catalog::api::{add, common, creates, new_id, set, shown, updates};
use crate::fields::{Fields, NAME_LONG};
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let base = "/v3/OS-EP-FILTER";
    let group = format!("{base}/endpoint_groups/{{endpoint_group_id}}");
    let group_in_project = format!("{group}/projects/{{project_id}}");
    let in_project = format!("{base}/projects/{{project_id}}/endpoints/{{endpoint_id}}");
    let routes = Routes::new(Service::Identity)
        .route(
            Method::POST,
            &format!("{base}/endpoint_groups"),
            creates::<EndpointGroup>(),
            create_group,
        )
        .route(Method::PATCH, &group, updates::<EndpointGroup>(), update_group)
        .route(
            Method::GET,
            &format!("{group}/endpoints"),
            rule("identity:list_endpoints_associated_with_endpoint_group"),
            endpoints_of_group,
        )
        .route(
            Method::GET,
            &format!("{group}/projects"),
            rule("identity:list_projects_associated_with_endpoint_group"),
            projects_of_group,
        )
        .route(
            Method::GET,
            &group_in_project,
            rule("identity:get_endpoint_group_in_project"),
            check_group,
        )
        .route(
            Method::PUT,
            &group_in_project,
            rule("identity:add_endpoint_group_to_project"),
            give_group,
        )
        .route(
            Method::DELETE,
            &group_in_project,
            rule("identity:remove_endpoint_group_from_project"),
            take_group,
        )
        .route(
            Method::GET,
            &format!("{base}/endpoints/{{endpoint_id}}/projects"),
            rule("identity:list_projects_for_endpoint"),
            projects_of_endpoint,
        )
        .route(
            Method::GET,
            &format!("{base}/projects/{{project_id}}/endpoints"),
            rule("identity:list_endpoints_for_project"),
            endpoints_of_project,
        )
        .route(
            Method::GET,
            &format!("{base}/projects/{{project_id}}/endpoint_groups"),
            rule("identity:list_endpoint_groups_for_project"),
            groups_of_project,
        )
        .route(Method::GET, &in_project, rule("identity:check_endpoint_in_project"), check_endpoint)
        .route(Method::PUT, &in_project, rule("identity:add_endpoint_to_project"), give_endpoint)
        .route(
            Method::DELETE,
            &in_project,
            rule("identity:remove_endpoint_from_project"),
            take_endpoint,
        );
    common::<EndpointGroup>(routes)
}

async fn create_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let mut fields = Fields::below("endpoint_group", body)?;
    let group = EndpointGroup {
        id: new_id(),
        name: fields.required_name("name", NAME_LONG)?,
        description: set(fields.text("description", 65_535)?),
        filters: read_filters(fields.object("filters")?.unwrap_or_default())?,
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    add(identity, ctx, group).await
}

async fn update_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("endpoint_group", body)?;
    let name = fields.name("name", NAME_LONG)?;
    let description = fields.text("description", 65_535)?;
    let filters = fields.object("filters")?.map(read_filters).transpose()?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let group = identity
        .edit_entry(&ctx, &id, move |group: &mut EndpointGroup| {
            if let Some(name) = &name {
                group.name.clone_from(name);
            }
            description.clone().apply(&mut group.description);
            if let Some(filters) = &filters {
                group.filters.clone_from(filters);
            }
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &group)))
}

async fn endpoints_of_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let found = identity.endpoints_of_group(&ctx, &id).await?;
    let rows: Vec<Value> = found.iter().map(|endpoint| endpoint.view(&ctx)).collect();
    let path = format!("/OS-EP-FILTER/endpoint_groups/{id}/endpoints");
    Ok(wire::whole_list(&ctx, &path, "endpoints", &rows).into_response())
}

async fn projects_of(
    identity: &Identity,
    ctx: &Ctx,
    rule: &str,
    given: Given,
    path: &str,
) -> Result<Response, Fault> {
    let found = identity.projects_given(ctx, rule, given).await?;
    let rows: Vec<Value> = found.iter().map(|project| project.view(ctx)).collect();
    Ok(wire::whole_list(ctx, path, "projects", &rows).into_response())
}

async fn projects_of_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let rule = "identity:list_projects_associated_with_endpoint_group";
    let path = format!("/OS-EP-FILTER/endpoint_groups/{id}/projects");
    Ok(projects_of(&identity, &ctx, rule, Given::Group(id), &path).await?)
}

async fn projects_of_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let rule = "identity:list_projects_for_endpoint";
    let path = format!("/OS-EP-FILTER/endpoints/{id}/projects");
    Ok(projects_of(&identity, &ctx, rule, Given::Endpoint(id), &path).await?)
}

async fn endpoints_of_project(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let found = identity.endpoints_of_project(&ctx, &id).await?;
    let rows: Vec<Value> = found.iter().map(|endpoint| endpoint.view(&ctx)).collect();
    let path = format!("/OS-EP-FILTER/projects/{id}/endpoints");
    Ok(wire::whole_list(&ctx, &path, "endpoints", &rows).into_response())
}

async fn groups_of_project(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let found = identity.endpoint_groups_of_project(&ctx, &id).await?;
    let rows: Vec<Value> = found.iter().map(|group| group.view(&ctx)).collect();
    let path = format!("/OS-EP-FILTER/projects/{id}/endpoint_groups");
    Ok(wire::whole_list(&ctx, &path, "endpoint_groups", &rows).into_response())
}

type Two = Path<(String, String)>;

async fn check_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, project)): Two,
) -> ApiResult<Json<Value>> {
    let rule = "identity:get_endpoint_group_in_project";
    identity.check_endpoints(&ctx, rule, &project, Given::Group(group.clone())).await?;
    let link =
        format!("{}/v3/OS-EP-FILTER/endpoint_groups/{group}/projects/{project}", ctx.service_url());
    Ok(Json(json!({"project_endpoint_group": {
        "endpoint_group_id": group,
        "project_id": project,
        "links": {"self": link},
    }})))
}

async fn give_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, project)): Two,
) -> ApiResult<StatusCode> {
    let rule = "identity:add_endpoint_group_to_project";
    identity.give_endpoints(&ctx, rule, &project, Given::Group(group)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_group(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((group, project)): Two,
) -> ApiResult<StatusCode> {
    let rule = "identity:remove_endpoint_group_from_project";
    identity.take_endpoints(&ctx, rule, &project, Given::Group(group)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((project, endpoint)): Two,
) -> ApiResult<StatusCode> {
    let rule = "identity:check_endpoint_in_project";
    identity.check_endpoints(&ctx, rule, &project, Given::Endpoint(endpoint)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn give_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((project, endpoint)): Two,
) -> ApiResult<StatusCode> {
    let rule = "identity:add_endpoint_to_project";
    identity.give_endpoints(&ctx, rule, &project, Given::Endpoint(endpoint)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((project, endpoint)): Two,
) -> ApiResult<StatusCode> {
    let rule = "identity:remove_endpoint_from_project";
    identity.take_endpoints(&ctx, rule, &project, Given::Endpoint(endpoint)).await?;
    Ok(StatusCode::NO_CONTENT)
}
