//! `/v3/OS-FEDERATION/mappings`.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::Value;
use service_kit::{ApiResult, Created, Ctx, Json, Method, Path, Routes, Service, StrictJson};

use super::model::{Mapping, Rules, SchemaVersion};
use crate::catalog::api::{add, common, creates, set, shown, updates};
use crate::fields::Fields;
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let one = "/v3/OS-FEDERATION/mappings/{mapping_id}";
    let routes = Routes::new(Service::Identity)
        .route(Method::PUT, one, creates::<Mapping>(), create)
        .route(Method::PATCH, one, updates::<Mapping>(), update);
    common::<Mapping>(routes)
}

/// The mapping of a request; a change names all of its rules, too.
fn read(id: String, body: Value) -> Result<Mapping, Fault> {
    let mut fields = Fields::below("mapping", body)?;
    let version = set(fields.text("schema_version", 5)?);
    let rules = fields
        .value("rules")
        .ok_or_else(|| Fault::bad_request("'rules' is a required property"))?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let version = SchemaVersion::parse(version.as_deref().unwrap_or("1.0"))?;
    Rules::parse(version, &rules)?;
    Ok(Mapping { id, version, rules })
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    wire::short_id("mapping", &id)?;
    let mapping = read(id, body)?;
    add(identity, ctx, mapping).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let wanted = read(id.clone(), body)?;
    let mapping = identity
        .edit_entry(&ctx, &id, move |mapping: &mut Mapping| {
            mapping.clone_from(&wanted);
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &mapping)))
}
