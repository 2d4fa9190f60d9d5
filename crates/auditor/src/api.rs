//! `GET /meridian/v1/audit`: what audits have found; `POST`: audit now.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::policy::{PolicyRule, Target};
use service_kit::{Access, ApiResult, Ctx, Json, Method, Routes, Service};

use crate::audit::{SHOWN, stored};
use crate::worker::Auditor;

/// The rules of the auditor.
pub const POLICY: &[PolicyRule] = &[
    PolicyRule::new("meridian:audit:get", "rule:admin", "See what the auditor has found."),
    PolicyRule::new("meridian:audit:run", "rule:admin", "Have the auditor look now."),
];

/// The routes.
pub fn routes(auditor: Auditor) -> Routes {
    Routes::new(Service::Meridian)
        .route(Method::GET, "/v1/audit", Access::Rule("meridian:audit:get"), show)
        .route(Method::POST, "/v1/audit", Access::Rule("meridian:audit:run"), run)
        .with_state(auditor)
}

async fn show(State(auditor): State<Auditor>, ctx: Ctx) -> ApiResult<Json<Value>> {
    ctx.authorise("meridian:audit:get", &Target::none())?;
    let since = auditor.kit.clock.now().before(SHOWN);
    let findings = stored(&auditor.kit.db, since).await.map_err(Fault::from)?;
    Ok(Json(json!({ "findings": findings })))
}

async fn run(State(auditor): State<Auditor>, ctx: Ctx) -> ApiResult<Json<Value>> {
    ctx.authorise("meridian:audit:run", &Target::none())?;
    auditor.once().await.map_err(Fault::from)?;
    let since = auditor.kit.clock.now().before(SHOWN);
    let findings = stored(&auditor.kit.db, since).await.map_err(Fault::from)?;
    Ok(Json(json!({ "findings": findings })))
}
