//! Signing keys: Ed25519 seeds in a directory (see [`crate::key_files`]). The newest key whose time
//! has come signs; all are accepted, so a rotation invalidates nothing. Replicas have the same
//! directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloud_types::Timestamp;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::key_files::{self, KeyError, KeyFile};

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In this directory, and those that seal credentials in its `credentials`; each is made with a
    /// first key when it has none.
    Directory(PathBuf),
    /// In memory only: tokens and credentials die with the process. For tests.
    Ephemeral,
    /// In memory only, and the same for every process that names the same number. For simulations,
    /// whose processes have no files.
    Seeded(u64),
}

impl KeySource {
    /// The only key of a source without files; `purpose` keeps keys for different things apart.
    pub(crate) fn in_memory(&self, purpose: &[u8]) -> Option<KeyFile> {
        let secret = match self {
            KeySource::Directory(_) => return None,
            KeySource::Ephemeral => Zeroizing::new(rand::random()),
            KeySource::Seeded(number) => {
                let digest = Sha256::new_with_prefix(purpose).chain_update(number.to_be_bytes());
                Zeroizing::new(digest.finalize().into())
            }
        };
        Some(KeyFile { number: 1, secret, from: Timestamp(0) })
    }
}

/// How long a key that was added waits before it signs, at least: processes look for new keys
/// every 20 seconds.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_secs(60);
/// A key is kept for so long after a newer one has begun to sign: longer than any token lives, and
/// than services may ask about one that has expired.
const KEPT: Duration = Duration::from_secs(49 * 3600);

type KeyId = [u8; 4];

struct Key {
    id: KeyId,
    number: u32,
    from: Timestamp,
    signing: SigningKey,
    verifying: VerifyingKey,
}

/// The keys of this process: one signs, all verify.
pub struct KeySet {
    /// In ascending order of number; at least one.
    keys: Vec<Key>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &KeySet) -> bool {
        let all = |set: &KeySet| -> Vec<(KeyId, u32, Timestamp)> {
            set.keys.iter().map(|key| (key.id, key.number, key.from)).collect()
        };
        all(self) == all(other)
    }
}

impl KeySet {
    /// Reads the keys, or makes the first.
    ///
    /// # Errors
    /// What [`KeyError`] says.
    pub fn load(source: &KeySource) -> Result<KeySet, KeyError> {
        let files = match source {
            KeySource::Directory(path) => key_files::read_or_create(path)?,
            KeySource::Ephemeral | KeySource::Seeded(_) => {
                source.in_memory(b"tokens").into_iter().collect()
            }
        };
        let keys = files.into_iter().map(|file| {
            let signing = SigningKey::from_bytes(&file.secret);
            let verifying = signing.verifying_key();
            let id = key_id(&verifying);
            Key { id, number: file.number, from: file.from, signing, verifying }
        });
        Ok(KeySet { keys: keys.collect() })
    }

    fn signing(&self, now: Timestamp) -> &Key {
        &self.keys[key_files::in_use(self.keys.iter().map(|key| key.from), now)]
    }

    /// The id of the key that signs at a moment.
    pub(super) fn signing_id(&self, now: Timestamp) -> KeyId {
        self.signing(now).id
    }

    pub(super) fn sign(&self, now: Timestamp, message: &[u8]) -> [u8; 64] {
        self.signing(now).signing.sign(message).to_bytes()
    }

    /// `None` when no key has this id.
    pub(super) fn verify(&self, key: KeyId, message: &[u8], signature: &[u8; 64]) -> Option<bool> {
        let key = self.keys.iter().find(|known| known.id == key)?;
        Some(key.verifying.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

fn key_id(key: &VerifyingKey) -> KeyId {
    let digest = Sha256::digest(key.as_bytes());
    [digest[0], digest[1], digest[2], digest[3]]
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The number of the new key.
    pub added: u32,
    /// When it begins to be used.
    pub from: Timestamp,
    /// Older keys that were removed: nothing that they made can matter any more.
    pub removed: Vec<u32>,
}

/// Adds a signing key that signs after `wait`, and removes those whose every token has expired.
///
/// # Errors
/// When the wait is too short for every process to learn of the key first, or the directory
/// cannot be used.
pub fn rotate_token_keys(
    directory: &Path,
    now: Timestamp,
    wait: Duration,
) -> Result<Rotated, KeyError> {
    check_wait(wait)?;
    let keys = key_files::read_or_create(directory)?;
    let from = now.after(wait);
    let added = key_files::add(directory, from)?;
    let mut removed = Vec::new();
    for pair in keys.windows(2) {
        if pair[1].from.after(KEPT) < now && pair[1].from != Timestamp(0) {
            key_files::remove(directory, pair[0].number)?;
            removed.push(pair[0].number);
        }
    }
    Ok(Rotated { added, from, removed })
}

pub(crate) fn check_wait(wait: Duration) -> Result<(), KeyError> {
    if wait < SHORTEST_WAIT {
        return Err(KeyError::Refused(format!(
            "a new key has to wait {} s or more before it is used: a process that does not know it \
             yet would refuse what it made",
            SHORTEST_WAIT.as_secs()
        )));
    }
    Ok(())
}
