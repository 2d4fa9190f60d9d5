//! The forms that a password's hash can have. New ones are argon2id; the others are those that a
//! Keystone writes, so that people who were imported from one keep their passwords.
//!
//! | begins with | scheme | cost is in |
//! |---|---|---|
//! | `$argon2id$` | argon2id, a PHC string | `m` KiB, `t` passes, `p` lanes |
//! | `$2b$`, `$2a$`, `$2y$`, `$2x$` | bcrypt | the exponent after it; only 72 bytes of a password count |
//! | `$bcrypt-sha256$` | bcrypt over HMAC-SHA-256 | `r` |
//! | `$scrypt$` | scrypt | `ln`, `r`, `p` |
//! | `$pbkdf2-sha512$` | PBKDF2 with HMAC-SHA-512 | rounds |
//!
//! Pure and slow on purpose: it runs on the pool's threads only.

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{KeyInit as _, Mac as _};
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::HashParams;

/// What bcrypt reads of a password; it ignores the rest, and so does who imports its hashes.
const BCRYPT_BYTES: usize = 72;
/// Costs beyond these are refused rather than computed: a hash that was imported must not be able
/// to hold a thread for minutes or take gigabytes.
const MAX_BCRYPT_COST: u32 = 16;
const MAX_SCRYPT_MEMORY: u64 = 256 * 1024 * 1024;
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

/// A hash that was read.
enum Scheme<'h> {
    Argon2(&'h str),
    Bcrypt(&'h str),
    /// Cost, salt as bcrypt writes it, and the whole as bcrypt would write it.
    BcryptSha256 {
        salt: &'h str,
        plain: String,
    },
    Scrypt {
        params: scrypt::Params,
        salt: Vec<u8>,
        digest: Vec<u8>,
    },
    Pbkdf2 {
        rounds: u32,
        salt: Vec<u8>,
        digest: Vec<u8>,
    },
}

/// Whether a text is a hash that [`verify`] understands.
pub(crate) fn is_known(hash: &str) -> bool {
    read(hash).is_some()
}

/// Whether the password is the one of the hash. A hash that is not understood matches nothing.
pub(super) fn verify(password: &str, hash: &str) -> bool {
    let bytes = password.as_bytes();
    match read(hash) {
        None => false,
        Some(Scheme::Argon2(text)) => Argon2::default().verify_password(bytes, text).is_ok(),
        Some(Scheme::Bcrypt(text)) => {
            bcrypt::verify(&bytes[..bytes.len().min(BCRYPT_BYTES)], text).unwrap_or(false)
        }
        Some(Scheme::BcryptSha256 { salt, plain }) => {
            let Ok(mut mac) = hmac::Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else {
                return false;
            };
            mac.update(bytes);
            let short =
                base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
            bcrypt::verify(short.as_bytes(), &plain).unwrap_or(false)
        }
        Some(Scheme::Scrypt { params, salt, digest }) => {
            let mut out = vec![0; digest.len()];
            scrypt::scrypt(bytes, &salt, &params, &mut out).is_ok()
                && bool::from(out.ct_eq(&digest))
        }
        Some(Scheme::Pbkdf2 { rounds, salt, digest }) => {
            let mut out = vec![0; digest.len()];
            pbkdf2::pbkdf2_hmac::<Sha512>(bytes, &salt, rounds, &mut out);
            bool::from(out.ct_eq(&digest))
        }
    }
}

/// Whether a hash is what [`hash`] would write now; one that is not is replaced at the next login.
pub(super) fn is_current(params: HashParams, hash: &str) -> bool {
    hash.starts_with(&prefix(params))
}

fn prefix(params: HashParams) -> String {
    let HashParams { memory_kib, passes, lanes } = params;
    format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}$")
}

/// The hash of a new password.
pub(super) fn hash(params: HashParams, password: &str) -> Result<String, String> {
    let costs = Params::new(params.memory_kib, params.passes, params.lanes, None)
        .map_err(|error| error.to_string())?;
    let salt: [u8; 16] = rand::random();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, costs)
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// A hash that costs as much to verify as any that is written now, and that no password has (but
/// with probability 2^-256).
pub(super) fn of_nobody(params: HashParams) -> String {
    let salt = STANDARD_NO_PAD.encode([0x6d; 16]);
    let digest = STANDARD_NO_PAD.encode([0; 32]);
    format!("{}{salt}${digest}", prefix(params))
}

fn read(hash: &str) -> Option<Scheme<'_>> {
    if hash.starts_with("$argon2id$") {
        argon2::password_hash::phc::PasswordHash::new(hash).ok()?;
        return Some(Scheme::Argon2(hash));
    }
    if let Some(rest) = hash.strip_prefix("$bcrypt-sha256$") {
        return bcrypt_sha256(rest);
    }
    if let Some(rest) = hash.strip_prefix("$scrypt$") {
        return scrypt_of(rest);
    }
    if let Some(rest) = hash.strip_prefix("$pbkdf2-sha512$") {
        let mut parts = rest.split('$');
        let rounds: u32 = parts.next()?.parse().ok()?;
        let (salt, digest) = (unpadded(parts.next()?)?, unpadded(parts.next()?)?);
        let fits = (1..=MAX_PBKDF2_ROUNDS).contains(&rounds) && digest.len() == 64;
        return (fits && parts.next().is_none()).then_some(Scheme::Pbkdf2 { rounds, salt, digest });
    }
    bcrypt_cost(hash).map(|_| Scheme::Bcrypt(hash))
}

/// `$2b$12$` and 53 letters of salt and digest.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    let rest = ["$2b$", "$2a$", "$2y$", "$2x$"].iter().find_map(|p| hash.strip_prefix(p))?;
    let (cost, text) = rest.split_once('$')?;
    let cost: u32 = cost.parse().ok()?;
    let letters =
        text.len() == 53 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    (letters && (4..=MAX_BCRYPT_COST).contains(&cost)).then_some(cost)
}

/// `v=2,t=2b,r=12$salt$digest`.
fn bcrypt_sha256(rest: &str) -> Option<Scheme<'_>> {
    let mut parts = rest.split('$');
    let (costs, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
    let (mut ident, mut cost, mut version) = (None, None, None);
    for pair in costs.split(',') {
        match pair.split_once('=')? {
            ("v", value) => version = Some(value),
            ("t", value) => ident = Some(value),
            ("r", value) => cost = value.parse::<u32>().ok(),
            _ => return None,
        }
    }
    let plain = format!("${}${:02}${salt}{digest}", ident?, cost?);
    let fits = version == Some("2") && salt.len() == 22 && parts.next().is_none();
    (fits && bcrypt_cost(&plain).is_some()).then_some(Scheme::BcryptSha256 { salt, plain })
}

/// `ln=16,r=8,p=1$salt$digest`.
fn scrypt_of(rest: &str) -> Option<Scheme<'_>> {
    let mut parts = rest.split('$');
    let costs = parts.next()?;
    let (salt, digest) = (unpadded(parts.next()?)?, unpadded(parts.next()?)?);
    let (mut ln, mut r, mut p) = (None, None, None);
    for pair in costs.split(',') {
        match pair.split_once('=')? {
            ("ln", value) => ln = value.parse::<u8>().ok(),
            ("r", value) => r = value.parse::<u32>().ok(),
            ("p", value) => p = value.parse::<u32>().ok(),
            _ => return None,
        }
    }
    let (ln, r, p) = (ln?, r?, p?);
    let memory = 128u64.checked_mul(u64::from(r))?.checked_mul(1u64.checked_shl(u32::from(ln))?)?;
    let fits = memory <= MAX_SCRYPT_MEMORY
        && (1..=64).contains(&p)
        && (16..=64).contains(&digest.len())
        && parts.next().is_none();
    let params = scrypt::Params::new(ln, r, p).ok()?;
    fits.then_some(Scheme::Scrypt { params, salt, digest })
}

/// Base64 without padding; the Python library that Keystone used writes `.` for `+`.
fn unpadded(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.replace('.', "+")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each made by another implementation than ours, of the password `tr0ub4dor&3`.
    const FOREIGN: [&str; 4] = [
        "$2b$04$eh1XhXol63y8bDVpllPTfO.mebiz1cP.yTUMm.n1GLwawfHOeYMZi",
        "$bcrypt-sha256$v=2,t=2b,r=4$ij9iyOfevw8Dov7F4PO7uu$eo5cqqkMlu/HIY/0mDF7ZvZppB9l9Va",
        "$scrypt$ln=4,r=8,p=1$MobQ+n9PCeF8r5XSGuM8hw$Wx0vuB7gNKkSGOHk09qLbKY13KazyQhJHSrbIRNxNcE",
        "$pbkdf2-sha512$1000$6V3rvXeOUUrJWWvt/d8bow$iiPefv/Fef6ldaVZ.qc7sOtCg2wXH98rRMBiJlc2hjVNoV87t8RVEJcZQLIxCXgP9yd0bw1my2j7MH3oRfXlhw",
    ];

    #[test]
    fn hashes_of_a_keystone_verify() {
        for hash in FOREIGN {
            assert!(is_known(hash), "{hash}");
            assert!(verify("tr0ub4dor&3", hash), "{hash}");
            assert!(!verify("tr0ub4dor&4", hash), "{hash}");
            assert!(!is_current(HashParams::CHEAP, hash));
        }
    }

    #[test]
    fn only_72_bytes_count_for_bcrypt() {
        let long = "x".repeat(80);
        let hash = bcrypt::hash(&long.as_bytes()[..72], 4).unwrap();
        assert!(verify(&long, &hash));
        assert!(verify(&"x".repeat(72), &hash));
        assert!(!verify(&"x".repeat(71), &hash));
    }

    #[test]
    fn what_would_cost_too_much_or_is_broken_matches_nothing() {
        for hash in [
            "",
            "plain",
            "$2b$31$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu",
            "$2b$12$short",
            "$scrypt$ln=30,r=8,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$scrypt$ln=16,r=8,p=1$c2FsdHNhbHQ$",
            "$pbkdf2-sha512$99999999999$c2FsdA$AAAA",
            "$pbkdf2-sha512$1000$c2FsdA$AAAA",
            "$6$rounds=1000$salt$digest",
            "$argon2id$v=19$m=8$x",
        ] {
            assert!(!is_known(hash), "{hash}");
            assert!(!verify("", hash), "{hash}");
        }
    }

    #[test]
    fn nobody_has_the_hash_of_nobody() {
        let hash = of_nobody(HashParams::CHEAP);
        assert!(is_known(&hash) && is_current(HashParams::CHEAP, &hash));
        assert!(!verify("", &hash));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(\\$(2b|scrypt|argon2id|bcrypt-sha256|pbkdf2-sha512)\\$)?[\\x20-\\x7e]{0,60}") {
            if let Some(scheme) = read(&text) {
                // Whatever is read is one of the forms of the table.
                prop_assert!(text.starts_with('$'));
                drop(scheme);
            }
        }
    }
}
