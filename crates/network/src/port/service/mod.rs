//! Creating, showing, changing and deleting ports. What compute does with the ports of its servers
//! is in [`server`].

mod adopt;
mod change;
mod create;
mod server;

use cloud_types::{Fault, PortId, ProjectId, SecurityGroupId};
use database::Tx;
use planted_bugs::planted;
use serde_json::Value;
use service_kit::quota::check_and_add;
use service_kit::{Ctx, policy::Target};

use super::model::Port;
use super::store::{self, FixedIpFilter};
use crate::address::service as addresses;
use crate::binding::service as binding;
use crate::binding::store::is_quarantined;
use crate::if_match::IfMatch;
use crate::listing::model::ListQuery;
use crate::network::store as networks;
use crate::security_group::store as groups;
use crate::{Network, faults, groups_lock, journal, network_lock, quota_fault, sees, viewer};

pub use change::PortChange;
pub use create::NewPort;

/// Conditions on a list of ports that are not a column.
#[derive(Clone, Debug, Default)]
pub struct PortFilters {
    /// Conditions on addresses.
    pub fixed_ips: Vec<FixedIpFilter>,
    /// Any of these groups.
    pub security_groups: Vec<String>,
}

impl Network {
    /// The port, if the caller sees it.
    pub async fn port(&self, ctx: &Ctx, id: PortId) -> Result<Port, Fault> {
        ctx.authorise("network:ports:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move { visible(tx, viewer.as_ref(), &id).await })
            })
            .await
    }

    /// A page of the ports that the caller sees.
    pub async fn ports(
        &self,
        ctx: &Ctx,
        query: ListQuery,
        filters: PortFilters,
    ) -> Result<(Vec<Port>, bool), Fault> {
        ctx.authorise("network:ports:get", &Target::none())?;
        let viewer = viewer(ctx)?;
        self.kit
            .db
            .read(move |tx| {
                let (viewer, query, filters) = (viewer.clone(), query.clone(), filters.clone());
                Box::pin(async move {
                    let PortFilters { fixed_ips, security_groups } = filters;
                    store::list(tx, viewer.as_ref(), &query, &fixed_ips, &security_groups).await
                })
            })
            .await
    }

    /// Deletes a port. A server's port may be deleted under it, as in Neutron: it loses its flows
    /// and its addresses at once. The guest keeps a NIC that leads nowhere until it ends, and starts
    /// without it the next time.
    pub async fn delete_port(&self, ctx: &Ctx, id: PortId, if_match: IfMatch) -> Result<(), Fault> {
        let viewer = viewer(ctx)?;
        let caller = ctx.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), caller.clone());
                Box::pin(async move {
                    let port = locked(tx, viewer.as_ref(), &id, &[]).await?;
                    authorise(tx, &ctx, "network:ports:delete", &port).await?;
                    if_match.check(port.revision)?;
                    delete(tx, port).await
                })
            })
            .await
    }
}

/// The port, if the viewer sees it: its own, or one on its network.
pub async fn visible(tx: &mut Tx, viewer: Option<&ProjectId>, id: &PortId) -> Result<Port, Fault> {
    let port = store::get(tx, id).await?.ok_or_else(|| faults::port_not_found(id))?;
    if sees(viewer, &port.project_id) {
        return Ok(port);
    }
    let network = networks::get(tx, &port.network_id).await?;
    if network.is_some_and(|network| sees(viewer, &network.project_id)) {
        return Ok(port);
    }
    Err(faults::port_not_found(id))
}

/// The port, read after the locks of its network, of its owner's groups, and of the owners of the
/// groups that it is in, or is to be in, were taken.
async fn locked(
    tx: &mut Tx,
    viewer: Option<&ProjectId>,
    id: &PortId,
    more: &[SecurityGroupId],
) -> Result<Port, Fault> {
    let (network, project) =
        store::place_of(tx, id).await?.ok_or_else(|| faults::port_not_found(id))?;
    let mut locks = vec![network_lock(&network), groups_lock(&project)];
    locks.extend(store::owners_of_groups(tx, id).await?.iter().map(groups_lock));
    locks.extend(groups::owners_of(tx, more).await?.iter().map(groups_lock));
    tx.lock(&locks).await?;
    visible(tx, viewer, id).await
}

/// Asks the policy for the port's owner, and then for its network's, who may do to ports on the
/// network what owners may.
async fn authorise(tx: &mut Tx, ctx: &Ctx, rule: &'static str, port: &Port) -> Result<(), Fault> {
    if ctx.may(rule, &Target::project(&port.project_id)) {
        return Ok(());
    }
    let network = networks::get(tx, &port.network_id)
        .await?
        .ok_or_else(|| faults::network_not_found(port.network_id))?;
    ctx.authorise(rule, &Target::project(&network.project_id))
}

/// Removes a port with all that it holds. The caller holds its locks.
pub async fn delete(tx: &mut Tx, port: Port) -> Result<(), Fault> {
    let port = binding::unbind(tx, port).await?;
    // A host that has not yet confirmed that the port is gone may still use its addresses.
    let waits = is_quarantined(tx, &port.id.to_string()).await? && !planted("free_address_early");
    if !planted("leak_address") {
        addresses::release(tx, &port.id, &port.fixed_ips, waits).await?;
    }
    groups::set_groups_of_port(tx, &port.id, &[]).await?;
    store::delete(tx, &port.id).await?;
    check_and_add(tx, &port.project_id, "port", -1).await.map_err(quota_fault)?;
    journal(tx, "port", port.id, &port.project_id, Some(&port), None);
    Ok(())
}

/// A map for drivers: what a caller sent, if it is a map.
fn profile(value: Value) -> Result<Value, Fault> {
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Ok(Value::Object(serde_json::Map::new())),
        _ => Err(faults::invalid_attribute("binding:profile", "it must be a map")),
    }
}
