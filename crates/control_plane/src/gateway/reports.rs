//! Who hears of a report: each service takes the kinds that it wrote.

use std::sync::Arc;

use cloud_types::{Fault, HostId};
use database::Tx;
use futures::future::BoxFuture;
use host_documents::reports::ReportSink;
use host_protocol::{DocumentKind, Report};

/// Hands each report to the service that owns its kind, inside the transaction that stores it.
#[derive(Clone)]
pub struct ReportRouter {
    /// Servers, operations and hosts, and ports as far as servers have them.
    pub compute: Arc<dyn ReportSink>,
    /// Networks, ports and neighbours.
    pub network: Arc<dyn ReportSink>,
}

impl ReportSink for ReportRouter {
    fn reported<'c>(
        &'c self,
        tx: &'c mut Tx,
        host: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        match report.kind {
            DocumentKind::Server | DocumentKind::Operation | DocumentKind::Host => {
                self.compute.reported(tx, host, report)
            }
            DocumentKind::Network | DocumentKind::Neighbour => {
                self.network.reported(tx, host, report)
            }
            // A server may have lost a NIC.
            DocumentKind::Port => Box::pin(async move {
                self.network.reported(tx, host, report).await?;
                self.compute.reported(tx, host, report).await
            }),
        }
    }
}
