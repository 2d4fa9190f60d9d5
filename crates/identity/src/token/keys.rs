//! Signing keys. A directory holds one file for each key, `NNNN.key` with 64 hexadecimal digits
//! (the Ed25519 seed), readable by its owner only. The file with the highest number signs; all of
//! them are accepted, so that a rotation (add the next number, remove the lowest a token lifetime
//! later) invalidates nothing. Replicas have the same directory. Keys are not in the database, so
//! a backup of it cannot make tokens.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In this directory; it and a first key are made when it has none.
    Directory(PathBuf),
    /// In memory only: tokens die with the process. For tests.
    Ephemeral,
}

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
    #[error("{0} must hold 64 hexadecimal digits: an Ed25519 seed")]
    Malformed(String),
    /// Others can read a key.
    #[error("{0} can be read by others; make its mode 0600 and, if it was so for long, rotate it")]
    Exposed(String),
}

type KeyId = [u8; 4];

/// The keys of this process: one signs, all verify.
pub struct KeySet {
    signing: SigningKey,
    accepted: Vec<(KeyId, VerifyingKey)>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.accepted.len())
    }
}

impl KeySet {
    /// Reads the keys, or makes the first.
    ///
    /// # Errors
    /// What [`KeyError`] says.
    pub fn load(source: &KeySource) -> Result<KeySet, KeyError> {
        match source {
            KeySource::Ephemeral => Ok(KeySet::of(vec![fresh_seed()])),
            KeySource::Directory(path) => from_directory(path),
        }
    }

    /// The last seed signs. There is at least one.
    fn of(seeds: Vec<Zeroizing<[u8; 32]>>) -> KeySet {
        let keys: Vec<SigningKey> = seeds.iter().map(|seed| SigningKey::from_bytes(seed)).collect();
        let accepted =
            keys.iter().map(|key| (key_id(&key.verifying_key()), key.verifying_key())).collect();
        let signing = keys.last().cloned().unwrap_or_else(|| SigningKey::from_bytes(&fresh_seed()));
        KeySet { signing, accepted }
    }

    pub(super) fn signing_id(&self) -> KeyId {
        key_id(&self.signing.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// `None` when no key has this id.
    pub(super) fn verify(&self, key: KeyId, message: &[u8], signature: &[u8; 64]) -> Option<bool> {
        let (_, key) = self.accepted.iter().find(|(id, _)| *id == key)?;
        Some(key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

fn key_id(key: &VerifyingKey) -> KeyId {
    let digest = Sha256::digest(key.as_bytes());
    [digest[0], digest[1], digest[2], digest[3]]
}

fn fresh_seed() -> Zeroizing<[u8; 32]> {
    Zeroizing::new(rand::random())
}

fn from_directory(directory: &Path) -> Result<KeySet, KeyError> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |error| KeyError::Io { path, error }
    };
    std::fs::create_dir_all(directory).map_err(io(directory))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .map_err(io(directory))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "key"))
        .collect();
    if files.is_empty() {
        let path = directory.join("0001.key");
        create(&path).map_err(io(&path))?;
        files.push(path);
    }
    files.sort();
    let mut seeds = Vec::with_capacity(files.len());
    for path in &files {
        let mode = std::fs::metadata(path).map_err(io(path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed(path.display().to_string()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io(path))?);
        let seed = parse_seed(text.trim());
        seeds.push(seed.ok_or_else(|| KeyError::Malformed(path.display().to_string()))?);
    }
    Ok(KeySet::of(seeds))
}

/// Written under another name and then linked, so that two processes that start at once agree on
/// one key and neither reads half a file.
fn create(path: &Path) -> std::io::Result<()> {
    let seed = fresh_seed();
    let digits: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits = Zeroizing::new(digits + "\n");
    let draft = path.with_extension(format!("draft-{}", uuid::Uuid::new_v4().simple()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(digits.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&draft, path);
    std::fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn parse_seed(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut seed = Zeroizing::new([0u8; 32]);
    for (byte, at) in seed.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(seed)
}
