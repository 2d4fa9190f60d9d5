//! Trusts: somebody (the trustor) lets somebody else (the trustee) act in one project with some of
//! their roles, in the trustor's name (impersonation) or in the trustee's own. A trust may be handed
//! on, to a depth; it may end at a time, or after a number of tokens.
//!
//! ```text
//!   made ──► usable ──► used up (remaining_uses 0), expired: as if it were gone
//!              │  ▲
//!              │  └── handed on: a trust of its own, never for more or longer, gone with this one
//!              └──► deleted: by its trustor, with either user, with the project
//! ```
//! A token by a trust names it, and everybody in the chain of trusts that it was handed on by, so
//! that whatever ends any of these ends the token.

pub(crate) mod api;
pub(crate) mod model;
pub(crate) mod service;
pub(crate) mod store;
