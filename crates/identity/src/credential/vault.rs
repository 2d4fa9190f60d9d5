//! Seals what is secret before it is stored: ChaCha20-Poly1305 with keys from a directory (see
//! [`crate::key_files`]), bound to the row's id so that a sealed text cannot be moved to another.
//!
//! ```text
//!  sealed := key id (4 bytes of a hash of the key) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arc_swap::ArcSwap;
use cloud_types::{Fault, Timestamp};
use database::Tx;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::key_files::{self, KeyError, KeyFile};
use crate::token::{KeySource, Rotated, check_wait};

const KEY_ID: usize = 4;

type KeyId = [u8; KEY_ID];

struct Key {
    id: KeyId,
    number: u32,
    from: Timestamp,
    secret: Zeroizing<[u8; 32]>,
}

/// The keys that seal credentials.
pub(crate) struct Vault {
    directory: Option<PathBuf>,
    keys: ArcSwap<Vec<Key>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} keys)", self.keys.load().len())
    }
}

/// Beside the keys that sign tokens.
pub(crate) fn directory_of(source: &KeySource) -> Option<PathBuf> {
    match source {
        KeySource::Directory(path) => Some(path.join("credentials")),
        KeySource::Ephemeral | KeySource::Seeded(_) => None,
    }
}

fn prepared(files: Vec<KeyFile>) -> Vec<Key> {
    let id = |secret: &[u8; 32]| {
        let digest = Sha256::new_with_prefix(b"meridian credential key\0").chain_update(secret);
        let digest = digest.finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    };
    files
        .into_iter()
        .map(|file| Key {
            id: id(&file.secret),
            number: file.number,
            from: file.from,
            secret: file.secret,
        })
        .collect()
}

impl Vault {
    /// Reads the keys, or makes the first.
    pub fn open(source: &KeySource) -> Result<Vault, KeyError> {
        let directory = directory_of(source);
        let files = match &directory {
            Some(path) => key_files::read_or_create(path)?,
            None => source.in_memory(b"credentials").into_iter().collect(),
        };
        Ok(Vault { directory, keys: ArcSwap::from_pointee(prepared(files)) })
    }

    /// Looks for keys that a rotation added or removed.
    pub fn reload(&self) -> Result<(), KeyError> {
        if let Some(path) = &self.directory {
            let keys = prepared(key_files::read_or_create(path)?);
            self.keys.store(std::sync::Arc::new(keys));
        }
        Ok(())
    }

    /// The id, in hexadecimal, of the key that seals now.
    pub fn current(&self, now: Timestamp) -> String {
        let keys = self.keys.load();
        let index = key_files::in_use(keys.iter().map(|key| key.from), now);
        keys.get(index).map(|key| shown(key.id)).unwrap_or_default()
    }

    /// The numbers of keys that are older than the one in use.
    pub fn older(&self, now: Timestamp) -> Vec<u32> {
        let keys = self.keys.load();
        let index = key_files::in_use(keys.iter().map(|key| key.from), now);
        keys.iter().take(index).map(|key| key.number).collect()
    }

    /// Seals a text for a row.
    pub fn seal(&self, tx: &Tx, row: &str, text: &str) -> Result<Sealed, Fault> {
        let keys = self.keys.load();
        let index = key_files::in_use(keys.iter().map(|key| key.from), tx.now());
        let failed = || Fault::internal("The credential could not be sealed.");
        let key = keys.get(index).ok_or_else(failed)?;
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&tx.random_u64().to_be_bytes());
        nonce[8..].copy_from_slice(&tx.random_u64().to_be_bytes()[..4]);
        let mut bytes = text.as_bytes().to_vec();
        cipher(key)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(row.as_bytes()), &mut bytes).ok()
            })
            .ok_or_else(failed)?;
        Ok(Sealed { key: shown(key.id), bytes: [&key.id[..], &nonce, &bytes].concat() })
    }

    /// What was sealed for a row.
    pub fn open_sealed(&self, row: &str, sealed: &[u8]) -> Result<Zeroizing<String>, Fault> {
        let keys = self.keys.load();
        let opened = || {
            let (id, rest) = sealed.split_at_checked(KEY_ID)?;
            let key = keys.iter().find(|key| key.id == id)?;
            let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut bytes = Zeroizing::new(text.to_vec());
            let row = Aad::from(row.as_bytes());
            let opened = cipher(key)?.open_in_place(nonce, row, &mut bytes).ok()?;
            String::from_utf8(opened.to_vec()).ok().map(Zeroizing::new)
        };
        opened().ok_or_else(|| {
            tracing::error!(
                row,
                "a credential cannot be opened: is a key missing in keys/credentials?"
            );
            Fault::internal(
                "The credential cannot be opened. The operator's log says why, under this request \
                 id.",
            )
        })
    }
}

/// What goes into the row.
#[derive(Clone)]
pub(crate) struct Sealed {
    /// The id of the key, so that what an old key sealed can be found.
    pub key: String,
    pub bytes: Vec<u8>,
}

fn cipher(key: &Key) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, &key.secret[..]).ok().map(LessSafeKey::new)
}

fn shown(id: KeyId) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a key that seals credentials after `wait`. What older keys sealed stays readable;
/// [`super::reseal`] seals it anew, and removes keys that nothing needs any more.
///
/// # Errors
/// When the wait is too short for every process to learn of the key first, or the directory
/// cannot be used.
pub fn rotate_credential_keys(
    token_keys: &Path,
    now: Timestamp,
    wait: Duration,
) -> Result<Rotated, KeyError> {
    check_wait(wait)?;
    let directory = token_keys.join("credentials");
    key_files::read_or_create(&directory)?;
    let from = now.after(wait);
    Ok(Rotated { added: key_files::add(&directory, from)?, from, removed: Vec::new() })
}
