//! The little of QEMU's qcow2 format that the host writes and reads itself: an empty overlay on a
//! file of a declared format, and the header of an image, checked for anything by which it would
//! lead QEMU to other files.
//!
//! An overlay is a pure function of its size and what it stands on, a few hundred kilobytes of
//! mostly nothing, so writing it costs no process and a server's start does not wait for one.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use host_protocol::ImageFormat;

/// `QFI\xfb`.
const MAGIC: u32 = 0x5146_49fb;
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const HEADER_BYTES: u32 = 104;
/// Header extension that names the backing file's format, so that nobody ever guesses it.
const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Bytes of guest disk that one entry of the first table stands for: 8,192 clusters.
const L1_ENTRY_SPAN: u64 = CLUSTER * (CLUSTER / 8);
/// QEMU's own limit on the first table (32 MiB).
const MAX_L1_ENTRIES: u64 = (32 << 20) / 8;
/// The longest backing file name that the format allows.
const MAX_BACKING_NAME: usize = 1023;
/// Guests see sectors of this many bytes.
pub const SECTOR: u64 = 512;

/// Features by which reading the image needs more than the format's base: 0 dirty and 3
/// compression type change nothing for a reader that knows them, 4 is extended L2 entries.
const HARMLESS_FEATURES: u64 = 0b1_1001;

/// What to write where; everything else is a hole.
#[derive(Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Length of the file.
    pub length: u64,
    /// Bytes at offsets.
    pub pieces: Vec<(u64, Vec<u8>)>,
}

/// An empty overlay of `size` bytes, a multiple of [`SECTOR`], that stands on `backing`.
pub fn overlay(size: u64, backing: &Path, format: ImageFormat) -> Result<Overlay, String> {
    let name = backing.as_os_str().as_bytes();
    if name.len() > MAX_BACKING_NAME {
        return Err(format!(
            "the path {} is longer than the {MAX_BACKING_NAME} bytes that qcow2 allows",
            backing.display()
        ));
    }
    if size == 0 || !size.is_multiple_of(SECTOR) {
        return Err(format!("a disk of {size} bytes: sizes are multiples of {SECTOR}, and not 0"));
    }
    let l1_entries = size.div_ceil(L1_ENTRY_SPAN);
    if l1_entries > MAX_L1_ENTRIES {
        return Err(format!("a disk of {size} bytes is more than qcow2 can hold"));
    }
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let clusters = 3 + l1_clusters;

    let format: &[u8] = match format {
        ImageFormat::Raw => b"raw",
        ImageFormat::Qcow2 => b"qcow2",
    };
    let mut extensions = Vec::new();
    extensions.extend(BACKING_FORMAT.to_be_bytes());
    extensions.extend(u32::try_from(format.len()).unwrap_or(0).to_be_bytes());
    extensions.extend(format);
    extensions.resize(extensions.len().next_multiple_of(8), 0);
    // The end of extensions: type 0, length 0.
    extensions.extend([0; 8]);
    let name_offset = u64::from(HEADER_BYTES) + extensions.len() as u64;

    let mut header = Vec::new();
    header.extend(MAGIC.to_be_bytes());
    header.extend(3u32.to_be_bytes());
    header.extend(name_offset.to_be_bytes());
    header.extend(u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no encryption
    header.extend(u32::try_from(l1_entries).unwrap_or(0).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes()); // first table
    header.extend(CLUSTER.to_be_bytes()); // reference count table
    header.extend(1u32.to_be_bytes()); // of one cluster
    header.extend(0u32.to_be_bytes()); // no snapshots
    header.extend(0u64.to_be_bytes());
    header.extend(0u64.to_be_bytes()); // incompatible features
    header.extend(0u64.to_be_bytes()); // compatible features
    header.extend(0u64.to_be_bytes()); // autoclear features
    header.extend(4u32.to_be_bytes()); // reference counts of 16 bits
    header.extend(HEADER_BYTES.to_be_bytes());
    header.extend(extensions);
    header.extend(name);

    let counts = std::iter::repeat_n(1u16.to_be_bytes(), usize::try_from(clusters).unwrap_or(0))
        .flatten()
        .collect();
    Ok(Overlay {
        length: clusters * CLUSTER,
        pieces: vec![
            (0, header),
            (CLUSTER, (2 * CLUSTER).to_be_bytes().to_vec()),
            (2 * CLUSTER, counts),
        ],
    })
}

/// What the guest of this image file sees, in bytes, rounded up to whole sectors. An image that
/// is not what it is declared to be, or that refers to other files, is refused with the reason.
pub fn virtual_size(file: &File, format: ImageFormat) -> io::Result<Result<u64, String>> {
    let length = file.metadata()?.len();
    if format == ImageFormat::Raw {
        return Ok(Ok(length.next_multiple_of(SECTOR)));
    }
    let mut header = [0u8; HEADER_BYTES as usize];
    if length < u64::from(HEADER_BYTES) {
        return Ok(Err("it is too short to be qcow2".to_owned()));
    }
    file.read_exact_at(&mut header, 0)?;
    Ok(check_header(&header))
}

fn check_header(header: &[u8; HEADER_BYTES as usize]) -> Result<u64, String> {
    let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let u64_at = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().unwrap_or_default());
    if u32_at(0) != MAGIC {
        return Err("it is declared as qcow2 and does not begin like one".to_owned());
    }
    let version = u32_at(4);
    if !(2..=3).contains(&version) {
        return Err(format!("qcow2 version {version}; 2 and 3 are understood"));
    }
    if u64_at(8) != 0 {
        return Err("it names a backing file".to_owned());
    }
    if u32_at(32) != 0 {
        return Err("it is encrypted".to_owned());
    }
    if version == 3 && u64_at(72) & !HARMLESS_FEATURES != 0 {
        return Err(format!("it needs features {:#x}, such as an external data file", u64_at(72)));
    }
    Ok(u64_at(24).next_multiple_of(SECTOR))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(overlay: &Overlay) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(overlay.length).unwrap()];
        for (offset, piece) in &overlay.pieces {
            let at = usize::try_from(*offset).unwrap();
            bytes[at..at + piece.len()].copy_from_slice(piece);
        }
        bytes
    }

    fn header_of(bytes: &[u8]) -> &[u8; HEADER_BYTES as usize] {
        bytes[..HEADER_BYTES as usize].try_into().unwrap()
    }

    proptest! {
        #[test]
        fn every_overlay_covers_its_size_and_counts_its_clusters(sectors in 1u64..(1 << 36)) {
            let size = sectors * SECTOR;
            let overlay = overlay(size, Path::new("/images/base"), ImageFormat::Raw).unwrap();
            let bytes = bytes(&overlay);
            let header = header_of(&bytes);
            let l1_entries = u64::from(u32::from_be_bytes(header[36..40].try_into().unwrap()));
            prop_assert!(l1_entries * L1_ENTRY_SPAN >= size);
            prop_assert!(overlay.length >= 3 * CLUSTER + l1_entries * 8);
            let counts = &bytes[2 * CLUSTER as usize..3 * CLUSTER as usize];
            let counted = counts.chunks(2).filter(|count| count == &[0, 1]).count() as u64;
            prop_assert_eq!(counted, overlay.length / CLUSTER);
        }
    }

    #[test]
    fn an_overlay_is_no_image() {
        let overlay = overlay(1 << 30, Path::new("/images/base"), ImageFormat::Qcow2).unwrap();
        let bytes = bytes(&overlay);
        assert_eq!(check_header(header_of(&bytes)), Err("it names a backing file".to_owned()));
    }

    #[test]
    fn what_leads_to_other_files_is_refused() {
        let overlay = overlay(1 << 30, Path::new("/b"), ImageFormat::Raw).unwrap();
        let mut bytes = bytes(&overlay);
        bytes[8..16].fill(0);
        assert_eq!(check_header(header_of(&bytes)), Ok(1 << 30));
        bytes[79] = 0b100;
        assert!(check_header(header_of(&bytes)).is_err(), "external data file");
        bytes[79] = 0b1000;
        assert!(check_header(header_of(&bytes)).is_ok(), "compression type");
        bytes[35] = 1;
        assert!(check_header(header_of(&bytes)).is_err(), "encryption");
        bytes[0] = 0;
        assert!(check_header(header_of(&bytes)).is_err(), "magic");
    }

    #[test]
    fn sizes_and_paths_that_do_not_fit_are_refused() {
        let path = Path::new("/b");
        assert!(overlay(0, path, ImageFormat::Raw).is_err());
        assert!(overlay(513, path, ImageFormat::Raw).is_err());
        assert!(overlay(u64::MAX - 511, path, ImageFormat::Raw).is_err());
        let long = "x".repeat(1024);
        assert!(overlay(512, Path::new(&long), ImageFormat::Raw).is_err());
    }
}
