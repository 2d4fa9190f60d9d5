//! Tags: labels on networks, subnets, ports and security groups. They are columns of these
//! resources, so setting them is a change of the resource like any other.

pub mod api;
pub mod model;
pub mod service;
