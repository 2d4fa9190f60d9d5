//! Logging in by what an identity provider says.
//!
//! ```text
//!   provider's word ──checked (openid)──► claims ──mapping──► user, groups, projects
//!        │                                                        │ one transaction
//!        │ kept sealed while tokens live                          ▼
//!        ▼                                     shadow user, memberships, projects, roles
//!   session ──asked again, or told by the provider──► tokens end      │
//!                                                                     ▼
//!                                                          unscoped token, then as any other
//! ```
//!
//! A person gets a **shadow user** in the provider's domain, found again by provider, protocol and
//! the id that the mapping gives; never by name, so that nobody can become a user who is there
//! already by calling themselves like one. Groups stand in the token; with an `authorization_ttl`
//! the memberships are also kept for so long after each login, for credentials that work without
//! the person.
//!
//! A **session** is one login: the first token and all that are got from it (its chain). It ends
//! when the provider says so (back-channel logout), or when the provider, asked again about every
//! half minute, no longer grants what it granted. See [`sessions`].
//!
//! | file | what |
//! |---|---|
//! | [`service`] | claims to token |
//! | `landing` | who somebody is here, in one transaction |
//! | [`websso`] | a browser's way to the provider and back: pure, what is sealed where |
//! | `logout` | a provider that says that somebody logged out |
//! | [`sessions`] | ending tokens of people who were disabled |

pub(crate) mod api;
mod landing;
pub(crate) mod login;
mod logout;
pub(crate) mod model;
pub(crate) mod page;
pub(crate) mod service;
pub(crate) mod sessions;
pub(crate) mod store;
pub(crate) mod websso;

/// The groups that the caller's token carries, of a federated login.
pub(crate) fn groups_of(ctx: &service_kit::Ctx) -> Vec<String> {
    let token = ctx.token.as_ref();
    token
        .and_then(|token| token.delegation.federation.as_ref())
        .map(|federation| federation.groups.clone())
        .unwrap_or_default()
}
