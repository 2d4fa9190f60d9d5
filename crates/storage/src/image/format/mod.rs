//! What a file may be, judged by its header and never by probing with a tool.
//!
//! The format is declared by whoever uploads. The file's beginning must agree: a `qcow2` has to
//! be one that stands alone (no backing file, no external data file, nothing encrypted), and a
//! `raw` must not begin like another format, since a guest that could choose its own format on
//! the next boot could name any file of the host as its backing file.

mod qcow2;

use std::fmt;
use std::str::FromStr;

use qcow2::parse_qcow2;

/// How much of a file the checks look at.
pub const HEAD_BYTES: usize = 64 * 1024;

/// Formats that a guest can boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
}

impl DiskFormat {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DiskFormat {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "raw" => Ok(DiskFormat::Raw),
            "qcow2" => Ok(DiskFormat::Qcow2),
            _ => Err(()),
        }
    }
}

/// Why a file is not what it was declared to be. The text is for the one who uploaded it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

impl FormatError {
    fn new(text: impl Into<String>) -> Self {
        FormatError(text.into())
    }
}

/// Beginnings of formats that a raw disk must not pretend to be, with where they stand.
const FOREIGN: &[(&str, usize, &[u8])] = &[
    ("qcow2", 0, b"QFI\xfb"),
    ("QED", 0, b"QED\0"),
    ("VMDK", 0, b"KDMV"),
    ("VMDK", 0, b"COWD"),
    ("VMDK descriptor", 0, b"# Disk DescriptorFile"),
    ("VHDX", 0, b"vhdxfile"),
    ("VHD", 0, b"conectix"),
    ("VDI", 0x40, b"\x7f\x10\xda\xbe"),
    ("Parallels", 0, b"WithoutFreeSpace"),
    ("Parallels", 0, b"WithouFreSpacExt"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
];

/// Checks the beginning of a file against its declared format, and returns the size in bytes of
/// the disk that a guest will see.
///
/// `head` is the first [`HEAD_BYTES`] of the file, or all of it; `length` is the file's.
///
/// # Errors
/// What is wrong, and what to do about it.
pub fn check(format: DiskFormat, head: &[u8], length: u64) -> Result<u64, FormatError> {
    match format {
        DiskFormat::Qcow2 => Ok(parse_qcow2(head, length)?.virtual_size),
        DiskFormat::Raw => {
            let foreign = FOREIGN.iter().find(|(_, offset, magic)| {
                head.get(*offset..).is_some_and(|rest| rest.starts_with(magic))
            });
            match foreign {
                Some((name, ..)) => Err(FormatError::new(format!(
                    "the file begins like {name}, and was declared raw; declare its real format, or convert it (qemu-img convert -O raw)"
                ))),
                None => Ok(length),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_disk_is_as_long_as_its_file() {
        assert_eq!(check(DiskFormat::Raw, &[0; 512], 4096), Ok(4096));
        assert_eq!(check(DiskFormat::Raw, &[], 0), Ok(0));
    }

    #[test]
    fn a_raw_disk_that_begins_like_another_format_is_refused() {
        for (name, offset, magic) in FOREIGN {
            let mut head = vec![0; offset + magic.len()];
            head[*offset..].copy_from_slice(magic);
            let error = check(DiskFormat::Raw, &head, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
