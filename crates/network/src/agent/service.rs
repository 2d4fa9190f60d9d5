//! Reading the hosts for the lists of agents and zones.

use cloud_types::Fault;
use host_documents::{Host, hosts};
use service_kit::{Ctx, policy::Target};

use crate::Network;

impl Network {
    /// All hosts.
    pub async fn agents(&self, ctx: &Ctx) -> Result<Vec<Host>, Fault> {
        ctx.authorise("network:agents:get", &Target::none())?;
        self.hosts().await
    }

    /// All zones, by name, and whether a host of each takes new ports.
    pub async fn zones(&self, ctx: &Ctx) -> Result<Vec<(String, bool)>, Fault> {
        ctx.authorise("network:availability_zones:get", &Target::none())?;
        let mut zones = std::collections::BTreeMap::new();
        for host in self.hosts().await? {
            *zones.entry(host.zone.clone()).or_insert(false) |= host.is_enabled();
        }
        Ok(zones.into_iter().collect())
    }

    async fn hosts(&self) -> Result<Vec<Host>, Fault> {
        self.kit.db.read(|tx| Box::pin(async move { Ok::<_, Fault>(hosts::list(tx).await?) })).await
    }
}
