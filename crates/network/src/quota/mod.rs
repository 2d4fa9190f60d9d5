//! Quotas as Neutron shows them; `service_kit` keeps and checks them.

pub mod api;
pub mod service;

use service_kit::quota::{QuotaDefault, UNLIMITED};

/// Neutron's default limits, for each project.
pub const DEFAULTS: &[QuotaDefault] = &[
    QuotaDefault { resource: "network", limit: 100 },
    QuotaDefault { resource: "subnet", limit: 100 },
    QuotaDefault { resource: "port", limit: 500 },
    QuotaDefault { resource: "security_group", limit: 10 },
    QuotaDefault { resource: "security_group_rule", limit: 100 },
    QuotaDefault { resource: "rbac_policy", limit: 10 },
    QuotaDefault { resource: "subnetpool", limit: UNLIMITED },
    QuotaDefault { resource: "address_scope", limit: UNLIMITED },
    QuotaDefault { resource: "address_group", limit: UNLIMITED },
];
