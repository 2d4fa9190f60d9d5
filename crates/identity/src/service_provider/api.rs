//! `/v3/OS-FEDERATION/service_providers`.

use axum::extract::State;
use cloud_types::Fault;
use serde_json::Value;
use service_kit::{ApiResult, Created, Ctx, Json, Method, Path, Routes, Service, StrictJson};

use super::model::{RELAY_STATE_PREFIX, ServiceProvider};
use crate::catalog::api::{add, common, creates, set, shown, updates};
use crate::fields::{Fields, Patch};
use crate::{Identity, wire};

const URL: usize = 256;

pub(crate) fn routes() -> Routes<Identity> {
    let one = "/v3/OS-FEDERATION/service_providers/{service_provider_id}";
    let routes = Routes::new(Service::Identity)
        .route(Method::PUT, one, creates::<ServiceProvider>(), create)
        .route(Method::PATCH, one, updates::<ServiceProvider>(), update);
    common::<ServiceProvider>(routes)
}

fn web_address(name: &str, text: String) -> Result<String, Fault> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Ok(text);
    }
    Err(Fault::bad_request(format!(
        "Invalid input for field '{name}': it is not an http or https address."
    )))
}

/// The prefix that a request sets; null is upstream's default.
fn relay_state_prefix(fields: &mut Fields) -> Result<Option<String>, Fault> {
    Ok(match fields.text("relay_state_prefix", 256)? {
        Patch::Absent => None,
        Patch::Null => Some(RELAY_STATE_PREFIX.to_owned()),
        Patch::Set(text) => Some(text),
    })
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    wire::short_id("service provider", &id)?;
    let mut fields = Fields::below("service_provider", body)?;
    let provider = ServiceProvider {
        id,
        auth_url: web_address("auth_url", fields.required_name("auth_url", URL)?)?,
        sp_url: web_address("sp_url", fields.required_name("sp_url", URL)?)?,
        description: set(fields.text("description", 65_535)?),
        enabled: fields.flag("enabled")?.unwrap_or(false),
        relay_state_prefix: relay_state_prefix(&mut fields)?
            .unwrap_or_else(|| RELAY_STATE_PREFIX.to_owned()),
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    add(identity, ctx, provider).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("service_provider", body)?;
    let address = |fields: &mut Fields, name: &str| {
        fields.name(name, URL)?.map(|text| web_address(name, text)).transpose()
    };
    let auth_url = address(&mut fields, "auth_url")?;
    let sp_url = address(&mut fields, "sp_url")?;
    let description = fields.text("description", 65_535)?;
    let enabled = fields.flag("enabled")?;
    let prefix = relay_state_prefix(&mut fields)?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let provider = identity
        .edit_entry(&ctx, &id, move |provider: &mut ServiceProvider| {
            if let Some(url) = &auth_url {
                provider.auth_url.clone_from(url);
            }
            if let Some(url) = &sp_url {
                provider.sp_url.clone_from(url);
            }
            description.clone().apply(&mut provider.description);
            provider.enabled = enabled.unwrap_or(provider.enabled);
            if let Some(prefix) = &prefix {
                provider.relay_state_prefix.clone_from(prefix);
            }
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &provider)))
}
