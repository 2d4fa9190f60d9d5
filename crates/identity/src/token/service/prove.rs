//! Who somebody is, by each method.

use std::net::IpAddr;
use std::sync::Arc;

use cloud_types::{Fault, Timestamp, UserId};
use zeroize::Zeroizing;

use super::refused;
use crate::compliance::service::Authenticated;
use crate::token::basis::Basis;
use crate::token::format::{Claims, Methods};
use crate::token::model::{Proof, Reference};
use crate::{Identity, compliance};

/// Who was proven, and what of the proof goes into the new token.
pub(crate) struct Proven {
    pub user: UserId,
    /// How.
    pub methods: Methods,
    /// The hash that the password matched: if it is another one by the time the token is made,
    /// the proof is void.
    pub hash: Option<String>,
    /// The token that was presented.
    pub from: Option<Arc<Claims>>,
    /// What else the proof rests on.
    pub basis: Basis,
    /// The token must end then; otherwise as long as tokens live.
    pub ends_by: Option<Timestamp>,
}

impl Proven {
    /// Somebody, by a method that leaves nothing else behind.
    pub fn by(user: UserId, methods: Methods) -> Proven {
        Proven { user, methods, hash: None, from: None, basis: Basis::default(), ends_by: None }
    }

    /// The same person, proven in two ways.
    pub(super) fn and(self, other: Proven) -> Result<Proven, Fault> {
        if self.user != other.user {
            return Err(refused());
        }
        let either = |one: Basis, other: Basis| Basis {
            trust: one.trust.or(other.trust),
            application_credential: one.application_credential.or(other.application_credential),
            ec2_key: one.ec2_key.or(other.ec2_key),
            oauth: one.oauth.or(other.oauth),
            federation: one.federation.or(other.federation),
            implications: one.implications.or(other.implications),
        };
        Ok(Proven {
            user: self.user,
            methods: self.methods.and(other.methods),
            hash: self.hash.or(other.hash),
            from: self.from.or(other.from),
            basis: either(self.basis, other.basis),
            ends_by: [self.ends_by, other.ends_by].into_iter().flatten().min(),
        })
    }
}

impl Identity {
    pub(super) async fn prove(
        &self,
        proof: Proof,
        source: Option<IpAddr>,
    ) -> Result<Proven, Fault> {
        match proof {
            Proof::Password(who, secret) => self.prove_password(who, secret, source).await,
            Proof::Token(text) => {
                let (claims, _) = self.tokens.check(&text, self.kit.clock.now())?;
                // A token never outlives the one that it was got from.
                Ok(Proven {
                    methods: claims.methods.and(Methods::TOKEN),
                    basis: claims.basis.clone(),
                    ends_by: Some(claims.expires_at),
                    from: Some(claims.clone()),
                    ..Proven::by(claims.user.id.clone(), Methods::TOKEN)
                })
            }
        }
    }

    async fn prove_password(
        &self,
        who: Reference,
        secret: Zeroizing<String>,
        source: Option<IpAddr>,
    ) -> Result<Proven, Fault> {
        let Authenticated { user, hash, expired } = self.authenticate(who, secret, source).await?;
        if expired {
            return Err(compliance::model::expired(&user.id));
        }
        Ok(Proven { hash: Some(hash), ..Proven::by(user.id, Methods::PASSWORD) })
    }
}
