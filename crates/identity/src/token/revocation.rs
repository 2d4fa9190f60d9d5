//! What is revoked, in memory. Rows come from `identity_revocations`; see [`super`].

use std::collections::HashMap;

use cloud_types::{DomainId, Timestamp, UserId};

use super::basis::Basis;
use super::format::{Claims, Scope, Stamp};

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
    /// All tokens by a trust.
    Trust,
    /// All tokens by an application credential.
    ApplicationCredential,
    /// All tokens by an EC2 access key.
    Ec2Key,
    /// All tokens by a consumer's access tokens.
    OauthConsumer,
    /// All tokens by one OAuth access token.
    OauthToken,
    /// All tokens of users for whom an identity provider vouched.
    IdentityProvider,
    /// All tokens of users whom a mapping put into a group, for one scope or (empty) for all.
    /// Members of the group have revocations of their own.
    Group,
    /// All tokens that name a role and were cut out of what somebody has, below the serial of what
    /// roles imply: nothing may imply the role any more.
    ImpliedRole,
}

impl RevocationKind {
    const ALL: [RevocationKind; 14] = [
        RevocationKind::Token,
        RevocationKind::Chain,
        RevocationKind::User,
        RevocationKind::Grant,
        RevocationKind::Project,
        RevocationKind::Domain,
        RevocationKind::Trust,
        RevocationKind::ApplicationCredential,
        RevocationKind::Ec2Key,
        RevocationKind::OauthConsumer,
        RevocationKind::OauthToken,
        RevocationKind::IdentityProvider,
        RevocationKind::Group,
        RevocationKind::ImpliedRole,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            RevocationKind::Token => "token",
            RevocationKind::Chain => "chain",
            RevocationKind::User => "user",
            RevocationKind::Grant => "grant",
            RevocationKind::Project => "project",
            RevocationKind::Domain => "domain",
            RevocationKind::Trust => "trust",
            RevocationKind::ApplicationCredential => "application_credential",
            RevocationKind::Ec2Key => "ec2_key",
            RevocationKind::OauthConsumer => "oauth_consumer",
            RevocationKind::OauthToken => "oauth_token",
            RevocationKind::IdentityProvider => "identity_provider",
            RevocationKind::Group => "group",
            RevocationKind::ImpliedRole => "implied_role",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        RevocationKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A row of `identity_revocations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub id: String,
    pub kind: RevocationKind,
    /// An audit id, or the id of what is no longer good.
    pub subject: String,
    /// For a grant, and for a group's role: [`Scope::key`]. Otherwise empty.
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
        let named = |kind, audit: String| self.known.contains_key(&(kind, audit, String::new()));
        named(RevocationKind::Token, claims.audit_id.to_string())
            || named(RevocationKind::Chain, claims.chain().to_string())
            || self.person(&claims.user, &claims.user_domain, &claims.scope)
            || self.scope(&claims.scope)
            || self.basis(&claims.basis, &claims.scope)
            || claims.basis.implications.is_some_and(|serial| {
                let kind = RevocationKind::ImpliedRole;
                claims.roles.iter().any(|role| self.below(kind, role.as_str(), "", serial))
            })
    }

    fn below(&self, kind: RevocationKind, subject: &str, scope: &str, serial: u64) -> bool {
        self.known
            .get(&(kind, subject.to_owned(), scope.to_owned()))
            .is_some_and(|(first_good, _)| serial < *first_good)
    }

    fn stamp(&self, kind: RevocationKind, stamp: &Stamp<String>) -> bool {
        self.below(kind, &stamp.id, "", stamp.serial)
    }

    /// Somebody whose rights the token rests on: its user, or another in its trust.
    fn person(&self, user: &Stamp<UserId>, domain: &Stamp<DomainId>, scope: &Scope) -> bool {
        let id = user.id.as_str();
        self.below(RevocationKind::User, id, "", user.serial)
            || self.below(RevocationKind::Grant, id, &scope.key(), user.serial)
            || self.below(RevocationKind::Domain, domain.id.as_str(), "", domain.serial)
    }

    fn scope(&self, scope: &Scope) -> bool {
        let domain_is_gone = |domain: &Stamp<DomainId>| {
            self.below(RevocationKind::Domain, domain.id.as_str(), "", domain.serial)
        };
        match scope {
            Scope::Project(project, domain) => {
                self.below(RevocationKind::Project, project.id.as_str(), "", project.serial)
                    || domain_is_gone(domain)
            }
            Scope::Domain(domain) => domain_is_gone(domain),
            Scope::Unscoped | Scope::System => false,
        }
    }

    fn basis(&self, basis: &Basis, scope: &Scope) -> bool {
        let Basis { trust, application_credential, ec2_key, oauth, federation, implications: _ } =
            basis;
        trust.as_ref().is_some_and(|basis| {
            self.stamp(RevocationKind::Trust, &basis.trust)
                || basis.others.iter().any(|(user, domain)| self.person(user, domain, scope))
        }) || application_credential.as_ref().is_some_and(|basis| {
            self.stamp(RevocationKind::ApplicationCredential, &basis.credential)
        }) || ec2_key.as_ref().is_some_and(|key| self.stamp(RevocationKind::Ec2Key, key))
            || oauth.as_ref().is_some_and(|basis| {
                self.stamp(RevocationKind::OauthConsumer, &basis.consumer)
                    || self.stamp(RevocationKind::OauthToken, &basis.access_token)
            })
            || federation.as_ref().is_some_and(|basis| {
                self.stamp(RevocationKind::IdentityProvider, &basis.identity_provider)
                    || basis.groups.iter().any(|group| {
                        let of_scope = scope.key();
                        ["", of_scope.as_str()].into_iter().any(|scope| {
                            self.below(RevocationKind::Group, &group.id, scope, group.serial)
                        })
                    })
            })
    }
}
