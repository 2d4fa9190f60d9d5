//! EC2 keys of a user, and tokens for requests that were signed with them: a service in front of
//! which clients speak Amazon's dialects (EC2, S3) sends what was signed, and gets the token of
//! whose key it is. Only services and administrators may ask.
//!
//! A key of a user and project is a credential of type `ec2` (see [`crate::credential`]).

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
mod signature;
