//! Tokens: signed, self-contained and small, so that every process checks them without asking
//! anybody.
//!
//! # Format, version 1
//! ```text
//!  text  := base64url(payload ‖ signature), no padding
//!  signature: Ed25519 over "meridian token 1\0" ‖ payload, 64 bytes
//!
//!  payload, integers big-endian:
//!   1  version = 1
//!   4  key id: the first bytes of SHA-256 of the public key
//!   1  methods, bits: 0 password, 1 token, 2 totp, 3 application credential, 4 external
//!   8  issued at, µs since 1970
//!   8  expires at, µs since 1970
//!   …  user: id, serial; user's domain: id, serial
//!   1  scope: 0 none, 1 project, 2 domain, 3 system
//!   …  project: id, serial, domain id, domain's serial   (scope 1)
//!      domain: id, serial                                 (scope 2)
//!   1  number of roles, then their ids: as assigned; implied roles are added when it is read
//!   1  number of audit ids (1 or 2), then 16 bytes each: this token's, the first of its chain
//!
//!  id     := 00 ‖ 16 bytes (32 lower-case hexadecimal digits as text)
//!          | 01 (the word "default") | length+1 ‖ text (1 to 64 bytes)
//!  serial := LEB128, unsigned
//! ```
//! Ten roles make about 450 characters.
//!
//! # Revocation
//! Users, projects and domains have a **serial**, raised in the transaction that must end tokens
//! (a new password, disabling, a role taken away). A token carries the serials that its issuer
//! read together with the rights that it grants. A revocation says which serial is the first good
//! one. So it does not matter how clocks differ, or in which order a login and a revocation
//! commit: a token made from what was true before carries the old serial. Single tokens, and
//! chains of tokens got from each other, are revoked by audit id.
//!
//! ```text
//!   change ──same transaction──► row in identity_revocations ──commit──► feed ──► every process
//!                                        the process that did it applies it at once ──┘
//! ```

pub(crate) mod api;
mod directory;
mod format;
mod keys;
pub(crate) mod model;
mod revocation;
pub(crate) mod service;
pub(crate) mod store;
mod verifier;

pub use format::{AuditId, Claims, FormatError, Scope, Stamp};
pub use keys::{KeyError, KeySet, KeySource};
pub(crate) use revocation::{Revocation, RevocationKind};
pub use verifier::Tokens;

#[cfg(test)]
mod tests;
