//! Changes of the flow table (`OFPT_FLOW_MOD`, OpenFlow 1.4 section 7.3.4.2).

use super::buffer::{Reader, fill_len, message, pad8, put_u16, put_u32, put_u64, put_zeros};
use super::error::{DecodeError, EncodeError};
use super::instruction::{instructions, put_instructions};
use super::oxm::{encode_match, entries, take_match};
use crate::model::{Actions, Flow, Match, TABLE_ALL};

pub(crate) const OFPT_FLOW_MOD: u8 = 14;
/// "No buffer", "any port", "any group".
const NONE: u32 = 0xffff_ffff;

/// What a [`FlowMod`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowModCommand {
    /// Add, or replace the flow of the same table, priority and match.
    Add,
    /// Change the actions of exactly this flow; cookie and counters stay.
    ModifyStrict,
    /// Delete every flow that the match covers, whatever its priority.
    Delete,
    /// Delete exactly this flow.
    DeleteStrict,
}

/// The match of a flow, perhaps as bytes that this client cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawMatch {
    /// Known fields only.
    Known(Match),
    /// OXM entries as the switch sent them.
    Bytes(Vec<u8>),
}

/// A change of the flow table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// Table; [`TABLE_ALL`] in deletions.
    pub table: u8,
    /// Priority; without meaning in [`FlowModCommand::Delete`].
    pub priority: u16,
    /// Cookie to set, or to compare under `cookie_mask` in modifications and deletions.
    pub cookie: u64,
    /// Which bits of the cookie are compared; 0 for none.
    pub cookie_mask: u64,
    /// Which flow, or which flows.
    pub match_fields: RawMatch,
    /// What it shall do; without meaning in deletions.
    pub actions: Actions,
}

impl FlowMod {
    /// Adds or replaces a flow.
    pub fn add(flow: Flow) -> Self {
        Self {
            command: FlowModCommand::Add,
            table: flow.table,
            priority: flow.priority,
            cookie: flow.cookie,
            cookie_mask: 0,
            match_fields: RawMatch::Known(flow.match_fields),
            actions: flow.actions,
        }
    }

    /// Changes the actions of a flow.
    pub fn modify_strict(flow: Flow) -> Self {
        Self { command: FlowModCommand::ModifyStrict, cookie: 0, ..Self::add(flow) }
    }

    /// Deletes the flow with this table, priority and match, whatever it does.
    pub fn delete_strict(table: u8, priority: u16, match_fields: Match) -> Self {
        Self::delete_strict_raw(table, priority, RawMatch::Known(match_fields))
    }

    /// As [`FlowMod::delete_strict`], also for a match that this client cannot read.
    pub fn delete_strict_raw(table: u8, priority: u16, match_fields: RawMatch) -> Self {
        Self {
            command: FlowModCommand::DeleteStrict,
            table,
            priority,
            cookie: 0,
            cookie_mask: 0,
            match_fields,
            actions: Actions::default(),
        }
    }

    /// Deletes every flow that `match_fields` covers, in one table or in [`TABLE_ALL`].
    pub fn delete(table: u8, match_fields: Match) -> Self {
        Self { command: FlowModCommand::Delete, ..Self::delete_strict(table, 0, match_fields) }
    }

    /// Deletes every flow with this cookie under this mask.
    pub fn delete_cookie(cookie: u64, mask: u64) -> Self {
        Self { cookie, cookie_mask: mask, ..Self::delete(TABLE_ALL, Match::any()) }
    }

    /// Appends the message to `out`; on an error `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>, xid: u32) -> Result<(), EncodeError> {
        message(out, OFPT_FLOW_MOD, xid, |out| {
            put_u64(out, self.cookie);
            put_u64(out, self.cookie_mask);
            let command = match self.command {
                FlowModCommand::Add => 0,
                FlowModCommand::ModifyStrict => 2,
                FlowModCommand::Delete => 3,
                FlowModCommand::DeleteStrict => 4,
            };
            out.extend_from_slice(&[self.table, command]);
            put_zeros(out, 4);
            put_u16(out, self.priority);
            put_u32(out, NONE);
            put_u32(out, NONE);
            put_u32(out, NONE);
            put_u16(out, 0);
            put_u16(out, 0);
            match &self.match_fields {
                RawMatch::Known(m) => encode_match(out, m)?,
                RawMatch::Bytes(bytes) => {
                    let start = out.len();
                    put_u16(out, 1);
                    put_u16(out, 0);
                    out.extend_from_slice(bytes);
                    fill_len(out, start, 2);
                    pad8(out, start);
                }
            }
            match self.command {
                FlowModCommand::Add | FlowModCommand::ModifyStrict => {
                    put_instructions(out, &self.actions)
                }
                FlowModCommand::Delete | FlowModCommand::DeleteStrict => Ok(()),
            }
        })
    }

    /// Reads the body of a message (what follows its header).
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body, "flow mod");
        let (cookie, cookie_mask) = (reader.u64()?, reader.u64()?);
        let table = reader.u8()?;
        let command = match reader.u8()? {
            0 => FlowModCommand::Add,
            2 => FlowModCommand::ModifyStrict,
            3 => FlowModCommand::Delete,
            4 => FlowModCommand::DeleteStrict,
            other => return Err(DecodeError::Unknown("flow command", other.into())),
        };
        reader.skip(4)?;
        let priority = reader.u16()?;
        reader.skip(16)?;
        let match_fields = RawMatch::Known(entries(take_match(&mut reader)?, true)?);
        let actions = instructions(reader.rest())?;
        Ok(Self { command, table, priority, cookie, cookie_mask, match_fields, actions })
    }
}
