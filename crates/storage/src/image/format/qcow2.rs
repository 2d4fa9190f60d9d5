//! The header of a qcow2 file (QEMU's `docs/interop/qcow2.txt`), as far as it decides whether the
//! file is safe to hand to a guest.

use super::FormatError;

/// Smallest and largest cluster, as powers of two: QEMU's own bounds.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// Largest disk that is taken: 64 TiB, in bytes.
const MAX_VIRTUAL_SIZE: u64 = 64 << 40;
/// Largest first-level table and reference count table, in bytes: QEMU's own bounds. It reads both
/// into memory whole.
const MAX_L1_TABLE: u64 = 32 << 20;
const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
/// Incompatible feature bits that change how data is stored and that QEMU 7.2 reads: compression
/// type (3) and extended L2 entries (4).
const KNOWN_INCOMPATIBLE: u64 = (1 << 3) | (1 << 4);
/// The image was not closed properly; its reference counts have to be rebuilt first.
const DIRTY: u64 = 1;
/// The image is damaged.
const CORRUPT: u64 = 1 << 1;
/// Guest data is in another file, whose name the image's author chose.
const EXTERNAL_DATA: u64 = 1 << 2;
/// Header extension: name of the external data file.
const EXTENSION_EXTERNAL_DATA: u32 = 0x4441_5441;
/// Header extension: full disk encryption header.
const EXTENSION_LUKS: u32 = 0x0537_be77;

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qcow2Header {
    /// 2 or 3.
    pub version: u32,
    /// Size of the disk that a guest sees, in bytes.
    pub virtual_size: u64,
    /// Size of a cluster in bytes.
    pub cluster_size: u64,
}

/// Reads big-endian fields; beyond the end is an error, never a panic.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, offset: usize) -> Result<u32, FormatError> {
        let bytes = self.0.get(offset..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_be_bytes(*bytes)).ok_or_else(too_short)
    }
    fn u64(&self, offset: usize) -> Result<u64, FormatError> {
        let bytes = self.0.get(offset..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map(|bytes| u64::from_be_bytes(*bytes)).ok_or_else(too_short)
    }
}

fn too_short() -> FormatError {
    FormatError::new("the file ends within its qcow2 header; the upload was cut short")
}

fn refuse<T>(text: impl Into<String>) -> Result<T, FormatError> {
    Err(FormatError::new(text))
}

/// Reads and judges a header. `head` is the beginning of the file, `length` the whole file's.
///
/// # Errors
/// What makes the file unusable, in words for the one who uploaded it.
pub fn parse_qcow2(head: &[u8], length: u64) -> Result<Qcow2Header, FormatError> {
    if !head.starts_with(b"QFI\xfb") {
        return refuse(
            "the file was declared qcow2 and does not begin like one; declare its real format, or convert it (qemu-img convert -O qcow2)",
        );
    }
    let fields = Fields(head);
    let version = fields.u32(4)?;
    if version != 2 && version != 3 {
        return refuse(format!("qcow2 version {version} is not known; versions 2 and 3 are"));
    }
    if fields.u64(8)? != 0 || fields.u32(16)? != 0 {
        return refuse(
            "the qcow2 file names a backing file; images have to stand alone (qemu-img convert makes one that does)",
        );
    }
    let cluster_bits = fields.u32(20)?;
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return refuse(format!(
            "a cluster of 2^{cluster_bits} bytes is outside of what qcow2 allows (2^9 to 2^21)"
        ));
    }
    let cluster_size = 1u64 << cluster_bits;
    let virtual_size = fields.u64(24)?;
    if virtual_size == 0 || virtual_size > MAX_VIRTUAL_SIZE {
        return refuse(format!(
            "a disk of {virtual_size} bytes is outside of what is taken (1 byte to 64 TiB)"
        ));
    }
    if fields.u32(32)? != 0 {
        return refuse("the qcow2 file is encrypted; upload it decrypted");
    }
    check_tables(&fields, cluster_size, virtual_size, length)?;
    let header_length = if version == 3 { check_features(&fields)? } else { 72 };
    check_extensions(&fields, header_length, head.len(), cluster_size)?;
    Ok(Qcow2Header { version, virtual_size, cluster_size })
}

/// The first-level table must map the whole disk, and lie in the file on cluster boundaries.
fn check_tables(
    fields: &Fields<'_>,
    cluster_size: u64,
    virtual_size: u64,
    length: u64,
) -> Result<(), FormatError> {
    let l1_entries = u64::from(fields.u32(36)?);
    // An entry of the second level maps one cluster and takes 8 bytes (16 with extended entries,
    // which halve what a table maps; QEMU checks those itself).
    let mapped_by_one = cluster_size * (cluster_size / 16);
    let mapped = l1_entries.saturating_mul(mapped_by_one * 2);
    if mapped < virtual_size {
        return refuse("the qcow2 file's first-level table is too short for its disk");
    }
    let placed = |offset: u64, bytes: u64| {
        offset.is_multiple_of(cluster_size)
            && offset >= cluster_size
            && offset.checked_add(bytes).is_some_and(|end| end <= length)
    };
    if l1_entries * 8 > MAX_L1_TABLE {
        return refuse("the qcow2 file's first-level table is larger than QEMU takes (32 MiB)");
    }
    if !placed(fields.u64(40)?, l1_entries * 8) {
        return refuse(
            "the qcow2 file's first-level table lies outside of the file; the upload was cut short, or the file is damaged",
        );
    }
    let refcount_bytes = u64::from(fields.u32(56)?).saturating_mul(cluster_size);
    if refcount_bytes == 0
        || refcount_bytes > MAX_REFCOUNT_TABLE
        || !placed(fields.u64(48)?, refcount_bytes)
    {
        return refuse(
            "the qcow2 file's reference count table lies outside of the file; the upload was cut short, or the file is damaged",
        );
    }
    Ok(())
}

/// Version 3's feature bits; returns the header's length.
fn check_features(fields: &Fields<'_>) -> Result<usize, FormatError> {
    let incompatible = fields.u64(72)?;
    if incompatible & EXTERNAL_DATA != 0 {
        return refuse(
            "the qcow2 file keeps its data in another file; images have to stand alone (qemu-img convert makes one that does)",
        );
    }
    if incompatible & CORRUPT != 0 {
        return refuse(
            "the qcow2 file is marked as damaged; repair it (qemu-img check -r all) or make it again",
        );
    }
    if incompatible & DIRTY != 0 {
        return refuse(
            "the qcow2 file was not closed properly; repair it (qemu-img check -r all) first",
        );
    }
    if incompatible & !KNOWN_INCOMPATIBLE != 0 {
        return refuse(format!(
            "the qcow2 file uses features that are not known here (bits {:#x})",
            incompatible & !KNOWN_INCOMPATIBLE
        ));
    }
    if fields.u32(96)? > 6 {
        return refuse("the qcow2 file's reference counts are wider than the format allows");
    }
    let header_length = fields.u32(100)?;
    if !(104..=4096).contains(&header_length) || !header_length.is_multiple_of(8) {
        return refuse(format!("a qcow2 header of {header_length} bytes is not possible"));
    }
    Ok(header_length as usize)
}

/// Header extensions: none may name another file or a key.
fn check_extensions(
    fields: &Fields<'_>,
    mut offset: usize,
    head_length: usize,
    cluster_size: u64,
) -> Result<(), FormatError> {
    // All extensions stand within the first cluster, and within what was read of the file: a list
    // that goes on beyond could hide what this check is for.
    let cluster = usize::try_from(cluster_size).unwrap_or(usize::MAX);
    let end = cluster.min(head_length);
    while offset + 8 <= end {
        let kind = fields.u32(offset)?;
        let bytes = fields.u32(offset + 4)? as usize;
        match kind {
            0 => return Ok(()),
            EXTENSION_EXTERNAL_DATA => {
                return refuse(
                    "the qcow2 file names an external data file; images have to stand alone",
                );
            }
            EXTENSION_LUKS => return refuse("the qcow2 file is encrypted; upload it decrypted"),
            _ => {}
        }
        offset = match bytes
            .checked_next_multiple_of(8)
            .and_then(|padded| offset.checked_add(8 + padded))
        {
            Some(next) if next <= end => next,
            _ => {
                return refuse(
                    "the qcow2 file's header extensions do not end within its first cluster",
                );
            }
        };
    }
    if end < cluster {
        return refuse("the qcow2 file's header extensions are longer than is taken");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: u64 = 1 << 20;

    /// The header of a healthy file of version 3 with clusters of 64 KiB and a disk of 1 GiB.
    fn healthy() -> Vec<u8> {
        let mut head = vec![0u8; 512];
        let mut put =
            |offset: usize, bytes: &[u8]| head[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb");
        put(4, &3u32.to_be_bytes());
        put(20, &16u32.to_be_bytes());
        put(24, &(1u64 << 30).to_be_bytes());
        put(36, &2u32.to_be_bytes());
        put(40, &(3u64 << 16).to_be_bytes());
        put(48, &(1u64 << 16).to_be_bytes());
        put(56, &1u32.to_be_bytes());
        put(96, &4u32.to_be_bytes());
        put(100, &104u32.to_be_bytes());
        head
    }

    fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut head = healthy();
        head[offset..offset + bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn a_healthy_header_is_read() {
        let header = parse_qcow2(&healthy(), LENGTH).unwrap();
        assert_eq!(
            header,
            Qcow2Header { version: 3, virtual_size: 1 << 30, cluster_size: 1 << 16 }
        );
    }

    #[test]
    fn each_danger_is_refused_by_name() {
        let cases: &[(Vec<u8>, &str)] = &[
            (with(8, &512u64.to_be_bytes()), "backing file"),
            (with(16, &10u32.to_be_bytes()), "backing file"),
            (with(4, &4u32.to_be_bytes()), "version 4"),
            (with(20, &40u32.to_be_bytes()), "cluster"),
            (with(24, &u64::MAX.to_be_bytes()), "64 TiB"),
            (with(32, &2u32.to_be_bytes()), "encrypted"),
            (with(36, &0u32.to_be_bytes()), "too short"),
            (with(40, &(1u64 << 40).to_be_bytes()), "outside"),
            (with(48, &(1u64 << 40).to_be_bytes()), "outside"),
            (with(56, &u32::MAX.to_be_bytes()), "outside"),
            (with(36, &u32::MAX.to_be_bytes()), "larger than QEMU takes"),
            (with(72, &1u64.to_be_bytes()), "not closed"),
            (with(72, &2u64.to_be_bytes()), "damaged"),
            (with(72, &4u64.to_be_bytes()), "another file"),
            (with(72, &(1u64 << 40).to_be_bytes()), "not known"),
            (with(104, &EXTENSION_EXTERNAL_DATA.to_be_bytes()), "external data file"),
            (with(104, &EXTENSION_LUKS.to_be_bytes()), "encrypted"),
        ];
        for (head, word) in cases {
            let error = parse_qcow2(head, LENGTH).unwrap_err().to_string();
            assert!(error.contains(word), "wanted {word:?} in {error:?}");
        }
    }

    #[test]
    fn a_backing_file_name_hidden_behind_an_extension_is_found() {
        // An unknown extension of 8 bytes first, then the forbidden one.
        let mut head = with(104, &0xfeed_beefu32.to_be_bytes());
        head[108..112].copy_from_slice(&8u32.to_be_bytes());
        head[120..124].copy_from_slice(&EXTENSION_EXTERNAL_DATA.to_be_bytes());
        assert!(parse_qcow2(&head, LENGTH).unwrap_err().to_string().contains("external data"));
    }

    #[test]
    fn a_list_of_extensions_that_does_not_end_is_refused() {
        // Extensions of no known kind up to the end of what is looked at.
        let mut head = healthy();
        for offset in (104..512).step_by(8) {
            head[offset..offset + 4].copy_from_slice(&0xfeed_beefu32.to_be_bytes());
        }
        assert!(parse_qcow2(&head, LENGTH).unwrap_err().to_string().contains("longer"));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(
            changes in proptest::collection::vec((0usize..512, any::<u8>()), 0..40),
            cut in 0usize..=512,
            length in any::<u64>(),
        ) {
            let mut head = healthy();
            for (offset, byte) in changes {
                head[offset] = byte;
            }
            head.truncate(cut);
            if let Ok(header) = parse_qcow2(&head, length) {
                prop_assert!(header.virtual_size <= MAX_VIRTUAL_SIZE);
                prop_assert!(head[8..20].iter().all(|byte| *byte == 0), "a backing file passed");
            }
        }
    }
}
