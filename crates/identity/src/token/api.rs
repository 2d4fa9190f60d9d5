//! `/v3/auth/tokens` and what a token may ask about itself.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::json;
use service_kit::{
    Access, Answer, ApiResult, Ctx, Filters, HeaderMap, HeaderName, HeaderValue, Json, Method,
    Routes, Service, StatusCode, StrictJson,
};

use super::model::AuthBody;
use super::service::{Answered, Described};
use crate::{Identity, catalog, oauth1, wire};

/// The token that a request is about.
const SUBJECT: &str = "x-subject-token";
/// What was proven so far, where more is asked.
const RECEIPT: &str = "openstack-auth-receipt";

pub(crate) fn routes() -> Routes<Identity> {
    Routes::new(Service::Identity)
        .route(Method::POST, "/v3/auth/tokens", Access::Public, issue)
        .route(Method::GET, "/v3/auth/tokens", Access::Token, validate)
        .route(Method::DELETE, "/v3/auth/tokens", Access::Token, revoke)
        .route(Method::GET, "/v3/auth/tokens/OS-PKI/revoked", Access::Public, revoked)
        .route(Method::GET, "/v3/auth/catalog", Access::Token, show_catalog)
        .route(Method::GET, "/v3/auth/projects", Access::Token, projects)
        .route(Method::GET, "/v3/auth/domains", Access::Token, domains)
        .route(Method::GET, "/v3/auth/system", Access::Token, system)
        .route(Method::GET, "/v3/OS-FEDERATION/projects", Access::Token, projects)
        .route(Method::GET, "/v3/OS-FEDERATION/domains", Access::Token, domains)
}

async fn issue(
    State(identity): State<Identity>,
    ctx: Ctx,
    filters: Filters,
    headers: HeaderMap,
    StrictJson(body): StrictJson<AuthBody>,
) -> ApiResult<Response> {
    let with_catalog = !filters.has("nocatalog");
    let receipt = headers.get(RECEIPT).map(|value| value.to_str().unwrap_or("").to_owned());
    let mut login = body.into_login()?;
    if login.is_by_oauth() {
        login = login.signed_as(&oauth1::api::signed(&ctx, "/v3/auth/tokens", &headers, filters)?);
    }
    let (status, header, issued) =
        match identity.issue(login, with_catalog, ctx.source_ip, receipt).await? {
            Answered::Token(issued) => (StatusCode::CREATED, SUBJECT, issued),
            Answered::Receipt(issued) => (StatusCode::UNAUTHORIZED, RECEIPT, issued),
        };
    let mut response = Answer(status, issued.body).into_response();
    set_secret(&mut response, header, &issued.text)?;
    Ok(response)
}

pub(crate) fn set_subject(response: &mut Response, token: &str) -> Result<(), Fault> {
    set_secret(response, SUBJECT, token)
}

fn set_secret(response: &mut Response, header: &'static str, secret: &str) -> Result<(), Fault> {
    let mut value = HeaderValue::from_str(secret)
        .map_err(|_| Fault::internal("The token could not be written."))?;
    // Keeps it out of HTTP/2's compression table and of debug output.
    value.set_sensitive(true);
    response.headers_mut().insert(HeaderName::from_static(header), value);
    Ok(())
}

fn subject(headers: &HeaderMap) -> Result<&str, Fault> {
    headers
        .get(SUBJECT)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Fault::not_found("No token in the request: X-Subject-Token names it."))
}

/// The version of access rules that whoever asks about a token checks.
const ACCESS_RULES: &str = "openstack-identity-access-rules";

/// `HEAD` comes here too: its body is dropped on the way out.
async fn validate(
    State(identity): State<Identity>,
    ctx: Ctx,
    method: Method,
    filters: Filters,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let token = subject(&headers)?;
    let version = headers.get(ACCESS_RULES).and_then(|value| value.to_str().ok());
    let wanted = Described {
        token,
        with_catalog: !filters.has("nocatalog"),
        only_checks: method == Method::HEAD,
        allow_expired: filters.flag("allow_expired")?.unwrap_or(false),
        knows_access_rules: version
            .and_then(|text| text.trim().parse::<f64>().ok())
            .is_some_and(|version| version >= 1.0),
    };
    let body = identity.describe(&ctx, wanted).await?;
    let json = HeaderValue::from_static("application/json");
    let mut response = ([(CONTENT_TYPE, json)], body).into_response();
    set_subject(&mut response, token)?;
    Ok(response)
}

/// Upstream keeps no list of revoked tokens either, and says so like this.
async fn revoked() -> ApiResult<Response> {
    Err(Fault::forbidden("You are not authorized to perform the requested action.").into())
}

async fn revoke(
    State(identity): State<Identity>,
    ctx: Ctx,
    headers: HeaderMap,
) -> ApiResult<StatusCode> {
    identity.revoke(&ctx, subject(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show_catalog(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Response> {
    let project = ctx.token()?.project.as_ref().map(|project| project.id.clone());
    if project.is_none() {
        return Err(Fault::forbidden(
            "A project-scoped token is required to produce a service catalog.",
        )
        .into());
    }
    let catalog = identity
        .look(move |tx| {
            let project = project.clone();
            Box::pin(async move { catalog::service::for_token(tx, project.as_ref()).await })
        })
        .await?;
    let url = format!("{}/v3/auth/catalog", ctx.service_url());
    Ok(Json(json!({"catalog": catalog, "links": {"self": url}})).into_response())
}

async fn projects(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Response> {
    let user = ctx.user()?;
    let rows = identity.projects_of(&ctx, &user, true).await?;
    Ok(wire::whole_list(&ctx, "/auth/projects", "projects", &rows).into_response())
}

async fn domains(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Response> {
    let rows = identity.own_domains(&ctx).await?;
    Ok(wire::whole_list(&ctx, "/auth/domains", "domains", &rows).into_response())
}

async fn system(State(identity): State<Identity>, ctx: Ctx) -> ApiResult<Response> {
    let has = identity.has_system_roles(&ctx).await?;
    let system = if has { json!([{"all": true}]) } else { json!([]) };
    let url = format!("{}/v3/auth/system", ctx.service_url());
    Ok(Json(json!({"system": system, "links": {"self": url}})).into_response())
}
