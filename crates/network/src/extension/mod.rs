//! What this network service can do beyond Neutron's core, and where it begins: discovery. An
//! extension is listed only when packets, hosts or answers obey it.

pub mod api;
pub mod model;
