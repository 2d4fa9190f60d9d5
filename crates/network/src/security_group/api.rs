//! Routes and wire shapes of security groups and their rules.

use axum::extract::State;
use cloud_types::{Fault, SecurityGroupId, SecurityGroupRuleId};
use serde_json::{Map, Value, json};
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{
    RuleRow, RuleSpec, direction_name, ethertype_name, read_direction, read_ethertype,
    read_protocol,
};
use super::service::{GroupChange, GroupView, NewGroup, NewRule};
use super::store::{GROUP_COLUMNS, RULE_COLUMNS};
use crate::Network;
use crate::attributes::{Attributes, DESCRIPTION_MAX, NAME_MAX, Verb, as_net, plain};
use crate::faults::{invalid_attribute, security_group_not_found, security_group_rule_not_found};
use crate::if_match::IfMatch;
use crate::listing::api::{one, page, shown_as, standard};
use crate::listing::model::ListQuery;

const GROUPS: &str = "/v2.0/security-groups";
const GROUP: &str = "/v2.0/security-groups/{id}";
const RULES: &str = "/v2.0/security-group-rules";
const RULE: &str = "/v2.0/security-group-rules/{id}";
const GET: Access = Access::Rule("network:security_groups:get");
const GET_RULES: Access = Access::Rule("network:security_group_rules:get");
/// Attributes that nobody writes.
const READ_ONLY: &[&str] =
    &["id", "revision_number", "created_at", "updated_at", "tags", "security_group_rules"];

/// The routes.
pub fn routes() -> Routes<Network> {
    let change = |action| Access::Rule(action);
    Routes::new(Service::Network)
        .route(Method::GET, GROUPS, GET, list)
        .route(Method::POST, GROUPS, change("network:security_groups:create"), create)
        .route(Method::GET, GROUP, GET, show)
        .route(Method::PUT, GROUP, change("network:security_groups:update"), update)
        .route(Method::DELETE, GROUP, change("network:security_groups:delete"), delete)
        .route(Method::GET, RULES, GET_RULES, list_rules)
        .route(Method::POST, RULES, change("network:security_group_rules:create"), create_rules)
        .route(Method::GET, RULE, GET_RULES, show_rule)
        .route(Method::DELETE, RULE, change("network:security_group_rules:delete"), delete_rule)
}

fn rule_view(rule: &RuleRow) -> Value {
    let spec = &rule.spec;
    let prefix = spec.remote_ip_prefix.map(|net| net.to_string());
    let mut map = Map::new();
    map.insert("id".into(), json!(rule.id));
    map.insert("security_group_id".into(), json!(rule.group_id));
    map.insert("direction".into(), json!(direction_name(spec.direction)));
    map.insert("ethertype".into(), json!(ethertype_name(spec.ipv6)));
    map.insert("protocol".into(), json!(spec.protocol));
    map.insert("port_range_min".into(), json!(spec.port_min));
    map.insert("port_range_max".into(), json!(spec.port_max));
    map.insert("remote_ip_prefix".into(), json!(prefix));
    map.insert("normalized_cidr".into(), json!(spec.remote_ip_prefix.map(|net| net.trunc())));
    map.insert("remote_group_id".into(), json!(spec.remote_group_id));
    map.insert("remote_address_group_id".into(), json!(spec.remote_address_group_id));
    map.insert("description".into(), json!(rule.description));
    standard(&mut map, &rule.project_id, rule.revision, rule.created_at, rule.updated_at);
    Value::Object(map)
}

fn view(group: &GroupView) -> Value {
    let row = &group.group;
    let rules: Vec<Value> = group.rules.iter().map(rule_view).collect();
    let mut map = Map::new();
    map.insert("id".into(), json!(row.id));
    map.insert("name".into(), json!(row.name));
    map.insert("description".into(), json!(row.description));
    map.insert("stateful".into(), json!(row.stateful));
    map.insert("shared".into(), json!(group.shared));
    map.insert("security_group_rules".into(), Value::from(rules));
    map.insert("tags".into(), json!(row.tags));
    standard(&mut map, &row.project_id, row.revision, row.created_at, row.updated_at);
    Value::Object(map)
}

fn id_of(text: &str) -> Result<SecurityGroupId, Fault> {
    text.parse().map_err(|_| security_group_not_found(text))
}

fn rule_id_of(text: &str) -> Result<SecurityGroupRuleId, Fault> {
    text.parse().map_err(|_| security_group_rule_not_found(text))
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, GROUP_COLUMNS, &["shared"])?;
    let (groups, cut) = network.security_groups(&ctx, query.clone()).await?;
    let items = groups.iter().map(view).collect();
    Ok(Json(page(&ctx, &filters, GROUPS, "security_groups", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let group = network.security_group(&ctx, id_of(&id)?).await?;
    Ok(Json(one("security_group", view(&group), &filters)))
}

fn read_new(mut body: Attributes) -> Result<NewGroup, Fault> {
    body.read_only(READ_ONLY)?;
    let new = NewGroup {
        project: body.project()?,
        name: body.string("name", NAME_MAX)?.unwrap_or_default(),
        description: body.string("description", DESCRIPTION_MAX)?.unwrap_or_default(),
        stateful: body.boolean("stateful")?.unwrap_or(true),
    };
    body.finish()?;
    Ok(new)
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "security_group", "security_groups")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let show = shown_as("security_group", "security_groups", bulk, view);
    ctx.creating(show, async |ctx| network.create_security_groups(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "security_group", Verb::Update)?;
    body.read_only(READ_ONLY)?;
    body.read_only(&["tenant_id", "project_id"])?;
    let change = GroupChange {
        name: body.string("name", NAME_MAX)?,
        description: body.string("description", DESCRIPTION_MAX)?,
        stateful: body.boolean("stateful")?,
        tags: None,
        if_match,
    };
    body.finish()?;
    let group = network.update_security_group(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "security_group": view(&group) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_security_group(&ctx, id_of(&id)?, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_rules(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, RULE_COLUMNS, &[])?;
    let (rules, cut) = network.security_group_rules(&ctx, query.clone()).await?;
    let items = rules.iter().map(rule_view).collect();
    Ok(Json(page(&ctx, &filters, RULES, "security_group_rules", &query, items, cut)))
}

async fn show_rule(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let rule = network.security_group_rule(&ctx, rule_id_of(&id)?).await?;
    Ok(Json(one("security_group_rule", rule_view(&rule), &filters)))
}

/// A text, or a number where clients send one.
fn word(body: &mut Attributes, name: &str) -> Option<String> {
    body.take(name).filter(|value| !value.is_null()).map(|value| plain(&value))
}

fn port(body: &mut Attributes, name: &str) -> Result<Option<u16>, Fault> {
    let value = body.integer(name, (i64::MIN, i64::MAX))?;
    value
        .map(|number| {
            u16::try_from(number).map_err(|_| {
                Fault::bad_request(format!("Invalid value for port {number}"))
                    .named("SecurityGroupInvalidPortValue")
            })
        })
        .transpose()
}

fn remote<T: std::str::FromStr>(body: &mut Attributes, name: &str) -> Result<Option<T>, Fault> {
    let value = body.take(name).filter(|value| !value.is_null());
    value
        .map(|value| {
            value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
                invalid_attribute(name, format!("'{}' is not a valid UUID", plain(&value)))
            })
        })
        .transpose()
}

/// What a rule says, of whichever kind of group.
pub fn read_spec(body: &mut Attributes) -> Result<RuleSpec, Fault> {
    let direction = body.required("direction")?;
    let ethertype = word(body, "ethertype").unwrap_or_else(|| "IPv4".to_owned());
    let protocol = word(body, "protocol").unwrap_or_default();
    let prefix = body.take("remote_ip_prefix").filter(|value| !value.is_null());
    Ok(RuleSpec {
        direction: read_direction(&plain(&direction))?,
        ipv6: read_ethertype(&ethertype)?,
        protocol: read_protocol(&protocol)?,
        port_min: port(body, "port_range_min")?,
        port_max: port(body, "port_range_max")?,
        remote_ip_prefix: prefix.map(|value| as_net("remote_ip_prefix", &value)).transpose()?,
        remote_group_id: remote(body, "remote_group_id")?,
        remote_address_group_id: remote(body, "remote_address_group_id")?,
    })
}

fn read_rule(mut body: Attributes) -> Result<NewRule, Fault> {
    body.read_only(&["id", "revision_number", "created_at", "updated_at", "normalized_cidr"])?;
    let group = body.required("security_group_id")?;
    let group_id = group.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        invalid_attribute("security_group_id", format!("'{}' is not a valid UUID", plain(&group)))
    })?;
    let rule = NewRule {
        project: body.project()?,
        group_id,
        spec: read_spec(&mut body)?,
        description: body
            .nullable_string("description", DESCRIPTION_MAX)?
            .flatten()
            .unwrap_or_default(),
    };
    body.finish()?;
    Ok(rule)
}

async fn create_rules(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) =
        Attributes::one_or_many(body, "security_group_rule", "security_group_rules")?;
    let items = items.into_iter().map(read_rule).collect::<Result<_, _>>()?;
    let show = shown_as("security_group_rule", "security_group_rules", bulk, rule_view);
    ctx.creating(show, async |ctx| network.create_security_group_rules(&ctx, items).await).await
}

async fn delete_rule(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_security_group_rule(&ctx, rule_id_of(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
