//! Changes of groups and meters (OpenFlow 1.4 sections 7.3.4.3 and 7.3.4.5).

use super::action::put_actions;
use super::buffer::{fill_len, message, pad8, put_u16, put_u32, put_zeros};
use super::error::EncodeError;
use crate::model::{Group, GroupKind, Meter, MeterUnit, port};

const OFPT_GROUP_MOD: u8 = 15;
const OFPT_METER_MOD: u8 = 29;
/// "Every group" (`OFPG_ALL`) and "every meter" (`OFPM_ALL`).
const GROUP_ALL: u32 = 0xffff_fffc;
const METER_ALL: u32 = 0xffff_ffff;

/// A change of the group table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupMod {
    /// Add; an error if the group exists.
    Add(Group),
    /// Replace an existing group.
    Modify(Group),
    /// Delete, with the flows that use it; no error if it does not exist.
    Delete(u32),
    /// Delete every group, with the flows that use them.
    DeleteAll,
}

impl GroupMod {
    /// Appends the message to `out`; on an error `out` is unchanged.
    pub fn encode(&self, out: &mut Vec<u8>, xid: u32) -> Result<(), EncodeError> {
        message(out, OFPT_GROUP_MOD, xid, |out| {
            let (command, id, group) = match self {
                GroupMod::Add(group) => (0, group.id, Some(group)),
                GroupMod::Modify(group) => (1, group.id, Some(group)),
                GroupMod::Delete(id) => (2, *id, None),
                GroupMod::DeleteAll => (2, GROUP_ALL, None),
            };
            put_u16(out, command);
            let kind = match group.map_or(GroupKind::All, |g| g.kind) {
                GroupKind::All => 0,
                GroupKind::Select => 1,
                GroupKind::Indirect => 2,
                GroupKind::FastFailover => 3,
            };
            out.extend_from_slice(&[kind, 0]);
            put_u32(out, id);
            for bucket in group.iter().flat_map(|g| &g.buckets) {
                let start = out.len();
                put_u16(out, 0);
                put_u16(out, bucket.weight);
                put_u32(out, bucket.watch_port.unwrap_or(port::ANY));
                put_u32(out, 0xffff_ffff);
                put_zeros(out, 4);
                put_actions(out, &bucket.actions)?;
                pad8(out, start);
                fill_len(out, start, 0);
            }
            Ok(())
        })
    }
}

/// A change of the meter table. Meters cannot be in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeterMod {
    /// Add; an error if the meter exists.
    Add(Meter),
    /// Replace an existing meter.
    Modify(Meter),
    /// Delete, with the flows that use it.
    Delete(u32),
    /// Delete every meter.
    DeleteAll,
}

impl MeterMod {
    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>, xid: u32) -> Result<(), EncodeError> {
        const KBPS: u16 = 1;
        const PKTPS: u16 = 2;
        const BURST: u16 = 4;
        const STATS: u16 = 8;
        message(out, OFPT_METER_MOD, xid, |out| {
            let (command, id, meter) = match self {
                MeterMod::Add(meter) => (0, meter.id, Some(meter)),
                MeterMod::Modify(meter) => (1, meter.id, Some(meter)),
                MeterMod::Delete(id) => (2, *id, None),
                MeterMod::DeleteAll => (2, METER_ALL, None),
            };
            put_u16(out, command);
            put_u16(
                out,
                match meter.map(|m| m.unit) {
                    Some(MeterUnit::Kilobits) => KBPS | BURST | STATS,
                    Some(MeterUnit::Packets) => PKTPS | BURST | STATS,
                    None => 0,
                },
            );
            put_u32(out, id);
            if let Some(meter) = meter {
                put_u16(out, 1);
                put_u16(out, 16);
                put_u32(out, meter.rate);
                put_u32(out, meter.burst);
                put_zeros(out, 4);
            }
            Ok(())
        })
    }
}
