//! Receipts of authentication: what a user with rules about more than one factor gets for the
//! factors that were right, when others are still wanted. It is sent with the next one, so that
//! nobody has to type a password and a code in the same half minute.
//!
//! ```text
//!  text  := base64url(payload ‖ signature), no padding
//!  signature: Ed25519 over "meridian receipt 1\0" ‖ payload: no receipt is a token
//!
//!  payload: key id (4) · methods (2) · issued at (8) · expires at (8) · user: id, serial
//! ```
//! The user's serial makes it void with everything that makes tokens void. It is looked up in the
//! database: a receipt leads to one, anyway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{Timestamp, UserId};

use super::bytes::{Input, put_stamp};
use super::format::{Methods, Stamp};
use super::keys::KeySet;

const CONTEXT: &[u8] = b"meridian receipt 1\0";
const SIGNATURE_BYTES: usize = 64;
const MAX_TEXT: usize = 512;

/// What was proven so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub user: Stamp<UserId>,
    pub methods: Methods,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Receipt {
    /// The text. `None` when the user's id is none that can be written.
    pub fn sign(&self, keys: &KeySet) -> Option<String> {
        let mut out = Vec::with_capacity(160);
        out.extend(keys.signing_id(self.issued_at));
        out.extend(self.methods.0.to_be_bytes());
        out.extend(self.issued_at.0.to_be_bytes());
        out.extend(self.expires_at.0.to_be_bytes());
        put_stamp(&mut out, &self.user)?;
        let signature = keys.sign(self.issued_at, &message(&out));
        out.extend(signature);
        Some(URL_SAFE_NO_PAD.encode(out))
    }

    /// Reads a receipt that one of our keys signed; neither its age nor its user are looked at.
    pub fn read(text: &str, keys: &KeySet) -> Option<Receipt> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (payload, signature) = bytes.split_at(bytes.len().checked_sub(SIGNATURE_BYTES)?);
        let mut input = Input::new(payload);
        let key: [u8; 4] = input.array()?;
        if keys.verify(key, &message(payload), &signature.try_into().ok()?) != Some(true) {
            return None;
        }
        let methods = Methods(u16::from_be_bytes(input.array()?));
        let issued_at = Timestamp(i64::from_be_bytes(input.array()?));
        let expires_at = Timestamp(i64::from_be_bytes(input.array()?));
        let user = input.stamp()?;
        input.is_empty().then_some(Receipt { user, methods, issued_at, expires_at })
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    [CONTEXT, payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::KeySource;

    #[test]
    fn a_receipt_is_read_back_and_nothing_else_is_one() {
        let keys = KeySet::load(&KeySource::Ephemeral).unwrap();
        let receipt = Receipt {
            user: Stamp::new("a".repeat(64).parse().unwrap(), 7),
            methods: Methods::PASSWORD,
            issued_at: Timestamp(1),
            expires_at: Timestamp(2),
        };
        let text = receipt.sign(&keys).unwrap();
        assert_eq!(Receipt::read(&text, &keys), Some(receipt));
        assert!(crate::token::Claims::read(&text, &keys).is_err(), "no token");
        let other = KeySet::load(&KeySource::Ephemeral).unwrap();
        assert_eq!(Receipt::read(&text, &other), None);
        for (at, _) in text.char_indices() {
            let mut broken = text.clone().into_bytes();
            broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Receipt::read(&String::from_utf8(broken).unwrap(), &keys), None);
        }
        for bad in ["", "x", &"A".repeat(600)] {
            assert_eq!(Receipt::read(bad, &keys), None);
        }
    }
}
