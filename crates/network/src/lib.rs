//! Neutron v2.0: flat networks that belong to one tenant, on every host that has a guest on them.
//!
//! What a user writes here becomes rows, and, in the same transaction, documents for the hosts
//! concerned and no others. A host gets its own ports with their security groups resolved to
//! addresses, the networks of these ports, and the neighbours: ports of the same networks on other
//! hosts. From that it computes flows by itself; nothing here waits for a host.
//!
//! ```text
//!   POST /v2.0/ports ──▶ row, addresses           (compute) bind_port
//!                                                     │
//!        port document on its host ◀──────────────────┤
//!        network document, when it is the first there ┤
//!        neighbour documents, there and back ◀────────┘
//!        port documents of whoever lets this port's group in
//! ```
//!
//! One lock orders all changes of a network: addresses, MACs and who lives where. One lock orders
//! the security groups of a project.

mod address;
mod address_group;
mod address_scope;
mod agent;
mod attributes;
mod availability;
mod binding;
mod default_rule;
mod extension;
pub mod faults;
mod if_match;
mod listing;
mod migrations;
mod network;
mod policy;
mod port;
mod quota;
mod rbac;
mod security_group;
mod subnet;
mod subnet_pool;
mod tag;
#[cfg(test)]
mod test_support;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cloud_types::{Fault, NetworkId, ProjectId};
use database::{JournalEntry, ObjectLock, Tx};
use serde::Serialize;
use service_kit::{Ctx, Kit, Routes, Service, policy::Target, quota::QuotaError};

pub use migrations::MIGRATIONS;
pub use network::model::{NetworkRow, NetworkView};
pub use network::service::{NetworkChange, NewNetwork};
pub use policy::POLICY;
pub use port::model::{
    ACCESS_OWNER, AddressPair, FixedIpWish, NicRequest, Port, PortBinding, PortStatus, PortView,
    ServerOwner,
};
pub use port::service::{NewPort, PortChange};
pub use quota::DEFAULTS as QUOTA_DEFAULTS;
pub use security_group::model::{GroupRow, RuleRow, RuleSpec};
pub use security_group::service::{GroupChange, GroupView, NewGroup, NewRule};
pub use subnet::model::{GatewayWish, SubnetRow};
pub use subnet::service::{NewSubnet, RangeOf, SubnetChange};

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Search domain that guests are given, without dots at its ends. `.internal` is reserved for
    /// private use (ICANN resolution 2024.07.29.06).
    pub dns_domain: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { dns_domain: "meridian.internal".to_owned() }
    }
}

/// The network service. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    kit: Kit,
    settings: Arc<Settings>,
}

impl Network {
    /// A service on the kit's database, which must have been migrated with [`MIGRATIONS`].
    pub fn new(kit: Kit, settings: Settings) -> Self {
        Network { kit, settings: Arc::new(settings) }
    }

    /// The routes below `/network`.
    pub fn routes<S>(&self) -> Routes<S> {
        Routes::new(Service::Network)
            .merge(network::api::routes())
            .merge(subnet::api::routes())
            .merge(port::api::routes())
            .merge(security_group::api::routes())
            .merge(default_rule::api::routes())
            .merge(address_group::api::routes())
            .merge(address_scope::api::routes())
            .merge(subnet_pool::api::routes())
            .merge(rbac::api::routes())
            .merge(availability::api::routes())
            .merge(tag::api::routes())
            .merge(quota::api::routes())
            .merge(extension::api::routes())
            .merge(agent::api::routes())
            .with_state(self.clone())
    }
}

/// The project whose view a list shows; `None` for those who see all.
fn viewer(ctx: &Ctx) -> Result<Option<ProjectId>, Fault> {
    if ctx.may("network:all_projects", &Target::none()) {
        return Ok(None);
    }
    ctx.project().map(Some)
}

/// The project for which the caller's token is, if it is for one.
fn caller_project(ctx: &Ctx) -> Option<ProjectId> {
    ctx.token.as_ref()?.project.as_ref().map(|project| project.id.clone())
}

/// Whether an object of `owner` is shown to the viewer.
fn sees(viewer: Option<&ProjectId>, owner: &ProjectId) -> bool {
    viewer.is_none_or(|project| project == owner)
}

/// The owner of a new object: the caller's project, or the one that an operator names.
fn owner(ctx: &Ctx, named: Option<ProjectId>) -> Result<ProjectId, Fault> {
    let Some(named) = named else { return ctx.project() };
    let own = ctx.token()?.project.as_ref().map(|project| &project.id);
    if own != Some(&named) && !ctx.may("network:all_projects", &Target::none()) {
        return Err(faults::http_bad_request(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in \
             request requires admin privileges",
        ));
    }
    Ok(named)
}

/// A refused quota in Neutron's words.
fn quota_fault(error: QuotaError) -> Fault {
    match error {
        QuotaError::Over(over) => over.network_fault(),
        QuotaError::Database(error) => error.into(),
    }
}

/// Orders all changes of one network.
fn network_lock(id: &NetworkId) -> ObjectLock {
    ObjectLock::new("network", id)
}

/// Orders all changes of one project's security groups and of who is in them. Sorts after
/// [`network_lock`].
fn groups_lock(project: &ProjectId) -> ObjectLock {
    ObjectLock::new("security_groups", project)
}

/// Writes a change into the journal.
fn journal<T: Serialize>(
    tx: &mut Tx,
    kind: &'static str,
    id: impl ToString,
    project: &ProjectId,
    before: Option<&T>,
    after: Option<&T>,
) {
    let action = match (before.is_some(), after.is_some()) {
        (false, _) => "create",
        (true, true) => "update",
        (true, false) => "delete",
    };
    let json = |value: Option<&T>| value.and_then(|value| serde_json::to_value(value).ok());
    tx.journal(JournalEntry {
        kind,
        id: id.to_string(),
        project: Some(project.clone()),
        action,
        before: json(before),
        after: json(after),
    });
}
