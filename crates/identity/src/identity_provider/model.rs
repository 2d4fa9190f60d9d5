//! What identity providers, their protocols and OpenID clients are.

use std::fmt;

use cloud_types::{DomainId, Fault};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An identity provider.
#[derive(Clone, Debug)]
pub(crate) struct IdentityProvider {
    pub id: String,
    /// Where its people live here.
    pub domain_id: DomainId,
    pub enabled: bool,
    pub description: Option<String>,
    /// How long, in minutes, a group membership that it vouched for holds after a login.
    pub authorization_ttl: Option<u32>,
    /// How it names itself in what it says.
    pub remote_ids: Vec<String>,
    pub serial: u64,
    pub generation: i64,
}

impl IdentityProvider {
    /// What the journal keeps, and the API shows with links.
    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "domain_id": self.domain_id,
            "enabled": self.enabled,
            "description": self.description,
            "authorization_ttl": self.authorization_ttl,
            "remote_ids": self.remote_ids,
        })
    }
}

/// A protocol by which a provider vouches for people.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub id: String,
    pub idp_id: String,
    pub mapping_id: String,
    /// The attribute of the assertion in which the provider names itself.
    pub remote_id_attribute: Option<String>,
    /// How we speak with the provider, where we do so ourselves.
    pub client: Option<OpenidClient>,
    pub generation: i64,
}

impl Protocol {
    /// What the journal keeps.
    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "idp_id": self.idp_id,
            "mapping_id": self.mapping_id,
            "remote_id_attribute": self.remote_id_attribute,
            "openid_client": self.client.as_ref().map(OpenidClient::public),
        })
    }
}

/// How an access token that somebody brings is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AccessTokenCheck {
    /// By the provider's published keys: it must be a signed JWT for one of the audiences.
    Jwt,
    /// By asking the provider each time.
    Introspection,
}

/// This cloud as a client of an OpenID provider.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenidClient {
    /// The provider, as it names itself: `https://…`.
    pub issuer: String,
    pub client_id: String,
    /// Sealed; `None` for a public client.
    #[serde(skip)]
    pub secret: Option<Vec<u8>>,
    pub scopes: Vec<String>,
    /// Whom access tokens must be meant for; the client itself unless said.
    pub audiences: Vec<String>,
    pub access_tokens: AccessTokenCheck,
    /// Where a browser may be sent with a token.
    pub trusted_dashboards: Vec<String>,
    /// PEM of the authority that signed the provider's certificate, where it is no public one.
    pub ca_certificate: Option<String>,
}

/// Leaves out the secret, sealed as it is.
impl fmt::Debug for OpenidClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenidClient")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl OpenidClient {
    /// What the API and the journal show: whether there is a secret, not which.
    pub fn public(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "client_id": self.client_id,
            "has_secret": self.secret.is_some(),
            "scopes": self.scopes,
            "audiences": self.audiences,
            "access_tokens": self.access_tokens,
            "trusted_dashboards": self.trusted_dashboards,
            "ca_certificate": self.ca_certificate,
        })
    }

    /// Whether an access token may be meant for this audience.
    pub fn accepts_audience(&self, audience: &str) -> bool {
        if self.audiences.is_empty() {
            return audience == self.client_id;
        }
        self.audiences.iter().any(|wanted| wanted == audience)
    }

    /// Checks what an operator wrote.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn check(&self) -> Result<(), Fault> {
        let wrong = |field: &str, why: &str| {
            Err(Fault::bad_request(format!(
                "Invalid input for field 'openid_client.{field}': {why}."
            )))
        };
        if !is_safe_url(&self.issuer) || self.issuer.contains(['?', '#']) {
            return wrong(
                "issuer",
                "it has to be an https address without query or fragment (http \
                                    only for this machine)",
            );
        }
        if self.client_id.is_empty() || self.client_id.len() > 255 {
            return wrong("client_id", "it has 1 to 255 characters");
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            return wrong("scopes", "'openid' has to be among them");
        }
        if self.scopes.iter().any(|scope| scope.is_empty() || scope.contains(char::is_whitespace)) {
            return wrong("scopes", "a scope is a word");
        }
        for origin in &self.trusted_dashboards {
            if !is_safe_url(origin) || origin.contains('#') {
                return wrong(
                    "trusted_dashboards",
                    "each has to be the whole https address that takes the token (http only for \
                     the person's own machine)",
                );
            }
        }
        if let Some(pem) = &self.ca_certificate
            && reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_or(true, |found| found.is_empty())
        {
            return wrong("ca_certificate", "it holds no certificate in PEM form");
        }
        Ok(())
    }
}

/// Whether secrets may travel to this address: https, or http to the machine itself.
pub(crate) fn is_safe_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else {
        return false;
    };
    if !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_travel_by_https_or_stay_on_the_machine() {
        for (url, safe) in [
            ("https://login.example.org/realm", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080/x", true),
            ("http://localhost:9990/auth/websso/", true),
            ("http://login.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("https://user:pw@login.example.org", false),
            ("javascript:alert(1)", false),
            ("//example.org", false),
            ("", false),
        ] {
            assert_eq!(is_safe_url(url), safe, "{url}");
        }
    }

    #[test]
    fn neither_debug_nor_the_api_shows_a_secret() {
        let client = OpenidClient {
            issuer: "https://login.example.org".into(),
            client_id: "cloud".into(),
            secret: Some(b"sealed-secret".to_vec()),
            scopes: vec!["openid".into()],
            audiences: vec![],
            access_tokens: AccessTokenCheck::Jwt,
            trusted_dashboards: vec![],
            ca_certificate: None,
        };
        let stored = serde_json::to_string(&client).unwrap();
        for text in [format!("{client:?}"), client.public().to_string(), stored] {
            assert!(!text.contains("sealed") && !text.contains("115"), "{text}");
        }
        assert!(client.accepts_audience("cloud") && !client.accepts_audience("other"));
    }
}
