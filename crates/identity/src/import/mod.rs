//! Taking over the people of a Keystone: domains, projects, users with their passwords' hashes,
//! groups, roles and assignments, from a dump of its database or (without the hashes) from its API.
//!
//! ```text
//!   dump ──read──► tables ──┐
//!                           ├──► Snapshot ──plan──► Plan: what is new, what is there already,
//!   API  ──lists────────────┘        │                    what contradicts what is there
//!                                what we have             │ no contradictions
//!                                                         ▼
//!                                       one transaction, journalled; again: nothing is new
//! ```
//! What is there already is never changed: neither a password, nor a role, nor whether somebody is
//! enabled. So an import cannot lock anybody out, and may be repeated while people move over.
//!
//! Objects are the same when their ids are. The roles that policies speak of are the same when
//! their names are, since each cloud gives them ids of its own. Anything else of the same name is a
//! contradiction, unless the operator says that such objects are the same ones.

mod dump;
mod keystone;
mod lists;
mod model;
mod service;
mod store;

pub use dump::DumpError;
pub use lists::Lists;
pub use model::{Plan, Snapshot};
pub use service::{ImportError, ImportOptions, apply, plan};

impl Snapshot {
    /// What a dump of Keystone's database says.
    ///
    /// # Errors
    /// Where the text is no such dump, with the line; or what is missing or broken in it.
    pub fn from_dump(text: &str) -> Result<Snapshot, ImportError> {
        keystone::snapshot(&dump::read(text)?)
    }
}
