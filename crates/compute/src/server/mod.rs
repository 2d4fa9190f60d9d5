//! Servers: from the request to the guest that runs, and back to nothing.
//!
//! ```text
//!                    POST /servers
//!                         │
//!              building / scheduling ──no host fits, or every host failed──▶ error
//!                         │ server_create: claim a host                        │
//!              building / networking                                           │
//!                         │ ports bound                                        │
//!              building / spawning                                             │
//!                         │ host: running                                      │
//!                         ▼                                                    │
//!      ┌──────────▶ active ◀────────────────── host: running ──────────────────┤
//!      │              │  ▲                                                     │
//!      │   os-stop or │  │ os-start                     host gave it up ──────▶│
//!      │  guest's own ▼  │                                                     │
//!   reboot          stopped                                                    │
//!      │              │                                                        │
//!      └──────────────┴──────── DELETE, from anywhere, no way back ────────────┘
//!                                        │ server_delete
//!                                        ▼
//!                       (task deleting) ──host: gone──▶ deleted
//! ```
//!
//! Beside the lasting state (`vm_state`) stands what is under way (`task_state`): while there is
//! one, only a delete may begin. `model::judge` and `model::settle` are these arrows as total
//! matches. Workflows move the state at their ends; a host's report moves it when nothing is under
//! way (a guest that powered itself off). Whatever a host is told is the whole server document,
//! put together from the row; so a document can always be written again.

pub mod api;
mod model;
mod reconcile;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod workflow;

pub use model::{
    Command, CreateRequest, FlavorSnapshot, KeySnapshot, Power, Server, State, TaskState, VmState,
};
pub use service::{Detail, HeldServer, ServerList, Update};
pub(crate) use store::{by_host as servers_by_host, purge_deleted};
pub(crate) use workflow::{Core, register};
