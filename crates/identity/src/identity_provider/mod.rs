//! Identity providers: who outside may vouch for people, by which protocols, read by which mapping.
//!
//! A provider has a **serial**, raised in the transaction that disables it: tokens of people it
//! vouched for carry the serial that was read at their login, so they end with it. Everybody who
//! logs in by a provider gets a user in its domain (see `federation`).
//!
//! A protocol of a provider may have an **OpenID client**: then this cloud itself speaks OpenID
//! Connect with the provider, and needs no proxy in front of it. The client's secret is stored
//! sealed and never shown.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
