//! The agent: makes one machine look the way its documents say, and reports what is.
//!
//! ```text
//!   link ──frames──► store (durable) ──► agent ──► per-server tasks ──► Hypervisor (QEMU)
//!     ▲                                    │             └────────────► Pool, image cache
//!     └──────reports── outbox ◄────────────┴──► network ──► Links, Switch (OVS), Responders
//! ```
//!
//! Everything is level-triggered: a document is stored before it is acted upon, and each task
//! compares what is wanted with what is and does the difference. Guests and the switch outlive
//! the agent; only a tombstone deletes. The traits [`hypervisor::Hypervisor`], [`switch::Switch`],
//! [`pool::Pool`], [`edges::Links`] and [`edges::Responders`] are the edges to the machine,
//! implemented by real adapters here and by simulated ones for tests and scale.

/// A boxed future, so that the traits at the agent's edges are object safe.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

pub mod agent;
pub mod config;
pub mod config_drive;
pub mod edges;
pub mod hypervisor;
pub mod image_cache;
pub mod link;
pub mod links;
pub mod open_vswitch;
pub mod pool;
mod private;
pub mod qemu;
pub mod responders;
mod run;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
pub mod store;
pub mod switch;
#[cfg(test)]
mod test_support;

pub use config::HostConfig;
pub use run::{RunError, Shutdown, run};
