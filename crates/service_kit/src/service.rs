//! The services that share the one port: where each lives, what its faults look like and which
//! microversions it answers.

use crate::microversion::{Microversion, MicroversionRange};

/// One of the services of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Keystone v3, below `/identity`.
    Identity,
    /// Nova v2.1, below `/compute`.
    Compute,
    /// Neutron v2.0, below `/network`.
    Network,
    /// Glance v2, below `/image`.
    Image,
    /// What Meridian adds, below `/meridian`.
    Meridian,
}

impl Service {
    /// All services, in the order in which discovery lists them.
    pub const ALL: [Service; 5] =
        [Service::Identity, Service::Compute, Service::Network, Service::Image, Service::Meridian];

    /// Where the service's paths begin, without a trailing slash.
    pub const fn prefix(self) -> &'static str {
        match self {
            Service::Identity => "/identity",
            Service::Compute => "/compute",
            Service::Network => "/network",
            Service::Image => "/image",
            Service::Meridian => "/meridian",
        }
    }

    /// The service's type in the catalogue; also its name in metrics and policy rules.
    pub const fn catalog_type(self) -> &'static str {
        match self {
            Service::Identity => "identity",
            Service::Compute => "compute",
            Service::Network => "network",
            Service::Image => "image",
            Service::Meridian => "meridian",
        }
    }

    /// The service that a path belongs to.
    pub fn of_path(path: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| {
            path.strip_prefix(service.prefix())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The microversions that the service answers; `None` where it has none.
    pub const fn microversions(self) -> Option<MicroversionRange> {
        match self {
            Service::Compute => Some(MicroversionRange {
                service_type: "compute",
                legacy_header: Some("x-openstack-nova-api-version"),
                min: Microversion::new(2, 1),
                max: Microversion::new(2, 96),
            }),
            _ => None,
        }
    }

    /// A second header that carries the request id, where the service's clients look for one.
    pub const fn legacy_request_id_header(self) -> Option<&'static str> {
        match self {
            Service::Compute => Some("x-compute-request-id"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_the_service_whose_prefix_is_a_whole_segment() {
        assert_eq!(Service::of_path("/identity"), Some(Service::Identity));
        assert_eq!(Service::of_path("/image/v2/images"), Some(Service::Image));
        assert_eq!(Service::of_path("/images"), None);
        assert_eq!(Service::of_path("/"), None);
    }
}
