//! Routes and wire shapes of address availability.

use axum::extract::State;
use cloud_types::{Fault, NetworkId};
use serde_json::{Map, Number, Value, json};
use service_kit::policy::Target;
use service_kit::{Access, ApiResult, Ctx, Filters, Json, Method, Path, Routes, Service};

use super::store::{self, COLUMNS, NetworkAvailability};
use crate::Network;
use crate::faults::{http_bad_request, network_not_found};
use crate::listing::api::{one, page};
use crate::listing::model::{FilterValue, ListQuery};
use crate::subnet::model::version_of;

const COLLECTION: &str = "/v2.0/network-ip-availabilities";
const ONE: &str = "/v2.0/network-ip-availabilities/{id}";
const RULE: &str = "network:network_ip_availabilities:get";

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network).route(Method::GET, COLLECTION, Access::Rule(RULE), list).route(
        Method::GET,
        ONE,
        Access::Rule(RULE),
        show,
    )
}

impl Network {
    /// A page of the networks with their addresses; with `version`, those of that version alone.
    pub async fn availabilities(
        &self,
        ctx: &Ctx,
        query: ListQuery,
        version: Option<i64>,
    ) -> Result<(Vec<NetworkAvailability>, bool), Fault> {
        ctx.authorise(RULE, &Target::none())?;
        self.kit
            .db
            .read(move |tx| {
                let query = query.clone();
                Box::pin(async move { store::list(tx, &query, version).await })
            })
            .await
    }

    /// The network's addresses.
    pub async fn availability(
        &self,
        ctx: &Ctx,
        id: NetworkId,
    ) -> Result<NetworkAvailability, Fault> {
        ctx.authorise(RULE, &Target::none())?;
        self.kit
            .db
            .read(move |tx| {
                Box::pin(
                    async move { store::get(tx, &id).await?.ok_or_else(|| network_not_found(id)) },
                )
            })
            .await
    }
}

/// A count as JSON; what a whole number of 64 bits cannot hold is shown rounded.
fn count(n: u128) -> Value {
    #[allow(clippy::cast_precision_loss)]
    let rounded = || Number::from_f64(n as f64).map_or(Value::Null, Value::Number);
    u64::try_from(n).map_or_else(|_| rounded(), Value::from)
}

fn view(network: &NetworkAvailability) -> Value {
    let subnets: Vec<Value> = network
        .subnets
        .iter()
        .map(|subnet| {
            json!({
                "subnet_id": subnet.id,
                "subnet_name": subnet.name,
                "cidr": subnet.cidr,
                "ip_version": version_of(&subnet.cidr),
                "total_ips": count(subnet.total),
                "used_ips": subnet.used,
            })
        })
        .collect();
    let mut map = Map::new();
    map.insert("network_id".into(), json!(network.id));
    map.insert("network_name".into(), json!(network.name));
    map.insert("tenant_id".into(), json!(network.project_id));
    map.insert("project_id".into(), json!(network.project_id));
    map.insert("total_ips".into(), count(network.total()));
    map.insert("used_ips".into(), json!(network.used()));
    map.insert("subnet_ip_availability".into(), Value::from(subnets));
    Value::Object(map)
}

async fn list(
    State(network): State<Network>,
    ctx: Ctx,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let mut query = ListQuery::parse(&filters.0, COLUMNS, &[])?;
    let version = match query.filters.iter().position(|(column, _)| column.name == "ip_version") {
        None => None,
        Some(at) => match query.filters.remove(at).1.as_slice() {
            [FilterValue::Int(version @ (4 | 6))] => Some(*version),
            _ => return Err(http_bad_request("ip_version must be 4 or 6").into()),
        },
    };
    let (rows, cut) = network.availabilities(&ctx, query.clone(), version).await?;
    let items = rows.iter().map(view).collect();
    let key = "network_ip_availabilities";
    Ok(Json(page(&ctx, &filters, COLLECTION, key, &query, items, cut)))
}

async fn show(
    State(network): State<Network>,
    ctx: Ctx,
    Path(id): Path<String>,
    filters: Filters,
) -> ApiResult<Json<Value>> {
    let wanted = id.parse().map_err(|_| network_not_found(&id))?;
    let row = network.availability(&ctx, wanted).await?;
    Ok(Json(one("network_ip_availability", view(&row), &filters)))
}
