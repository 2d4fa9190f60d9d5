//! Reading and writing the tags of a resource.

use cloud_types::Fault;
use service_kit::Ctx;

use super::model::Tagged;
use crate::network::service::NetworkChange;
use crate::port::service::PortChange;
use crate::security_group::service::GroupChange;
use crate::subnet::service::SubnetChange;
use crate::subnet_pool::service::PoolChange;
use crate::{Network, faults};

impl Network {
    /// The tags of a resource that the caller sees.
    pub async fn tags(&self, ctx: &Ctx, kind: Tagged, id: &str) -> Result<Vec<String>, Fault> {
        Ok(match kind {
            Tagged::Network => {
                let id = id.parse().map_err(|_| faults::network_not_found(id))?;
                self.network(ctx, id).await?.row.tags
            }
            Tagged::Subnet => {
                let id = id.parse().map_err(|_| faults::subnet_not_found(id))?;
                self.subnet(ctx, id).await?.tags
            }
            Tagged::Port => {
                let id = id.parse().map_err(|_| faults::port_not_found(id))?;
                self.port(ctx, id).await?.tags
            }
            Tagged::SecurityGroup => {
                let id = id.parse().map_err(|_| faults::security_group_not_found(id))?;
                self.security_group(ctx, id).await?.group.tags
            }
            Tagged::SubnetPool => {
                let id = id.parse().map_err(|_| faults::subnet_pool_not_found(id))?;
                self.subnet_pool(ctx, id).await?.row.tags
            }
        })
    }

    /// Replaces the tags of a resource.
    pub async fn set_tags(
        &self,
        ctx: &Ctx,
        kind: Tagged,
        id: &str,
        tags: Vec<String>,
    ) -> Result<Vec<String>, Fault> {
        let tags = Some(tags);
        Ok(match kind {
            Tagged::Network => {
                let id = id.parse().map_err(|_| faults::network_not_found(id))?;
                let change = NetworkChange { tags, ..NetworkChange::default() };
                self.update_network(ctx, id, change).await?.row.tags
            }
            Tagged::Subnet => {
                let id = id.parse().map_err(|_| faults::subnet_not_found(id))?;
                let change = SubnetChange { tags, ..SubnetChange::default() };
                self.update_subnet(ctx, id, change).await?.tags
            }
            Tagged::Port => {
                let id = id.parse().map_err(|_| faults::port_not_found(id))?;
                let change = PortChange { tags, ..PortChange::default() };
                self.update_port(ctx, id, change).await?.tags
            }
            Tagged::SecurityGroup => {
                let id = id.parse().map_err(|_| faults::security_group_not_found(id))?;
                let change = GroupChange { tags, ..GroupChange::default() };
                self.update_security_group(ctx, id, change).await?.group.tags
            }
            Tagged::SubnetPool => {
                let id = id.parse().map_err(|_| faults::subnet_pool_not_found(id))?;
                let change = PoolChange { tags, ..PoolChange::default() };
                self.update_subnet_pool(ctx, id, change).await?.row.tags
            }
        })
    }
}
