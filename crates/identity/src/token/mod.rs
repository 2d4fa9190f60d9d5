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
//!   2  methods, bits: 0 password, 1 token, 2 totp, 3 application credential, 4 external,
//!      5 oauth1, 6 mapped, 7 ec2credential, 8 openid
//!   8  issued at, µs since 1970
//!   8  expires at, µs since 1970
//!   …  user: stamp; user's domain: stamp
//!   1  scope: 0 none, 1 project, 2 domain, 3 system
//!   …  project: stamp, its domain: stamp   (scope 1)
//!      domain: stamp                       (scope 2)
//!   …  roles: list of ids, as assigned; implied roles are added when it is read
//!   1  number of audit ids (1 or 2), then 16 bytes each: this token's, the first of its chain
//!   1  what else it rests on, bits; then for each that is set, in this order:
//!      0  trust: stamp; 1 byte: impersonation; list of the other people in it, each
//!         user: stamp, domain: stamp; first the other end (trustor or trustee)
//!      1  application credential: stamp; 1 byte: bit 0 restricted, bit 1 access rules follow:
//!         list of (service, method, path: texts)
//!      2  EC2 credential: stamp
//!      3  OAuth consumer: stamp; access token: stamp
//!      4  identity provider: stamp; protocol: id; groups: list of stamps
//!      5  serial of what roles imply: the roles were cut out of somebody's
//!
//!  stamp  := id ‖ serial
//!  id     := 00 ‖ 16 bytes (32 lower-case hexadecimal digits as text)
//!          | 01 (the word "default")
//!          | 02 ‖ 32 bytes (64 lower-case hexadecimal digits as text)
//!          | length+2 ‖ text (1 to 253 bytes)
//!  serial := LEB128, unsigned
//!  text   := length as LEB128 ‖ UTF-8
//!  list   := 1 byte: how many ‖ each
//! ```
//! With ten roles a project's token has about 490 characters; a trust adds 75, an application
//! credential 25, an identity provider with three groups about 100. Access rules add their own
//! length, since every service checks them without asking anybody; an application credential
//! takes so many that a token stays below 8,000 characters, the longest that is written.
//!
//! # Revocation
//! Users, projects and domains have a **serial**, raised in the transaction that must end tokens
//! (a new password, disabling, a role taken away). A token carries the serials that its issuer
//! read together with the rights that it grants. A revocation says which serial is the first good
//! one. So it does not matter how clocks differ, or in which order a login and a revocation
//! commit: a token made from what was true before carries the old serial. Single tokens, and
//! chains of tokens got from each other, are revoked by audit id. What else a token rests on
//! ([`Basis`]: a trust, an application credential, a key, an identity provider, groups) is revoked
//! in the same way; of a trust, also by what ends its other people's tokens.
//!
//! ```text
//!   change ──same transaction──► row in identity_revocations ──commit──► feed ──► every process
//!                                        the process that did it applies it at once ──┘
//! ```

pub(crate) mod api;
pub(crate) mod basis;
mod bytes;
pub(crate) mod described;
mod directory;
pub(crate) mod format;
mod keys;
pub(crate) mod model;
mod receipt;
mod revocation;
pub(crate) mod service;
pub(crate) mod store;
pub(crate) mod totp;
mod verifier;

pub use basis::{ApplicationCredentialBasis, Basis, FederationBasis, OauthBasis, TrustBasis};
pub use format::{AuditId, Claims, FormatError, Methods, Scope, Stamp};
pub use keys::{KeySet, KeySource, Rotated, rotate_token_keys};
pub(crate) use keys::{SHORTEST_WAIT, check_wait};
pub(crate) use revocation::{Revocation, RevocationKind};
pub use verifier::Tokens;

#[cfg(test)]
mod tests;
