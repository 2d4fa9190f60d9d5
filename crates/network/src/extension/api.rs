//! Discovery and the list of extensions.

use cloud_types::Fault;
use serde_json::{Value, json};
use service_kit::{Access, ApiResult, Ctx, Filters, Json, Method, Path, Routes, Service};

use super::model::{EXTENSIONS, Extension, RESOURCES};
use crate::Network;
use crate::listing::api::{one, short_list};

const ALL: &str = "/v2.0/extensions";
const GET: Access = Access::Rule("network:extensions:get");

/// The routes.
pub fn routes() -> Routes<Network> {
    Routes::new(Service::Network)
        .route(Method::GET, "", Access::Public, versions)
        .route(Method::GET, "/v2.0", Access::Public, resources)
        .route(Method::GET, ALL, GET, list)
        .route(Method::GET, "/v2.0/extensions/{alias}", GET, show)
}

async fn versions(ctx: Ctx) -> Json<Value> {
    let href = format!("{}/v2.0/", ctx.service_url());
    Json(json!({"versions": [{
        "id": "v2.0",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": href}],
    }]}))
}

async fn resources(ctx: Ctx) -> Json<Value> {
    let url = ctx.service_url();
    let resources: Vec<Value> = RESOURCES
        .iter()
        .map(|(name, collection)| {
            json!({
                "name": name,
                "collection": collection,
                "links": [{"rel": "self", "href": format!("{url}/v2.0/{collection}")}],
            })
        })
        .collect();
    Json(json!({ "resources": resources }))
}

fn view(extension: &Extension) -> Value {
    json!({
        "alias": extension.alias,
        "name": extension.name,
        "description": extension.description,
        "updated": extension.updated,
        "links": [],
    })
}

async fn list(ctx: Ctx, filters: Filters) -> ApiResult<Json<Value>> {
    let items = EXTENSIONS.iter().map(view).collect();
    Ok(Json(short_list(&ctx, &filters, ALL, "extensions", items, "alias")?))
}

async fn show(Path(alias): Path<String>, filters: Filters) -> ApiResult<Json<Value>> {
    let found = EXTENSIONS.iter().find(|extension| extension.alias == alias).ok_or_else(|| {
        Fault::not_found(format!("Extension with alias {alias} does not exist"))
            .named("HTTPNotFound")
    })?;
    Ok(Json(one("extension", view(found), &filters)))
}
