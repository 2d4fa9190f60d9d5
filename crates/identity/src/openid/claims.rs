//! What a token must say before anything is done with it (OpenID Connect Core 3.1.3.7 and
//! Back-Channel Logout 2.4), and turning claims into an assertion for mappings. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use cloud_types::Timestamp;
use serde_json::{Map, Value};

use super::jwt::Signed;
use crate::mapping::engine::Assertion;

/// How far the provider's clock may be from ours.
const SKEW: Duration = Duration::from_secs(60);
/// A logout token is a message: an old one is a replay.
const LOGOUT_AGE: Duration = Duration::from_secs(10 * 60);
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Attributes of one assertion, and values of one attribute.
const MANY: usize = 2000;

type Claims = Map<String, Value>;

/// Why a token is refused, for the log and the person.
pub(crate) type Refusal = String;

fn text<'c>(claims: &'c Claims, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

fn seconds(claims: &Claims, name: &str) -> Option<Timestamp> {
    let value = claims.get(name)?;
    let seconds = value.as_i64().or_else(|| {
        // A fraction is allowed; what does not fit is no time.
        value.as_f64().filter(|seconds| seconds.abs() < 1e15).map(|seconds| seconds as i64)
    })?;
    Some(Timestamp(seconds.checked_mul(1_000_000)?))
}

/// Whom a token is meant for.
fn audiences(claims: &Claims) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn issued_by(claims: &Claims, issuer: &str) -> Result<(), Refusal> {
    match text(claims, "iss") {
        Some(found) if found == issuer => Ok(()),
        Some(found) => {
            let shown: String = found.chars().take(200).collect();
            Err(format!("it was issued by {shown:?}, not by {issuer:?}"))
        }
        None => Err("it does not say who issued it".to_owned()),
    }
}

fn in_time(claims: &Claims, now: Timestamp, must_end: bool) -> Result<(), Refusal> {
    match seconds(claims, "exp") {
        Some(end) if end.after(SKEW) <= now => return Err("it has expired".to_owned()),
        None if must_end => return Err("it does not say when it expires".to_owned()),
        _ => {}
    }
    for name in ["nbf", "iat"] {
        if seconds(claims, name).is_some_and(|begin| begin > now.after(SKEW)) {
            return Err(format!("its {name} is in the future"));
        }
    }
    Ok(())
}

fn subject(claims: &Claims) -> Result<(), Refusal> {
    match text(claims, "sub") {
        Some(subject) if !subject.is_empty() && subject.len() <= 255 => Ok(()),
        _ => Err("it does not say about whom it speaks".to_owned()),
    }
}

/// Checks an ID token for us, as the answer to one login.
///
/// # Errors
/// Why it is refused.
pub(crate) fn check_id_token(
    token: &Signed,
    issuer: &str,
    client_id: &str,
    nonce: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let claims = &token.claims;
    issued_by(claims, issuer)?;
    let audiences = audiences(claims);
    if !audiences.contains(&client_id) {
        return Err("it is meant for somebody else".to_owned());
    }
    let party = text(claims, "azp");
    if audiences.len() > 1 && party.is_none() || party.is_some_and(|party| party != client_id) {
        return Err("it was made for another party".to_owned());
    }
    in_time(claims, now, true)?;
    subject(claims)?;
    if text(claims, "nonce") != Some(nonce) {
        return Err("it answers another login: its nonce is not the one that was sent".to_owned());
    }
    Ok(())
}

/// Checks a signed access token that somebody brings.
///
/// # Errors
/// Why it is refused.
pub(crate) fn check_access_token(
    token: &Signed,
    issuer: &str,
    accepts: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Result<(), Refusal> {
    let claims = &token.claims;
    if !matches!(token.kind.as_deref(), None | Some("at+jwt" | "jwt")) {
        return Err("it is no access token".to_owned());
    }
    // An ID token or a logout token, signed by the same keys, opens nothing here.
    if ["events", "nonce", "at_hash", "c_hash"].iter().any(|name| claims.contains_key(*name)) {
        return Err("it is no access token".to_owned());
    }
    issued_by(claims, issuer)?;
    if !audiences(claims).into_iter().any(accepts) {
        return Err("it is meant for somebody else".to_owned());
    }
    in_time(claims, now, true)?;
    subject(claims)
}

/// Checks what a provider says about an access token (RFC 7662).
///
/// # Errors
/// Why it is refused.
pub(crate) fn check_introspection(
    claims: &Claims,
    issuer: &str,
    accepts: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Result<(), Refusal> {
    if claims.get("active") != Some(&Value::Bool(true)) {
        return Err("the provider says that it is not in force".to_owned());
    }
    if claims.contains_key("iss") {
        issued_by(claims, issuer)?;
    }
    if text(claims, "token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("refresh_token")) {
        return Err("it is no access token".to_owned());
    }
    let for_us = match audiences(claims).as_slice() {
        [] => text(claims, "client_id").is_some_and(&accepts),
        audiences => audiences.iter().copied().any(&accepts),
    };
    if !for_us {
        return Err("it is meant for somebody else".to_owned());
    }
    in_time(claims, now, false)?;
    subject(claims)
}

/// What a logout token says: whose sessions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logout {
    /// Its id, by which a replay is known.
    pub id: String,
    pub subject: Option<String>,
    pub session: Option<String>,
}

/// Checks a logout token.
///
/// # Errors
/// Why it is refused.
pub(crate) fn check_logout_token(
    token: &Signed,
    issuer: &str,
    client_id: &str,
    now: Timestamp,
) -> Result<Logout, Refusal> {
    let claims = &token.claims;
    if !matches!(token.kind.as_deref(), None | Some("logout+jwt" | "jwt")) {
        return Err("it is no logout token".to_owned());
    }
    issued_by(claims, issuer)?;
    if !audiences(claims).contains(&client_id) {
        return Err("it is meant for somebody else".to_owned());
    }
    in_time(claims, now, false)?;
    let issued = seconds(claims, "iat").ok_or("it does not say when it was issued")?;
    if issued.after(LOGOUT_AGE) < now {
        return Err("it is too old".to_owned());
    }
    let event = claims.get("events").and_then(|events| events.get(LOGOUT_EVENT));
    if !event.is_some_and(Value::is_object) || claims.contains_key("nonce") {
        return Err("it is no logout token".to_owned());
    }
    let own = |name: &str| {
        text(claims, name).filter(|text| !text.is_empty() && text.len() <= 255).map(str::to_owned)
    };
    let logout =
        Logout { id: own("jti").ok_or("it has no id")?, subject: own("sub"), session: own("sid") };
    if logout.subject.is_none() && logout.session.is_none() {
        return Err("it names neither a person nor a session".to_owned());
    }
    Ok(logout)
}

/// When a token ends, where it says so.
pub(crate) fn expiry(claims: &Claims) -> Option<Timestamp> {
    seconds(claims, "exp")
}

/// The person whom claims speak of.
pub(crate) fn subject_of(claims: &Claims) -> Option<String> {
    text(claims, "sub").map(str::to_owned)
}

/// The provider's session, where it has one.
pub(crate) fn session_of(claims: &Claims) -> Option<String> {
    text(claims, "sid").filter(|sid| sid.len() <= 255).map(str::to_owned)
}

/// Claims as a mapping sees them: each as `OIDC-name` and as `HTTP_OIDC_NAME`, the two names by
/// which a proxy in front of Keystone hands them on, so that mappings written for one work. Nested
/// objects are named with dots (`OIDC-realm_access.roles`). A list is several values; a text is one,
/// whatever stands in it.
pub(crate) fn assertion(claims: &Claims) -> Assertion {
    let mut flat = BTreeMap::new();
    flatten("", claims, &mut flat, 0);
    let mut assertion = Assertion::new();
    for (name, values) in flat.into_iter().take(MANY) {
        let header: String = name
            .chars()
            .map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_uppercase() } else { '_' })
            .collect();
        assertion.insert(format!("OIDC-{name}"), values.clone());
        // Two names may become one header; the first in order stays, and none is added to.
        assertion.entry(format!("HTTP_OIDC_{header}")).or_insert(values);
    }
    assertion
}

fn flatten(prefix: &str, claims: &Claims, flat: &mut BTreeMap<String, Vec<String>>, depth: u8) {
    for (name, value) in claims {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) if depth < 4 => {
                flatten(&format!("{name}."), inner, flat, depth + 1);
            }
            Value::Array(items) => {
                let values: Vec<String> = items.iter().filter_map(scalar).take(MANY).collect();
                flat.insert(name, values);
            }
            other => {
                if let Some(value) = scalar(other) {
                    flat.insert(name, vec![value]);
                }
            }
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);
    const SECOND: i64 = 1_700_000_000;

    fn signed(claims: &Value) -> Signed {
        Signed { kind: None, claims: claims.as_object().unwrap().clone() }
    }

    fn with(base: &Value, name: &str, value: Value) -> Value {
        let mut changed = base.clone();
        if value.is_null() {
            changed.as_object_mut().unwrap().remove(name);
        } else {
            changed[name] = value;
        }
        changed
    }

    #[test]
    fn an_id_token_answers_our_login_or_is_refused() {
        let good = json!({"iss": "https://op", "aud": "cloud", "exp": SECOND + 300, "iat": SECOND,
                          "sub": "ada", "nonce": "n"});
        let check =
            |claims: &Value| check_id_token(&signed(claims), "https://op", "cloud", "n", NOW);
        check(&good).unwrap();
        check(&with(&good, "aud", json!(["x", "cloud"]))).unwrap_err();
        let two = with(&with(&good, "aud", json!(["x", "cloud"])), "azp", json!("cloud"));
        check(&two).unwrap();
        for (name, value, why) in [
            ("iss", json!("https://op/"), "issued by"),
            ("iss", json!(null), "who issued"),
            ("aud", json!("other"), "somebody else"),
            ("aud", json!(["other"]), "somebody else"),
            ("aud", json!(null), "somebody else"),
            ("azp", json!("other"), "another party"),
            ("exp", json!(SECOND - 61), "expired"),
            ("exp", json!(null), "when it expires"),
            ("exp", json!("soon"), "when it expires"),
            ("iat", json!(SECOND + 100), "future"),
            ("nbf", json!(SECOND + 100), "future"),
            ("sub", json!(""), "about whom"),
            ("sub", json!(7), "about whom"),
            ("nonce", json!("m"), "nonce"),
            ("nonce", json!(null), "nonce"),
        ] {
            let refusal = check(&with(&good, name, value)).unwrap_err();
            assert!(refusal.contains(why), "{name}: {refusal}");
        }
        check(&with(&good, "exp", json!(SECOND - 30))).unwrap();
    }

    #[test]
    fn an_access_token_is_for_us_and_nothing_else_passes_for_one() {
        let good = json!({"iss": "https://op", "aud": "cloud", "exp": SECOND + 300, "sub": "ada"});
        let accepts = |audience: &str| audience == "cloud";
        let check = |claims: &Value, kind: Option<&str>| {
            let token = Signed { kind: kind.map(str::to_owned), ..signed(claims) };
            check_access_token(&token, "https://op", accepts, NOW)
        };
        for kind in [None, Some("jwt"), Some("at+jwt")] {
            check(&good, kind).unwrap();
        }
        check(&good, Some("logout+jwt")).unwrap_err();
        for (name, value) in [
            ("iss", json!("https://evil")),
            ("aud", json!("other")),
            ("exp", json!(SECOND - 100)),
            ("exp", json!(null)),
            ("sub", json!(null)),
            ("nonce", json!("of an id token")),
            ("events", json!({})),
            ("at_hash", json!("of an id token that was renewed")),
        ] {
            check(&with(&good, name, value), None).unwrap_err();
        }
    }

    #[test]
    fn an_introspected_token_must_be_active_and_for_us() {
        let good = json!({"active": true, "client_id": "cloud", "sub": "ada"});
        let check = |claims: &Value| {
            let claims = claims.as_object().unwrap();
            check_introspection(claims, "https://op", |client| client == "cloud", NOW)
        };
        check(&good).unwrap();
        check(&with(&good, "aud", json!(["cloud"]))).unwrap();
        for (name, value) in [
            ("active", json!(false)),
            ("active", json!("true")),
            ("active", json!(null)),
            ("client_id", json!("other")),
            ("aud", json!("other")),
            ("iss", json!("https://evil")),
            ("exp", json!(SECOND - 100)),
            ("token_type", json!("refresh_token")),
            ("sub", json!(null)),
        ] {
            check(&with(&good, name, value)).unwrap_err();
        }
    }

    #[test]
    fn a_logout_token_is_fresh_for_us_and_names_somebody() {
        let good = json!({"iss": "https://op", "aud": "cloud", "iat": SECOND, "jti": "j",
                          "sub": "ada", "sid": "s", "events": {LOGOUT_EVENT: {}}});
        let check =
            |claims: &Value| check_logout_token(&signed(claims), "https://op", "cloud", NOW);
        let logout = check(&good).unwrap();
        assert_eq!(
            (logout.subject.as_deref(), logout.session.as_deref()),
            (Some("ada"), Some("s"))
        );
        check(&with(&good, "sub", json!(null))).unwrap();
        check(&with(&with(&good, "sub", json!(null)), "sid", json!(null))).unwrap_err();
        for (name, value) in [
            ("iss", json!("https://evil")),
            ("aud", json!("other")),
            ("iat", json!(SECOND - 3600)),
            ("iat", json!(null)),
            ("jti", json!(null)),
            ("events", json!({})),
            ("events", json!({LOGOUT_EVENT: "x"})),
            ("nonce", json!("n")),
            ("exp", json!(SECOND - 100)),
        ] {
            check(&with(&good, name, value)).unwrap_err();
        }
    }

    #[test]
    fn claims_keep_their_values_apart_under_both_names() {
        let claims = json!({"sub": "ada", "groups": ["a;b", "c"], "age": 7, "email_verified": true,
                            "realm_access": {"roles": ["x"]}, "picture": null});
        let assertion = assertion(claims.as_object().unwrap());
        assert_eq!(assertion["OIDC-groups"], ["a;b", "c"]);
        assert_eq!(assertion["HTTP_OIDC_GROUPS"], ["a;b", "c"]);
        assert_eq!(assertion["HTTP_OIDC_EMAIL_VERIFIED"], ["true"]);
        assert_eq!(assertion["OIDC-realm_access.roles"], ["x"]);
        assert_eq!(assertion["OIDC-age"], ["7"]);
        assert!(!assertion.contains_key("OIDC-picture"));
    }
}
