//! The OpenID flows: an access token that somebody brings, and a browser that is sent to the provider
//! and comes back.

use std::net::IpAddr;

use cloud_types::Fault;
use serde_json::{Map, Value};
use service_kit::Ctx;
use zeroize::Zeroizing;

use super::model::{Keep, Ways, Word};
use super::page::{Page, handing_over};
use super::service::Entrance;
use super::websso::{self, Begun};
use super::{sessions, store};
use crate::Identity;
use crate::identity_provider::model::{AccessTokenCheck, OpenidClient};
use crate::identity_provider::service::{no_client, secret_name};
use crate::identity_provider::store as providers;
use crate::openid::claims;
use crate::openid::http::HttpError;
use crate::openid::jwt::looks_signed;
use crate::openid::provider::{Granted, Provider, Secret};
use crate::token::service::Issued;

/// Longest access token that is looked at.
const MAX_ACCESS_TOKEN: usize = 64 * 1024;

/// What the browser is told when it begins.
pub(crate) struct Departure {
    pub url: String,
    pub begun: Begun,
}

/// What a browser brings back.
#[derive(Default)]
pub(crate) struct Arrival {
    pub state: String,
    pub code: Option<String>,
    pub error: Option<String>,
    pub issuer: Option<String>,
    pub cookie: Option<String>,
}

/// A provider that cannot be asked is nobody's fault here; a provider that refuses is the caller's.
pub(crate) fn fault(idp: &str, error: &HttpError) -> Fault {
    match error {
        HttpError::Unreachable(why) => {
            tracing::warn!(idp, why, "an identity provider cannot be asked");
            Fault::unavailable(format!(
                "The identity provider {idp} cannot be asked now, so this login cannot be checked. \
                 Try again later; other ways to log in are not affected."
            ))
            .retry_after(10)
        }
        HttpError::Refused { status, error } => {
            tracing::info!(idp, status, error, "an identity provider refused a login");
            Fault::unauthorized("The identity provider refuses this login.")
        }
    }
}

fn refused(idp: &str, what: &str, why: &str) -> Fault {
    tracing::info!(idp, why, "{what} was refused");
    Fault::unauthorized(format!("The {what} is not accepted: {why}."))
}

/// One OpenID client, ready to be used.
pub(crate) struct Speaking {
    pub entrance: Entrance,
    pub client: OpenidClient,
    pub provider: Provider,
    pub secret: Secret,
}

impl Speaking {
    pub fn idp(&self) -> &str {
        &self.entrance.provider.id
    }

    fn redirect_uri(&self, ctx: &Ctx) -> String {
        format!(
            "{}/v3/auth/OS-FEDERATION/identity_providers/{}/protocols/{}/callback",
            ctx.service_url(),
            self.entrance.protocol.idp_id,
            self.entrance.protocol.id
        )
    }

    pub(super) fn fault(&self, error: &HttpError) -> Fault {
        fault(self.idp(), error)
    }
}

impl Identity {
    /// The client of a protocol of an enabled provider.
    pub(crate) async fn speaking(&self, idp: &str, protocol: &str) -> Result<Speaking, Fault> {
        let entrance = self.entrance(idp, protocol).await?;
        let client =
            entrance.protocol.client.clone().ok_or_else(|| no_client(&entrance.protocol.id))?;
        let name = secret_name(&entrance.protocol.idp_id, &entrance.protocol.id);
        let secret = match &client.secret {
            None => None,
            Some(sealed) => Some(self.tokens.vault().open_sealed(&name, sealed)?),
        };
        let provider =
            self.providers.of(&client).map_err(|error| fault(&entrance.provider.id, &error))?;
        Ok(Speaking { entrance, client, provider, secret })
    }

    /// A token for an access token of the provider.
    pub(crate) async fn log_in_with_access_token(
        &self,
        idp: &str,
        protocol: &str,
        token: Zeroizing<String>,
        source: Option<IpAddr>,
    ) -> Result<Issued, Fault> {
        // Each may cost a question to the provider, in our name.
        let attempt = self.throttle.enter_from(source, self.kit.clock.now())?;
        let speaking = self.speaking(idp, protocol).await?;
        if token.is_empty() || token.len() > MAX_ACCESS_TOKEN {
            return Err(refused(idp, "access token", "it is empty or too long"));
        }
        let said = match speaking.client.access_tokens {
            AccessTokenCheck::Jwt => self.signed_access_token(&speaking, &token).await?,
            AccessTokenCheck::Introspection => self.introspected(&speaking, &token).await?,
        };
        let word = Word {
            assertion: claims::assertion(&said),
            subject: claims::subject_of(&said).unwrap_or_default(),
            provider_session: claims::session_of(&said),
            ends_at: claims::expiry(&said),
            keep: self.keep_access(&speaking, token).await,
        };
        let issued = self.log_in_by(&speaking.entrance, word).await?;
        attempt.give_back();
        Ok(issued)
    }

    /// With what the provider can be asked again about an access token: that about which it answers
    /// now. Not every provider knows again what it signed.
    async fn keep_access(&self, speaking: &Speaking, token: Zeroizing<String>) -> Keep {
        let (provider, client) = (&speaking.provider, &speaking.client);
        let said = provider.introspect(&client.client_id, &speaking.secret, &token).await;
        let introspection = said.is_ok_and(|said| said.get("active") == Some(&Value::Bool(true)));
        let user_info = matches!(provider.user_info(&token).await, Ok(Some(_)));
        Keep::access(token, Ways { introspection, user_info })
    }

    async fn signed_access_token(
        &self,
        speaking: &Speaking,
        token: &str,
    ) -> Result<Map<String, Value>, Fault> {
        let refused = |why: &str| refused(speaking.idp(), "access token", why);
        if !looks_signed(token) {
            return Err(refused("it is not a signed JSON web token"));
        }
        let checked =
            speaking.provider.verify(token).await.map_err(|error| speaking.fault(&error))?;
        let signed = checked.map_err(|error| refused(&error.to_string()))?;
        let client = &speaking.client;
        let now = self.kit.clock.now();
        claims::check_access_token(
            &signed,
            &client.issuer,
            |audience| client.accepts_audience(audience),
            now,
        )
        .map_err(|why| refused(&why))?;
        Ok(signed.claims)
    }

    async fn introspected(
        &self,
        speaking: &Speaking,
        token: &str,
    ) -> Result<Map<String, Value>, Fault> {
        let client = &speaking.client;
        let said = speaking
            .provider
            .introspect(&client.client_id, &speaking.secret, token)
            .await
            .map_err(|error| speaking.fault(&error))?;
        claims::check_introspection(
            &said,
            &client.issuer,
            |audience| client.accepts_audience(audience),
            self.kit.clock.now(),
        )
        .map_err(|why| refused(speaking.idp(), "access token", &why))?;
        let scopes = said.get("scope").and_then(Value::as_str).unwrap_or_default();
        let knows_person = scopes.split(' ').any(|scope| scope == "openid");
        let mut said = self.with_user_info(speaking, said, token, knows_person).await?;
        // What the provider answered came from it, whether or not it says so.
        said.insert("iss".to_owned(), Value::String(client.issuer.clone()));
        Ok(said)
    }

    /// Adds what the provider's user info says, which must be about the same person.
    async fn with_user_info(
        &self,
        speaking: &Speaking,
        mut said: Map<String, Value>,
        access_token: &str,
        ask: bool,
    ) -> Result<Map<String, Value>, Fault> {
        if !ask {
            return Ok(said);
        }
        let more = speaking.provider.user_info(access_token).await;
        let Some(more) = more.map_err(|error| speaking.fault(&error))? else {
            return Ok(said);
        };
        if claims::subject_of(&more) != claims::subject_of(&said) {
            return Err(refused(speaking.idp(), "login", "the user info is about somebody else"));
        }
        for (name, value) in more {
            said.entry(name).or_insert(value);
        }
        Ok(said)
    }

    /// Sends a browser to the provider.
    pub(crate) async fn begin_web_login(
        &self,
        ctx: &Ctx,
        idp: Option<&str>,
        protocol: &str,
        origin: Option<&str>,
    ) -> Result<Departure, Fault> {
        let origin = origin
            .filter(|origin| !origin.is_empty())
            .ok_or_else(|| Fault::bad_request("Request must have an origin query parameter"))?;
        let idp = match idp {
            Some(idp) => idp.to_owned(),
            None => self.only_provider_with(protocol).await?,
        };
        let speaking = self.speaking(&idp, protocol).await?;
        let trusted = trusted_dashboard(&speaking.client, origin).ok_or_else(|| {
            let shown: String = origin.chars().take(200).collect();
            tracing::info!(
                idp,
                origin = shown,
                "a web login for an untrusted dashboard was refused"
            );
            Fault::unauthorized(format!("{shown} is not a trusted dashboard host"))
        })?;
        let now = self.kit.clock.now();
        let begun = websso::begin(&self.tokens.vault(), &idp, protocol, &trusted, now)?;
        let redirect_uri = speaking.redirect_uri(ctx);
        let scopes = speaking.client.scopes.join(" ");
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", speaking.client.client_id.as_str()),
            ("redirect_uri", redirect_uri.as_str()),
            ("scope", scopes.as_str()),
            ("state", begun.state.as_str()),
            ("nonce", begun.nonce.as_str()),
            ("code_challenge", begun.challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        if speaking.client.scopes.iter().any(|scope| scope == "offline_access") {
            // Without the person's consent a provider leaves this scope out (Core, 11).
            parameters.push(("prompt", "consent"));
        }
        let url = speaking
            .provider
            .authorization_url(&parameters)
            .await
            .map_err(|error| speaking.fault(&error))?;
        Ok(Departure { url, begun })
    }

    /// The provider of a protocol, where only one has it.
    async fn only_provider_with(&self, protocol: &str) -> Result<String, Fault> {
        let id = protocol.to_owned();
        let found = self
            .look(move |tx| {
                let id = id.clone();
                Box::pin(async move { Ok(providers::protocols_named(tx, &id).await?) })
            })
            .await?;
        match found.as_slice() {
            [one] => Ok(one.idp_id.clone()),
            [] => Err(no_client(protocol)),
            _ => Err(Fault::bad_request(
                "More than one identity provider has this protocol: use the address below \
                 identity_providers, which names one.",
            )),
        }
    }

    /// Finishes a login that comes back from the provider: the page for the dashboard.
    pub(crate) async fn finish_web_login(
        &self,
        ctx: &Ctx,
        idp: &str,
        protocol: &str,
        arrival: Arrival,
    ) -> Result<Page, Fault> {
        let speaking = self.speaking(idp, protocol).await?;
        let refused = |why: &str| refused(idp, "login", why);
        let now = self.kit.clock.now();
        let returned = websso::finish(
            &self.tokens.vault(),
            idp,
            protocol,
            &arrival.state,
            arrival.cookie.as_deref(),
            now,
        )?;
        if !self.use_once(&format!("login {}", returned.id)).await? {
            return Err(refused("it was finished already"));
        }
        // RFC 9207: an answer of another provider is no answer of this one.
        if arrival.issuer.as_ref().is_some_and(|issuer| *issuer != speaking.client.issuer) {
            return Err(refused("another identity provider answered"));
        }
        if let Some(error) = arrival.error {
            let shown: String =
                error.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
            return Err(refused(&format!("the provider says {shown}")));
        }
        let code = arrival.code.ok_or_else(|| refused("the provider sent no code"))?;
        // What the operator no longer trusts gets nothing, though it was trusted when this began.
        let origin = trusted_dashboard(&speaking.client, &returned.origin)
            .ok_or_else(|| refused("the dashboard is not trusted any more"))?;
        let redirect_uri = speaking.redirect_uri(ctx);
        let granted = speaking
            .provider
            .redeem(
                &speaking.client.client_id,
                &speaking.secret,
                &code,
                &returned.verifier,
                &redirect_uri,
            )
            .await
            .map_err(|error| speaking.fault(&error))?;
        let word = self.word_of(&speaking, granted, &returned.nonce).await?;
        let issued = self.log_in_by(&speaking.entrance, word).await?;
        Ok(handing_over(&origin, &issued.text))
    }

    /// Checks what came for a code.
    async fn word_of(
        &self,
        speaking: &Speaking,
        granted: Granted,
        nonce: &str,
    ) -> Result<Word, Fault> {
        let refused = |why: &str| refused(speaking.idp(), "ID token", why);
        let text = granted.id_token.as_deref().ok_or_else(|| refused("there is none"))?;
        let checked =
            speaking.provider.verify(text).await.map_err(|error| speaking.fault(&error))?;
        let signed = checked.map_err(|error| refused(&error.to_string()))?;
        let client = &speaking.client;
        let now = self.kit.clock.now();
        claims::check_id_token(&signed, &client.issuer, &client.client_id, nonce, now)
            .map_err(|why| refused(&why))?;
        let provider_session = claims::session_of(&signed.claims);
        let lifetime = granted.expires_in.map(std::time::Duration::from_secs);
        let ends_at =
            lifetime.map(|lifetime| now.after(lifetime)).or(claims::expiry(&signed.claims));
        let said = match &granted.access_token {
            None => signed.claims,
            Some(token) => self.with_user_info(speaking, signed.claims, token, true).await?,
        };
        let keep = match (granted.refresh_token, granted.access_token) {
            (Some(token), _) => Keep::Refresh(token),
            (None, Some(token)) => self.keep_access(speaking, token).await,
            (None, None) => Keep::Nothing,
        };
        Ok(Word {
            assertion: claims::assertion(&said),
            subject: claims::subject_of(&said).unwrap_or_default(),
            provider_session,
            ends_at,
            keep,
        })
    }

    async fn use_once(&self, what: &str) -> Result<bool, Fault> {
        let id = digest_of(what);
        self.kit
            .db
            .transact(&database::Origin::system("federated-login"), move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let until = tx.now().after(sessions::USED_KEPT);
                    Ok::<_, Fault>(store::use_once(tx, &id, until).await?)
                })
            })
            .await
    }
}

/// What is remembered of something that counts once.
pub(super) fn digest_of(what: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(what.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The dashboard, as the operator wrote it, where the origin is one: the whole address is compared,
/// so that no path of a trusted host and no host that begins like one passes.
fn trusted_dashboard(client: &OpenidClient, origin: &str) -> Option<String> {
    let asked = reqwest::Url::parse(origin).ok()?;
    client
        .trusted_dashboards
        .iter()
        .find(|trusted| reqwest::Url::parse(trusted).is_ok_and(|trusted| trusted == asked))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_of_trusted_dashboards_are_sent_to() {
        let client = OpenidClient {
            issuer: "https://op".into(),
            client_id: "cloud".into(),
            secret: None,
            scopes: vec![],
            audiences: vec![],
            access_tokens: AccessTokenCheck::Jwt,
            trusted_dashboards: vec!["https://Console.example/auth/websso/".into()],
            ca_certificate: None,
        };
        assert!(trusted_dashboard(&client, "https://console.example/auth/websso/").is_some());
        assert!(trusted_dashboard(&client, "https://console.example:443/auth/websso/").is_some());
        for origin in [
            "http://console.example/auth/websso/",
            "https://console.example/auth/websso",
            "https://console.example/auth/websso/../../evil",
            "https://console.example/auth/websso/?next=https://evil.example",
            "https://console.example/auth/websso/#x",
            "https://console.example@evil.example/auth/websso/",
            "https://console.example.evil.example/auth/websso/",
            "https://evil.example/auth/websso/",
            "//console.example/auth/websso/",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(trusted_dashboard(&client, origin), None, "{origin}");
        }
    }
}
