//! Routes and wire shapes of ports.

use axum::extract::State;
use cloud_types::{Fault, PortId};
use serde_json::{Map, Value, json};
use service_kit::policy::Target;
use service_kit::{
    Access, ApiResult, Created, Ctx, Filters, Json, Method, Path, Routes, Service, StatusCode,
    StrictJson,
};

use super::model::{
    Port, name_of_address, pair_address, read_address_pairs, read_dhcp_options, read_fixed_ips,
};
use super::service::{NewPort, PortChange, PortFilters};
use super::store::{COLUMNS, FixedIpFilter, SPECIAL};
use crate::Network;
use crate::attributes::{Attributes, DESCRIPTION_MAX, NAME_MAX, Verb, as_mac, plain};
use crate::faults::{http_bad_request, invalid_attribute, port_not_found};
use crate::if_match::IfMatch;
use crate::listing::api::{one, page, shown_as, standard};
use crate::listing::model::ListQuery;
use crate::network::model::{DNS_NAME_MAX, read_dns_domain};
use crate::tag::model::read_tags;

const COLLECTION: &str = "/v2.0/ports";
const ONE: &str = "/v2.0/ports/{id}";
const GET: Access = Access::Rule("network:ports:get");
/// Attributes that nobody writes.
const READ_ONLY: &[&str] = &[
    "id",
    "status",
    "revision_number",
    "created_at",
    "updated_at",
    "dns_assignment",
    "binding:vif_type",
    "binding:vif_details",
];

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, COLLECTION, GET, list)
        .route(Method::POST, COLLECTION, Access::Rule("network:ports:create"), create)
        .route(Method::GET, ONE, GET, show)
        .route(Method::PUT, ONE, Access::Rule("network:ports:update"), update)
        .route(Method::DELETE, ONE, Access::Rule("network:ports:delete"), delete)
}

/// A port as the caller may see it: where it lives is for operators.
fn view(ctx: &Ctx, port: &Port) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), json!(port.id));
    map.insert("name".into(), json!(port.name));
    map.insert("description".into(), json!(port.description));
    map.insert("network_id".into(), json!(port.network_id));
    map.insert("mac_address".into(), json!(port.mac));
    map.insert("admin_state_up".into(), json!(port.admin_state_up));
    map.insert("status".into(), json!(port.status.as_str()));
    map.insert("device_id".into(), json!(port.device_id));
    map.insert("device_owner".into(), json!(port.device_owner));
    let ips = port
        .fixed_ips
        .iter()
        .map(|(subnet, ip)| json!({"subnet_id": subnet, "ip_address": ip}))
        .collect::<Vec<_>>();
    map.insert("fixed_ips".into(), Value::from(ips));
    let pairs = port
        .allowed_address_pairs
        .iter()
        .map(|pair| {
            json!({
                "ip_address": pair_address(&pair.ip_address),
                "mac_address": pair.mac_address.unwrap_or(port.mac),
            })
        })
        .collect::<Vec<_>>();
    map.insert("allowed_address_pairs".into(), Value::from(pairs));
    map.insert("security_groups".into(), json!(port.security_groups));
    map.insert("dns_name".into(), json!(port.given_name()));
    map.insert("dns_domain".into(), json!(port.dns_domain));
    map.insert("dns_assignment".into(), Value::from(dns_assignment(port)));
    let options = port
        .extra_dhcp_opts
        .iter()
        .map(|option| {
            json!({
                "opt_name": option.name,
                "opt_value": option.value,
                "ip_version": option.ip_version,
            })
        })
        .collect::<Vec<_>>();
    map.insert("extra_dhcp_opts".into(), Value::from(options));
    map.insert("port_security_enabled".into(), json!(port.port_security_enabled));
    map.insert("binding:vnic_type".into(), json!(port.vnic_type));
    if ctx.may("network:ports:get:binding", &Target::project(&port.project_id)) {
        let vif = if port.binding.is_some() { "ovs" } else { "unbound" };
        map.insert("binding:vif_type".into(), json!(vif));
        map.insert("binding:vif_details".into(), json!({}));
        map.insert("binding:host_id".into(), json!(port.binding_host));
        map.insert("binding:profile".into(), port.binding_profile.clone());
    }
    map.insert("tags".into(), json!(port.tags));
    standard(&mut map, &port.project_id, port.revision, port.created_at, port.updated_at);
    Value::Object(map)
}

/// The names under which the tenant's DNS knows the port's addresses.
fn dns_assignment(port: &Port) -> Vec<Value> {
    let assigned = |ip: &std::net::IpAddr| {
        let name = match port.given_name() {
            "" => name_of_address(*ip),
            name => name.to_owned(),
        };
        let fqdn = format!("{name}.{}.", port.domain);
        json!({"ip_address": ip, "hostname": name, "fqdn": fqdn})
    };
    port.fixed_ips.iter().map(|(_, ip)| assigned(ip)).collect()
}

fn id_of(text: &str) -> Result<PortId, Fault> {
    text.parse().map_err(|_| port_not_found(text))
}

fn read_filters(query: &ListQuery) -> Result<PortFilters, Fault> {
    let mut filters = PortFilters::default();
    for (name, values) in &query.special {
        if name != "fixed_ips" {
            filters.security_groups.extend(values.iter().cloned());
            continue;
        }
        // As clients write it: fixed_ips=ip_address=10.0.0.5, several separated by commas too.
        for value in values.iter().flat_map(|value| value.split(',')) {
            let (key, wanted) = value.split_once('=').unwrap_or((value, ""));
            filters.fixed_ips.push(match key.trim() {
                "subnet_id" => FixedIpFilter::Subnet(wanted.to_owned()),
                "ip_address" => {
                    let canonical = wanted.parse::<std::net::IpAddr>().map(|ip| ip.to_string());
                    FixedIpFilter::Address(canonical.unwrap_or_else(|_| wanted.to_owned()))
                }
                "ip_address_substr" => FixedIpFilter::Part(wanted.to_owned()),
                other => {
                    return Err(http_bad_request(format!(
                        "'{other}' is invalid attribute for filtering fixed_ips"
                    )));
                }
            });
        }
    }
    Ok(filters)
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let query = ListQuery::parse(&filters.0, COLUMNS, SPECIAL)?;
    let special = read_filters(&query)?;
    let (ports, cut) = network.ports(&ctx, query.clone(), special).await?;
    let items = ports.iter().map(|port| view(&ctx, port)).collect();
    Ok(Json(page(&ctx, &filters, COLLECTION, "ports", &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let port = network.port(&ctx, id_of(&id)?).await?;
    Ok(Json(one("port", view(&ctx, &port), &filters)))
}

/// What may be written both when a port is made and later.
fn read_change(body: &mut Attributes) -> Result<PortChange, Fault> {
    let mac = body.take("mac_address");
    let new_mac = mac.as_ref().is_some_and(Value::is_null);
    let mac = mac.filter(|value| !value.is_null());
    Ok(PortChange {
        name: body.string("name", NAME_MAX)?,
        description: body.string("description", DESCRIPTION_MAX)?,
        admin_state_up: body.boolean("admin_state_up")?,
        mac: mac.map(|value| as_mac("mac_address", &value)).transpose()?,
        fixed_ips: body.take("fixed_ips").map(|value| read_fixed_ips(&value)).transpose()?,
        device_id: body.string("device_id", NAME_MAX)?,
        device_owner: body.string("device_owner", NAME_MAX)?,
        security_groups: if body.has("security_groups") {
            Some(body.ids("security_groups")?.unwrap_or_default())
        } else {
            None
        },
        port_security_enabled: body.boolean("port_security_enabled")?,
        allowed_address_pairs: body
            .take("allowed_address_pairs")
            .map(|value| read_address_pairs(&value))
            .transpose()?,
        binding_host: body
            .nullable_string("binding:host_id", NAME_MAX)?
            .map(Option::unwrap_or_default),
        vnic_type: body.string("binding:vnic_type", NAME_MAX)?,
        binding_profile: body.take("binding:profile"),
        dns_name: body
            .nullable_string("dns_name", DNS_NAME_MAX + 1)?
            .map(Option::unwrap_or_default),
        dns_domain: body
            .nullable_string("dns_domain", DNS_NAME_MAX)?
            .map(|text| read_dns_domain(&text.unwrap_or_default()))
            .transpose()?,
        extra_dhcp_opts: body
            .take("extra_dhcp_opts")
            .map(|value| read_dhcp_options(&value))
            .transpose()?,
        new_mac,
        tags: None,
        if_match: IfMatch::default(),
    })
}

fn read_new(mut body: Attributes) -> Result<NewPort, Fault> {
    body.read_only(READ_ONLY)?;
    let network_id = body.required("network_id")?;
    let network_id = network_id.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        invalid_attribute("network_id", format!("'{}' is not a valid UUID", plain(&network_id)))
    })?;
    let project = body.project()?;
    let tags = body.take("tags").map(|tags| read_tags(&json!({ "tags": tags }))).transpose()?;
    let change = read_change(&mut body)?;
    body.finish()?;
    Ok(NewPort {
        project,
        network_id,
        name: change.name.unwrap_or_default(),
        description: change.description.unwrap_or_default(),
        admin_state_up: change.admin_state_up.unwrap_or(true),
        mac: change.mac,
        fixed_ips: change.fixed_ips,
        device_id: change.device_id.unwrap_or_default(),
        device_owner: change.device_owner.unwrap_or_default(),
        security_groups: change.security_groups,
        port_security_enabled: change.port_security_enabled,
        allowed_address_pairs: change.allowed_address_pairs.unwrap_or_default(),
        binding_host: change.binding_host.filter(|host| !host.is_empty()),
        vnic_type: change.vnic_type,
        binding_profile: change.binding_profile,
        dns_name: change.dns_name.unwrap_or_default(),
        dns_domain: change.dns_domain.unwrap_or_default(),
        extra_dhcp_opts: change.extra_dhcp_opts.unwrap_or_default(),
        tags: tags.unwrap_or_default(),
    })
}

async fn create(
    State(network): State<Network>,
    ctx: Ctx,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Created> {
    let (items, bulk) = Attributes::one_or_many(body, "port", "ports")?;
    let items = items.into_iter().map(read_new).collect::<Result<_, _>>()?;
    let viewer = ctx.clone();
    let show = shown_as("port", "ports", bulk, move |port| view(&viewer, port));
    ctx.creating(show, async |ctx| network.create_ports(&ctx, items).await).await
}

async fn update(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
    StrictJson(body): StrictJson<Value>,
) -> ApiResult<Json<Value>> {
    let mut body = Attributes::single(body, "port", Verb::Update)?;
    body.read_only(READ_ONLY)?;
    body.read_only(&["tenant_id", "project_id", "network_id", "tags"])?;
    let change = PortChange { if_match, ..read_change(&mut body)? };
    body.finish()?;
    let port = network.update_port(&ctx, id_of(&id)?, change).await?;
    Ok(Json(json!({ "port": view(&ctx, &port) })))
}

async fn delete(
    State(network): State<Network>,
    ctx: Ctx,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    network.delete_port(&ctx, id_of(&id)?, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}
