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
    /// Servers, operations and hosts.
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
            DocumentKind::Network | DocumentKind::Port | DocumentKind::Neighbour => {
                self.network.reported(tx, host, report)
            }
        }
    }
}
