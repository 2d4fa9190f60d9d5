//! `/v3/OS-OAUTH1`, and `/v3/users/{user_id}/OS-OAUTH1`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, HeaderMap, HeaderValue, Json, Method, Path, Routes,
    Service, StatusCode, StrictJson,
};

use super::model::Consumer;
use super::service::{Signed, WantedRole};
use super::signature::Parameters;
use crate::catalog::api::{common, creates, set, shown, updates};
use crate::fields::Fields;
use crate::{Identity, wire};

/// The project that a consumer asks for.
const PROJECT: &str = "requested-project-id";

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let of_user = "/v3/users/{user_id}/OS-OAUTH1/access_tokens";
    let one = format!("{of_user}/{{access_token_id}}");
    let routes = Routes::new(Service::Identity)
        .route(Method::POST, "/v3/OS-OAUTH1/consumers", creates::<Consumer>(), create_consumer)
        .route(
            Method::PATCH,
            "/v3/OS-OAUTH1/consumers/{consumer_id}",
            updates::<Consumer>(),
            update_consumer,
        )
        // Signed by the consumer, who has no token.
        .route(Method::POST, "/v3/OS-OAUTH1/request_token", Access::Public, request_token)
        .route(Method::POST, "/v3/OS-OAUTH1/access_token", Access::Public, access_token)
        .route(
            Method::PUT,
            "/v3/OS-OAUTH1/authorize/{request_token_id}",
            rule("identity:authorize_request_token"),
            authorise,
        )
        .route(Method::GET, of_user, rule("identity:list_access_tokens"), list)
        .route(Method::GET, &one, rule("identity:get_access_token"), show)
        .route(Method::DELETE, &one, rule("identity:delete_access_token"), delete)
        .route(
            Method::GET,
            &format!("{one}/roles"),
            rule("identity:list_access_token_roles"),
            roles,
        )
        .route(
            Method::GET,
            &format!("{one}/roles/{{role_id}}"),
            rule("identity:get_access_token_role"),
            role,
        );
    common::<Consumer>(routes)
}

async fn create_consumer(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let mut fields = Fields::below("consumer", body)?;
    let description = set(fields.text("description", 65_535)?);
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let viewer = ctx.clone();
    let show = move |consumer: &Consumer| {
        let mut view = consumer.view(&viewer);
        view["secret"] = json!(consumer.made.as_ref().map(|secret| secret.as_str()));
        Created::new(json!({"consumer": view}))
    };
    ctx.creating(show, async |ctx| identity.create_consumer(&ctx, description).await).await
}

async fn update_consumer(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("consumer", body)?;
    let description = fields.text("description", 65_535)?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let consumer = identity
        .edit_entry(&ctx, &id, move |consumer: &mut Consumer| {
            description.clone().apply(&mut consumer.description);
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &consumer)))
}

/// How a request to this path was signed.
pub(crate) fn signed(
    ctx: &Ctx,
    path: &str,
    headers: &HeaderMap,
    query: Filters,
) -> Result<Signed, Fault> {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok());
    let url = format!("{}{path}", ctx.service_url());
    Ok(Signed { parameters: Parameters::read(header)?, url, query })
}

/// A token in the form of RFC 5849: `oauth_token=…&oauth_token_secret=…`.
fn form(id: &str, secret: &str, expires_at: Timestamp) -> Response {
    let text = format!(
        "oauth_token={id}&oauth_token_secret={secret}&oauth_expires_at={}",
        expires_at.rfc3339_micros()
    );
    let mut response = (StatusCode::CREATED, text).into_response();
    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
    response.headers_mut().insert("content-type", kind);
    response
}

async fn request_token(
    State(identity): State<Identity>,
    ctx: Ctx,
    query: Filters,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let signed = signed(&ctx, "/v3/OS-OAUTH1/request_token", &headers, query)?;
    let project = headers
        .get(PROJECT)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| {
            Fault::bad_request("Expecting to find Requested-Project-Id in the request's headers.")
        })?
        .to_owned();
    let token = identity.request_token(&ctx, signed, project).await?;
    Ok(form(&token.id, &token.secret, token.expires_at))
}

async fn access_token(
    State(identity): State<Identity>,
    ctx: Ctx,
    query: Filters,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let signed = signed(&ctx, "/v3/OS-OAUTH1/access_token", &headers, query)?;
    let token = identity.access_token(&ctx, signed).await?;
    let secret = token.made.as_ref().map_or("", |secret| secret.as_str());
    Ok(form(&token.id, secret, token.expires_at))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthoriseBody {
    roles: Vec<RolePart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RolePart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

async fn authorise(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<AuthoriseBody>,
) -> ApiResult<Json<Value>> {
    let roles: Result<Vec<WantedRole>, Fault> = body
        .roles
        .into_iter()
        .map(|role| match (role.id, role.name) {
            (Some(id), _) => Ok(WantedRole::Id(id)),
            (None, Some(name)) => Ok(WantedRole::Name(name)),
            (None, None) => Err(Fault::bad_request(
                "Invalid input for field 'roles': each needs an id or a name.",
            )),
        })
        .collect();
    let verifier = identity.authorise_request(&ctx, &id, roles?).await?;
    Ok(Json(json!({"token": {"oauth_verifier": verifier.as_str()}})))
}

async fn list(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(user): Path<String>,
) -> ApiResult<Response> {
    let found = identity.access_tokens(&ctx, &wire::id("user", &user)?).await?;
    let rows: Vec<Value> = found.iter().map(|token| token.view(&ctx)).collect();
    let path = format!("/users/{user}/OS-OAUTH1/access_tokens");
    Ok(wire::whole_list(&ctx, &path, "access_tokens", &rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((user, id)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let (user, rule) = (wire::id("user", &user)?, "identity:get_access_token");
    let token = identity.access_token_of(&ctx, rule, &user, &id).await?;
    Ok(Json(json!({"access_token": token.view(&ctx)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((user, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.delete_access_token(&ctx, &wire::id("user", &user)?, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn roles(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((user, id)): Path<(String, String)>,
) -> ApiResult<Response> {
    let (wanted, rule) = (wire::id("user", &user)?, "identity:list_access_token_roles");
    let found = identity.access_token_roles(&ctx, rule, &wanted, &id).await?;
    let rows: Vec<Value> = found.iter().map(|role| role.view(&ctx)).collect();
    let path = format!("/users/{user}/OS-OAUTH1/access_tokens/{id}/roles");
    Ok(wire::whole_list(&ctx, &path, "roles", &rows).into_response())
}

async fn role(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((user, id, role)): Path<(String, String, String)>,
) -> ApiResult<Json<Value>> {
    let (user, rule) = (wire::id("user", &user)?, "identity:get_access_token_role");
    let found = identity.access_token_roles(&ctx, rule, &user, &id).await?;
    match found.iter().find(|found| found.id.as_str() == role) {
        Some(role) => Ok(Json(json!({"role": role.view(&ctx)}))),
        None => Err(wire::not_found("role", role).into()),
    }
}
