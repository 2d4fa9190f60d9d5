//! The cloud's own certificate authority.
//!
//! One authority signs three kinds of certificate: the public API's, the host gateway's, and one
//! for each host. A host's certificate names it (`CN` = host id), which is how the gateway knows
//! who is asking; nothing else in a signing request is believed. Keys are ECDSA P-256, files are
//! mode 0600 and written through a temporary file, so that a crash leaves an old key or a new one
//! and never half of one.

mod authority;
mod files;

pub use authority::{
    Authority, HOST_VALIDITY_DAYS, HostRequest, KeyPairPem, PkiError, SERVER_VALIDITY_DAYS,
};
pub use files::{read_pem, write_private, write_public};
