//! Stored answers are sealed, because some of them are secrets: a new private key, a password that
//! is shown once, a token in a header. They lie in the database for as long as their key lives, and
//! in its backups for longer.
//!
//! The key of the seal is a hash of what only the caller sends: its `Idempotency-Key` and the whole
//! request. Of these the database holds other hashes alone (the scope to find the row by, and one to
//! know the same request by), so whoever reads the database, or a copy of it, cannot open an answer;
//! a repeat of the request brings its key with it, on any process, also after the caller got a new
//! token. A secret of the server's own would have to be kept where no copy of the database is, and
//! would open everybody's answers at once. The price: the seal is as strong as the caller's key is
//! hard to guess. Ours are random, as the header's draft standard asks.

use std::fmt;

use database::Tx;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::Stored;

const NONCE: usize = 12;

/// Opens and seals the answers to one request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seal([u8; 32]);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(super) fn new(key: [u8; 32]) -> Seal {
        Seal(key)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.0).ok().map(LessSafeKey::new)
    }

    /// The answer as it is stored: nonce, then what is sealed. Bound to its row.
    pub(super) fn close(&self, tx: &mut Tx, scope: &str, answer: &Stored) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        nonce[..8].copy_from_slice(&tx.random_u64().to_be_bytes());
        nonce[8..].copy_from_slice(&tx.random_u64().to_be_bytes()[..4]);
        let mut text = serde_json::to_vec(&(answer.status, &answer.headers, &answer.body)).ok()?;
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(scope.as_bytes()),
                &mut text,
            )
            .ok()?;
        Some([&nonce[..], &text].concat())
    }

    /// The answer; `None` when it was not sealed by a request like this one.
    pub(super) fn open(&self, scope: &str, sealed: &[u8]) -> Option<Stored> {
        let (nonce, text) = sealed.split_at_checked(NONCE)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let text =
            self.cipher()?.open_in_place(nonce, Aad::from(scope.as_bytes()), &mut text).ok()?;
        let (status, headers, body) = serde_json::from_slice(text).ok()?;
        Some(Stored { status, headers, body })
    }
}
