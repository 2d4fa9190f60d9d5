//! What a token rests on besides its user's own roles, as far as services care; and the access
//! rules of application credentials, which every service's guard checks.

use cloud_types::{Fault, UserId};

use crate::Service;

/// Nothing of it for an ordinary login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegation {
    /// The trust by which the bearer has the roles.
    pub trust: Option<TokenTrust>,
    /// The application credential.
    pub application_credential: Option<TokenApplicationCredential>,
    /// The id of the EC2 credential with which the token was got.
    pub ec2_key: Option<String>,
    /// OAuth 1.0a.
    pub oauth: Option<TokenOauth>,
    /// The identity provider, and what it said.
    pub federation: Option<TokenFederation>,
}

/// A trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTrust {
    /// The trust.
    pub id: String,
    /// Who gives.
    pub trustor: UserId,
    /// Who is trusted.
    pub trustee: UserId,
    /// Whether the token's user is the trustor rather than the trustee.
    pub impersonation: bool,
}

/// An application credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenApplicationCredential {
    /// The credential.
    pub id: String,
    /// Whether it may not be used to make more credentials and trusts.
    pub restricted: bool,
    /// All that may be asked with it; `None`: no such limit.
    pub access_rules: Option<Vec<AccessRule>>,
}

/// An access token of OAuth 1.0a.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOauth {
    /// Whom the user authorised.
    pub consumer: String,
    /// The access token's id.
    pub access_token: String,
}

/// A federated login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFederation {
    /// Who vouched for the user.
    pub identity_provider: String,
    /// By which protocol.
    pub protocol: String,
    /// Groups that the mapping put the user into for this login.
    pub groups: Vec<String>,
}

impl Delegation {
    /// Whether the bearer acts for somebody else, or with a part of somebody's rights: by a trust
    /// or OAuth. Upstream's `is_delegated_auth`.
    pub fn is_delegated(&self) -> bool {
        self.trust.is_some() || self.oauth.is_some()
    }

    /// Checks a request against the access rules, if there are any.
    ///
    /// # Errors
    /// 401, as upstream's middleware answers, when no rule allows the request.
    pub(crate) fn admits(&self, service: Service, method: &str, path: &str) -> Result<(), Fault> {
        let rules = self.application_credential.as_ref().and_then(|it| it.access_rules.as_ref());
        let Some(rules) = rules else {
            return Ok(());
        };
        // A token can always be looked at, or no service could check it.
        let looks_at_token =
            service == Service::Identity && method == "GET" && path.ends_with("/v3/auth/tokens");
        if looks_at_token || rules.iter().any(|rule| rule.allows(service, method, path)) {
            return Ok(());
        }
        Err(Fault::unauthorized(
            "The access rules of the application credential do not allow this request.",
        ))
    }
}

/// A kind of request that an application credential allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccessRule {
    /// The service's type in the catalogue.
    pub service: String,
    /// `GET`, `POST` …
    pub method: String,
    /// The path below the service's endpoint, with `*` (or `{anything}`) for one segment or a part
    /// of it and `**` for any rest: `/v2.1/servers/*/ips`.
    pub path: String,
}

impl AccessRule {
    fn allows(&self, service: Service, method: &str, path: &str) -> bool {
        self.service == service.catalog_type()
            && self.method == method
            && (path.strip_prefix(service.prefix()).is_some_and(|below| matches(&self.path, below))
                || matches(&self.path, path))
    }
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Literal(u8),
    /// At least one byte, none of them a slash.
    Segment,
    /// Anything, or nothing.
    Rest,
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::with_capacity(pattern.len());
    let mut rest = pattern.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let part = match first {
            b'*' if after.first() == Some(&b'*') => {
                rest = &after[1..];
                Part::Rest
            }
            b'*' => Part::Segment,
            b'{' => match after.iter().position(|byte| *byte == b'}') {
                Some(end) => {
                    rest = &after[end + 1..];
                    Part::Segment
                }
                None => Part::Literal(b'{'),
            },
            byte => Part::Literal(*byte),
        };
        parts.push(part);
    }
    parts
}

/// Whether the whole path fits the pattern. Takes pattern × path steps at most, whatever both are:
/// `reached[n]` says whether what was looked at of the pattern fits the first `n` bytes.
fn matches(pattern: &str, path: &str) -> bool {
    let path = path.as_bytes();
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in parts(pattern) {
        let mut next = vec![false; path.len() + 1];
        match part {
            Part::Literal(wanted) => {
                for (at, byte) in path.iter().enumerate() {
                    next[at + 1] = reached[at] && *byte == wanted;
                }
            }
            Part::Segment => {
                for (at, byte) in path.iter().enumerate() {
                    next[at + 1] = (reached[at] || next[at]) && *byte != b'/';
                }
            }
            Part::Rest => {
                let mut any = false;
                for (at, reachable) in reached.iter().enumerate() {
                    any |= reachable;
                    next[at] = any;
                }
            }
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_are_any_rest() {
        let cases = [
            ("/v2.1/servers", "/v2.1/servers", true),
            ("/v2.1/servers", "/v2.1/servers/1", false),
            ("/v2.1/servers", "/v2x1/servers", false),
            ("/v2.1/servers/*", "/v2.1/servers/1", true),
            ("/v2.1/servers/*", "/v2.1/servers/", false),
            ("/v2.1/servers/*", "/v2.1/servers/1/ips", false),
            ("/v2.1/servers/*/ips", "/v2.1/servers/1/ips", true),
            ("/v2.1/servers/{server_id}/ips", "/v2.1/servers/abc/ips", true),
            ("/v2.1/servers/{server_id}/ips", "/v2.1/servers/a/b/ips", false),
            ("/v2.1/s*s", "/v2.1/servers", true),
            ("/v2.1/**", "/v2.1/servers/1/ips", true),
            ("/v2.1/**", "/v2.1/", true),
            ("/v2.1/**", "/v2.0/", false),
            ("/**/ips", "/v2.1/servers/1/ips", true),
            ("**", "", true),
            ("/v2.1/{broken", "/v2.1/{broken", true),
            ("/v2.1/{broken", "/v2.1/x", false),
            ("", "/", false),
        ];
        for (pattern, path, fits) in cases {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
        // No pattern takes long.
        let stars = format!("*{}b", "a*".repeat(100));
        assert!(!matches(&stars, &"a".repeat(5000)));
    }

    #[test]
    fn only_what_a_rule_names_is_admitted() {
        let delegation = |rules: Option<Vec<(&str, &str, &str)>>| Delegation {
            application_credential: Some(TokenApplicationCredential {
                id: "a".into(),
                restricted: true,
                access_rules: rules.map(|rules| {
                    rules
                        .into_iter()
                        .map(|(service, method, path)| AccessRule {
                            service: service.into(),
                            method: method.into(),
                            path: path.into(),
                        })
                        .collect()
                }),
            }),
            ..Delegation::default()
        };
        let some = delegation(Some(vec![("compute", "GET", "/v2.1/servers")]));
        let ask = |delegation: &Delegation, service, method, path| {
            delegation.admits(service, method, path).map_err(|fault| fault.status())
        };
        assert_eq!(ask(&some, Service::Compute, "GET", "/compute/v2.1/servers"), Ok(()));
        assert_eq!(ask(&some, Service::Compute, "POST", "/compute/v2.1/servers"), Err(401));
        assert_eq!(ask(&some, Service::Network, "GET", "/compute/v2.1/servers"), Err(401));
        assert_eq!(ask(&some, Service::Compute, "GET", "/compute/v2.1/flavors"), Err(401));
        assert_eq!(ask(&some, Service::Identity, "GET", "/identity/v3/auth/tokens"), Ok(()));
        assert_eq!(ask(&some, Service::Identity, "GET", "/identity/v3/users"), Err(401));
        let nothing = delegation(Some(Vec::new()));
        assert_eq!(ask(&nothing, Service::Compute, "GET", "/compute/v2.1/servers"), Err(401));
        for free in [delegation(None), Delegation::default()] {
            assert_eq!(ask(&free, Service::Compute, "DELETE", "/compute/v2.1/servers/1"), Ok(()));
        }
    }
}
