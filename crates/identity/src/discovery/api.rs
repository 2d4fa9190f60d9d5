//! `GET /identity` and `GET /identity/v3`, and what is no more.

use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use cloud_types::{Fault, FaultKind};
use serde_json::{Value, json};
use service_kit::{Access, Answer, ApiResult, Ctx, Json, Method, Routes, Service, StatusCode};

use crate::Identity;

pub(crate) fn routes() -> Routes<Identity> {
    Routes::new(Service::Identity)
        .route(Method::GET, "", Access::Public, versions)
        .route(Method::GET, "/v3", Access::Public, version)
        .route(Method::GET, "/v3/OS-SIMPLE-CERT/ca", Access::Public, certificates)
        .route(Method::GET, "/v3/OS-SIMPLE-CERT/certificates", Access::Public, certificates)
}

/// What signed tokens before they were signed as they are now; upstream answers the same.
async fn certificates() -> ApiResult<StatusCode> {
    Err(Fault::new(
        FaultKind::Gone,
        "This API is no longer available due to the removal of support for PKI tokens.",
    )
    .into())
}

fn v3(ctx: &Ctx) -> Value {
    json!({
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/v3/", ctx.service_url())}],
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.identity-v3+json",
        }],
    })
}

/// 300: a choice, of one, which `Location` names.
async fn versions(ctx: Ctx) -> Response {
    let body = json!({"versions": {"values": [v3(&ctx)]}});
    let location = [(LOCATION, format!("{}/v3/", ctx.service_url()))];
    (location, Answer(StatusCode::MULTIPLE_CHOICES, body)).into_response()
}

async fn version(ctx: Ctx) -> Json<Value> {
    Json(json!({"version": v3(&ctx)}))
}
