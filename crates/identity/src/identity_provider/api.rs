//! `/v3/OS-FEDERATION/identity_providers` and what is below it.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};
use zeroize::Zeroizing;

use super::model::{AccessTokenCheck, IdentityProvider, OpenidClient, Protocol};
use super::service::{NewSecret, ProtocolChange, ProviderChange, no_client};
use crate::fields::{Fields, Patch};
use crate::{Identity, wire};

const COLLECTION: &str = "OS-FEDERATION/identity_providers";
/// Upstream's column.
const REMOTE_ID: usize = 255;
const PEM: usize = 65_535;

pub(crate) fn routes() -> Routes<Identity> {
    let rule = Access::Rule;
    let all = "/v3/OS-FEDERATION/identity_providers";
    let one = "/v3/OS-FEDERATION/identity_providers/{idp_id}";
    let protocols = "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols";
    let protocol = "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}";
    let client =
        "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/openid_client";
    Routes::new(Service::Identity)
        .route(Method::GET, all, rule("identity:list_identity_providers"), list)
        .route(Method::PUT, one, rule("identity:create_identity_provider"), create)
        .route(Method::GET, one, rule("identity:get_identity_provider"), show)
        .route(Method::PATCH, one, rule("identity:update_identity_provider"), update)
        .route(Method::DELETE, one, rule("identity:delete_identity_provider"), delete)
        .route(Method::GET, protocols, rule("identity:list_protocols"), list_protocols)
        .route(Method::PUT, protocol, rule("identity:create_protocol"), create_protocol)
        .route(Method::GET, protocol, rule("identity:get_protocol"), show_protocol)
        .route(Method::PATCH, protocol, rule("identity:update_protocol"), update_protocol)
        .route(Method::DELETE, protocol, rule("identity:delete_protocol"), delete_protocol)
        .route(Method::PUT, client, rule("identity:update_protocol"), put_client)
        .route(Method::GET, client, rule("identity:get_protocol"), show_client)
        .route(Method::DELETE, client, rule("identity:update_protocol"), delete_client)
}

fn view(ctx: &Ctx, provider: &IdentityProvider) -> Value {
    let own = wire::self_link(ctx, COLLECTION, &provider.id);
    let mut view = provider.public();
    view["links"] = json!({"self": own, "protocols": format!("{own}/protocols")});
    view
}

async fn list(State(identity): State<Identity>, ctx: Ctx, filters: Filters) -> ApiResult<Response> {
    let page = wire::page_request(&filters)?;
    let found = identity.list_identity_providers(&ctx, filters.clone()).await?;
    let rows = found.iter().map(|provider| view(&ctx, provider)).collect();
    let path = format!("/{COLLECTION}");
    Ok(wire::list(&ctx, &path, "identity_providers", &filters, &page, rows).into_response())
}

async fn show(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let provider = identity.identity_provider(&ctx, &id).await?;
    Ok(Json(json!({"identity_provider": view(&ctx, &provider)})))
}

fn optional<T>(patch: Patch<T>) -> Option<Option<T>> {
    match patch {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Set(value) => Some(Some(value)),
    }
}

fn read(body: Value, new: bool) -> Result<ProviderChange, Fault> {
    let mut fields = Fields::below("identity_provider", body)?;
    let domain_id = match fields.id("domain_id")? {
        Patch::Set(id) => Some(id),
        Patch::Null | Patch::Absent => None,
    };
    if domain_id.is_some() && !new {
        return Err(Fault::bad_request(
            "Additional properties are not allowed ('domain_id' was unexpected): the domain of an \
             identity provider stays as it is.",
        ));
    }
    let mut remote_ids = fields.texts("remote_ids")?;
    if let Some(ids) = &mut remote_ids {
        let given = ids.len();
        ids.sort();
        ids.dedup();
        if ids.len() != given {
            return Err(Fault::bad_request(
                "Invalid input for field 'remote_ids': it has non-unique elements.",
            ));
        }
    }
    let change = ProviderChange {
        domain_id,
        enabled: fields.flag("enabled")?,
        description: optional(fields.text("description", 65_535)?),
        authorization_ttl: optional(fields.count("authorization_ttl")?),
        remote_ids,
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    Ok(change)
}

async fn create(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    wire::short_id("identity provider", &id)?;
    let change = read(body, true)?;
    let viewer = ctx.clone();
    let show = move |made: &IdentityProvider| {
        Created::new(json!({"identity_provider": view(&viewer, made)}))
    };
    ctx.creating(show, async |ctx| identity.create_identity_provider(&ctx, &id, change).await).await
}

async fn update(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = read(body, false)?;
    let provider = identity.update_identity_provider(&ctx, &id, change).await?;
    Ok(Json(json!({"identity_provider": view(&ctx, &provider)})))
}

async fn delete(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_identity_provider(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn protocol_view(ctx: &Ctx, protocol: &Protocol) -> Value {
    let above = wire::self_link(ctx, COLLECTION, &protocol.idp_id);
    json!({
        "id": protocol.id,
        "mapping_id": protocol.mapping_id,
        "remote_id_attribute": protocol.remote_id_attribute,
        "links": {"self": format!("{above}/protocols/{}", protocol.id),
                  "identity_provider": above},
    })
}

async fn list_protocols(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(idp): Path<String>,
) -> ApiResult<Response> {
    let found = identity.list_protocols(&ctx, &idp).await?;
    let rows: Vec<Value> = found
        .iter()
        .map(|protocol| {
            let mut view = protocol_view(&ctx, protocol);
            view["idp_id"] = json!(protocol.idp_id);
            view
        })
        .collect();
    let path = format!("/{COLLECTION}/{idp}/protocols");
    Ok(wire::whole_list(&ctx, &path, "protocols", &rows).into_response())
}

async fn show_protocol(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let protocol = identity.protocol(&ctx, &idp, &id).await?;
    Ok(Json(json!({"protocol": protocol_view(&ctx, &protocol)})))
}

fn read_protocol(body: Value) -> Result<ProtocolChange, Fault> {
    let mut fields = Fields::below("protocol", body)?;
    let change = ProtocolChange {
        mapping_id: Some(fields.required_name("mapping_id", 64)?),
        remote_id_attribute: fields.text("remote_id_attribute", 64)?,
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    Ok(change)
}

async fn create_protocol(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    wire::short_id("protocol", &id)?;
    let change = read_protocol(body)?;
    let viewer = ctx.clone();
    let show =
        move |made: &Protocol| Created::new(json!({"protocol": protocol_view(&viewer, made)}));
    ctx.creating(show, async |ctx| identity.create_protocol(&ctx, &idp, &id, change).await).await
}

async fn update_protocol(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let change = read_protocol(body)?;
    let protocol = identity.update_protocol(&ctx, &idp, &id, change).await?;
    Ok(Json(json!({"protocol": protocol_view(&ctx, &protocol)})))
}

async fn delete_protocol(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.delete_protocol(&ctx, &idp, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn client_view(ctx: &Ctx, protocol: &Protocol) -> Result<Value, Fault> {
    let client = protocol.client.as_ref().ok_or_else(|| no_client(&protocol.id))?;
    let mut view = client.public();
    let above = wire::self_link(ctx, COLLECTION, &protocol.idp_id);
    let own = format!("{above}/protocols/{}/openid_client", protocol.id);
    view["links"] = json!({"self": own});
    // What has to be registered with the provider.
    let base = format!(
        "{}/v3/auth/OS-FEDERATION/identity_providers/{}/protocols/{}",
        ctx.service_url(),
        protocol.idp_id,
        protocol.id
    );
    view["redirect_uri"] = json!(format!("{base}/callback"));
    view["backchannel_logout_uri"] = json!(format!("{base}/backchannel_logout"));
    Ok(json!({"openid_client": view}))
}

fn read_client(body: Value) -> Result<(OpenidClient, NewSecret), Fault> {
    let mut fields = Fields::below("openid_client", body)?;
    let secret = match fields.text("client_secret", 4096)? {
        Patch::Set(text) => Patch::Set(Zeroizing::new(text)),
        Patch::Null => Patch::Null,
        Patch::Absent => Patch::Absent,
    };
    let ca_certificate = match fields.text("ca_certificate", PEM)? {
        Patch::Set(pem) => Some(pem),
        Patch::Null | Patch::Absent => None,
    };
    let default_scopes = || ["openid", "profile", "email"].map(str::to_owned).to_vec();
    let access_tokens = match fields.name("access_tokens", 20)?.as_deref() {
        None | Some("jwt") => AccessTokenCheck::Jwt,
        Some("introspection") => AccessTokenCheck::Introspection,
        Some(_) => {
            return Err(Fault::bad_request(
                "Invalid input for field 'access_tokens': it is 'jwt' or 'introspection'.",
            ));
        }
    };
    let client = OpenidClient {
        issuer: fields.required_name("issuer", REMOTE_ID)?,
        client_id: fields.required_name("client_id", REMOTE_ID)?,
        secret: None,
        scopes: fields.texts("scopes")?.unwrap_or_else(default_scopes),
        audiences: fields.texts("audiences")?.unwrap_or_default(),
        access_tokens,
        trusted_dashboards: fields.texts("trusted_dashboards")?.unwrap_or_default(),
        ca_certificate,
    };
    fields.ignore(&["links", "has_secret", "redirect_uri", "backchannel_logout_uri"]);
    fields.finish()?;
    Ok((client, secret))
}

async fn put_client(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let (client, secret) = read_client(body)?;
    let protocol = identity.set_openid_client(&ctx, &idp, &id, client, secret).await?;
    Ok(Json(client_view(&ctx, &protocol)?))
}

async fn show_client(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let protocol = identity.protocol(&ctx, &idp, &id).await?;
    Ok(Json(client_view(&ctx, &protocol)?))
}

async fn delete_client(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path((idp, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    identity.delete_openid_client(&ctx, &idp, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
