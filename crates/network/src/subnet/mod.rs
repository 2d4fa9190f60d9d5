//! Subnets: ranges of addresses on a network, given out by [`crate::address`] and handed to guests
//! by the hosts' DHCP.

pub mod api;
pub mod model;
pub mod service;
pub mod store;
