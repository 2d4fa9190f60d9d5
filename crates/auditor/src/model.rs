//! What an audit finds.

use std::fmt;

use cloud_types::Timestamp;
use serde::Serialize;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            /// The kind's name in metrics, in the API and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$name => $word,)* }
            }
        }
    };
}

kinds! {
    /// A server is written on, or runs on, more than one host.
    DoublePlacement = "double_placement",
    /// A server's row, its claim and its document name different hosts or epochs.
    Placement = "placement",
    /// A host's sums are not those of its claims.
    HostSums = "host_sums",
    /// More is claimed on a host than may be promised there.
    Overcommitted = "overcommitted",
    /// An object is in transition and nobody works on it.
    Stuck = "stuck",
    /// A workflow is past its deadline.
    Overdue = "overdue",
    /// A workflow sleeps although what it waits for has happened.
    LateWakeUp = "late_wake_up",
    /// A worker wrote under a lease that it had lost.
    LostLease = "lost_lease",
    /// A project's usage of a quota is not what it has.
    Quota = "quota",
    /// An address belongs to nobody, or to two, or is given out too early.
    Address = "address",
    /// A number of a locator belongs to nobody, or is free too early.
    Number = "number",
    /// A port is bound somewhere else than its server is placed.
    Binding = "binding",
    /// A host has been told something that no row says, or was not told what a row says.
    Document = "document",
    /// A host's last word and the row disagree.
    Report = "report",
    /// A host has not done what it was told.
    HostBehind = "host_behind",
    /// A row refers to one that is not there.
    Orphan = "orphan",
    /// Journal and rows disagree.
    Journal = "journal",
    /// What stands on a machine is not what its documents say.
    Machine = "machine",
}

impl Kind {
    /// Whether the fault may be a host that is merely slow, so that it counts only when it stays.
    pub fn needs_patience(self) -> bool {
        matches!(self, Kind::HostBehind | Kind::LateWakeUp | Kind::Report)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What can be put right, because it is proven wrong by rows alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Count what a project has of a resource again, and write the sum.
    Recount {
        /// The project.
        project: String,
        /// The resource.
        resource: String,
    },
    /// Add up a host's claims again.
    AddUp {
        /// The host.
        host: String,
    },
    /// Delete the report on a document that is not there.
    ForgetReport {
        /// The host.
        host: String,
        /// The document's kind.
        kind: String,
        /// The document's id.
        id: String,
    },
    /// Delete a row that refers to an object that is not there.
    DeleteOrphan {
        /// Which reference, by its name in `store::ORPHANS`.
        reference: &'static str,
        /// The object that is not there.
        missing: String,
    },
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The kind of object concerned: `server`, `port`, `host`, …
    pub object_kind: &'static str,
    /// The object.
    pub object: String,
    /// What disagrees with what, in a sentence.
    pub message: String,
    /// How it can be put right without a doubt, if it can.
    pub repair: Option<Repair>,
}

impl Finding {
    pub(crate) fn new(
        kind: Kind,
        object_kind: &'static str,
        object: impl Into<String>,
        message: impl Into<String>,
    ) -> Finding {
        Finding { kind, object_kind, object: object.into(), message: message.into(), repair: None }
    }

    pub(crate) fn repaired_by(mut self, repair: Repair) -> Finding {
        self.repair = Some(repair);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}: {}", self.kind, self.object_kind, self.object, self.message)
    }
}

/// A finding as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredFinding {
    /// What is wrong.
    pub kind: String,
    /// The kind of object concerned.
    pub object_kind: String,
    /// The object.
    pub object: String,
    /// What disagrees with what.
    pub message: String,
    /// When an audit saw it first.
    pub first_seen: Timestamp,
    /// When an audit saw it last.
    pub last_seen: Timestamp,
    /// Whether it was put right.
    pub repaired: bool,
}
