//! What a token rests on besides its user's own roles: a trust, an application credential, an EC2
//! key, an OAuth access token, an identity provider's word. Each can be taken away, which ends the
//! token; so each is named in it with the serial that was read. Pure.

use cloud_types::{DomainId, UserId};
use service_kit::{
    AccessRule, Delegation, TokenApplicationCredential, TokenFederation, TokenOauth, TokenTrust,
};

use super::bytes::{Input, Put, put_count, put_id, put_number, put_stamp, put_text};
use super::format::Stamp;

/// See the module. Nothing of it for an ordinary login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The trust by which the bearer has the roles.
    pub trust: Option<TrustBasis>,
    /// The application credential.
    pub application_credential: Option<ApplicationCredentialBasis>,
    /// The EC2 credential, by its id.
    pub ec2_key: Option<Stamp<String>>,
    /// OAuth 1.0a.
    pub oauth: Option<OauthBasis>,
    /// The identity provider and what it said.
    pub federation: Option<FederationBasis>,
    /// Set where the roles were cut out of what somebody has (by a trust, an application credential,
    /// OAuth): the serial of what roles imply. Such a token may name a role that was only implied,
    /// so ending an implication ends it.
    pub implications: Option<u64>,
}

/// A trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBasis {
    /// The trust itself.
    pub trust: Stamp<String>,
    /// Whether the token's user is the trustor; else it is the trustee.
    pub impersonation: bool,
    /// The other one of trustor and trustee, and after it everybody else in a chain of redelegated
    /// trusts: what ends one of them ends the token.
    pub others: Vec<(Stamp<UserId>, Stamp<DomainId>)>,
}

/// An application credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationCredentialBasis {
    /// The credential itself.
    pub credential: Stamp<String>,
    /// Whether it may not be used to make more credentials and trusts.
    pub restricted: bool,
    /// All that may be asked with it; `None`: no such limit.
    pub access_rules: Option<Vec<AccessRule>>,
}

/// An access token of OAuth 1.0a.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthBasis {
    /// Whom the user authorised.
    pub consumer: Stamp<String>,
    /// The access token's id.
    pub access_token: Stamp<String>,
}

/// A federated login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationBasis {
    /// Who vouched for the user.
    pub identity_provider: Stamp<String>,
    /// By which protocol.
    pub protocol: String,
    /// Groups that the mapping put the user into for this login.
    pub groups: Vec<Stamp<String>>,
}

const TRUST: u8 = 1;
const APPLICATION_CREDENTIAL: u8 = 1 << 1;
const EC2_KEY: u8 = 1 << 2;
const OAUTH: u8 = 1 << 3;
const FEDERATION: u8 = 1 << 4;
const IMPLICATIONS: u8 = 1 << 5;

impl Basis {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Put {
        let flags = [
            (self.trust.is_some(), TRUST),
            (self.application_credential.is_some(), APPLICATION_CREDENTIAL),
            (self.ec2_key.is_some(), EC2_KEY),
            (self.oauth.is_some(), OAUTH),
            (self.federation.is_some(), FEDERATION),
            (self.implications.is_some(), IMPLICATIONS),
        ];
        out.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum());
        if let Some(TrustBasis { trust, impersonation, others }) = &self.trust {
            put_stamp(out, trust)?;
            out.push(u8::from(*impersonation));
            put_count(out, others.len())?;
            for (user, domain) in others {
                put_stamp(out, user)?;
                put_stamp(out, domain)?;
            }
        }
        if let Some(basis) = &self.application_credential {
            put_stamp(out, &basis.credential)?;
            out.push(u8::from(basis.restricted) | u8::from(basis.access_rules.is_some()) << 1);
            if let Some(rules) = &basis.access_rules {
                put_count(out, rules.len())?;
                for AccessRule { service, method, path } in rules {
                    for text in [service, method, path] {
                        put_text(out, text);
                    }
                }
            }
        }
        if let Some(key) = &self.ec2_key {
            put_stamp(out, key)?;
        }
        if let Some(OauthBasis { consumer, access_token }) = &self.oauth {
            put_stamp(out, consumer)?;
            put_stamp(out, access_token)?;
        }
        if let Some(FederationBasis { identity_provider, protocol, groups }) = &self.federation {
            put_stamp(out, identity_provider)?;
            put_id(out, protocol)?;
            put_count(out, groups.len())?;
            for group in groups {
                put_stamp(out, group)?;
            }
        }
        if let Some(serial) = self.implications {
            put_number(out, serial);
        }
        Some(())
    }

    pub(super) fn take(input: &mut Input<'_>) -> Option<Basis> {
        let flags = input.byte()?;
        if flags >= IMPLICATIONS << 1 {
            return None;
        }
        let mut basis = Basis::default();
        if flags & TRUST != 0 {
            basis.trust = Some(TrustBasis {
                trust: input.stamp()?,
                impersonation: flag(input.byte()?)?,
                others: input.list(|input| Some((input.stamp()?, input.stamp()?)))?,
            });
        }
        if flags & APPLICATION_CREDENTIAL != 0 {
            let credential = input.stamp()?;
            let flags = input.byte()?;
            let rule = |input: &mut Input<'_>| {
                let (service, method, path) = (input.text()?, input.text()?, input.text()?);
                Some(AccessRule { service, method, path })
            };
            basis.application_credential = Some(ApplicationCredentialBasis {
                credential,
                restricted: flags & 1 != 0,
                access_rules: if flags >> 1 != 0 { Some(input.list(rule)?) } else { None },
            });
        }
        if flags & EC2_KEY != 0 {
            basis.ec2_key = Some(input.stamp()?);
        }
        if flags & OAUTH != 0 {
            basis.oauth =
                Some(OauthBasis { consumer: input.stamp()?, access_token: input.stamp()? });
        }
        if flags & FEDERATION != 0 {
            basis.federation = Some(FederationBasis {
                identity_provider: input.stamp()?,
                protocol: input.id()?,
                groups: input.list(Input::stamp)?,
            });
        }
        if flags & IMPLICATIONS != 0 {
            basis.implications = Some(input.number()?);
        }
        Some(basis)
    }

    /// All that a revocation may name.
    pub(super) fn add_subjects(&self, subjects: &mut Vec<String>) {
        if let Some(TrustBasis { trust, impersonation: _, others }) = &self.trust {
            subjects.push(trust.id.clone());
            for (user, domain) in others {
                subjects.extend([user.id.to_string(), domain.id.to_string()]);
            }
        }
        if let Some(basis) = &self.application_credential {
            subjects.push(basis.credential.id.clone());
        }
        subjects.extend(self.ec2_key.iter().map(|key| key.id.clone()));
        if let Some(OauthBasis { consumer, access_token }) = &self.oauth {
            subjects.extend([consumer.id.clone(), access_token.id.clone()]);
        }
        if let Some(basis) = &self.federation {
            subjects.push(basis.identity_provider.id.clone());
            subjects.extend(basis.groups.iter().map(|group| group.id.clone()));
        }
    }

    /// What services see of it.
    pub(crate) fn delegation(&self, user: &UserId) -> Delegation {
        Delegation {
            trust: self.trust.as_ref().map(|basis| {
                let other = basis.others.first().map_or(user, |(other, _)| &other.id);
                let (trustor, trustee) =
                    if basis.impersonation { (user, other) } else { (other, user) };
                TokenTrust {
                    id: basis.trust.id.clone(),
                    trustor: trustor.clone(),
                    trustee: trustee.clone(),
                    impersonation: basis.impersonation,
                }
            }),
            application_credential: self.application_credential.as_ref().map(|basis| {
                TokenApplicationCredential {
                    id: basis.credential.id.clone(),
                    restricted: basis.restricted,
                    access_rules: basis.access_rules.clone(),
                }
            }),
            ec2_key: self.ec2_key.as_ref().map(|key| key.id.clone()),
            oauth: self.oauth.as_ref().map(|basis| TokenOauth {
                consumer: basis.consumer.id.clone(),
                access_token: basis.access_token.id.clone(),
            }),
            federation: self.federation.as_ref().map(|basis| TokenFederation {
                identity_provider: basis.identity_provider.id.clone(),
                protocol: basis.protocol.clone(),
                groups: basis.groups.iter().map(|group| group.id.clone()).collect(),
            }),
        }
    }
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
