//! On whose behalf a transaction runs, and what it says that it changed.

use cloud_types::{ProjectId, UserId};

/// On whose behalf a transaction runs; written into every journal entry of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The API request (`req-…`) that began it, or the name of a worker.
    pub request_id: String,
    /// The user who asked, if a user did.
    pub actor: Option<UserId>,
    /// The project that the user acted for.
    pub project: Option<ProjectId>,
}

impl Origin {
    /// The cloud's own work; `worker` says which part of it.
    pub fn system(worker: &str) -> Self {
        Origin { request_id: worker.to_owned(), actor: None, project: None }
    }
}

/// One change of one object, for the journal. Must hold no secret: it is exported, shown to
/// auditors and sent to webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// The kind of object: `server`, `network`, `role_assignment`.
    pub kind: &'static str,
    /// Which one.
    pub id: String,
    /// The project that owns the object, if one does.
    pub project: Option<ProjectId>,
    /// `create`, `update` or `delete`, or a verb of the service (`reboot`).
    pub action: &'static str,
    /// The object before; `None` when it was not there.
    pub before: Option<serde_json::Value>,
    /// The object after; `None` when it is gone.
    pub after: Option<serde_json::Value>,
}

/// Names an object whose changes must queue. Taken by [`crate::Tx::lock`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectLock {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
}

impl ObjectLock {
    /// The lock of one object (`server`, its id), or of an invariant over several rows
    /// (`subnet_addresses`, the subnet's id; `quota`, the project's id).
    pub fn new(kind: &'static str, id: impl ToString) -> Self {
        ObjectLock { kind, id: id.to_string() }
    }
}
