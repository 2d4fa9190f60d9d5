//! What application credentials and access rules are. Pure.

use std::fmt;

use cloud_types::{Fault, ProjectId, RoleId, Timestamp, UserId};
use serde_json::{Value, json};
use service_kit::{AccessRule, Ctx};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::role::model::Role;
use crate::wire;

/// An application credential.
#[derive(Clone)]
pub(crate) struct ApplicationCredential {
    pub id: String,
    pub user_id: UserId,
    pub project_id: ProjectId,
    pub name: String,
    pub description: Option<String>,
    pub secret_hash: String,
    pub unrestricted: bool,
    pub expires_at: Option<Timestamp>,
    pub roles: Vec<RoleId>,
    /// None of them: no such limit.
    pub access_rules: Vec<OwnRule>,
    pub created_at: Timestamp,
}

/// Leaves out the hash.
impl fmt::Debug for ApplicationCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApplicationCredential")
            .field("id", &self.id)
            .field("user_id", &self.user_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An access rule of a user, which their application credentials share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnRule {
    pub id: String,
    pub rule: AccessRule,
}

impl OwnRule {
    /// What is shown within a credential, and in tokens.
    pub fn public(&self) -> Value {
        let AccessRule { service, method, path } = &self.rule;
        json!({"id": self.id, "service": service, "method": method, "path": path})
    }

    /// What the API shows.
    pub fn view(&self, ctx: &Ctx, user: &UserId) -> Value {
        let mut view = self.public();
        let collection = format!("users/{user}/access_rules");
        view["links"] = json!({"self": wire::self_link(ctx, &collection, &self.id)});
        view
    }
}

impl ApplicationCredential {
    /// What the API shows; the roles as far as they still exist.
    pub fn view(&self, ctx: &Ctx, roles: &[Role]) -> Value {
        let mut view = self.public();
        view["roles"] = self
            .roles
            .iter()
            .filter_map(|id| roles.iter().find(|role| role.id == *id))
            .map(Role::public)
            .collect();
        let collection = format!("users/{}/application_credentials", self.user_id);
        view["links"] = json!({"self": wire::self_link(ctx, &collection, &self.id)});
        view
    }

    /// What the journal keeps: no secret.
    pub fn public(&self) -> Value {
        let mut view = json!({
            "id": self.id,
            "user_id": self.user_id,
            "project_id": self.project_id,
            "name": self.name,
            "description": self.description,
            "unrestricted": self.unrestricted,
            "expires_at": self.expires_at.map(Timestamp::iso_micros_naive),
            "roles": self.roles.iter().map(|id| json!({"id": id})).collect::<Vec<_>>(),
            "system": null,
        });
        if !self.access_rules.is_empty() {
            view["access_rules"] = self.access_rules.iter().map(OwnRule::public).collect();
        }
        view
    }

    /// The rules as a token carries them.
    pub fn rules_of_token(&self) -> Option<Vec<AccessRule>> {
        let rules: Vec<AccessRule> = self.access_rules.iter().map(|own| own.rule.clone()).collect();
        (!rules.is_empty()).then_some(rules)
    }
}

/// Longest path of an access rule; upstream's.
const PATH: usize = 225;
/// All access rules of one credential together, in bytes: with fifty roles beside them a token
/// stays below the longest that is made.
pub(crate) const RULES_BYTES: usize = 3000;

/// Reads an access rule's parts as upstream does.
pub(crate) fn access_rule(service: &str, method: &str, path: &str) -> Result<AccessRule, Fault> {
    let wrong = |field: &str, why: &str| {
        Fault::bad_request(format!("Invalid input for field 'access_rules/{field}': {why}."))
    };
    let is_word = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !is_word(service) {
        return Err(wrong("service", "it is not a service type"));
    }
    if !["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"].contains(&method) {
        return Err(wrong("method", "it is not one of DELETE, GET, HEAD, PATCH, POST and PUT"));
    }
    if !path.starts_with('/') || path.chars().count() > PATH {
        return Err(wrong("path", "it does not begin with a slash, or is too long"));
    }
    Ok(AccessRule { service: service.into(), method: method.into(), path: path.into() })
}

/// Secrets that were made here are 512 random bits: nobody guesses them, so that one round of
/// SHA-256 is as good as a slow hash, and a program's login costs no more than that.
const FAST: &str = "$sha256$";

/// The hash of a secret that was made here.
pub(crate) fn fast_hash(id: &str, secret: &str) -> String {
    let digest = Sha256::new_with_prefix(id.as_bytes()).chain_update(b"\0").chain_update(secret);
    let digits: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{FAST}{digits}")
}

/// Whether the secret is the one of a hash that was made by [`fast_hash`]; `None` for others.
pub(crate) fn fast_verify(id: &str, secret: &str, hash: &str) -> Option<bool> {
    hash.starts_with(FAST).then(|| fast_hash(id, secret).as_bytes().ct_eq(hash.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_secret_is_known_by_its_hash_for_its_credential_alone() {
        let hash = fast_hash("a", "secret");
        assert_eq!(fast_verify("a", "secret", &hash), Some(true));
        assert_eq!(fast_verify("a", "other", &hash), Some(false));
        assert_eq!(fast_verify("b", "secret", &hash), Some(false));
        assert_eq!(fast_verify("a", "secret", "$argon2id$v=19$m=8,t=1,p=1$x$y"), None);
    }

    #[test]
    fn what_is_no_access_rule_is_refused_by_its_part() {
        assert!(access_rule("compute", "GET", "/v2.1/servers/*").is_ok());
        for (service, method, path, part) in [
            ("", "GET", "/", "service"),
            ("com pute", "GET", "/", "service"),
            ("compute", "get", "/", "method"),
            ("compute", "TRACE", "/", "method"),
            ("compute", "GET", "v2.1", "path"),
            ("compute", "GET", "", "path"),
        ] {
            let fault = access_rule(service, method, path).unwrap_err();
            assert!(fault.message.contains(part), "{}", fault.message);
        }
    }
}
