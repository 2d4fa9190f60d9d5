//! States of a workflow, as stored and as shown, and the pure decisions about them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cloud_types::{Fault, ProjectId, Timestamp, WorkflowId};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$case_doc])* $case,)* }

        impl $name {
            /// The word in the database.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$case => $word,)* }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$case),)*
                    _ => Err(format!(concat!("{:?} is not a ", stringify!($name)), text)),
                }
            }
        }
        impl database::ToValue for $name {
            fn to_value(&self) -> database::Value { self.as_str().into() }
        }
    };
}

words! {
    /// Where a workflow stands.
    Status {
        /// A worker runs its step, or will.
        Runnable = "runnable",
        /// Its step waits for an event, or for its timeout.
        Waiting = "waiting",
        /// Its undoing kept failing, or its state cannot be read; an operator must look.
        Parked = "parked",
        /// Every step is done.
        Succeeded = "succeeded",
        /// It failed and was undone.
        Undone = "undone",
        /// It was cancelled and was undone.
        Cancelled = "cancelled",
    }
}

words! {
    /// Which way the steps are taken.
    Direction {
        /// First to last.
        Forward = "forward",
        /// From the one that failed back to the first.
        Undo = "undo",
    }
}

impl Status {
    /// Whether nothing more will happen by itself.
    pub fn has_ended(self) -> bool {
        matches!(self, Status::Succeeded | Status::Undone | Status::Cancelled)
    }
}

/// A workflow as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowView {
    /// Its identity.
    pub id: WorkflowId,
    /// Its kind.
    pub kind: String,
    /// The version of the kind.
    pub version: u32,
    /// Its input and what its steps decided.
    pub state: serde_json::Value,
    /// The kind of object that it works on.
    pub owner_kind: String,
    /// Which one.
    pub owner_id: String,
    /// The project that it works for.
    pub project: Option<ProjectId>,
    /// The request that began it.
    pub request_id: String,
    /// Where it stands.
    pub status: Status,
    /// Which way it goes.
    pub direction: Direction,
    /// The step's place in the list.
    pub step_index: u32,
    /// The step's name.
    pub step: String,
    /// Which try of the step.
    pub attempt: u32,
    /// 0 to 100.
    pub progress: u8,
    /// What it does, for people.
    pub sentence: String,
    /// Why it failed, or why the last try of its step did.
    pub fault: Option<Fault>,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Whether somebody asked it to stop.
    pub cancel_requested: bool,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The first and the longest pause before a failed step is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Undo attempts of one step before the workflow is parked: with the pauses, some ten minutes.
pub(crate) const UNDO_ATTEMPTS: u32 = 16;

/// The pause before try `attempt + 1`: doubled each time up to a limit, of which a random half is
/// taken off, so that many that failed together do not come back together.
pub(crate) fn pause(attempt: u32, random: u64) -> Duration {
    let factor = 1u32 << attempt.saturating_sub(1).min(10);
    let whole = (FIRST_PAUSE * factor).min(LONGEST_PAUSE);
    let half = whole / 2;
    let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(random % micros)
}

/// Why a workflow must turn around before its step runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turn {
    /// It goes on as it is.
    GoOn,
    /// Somebody cancelled it.
    Cancel,
    /// It took too long.
    Overdue,
}

/// Looks, before a step, whether the workflow may go on.
pub(crate) fn turn(
    direction: Direction,
    forward_only: bool,
    cancel_requested: bool,
    deadline: Timestamp,
    now: Timestamp,
) -> Turn {
    match (direction, forward_only) {
        (Direction::Undo, _) | (Direction::Forward, true) => Turn::GoOn,
        (Direction::Forward, false) if cancel_requested => Turn::Cancel,
        (Direction::Forward, false) if now >= deadline => Turn::Overdue,
        (Direction::Forward, false) => Turn::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        assert!(pause(1, 0) >= FIRST_PAUSE / 2 && pause(1, u64::MAX) <= FIRST_PAUSE);
        assert!(pause(40, 0) >= LONGEST_PAUSE / 2 && pause(40, u64::MAX) <= LONGEST_PAUSE);
        assert_ne!(pause(5, 1), pause(5, 2_000_000));
    }

    #[test]
    fn only_forward_before_the_point_of_no_return_turns_around() {
        let (early, late) = (Timestamp(1), Timestamp(9));
        let deadline = Timestamp(5);
        use Direction::{Forward, Undo};
        assert_eq!(turn(Forward, false, false, deadline, early), Turn::GoOn);
        assert_eq!(turn(Forward, false, false, deadline, late), Turn::Overdue);
        assert_eq!(turn(Forward, false, true, deadline, late), Turn::Cancel);
        assert_eq!(turn(Forward, true, true, deadline, late), Turn::GoOn);
        assert_eq!(turn(Undo, false, true, deadline, late), Turn::GoOn);
    }
}
