//! Writes an ISO 9660 image with Joliet names: enough of ECMA-119 for a config drive, in memory,
//! the same bytes for the same files.
//!
//! ```text
//!   0..15  unused    16 primary descriptor   17 Joliet descriptor   18 end of descriptors
//!   19..   path tables: primary L, M; Joliet L, M
//!   ...    directories: primary, Joliet      then the files, each from a new sector
//! ```
//! Both trees share the files. Linux and Windows read the Joliet tree, in which names keep their
//! case; firmware and others see upper-case names of at most 31 characters.

use std::collections::BTreeMap;

use cloud_types::Timestamp;

const SECTOR: usize = 2048;
/// The longest Joliet name, in UTF-16 units.
const MAX_NAME: usize = 64;
/// More than any config drive needs; sizes stay far below the format's 32 bits.
const MAX_IMAGE: usize = 256 << 20;

/// A directory with its entries in the order of names.
#[derive(Default)]
struct Directory {
    directories: BTreeMap<String, Directory>,
    files: BTreeMap<String, usize>,
}

/// Which of the two trees is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    Primary,
    Joliet,
}

impl Tree {
    /// A name as this tree spells it.
    fn spell(self, name: &str, file: bool) -> Vec<u8> {
        match self {
            Tree::Primary => {
                let mut text: String = name
                    .to_ascii_uppercase()
                    .chars()
                    .map(|c| match c {
                        'A'..='Z' | '0'..='9' | '.' => c,
                        _ => '_',
                    })
                    .take(28)
                    .collect();
                if file {
                    if !text.contains('.') {
                        text.push('.');
                    }
                    text.push_str(";1");
                } else {
                    text = text.replace('.', "_");
                }
                text.into_bytes()
            }
            Tree::Joliet => {
                let text = if file { format!("{name};1") } else { name.to_owned() };
                text.encode_utf16().flat_map(u16::to_be_bytes).collect()
            }
        }
    }
}

/// A directory as it is laid out: numbered in the order of the path table.
struct Placed<'a> {
    directory: &'a Directory,
    parent: usize,
    identifier: Vec<u8>,
    sector: usize,
    sectors: usize,
}

struct Writer {
    time: [u8; 7],
}

/// Builds the image from (path, contents).
pub fn build(
    label: &str,
    time: Timestamp,
    files: Vec<(String, Vec<u8>)>,
) -> Result<Vec<u8>, String> {
    let total: usize = files.iter().map(|(_, contents)| contents.len() + SECTOR).sum();
    if total > MAX_IMAGE {
        return Err(format!("{total} bytes are too much for a config drive"));
    }
    let mut root = Directory::default();
    for (index, (path, _)) in files.iter().enumerate() {
        insert(&mut root, path, index)?;
    }
    let writer = Writer { time: record_time(time) };
    let mut primary = place(&root, Tree::Primary);
    let mut joliet = place(&root, Tree::Joliet);
    let table_sectors = |placed: &[Placed<'_>]| path_table_len(placed).div_ceil(SECTOR);
    let (primary_table, joliet_table) = (table_sectors(&primary), table_sectors(&joliet));
    let tables = 19;
    let mut next = tables + 2 * primary_table + 2 * joliet_table;
    for (placed, tree) in [(&mut primary, Tree::Primary), (&mut joliet, Tree::Joliet)] {
        for entry in placed {
            entry.sectors = writer.directory_len(entry.directory, tree).div_ceil(SECTOR);
            entry.sector = next;
            next += entry.sectors;
        }
    }
    let extents: Vec<(usize, usize)> = files
        .iter()
        .map(|(_, contents)| {
            let at = next;
            next += contents.len().div_ceil(SECTOR);
            (at, contents.len())
        })
        .collect();

    let mut image = vec![0; next * SECTOR];
    for (sector, tree, placed, table) in [
        (16, Tree::Primary, &primary, tables),
        (17, Tree::Joliet, &joliet, tables + 2 * primary_table),
    ] {
        let sectors = if tree == Tree::Primary { primary_table } else { joliet_table };
        let length = path_table_len(placed);
        let descriptor = writer.descriptor(label, tree, next, &placed[0], length, table, sectors);
        put(&mut image, sector, &descriptor);
        put(&mut image, table, &path_table(placed, u32::to_le_bytes, u16::to_le_bytes));
        put(&mut image, table + sectors, &path_table(placed, u32::to_be_bytes, u16::to_be_bytes));
        for (index, entry) in placed.iter().enumerate() {
            put(&mut image, entry.sector, &writer.directory(placed, index, tree, &extents));
        }
    }
    put(&mut image, 18, b"\xffCD001\x01");
    for ((_, contents), (sector, _)) in files.iter().zip(&extents) {
        put(&mut image, *sector, contents);
    }
    Ok(image)
}

fn put(image: &mut [u8], sector: usize, bytes: &[u8]) {
    image[sector * SECTOR..sector * SECTOR + bytes.len()].copy_from_slice(bytes);
}

fn insert(root: &mut Directory, path: &str, index: usize) -> Result<(), String> {
    let mut directory = root;
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    for part in parts.iter().chain([&name]) {
        let units = part.encode_utf16().count();
        if part.is_empty() || *part == "." || *part == ".." || units > MAX_NAME - 2 {
            return Err(format!("{path:?} is no path for a config drive"));
        }
    }
    for part in parts {
        directory = directory.directories.entry(part.to_owned()).or_default();
    }
    directory.files.insert(name.to_owned(), index);
    Ok(())
}

/// Numbers the directories breadth first, as the path table wants them.
fn place(root: &Directory, tree: Tree) -> Vec<Placed<'_>> {
    let mut placed =
        vec![Placed { directory: root, parent: 0, identifier: vec![0], sector: 0, sectors: 0 }];
    let mut index = 0;
    while index < placed.len() {
        let directory = placed[index].directory;
        for (name, child) in &directory.directories {
            placed.push(Placed {
                directory: child,
                parent: index,
                identifier: tree.spell(name, false),
                sector: 0,
                sectors: 0,
            });
        }
        index += 1;
    }
    placed
}

fn path_table_len(placed: &[Placed<'_>]) -> usize {
    placed.iter().map(|entry| 8 + entry.identifier.len().next_multiple_of(2)).sum()
}

fn path_table(
    placed: &[Placed<'_>],
    long: fn(u32) -> [u8; 4],
    short: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut table = Vec::new();
    for entry in placed {
        table.push(entry.identifier.len() as u8);
        table.push(0);
        table.extend(long(entry.sector as u32));
        table.extend(short(entry.parent as u16 + 1));
        table.extend(&entry.identifier);
        if entry.identifier.len() % 2 == 1 {
            table.push(0);
        }
    }
    table
}

/// Numbers that the format writes in both byte orders.
fn both32(number: usize) -> [u8; 8] {
    let number = number as u32;
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn both16(number: u16) -> [u8; 4] {
    let (le, be) = (number.to_le_bytes(), number.to_be_bytes());
    [le[0], le[1], be[0], be[1]]
}

impl Writer {
    fn record(&self, sector: usize, length: usize, directory: bool, identifier: &[u8]) -> Vec<u8> {
        let size = (33 + identifier.len()).next_multiple_of(2);
        let mut record = vec![size as u8, 0];
        record.extend(both32(sector));
        record.extend(both32(length));
        record.extend(self.time);
        record.extend([if directory { 2 } else { 0 }, 0, 0]);
        record.extend(both16(1));
        record.push(identifier.len() as u8);
        record.extend(identifier);
        record.resize(size, 0);
        record
    }

    /// A directory's records in the order of their spelling; none crosses a sector's end.
    fn directory(
        &self,
        placed: &[Placed<'_>],
        index: usize,
        tree: Tree,
        extents: &[(usize, usize)],
    ) -> Vec<u8> {
        let own = &placed[index];
        let parent = &placed[own.parent];
        let mut records = vec![
            self.record(own.sector, own.sectors * SECTOR, true, &[0]),
            self.record(parent.sector, parent.sectors * SECTOR, true, &[1]),
        ];
        let mut named: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for child in placed.iter().skip(1).filter(|child| child.parent == index) {
            let record = self.record(child.sector, child.sectors * SECTOR, true, &child.identifier);
            named.push((child.identifier.clone(), record));
        }
        for (name, file) in &own.directory.files {
            let identifier = tree.spell(name, true);
            let (sector, length) = extents[*file];
            let record = self.record(sector, length, false, &identifier);
            named.push((identifier, record));
        }
        named.sort();
        records.extend(named.into_iter().map(|(_, record)| record));
        pack(&records)
    }

    /// Length of the packed directory; the numbers in its records do not change it.
    fn directory_len(&self, directory: &Directory, tree: Tree) -> usize {
        let mut names: Vec<Vec<u8>> = vec![vec![0], vec![1]];
        let mut named: Vec<Vec<u8>> = directory
            .directories
            .keys()
            .map(|name| tree.spell(name, false))
            .chain(directory.files.keys().map(|name| tree.spell(name, true)))
            .collect();
        named.sort();
        names.extend(named);
        let records: Vec<Vec<u8>> =
            names.iter().map(|name| self.record(0, 0, false, name)).collect();
        pack(&records).len()
    }

    #[allow(clippy::too_many_arguments)]
    fn descriptor(
        &self,
        label: &str,
        tree: Tree,
        sectors: usize,
        root: &Placed<'_>,
        table_length: usize,
        table: usize,
        table_sectors: usize,
    ) -> Vec<u8> {
        let text = |text: &str, length: usize| -> Vec<u8> {
            let mut bytes = match tree {
                Tree::Primary => text.as_bytes().to_vec(),
                Tree::Joliet => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            };
            let space: &[u8] = if tree == Tree::Primary { b" " } else { &[0, b' '] };
            while bytes.len() + space.len() <= length {
                bytes.extend(space);
            }
            bytes.resize(length, 0);
            bytes
        };
        let mut bytes = vec![if tree == Tree::Primary { 1 } else { 2 }];
        bytes.extend(b"CD001\x01\x00");
        bytes.extend(text("", 32)); // system
        bytes.extend(text(label, 32));
        bytes.extend([0; 8]);
        bytes.extend(both32(sectors));
        let mut escapes = [0; 32];
        if tree == Tree::Joliet {
            escapes[..3].copy_from_slice(b"%/E"); // UCS-2, level 3
        }
        bytes.extend(escapes);
        bytes.extend(both16(1));
        bytes.extend(both16(1));
        bytes.extend(both16(SECTOR as u16));
        bytes.extend(both32(table_length));
        bytes.extend((table as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(((table + table_sectors) as u32).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.record(root.sector, root.sectors * SECTOR, true, &[0]));
        for length in [128, 128, 128, 128] {
            bytes.extend(text("", length)); // set, publisher, preparer, application
        }
        for length in [37, 37, 37] {
            bytes.extend(text("", length)); // copyright, abstract, bibliography
        }
        for _ in 0..4 {
            bytes.extend(b"0000000000000000\x00"); // times: not given
        }
        bytes.extend([1, 0]);
        bytes
    }
}

fn pack(records: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for record in records {
        if bytes.len() % SECTOR + record.len() > SECTOR {
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        }
        bytes.extend(record);
    }
    bytes
}

/// Years since 1900, month, day, hour, minute, second, offset from Greenwich.
fn record_time(time: Timestamp) -> [u8; 7] {
    let text = time.rfc3339_seconds();
    let number = |range: std::ops::Range<usize>| -> u16 {
        text.get(range).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    let year = number(0..4).clamp(1900, 2155) - 1900;
    [
        year as u8,
        number(5..7) as u8,
        number(8..10) as u8,
        number(11..13) as u8,
        number(14..16) as u8,
        number(17..19) as u8,
        0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(image: &[u8], at: usize) -> usize {
        u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize
    }

    /// Reads a tree back the way a kernel does: from the descriptor's root record on.
    fn read(image: &[u8], descriptor: usize) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let root = descriptor * SECTOR + 156;
        walk(image, root, descriptor == 17, "", &mut files);
        files
    }

    fn walk(
        image: &[u8],
        record: usize,
        joliet: bool,
        path: &str,
        files: &mut BTreeMap<String, Vec<u8>>,
    ) {
        let (start, length) = (u32_at(image, record + 2) * SECTOR, u32_at(image, record + 10));
        let mut at = start;
        while at < start + length {
            let size = image[at] as usize;
            if size == 0 {
                at = (at + 1).next_multiple_of(SECTOR);
                continue;
            }
            let name = &image[at + 33..at + 33 + image[at + 32] as usize];
            if name != [0] && name != [1] {
                let name = if joliet {
                    let units: Vec<u16> =
                        name.chunks(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])).collect();
                    String::from_utf16(&units).unwrap()
                } else {
                    String::from_utf8(name.to_vec()).unwrap()
                };
                let path = format!("{path}/{}", name.trim_end_matches(";1"));
                if image[at + 25] & 2 != 0 {
                    walk(image, at, joliet, &path, files);
                } else {
                    let (start, length) = (u32_at(image, at + 2) * SECTOR, u32_at(image, at + 10));
                    files.insert(path, image[start..start + length].to_vec());
                }
            }
            at += size;
        }
    }

    #[test]
    fn both_trees_hold_every_file() {
        let long = vec![b'x'; 5000];
        let mut files = vec![
            ("openstack/latest/meta_data.json".to_owned(), b"{}".to_vec()),
            ("openstack/2018-08-27/user_data".to_owned(), long.clone()),
            ("empty".to_owned(), Vec::new()),
        ];
        // More than one sector of records in one directory.
        for index in 0..100 {
            files.push((format!("openstack/content/{index:04}"), vec![index as u8]));
        }
        let image = build("config-2", Timestamp(0), files).unwrap();
        assert_eq!(image.len() % SECTOR, 0);
        assert_eq!(u32_at(&image, 16 * SECTOR + 80) * SECTOR, image.len());
        let joliet = read(&image, 17);
        assert_eq!(joliet.len(), 103);
        assert_eq!(joliet["/openstack/2018-08-27/user_data"], long);
        assert_eq!(joliet["/openstack/content/0099"], vec![99]);
        assert_eq!(joliet["/empty"], Vec::<u8>::new());
        let primary = read(&image, 16);
        assert_eq!(primary.len(), 103);
        assert_eq!(primary["/OPENSTACK/LATEST/META_DATA.JSON"], b"{}");
        assert_eq!(primary["/OPENSTACK/2018_08_27/USER_DATA."], long);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["", "a//b", "../x", "/x"] {
            let files = vec![(path.to_owned(), Vec::new())];
            assert!(build("l", Timestamp(0), files).is_err(), "{path}");
        }
    }
}
