//! What can go wrong between the model and the bytes, and what the switch says it refused.

use std::fmt;

use bytes::Bytes;

/// A message that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than the 16-bit length field can say.
    #[error(
        "the message would take {0} octets, but OpenFlow allows at most 65535: split its actions over several flows"
    )]
    TooLong(usize),
    /// A register that does not exist.
    #[error("there is no {0}: registers are reg0 to reg15, xreg0 to xreg7 and xxreg0 to xxreg3")]
    NoSuchField(String),
    /// Bits outside the field, or ranges that differ.
    #[error("{0} is not a range of bits that exists, or the two ranges differ in width")]
    BadRange(String),
    /// An address translation that no message can say.
    #[error(
        "{0} cannot be expressed: the addresses must be of one family and in order, and ports need an address"
    )]
    BadNat(String),
}

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end in the middle.
    #[error("{0} is cut short")]
    Truncated(&'static str),
    /// A length that contradicts what is around it.
    #[error("{0} has an impossible length {1}")]
    BadLength(&'static str, usize),
    /// Something this client does not know.
    #[error("{0} {1:#x} is not known to this client")]
    Unknown(&'static str, u64),
    /// A value that cannot be.
    #[error("{0} has the impossible value {1:#x}")]
    BadValue(&'static str, u64),
    /// Actions inside actions inside actions.
    #[error("actions are nested too deeply")]
    TooDeep,
    /// Another protocol version.
    #[error("the peer speaks version {0:#04x}, this client OpenFlow 1.4 (0x05)")]
    BadVersion(u8),
}

/// What the switch answered instead of doing what it was asked (`OFPT_ERROR`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchError {
    /// `OFPET_*`, or 0xffff for an experimenter's.
    pub kind: u16,
    /// Code within the kind.
    pub code: u16,
    /// Start of the offending message, or text for a failed hello.
    pub data: Bytes,
}

impl SwitchError {
    pub(crate) const HELLO_FAILED: u16 = 0;

    /// A bundle was refused because of one of its messages, which has an error of its own.
    pub fn is_bundle_member_failed(&self) -> bool {
        (self.kind, self.code) == (17, 13)
    }
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match text(self.kind, self.code) {
            Some(text) => write!(f, "the switch refused: {text}")?,
            None => write!(f, "the switch refused: error type {}, code {}", self.kind, self.code)?,
        }
        if self.kind == Self::HELLO_FAILED && !self.data.is_empty() {
            write!(f, " ({})", String::from_utf8_lossy(&self.data[..self.data.len().min(200)]))?;
        }
        Ok(())
    }
}

impl std::error::Error for SwitchError {}

/// Name in the specification and a few words for each error that a flow programmer meets.
fn text(kind: u16, code: u16) -> Option<&'static str> {
    Some(match (kind, code) {
        (0, 0) => {
            "OFPHFC_INCOMPATIBLE: no protocol version in common; the bridge's `protocols` must allow OpenFlow14"
        }
        (0, 1) => "OFPHFC_EPERM: not permitted",
        (1, 0) => "OFPBRC_BAD_VERSION: version not supported",
        (1, 1) => "OFPBRC_BAD_TYPE: message type not supported",
        (1, 2) => "OFPBRC_BAD_MULTIPART: multipart type not supported",
        (1, 3) => "OFPBRC_BAD_EXPERIMENTER: experimenter not supported",
        (1, 4) => "OFPBRC_BAD_EXP_TYPE: experimenter message not supported",
        (1, 5) => "OFPBRC_EPERM: not permitted",
        (1, 6) => "OFPBRC_BAD_LEN: wrong message length",
        (1, 7) => "OFPBRC_BUFFER_EMPTY: buffer already used",
        (1, 8) => "OFPBRC_BUFFER_UNKNOWN: no such buffer",
        (1, 9) => "OFPBRC_BAD_TABLE_ID: no such table",
        (1, 10) => "OFPBRC_IS_SLAVE: this controller's role may only read",
        (1, 11) => "OFPBRC_BAD_PORT: no such port",
        (1, 12) => "OFPBRC_BAD_PACKET: not a packet",
        (1, 13) => "OFPBRC_MULTIPART_BUFFER_OVERFLOW: multipart request too long",
        (2, 0) => "OFPBAC_BAD_TYPE: unknown action",
        (2, 1) => "OFPBAC_BAD_LEN: wrong action length",
        (2, 2) => "OFPBAC_BAD_EXPERIMENTER: unknown experimenter in an action",
        (2, 3) => "OFPBAC_BAD_EXP_TYPE: unknown experimenter action",
        (2, 4) => "OFPBAC_BAD_OUT_PORT: no such output port",
        (2, 5) => "OFPBAC_BAD_ARGUMENT: bad argument of an action",
        (2, 6) => "OFPBAC_EPERM: action not permitted",
        (2, 7) => "OFPBAC_TOO_MANY: too many actions",
        (2, 8) => "OFPBAC_BAD_QUEUE: no such queue",
        (2, 9) => "OFPBAC_BAD_OUT_GROUP: no such group",
        (2, 10) => {
            "OFPBAC_MATCH_INCONSISTENT: the action needs something that the flow does not match on (an Ethernet type, an IP protocol)"
        }
        (2, 11) => "OFPBAC_UNSUPPORTED_ORDER: actions in an unsupported order",
        (2, 12) => "OFPBAC_BAD_TAG: unsupported tag",
        (2, 13) => "OFPBAC_BAD_SET_TYPE: the field is unknown or cannot be written",
        (2, 14) => "OFPBAC_BAD_SET_LEN: bits outside the field",
        (2, 15) => "OFPBAC_BAD_SET_ARGUMENT: the field cannot have that value",
        (3, 0) => "OFPBIC_UNKNOWN_INST: unknown instruction",
        (3, 1) => "OFPBIC_UNSUP_INST: unsupported instruction",
        (3, 2) => "OFPBIC_BAD_TABLE_ID: goto_table must name a later table",
        (3, 3) => "OFPBIC_UNSUP_METADATA: unsupported metadata value",
        (3, 4) => "OFPBIC_UNSUP_METADATA_MASK: unsupported metadata mask",
        (3, 7) => "OFPBIC_BAD_LEN: wrong instruction length",
        (3, 9) => "OFPBIC_DUP_INST: an instruction is there twice",
        (4, 0) => "OFPBMC_BAD_TYPE: unsupported kind of match",
        (4, 1) => "OFPBMC_BAD_LEN: wrong match length",
        (4, 3) => "OFPBMC_BAD_DL_ADDR_MASK: unsupported MAC mask",
        (4, 4) => "OFPBMC_BAD_NW_ADDR_MASK: unsupported IP mask",
        (4, 5) => "OFPBMC_BAD_WILDCARDS: unsupported wildcards",
        (4, 6) => "OFPBMC_BAD_FIELD: a matched field is unknown",
        (4, 7) => "OFPBMC_BAD_VALUE: a matched field cannot have that value",
        (4, 8) => "OFPBMC_BAD_MASK: a matched field cannot be masked so",
        (4, 9) => {
            "OFPBMC_BAD_PREREQ: a matched field needs another one first (an Ethernet type, an IP protocol)"
        }
        (4, 10) => "OFPBMC_DUP_FIELD: a field is matched twice",
        (5, 0) => "OFPFMFC_UNKNOWN: flow not changed, for no stated reason",
        (5, 1) => "OFPFMFC_TABLE_FULL: the flow table is full",
        (5, 2) => "OFPFMFC_BAD_TABLE_ID: no such table",
        (5, 3) => "OFPFMFC_OVERLAP: overlaps a flow of the same priority",
        (5, 4) => "OFPFMFC_EPERM: flow not permitted",
        (5, 5) => "OFPFMFC_BAD_TIMEOUT: unsupported timeout",
        (5, 6) => "OFPFMFC_BAD_COMMAND: unknown flow command",
        (5, 7) => "OFPFMFC_BAD_FLAGS: unknown flow flags",
        (6, 0) => "OFPGMFC_GROUP_EXISTS: the group exists already",
        (6, 1) => "OFPGMFC_INVALID_GROUP: the group is invalid",
        (6, 3) => "OFPGMFC_OUT_OF_GROUPS: the group table is full",
        (6, 4) => "OFPGMFC_OUT_OF_BUCKETS: too many buckets",
        (6, 7) => "OFPGMFC_LOOP: the group would form a loop",
        (6, 8) => "OFPGMFC_UNKNOWN_GROUP: no such group",
        (6, 12) => "OFPGMFC_BAD_BUCKET: a bucket is wrong",
        (6, 13) => "OFPGMFC_BAD_WATCH: nothing such to watch",
        (7, 0) => "OFPPMFC_BAD_PORT: no such port",
        (12, 1) => "OFPMMFC_METER_EXISTS: the meter exists already",
        (12, 2) => "OFPMMFC_INVALID_METER: no such meter, or the meter is invalid",
        (12, 3) => "OFPMMFC_UNKNOWN_METER: no such meter",
        (12, 6) => "OFPMMFC_BAD_RATE: unsupported rate",
        (12, 10) => "OFPMMFC_OUT_OF_METERS: too many meters",
        (14, 0) => "OFPBPC_BAD_TYPE: unknown property",
        (14, 1) => "OFPBPC_BAD_LEN: wrong property length",
        (15, 0) => "OFPACFC_INVALID: bad mask of asynchronous messages",
        (15, 1) => "OFPACFC_UNSUPPORTED: unsupported selection of asynchronous messages",
        (17, 0) => "OFPBFC_UNKNOWN: bundle refused, for no stated reason",
        (17, 1) => "OFPBFC_EPERM: bundle not permitted",
        (17, 2) => "OFPBFC_BAD_ID: no such bundle",
        (17, 3) => "OFPBFC_BUNDLE_EXIST: the bundle exists already",
        (17, 4) => "OFPBFC_BUNDLE_CLOSED: the bundle is closed",
        (17, 5) => "OFPBFC_OUT_OF_BUNDLES: too many bundles",
        (17, 6) => "OFPBFC_BAD_TYPE: unknown bundle message",
        (17, 7) => "OFPBFC_BAD_FLAGS: unsupported bundle flags",
        (17, 8) => "OFPBFC_MSG_BAD_LEN: wrong length of a message in the bundle",
        (17, 9) => "OFPBFC_MSG_BAD_XID: wrong transaction id of a message in the bundle",
        (17, 10) => "OFPBFC_MSG_UNSUP: a message of this kind cannot be in a bundle",
        (17, 11) => "OFPBFC_MSG_CONFLICT: messages that cannot be in one bundle",
        (17, 12) => "OFPBFC_MSG_TOO_MANY: too many messages in the bundle",
        (17, 13) => "OFPBFC_MSG_FAILED: a message of the bundle failed, so nothing was changed",
        (17, 14) => "OFPBFC_TIMEOUT: the bundle took too long",
        (17, 15) => "OFPBFC_BUNDLE_IN_PROGRESS: another bundle is being committed",
        _ => return None,
    })
}
