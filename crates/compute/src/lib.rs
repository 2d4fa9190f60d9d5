//! Compute: servers, flavors, key pairs, hosts as compute sees them, and the scheduler. Speaks
//! Nova's v2.1 API under `/compute`, up to microversion 2.96.
//!
//! A request is one transaction; what then has to happen on a host is a workflow whose steps write
//! documents for the host and sleep until it reports. [`server`] draws the state machine.
//!
//! ```text
//!   POST /servers ──▶ one transaction: quota, ports, row BUILD, workflow ──▶ 202
//!                                             │
//!        scheduler::schedule (pure) ◀── server_create ──▶ server document ──▶ host
//!                                             ▲                                │
//!                                             └──── Compute as ReportSink ◀────┘ report
//! ```

mod discovery;
pub mod flavor;
pub mod host;
pub mod keypair;
mod links;
mod migrations;
mod policy;
pub mod quota;
pub mod scheduler;
pub mod server;
#[cfg(test)]
mod test_support;
pub mod wire;

use std::sync::Arc;

use cloud_types::{Fault, Timestamp};
use database::Tx;
use network::Network;
use service_kit::{Kit, Routes, Service};
use storage::Images;
use workflow_engine::Engine;

pub use host::HostQueries;
pub use migrations::MIGRATIONS;
pub use policy::POLICY;
pub use quota::model::COUNTED as QUOTA_DEFAULTS;
pub use scheduler::Ratios;

/// The compute service. Cheap to clone.
#[derive(Clone)]
pub struct Compute {
    inner: Arc<Inner>,
}

struct Inner {
    kit: Kit,
    images: Images,
    queries: Arc<dyn HostQueries>,
    core: server::Core,
}

impl Compute {
    /// A service on the kit's database, which must have been migrated with [`MIGRATIONS`] and have
    /// had [`QUOTA_DEFAULTS`] registered. `queries` asks hosts what is stored nowhere.
    pub fn new(
        kit: Kit,
        network: Network,
        images: Images,
        queries: Arc<dyn HostQueries>,
        ratios: Ratios,
    ) -> Self {
        let core = server::Core { network, ratios };
        Compute { inner: Arc::new(Inner { kit, images, queries, core }) }
    }

    /// The routes below `/compute`.
    pub fn routes<S>(&self) -> Routes<S> {
        Routes::new(Service::Compute)
            .merge(discovery::api::routes())
            .merge(server::api::routes())
            .merge(flavor::api::routes())
            .merge(keypair::api::routes())
            .merge(host::api::routes())
            .merge(quota::api::routes())
            .with_state(self.clone())
    }

    /// Makes the workflows of servers known to a worker.
    pub fn register(&self, engine: &Engine) {
        server::register(&self.inner.core, engine);
    }

    /// Forgets servers that were deleted before `before`, at most `limit`: until then operators can
    /// list and show them. Returns how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn purge_deleted(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, Fault> {
        Ok(server::purge_deleted(tx, before, limit).await?)
    }

    pub(crate) fn kit(&self) -> &Kit {
        &self.inner.kit
    }

    pub(crate) fn core(&self) -> &server::Core {
        &self.inner.core
    }

    pub(crate) fn images(&self) -> &Images {
        &self.inner.images
    }

    pub(crate) fn queries(&self) -> &dyn HostQueries {
        &*self.inner.queries
    }
}
