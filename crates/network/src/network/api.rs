//! Routes and wire shapes of networks.

use axum::extract::State;
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{DNS_NAME_MAX, MTU, NetworkView, check_mtu, read_dns_domain};
use super::service::{NetworkChange, NewNetwork};
use super::store::COLUMNS;
use crate::attributes::{Attributes, DESCRIPTION_MAX, NAME_MAX, Verb};
use crate::faults::{http_bad_request, network_not_found};
use crate::if_match::IfMatch;
use crate::listing::api::{one, page, shown_as, standard};
use crate::listing::model::ListQuery;
use crate::{Fault, Network, NetworkId};

const COLLECTION: &str = "/v2.0/networks";
const ONE: &str = "/v2.0/networks/{id}";
const GET: Access = Access::Rule("network:networks:get");
/// Attributes that nobody writes.
const READ_ONLY: &[&str] = &[
    "id",
    "status",
    "subnets",
    "revision_number",
    "created_at",
    "updated_at",
    "tags",
    "ipv4_address_scope",
    "ipv6_address_scope",
];

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:networks:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, Access::Rule("network:networks:update"), update)
        .route(Method::DELETE, ONE, Access::Rule("network:networks:delete"), delete)
}

fn view(network: &NetworkView) -> Value {
    let row = &network.row;
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("name".into(), json!(row.name));
    map.insert("description".into(), json!(row.description));
    map.insert("admin_state_up".into(), json!(row.admin_state_up));
    map.insert("status".into(), json!("ACTIVE"));
    map.insert("shared".into(), json!(network.shared));
    map.insert("router:external".into(), json!(false));
    map.insert("subnets".into(), json!(network.subnets));
    map.insert("mtu".into(), json!(row.mtu));
    map.insert("dns_domain".into(), json!(row.tenant_dns_domain));
    map.insert("ipv4_address_scope".into(), json!(network.scopes[0]));
    map.insert("ipv6_address_scope".into(), json!(network.scopes[1]));
    map.insert("port_security_enabled".into(), json!(row.port_security_enabled));
    map.insert("tags".into(), json!(row.tags));
    standard(&mut map, &row.project_id, row.revision, row.created_at, row.updated_at);
    Value::Object(map)
}

fn id_of(text: &str) -> Result<NetworkId, Fault> {
    text.parse().map_err(|_| network_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &["shared"])?;
    let (rows, cut) = network.networks(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "networks", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.network(&ctx, id_of(&id)?).await?;
    Ok(Json(one("network", view(&row), &filters)))
}

/// A network that claimed to lead outside would be believed.
fn refuse_external(body: &mut Attributes) -> Result<(), Fault> {
    if body.boolean("router:external")? == Some(true) {
        return Err(http_bad_request(
            "Unrecognized attribute(s) 'router:external': this cloud has no external networks yet",
        ));
    }
    Ok(())
}

fn mtu(body: &mut Attributes) -> Result<Option<u16>, Fault> {
    body.integer("mtu", (i64::MIN, i64::MAX))?.map(check_mtu).transpose()
}

fn dns_domain(body: &mut Attributes) -> Result<Option<String>, Fault> {
    body.string("dns_domain", DNS_NAME_MAX)?.map(|text| read_dns_domain(&text)).transpose()
}

fn read_new(mut body: Attributes) -> Result<NewNetwork, Fault> {
    body.read_only(READ_ONLY)?;
    refuse_external(&mut body)?;
    let new = NewNetwork {
        project: body.project()?,
        name: body.string("name", NAME_MAX)?.unwrap_or_default(),
        description: body.string("description", DESCRIPTION_MAX)?.unwrap_or_default(),
        admin_state_up: body.boolean("admin_state_up")?.unwrap_or(true),
        shared: body.boolean("shared")?,
        port_security_enabled: body.boolean("port_security_enabled")?.unwrap_or(true),
        mtu: mtu(&mut body)?.unwrap_or(MTU),
        dns_domain: dns_domain(&mut body)?.unwrap_or_default(),
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "network", "networks")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("network", "networks", bulk, view);
    ctx.creating(show, async |ctx| network.create_networks(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "network", Verb::Update)?;
    body.read_only(READ_ONLY)?;
    body.read_only(&["tenant_id", "project_id"])?;
    refuse_external(&mut body)?;
    let change = NetworkChange {
        name: body.string("name", NAME_MAX)?,
        description: body.string("description", DESCRIPTION_MAX)?,
        admin_state_up: body.boolean("admin_state_up")?,
        shared: body.boolean("shared")?,
        port_security_enabled: body.boolean("port_security_enabled")?,
        mtu: mtu(&mut body)?,
        dns_domain: dns_domain(&mut body)?,
        tags: None,
        if_match,
    };
    body.finish()?;
    let row = network.update_network(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "network": view(&row) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_network(&ctx, id_of(&id)?, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}
