//! Keys on disk. A directory holds one file for each key, `NNNN.key`, readable by its owner only:
//! 64 hexadecimal digits (32 secret bytes) and, for a key that was added by a rotation, a second
//! line `from 2026-11-28T12:00:00.000000Z`: before that moment the key is known but not used, so
//! that every process, on every machine that shares or copies the directory, knows it first.
//!
//! ```text
//!   added ── known to all ──► in use ── a newer one is in use ──► only for what it made ──► removed
//! ```
//! Keys are not in the database, so a backup of it cannot make tokens or open credentials.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use cloud_types::Timestamp;
use zeroize::Zeroizing;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or a file in it cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which one.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is no key.
    #[error(
        "{0} must hold 64 hexadecimal digits and, perhaps, a line \"from\" with a moment in RFC 3339"
    )]
    Malformed(String),
    /// Others can read a key.
    #[error("{0} can be read by others; make its mode 0600 and, if it was so for long, rotate it")]
    Exposed(String),
    /// Something about a rotation does not fit.
    #[error("{0}")]
    Refused(String),
}

/// One key.
pub(crate) struct KeyFile {
    /// From the file's name.
    pub number: u32,
    pub secret: Zeroizing<[u8; 32]>,
    /// When it begins to be used.
    pub from: Timestamp,
}

/// Which of the keys, in ascending order of number, is used at a moment: the last that has begun,
/// else the first.
pub(crate) fn in_use(begins: impl Iterator<Item = Timestamp>, now: Timestamp) -> usize {
    begins.enumerate().filter(|(_, from)| *from <= now).map(|(index, _)| index).last().unwrap_or(0)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> KeyError {
    let path = path.display().to_string();
    move |error| KeyError::Io { path, error }
}

/// The keys in ascending order of number; makes the directory and a first key when there is none.
pub(crate) fn read_or_create(directory: &Path) -> Result<Vec<KeyFile>, KeyError> {
    std::fs::create_dir_all(directory).map_err(io(directory))?;
    let found = read(directory)?;
    if !found.is_empty() {
        return Ok(found);
    }
    create(directory, 1, None)?;
    read(directory)
}

/// The keys that are there.
pub(crate) fn read(directory: &Path) -> Result<Vec<KeyFile>, KeyError> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(io(directory))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "key"))
        .collect();
    paths.sort();
    let mut keys = Vec::with_capacity(paths.len());
    for path in &paths {
        let mode = std::fs::metadata(path).map_err(io(path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed(path.display().to_string()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io(path))?);
        let key = parse(path, &text);
        keys.push(key.ok_or_else(|| KeyError::Malformed(path.display().to_string()))?);
    }
    keys.sort_by_key(|key| key.number);
    Ok(keys)
}

fn parse(path: &Path, text: &str) -> Option<KeyFile> {
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let digits = lines.next()?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = Zeroizing::new([0u8; 32]);
    for (byte, at) in secret.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    let from = match lines.next() {
        None => Timestamp(0),
        Some(line) => Timestamp::parse(line.strip_prefix("from ")?)?,
    };
    lines.next().is_none().then_some(KeyFile { number, secret, from })
}

/// Adds a key that is used from `from` on; answers its number.
pub(crate) fn add(directory: &Path, from: Timestamp) -> Result<u32, KeyError> {
    let last = read(directory)?.last().map_or(0, |key| key.number);
    create(directory, last + 1, Some(from))?;
    Ok(last + 1)
}

/// Removes a key: what it made is not accepted, or cannot be opened, any more.
pub(crate) fn remove(directory: &Path, number: u32) -> Result<(), KeyError> {
    let path = file(directory, number);
    std::fs::remove_file(&path).map_err(io(&path))
}

fn file(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:04}.key"))
}

/// Written under another name and then linked, so that two processes that start at once agree on
/// one key and neither reads half a file.
fn create(directory: &Path, number: u32, from: Option<Timestamp>) -> Result<(), KeyError> {
    let path = file(directory, number);
    let write = || -> std::io::Result<bool> {
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
        let mut text = Zeroizing::new(String::with_capacity(128));
        for byte in secret.iter() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        if let Some(from) = from {
            text.push_str(&format!("from {from}\n"));
        }
        let draft = path.with_extension(format!("draft-{}", uuid::Uuid::new_v4().simple()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft)?;
        std::fs::File::open(directory)?.sync_all()?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    };
    match write() {
        Ok(true) => Ok(()),
        // A first key that another process made just now is as good as ours.
        Ok(false) if from.is_none() => Ok(()),
        Ok(false) => Err(KeyError::Refused(format!(
            "{} was made by another rotation at the same time; look at the keys, then try again",
            path.display()
        ))),
        Err(error) => Err(io(&path)(error)),
    }
}
