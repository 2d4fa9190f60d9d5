//! What a policy document is, and which one an endpoint follows.

use serde_json::{Value, json};
use service_kit::Ctx;

use crate::catalog::model::{Endpoint, Region};
use crate::wire;

/// A document that some service understands.
#[derive(Clone, Debug)]
pub(crate) struct PolicyDocument {
    pub id: String,
    /// Its MIME type.
    pub kind: String,
    pub blob: String,
}

impl PolicyDocument {
    pub fn view(&self, ctx: &Ctx) -> Value {
        json!({
            "id": self.id,
            "type": self.kind,
            "blob": self.blob,
            "links": {"self": wire::self_link(ctx, "policies", &self.id)},
        })
    }
}

/// What follows a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Follower {
    Endpoint(String),
    Service(String),
    ServiceInRegion { service: String, region: String },
}

/// A row of `identity_policy_associations`.
#[derive(Clone, Debug)]
pub(crate) struct Association {
    pub policy_id: String,
    pub follower: Follower,
}

/// A region and those above it, the nearest first.
fn line<'r>(regions: &'r [Region], from: Option<&str>) -> Vec<&'r str> {
    let mut line: Vec<&str> = Vec::new();
    let mut at = from;
    while let Some(region) = at.and_then(|id| regions.iter().find(|region| region.id == id)) {
        // Rows that form a circle end it.
        if line.contains(&region.id.as_str()) {
            break;
        }
        line.push(&region.id);
        at = region.parent_region_id.as_deref();
    }
    line
}

/// The policy that an endpoint follows: its own, else that of its service in its region or the
/// nearest region above, else that of its service.
pub(crate) fn policy_for<'a>(
    endpoint: &Endpoint,
    associations: &'a [Association],
    regions: &[Region],
) -> Option<&'a str> {
    let find = |wanted: &Follower| {
        associations
            .iter()
            .find(|association| association.follower == *wanted)
            .map(|association| association.policy_id.as_str())
    };
    let in_region = |region: &&str| {
        let (service, region) = (endpoint.service_id.clone(), (*region).to_owned());
        find(&Follower::ServiceInRegion { service, region })
    };
    find(&Follower::Endpoint(endpoint.id.clone()))
        .or_else(|| line(regions, endpoint.region_id.as_deref()).iter().find_map(in_region))
        .or_else(|| find(&Follower::Service(endpoint.service_id.clone())))
}

/// Whether an association is about the endpoint, whatever others say.
pub(crate) fn concerns(association: &Association, endpoint: &Endpoint, regions: &[Region]) -> bool {
    match &association.follower {
        Follower::Endpoint(id) => *id == endpoint.id,
        Follower::Service(service) => *service == endpoint.service_id,
        Follower::ServiceInRegion { service, region } => {
            *service == endpoint.service_id
                && line(regions, endpoint.region_id.as_deref()).contains(&region.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_association_decides() {
        let region = |id: &str, parent: Option<&str>| Region {
            id: id.into(),
            description: String::new(),
            parent_region_id: parent.map(str::to_owned),
        };
        let regions =
            [region("top", Some("leaf")), region("mid", Some("top")), region("leaf", Some("mid"))];
        let endpoint = Endpoint {
            id: "e".into(),
            service_id: "s".into(),
            region_id: Some("leaf".into()),
            interface: "public".into(),
            url: "u".into(),
            enabled: true,
            makes_region: false,
        };
        let of = |policy: &str, follower| Association { policy_id: policy.into(), follower };
        let mut known = vec![of("by-service", Follower::Service("s".into()))];
        let policy =
            |known: &[Association]| policy_for(&endpoint, known, &regions).map(str::to_owned);
        assert_eq!(policy(&known).as_deref(), Some("by-service"));
        let top = Follower::ServiceInRegion { service: "s".into(), region: "top".into() };
        known.push(of("by-region", top));
        assert_eq!(policy(&known).as_deref(), Some("by-region"));
        known.push(of("own", Follower::Endpoint("e".into())));
        assert_eq!(policy(&known).as_deref(), Some("own"));
        assert!(known.iter().all(|association| concerns(association, &endpoint, &regions)));
        assert_eq!(policy(&[]), None);
    }
}
