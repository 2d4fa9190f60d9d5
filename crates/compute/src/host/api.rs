//! `/os-hypervisors`, `/os-services`, `/os-aggregates`, `/os-availability-zone`.

use axum::extract::State;
use cloud_types::{Fault, HostId, Timestamp};
use host_documents::Host;
use serde_json::{Value, json};
use service_kit::{
    Access, ApiResult, Ctx, Filters, Json, Method, PageRequest, Path, Routes, Service, StrictJson,
    page,
};

use super::model;
use super::service::{self, Overview};
use super::store::Usage;
use crate::Compute;
use crate::links;
use crate::wire::{Fields, parse_boolean, strict_query};

/// The routes.
pub fn routes() -> Routes<Compute> {
    let rule = Access::Rule;
    Routes::new(Service::Compute)
        .route(Method::GET, "/v2.1/os-hypervisors", rule("compute:hypervisors:list"), list)
        .route(
            Method::GET,
            "/v2.1/os-hypervisors/detail",
            rule("compute:hypervisors:list"),
            list_detail,
        )
        .route(
            Method::GET,
            "/v2.1/os-hypervisors/statistics",
            rule("compute:hypervisors:list"),
            statistics,
        )
        .route(Method::GET, "/v2.1/os-hypervisors/{id}", rule("compute:hypervisors:list"), show)
        .route(
            Method::GET,
            "/v2.1/os-hypervisors/{id}/uptime",
            rule("compute:hypervisors:list"),
            uptime,
        )
        .route(
            Method::GET,
            "/v2.1/os-hypervisors/{id}/search",
            rule("compute:hypervisors:list"),
            search,
        )
        .route(
            Method::GET,
            "/v2.1/os-hypervisors/{id}/servers",
            rule("compute:hypervisors:list"),
            servers,
        )
        .route(Method::GET, "/v2.1/os-services", rule("compute:services:list"), services)
        .route(
            Method::PUT,
            "/v2.1/os-services/{id}",
            rule("compute:services:update"),
            update_service,
        )
        .route(Method::GET, "/v2.1/os-aggregates", rule("compute:aggregates:list"), aggregates)
        .route(
            Method::GET,
            "/v2.1/os-aggregates/{id}",
            rule("compute:aggregates:list"),
            show_aggregate,
        )
        .route(Method::GET, "/v2.1/os-availability-zone", rule("compute:zones:list"), zones)
        .route(
            Method::GET,
            "/v2.1/os-availability-zone/detail",
            rule("compute:zones:detail"),
            zones_detail,
        )
}

fn gone() -> Fault {
    Fault::not_found("The resource could not be found.")
}

fn no_hypervisor(id: &str) -> Fault {
    let id: String = id.chars().take(64).collect();
    Fault::not_found(format!("Hypervisor with ID '{id}' could not be found."))
}

fn with_servers(shown: &mut Value, overview: &Overview, host: &Host, always: bool) {
    let servers: Vec<Value> = overview
        .servers
        .get(&host.id)
        .into_iter()
        .flatten()
        .map(|(id, name)| json!({"uuid": id, "name": name}))
        .collect();
    if always || !servers.is_empty() {
        shown["servers"] = json!(servers);
    }
}

fn wants_servers(ctx: &Ctx, filters: &Filters) -> Result<bool, Fault> {
    if !ctx.at_least(2, 53) {
        return Ok(false);
    }
    match filters.get("with_servers") {
        None => Ok(false),
        Some(text) => parse_boolean(text).ok_or_else(|| {
            Fault::bad_request(
                "Invalid input for query parameter with_servers: it is not a boolean",
            )
        }),
    }
}

async fn list(state: State<Compute>, ctx: Ctx, filters: Filters) -> ApiResult<Json<Value>> {
    listing(&state, &ctx, &filters, false).await
}

async fn list_detail(state: State<Compute>, ctx: Ctx, filters: Filters) -> ApiResult<Json<Value>> {
    listing(&state, &ctx, &filters, true).await
}

async fn listing(
    compute: &Compute,
    ctx: &Ctx,
    filters: &Filters,
    detail: bool,
) -> ApiResult<Json<Value>> {
    if ctx.at_least(2, 75) {
        let known = ["limit", "marker", "hypervisor_hostname_pattern", "with_servers"];
        strict_query(filters, &known)?;
    }
    let servers = wants_servers(ctx, filters)?;
    let mut overview =
        service::overview(compute.kit(), ctx, "compute:hypervisors:list", servers).await?;
    let pattern =
        if ctx.at_least(2, 53) { filters.get("hypervisor_hostname_pattern") } else { None };
    let paged = ctx.at_least(2, 33);
    let mut more = false;
    let mut hosts = std::mem::take(&mut overview.hosts);
    if let Some(pattern) = pattern {
        if filters.has("limit") || filters.has("marker") {
            return Err(Fault::bad_request(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is \
                 not supported.",
            )
            .into());
        }
        hosts = matching(hosts, pattern)?;
    } else if paged {
        let request = PageRequest::from_filters(filters, &[])?;
        if let Some(marker) = &request.marker {
            let place = hosts.iter().position(|(host, usage)| is_named(host, *usage, marker, ctx));
            let place = place.ok_or_else(|| {
                Fault::bad_request(format!(
                    "marker [{}] not found",
                    marker.chars().take(64).collect::<String>()
                ))
            })?;
            hosts.drain(..=place);
        }
        more = request.cut(&mut hosts);
    }
    let now = compute.kit().clock.now();
    let shape = if detail { model::hypervisor_detail } else { model::hypervisor };
    let shown: Vec<Value> = hosts
        .iter()
        .map(|(host, usage)| {
            let mut shown = shape(host, *usage, now, ctx.microversion);
            if servers {
                with_servers(&mut shown, &overview, host, ctx.at_least(2, 75));
            }
            shown
        })
        .collect();
    let last = shown.last().map(|last| match &last["id"] {
        Value::String(id) => id.clone(),
        other => other.to_string(),
    });
    let mut body = json!({"hypervisors": shown});
    if paged {
        let rest = if detail { "os-hypervisors/detail" } else { "os-hypervisors" };
        let url = format!("{}/{rest}", links::base(ctx));
        let next = page::links(&url, filters, None, last.as_deref(), more, false);
        if !next.is_empty() {
            body["hypervisors_links"] = json!(next);
        }
    }
    Ok(Json(body))
}

fn matching(hosts: Vec<(Host, Usage)>, pattern: &str) -> Result<Vec<(Host, Usage)>, Fault> {
    let found: Vec<_> = hosts.into_iter().filter(|(host, _)| host.name.contains(pattern)).collect();
    if found.is_empty() {
        let pattern: String = pattern.chars().take(64).collect();
        return Err(Fault::not_found(format!(
            "No hypervisor matching '{pattern}' could be found."
        )));
    }
    Ok(found)
}

fn is_named(host: &Host, usage: Usage, id: &str, ctx: &Ctx) -> bool {
    if ctx.at_least(2, 53) {
        id.parse::<HostId>().is_ok_and(|id| id == host.id)
    } else {
        id.parse::<i64>().is_ok_and(|number| number == usage.number)
    }
}

/// Finds a hypervisor by the id that the microversion uses.
fn find<'o>(overview: &'o Overview, id: &str, ctx: &Ctx) -> Result<&'o (Host, Usage), Fault> {
    if ctx.at_least(2, 53) && id.parse::<HostId>().is_err() {
        let id: String = id.chars().take(64).collect();
        return Err(Fault::bad_request(format!("Invalid uuid {id}")));
    }
    overview
        .hosts
        .iter()
        .find(|(host, usage)| is_named(host, *usage, id, ctx))
        .ok_or_else(|| no_hypervisor(id))
}

async fn show(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let servers = wants_servers(&ctx, &filters)?;
    let overview =
        service::overview(compute.kit(), &ctx, "compute:hypervisors:list", servers).await?;
    let (host, usage) = find(&overview, &id, &ctx)?;
    let now = compute.kit().clock.now();
    let mut shown = model::hypervisor_detail(host, *usage, now, ctx.microversion);
    if servers {
        with_servers(&mut shown, &overview, host, ctx.at_least(2, 75));
    }
    Ok(Json(json!({"hypervisor": shown})))
}

/// Until 2.87.
async fn uptime(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    if ctx.at_least(2, 88) {
        return Err(gone().into());
    }
    let overview =
        service::overview(compute.kit(), &ctx, "compute:hypervisors:list", false).await?;
    let (host, usage) = find(&overview, &id, &ctx)?;
    let now = compute.kit().clock.now();
    let mut shown = model::hypervisor(host, *usage, now, ctx.microversion);
    let uptime = model::uptime(host, now).filter(|_| host.is_alive(now));
    let Some(uptime) = uptime else {
        return Err(Fault::bad_request(format!(
            "Compute service of {} is unavailable at this time.",
            host.name
        ))
        .into());
    };
    shown["uptime"] = json!(uptime);
    Ok(Json(json!({"hypervisor": shown})))
}

async fn statistics(State(compute): State<Compute>, ctx: Ctx) -> ApiResult<Json<Value>> {
    if ctx.at_least(2, 88) {
        return Err(gone().into());
    }
    let overview =
        service::overview(compute.kit(), &ctx, "compute:hypervisors:list", false).await?;
    Ok(Json(model::statistics(&overview.hosts)))
}

async fn search(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(pattern): Path<String>,
) -> ApiResult<Json<Value>> {
    old_search(&compute, &ctx, &pattern, false).await
}

async fn servers(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(pattern): Path<String>,
) -> ApiResult<Json<Value>> {
    old_search(&compute, &ctx, &pattern, true).await
}

/// Until 2.52, before the list learned both.
async fn old_search(
    compute: &Compute,
    ctx: &Ctx,
    pattern: &str,
    servers: bool,
) -> ApiResult<Json<Value>> {
    if ctx.at_least(2, 53) {
        return Err(gone().into());
    }
    let mut overview =
        service::overview(compute.kit(), ctx, "compute:hypervisors:list", servers).await?;
    let hosts = matching(std::mem::take(&mut overview.hosts), pattern)?;
    let now = compute.kit().clock.now();
    let shown: Vec<Value> = hosts
        .iter()
        .map(|(host, usage)| {
            let mut shown = model::hypervisor(host, *usage, now, ctx.microversion);
            if servers {
                with_servers(&mut shown, &overview, host, false);
            }
            shown
        })
        .collect();
    Ok(Json(json!({"hypervisors": shown})))
}

async fn services(
    State(compute): State<Compute>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let overview = service::overview(compute.kit(), &ctx, "compute:services:list", false).await?;
    let now = compute.kit().clock.now();
    let wanted = |host: &Host| {
        filters.get("host").is_none_or(|name| name.is_empty() || name == host.name)
            && filters.get("binary").is_none_or(|name| name.is_empty() || name == "nova-compute")
    };
    let shown: Vec<Value> = overview
        .hosts
        .iter()
        .filter(|(host, _)| wanted(host))
        .map(|(host, usage)| model::compute_service(host, *usage, now, ctx.microversion))
        .collect();
    Ok(Json(json!({"services": shown})))
}

/// From 2.53: `PUT /os-services/{id}` with a status. Before: `/enable`, `/disable`,
/// `/disable-log-reason` with host and binary in the body.
async fn update_service(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut fields = Fields::root(body)?;
    if ctx.at_least(2, 53) {
        let status = fields.word("status", &["enabled", "disabled"])?;
        let reason = fields.text("disabled_reason", 1, 255)?;
        if fields.has("forced_down") {
            return Err(forced_down().into());
        }
        fields.finish()?;
        if id.parse::<HostId>().is_err() {
            return Err(Fault::bad_request(format!(
                "Invalid uuid {}",
                id.chars().take(64).collect::<String>()
            ))
            .into());
        }
        let disable = match (status.as_deref(), &reason) {
            (Some("disabled"), _) => true,
            (Some(_), None) => false,
            (Some(_), Some(_)) => {
                return Err(Fault::bad_request(
                    "Specifying disabled_reason when status is enabled is invalid.",
                )
                .into());
            }
            (None, _) => {
                return Err(Fault::bad_request(
                    "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
                )
                .into());
            }
        };
        let reason = disable.then(|| reason.unwrap_or_default());
        let (host, usage) = service::set_enabled(compute.kit(), &ctx, &id, reason).await?;
        let now = compute.kit().clock.now();
        let shown = model::compute_service(&host, usage, now, ctx.microversion);
        return Ok(Json(json!({"service": shown})));
    }
    let host = fields.hostname("host", true)?.unwrap_or_default();
    let binary = fields.text("binary", 1, 255)?.unwrap_or_default();
    let reason = fields.text("disabled_reason", 1, 255)?;
    let (disable, with_reason) = match id.as_str() {
        "enable" => (false, false),
        "disable" => (true, false),
        "disable-log-reason" => (true, true),
        "force-down" => return Err(forced_down().into()),
        _ => return Err(gone().into()),
    };
    fields.finish()?;
    if binary != "nova-compute" {
        return Err(Fault::bad_request(format!(
            "Updating a {} service is not supported. Only nova-compute services can be updated.",
            binary.chars().take(64).collect::<String>()
        ))
        .into());
    }
    if with_reason && reason.is_none() {
        return Err(Fault::bad_request("Missing disabled reason field").into());
    }
    let stored = disable.then(|| reason.clone().unwrap_or_default());
    service::set_enabled(compute.kit(), &ctx, &host, stored).await?;
    let status = if disable { "disabled" } else { "enabled" };
    let mut shown = json!({"host": host, "binary": binary, "status": status});
    if let (true, Some(reason)) = (with_reason, reason) {
        shown["disabled_reason"] = json!(reason);
    }
    Ok(Json(json!({"service": shown})))
}

fn forced_down() -> Fault {
    Fault::not_implemented(
        "forced_down is not offered: saying that a host is down does not make it so, and a server \
         is started elsewhere only when its host is proven stopped.",
    )
}

async fn hosts_and_time(
    compute: &Compute,
    ctx: &Ctx,
    rule: &str,
) -> Result<(Vec<Host>, Timestamp), Fault> {
    let overview = service::overview(compute.kit(), ctx, rule, false).await?;
    let hosts = overview.hosts.into_iter().map(|(host, _)| host).collect();
    Ok((hosts, compute.kit().clock.now()))
}

async fn aggregates(State(compute): State<Compute>, ctx: Ctx) -> ApiResult<Json<Value>> {
    let (hosts, _) = hosts_and_time(&compute, &ctx, "compute:aggregates:list").await?;
    Ok(Json(json!({"aggregates": model::aggregates(&hosts, ctx.microversion)})))
}

async fn show_aggregate(
    State(compute): State<Compute>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let (hosts, _) = hosts_and_time(&compute, &ctx, "compute:aggregates:list").await?;
    let found = model::aggregates(&hosts, ctx.microversion)
        .into_iter()
        .find(|aggregate| aggregate["id"] == id);
    match found {
        Some(aggregate) => Ok(Json(json!({"aggregate": aggregate}))),
        None => Err(Fault::not_found(format!(
            "Aggregate {} could not be found.",
            id.chars().take(64).collect::<String>()
        ))
        .into()),
    }
}

async fn zones(State(compute): State<Compute>, ctx: Ctx) -> ApiResult<Json<Value>> {
    let (hosts, now) = hosts_and_time(&compute, &ctx, "compute:zones:list").await?;
    Ok(Json(model::zones(&hosts, now, false)))
}

async fn zones_detail(State(compute): State<Compute>, ctx: Ctx) -> ApiResult<Json<Value>> {
    let (hosts, now) = hosts_and_time(&compute, &ctx, "compute:zones:detail").await?;
    Ok(Json(model::zones(&hosts, now, true)))
}
