//! OAuth 1.0a (RFC 5849): a person lets a program act for them in one project, with roles that they
//! choose, without telling it their password.
//!
//! ```text
//! consumer ──signed──► request token ──authorised by a person──► verifier
//!          ──signed, with the verifier──► access token ──signed──► tokens of the cloud
//! ```
//! A consumer is a program that an administrator has made known. A request token is used once: the
//! access token takes its place in the same transaction.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod signature;
pub(crate) mod store;
