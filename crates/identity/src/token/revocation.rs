//! What is revoked, in memory. Rows come from `identity_revocations`; see [`super`].

use std::collections::HashMap;

use cloud_types::Timestamp;

use super::format::{Claims, Scope};

/// What a revocation speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RevocationKind {
    /// One token, by audit id.
    Token,
    /// A token and all that were got from it, by the first one's audit id.
    Chain,
    /// All tokens of a user below a serial.
    User,
    /// A user's tokens for one scope below a serial of the user.
    Grant,
    /// All tokens scoped to a project below a serial.
    Project,
    /// All tokens of users of a domain, or scoped to it or its projects, below a serial.
    Domain,
}

impl RevocationKind {
    pub fn as_str(self) -> &'static str {
        match self {
            RevocationKind::Token => "token",
            RevocationKind::Chain => "chain",
            RevocationKind::User => "user",
            RevocationKind::Grant => "grant",
            RevocationKind::Project => "project",
            RevocationKind::Domain => "domain",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            RevocationKind::Token,
            RevocationKind::Chain,
            RevocationKind::User,
            RevocationKind::Grant,
            RevocationKind::Project,
            RevocationKind::Domain,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// A row of `identity_revocations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub id: String,
    pub kind: RevocationKind,
    /// An audit id, or the id of a user, project or domain.
    pub subject: String,
    /// For a grant: [`Scope::key`]. Otherwise empty.
    pub scope: String,
    /// The first serial that is good again.
    pub serial: u64,
    /// When no token that it speaks of can be alive any more.
    pub expires_at: Timestamp,
}

/// All revocations that may still matter.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    known: HashMap<(RevocationKind, String, String), (u64, Timestamp)>,
}

impl Revocations {
    pub fn add(&mut self, revocation: &Revocation) {
        let key = (revocation.kind, revocation.subject.clone(), revocation.scope.clone());
        let entry = self.known.entry(key).or_insert((0, revocation.expires_at));
        entry.0 = entry.0.max(revocation.serial);
        entry.1 = entry.1.max(revocation.expires_at);
    }

    pub fn forget_expired(&mut self, now: Timestamp) {
        self.known.retain(|_, (_, expires_at)| *expires_at >= now);
    }

    pub fn covers(&self, claims: &Claims) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let below = |kind, subject: &str, scope: &str, serial: u64| {
            self.known
                .get(&(kind, subject.to_owned(), scope.to_owned()))
                .is_some_and(|(first_good, _)| serial < *first_good)
        };
        let named = |kind, audit: String| self.known.contains_key(&(kind, audit, String::new()));
        let user = claims.user.id.as_str();
        if named(RevocationKind::Token, claims.audit_id.to_string())
            || named(RevocationKind::Chain, claims.chain().to_string())
            || below(RevocationKind::User, user, "", claims.user.serial)
            || below(RevocationKind::Grant, user, &claims.scope.key(), claims.user.serial)
            || below(
                RevocationKind::Domain,
                claims.user_domain.id.as_str(),
                "",
                claims.user_domain.serial,
            )
        {
            return true;
        }
        match &claims.scope {
            Scope::Project(project, domain) => {
                below(RevocationKind::Project, project.id.as_str(), "", project.serial)
                    || below(RevocationKind::Domain, domain.id.as_str(), "", domain.serial)
            }
            Scope::Domain(domain) => {
                below(RevocationKind::Domain, domain.id.as_str(), "", domain.serial)
            }
            Scope::Unscoped | Scope::System => false,
        }
    }
}
