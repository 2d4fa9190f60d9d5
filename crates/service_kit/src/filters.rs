//! Query strings as the services read them: keys may repeat (`?status=a&status=b`), order counts
//! for sorting, and a value may be empty.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use cloud_types::Fault;
use http::request::Parts;

use crate::fault::ApiFault;

/// More pairs than this are refused: no client needs them, and filters cost SQL.
const MAX_PAIRS: usize = 512;

/// The query's pairs, decoded, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(pub Vec<(String, String)>);

impl Filters {
    /// Decodes a query string (without its question mark).
    ///
    /// # Errors
    /// 400 for a broken percent escape, invalid UTF-8 or too many pairs.
    pub fn parse(query: &str) -> Result<Filters, Fault> {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(key)?, decode(value)?));
            if pairs.len() > MAX_PAIRS {
                return Err(Fault::bad_request(format!(
                    "The query string has more than {MAX_PAIRS} parameters."
                )));
            }
        }
        Ok(Filters(pairs))
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn all<'f>(&'f self, key: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether the key was written, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// The first value of a key, parsed.
    ///
    /// # Errors
    /// 400 naming the key and the value.
    pub fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>, Fault> {
        self.get(key)
            .map(|value| {
                value.parse().map_err(|_| {
                    let shown: String = value.chars().take(64).collect();
                    Fault::bad_request(format!(
                        "Invalid value {shown:?} for query parameter {key}."
                    ))
                })
            })
            .transpose()
    }

    /// A flag as Python services read it: `1`, `true`, `t`, `yes`, `on`, or no value at all.
    ///
    /// # Errors
    /// 400 for any other text.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Fault> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.to_ascii_lowercase().as_str() {
            "" | "1" | "true" | "t" | "yes" | "y" | "on" => Ok(Some(true)),
            "0" | "false" | "f" | "no" | "n" | "off" => Ok(Some(false)),
            _ => Err(Fault::bad_request(format!(
                "Invalid value for query parameter {key}: it must be true or false."
            ))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Filters {
    type Rejection = ApiFault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiFault> {
        Ok(Filters::parse(parts.uri.query().unwrap_or(""))?)
    }
}

fn decode(text: &str) -> Result<String, Fault> {
    let wrong = || Fault::bad_request("The query string is not valid percent-encoded UTF-8.");
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => decoded.push(b' '),
            b'%' => {
                let pair = text.get(at + 1..at + 3).ok_or_else(wrong)?;
                if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(wrong());
                }
                decoded.push(u8::from_str_radix(pair, 16).map_err(|_| wrong())?);
                at += 2;
            }
            b => decoded.push(b),
        }
        at += 1;
    }
    if decoded.contains(&0) {
        return Err(wrong());
    }
    String::from_utf8(decoded).map_err(|_| wrong())
}

/// Encodes a text for use as a key or value of a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_repeat_and_values_decode() {
        let filters = Filters::parse("status=A&status=B+c&name=%C3%A9&flag&empty=&x=a=b").unwrap();
        assert_eq!(filters.all("status").collect::<Vec<_>>(), ["A", "B c"]);
        assert_eq!(filters.get("name"), Some("é"));
        assert_eq!(filters.flag("flag"), Ok(Some(true)));
        assert_eq!(filters.get("x"), Some("a=b"));
        assert!(filters.has("empty") && !filters.has("nothing"));
    }

    #[test]
    fn broken_text_is_refused() {
        for bad in ["a=%", "a=%2", "a=%zz", "a=%ff", "a=%+1", "a=%00"] {
            assert!(Filters::parse(bad).is_err(), "{bad}");
        }
        assert!(Filters::parse(&"a&".repeat(600)).is_err());
        assert!(Filters::parse("limit=ten").unwrap().parsed::<u32>("limit").is_err());
        assert!(Filters::parse("all=maybe").unwrap().flag("all").is_err());
    }

    proptest! {
        #[test]
        fn encoded_text_decodes_to_itself(text in "\\PC{0,40}") {
            let filters = Filters::parse(&format!("k={}", encode(&text))).unwrap();
            prop_assert_eq!(filters.get("k"), Some(text.as_str()));
        }

        #[test]
        fn no_query_panics(text in "\\PC{0,60}") {
            let _ = Filters::parse(&text);
        }
    }
}
