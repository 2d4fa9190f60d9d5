//! Amazon's signatures, computed as those who signed did: version 0, 1, 2 and 4 of EC2's requests,
//! and the two forms of S3. Pure.
//!
//! SHA-1 stands only where a version demands it (EC2 0 and 1, S3's older form).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use cloud_types::Fault;
use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::model::{Signed, text_of};

fn invalid() -> Fault {
    Fault::unauthorized("Invalid EC2 signature.")
}

/// Whether two texts are the same, in the same time whatever they are.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn mac(algorithm: hmac::Algorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
}

fn sha1(key: &[u8], message: &[u8]) -> Vec<u8> {
    mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, message)
}

fn sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    mac(hmac::HMAC_SHA256, key, message)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Percent-encodes all but letters, digits, `_.-~` and what is in `safe`.
fn quoted(text: &str, safe: &[u8]) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || safe.contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

fn query(signed: &Signed, extra: Option<(&str, &str)>) -> String {
    let mut params: Vec<(&str, String)> =
        signed.params.iter().map(|(name, value)| (name.as_str(), text_of(value))).collect();
    if let Some((name, value)) = extra {
        params.retain(|(known, _)| *known != name);
        params.push((name, value.to_owned()));
    }
    params.sort();
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{}={}", quoted(name, b""), quoted(value, b"")))
        .collect();
    pairs.join("&")
}

/// Checks the signature of a request to EC2 or the like.
///
/// # Errors
/// 401 when there is none, it does not match, or it is of a version that is not known.
pub(super) fn check_ec2(signed: &Signed, secret: &str) -> Result<(), Fault> {
    let given = signed.signature.as_ref().filter(|text| !text.is_empty());
    let given = given.ok_or_else(|| Fault::unauthorized("EC2 signature not supplied."))?;
    let host = signed.host.clone().unwrap_or_default();
    // Some clients leave the port out of what they sign.
    let bare = host.rsplit_once(':').map(|(name, _)| name.to_owned());
    for host in std::iter::once(host).chain(bare) {
        if same(given, &ec2(signed, secret, &host)?) {
            return Ok(());
        }
    }
    Err(invalid())
}

fn ec2(signed: &Signed, secret: &str, host: &str) -> Result<String, Fault> {
    let key = secret.as_bytes();
    let verb = signed.verb.clone().unwrap_or_default();
    let path = signed.path.clone().unwrap_or_default();
    let version = signed.param("SignatureVersion");
    match version.as_deref() {
        Some("0") => {
            let action = signed.param("Action").ok_or_else(invalid)?;
            let when = signed.param("Timestamp").ok_or_else(invalid)?;
            Ok(STANDARD.encode(sha1(key, format!("{action}{when}").as_bytes())))
        }
        Some("1") => {
            let mut params: Vec<(&String, String)> =
                signed.params.iter().map(|(name, value)| (name, text_of(value))).collect();
            params.sort_by_key(|(name, _)| name.to_lowercase());
            let text: String =
                params.into_iter().map(|(name, value)| format!("{name}{value}")).collect();
            Ok(STANDARD.encode(sha1(key, text.as_bytes())))
        }
        Some("2") => {
            let query = query(signed, Some(("SignatureMethod", "HmacSHA256")));
            let text = format!("{verb}\n{host}\n{path}\n{query}");
            Ok(STANDARD.encode(sha256(key, text.as_bytes())))
        }
        Some(_) => Err(Fault::unauthorized("Unknown EC2 signature version.")),
        None => version_4(signed, secret, &verb, &path),
    }
}

/// A part of the authorisation, in the header or among the parameters.
fn authorisation(signed: &Signed, name: &str) -> Option<String> {
    match signed.header("Authorization") {
        Some(text) => {
            let (_, rest) = text.split_once(&format!("{name}="))?;
            rest.split(',').next().map(|part| part.trim().to_owned())
        }
        None => signed.param(&format!("X-Amz-{name}")),
    }
}

fn version_4(signed: &Signed, secret: &str, verb: &str, path: &str) -> Result<String, Fault> {
    const ALGORITHM: &str = "AWS4-HMAC-SHA256";
    let by_header = signed.header("Authorization").is_some_and(|text| text.starts_with(ALGORITHM));
    if !by_header && signed.param("X-Amz-Algorithm").as_deref() != Some(ALGORITHM) {
        return Err(Fault::unauthorized("Unexpected EC2 signature format."));
    }
    let names = authorisation(signed, "SignedHeaders").ok_or_else(invalid)?;
    let headers: Vec<(String, String)> = signed
        .headers
        .iter()
        .map(|(name, value)| (name.trim().to_lowercase(), text_of(value).trim().to_owned()))
        .collect();
    let listed: Vec<String> = names
        .split(';')
        .filter_map(|wanted| {
            headers.iter().find(|(name, _)| name == wanted).map(|(n, value)| format!("{n}:{value}"))
        })
        .collect();
    // What a form posts is in its body, whose hash is signed.
    let query = if verb.eq_ignore_ascii_case("POST") { String::new() } else { query(signed, None) };
    let request = format!(
        "{}\n{path}\n{query}\n{}\n\n{names}\n{}",
        verb.to_uppercase(),
        listed.join("\n"),
        signed.body_hash.as_deref().unwrap_or_default()
    );
    let credential = authorisation(signed, "Credential").ok_or_else(invalid)?;
    let (_, scope) = credential.split_once('/').ok_or_else(invalid)?;
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, region, service, ..] = parts.as_slice() else {
        return Err(invalid());
    };
    let when = signed.header("X-Amz-Date").or_else(|| signed.param("X-Amz-Date"));
    let when = when.filter(|when| when.starts_with(day)).ok_or_else(|| {
        Fault::unauthorized("The request's date does not match the one that it was signed for.")
    })?;
    let digest = hexadecimal(&Sha256::digest(request.as_bytes()));
    let text = format!("{ALGORITHM}\n{when}\n{scope}\n{digest}");
    Ok(hexadecimal(&sha256(&signing_key(secret, day, region, service), text.as_bytes())))
}

fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> Vec<u8> {
    [day, region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{secret}").into_bytes(), |key, part| sha256(&key, part.as_bytes()))
}

/// Checks the signature of a request to S3, of which the service sends what was signed.
///
/// # Errors
/// 401 when there is none, it does not match, or it is none of S3's.
pub(super) fn check_s3(signed: &Signed, secret: &str) -> Result<(), Fault> {
    let mismatch = || Fault::unauthorized("Credential signature mismatch");
    let given = signed.signature.as_ref().ok_or_else(mismatch)?;
    let token = signed.token.as_deref().ok_or_else(mismatch)?;
    let text = URL_SAFE
        .decode(token)
        .or_else(|_| URL_SAFE_NO_PAD.decode(token))
        .or_else(|_| STANDARD.decode(token))
        .map_err(|_| mismatch())?;
    let wanted = if text.starts_with(b"AWS4") {
        let parts: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let [b"AWS4-HMAC-SHA256", _, scope, _] = parts.as_slice() else {
            return Err(invalid());
        };
        let scope = std::str::from_utf8(scope).map_err(|_| invalid())?;
        let parts: Vec<&str> = scope.split('/').collect();
        let [day, region, service @ ("s3" | "iam" | "sts"), "aws4_request"] = parts.as_slice()
        else {
            return Err(invalid());
        };
        hexadecimal(&sha256(&signing_key(secret, day, region, service), &text))
    } else {
        STANDARD.encode(sha1(secret.as_bytes(), &text))
    };
    if same(given.trim(), &wanted) { Ok(()) } else { Err(mismatch()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn signed(value: serde_json::Value) -> Signed {
        serde_json::from_value(value).unwrap()
    }

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// The example of Amazon's general reference for version 4: ListUsers of IAM.
    #[test]
    fn amazons_example_of_version_4_is_signed_the_same() {
        let mut request = signed(json!({
            "verb": "GET",
            "host": "iam.amazonaws.com",
            "path": "/",
            "params": {"Action": "ListUsers", "Version": "2010-05-08"},
            "headers": {
                "Authorization": "AWS4-HMAC-SHA256 \
                    Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                    SignedHeaders=content-type;host;x-amz-date, Signature=x",
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                "Host": "iam.amazonaws.com",
                "X-Amz-Date": "20150830T123600Z",
            },
            "body_hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "signature": "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        }));
        assert!(check_ec2(&request, SECRET).is_ok());
        assert!(check_ec2(&request, "another").is_err());
        request.path = Some("/other".into());
        assert!(check_ec2(&request, SECRET).is_err());
        request.headers.insert("X-Amz-Date".into(), json!("20150831T123600Z"));
        assert!(check_ec2(&request, SECRET).is_err());
    }

    #[test]
    fn version_2_is_checked_with_and_without_the_port() {
        let text = "GET\nlocalhost:8773\n/services/Cloud\nAction=Foo&SignatureMethod=HmacSHA256&\
                    SignatureVersion=2&Timestamp=2012-01-27T11%3A33%3A13Z";
        let bare = text.replace(":8773", "");
        for text in [text, bare.as_str()] {
            let signature = STANDARD.encode(sha256(b"s", text.as_bytes()));
            let mut request = signed(json!({
                "verb": "GET", "host": "localhost:8773", "path": "/services/Cloud",
                "params": {"SignatureVersion": "2", "Action": "Foo",
                           "Timestamp": "2012-01-27T11:33:13Z"},
                "signature": signature,
            }));
            assert!(check_ec2(&request, "s").is_ok());
            request.params.insert("Action".into(), json!("Bar"));
            assert!(check_ec2(&request, "s").is_err());
        }
    }

    #[test]
    fn older_versions_sign_the_parameters() {
        let request = |version: &str, signature: String| {
            signed(json!({"params": {"SignatureVersion": version, "Action": "Foo",
                                     "Timestamp": "now"}, "signature": signature}))
        };
        let zero = STANDARD.encode(sha1(b"s", b"Foonow"));
        assert!(check_ec2(&request("0", zero.clone()), "s").is_ok());
        assert!(check_ec2(&request("0", zero.clone()), "t").is_err());
        let one = STANDARD.encode(sha1(b"s", b"ActionFooSignatureVersion1Timestampnow"));
        assert!(check_ec2(&request("1", one), "s").is_ok());
        assert!(check_ec2(&request("3", zero), "s").is_err());
        assert!(check_ec2(&request("0", String::new()), "s").is_err());
        assert!(check_ec2(&Signed::default(), "s").is_err());
    }

    #[test]
    fn s3_is_checked_in_both_forms_and_no_other() {
        let request = |text: &str, signature: String| {
            signed(json!({"token": URL_SAFE.encode(text), "signature": signature}))
        };
        let old = "GET\n\n\nTue, 27 Mar 2007 19:36:42 +0000\n/bucket/key";
        let good = STANDARD.encode(sha1(b"s", old.as_bytes()));
        assert!(check_s3(&request(old, good.clone()), "s").is_ok());
        assert!(check_s3(&request("PUT", good), "s").is_err());
        let new = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/s3/aws4_request\nabc";
        let key = signing_key("s", "20150830", "us-east-1", "s3");
        let good = hexadecimal(&sha256(&key, new.as_bytes()));
        assert!(check_s3(&request(new, good.clone()), "s").is_ok());
        for other in [
            new.replace("/s3/", "/ec2/"),
            new.replace("\nabc", "\nabd"),
            "AWS4".to_owned(),
            "AWS4-HMAC-SHA256\n\n\n".to_owned(),
        ] {
            assert!(check_s3(&request(&other, good.clone()), "s").is_err(), "{other}");
        }
        assert!(check_s3(&signed(json!({"signature": good})), "s").is_err());
    }
}
