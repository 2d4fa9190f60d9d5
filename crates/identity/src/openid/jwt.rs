//! Signed JSON web tokens (RFC 7515, 7519) and key sets (RFC 7517). Pure.
//!
//! Only signatures with a public key are accepted, and only by a key of the kind that the algorithm
//! wants: there is no `none`, and no HMAC for which a published key could be taken as the secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token that is looked at.
const MAX_TOKEN: usize = 64 * 1024;
/// Most keys of a set that are kept.
const MAX_KEYS: usize = 100;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    /// Not three parts of base64url with JSON in them.
    #[error("it is not a signed JSON web token")]
    Malformed,
    /// `none`, HMAC, or something unknown.
    #[error("its algorithm {0:?} is not accepted")]
    Algorithm(String),
    /// It asks for an extension that is not understood (RFC 7515, 4.1.11).
    #[error("it has critical header fields")]
    Critical,
    /// No key fits; a newer set may have one.
    #[error("no published key of the provider fits it")]
    UnknownKey,
    /// A key fits, the signature does not.
    #[error("its signature is wrong")]
    Signature,
}

/// An algorithm that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("EdDSA", Algorithm::EdDsa),
];

impl Algorithm {
    fn named(name: &str) -> Option<Algorithm> {
        ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }
}

/// A public key of a provider.
#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// The only algorithm that it is meant for, where the set says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// The published keys of a provider.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct KeyDocument {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that cannot be used here (encryption, unknown kinds, secrets) are left
    /// out, as the standard asks.
    pub fn parse(document: &Value) -> KeySet {
        let listed = document["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let keys = listed
            .iter()
            .filter_map(|key| serde_json::from_value::<KeyDocument>(key.clone()).ok())
            .filter(|key| key.purpose.as_deref().is_none_or(|purpose| purpose == "sig"))
            .filter_map(|key| {
                let material = material(&key)?;
                Some(Key { id: key.kid, algorithm: key.alg, material })
            })
            .take(MAX_KEYS)
            .collect();
        KeySet { keys }
    }
}

fn material(key: &KeyDocument) -> Option<Material> {
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let point = |size: usize| {
        let (x, y) = (bytes(&key.x)?, bytes(&key.y)?);
        (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
    };
    match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => Some(Material::Rsa { modulus: bytes(&key.n)?, exponent: bytes(&key.e)? }),
        ("EC", Some("P-256")) => point(32).map(Material::P256),
        ("EC", Some("P-384")) => point(48).map(Material::P384),
        ("OKP", Some("Ed25519")) => bytes(&key.x).map(Material::Ed25519),
        _ => None,
    }
}

impl Material {
    /// `None` when the key is of another kind than the algorithm.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Option<bool> {
        let rsa = |parameters: &'static signature::RsaParameters| {
            let Material::Rsa { modulus, exponent } = self else { return None };
            let n = strip_zeros(modulus);
            let e = strip_zeros(exponent);
            let key = RsaPublicKeyComponents { n, e };
            Some(key.verify(parameters, message, signature).is_ok())
        };
        let plain = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            Some(UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok())
        };
        match (algorithm, self) {
            (Algorithm::Rs256, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::Rs384, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::Rs512, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            (Algorithm::Ps256, _) => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            (Algorithm::Ps384, _) => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            (Algorithm::Ps512, _) => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            (Algorithm::Es256, Material::P256(key)) => {
                plain(&signature::ECDSA_P256_SHA256_FIXED, key)
            }
            (Algorithm::Es384, Material::P384(key)) => {
                plain(&signature::ECDSA_P384_SHA384_FIXED, key)
            }
            (Algorithm::EdDsa, Material::Ed25519(key)) => plain(&signature::ED25519, key),
            _ => None,
        }
    }
}

/// `ring` wants numbers without leading zeros, which some providers send.
fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[first..]
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

/// A token whose signature was checked.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    /// The header's `typ` in lower case, without `application/`.
    pub kind: Option<String>,
    /// The claims; nothing about them has been checked.
    pub claims: Map<String, Value>,
}

/// Whether a text has the form of a signed token at all; an opaque one has not.
pub(crate) fn looks_signed(text: &str) -> bool {
    let mut parts = text.split('.');
    let header = parts.next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    parts.count() == 2 && header.is_some_and(|json| serde_json::from_slice::<Header>(&json).is_ok())
}

/// Checks the signature of a token by the keys of its provider.
///
/// # Errors
/// What [`JwtError`] says.
pub(crate) fn verify(text: &str, keys: &KeySet) -> Result<Signed, JwtError> {
    if text.len() > MAX_TOKEN {
        return Err(JwtError::Malformed);
    }
    let (message, signature) = text.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(JwtError::Malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Malformed);
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Malformed)?;
    let payload = decode(payload)?;
    let signature = decode(signature)?;
    let algorithm = Algorithm::named(&header.alg)
        .ok_or_else(|| JwtError::Algorithm(header.alg.chars().take(16).collect()))?;
    if header.crit.is_some() {
        return Err(JwtError::Critical);
    }
    let mut fitting = false;
    for key in &keys.keys {
        let named = match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            // A set with one nameless key, or a token that names none: the kind decides.
            _ => true,
        };
        let meant = key.algorithm.as_deref().is_none_or(|only| only == header.alg);
        if !named || !meant {
            continue;
        }
        match key.material.verify(algorithm, message.as_bytes(), &signature) {
            None => {}
            Some(false) => fitting = true,
            Some(true) => {
                let claims = serde_json::from_slice(&payload).map_err(|_| JwtError::Malformed)?;
                let kind = header.typ.map(|kind| {
                    kind.to_ascii_lowercase().trim_start_matches("application/").to_owned()
                });
                return Ok(Signed { kind, claims });
            }
        }
    }
    Err(if fitting { JwtError::Signature } else { JwtError::UnknownKey })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    /// Signs tokens in tests as a provider would.
    pub(crate) struct Signer {
        pair: EcdsaKeyPair,
        pub id: String,
    }

    impl Signer {
        pub fn new(id: &str) -> Signer {
            let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
            Signer { pair, id: id.to_owned() }
        }

        pub fn public(&self) -> Value {
            let point = self.pair.public_key().as_ref();
            json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig",
                   "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
                   "y": URL_SAFE_NO_PAD.encode(&point[33..65])})
        }

        pub fn sign(&self, claims: &Value) -> String {
            self.sign_with(&json!({"alg": "ES256", "kid": self.id}), claims)
        }

        pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
            let message = message(header, claims);
            let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn message(header: &Value, claims: &Value) -> String {
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(&json!({"keys": keys}))
    }

    #[test]
    fn a_token_of_the_provider_is_accepted_and_read() {
        let signer = Signer::new("a");
        let other = Signer::new("b");
        let text = signer.sign(&json!({"sub": "ada"}));
        let keys = set(&[other.public(), signer.public()]);
        assert_eq!(verify(&text, &keys).unwrap().claims["sub"], "ada");
        assert!(looks_signed(&text) && !looks_signed("opaque") && !looks_signed("a.b.c"));
    }

    #[test]
    fn a_token_of_somebody_else_is_refused() {
        let (signer, other) = (Signer::new("a"), Signer::new("b"));
        let text = signer.sign(&json!({"sub": "ada"}));
        assert_eq!(verify(&text, &set(&[other.public()])).unwrap_err(), JwtError::UnknownKey);
        // The right name over another key.
        let mut forged = other.public();
        forged["kid"] = json!("a");
        assert_eq!(verify(&text, &set(&[forged])).unwrap_err(), JwtError::Signature);
        let altered = signer.sign(&json!({"sub": "bob"}));
        let (head, signature) = text.rsplit_once('.').unwrap();
        assert!(!head.is_empty());
        let mixed = format!("{}.{signature}", altered.rsplit_once('.').unwrap().0);
        assert_eq!(verify(&mixed, &set(&[signer.public()])).unwrap_err(), JwtError::Signature);
    }

    #[test]
    fn there_is_no_token_without_a_signature_and_none_signed_with_a_published_key_as_secret() {
        let signer = Signer::new("a");
        let keys = set(&[signer.public()]);
        let claims = json!({"sub": "ada"});
        for alg in ["none", "None", "HS256", "HS512", "ES512", ""] {
            let header = json!({"alg": alg, "kid": "a"});
            // Signed by HMAC with the published key as the secret, and by nothing at all.
            let message = message(&header, &claims);
            let secret = signer.public().to_string();
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
            let tag = ring::hmac::sign(&key, message.as_bytes());
            for signature in [String::new(), URL_SAFE_NO_PAD.encode(tag.as_ref())] {
                let found = verify(&format!("{message}.{signature}"), &keys).unwrap_err();
                assert_eq!(found, JwtError::Algorithm(alg.to_owned()));
            }
        }
        // A secret in the set is no key, either.
        let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a"});
        assert_eq!(
            verify(&signer.sign(&claims), &set(&[secret])).unwrap_err(),
            JwtError::UnknownKey
        );
    }

    #[test]
    fn a_key_serves_only_the_kind_of_algorithm_that_it_is_made_for() {
        let signer = Signer::new("a");
        let mut only_rsa = signer.public();
        only_rsa["alg"] = json!("RS256");
        let mut encrypts = signer.public();
        encrypts["use"] = json!("enc");
        let text = signer.sign(&json!({}));
        for key in [only_rsa, encrypts] {
            assert_eq!(verify(&text, &set(&[key])).unwrap_err(), JwtError::UnknownKey);
        }
        let text = signer.sign_with(&json!({"alg": "RS256", "kid": "a"}), &json!({}));
        assert_eq!(verify(&text, &set(&[signer.public()])).unwrap_err(), JwtError::UnknownKey);
        let text = signer.sign_with(&json!({"alg": "ES256", "crit": ["b64"]}), &json!({}));
        assert_eq!(verify(&text, &set(&[signer.public()])).unwrap_err(), JwtError::Critical);
    }

    #[test]
    fn ed25519_keys_are_accepted_too() {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let key = json!({"kty": "OKP", "crv": "Ed25519",
                         "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref())});
        let message = message(&json!({"alg": "EdDSA"}), &json!({"sub": "ada"}));
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes()).as_ref());
        assert!(verify(&format!("{message}.{signature}"), &set(&[key])).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[A-Za-z0-9_.-]{0,200}", keys in "[ -~]{0,100}") {
            let keys = KeySet::parse(&json!({"keys": [keys, {"kty": "RSA", "n": "AA", "e": "AA"}]}));
            prop_assert!(verify(&text, &keys).is_err());
        }

        #[test]
        fn a_token_with_any_byte_changed_is_refused(at in 0usize..200, bit in 0u8..6) {
            let signer = Signer::new("a");
            let text = signer.sign(&json!({"sub": "ada"}));
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = String::from_utf8(bytes)
                && URL_SAFE_NO_PAD.decode(changed.rsplit('.').next().unwrap_or("")).ok()
                    != URL_SAFE_NO_PAD.decode(text.rsplit('.').next().unwrap_or("")).ok()
            {
                prop_assert!(verify(&changed, &set(&[signer.public()])).is_err());
            }
        }
    }
}
