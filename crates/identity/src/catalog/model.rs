//! What the catalogue is made of.

use cloud_types::ProjectId;
use serde_json::{Value, json};
use service_kit::Ctx;

use crate::wire;

/// A region.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    pub id: String,
    pub description: String,
    pub parent_region_id: Option<String>,
}

/// A service.
#[derive(Clone, Debug)]
pub(crate) struct CatalogService {
    pub id: String,
    pub kind: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

/// Where a service is.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub id: String,
    pub service_id: String,
    pub region_id: Option<String>,
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// May name the project: `$(project_id)s`.
    pub url: String,
    pub enabled: bool,
    /// Whether the region is made if there is none: asked for by the region's old name, `region`.
    /// Not kept.
    pub makes_region: bool,
}

impl Region {
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "description": self.description,
            "parent_region_id": self.parent_region_id,
            "links": {"self": wire::self_link(ctx, "regions", &self.id)},
        })
    }
}

impl CatalogService {
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "type": self.kind,
            "name": self.name,
            "description": self.description,
            "enabled": self.enabled,
            "links": {"self": wire::self_link(ctx, "services", &self.id)},
        })
    }
}

impl Endpoint {
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "service_id": self.service_id,
            "region_id": self.region_id,
            "region": self.region_id,
            "interface": self.interface,
            "url": self.url,
            "enabled": self.enabled,
            "links": {"self": wire::self_link(ctx, "endpoints", &self.id)},
        })
    }
}

/// The catalogue as a token shows it. An endpoint that names a project is left out of tokens
/// without one.
pub(crate) fn catalog(
    services: &[CatalogService],
    endpoints: &[Endpoint],
    project: Option<&ProjectId>,
) -> Value {
    services
        .iter()
        .filter(|service| service.enabled)
        .map(|service| {
            let shown: Vec<Value> = endpoints
                .iter()
                .filter(|endpoint| endpoint.enabled && endpoint.service_id == service.id)
                .filter_map(|endpoint| {
                    let url = substitute(&endpoint.url, project)?;
                    Some(json!({
                        "id": endpoint.id,
                        "interface": endpoint.interface,
                        "region": endpoint.region_id,
                        "region_id": endpoint.region_id,
                        "url": url,
                    }))
                })
                .collect();
            json!({
                "id": service.id,
                "type": service.kind,
                "name": service.name,
                "endpoints": shown,
            })
        })
        .collect()
}

fn substitute(url: &str, project: Option<&ProjectId>) -> Option<String> {
    const PLACES: [&str; 4] =
        ["$(project_id)s", "%(project_id)s", "$(tenant_id)s", "%(tenant_id)s"];
    if !PLACES.iter().any(|place| url.contains(place)) {
        return Some(url.to_owned());
    }
    let project = project?.as_str();
    Some(PLACES.iter().fold(url.to_owned(), |url, place| url.replace(place, project)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_names_the_project_needs_one() {
        let project: ProjectId = "p1".parse().unwrap();
        let url = "https://c/object/AUTH_$(project_id)s";
        assert_eq!(substitute(url, Some(&project)).as_deref(), Some("https://c/object/AUTH_p1"));
        assert_eq!(substitute(url, None), None);
        assert_eq!(substitute("https://c/image", None).as_deref(), Some("https://c/image"));
    }
}
