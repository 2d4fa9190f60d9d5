//! Routes and wire shapes of subnets.

use axum::extract::State;
use cloud_types::{Fault, SubnetId};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{
    GatewayWish, SubnetRow, check_ip_version, read_cidr, read_host_routes, read_mode,
    read_nameservers, read_pools, read_service_types,
};
use super::service::{NewSubnet, RangeOf, SubnetChange};
use super::store::COLUMNS;
use crate::Network;
use crate::attributes::{Attributes, DESCRIPTION_MAX, NAME_MAX, Verb, as_ip};
use crate::faults::{http_bad_request, invalid_attribute, subnet_not_found};
use crate::if_match::IfMatch;
use crate::listing::api::{one, page, shown_as, standard};
use crate::listing::model::ListQuery;
use crate::subnet_pool::model::RangeWish;

const COLLECTION: &str = "/v2.0/subnets";
const ONE: &str = "/v2.0/subnets/{id}";
const GET: Access = Access::Rule("network:subnets:get");
/// Attributes that nobody writes.
const READ_ONLY: &[&str] = &["id", "revision_number", "created_at", "updated_at", "tags", "shared"];
/// Attributes that are fixed at creation.
const FIXED: &[&str] = &[
    "tenant_id",
    "project_id",
    "network_id",
    "cidr",
    "ip_version",
    "ipv6_ra_mode",
    "ipv6_address_mode",
    "subnetpool_id",
    "use_default_subnetpool",
    "prefixlen",
];

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:subnets:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, Access::Rule("network:subnets:update"), update)
        .route(Method::DELETE, ONE, Access::Rule("network:subnets:delete"), delete)
}

fn view(row: &SubnetRow) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("name".into(), json!(row.name));
    map.insert("description".into(), json!(row.description));
    map.insert("network_id".into(), json!(row.network_id));
    map.insert("ip_version".into(), json!(row.ip_version()));
    map.insert("cidr".into(), json!(row.cidr));
    map.insert("gateway_ip".into(), json!(row.gateway_ip));
    map.insert("enable_dhcp".into(), json!(row.enable_dhcp));
    map.insert("allocation_pools".into(), json!(row.allocation_pools));
    map.insert("dns_nameservers".into(), json!(row.dns_nameservers));
    map.insert("host_routes".into(), json!(row.host_routes));
    map.insert("ipv6_ra_mode".into(), json!(row.ipv6_ra_mode));
    map.insert("ipv6_address_mode".into(), json!(row.ipv6_address_mode));
    map.insert("subnetpool_id".into(), json!(row.subnetpool_id));
    map.insert("service_types".into(), json!(row.service_types));
    map.insert("tags".into(), json!(row.tags));
    standard(&mut map, &row.project_id, row.revision, row.created_at, row.updated_at);
    Value::Object(map)
}

fn id_of(text: &str) -> Result<SubnetId, Fault> {
    text.parse().map_err(|_| subnet_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &["shared"])?;
    let (rows, cut) = network.subnets(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "subnets", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.subnet(&ctx, id_of(&id)?).await?;
    Ok(Json(one("subnet", view(&row), &filters)))
}

/// Absent: the default. Null: none.
fn gateway(body: &mut Attributes) -> Result<GatewayWish, Fault> {
    match body.take("gateway_ip") {
        None => Ok(GatewayWish::Default),
        Some(Value::Null) => Ok(GatewayWish::None),
        Some(value) => as_ip("gateway_ip", &value).map(GatewayWish::Address),
    }
}

/// Where the range comes from: the caller names it, or a pool gives it.
fn read_range(body: &mut Attributes) -> Result<RangeOf, Fault> {
    let bad = |message: &str| {
        Err(Fault::bad_request(format!("Bad subnets request: {message}.")).named("BadRequest"))
    };
    let version = body.integer("ip_version", (i64::MIN, i64::MAX))?.ok_or_else(|| {
        http_bad_request("Failed to parse request. Required attribute 'ip_version' not specified")
    })?;
    let version: u8 = match version {
        4 => 4,
        6 => 6,
        _ => return Err(invalid_attribute("ip_version", format!("'{version}' is not in [4, 6]"))),
    };
    let cidr = body.take("cidr").filter(|value| !value.is_null());
    let cidr = cidr.map(|value| read_cidr(&value)).transpose()?;
    let length = body.integer("prefixlen", (0, i64::MAX))?;
    if cidr.is_some() && length.is_some() {
        return bad("cidr and prefixlen must not be supplied together");
    }
    if let Some(cidr) = &cidr {
        check_ip_version(i64::from(version), cidr)?;
    }
    let by_default = body.boolean("use_default_subnetpool")?.unwrap_or(false);
    let pool = body.take("subnetpool_id").filter(|value| !value.is_null());
    let wish = cidr.map_or(RangeWish::Any(length), RangeWish::Exact);
    match pool {
        Some(_) if by_default => {
            bad("subnetpool_id and use_default_subnetpool cannot both be specified")
        }
        Some(Value::String(text)) if text == "prefix_delegation" => {
            bad("no agent here delegates prefixes: name a cidr or a pool")
        }
        Some(value) => {
            let id = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
                invalid_attribute("subnetpool_id", format!("{value} is not a valid UUID"))
            })?;
            Ok(RangeOf::Pool(id, version, wish))
        }
        None if by_default => Ok(RangeOf::DefaultPool(version, wish)),
        None => match cidr {
            Some(cidr) => Ok(RangeOf::Named(cidr)),
            None => bad("a subnetpool must be specified in the absence of a cidr"),
        },
    }
}

fn read_new(mut body: Attributes) -> Result<NewSubnet, Fault> {
    body.read_only(READ_ONLY)?;
    let network_id = body.required("network_id")?;
    let network_id = network_id.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        invalid_attribute("network_id", format!("{network_id} is not a valid UUID"))
    })?;
    let range = read_range(&mut body)?;
    let mut mode = |name: &str| {
        let value = body.take(name).filter(|value| !value.is_null());
        value.map(|value| read_mode(name, &value)).transpose()
    };
    let (ipv6_ra_mode, ipv6_address_mode) = (mode("ipv6_ra_mode")?, mode("ipv6_address_mode")?);
    let pools = body.take("allocation_pools").filter(|value| !value.is_null());
    let new = NewSubnet {
        project: body.project()?,
        network_id,
        name: body.string("name", NAME_MAX)?.unwrap_or_default(),
        description: body.string("description", DESCRIPTION_MAX)?.unwrap_or_default(),
        range,
        gateway: gateway(&mut body)?,
        allocation_pools: pools.map(|value| read_pools(&value)).transpose()?,
        enable_dhcp: body.boolean("enable_dhcp")?.unwrap_or(true),
        dns_nameservers: body
            .take("dns_nameservers")
            .map_or_else(|| Ok(Vec::new()), |value| read_nameservers(&value))?,
        host_routes: body
            .take("host_routes")
            .map_or_else(|| Ok(Vec::new()), |value| read_host_routes(&value))?,
        ipv6_ra_mode,
        ipv6_address_mode,
        service_types: body
            .take("service_types")
            .map_or_else(|| Ok(Vec::new()), |value| read_service_types(&value))?,
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "subnet", "subnets")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("subnet", "subnets", bulk, view);
    ctx.creating(show, async |ctx| network.create_subnets(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "subnet", Verb::Update)?;
    body.read_only(READ_ONLY)?;
    body.read_only(FIXED)?;
    let gateway_ip = match gateway(&mut body)? {
        GatewayWish::Default => None,
        GatewayWish::None => Some(None),
        GatewayWish::Address(ip) => Some(Some(ip)),
    };
    let change = SubnetChange {
        name: body.string("name", NAME_MAX)?,
        description: body.string("description", DESCRIPTION_MAX)?,
        gateway_ip,
        allocation_pools: body
            .take("allocation_pools")
            .map(|value| read_pools(&value))
            .transpose()?,
        enable_dhcp: body.boolean("enable_dhcp")?,
        dns_nameservers: body
            .take("dns_nameservers")
            .map(|value| read_nameservers(&value))
            .transpose()?,
        host_routes: body.take("host_routes").map(|value| read_host_routes(&value)).transpose()?,
        service_types: body
            .take("service_types")
            .map(|value| read_service_types(&value))
            .transpose()?,
        tags: None,
        if_match,
    };
    body.finish()?;
    let row = network.update_subnet(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "subnet": view(&row) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_subnet(&ctx, id_of(&id)?, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}
