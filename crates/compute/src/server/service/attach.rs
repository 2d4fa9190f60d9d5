//! A server's ports, addresses and security groups, as network tells them.

use cloud_types::{Fault, ServerId};
use network::PortView;
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
}
