//! `/v3/regions`, `/v3/services`, `/v3/endpoints`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};
use uuid::Uuid;

use super::model::{self, CatalogService, Endpoint, Region};
use super::service::Entry;
use crate::fields::{Fields, NAME_LONG, Patch};
use crate::{Identity, wire};

pub(crate) fn routes() -> Routes<Identity> {
    let routes = Routes::new(Service::Identity)
        .route(Method::POST, "/v3/regions", creates::<Region>(), create_region)
        .route(Method::PUT, "/v3/regions/{region_id}", creates::<Region>(), put_region)
        .route(Method::PATCH, "/v3/regions/{region_id}", updates::<Region>(), update_region)
        .route(Method::POST, "/v3/services", creates::<CatalogService>(), create_service)
        .route(
            Method::PATCH,
            "/v3/services/{service_id}",
            updates::<CatalogService>(),
            update_service,
        )
        .route(Method::POST, "/v3/endpoints", creates::<Endpoint>(), create_endpoint)
        .route(
            Method::PATCH,
            "/v3/endpoints/{endpoint_id}",
            updates::<Endpoint>(),
            update_endpoint,
        );
    let routes = common::<Region>(routes);
    let routes = common::<CatalogService>(routes);
    common::<Endpoint>(routes)
}

/// Who may create one.
pub(crate) fn creates<T: Entry>() -> Access {
    Access::Rule(T::RULES.create)
}

/// Who may change one.
pub(crate) fn updates<T: Entry>() -> Access {
    Access::Rule(T::RULES.update)
}

/// Listing, showing and deleting are the same for all kinds.
pub(crate) fn common<T: Entry>(routes: Routes<Identity>) -> Routes<Identity> {
    let kind = T::KIND;
    let all = format!("/v3{}/{}", T::PREFIX, T::PLURAL);
    let one = format!("{all}/{{{kind}_id}}");
    routes
        .route(Method::GET, &all, Access::Rule(T::RULES.list), list::<T>)
        .route(Method::GET, &one, Access::Rule(T::RULES.get), show::<T>)
        .route(Method::DELETE, &one, Access::Rule(T::RULES.delete), delete::<T>)
}

async fn list<T: Entry>(
    State(identity): State<Identity>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Response> {
    let entries = identity.entries::<T>(&ctx).await?;
    // These lists are short: filters are applied to what is shown.
    let mut rows: Vec<Value> = entries.iter().map(|entry| entry.view(&ctx)).collect();
    for key in T::FILTERS {
        let Some(wanted) = filters.get(key) else { continue };
        if rows.iter().any(|row| row[key].is_boolean()) {
            let wanted = filters.flag(key)?;
            rows.retain(|row| row[key].as_bool() == wanted);
        } else {
            rows.retain(|row| row[key].as_str() == Some(wanted));
        }
    }
    let path = format!("{}/{}", T::PREFIX, T::PLURAL);
    Ok(wire::filtered_list(&ctx, &path, T::PLURAL, &filters, &rows).into_response())
}

/// `{"region": {…}}`.
pub(crate) fn shown<T: Entry>(ctx: &Ctx, entry: &T) -> Value {
    json!({ T::KIND: entry.view(ctx) })
}

async fn show<T: Entry>(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let entry = identity.entry::<T>(&ctx, &id).await?;
    Ok(Json(shown(&ctx, &entry)))
}

async fn delete<T: Entry>(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    identity.delete_entry::<T>(&ctx, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn add<T: Entry>(identity: Identity, ctx: Ctx, entry: T) -> ApiResult<Created> {
    let viewer = ctx.clone();
    let show = move |entry: &T| Created::new(shown(&viewer, entry));
    ctx.creating(show, async |ctx| identity.add_entry(&ctx, entry).await).await
}

pub(crate) fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

pub(crate) fn set<T>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Set(value) => Some(value),
        Patch::Null | Patch::Absent => None,
    }
}

fn read_region(body: Value, id: Option<String>) -> Result<Region, Fault> {
    let mut fields = Fields::below("region", body)?;
    let named = set(fields.text("id", NAME_LONG)?).filter(|id| !id.is_empty());
    let region = Region {
        id: id.or(named).unwrap_or_else(new_id),
        description: fields.description()?.unwrap_or_default(),
        parent_region_id: set(fields.text("parent_region_id", NAME_LONG)?),
    };
    fields.ignore(&["links"]);
    fields.finish()?;
    Ok(region)
}

async fn create_region(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    add(identity, ctx, read_region(body, None)?).await
}

async fn put_region(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    add(identity, ctx, read_region(body, Some(id))?).await
}

async fn update_region(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("region", body)?;
    let description = fields.description()?;
    let parent = fields.text("parent_region_id", NAME_LONG)?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let region = identity
        .edit_entry(&ctx, &id, move |region: &mut Region| {
            if let Some(description) = &description {
                region.description.clone_from(description);
            }
            parent.clone().apply(&mut region.parent_region_id);
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &region)))
}

async fn create_service(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let mut fields = Fields::below("service", body)?;
    let service = CatalogService {
        id: new_id(),
        kind: fields.required_name("type", NAME_LONG)?,
        name: set(fields.text("name", NAME_LONG)?).unwrap_or_default(),
        description: fields.description()?.unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
    };
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    add(identity, ctx, service).await
}

async fn update_service(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("service", body)?;
    let kind = fields.name("type", NAME_LONG)?;
    let name = set(fields.text("name", NAME_LONG)?);
    let description = fields.description()?;
    let enabled = fields.flag("enabled")?;
    fields.ignore(&["id", "links"]);
    fields.finish()?;
    let service = identity
        .edit_entry(&ctx, &id, move |service: &mut CatalogService| {
            if let Some(kind) = &kind {
                service.kind.clone_from(kind);
            }
            if let Some(name) = &name {
                service.name.clone_from(name);
            }
            if let Some(description) = &description {
                service.description.clone_from(description);
            }
            service.enabled = enabled.unwrap_or(service.enabled);
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &service)))
}

fn check_interface(interface: &str) -> Result<(), Fault> {
    if ["public", "internal", "admin"].contains(&interface) {
        return Ok(());
    }
    Err(Fault::bad_request(
        "Invalid input for field 'interface': it must be public, internal or admin.",
    ))
}

/// The region of an endpoint under its new name or its old one, and whether it was the old one.
fn region_of(fields: &mut Fields) -> Result<(Patch<String>, bool), Fault> {
    let new = fields.text("region_id", NAME_LONG)?;
    let old = fields.text("region", NAME_LONG)?;
    let is_old = new == Patch::Absent && old != Patch::Absent;
    Ok((if is_old { old } else { new }, is_old))
}

async fn create_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let mut fields = Fields::below("endpoint", body)?;
    let (region, makes_region) = region_of(&mut fields)?;
    let endpoint = Endpoint {
        id: new_id(),
        service_id: fields.required_name("service_id", 64)?,
        region_id: set(region),
        interface: fields.required_name("interface", 16)?,
        url: fields.required_name("url", 2048)?,
        enabled: fields.flag("enabled")?.unwrap_or(true),
        makes_region,
    };
    fields.ignore(&["id", "links", "name"]);
    fields.finish()?;
    check_interface(&endpoint.interface)?;
    model::check_url(&endpoint.url)?;
    add(identity, ctx, endpoint).await
}

async fn update_endpoint(
    State(identity): State<Identity>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::below("endpoint", body)?;
    let service = fields.name("service_id", 64)?;
    let (region, makes_region) = region_of(&mut fields)?;
    let interface = fields.name("interface", 16)?;
    let url = fields.name("url", 2048)?;
    let enabled = fields.flag("enabled")?;
    fields.ignore(&["id", "links", "name"]);
    fields.finish()?;
    if let Some(interface) = &interface {
        check_interface(interface)?;
    }
    if let Some(url) = &url {
        model::check_url(url)?;
    }
    let endpoint = identity
        .edit_entry(&ctx, &id, move |endpoint: &mut Endpoint| {
            if let Some(service) = &service {
                endpoint.service_id.clone_from(service);
            }
            if let Some(interface) = &interface {
                endpoint.interface.clone_from(interface);
            }
            if let Some(url) = &url {
                endpoint.url.clone_from(url);
            }
            region.clone().apply(&mut endpoint.region_id);
            endpoint.makes_region = makes_region;
            endpoint.enabled = enabled.unwrap_or(endpoint.enabled);
            Ok(())
        })
        .await?;
    Ok(Json(shown(&ctx, &endpoint)))
}
