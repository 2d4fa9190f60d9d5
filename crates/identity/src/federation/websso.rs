//! A browser's way to the provider and back. Nothing is stored on the way out: the `state` that
//! travels with the browser holds all of it, sealed, and is bound to a cookie that only this browser
//! has. So a login that an attacker began cannot be finished in somebody else's browser, and a
//! flood of begun logins costs no row. On the way back the state is noted as used.
//!
//! ```text
//!   browser ── origin, ──► here        checks the origin, draws a secret for the cookie
//!           ◄─ cookie, state, nonce, PKCE challenge ─
//!           ── to the provider, logs in there, comes back with code and state ──►
//!                         here: state opens? young? for this provider? cookie fits? not used yet?
//!                         code and PKCE verifier ──► provider ──► ID token with our nonce
//! ```
//! Nonce and PKCE verifier are derived from the cookie's secret and the state, so that neither the
//! address line nor the cookie alone gives them away.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloud_types::{Fault, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::vault::Vault;

/// A login at the provider takes a person no longer than this.
pub(crate) const LOGIN_TIME: Duration = Duration::from_secs(10 * 60);
const SEAL: &str = "web login";
const COOKIE: &str = "__Host-meridian-login-";

/// What is sealed in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Inside {
    idp: String,
    protocol: String,
    origin: String,
    begun_at: i64,
    /// Hash of the cookie's secret.
    browser: String,
    salt: String,
}

/// A login that has begun.
pub(crate) struct Begun {
    pub state: String,
    pub nonce: String,
    /// PKCE's challenge, S256.
    pub challenge: String,
    pub cookie_name: String,
    pub cookie_value: String,
}

/// A login that came back to the browser in which it began.
#[derive(Debug)]
pub(crate) struct Returned {
    pub origin: String,
    pub nonce: String,
    /// PKCE's verifier.
    pub verifier: String,
    /// By what the login is known once it is used.
    pub id: String,
}

fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// The name of the cookie of a login: one for each, so that two tabs do not disturb each other.
pub(crate) fn cookie_name(state: &str) -> String {
    format!("{COOKIE}{}", &hash(&["cookie", state])[..12])
}

/// Begins a login.
///
/// # Errors
/// 500 when nothing can be sealed.
pub(crate) fn begin(
    vault: &Vault,
    idp: &str,
    protocol: &str,
    origin: &str,
    now: Timestamp,
) -> Result<Begun, Fault> {
    let cookie_value = secret();
    let inside = Inside {
        idp: idp.to_owned(),
        protocol: protocol.to_owned(),
        origin: origin.to_owned(),
        begun_at: now.0,
        browser: hash(&["browser", &cookie_value]),
        salt: secret(),
    };
    let text = serde_json::to_vec(&inside)
        .map_err(|_| Fault::internal("The login could not be begun."))?;
    let state = URL_SAFE_NO_PAD.encode(vault.seal_at(now, SEAL, &text)?.bytes);
    let verifier = hash(&["verifier", &cookie_value, &inside.salt]);
    Ok(Begun {
        nonce: hash(&["nonce", &cookie_value, &inside.salt]),
        challenge: URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())),
        cookie_name: cookie_name(&state),
        cookie_value,
        state,
    })
}

/// Checks a login that comes back.
///
/// # Errors
/// 401 that says what is wrong with it.
pub(crate) fn finish(
    vault: &Vault,
    idp: &str,
    protocol: &str,
    state: &str,
    cookie: Option<&str>,
    now: Timestamp,
) -> Result<Returned, Fault> {
    let refused = |why: &str| Fault::unauthorized(format!("The login cannot be finished: {why}"));
    let inside: Inside = URL_SAFE_NO_PAD
        .decode(state)
        .ok()
        .and_then(|sealed| vault.open_under(SEAL, &sealed))
        .and_then(|text| serde_json::from_slice(&text).ok())
        .ok_or_else(|| refused("its state was not made here."))?;
    if inside.idp != idp || inside.protocol != protocol {
        return Err(refused("it began with another identity provider."));
    }
    let begun = Timestamp(inside.begun_at);
    if begun.after(LOGIN_TIME) <= now {
        return Err(refused("it took too long. Begin again."));
    }
    let cookie = cookie.unwrap_or_default();
    let browser = hash(&["browser", cookie]);
    if !bool::from(browser.as_bytes().ct_eq(inside.browser.as_bytes())) {
        return Err(refused(
            "it did not begin in this browser. Begin again here, with cookies allowed.",
        ));
    }
    Ok(Returned {
        nonce: hash(&["nonce", cookie, &inside.salt]),
        verifier: hash(&["verifier", cookie, &inside.salt]),
        id: hash(&["used", &inside.salt]),
        origin: inside.origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::KeySource;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    #[test]
    fn a_login_comes_back_only_to_the_browser_and_provider_with_which_it_began() {
        let vault = Vault::open(&KeySource::Ephemeral).unwrap();
        let begun = begin(&vault, "corp", "openid", "https://console/", NOW).unwrap();
        let cookie = Some(begun.cookie_value.as_str());
        let back = |idp: &str, protocol: &str, state: &str, cookie: Option<&str>, now| {
            finish(&vault, idp, protocol, state, cookie, now)
        };
        let returned = back("corp", "openid", &begun.state, cookie, NOW).unwrap();
        assert_eq!(returned.origin, "https://console/");
        assert_eq!(returned.nonce, begun.nonce);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(returned.verifier.as_bytes()));
        assert_eq!(challenge, begun.challenge);
        assert_eq!(cookie_name(&begun.state), begun.cookie_name);

        let other = begin(&vault, "corp", "openid", "https://console/", NOW).unwrap();
        assert_ne!((&other.nonce, &other.cookie_name), (&begun.nonce, &begun.cookie_name));
        let late = NOW.after(LOGIN_TIME);
        for (result, why) in [
            (back("corp", "openid", &begun.state, None, NOW), "this browser"),
            (back("corp", "openid", &begun.state, Some(""), NOW), "this browser"),
            (back("corp", "openid", &begun.state, Some(&other.cookie_value), NOW), "this browser"),
            (back("evil", "openid", &begun.state, cookie, NOW), "another"),
            (back("corp", "saml2", &begun.state, cookie, NOW), "another"),
            (back("corp", "openid", &begun.state[1..], cookie, NOW), "made here"),
            (back("corp", "openid", "", cookie, NOW), "made here"),
            (back("corp", "openid", &begun.state, cookie, late), "too long"),
        ] {
            let fault = result.unwrap_err();
            assert_eq!(fault.status(), 401);
            assert!(fault.message.contains(why), "{}", fault.message);
        }
        let elsewhere = Vault::open(&KeySource::Ephemeral).unwrap();
        assert!(finish(&elsewhere, "corp", "openid", &begun.state, cookie, NOW).is_err());
    }
}
