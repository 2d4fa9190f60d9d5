//! Instructions, in the one order in which we write them (OpenFlow 1.4 section 7.2.5).

use super::action::{put_actions, put_pair};
use super::action_decode::actions;
use super::buffer::{Reader, fill_len, put_u16, put_u32, put_zeros};
use super::error::{DecodeError, EncodeError};
use crate::model::Actions;

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const APPLY_ACTIONS: u16 = 4;
const METER: u16 = 6;

pub(crate) fn put_instructions(out: &mut Vec<u8>, what: &Actions) -> Result<(), EncodeError> {
    if let Some(id) = what.meter {
        put_u16(out, METER);
        put_u16(out, 8);
        put_u32(out, id);
    }
    if !what.apply.is_empty() {
        let start = out.len();
        put_u16(out, APPLY_ACTIONS);
        put_u16(out, 0);
        put_zeros(out, 4);
        put_actions(out, &what.apply)?;
        fill_len(out, start, 2);
    }
    if let Some((value, mask)) = what.write_metadata {
        put_u16(out, WRITE_METADATA);
        put_u16(out, 24);
        put_zeros(out, 4);
        put_pair(out, value, mask);
    }
    if let Some(table) = what.goto {
        put_u16(out, GOTO_TABLE);
        put_u16(out, 8);
        out.push(table);
        put_zeros(out, 3);
    }
    Ok(())
}

pub(crate) fn instructions(bytes: &[u8]) -> Result<Actions, DecodeError> {
    let mut reader = Reader::new(bytes, "instruction");
    let mut out = Actions::default();
    while !reader.is_empty() {
        let mut head = reader;
        let (kind, len) = (head.u16()?, usize::from(head.u16()?));
        if len < 8 {
            return Err(DecodeError::BadLength("instruction", len));
        }
        let mut body = Reader::new(reader.take(len)?, "instruction");
        body.skip(4)?;
        match kind {
            METER => out.meter = Some(body.u32()?),
            APPLY_ACTIONS => {
                body.skip(4)?;
                out.apply.extend(actions(body.rest())?);
            }
            WRITE_METADATA => {
                body.skip(4)?;
                let (value, mask) = (body.u64()?, body.u64()?);
                out = out.write_metadata(value, mask);
            }
            GOTO_TABLE => out.goto = Some(body.u8()?),
            kind => return Err(DecodeError::Unknown("instruction", kind.into())),
        }
    }
    Ok(out)
}
