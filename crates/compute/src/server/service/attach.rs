//! A server's ports, addresses and security groups, as network tells them.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::{Fault, SecurityGroupId, ServerId};
use network::{GroupView, PortView};
use service_kit::Ctx;

use super::super::model::Server;
use super::found;
use crate::Compute;

impl Compute {
    /// A server with its ports, NIC by NIC.
    ///
    /// # Errors
    /// 404, 403.
    pub async fn ports(&self, ctx: &Ctx, id: ServerId) -> Result<(Server, Vec<PortView>), Fault> {
        let (network, caller) = (self.core().network.clone(), ctx.clone());
        self.kit()
            .db
            .read(move |tx| {
                let (network, ctx) = (network.clone(), caller.clone());
                Box::pin(async move {
                    let server = found(tx, &ctx, id, "compute:servers:interfaces").await?;
                    let mut ports = network.ports_of_servers(tx, &[id]).await?;
                    Ok((server, ports.remove(&id).unwrap_or_default()))
                })
            })
            .await
    }

    /// The security groups of the server's ports, and those that their rules speak of, by id.
    pub async fn security_groups(
        &self,
        ctx: &Ctx,
        id: ServerId,
    ) -> Result<(Vec<SecurityGroupId>, BTreeMap<SecurityGroupId, GroupView>), Fault> {
        let (_, ports) = self.ports(ctx, id).await?;
        let worn: BTreeSet<SecurityGroupId> =
            ports.iter().flat_map(|port| port.security_groups.iter().map(|(id, _)| *id)).collect();
        let network = &self.core().network;
        let mut groups = BTreeMap::new();
        for id in &worn {
            groups.insert(*id, network.security_group(ctx, *id).await?);
        }
        let spoken_of: BTreeSet<SecurityGroupId> = groups
            .values()
            .flat_map(|view| view.rules.iter().filter_map(|rule| rule.spec.remote_group_id))
            .filter(|id| !worn.contains(id))
            .collect();
        for id in spoken_of {
            // One that was deleted meanwhile has no name to show.
            if let Ok(view) = network.security_group(ctx, id).await {
                groups.insert(id, view);
            }
        }
        Ok((worn.into_iter().collect(), groups))
    }
}
