//! `/v3/policies`, and `OS-ENDPOINT-POLICY` below them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Json, Method, Path, Routes, Service, StatusCode, StrictJson,
};

use super::model::{Follower, PolicyDocument};
use crate::catalog::api::{add, common, creates, new_id, shown, updates};
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::{Identity, wire};

/// Longest document; upstream's column holds as much.
const BLOB: usize = 65_535;

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let base = "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY";
    let endpoint = format!("{base}/endpoints/{{endpoint_id}}");
    let service = format!("{base}/services/{{service_id}}");
    let region = format!("{service}/regions/{{region_id}}");
    let routes = Routes::new(Service::Identity)
        .route(Method::POST, "/v3/policies", creates::<PolicyDocument>(), create)
        .route(Method::PATCH, "/v3/policies/{policy_id}", updates::<PolicyDocument>(), update)
        .route(
            Method::GET,
            &format!("{base}/endpoints"),
            rule("identity:list_endpoints_for_policy"),
            endpoints,
        )
        .route(
            Method::GET,
            "/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy",
            rule("identity:get_policy_for_endpoint"),
            policy_of_endpoint,
        );
    let routes = associations(
        routes,
        &endpoint,
        [
            "identity:create_policy_association_for_endpoint",
            "identity:check_policy_association_for_endpoint",
            "identity:delete_policy_association_for_endpoint",
        ],
        |path: &[String]| Follower::Endpoint(path[1].clone()),
    );
    let routes = associations(
        routes,
        &service,
        [
            "identity:create_policy_association_for_service",
            "identity:check_policy_association_for_service",
            "identity:delete_policy_association_for_service",
        ],
        |path: &[String]| Follower::Service(path[1].clone()),
    );
    let routes = associations(
        routes,
        &region,
        [
            "identity:create_policy_association_for_region_and_service",
            "identity:check_policy_association_for_region_and_service",
            "identity:delete_policy_association_for_region_and_service",
        ],
        |path: &[String]| Follower::ServiceInRegion {
            service: path[1].clone(),
            region: path[2].clone(),
        },
    );
    common::<PolicyDocument>(routes)
}

/// Making, asking for and ending an association; `follower` reads it from the path's parameters,
/// of which the first is the policy.
fn associations(
    routes: Routes<Identity>,
    path: &str,
    [create, check, delete]: [&'static str; 3],
    follower: fn(&[String]) -> Follower,
) -> Routes<Identity> {
    routes
        .route(
            Method::PUT,
            path,
            Access::Rule(create),
            move |State(identity): State<Identity>, ctx: Ctx, Path(ids): Path<Vec<String>>| async move {
                identity.associate_policy(&ctx, create, &ids[0], follower(&ids)).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
        .route(
            Method::GET,
            path,
            Access::Rule(check),
            move |State(identity): State<Identity>, ctx: Ctx, Path(ids): Path<Vec<String>>| async move {
                identity.check_association(&ctx, check, &ids[0], follower(&ids)).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
        .route(
            Method::DELETE,
            path,
            Access::Rule(delete),
            move |State(identity): State<Identity>, ctx: Ctx, Path(ids): Path<Vec<String>>| async move {
                identity.dissociate_policy(&ctx, delete, &ids[0], follower(&ids)).await?;
                ApiResult::Ok(StatusCode::NO_CONTENT)
            },
        )
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let mut fields = Fields::below("policy", body)?;
    let policy = PolicyDocument {
        id: new_id(),
        kind: fields.required_name("type", NAME_LONG)?,
        blob: fields.required_name("blob", BLOB)?,
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    add(identity, ctx, policy).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("policy", body)?;
    let kind = fields.name("type", NAME_LONG)?;
    let blob = match fields.text("blob", BLOB)? {
        Patch::Set(blob) => Some(blob),
        Patch::Null | Patch::Absent => None,
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let policy = identity
        .edit_entry(&ctx, &id, move |policy: &mut PolicyDocument| {
            if let Some(kind) = &kind {
                policy.kind.clone_from(kind);
            }
            if let Some(blob) = &blob {
                policy.blob.clone_from(blob);
            }
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &policy)))
}

async fn endpoints(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Response> {
    let found = identity.endpoints_for_policy(&ctx, &id).await?;
    let rows: Vec<Value> = found.iter().map(|endpoint| endpoint.view(&ctx)).collect();
    let path = format!("/policies/{id}/OS-ENDPOINT-POLICY/endpoints");
    Ok(wire::whole_list(&ctx, &path, "endpoints", &rows).into_response())
}

async fn policy_of_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let policy = identity.policy_for_endpoint(&ctx, &id).await?;
    Ok(Json(json!({"policy": policy.view(&ctx)})))
}
