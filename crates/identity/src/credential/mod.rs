//! Credentials: secrets that users keep here for other ways to prove who they are (EC2 keys, TOTP
//! seeds) or for programs of their own (certificates, anything). They are sealed before they are
//! stored, with keys that are not in the database ([`crate::vault`]).
//!
//! A credential of type `ec2` is found by its access key: its id is the key's SHA-256. It may be
//! bound to a trust, an application credential or an OAuth access token, with which it was made;
//! what it opens is then never more than that. Tokens that are made with it name it, with its
//! serial, and end when it is changed or deleted.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
