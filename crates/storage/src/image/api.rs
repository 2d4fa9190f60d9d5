//! Routes and wire shapes of Glance v2 (openstack/glance `api-ref/source/v2`).

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, FaultKind, ImageId, ProjectId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service_kit::{
    Access, Answer, ApiResult, Created, Ctx, Filters, Method, Path, RouteOptions, Routes, Service,
    StatusCode, StrictJson, page,
};

use super::model::Image;
use super::patch::Operation;
use super::schema;
use super::service::Images;
use super::store::Member;

/// Versions that are answered, newest first. Between them only optional features were added
/// that are announced elsewhere.
const VERSIONS: &[&str] = &["2.17", "2.9", "2.7", "2.6", "2.5", "2.4", "2.3", "2.2", "2.1", "2.0"];

/// The routes of the image service.
pub fn routes(images: Images) -> Routes {
    let read = Access::Rule("image:images:get");
    let write = Access::Rule("image:images:update");
    let (see, share) = (Access::Rule("image:members:get"), Access::Rule("image:members:update"));
    let switch = Access::Rule("image:images:deactivate");
    Routes::new(Service::Image)
        .route(Method::GET, "", Access::Public, choices)
        .route(Method::GET, "/versions", Access::Public, versions)
        .route(Method::GET, "/v2", Access::Public, versions)
        .route(Method::GET, "/v2/images", read, list)
        .route(Method::POST, "/v2/images", Access::Rule("image:images:create"), create)
        .route(Method::GET, "/v2/images/{id}", read, show)
        .route(Method::PATCH, "/v2/images/{id}", write, update)
        .route(Method::DELETE, "/v2/images/{id}", Access::Rule("image:images:delete"), delete)
        .route_with(
            Method::PUT,
            "/v2/images/{id}/file",
            Access::Rule("image:images:upload"),
            RouteOptions::STREAMING,
            upload,
        )
        .route_with(Method::GET, "/v2/images/{id}/file", read, RouteOptions::STREAMING, download)
        .route(Method::POST, "/v2/images/{id}/actions/deactivate", switch, deactivate)
        .route(Method::POST, "/v2/images/{id}/actions/reactivate", switch, reactivate)
        .route(Method::PUT, "/v2/images/{id}/tags/{tag}", write, add_tag)
        .route(Method::DELETE, "/v2/images/{id}/tags/{tag}", write, remove_tag)
        .route(Method::GET, "/v2/images/{id}/members", see, list_members)
        .route(Method::POST, "/v2/images/{id}/members", share, add_member)
        .route(Method::GET, "/v2/images/{id}/members/{member}", see, show_member)
        .route(Method::PUT, "/v2/images/{id}/members/{member}", share, answer_member)
        .route(Method::DELETE, "/v2/images/{id}/members/{member}", share, remove_member)
        .route(Method::GET, "/v2/schemas/{name}", Access::Rule("image:schemas:get"), show_schema)
        .route(Method::GET, "/v2/info/import", Access::Rule("image:usage:get"), import_methods)
        .route(Method::GET, "/v2/info/usage", Access::Rule("image:usage:get"), usage)
        .with_state(images)
}

fn version_list(ctx: &Ctx) -> Value {
    let versions: Vec<Value> = VERSIONS
        .iter()
        .enumerate()
        .map(|(place, version)| {
            json!({
                "id": format!("v{version}"),
                "status": if place == 0 { "CURRENT" } else { "SUPPORTED" },
                "links": [{"rel": "self", "href": format!("{}/v2/", ctx.service_url())}],
            })
        })
        .collect();
    json!({"versions": versions})
}

async fn choices(ctx: Ctx) -> Answer<Value> {
    Answer(StatusCode::MULTIPLE_CHOICES, version_list(&ctx))
}

async fn versions(ctx: Ctx) -> Answer<Value> {
    Answer(StatusCode::OK, version_list(&ctx))
}

/// An image as Glance shows it: custom properties stand beside the attributes.
fn view(image: &Image) -> Value {
    let mut body: Map<String, Value> =
        image.properties.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let id = image.id;
    let attributes = json!({
        "id": id,
        "name": image.name,
        "status": image.status.as_str(),
        "visibility": image.visibility.as_str(),
        "disk_format": image.disk_format.map(|format| format.as_str()),
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "checksum": image.checksum,
        "os_hash_algo": image.sha512.as_ref().map(|_| "sha512"),
        "os_hash_value": image.sha512,
        "os_hidden": image.hidden,
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "protected": image.protected,
        "owner": image.owner,
        "tags": image.tags,
        "created_at": image.created_at.rfc3339_seconds(),
        "updated_at": image.updated_at.rfc3339_seconds(),
        "self": format!("/v2/images/{id}"),
        "file": format!("/v2/images/{id}/file"),
        "schema": "/v2/schemas/image",
    });
    if let Value::Object(attributes) = attributes {
        body.extend(attributes);
    }
    Value::Object(body)
}

async fn list(
    State(images): State<Images>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Answer<Value>> {
    let (found, next) = images.list(&ctx, &filters).await?;
    let mut body = json!({
        "images": found.iter().map(view).collect::<Vec<_>>(),
        "schema": "/v2/schemas/images",
        "first": first_page(&filters),
    });
    if let Some(next) = next {
        body["next"] = page::with_marker("/v2/images", &filters, &next.to_string(), false).into();
    }
    Ok(Answer(StatusCode::OK, body))
}

fn first_page(filters: &Filters) -> String {
    let query: Vec<String> = filters
        .0
        .iter()
        .filter(|(key, _)| key != "marker")
        .map(|(key, value)| {
            format!("{}={}", service_kit::percent_encode(key), service_kit::percent_encode(value))
        })
        .collect();
    if query.is_empty() { "/v2/images".into() } else { format!("/v2/images?{}", query.join("&")) }
}

async fn create(
    State(images): State<Images>,
    ctx: Ctx,
    StrictJson(attributes): StrictJson<Map<String, Value>>,
) -> ApiResult<Created> {
    let base = ctx.service_url();
    let show =
        move |image: &Image| Created::new(view(image)).at(format!("{base}/v2/images/{}", image.id));
    ctx.creating(show, async |ctx| images.create(&ctx, attributes).await).await
}

async fn show(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
) -> ApiResult<Answer<Value>> {
    Ok(Answer(StatusCode::OK, view(&images.get(&ctx, id).await?)))
}

/// Clients name the dialect of the patch in the media type; one dialect is spoken.
async fn update(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
    request: axum::extract::Request,
) -> ApiResult<Answer<Value>> {
    const DIALECT: &str = "application/openstack-images-v2.1-json-patch";
    let media = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    if media.is_none_or(|media| media.split(';').next().unwrap_or_default().trim() != DIALECT) {
        return Err(Fault::new(
            FaultKind::UnsupportedMediaType,
            format!("The Content-Type of a change has to be {DIALECT}."),
        )
        .into());
    }
    let limit = service_kit::BodyLimit::DEFAULT_BYTES;
    let body = service_kit::read_body(request.into_body(), limit).await?;
    let operations: Vec<Operation> = service_kit::from_slice(&body)?;
    Ok(Answer(StatusCode::OK, view(&images.update(&ctx, id, operations).await?)))
}

async fn delete(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
) -> ApiResult<StatusCode> {
    images.delete(&ctx, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn upload(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
    request: axum::extract::Request,
) -> ApiResult<StatusCode> {
    let media = request.headers().get("content-type").and_then(|value| value.to_str().ok());
    if media != Some("application/octet-stream") {
        return Err(Fault::new(
            FaultKind::UnsupportedMediaType,
            "The Content-Type of an image's file has to be application/octet-stream.",
        )
        .into());
    }
    images.upload(&ctx, id, request.into_body().into_data_stream()).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn download(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
) -> ApiResult<Response> {
    let Some((image, file)) = images.download(&ctx, id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut response = Body::from_stream(file.stream).into_response();
    let headers = response.headers_mut();
    let mut put = |name: &'static str, text: String| {
        if let Ok(value) = service_kit::HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    put("content-type", "application/octet-stream".to_owned());
    put("content-length", file.size_bytes.to_string());
    if let Some(checksum) = image.checksum {
        put("content-md5", checksum);
    }
    Ok(response)
}

async fn deactivate(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
) -> ApiResult<StatusCode> {
    images.set_active(&ctx, id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reactivate(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
) -> ApiResult<StatusCode> {
    images.set_active(&ctx, id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn add_tag(
    State(images): State<Images>,
    ctx: Ctx,
    Path((id, tag)): Path<(ImageId, String)>,
) -> ApiResult<StatusCode> {
    images.set_tag(&ctx, id, tag, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_tag(
    State(images): State<Images>,
    ctx: Ctx,
    Path((id, tag)): Path<(ImageId, String)>,
) -> ApiResult<StatusCode> {
    images.set_tag(&ctx, id, tag, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view_member(member: &Member) -> Value {
    json!({
        "image_id": member.image,
        "member_id": member.member,
        "status": member.status,
        "created_at": member.created_at.rfc3339_seconds(),
        "updated_at": member.updated_at.rfc3339_seconds(),
        "schema": "/v2/schemas/member",
    })
}

async fn list_members(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
) -> ApiResult<Answer<Value>> {
    let members = images.members(&ctx, id).await?;
    let members: Vec<Value> = members.iter().map(view_member).collect();
    Ok(Answer(StatusCode::OK, json!({"members": members, "schema": "/v2/schemas/members"})))
}

async fn show_member(
    State(images): State<Images>,
    ctx: Ctx,
    Path((id, member)): Path<(ImageId, ProjectId)>,
) -> ApiResult<Answer<Value>> {
    let members = images.members(&ctx, id).await?;
    let found = members.iter().find(|known| known.member == member).ok_or_else(|| {
        Fault::not_found(format!("{member} not found in the member list of the image {id}."))
    })?;
    Ok(Answer(StatusCode::OK, view_member(found)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewMember {
    member: ProjectId,
}

async fn add_member(
    State(images): State<Images>,
    ctx: Ctx,
    Path(id): Path<ImageId>,
    StrictJson(body): StrictJson<NewMember>,
) -> ApiResult<Created> {
    let show = |member: &Option<Member>| {
        Created::with_status(StatusCode::OK, member.as_ref().map_or(Value::Null, view_member))
    };
    ctx.creating(show, async |ctx| images.set_member(&ctx, id, body.member, true).await).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberStatus {
    status: String,
}

async fn answer_member(
    State(images): State<Images>,
    ctx: Ctx,
    Path((id, member)): Path<(ImageId, ProjectId)>,
    StrictJson(body): StrictJson<MemberStatus>,
) -> ApiResult<Answer<Value>> {
    let member = images.answer_member(&ctx, id, member, body.status).await?;
    Ok(Answer(StatusCode::OK, view_member(&member)))
}

async fn remove_member(
    State(images): State<Images>,
    ctx: Ctx,
    Path((id, member)): Path<(ImageId, ProjectId)>,
) -> ApiResult<StatusCode> {
    images.set_member(&ctx, id, member, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_schema(Path(name): Path<String>) -> ApiResult<Answer<Value>> {
    let found = schema::schema(&name)
        .ok_or_else(|| Fault::not_found(format!("There is no schema named {name}.")))?;
    Ok(Answer(StatusCode::OK, found))
}

/// There are none: an image's file is uploaded.
async fn import_methods() -> Answer<Value> {
    let methods = json!({"description": "Import methods available.", "type": "array", "value": []});
    Answer(StatusCode::OK, json!({ "import-methods": methods }))
}

async fn usage(State(images): State<Images>, ctx: Ctx) -> ApiResult<Answer<Value>> {
    let standing: Map<String, Value> = images
        .usage(&ctx)
        .await?
        .into_iter()
        .map(|usage| (usage.resource, json!({"limit": usage.limit, "usage": usage.in_use})))
        .collect();
    Ok(Answer(StatusCode::OK, json!({ "usage": standing })))
}
