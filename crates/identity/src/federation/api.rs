//! Federated logins: `/v3/OS-FEDERATION/…/auth`, `/v3/auth/OS-FEDERATION/…`, and the lists of what
//! a federated token may be scoped to.

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use service_kit::{
    Access, Answer, ApiResult, Ctx, Filters, HeaderMap, HeaderValue, Method, Path, Routes, Service,
    StatusCode, read_body,
};
use zeroize::Zeroizing;

use super::login::{Arrival, Departure};
use super::websso::{LOGIN_TIME, cookie_name};
use crate::Identity;
use crate::token::api::set_subject;

/// A form that a provider or browser sends.
const MAX_FORM: usize = 128 * 1024;

pub(crate) fn routes() -> Routes<Identity> {
    let public = Access::Public;
    let auth = "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/auth";
    let by_protocol = "/v3/auth/OS-FEDERATION/websso/{protocol_id}";
    let web = "/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/websso";
    let callback =
        "/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/callback";
    let logout = "/v3/auth/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/\
                  backchannel_logout";
    Routes::new(Service::Identity)
        .route(Method::GET, auth, public, log_in)
        .route(Method::POST, auth, public, log_in)
        .route(Method::GET, by_protocol, public, begin_by_protocol)
        .route(Method::POST, by_protocol, public, begin_by_protocol)
        .route(Method::GET, web, public, begin)
        .route(Method::POST, web, public, begin)
        .route(Method::GET, callback, public, finish)
        .route(Method::POST, logout, public, back_channel_logout)
}

/// The access token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<Zeroizing<String>, Fault> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    header
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Zeroizing::new(token.trim().to_owned()))
        .ok_or_else(|| {
            Fault::unauthorized(
                "This login needs an access token of the identity provider, sent as \
                 'Authorization: Bearer …'.",
            )
        })
}

async fn log_in(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, protocol)): Path<(String, String)>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let token = bearer(&headers)?;
    let issued = identity.log_in_with_access_token(&idp, &protocol, token, ctx.source_ip).await?;
    let mut response = Answer(StatusCode::CREATED, issued.body).into_response();
    set_subject(&mut response, &issued.text)?;
    Ok(response)
}

async fn begin_by_protocol(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(protocol): Path<String>,
    filters: Filters,
) -> ApiResult<Response> {
    let departure = identity.begin_web_login(&ctx, None, &protocol, filters.get("origin")).await?;
    Ok(depart(departure)?)
}

async fn begin(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, protocol)): Path<(String, String)>,
    filters: Filters,
) -> ApiResult<Response> {
    let origin = filters.get("origin");
    let departure = identity.begin_web_login(&ctx, Some(&idp), &protocol, origin).await?;
    Ok(depart(departure)?)
}

fn depart(departure: Departure) -> Result<Response, Fault> {
    let Departure { url, begun } = departure;
    let cookie = cookie(&begun.cookie_name, &begun.cookie_value, LOGIN_TIME.as_secs());
    let header = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| Fault::internal("The login could not be begun."))
    };
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(LOCATION, header(&url)?);
    let mut cookie = header(&cookie)?;
    cookie.set_sensitive(true);
    headers.insert(SET_COOKIE, cookie);
    keep_to_yourself(headers);
    Ok(response)
}

/// `SameSite=Lax`: it comes along when the provider sends the browser back, and with nothing that
/// another site's page sends by itself.
fn cookie(name: &str, value: &str, seconds: u64) -> String {
    format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}

fn keep_to_yourself(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

async fn finish(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, protocol)): Path<(String, String)>,
    filters: Filters,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let own = |name: &str| filters.get(name).map(str::to_owned);
    let state = own("state").unwrap_or_default();
    let name = cookie_name(&state);
    let arrival = Arrival {
        cookie: cookie_of(&headers, &name),
        code: own("code"),
        error: own("error"),
        issuer: own("iss"),
        state,
    };
    let page = identity.finish_web_login(&ctx, &idp, &protocol, arrival).await?;
    let mut response = page.html.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let header = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| Fault::internal("The login could not be finished."))
    };
    headers.insert(CONTENT_SECURITY_POLICY, header(&page.policy)?);
    headers.insert(SET_COOKIE, header(&cookie(&name, "", 0))?);
    keep_to_yourself(headers);
    Ok(response)
}

fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value.to_owned())
}

async fn back_channel_logout(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, protocol)): Path<(String, String)>,
    request: Request,
) -> ApiResult<Response> {
    let body = read_body(request.into_body(), MAX_FORM).await?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| Fault::bad_request("The form is not valid UTF-8."))?;
    let form = Filters::parse(text)?;
    let token = form
        .get("logout_token")
        .ok_or_else(|| Fault::bad_request("The form has no logout_token."))?;
    identity.back_channel_logout(&idp, &protocol, token, ctx.source_ip).await?;
    let mut response = StatusCode::OK.into_response();
    keep_to_yourself(response.headers_mut());
    Ok(response)
}
