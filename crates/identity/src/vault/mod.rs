//! Seals what is secret before it is stored, or handed out to come back: ChaCha20-Poly1305 with keys
//! from a directory (see [`crate::key_files`]), bound to a name, mostly of a row, so that what was
//! sealed cannot be moved to another.
//!
//! ```text
//!  sealed := key id (4 bytes of a hash of the key) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//! ```
//! Credentials, secrets of OAuth, passwords of directories, secrets of OpenID clients and what
//! providers gave for asking again are sealed with it. Each store says which of its columns holds
//! sealed secrets ([`Column`]), so that [`reseal`] finds all of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arc_swap::ArcSwap;
use cloud_types::{Fault, Timestamp};
use database::{DatabaseError, Row, Tx};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::key_files::{self, KeyError, KeyFile};
use crate::token::{KeySource, Rotated, check_wait};

mod reseal;
mod store;

pub(crate) use reseal::seal_plain;
pub use reseal::{Resealed, reseal};

const KEY_ID: usize = 4;

type KeyId = [u8; KEY_ID];

struct Key {
    id: KeyId,
    number: u32,
    from: Timestamp,
    secret: Zeroizing<[u8; 32]>,
}

/// The keys that seal secrets.
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

    /// The id of the key that seals now.
    pub fn current_id(&self, now: Timestamp) -> KeyId {
        let keys = self.keys.load();
        let index = key_files::in_use(keys.iter().map(|key| key.from), now);
        keys.get(index).map(|key| key.id).unwrap_or_default()
    }

    /// The numbers of keys that are older than the one in use.
    pub fn older(&self, now: Timestamp) -> Vec<u32> {
        let keys = self.keys.load();
        let index = key_files::in_use(keys.iter().map(|key| key.from), now);
        keys.iter().take(index).map(|key| key.number).collect()
    }

    /// Seals a text for a row.
    pub fn seal(&self, tx: &Tx, name: &str, text: &str) -> Result<Sealed, Fault> {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&tx.random_u64().to_be_bytes());
        nonce[8..].copy_from_slice(&tx.random_u64().to_be_bytes()[..4]);
        self.seal_with(tx.now(), nonce, name, text.as_bytes())
    }

    /// Seals outside of a transaction.
    pub fn seal_at(&self, now: Timestamp, name: &str, bytes: &[u8]) -> Result<Sealed, Fault> {
        self.seal_with(now, rand::random(), name, bytes)
    }

    fn seal_with(
        &self,
        now: Timestamp,
        nonce: [u8; NONCE_LEN],
        name: &str,
        secret: &[u8],
    ) -> Result<Sealed, Fault> {
        let keys = self.keys.load();
        let index = key_files::in_use(keys.iter().map(|key| key.from), now);
        let failed = || Fault::internal("A secret could not be sealed.");
        let key = keys.get(index).ok_or_else(failed)?;
        let mut bytes = secret.to_vec();
        cipher(key)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(name.as_bytes()), &mut bytes).ok()
            })
            .ok_or_else(failed)?;
        Ok(Sealed { key: shown(key.id), bytes: [&key.id[..], &nonce, &bytes].concat() })
    }

    /// What was sealed under a name; `None` when it was not, or not by these keys.
    pub fn open_under(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let keys = self.keys.load();
        let (id, rest) = sealed.split_at_checked(KEY_ID)?;
        let key = keys.iter().find(|key| key.id == id)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = Zeroizing::new(text.to_vec());
        let name = Aad::from(name.as_bytes());
        let length = cipher(key)?.open_in_place(nonce, name, &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    /// What was sealed for a row.
    pub fn open_sealed(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<String>, Fault> {
        let opened = self.open_under(name, sealed).and_then(|bytes| {
            std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
        });
        opened.ok_or_else(|| {
            tracing::error!(
                name,
                "a secret cannot be opened: is a key missing in keys/credentials? What the key \
                 sealed has to be set again"
            );
            Fault::internal(
                "A secret that this needs cannot be opened. The operator's log says why, under \
                 this request id.",
            )
        })
    }

    /// A secret as its row has it, opened.
    pub fn read(&self, name: &str, stored: &Stored) -> Result<Zeroizing<String>, Fault> {
        match stored {
            Stored::Sealed(bytes) => self.open_sealed(name, bytes),
            Stored::Plain(text) => Ok(text.clone()),
        }
    }
}

/// A secret as its row has it. No `Debug`.
#[derive(Clone)]
pub(crate) enum Stored {
    /// Sealed.
    Sealed(Vec<u8>),
    /// As an earlier release wrote it; [`seal_plain`] seals it.
    Plain(Zeroizing<String>),
}

impl Stored {
    /// The secret of a row with a column `sealed`, and one in which an earlier release kept it.
    pub fn of(row: &Row, plain: &str) -> Result<Stored, DatabaseError> {
        Ok(match row.opt_bytes("sealed")? {
            Some(bytes) => Stored::Sealed(bytes),
            None => Stored::Plain(Zeroizing::new(row.text(plain)?)),
        })
    }
}

/// A column of sealed secrets. The name under which each is sealed is `prefix` and the row's key.
pub(crate) struct Column {
    pub table: &'static str,
    pub prefix: &'static str,
    /// The row's key: an expression over its columns.
    pub key: &'static str,
    pub sealed: &'static str,
    /// Where the id of the key that sealed it is written, too.
    pub key_id: Option<&'static str>,
    /// Where an earlier release kept secrets as they are.
    pub plain: Option<Plain>,
}

/// See [`Column::plain`].
pub(crate) struct Plain {
    pub column: &'static str,
    /// What stands there once the secret is sealed.
    pub empty: &'static str,
    /// Which rows have a secret there: a condition.
    pub rows: &'static str,
}

/// All columns of sealed secrets.
const COLUMNS: [&Column; 7] = [
    &crate::credential::store::SEALED,
    &crate::oauth1::store::CONSUMERS,
    &crate::oauth1::store::REQUESTS,
    &crate::oauth1::store::ACCESSES,
    &crate::domain_config::store::SEALED,
    &crate::identity_provider::store::SEALED,
    &crate::federation::store::SEALED,
];

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

/// Adds a key that seals secrets after `wait`. What older keys sealed stays readable;
/// [`reseal()`] seals it anew, and removes keys that nothing needs any more.
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    #[test]
    fn what_is_sealed_opens_under_its_name_only_and_by_its_keys_only() {
        let vault = Vault::open(&KeySource::Ephemeral).unwrap();
        let sealed = vault.seal_at(NOW, "a", b"secret").unwrap().bytes;
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(&vault.open_under("a", &sealed).unwrap()[..], b"secret");
        assert_eq!(vault.open_sealed("a", &sealed).unwrap().as_str(), "secret");
        assert!(vault.open_under("b", &sealed).is_none());
        assert!(vault.open_sealed("b", &sealed).is_err());
        let other = Vault::open(&KeySource::Ephemeral).unwrap();
        assert!(other.open_under("a", &sealed).is_none());
        for cut in 0..sealed.len() {
            assert!(vault.open_under("a", &sealed[..cut]).is_none());
        }
        let mut altered = sealed;
        *altered.last_mut().unwrap() ^= 1;
        assert!(vault.open_under("a", &altered).is_none());
    }

    #[test]
    fn two_of_the_same_are_sealed_differently_and_not_as_their_text_says() {
        let vault = Vault::open(&KeySource::Ephemeral).unwrap();
        let seal = || vault.seal_at(NOW, "a", b"secret").unwrap();
        let (one, two) = (seal(), seal());
        assert_ne!(one.bytes, two.bytes);
        assert_eq!(one.key, two.key);
        assert_eq!(one.bytes[..KEY_ID], vault.current_id(NOW));
        // What is no text opens as bytes only.
        let bytes = vault.seal_at(NOW, "a", &[0xff, 0xfe]).unwrap().bytes;
        assert!(vault.open_under("a", &bytes).is_some() && vault.open_sealed("a", &bytes).is_err());
    }
}
