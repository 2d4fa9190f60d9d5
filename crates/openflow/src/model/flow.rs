//! One row of a flow table.

use super::{action::Actions, matching::Match};

/// "Every table", in deletions and statistics (`OFPTT_ALL`).
pub const TABLE_ALL: u8 = 0xff;

/// One row of a flow table. (table, priority, match) is its identity in the switch; the cookie and
/// the actions are what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Table, 0 to 254.
    pub table: u8,
    /// The highest that matches wins. Two overlapping flows of one priority: which wins is undefined.
    pub priority: u16,
    /// Owner's mark; Open vSwitch refuses all ones.
    pub cookie: u64,
    /// What it matches.
    pub match_fields: Match,
    /// What it does.
    pub actions: Actions,
}

impl Flow {
    /// A flow with cookie 0.
    pub fn new(table: u8, priority: u16, match_fields: Match, actions: Actions) -> Self {
        Self { table, priority, cookie: 0, match_fields, actions }
    }

    /// With an owner's mark.
    pub fn cookie(self, cookie: u64) -> Self {
        Self { cookie, ..self }
    }

    /// What identifies it in the switch.
    pub fn key(&self) -> (u8, u16, &Match) {
        (self.table, self.priority, &self.match_fields)
    }
}
