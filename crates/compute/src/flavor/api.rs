//! `/flavors`, `/flavors/{id}/os-extra_specs`, `/flavors/{id}/os-flavor-access`.

use std::collections::BTreeMap;

use axum::extract::State;
use cloud_types::{Fault, ProjectId};
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, PageRequest, Path, Routes, Service,
    StatusCode, StrictJson, Target, page,
};

use super::model::{self, Flavor};
use super::service;
use super::store::{FlavorQuery, SORT_KEYS};
use crate::Compute;
use crate::links;
use crate::wire::{Fields, parse_boolean, strict_query};

/// The routes.
pub fn routes() -> Routes<Compute> {
    const BASE: &str = "/v2.1/flavors";
    let path = |rest: &str| format!("{BASE}{rest}");
    Routes::new(Service::Compute)
        .route(Method::GET, BASE, Access::Rule("compute:flavors:list"), list)
        .route(Method::POST, BASE, Access::Rule("compute:flavors:create"), create)
        .route(Method::GET, &path("/detail"), Access::Rule("compute:flavors:list"), detail)
        .route(Method::GET, &path("/{id}"), Access::Rule("compute:flavors:show"), show)
        .route(Method::PUT, &path("/{id}"), Access::Rule("compute:flavors:update"), update)
        .route(Method::DELETE, &path("/{id}"), Access::Rule("compute:flavors:delete"), delete)
        .route(Method::POST, &path("/{id}/action"), Access::Token, action)
        .route(
            Method::GET,
            &path("/{id}/os-flavor-access"),
            Access::Rule("compute:flavors:access"),
            access,
        )
        .route(
            Method::GET,
            &path("/{id}/os-extra_specs"),
            Access::Rule("compute:flavors:extra_specs"),
            list_specs,
        )
        .route(
            Method::POST,
            &path("/{id}/os-extra_specs"),
            Access::Rule("compute:flavors:set_extra_specs"),
            add_specs,
        )
        .route(
            Method::GET,
            &path("/{id}/os-extra_specs/{key}"),
            Access::Rule("compute:flavors:extra_specs"),
            show_spec,
        )
        .route(
            Method::PUT,
            &path("/{id}/os-extra_specs/{key}"),
            Access::Rule("compute:flavors:set_extra_specs"),
            put_spec,
        )
        .route(
            Method::DELETE,
            &path("/{id}/os-extra_specs/{key}"),
            Access::Rule("compute:flavors:set_extra_specs"),
            delete_spec,
        )
}

fn brief(ctx: &Ctx, flavor: &Flavor) -> Value {
    let mut shown = json!({
        "id": flavor.flavor_id,
        "name": flavor.name,
        "links": links::of(ctx, "flavors", &flavor.flavor_id),
    });
    if ctx.at_least(2, 55) {
        shown["description"] = json!(flavor.description);
    }
    shown
}

fn view(ctx: &Ctx, flavor: &Flavor) -> Value {
    let mut shown = brief(ctx, flavor);
    shown["ram"] = json!(flavor.memory_mib);
    shown["disk"] = json!(flavor.disk_gib);
    shown["vcpus"] = json!(flavor.vcpus);
    shown["OS-FLV-EXT-DATA:ephemeral"] = json!(flavor.ephemeral_gib);
    shown["OS-FLV-DISABLED:disabled"] = json!(false);
    shown["os-flavor-access:is_public"] = json!(flavor.is_public);
    shown["rxtx_factor"] = json!(flavor.rxtx_factor);
    shown["swap"] = match flavor.swap_mib {
        0 if !ctx.at_least(2, 75) => json!(""),
        swap => json!(swap),
    };
    if ctx.at_least(2, 61) && ctx.may("compute:flavors:extra_specs", &Target::none()) {
        shown["extra_specs"] = json!(flavor.extra_specs);
    }
    shown
}

async fn list(state: State<Compute>, ctx: Ctx, filters: Filters) -> ApiResult<Json<Value>> {
    listing(&state, &ctx, &filters, "flavors", brief).await
}

async fn detail(state: State<Compute>, ctx: Ctx, filters: Filters) -> ApiResult<Json<Value>> {
    listing(&state, &ctx, &filters, "flavors/detail", view).await
}

async fn listing(
    compute: &Compute,
    ctx: &Ctx,
    filters: &Filters,
    path: &str,
    shape: fn(&Ctx, &Flavor) -> Value,
) -> ApiResult<Json<Value>> {
    const KNOWN: &[&str] =
        &["limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir"];
    if ctx.at_least(2, 75) {
        strict_query(filters, KNOWN)?;
    }
    let keys: Vec<&str> = SORT_KEYS.iter().map(|(name, _)| *name).collect();
    let page = PageRequest::from_filters(filters, &keys)?;
    let sees_all = ctx.may("compute:flavors:all", &Target::none());
    let is_public = match filters.get("is_public") {
        _ if !sees_all => Some(true),
        None => Some(true),
        Some(text) if text.eq_ignore_ascii_case("none") => None,
        Some(text) => Some(lenient_boolean(text).ok_or_else(|| {
            Fault::bad_request(format!(
                "Invalid is_public filter [{}]",
                text.chars().take(64).collect::<String>()
            ))
        })?),
    };
    let number = |key: &str| -> Result<Option<i64>, Fault> {
        filters
            .get(key)
            .map(|text| {
                text.parse::<i64>().map_err(|_| {
                    Fault::bad_request(format!(
                        "Invalid {key} filter [{}]",
                        text.chars().take(64).collect::<String>()
                    ))
                })
            })
            .transpose()
    };
    let query = FlavorQuery {
        is_public,
        or_shared_with: if sees_all { None } else { ctx.project().ok() },
        min_ram: number("minRam")?,
        min_disk: number("minDisk")?,
        sort: page.sort.first().cloned(),
        marker: page.marker.clone(),
        limit: page.rows_and_one(),
    };
    let mut flavors = service::list(compute.kit(), query).await?;
    let more = page.cut(&mut flavors);
    let mut body =
        json!({"flavors": flavors.iter().map(|flavor| shape(ctx, flavor)).collect::<Vec<_>>()});
    let url = format!("{}/{path}", links::base(ctx));
    let next = page::links(
        &url,
        filters,
        None,
        flavors.last().map(|flavor| flavor.flavor_id.as_str()),
        more,
        false,
    );
    if !next.is_empty() {
        body["flavors_links"] = json!(next);
    }
    Ok(Json(body))
}

/// What `strutils.bool_from_string(strict=True)` takes: any case, also `t`, `y`, `n`.
fn lenient_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "y" => Some(true),
        "f" | "n" => Some(false),
        other => parse_boolean(other),
    }
}

async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let flavor = service::show(compute.kit(), &ctx, &id).await?;
    Ok(Json(json!({"flavor": view(&ctx, &flavor)})))
}

async fn create(
    State(compute): State<Compute>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let flavor = Flavor::read(body, ctx.microversion, compute.kit().clock.now())?;
    let viewer = ctx.clone();
    let show = move |flavor: &Flavor| {
        Created::with_status(StatusCode::OK, json!({"flavor": view(&viewer, flavor)}))
    };
    ctx.creating(show, async |ctx| service::create(compute.kit(), &ctx, flavor).await).await
}

async fn update(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    if !ctx.at_least(2, 55) {
        return Err(Fault::not_found("The resource could not be found.").into());
    }
    let description = model::read_description(body)?;
    let flavor = service::describe(compute.kit(), &ctx, &id, description).await?;
    Ok(Json(json!({"flavor": view(&ctx, &flavor)})))
}

async fn delete(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    service::delete(compute.kit(), &ctx, &id).await?;
    Ok(StatusCode::ACCEPTED)
}

fn access_view(flavor_id: &str, projects: &[String]) -> Value {
    let rows: Vec<Value> = projects
        .iter()
        .map(|project| json!({"flavor_id": flavor_id, "tenant_id": project}))
        .collect();
    json!({"flavor_access": rows})
}

async fn access(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let projects = service::access(compute.kit(), &ctx, &id).await?;
    Ok(Json(access_view(&id, &projects)))
}

async fn action(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut root = Fields::root(body)?;
    let add = root.has("addTenantAccess");
    let key = if add { "addTenantAccess" } else { "removeTenantAccess" };
    if !root.has(key) {
        return Err(Fault::bad_request(
            "A flavor's actions are addTenantAccess and removeTenantAccess.",
        )
        .into());
    }
    // The rule first, so that who may not is told that before what is wrong with the body.
    let rule = if add { "compute:flavors:add_access" } else { "compute:flavors:remove_access" };
    ctx.authorise(rule, &Target::none())?;
    let mut fields = root.required_object(key)?;
    root.finish()?;
    let tenant = fields.required_name("tenant")?;
    fields.finish()?;
    let project: ProjectId = tenant
        .parse()
        .map_err(|_| Fault::bad_request(format!("Project ID {tenant} is not a valid project.")))?;
    let projects = service::change_access(compute.kit(), &ctx, &id, project, add).await?;
    Ok(Json(access_view(&id, &projects)))
}

async fn list_specs(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let flavor = service::show(compute.kit(), &ctx, &id).await?;
    Ok(Json(json!({"extra_specs": flavor.extra_specs})))
}

async fn show_spec(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> ApiResult<Json<Value>> {
    let flavor = service::show(compute.kit(), &ctx, &id).await?;
    match flavor.extra_specs.get(&key) {
        Some(value) => Ok(Json(json!({ key: value }))),
        None => Err(service::no_such_spec(&flavor, &key).into()),
    }
}

async fn add_specs(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let specs = model::read_extra_specs(body)?;
    service::set_specs(compute.kit(), &ctx, &id, specs.clone()).await?;
    Ok(Json(json!({"extra_specs": specs})))
}

async fn put_spec(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let specs: BTreeMap<String, String> = model::read_specs("extra_specs", body)?;
    if specs.len() != 1 || !specs.contains_key(&key) {
        return Err(Fault::bad_request(format!(
            "The body holds one extra spec, named as the path is: {}.",
            key.chars().take(64).collect::<String>()
        ))
        .into());
    }
    service::set_specs(compute.kit(), &ctx, &id, specs.clone()).await?;
    Ok(Json(json!(specs)))
}

async fn delete_spec(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path((id, key)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    service::unset_spec(compute.kit(), &ctx, &id, &key).await?;
    Ok(StatusCode::OK)
}
