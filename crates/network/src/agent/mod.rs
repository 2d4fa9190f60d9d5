//! Agents and availability zones: Neutron's view of the hosts. Every host runs one agent that does
//! all of Neutron's agents' work, so it is listed once, as what it is.

pub mod api;
pub mod service;
