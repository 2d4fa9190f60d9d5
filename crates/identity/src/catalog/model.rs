//! What the catalogue is made of.

use cloud_types::{Fault, ProjectId};
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

/// What an endpoint's URL may leave to be filled in; upstream's list.
const SUBSTITUTIONS: [&str; 10] = [
    "tenant_id",
    "project_id",
    "user_id",
    "public_bind_host",
    "admin_bind_host",
    "compute_host",
    "admin_port",
    "public_port",
    "public_endpoint",
    "admin_endpoint",
];

/// Whether everything that a URL leaves to be filled in, `%(…)s` or `$(…)s`, is known.
///
/// # Errors
/// 400 as upstream's.
pub(crate) fn check_url(url: &str) -> Result<(), Fault> {
    let mut parts = url.split("%(").flat_map(|part| part.split("$("));
    // What stands before the first has nothing to be filled in.
    parts.next();
    let known = parts.all(|part| {
        part.split_once(')')
            .is_some_and(|(name, rest)| SUBSTITUTIONS.contains(&name) && rest.starts_with('s'))
    });
    if known {
        return Ok(());
    }
    Err(Fault::bad_request(format!(
        "Cannot create an endpoint with an invalid URL: {url}. Between %( and )s, or $( and )s, \
         stands one of {}.",
        SUBSTITUTIONS.join(", ")
    )))
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

    #[test]
    fn what_a_url_leaves_to_be_filled_in_is_known() {
        for good in
            ["http://x/%20y", "http://x/v1/$(tenant_id)s", "https://x/%(project_id)s/%(user_id)s"]
        {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["http://x/%(nope)s", "http://x/%(tenant_id)", "http://x/$(tenant_id", "%()s"] {
            assert_eq!(check_url(bad).unwrap_err().status(), 400, "{bad}");
        }
    }
}
