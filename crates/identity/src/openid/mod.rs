//! OpenID Connect, the client's side: finding out about a provider, checking what it signed, and
//! asking it. There is no proxy in front that does so for us.
//!
//! | file | what |
//! |---|---|
//! | [`jwt`] | signed tokens and key sets: pure |
//! | [`claims`] | what an ID token, access token or logout token must say: pure |
//! | [`http`] | requests to providers, within limits |
//! | [`provider`] | discovery, keys and their rotation, code, refresh, introspection, user info |
//!
//! Signatures are checked with `ring`, which the cloud has anyway for TLS: see
//! `docs/decisions/0011-our-own-openid-client.md`.

pub(crate) mod claims;
pub(crate) mod http;
pub(crate) mod jwt;
pub(crate) mod provider;
