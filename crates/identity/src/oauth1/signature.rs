//! Signatures of RFC 5849, section 3: what is signed, and whether it was. HMAC-SHA1 is what its
//! clients use; HMAC-SHA256 is taken, too.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloud_types::Fault;
use ring::hmac;

/// Most parameters in the header; the protocol has nine.
const MOST: usize = 32;

/// What the `Authorization: OAuth …` header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads the header (section 3.5.1).
    ///
    /// # Errors
    /// 400 when it is missing or malformed.
    pub fn read(header: Option<&str>) -> Result<Parameters, Fault> {
        let wrong = || {
            Fault::bad_request(
                "Error while parsing the Authorization header: it is no \
                                           list of OAuth parameters.",
            )
        };
        let header = header.ok_or_else(|| {
            Fault::bad_request("The Authorization header with OAuth parameters is missing.")
        })?;
        let scheme = header.get(..6).ok_or_else(wrong)?;
        if !scheme.eq_ignore_ascii_case("oauth ") {
            return Err(wrong());
        }
        let mut read = BTreeMap::new();
        for part in header[6..].split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let (name, value) = (decode(name.trim()), decode(value.ok_or_else(wrong)?));
            let (Some(name), Some(value)) = (name, value) else {
                return Err(wrong());
            };
            // A parameter that comes twice could be signed as one thing and read as another.
            if read.insert(name, value).is_some() || read.len() > MOST {
                return Err(wrong());
            }
        }
        Ok(Parameters(read))
    }

    /// A parameter that must be there.
    pub fn required(&self, name: &str) -> Result<&str, Fault> {
        match self.0.get(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(Fault::bad_request(format!(
                "Expecting to find {name} in the Authorization header of the request."
            ))),
        }
    }

    /// Whether the request was signed with these secrets. `query` are the parameters of the URL.
    pub fn are_signed(
        &self,
        method: &str,
        url: &str,
        query: &[(String, String)],
        consumer_secret: &str,
        token_secret: &str,
    ) -> bool {
        let algorithm = match self.0.get("oauth_signature_method").map(String::as_str) {
            Some("HMAC-SHA1") => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Some("HMAC-SHA256") => hmac::HMAC_SHA256,
            _ => return false,
        };
        let signature = self.0.get("oauth_signature").and_then(|text| STANDARD.decode(text).ok());
        let Some(signature) = signature else {
            return false;
        };
        let key = format!("{}&{}", encode(consumer_secret), encode(token_secret));
        let key = hmac::Key::new(algorithm, key.as_bytes());
        let text = self.base_string(method, url, query);
        // Compares in constant time.
        hmac::verify(&key, text.as_bytes(), &signature).is_ok()
    }

    /// Section 3.4.1.
    fn base_string(&self, method: &str, url: &str, query: &[(String, String)]) -> String {
        let own = self
            .0
            .iter()
            .filter(|(name, _)| *name != "oauth_signature" && *name != "realm")
            .map(|(name, value)| (encode(name), encode(value)));
        let query = query.iter().map(|(name, value)| (encode(name), encode(value)));
        let mut pairs: Vec<(String, String)> = own.chain(query).collect();
        pairs.sort();
        let parameters: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!(
            "{}&{}&{}",
            encode(&method.to_ascii_uppercase()),
            encode(&base_url(url)),
            encode(&parameters.join("&"))
        )
    }
}

/// Scheme and host in lower case, without the port that the scheme implies (section 3.4.1.2).
fn base_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let host = host.to_ascii_lowercase();
    let implied = if scheme == "https" { ":443" } else { ":80" };
    format!("{scheme}://{}{path}", host.strip_suffix(implied).unwrap_or(&host))
}

/// Section 3.6, which is what this cloud's links use, too.
fn encode(text: &str) -> String {
    service_kit::percent_encode(text)
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, tail @ ..] = tail else { return None };
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let value = digit(*high)? * 16 + digit(*low)?;
            bytes.push(u8::try_from(value).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request after the example of RFC 5849, section 1.2, signed by another implementation (the
    /// standard library of Python).
    const HEADER: &str = "OAuth realm=\"Photos\", oauth_consumer_key=\"dpf43f3p2l4k3l03\", \
        oauth_signature_method=\"HMAC-SHA1\", oauth_timestamp=\"137131200\", \
        oauth_nonce=\"wIjqoxSZ\", \
        oauth_callback=\"http%3A%2F%2Fprinter.example.com%2Fready\", \
        oauth_signature=\"%2FUvthHqLWsq3QBhDNNbCXRUcFvI%3D\"";
    const URL: &str = "https://photos.example.net/initiate";

    #[test]
    fn what_another_implementation_signed_is_signed() {
        let parameters = Parameters::read(Some(HEADER)).unwrap();
        assert_eq!(parameters.required("oauth_consumer_key").unwrap(), "dpf43f3p2l4k3l03");
        let signed = |url: &str, query: &[(String, String)], secret: &str, token: &str| {
            parameters.are_signed("POST", url, query, secret, token)
        };
        assert!(signed(URL, &[], "kd94hf93k423kf44", ""));
        assert!(signed("HTTPS://Photos.Example.net:443/initiate", &[], "kd94hf93k423kf44", ""));
        assert!(!signed(URL, &[], "another", ""));
        assert!(!signed(URL, &[], "kd94hf93k423kf44", "x"));
        assert!(!signed("https://photos.example.net/token", &[], "kd94hf93k423kf44", ""));
        assert!(!signed(URL, &[("a".into(), "b".into())], "kd94hf93k423kf44", ""));
        assert!(!parameters.are_signed("GET", URL, &[], "kd94hf93k423kf44", ""));
    }

    #[test]
    fn malformed_headers_are_refused() {
        for bad in [
            None,
            Some("Basic abc"),
            Some("OAuth a"),
            Some("OAuth a=b"),
            Some("OAuth a=\"%zz\""),
            Some("OAuth a=\"%e"),
            Some("OAuth a=\"1\", a=\"2\""),
            Some("é"),
        ] {
            assert_eq!(Parameters::read(bad).unwrap_err().status(), 400, "{bad:?}");
        }
        let none = Parameters::read(Some("OAuth realm=\"\"")).unwrap();
        assert!(none.required("oauth_token").is_err());
        assert!(!none.are_signed("POST", URL, &[], "", ""));
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "\\PC{0,80}") {
            if let Ok(parameters) = Parameters::read(Some(&text)) {
                let _ = parameters.are_signed("POST", &text, &[], "a", "b");
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(text in "\\PC{0,40}") {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
