//! A directory (LDAP, Active Directory) as the user store of a domain: read only.
//!
//! People and groups are looked up in the directory whenever they are listed, shown or log in; what
//! was seen is **mirrored** into the ordinary tables under a stable id, so that roles, tokens,
//! trusts and all else work as for any user. The directory is asked first, then one transaction
//! writes the mirror: no transaction waits for a directory.
//!
//! ```text
//!   request ─► directory (pool, time limits) ─► entries ─► mirror, one transaction ─► answer
//!                 └─ away: 503 for this domain, and for no other
//! ```
//! A public id is the SHA-256 of domain, kind and the entry's id attribute, as Keystone computes it:
//! the ids of a cloud that was moved here stay what they were.
//!
//! A password is checked by binding as the person; it is never stored. Who has live tokens is looked
//! up again about every half minute: a disabled or missing entry, or a lost group, ends tokens.
//!
//! | file | what |
//! |---|---|
//! | [`settings`] | what an operator writes, in Keystone's terms |
//! | [`entry`] | attributes to users and groups; filters: pure |
//! | [`client`] | connections and searches |
//! | `mirror` | what was seen, in the ordinary tables |
//! | [`service`] | what the API and logins need |
//! | `recheck` | who has live tokens, looked up again |

pub(crate) mod client;
pub(crate) mod entry;
mod mirror;
mod recheck;
pub(crate) mod service;
pub mod settings;
pub(crate) mod store;
