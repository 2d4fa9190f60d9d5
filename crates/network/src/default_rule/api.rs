//! Routes and wire shapes of default rules.

use axum::extract::State;
use cloud_types::{DefaultSecurityGroupRuleId, Fault};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::service::NewDefaultRule;
use super::store::{COLUMNS, DefaultRuleRow, PARENT};
use crate::Network;
use crate::attributes::{Attributes, DESCRIPTION_MAX};
use crate::faults::default_rule_not_found;
use crate::listing::api::{one, page, shown_as};
use crate::listing::model::ListQuery;
use crate::security_group::api::read_spec;
use crate::security_group::model::{direction_name, ethertype_name};

const COLLECTION: &str = "/v2.0/default-security-group-rules";
const ONE: &str = "/v2.0/default-security-group-rules/{id}";
const KEY: &str = "default_security_group_rule";
const MANY: &str = "default_security_group_rules";
const GET: Access = Access::Rule("network:default_security_group_rules:get");
const CREATE: Access = Access::Rule("network:default_security_group_rules:create");
const DELETE: Access = Access::Rule("network:default_security_group_rules:delete");

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, CREATE, create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::DELETE, ONE, DELETE, delete)
}

fn view(row: &DefaultRuleRow) -> Value {
    let spec = &row.spec;
    let remote = Some(row.remote_group()).filter(|text| !text.is_empty());
    let prefix = spec.remote_ip_prefix.map(|net| net.to_string());
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("direction".into(), json!(direction_name(spec.direction)));
    map.insert("ethertype".into(), json!(ethertype_name(spec.ipv6)));
    map.insert("protocol".into(), json!(spec.protocol));
    map.insert("port_range_min".into(), json!(spec.port_min));
    map.insert("port_range_max".into(), json!(spec.port_max));
    map.insert("remote_ip_prefix".into(), json!(prefix));
    map.insert("remote_group_id".into(), json!(remote));
    map.insert("remote_address_group_id".into(), json!(spec.remote_address_group_id));
    map.insert("used_in_default_sg".into(), json!(row.in_default));
    map.insert("used_in_non_default_sg".into(), json!(row.in_others));
    map.insert("description".into(), json!(row.description));
    map.insert("revision_number".into(), json!(row.revision));
    map.insert("created_at".into(), json!(row.created_at.rfc3339_seconds()));
    map.insert("updated_at".into(), json!(row.updated_at.rfc3339_seconds()));
    Value::Object(map)
}

fn id_of(text: &str) -> Result<DefaultSecurityGroupRuleId, Fault> {
    text.parse().map_err(|_| default_rule_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, &[])?;
    let (rows, cut) = network.default_rules(&ctx, query.clone()).await?;
    let items = rows.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, MANY, &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let row = network.default_rule(&ctx, id_of(&id)?).await?;
    Ok(Json(one(KEY, view(&row), &filters)))
}

fn read_new(mut body: Attributes) -> Result<NewDefaultRule, Fault> {
    body.read_only(&["id", "revision_number", "created_at", "updated_at"])?;
    // The rules are the cloud's; whose project asks says nothing.
    body.project()?;
    let parent = body.is_text("remote_group_id", PARENT);
    if parent {
        body.take("remote_group_id");
    }
    let new = NewDefaultRule {
        spec: read_spec(&mut body)?,
        parent,
        in_default: body.boolean("used_in_default_sg")?.unwrap_or(false),
        in_others: body.boolean("used_in_non_default_sg")?.unwrap_or(true),
        description: body
            .nullable_string("description", DESCRIPTION_MAX)?
            .flatten()
            .unwrap_or_default(),
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, KEY, MANY)?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as(KEY, MANY, bulk, view);
    ctx.creating(show, async |ctx| network.create_default_rules(&ctx, items).await).await
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_default_rule(&ctx, id_of(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
