//! Codes of authenticator apps: RFC 6238 with SHA-1, six digits and steps of 30 seconds, as every
//! such app has them by default. Pure.

use cloud_types::Timestamp;
use ring::hmac;
use subtle::ConstantTimeEq as _;

/// Seconds of one step.
const STEP: i64 = 30;
/// Digits of a code.
const DIGITS: usize = 6;

/// The step of a moment.
pub(crate) fn step_of(now: Timestamp) -> i64 {
    now.0.div_euclid(STEP * 1_000_000)
}

/// The code of a step.
pub(crate) fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let at = usize::from(bytes[19] & 0x0f);
    let number =
        u32::from_be_bytes([bytes[at] & 0x7f, bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    format!("{:0width$}", number % 1_000_000, width = DIGITS)
}

/// The step, now or up to `previous` before it, whose code this is; `None`: it is of none, or the
/// secret is not base32.
pub(crate) fn step_of_code(secret: &str, given: &str, now: Timestamp, previous: u8) -> Option<i64> {
    let secret = base32(secret)?;
    let current = step_of(now);
    // All of them are compared, so that the time does not tell which it was.
    let mut found = None;
    for step in (0..=i64::from(previous)).map(|back| current - back) {
        let same: bool = code(&secret, step).as_bytes().ct_eq(given.as_bytes()).into();
        if same && found.is_none() {
            found = Some(step);
        }
    }
    found
}

/// Base32 of RFC 4648, with or without its padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.is_empty() {
        return None;
    }
    let (mut buffer, mut bits) = (0u32, 0u32);
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        buffer = (buffer << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    /// Appendix B of RFC 6238; its codes have eight digits, of which ours are the last six.
    #[test]
    fn the_codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(secret, step_of(at(seconds))), expected, "{seconds}");
        }
    }

    #[test]
    fn a_code_is_known_in_its_step_and_in_as_many_after_it_as_are_allowed() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let step = step_of(at(59));
        let find = |seconds, previous| step_of_code(secret, "287082", at(seconds), previous);
        assert_eq!(find(59, 0), Some(step));
        assert_eq!(find(60, 0), None);
        assert_eq!(find(60, 1), Some(step));
        assert_eq!(find(89, 1), Some(step));
        assert_eq!(find(90, 1), None);
        assert_eq!(find(29, 1), None, "codes of the future are not known");
        assert_eq!(step_of_code("not base32", "287082", at(59), 1), None);
        assert_eq!(step_of_code("", "287082", at(59), 1), None);
        assert_eq!(step_of_code(&format!("{secret}===="), "287082", at(59), 0), Some(step));
    }

    #[test]
    fn base32_is_that_of_its_standard() {
        assert_eq!(base32("MZXW6YTBOI======").unwrap(), b"foobar");
        assert_eq!(base32("MZXW6YQ").unwrap(), b"foob");
        assert_eq!(base32("mzxw"), None);
    }
}
