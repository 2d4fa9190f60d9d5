//! Mappings: rules that turn what an identity provider says about a person into a user, groups and
//! projects here.
//!
//! A mapping is a list of rules, each with `remote` requirements on the assertion and `local`
//! results. Every rule whose requirements all hold contributes; the first user wins. [`engine`] is
//! a pure function of rules and assertion that also says why, so that an operator can try a mapping
//! before anybody logs in with it: see [`dry_run`].
//!
//! Two things are stricter than upstream's engine, because an assertion holds what strangers wrote:
//! a value is never split or parsed into several after it was received (a group called `a;admins`
//! is one group), and a domain that comes out of an assertion may only be the provider's own.

pub(crate) mod api;
pub mod dry_run;
pub(crate) mod engine;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;

#[cfg(test)]
mod tests;
