//! Who somebody is, by each method.

use std::net::IpAddr;
use std::sync::Arc;

use cloud_types::{Fault, Timestamp, UserId};
use zeroize::Zeroizing;

use super::refused;
use super::scope::find_user;
use crate::application_credential::model::fast_verify;
use crate::compliance::service::Authenticated;
use crate::credential::model::TOTP;
use crate::token::basis::{ApplicationCredentialBasis, Basis};
use crate::token::format::{Claims, Methods, Stamp};
use crate::token::model::{CredentialReference, Proof, Reference};
use crate::token::totp::step_of_code;
use crate::{Identity, application_credential, compliance, credential};

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
    /// Codes of authenticator apps, by credential and step: each counts once, for one token.
    pub totp: Vec<(String, i64)>,
}

impl Proven {
    /// Somebody, by a method that leaves nothing else behind.
    pub fn by(user: UserId, methods: Methods) -> Proven {
        Proven {
            user,
            methods,
            hash: None,
            from: None,
            basis: Basis::default(),
            ends_by: None,
            totp: Vec::new(),
        }
    }

    /// The token will rest on this application credential; what it is worth is looked up when the
    /// token is made.
    pub fn bind_to_credential(&mut self, id: &str) {
        self.basis.application_credential = Some(ApplicationCredentialBasis {
            credential: Stamp::new(id.to_owned(), 0),
            restricted: true,
            access_rules: None,
        });
    }

    /// The groups that an identity provider put them into for this login.
    pub fn groups(&self) -> Vec<String> {
        let federation = self.basis.federation.as_ref();
        federation
            .map(|basis| basis.groups.iter().map(|group| group.id.clone()).collect())
            .unwrap_or_default()
    }

    /// The same person, proven in two ways.
    pub(super) fn and(mut self, other: Proven) -> Result<Proven, Fault> {
        if self.user != other.user {
            return Err(refused());
        }
        self.totp.extend(other.totp);
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
            totp: self.totp,
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
            Proof::Totp(who, code) => self.prove_totp(who, code, source).await,
            Proof::ApplicationCredential(which, secret) => {
                self.prove_credential(which, secret, source).await
            }
            Proof::Oauth1(signed) => self.prove_access_token(signed.ok_or_else(refused)?).await,
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
        if let Some(proven) = self.prove_in_directory(&who, &secret, source).await? {
            return Ok(proven);
        }
        let Authenticated { user, hash, expired } = self.authenticate(who, secret, source).await?;
        if expired {
            return Err(compliance::model::expired(&user.id));
        }
        Ok(Proven { hash: Some(hash), ..Proven::by(user.id, Methods::PASSWORD) })
    }

    /// Six digits can be guessed: wrong codes count as wrong passwords do.
    async fn prove_totp(
        &self,
        who: Reference,
        code: Zeroizing<String>,
        source: Option<IpAddr>,
    ) -> Result<Proven, Fault> {
        let vault = self.tokens.vault();
        let found = self
            .look(move |tx| {
                let (who, vault) = (who.clone(), vault.clone());
                Box::pin(async move {
                    let Some(user) = find_user(tx, &who).await? else {
                        return Ok(None);
                    };
                    let seeds = credential::store::of_user(tx, &vault, &user.id, TOTP).await?;
                    Ok::<_, Fault>(Some((user, seeds)))
                })
            })
            .await?;
        let named = found.as_ref().map(|(user, _)| user.id.to_string()).unwrap_or_default();
        let attempt = self.throttle.enter(&named, source, self.kit.clock.now())?;
        let (user, seeds) = found.ok_or_else(refused)?;
        let (now, previous) = (self.kit.clock.now(), self.config.totp_previous_windows);
        let matching = seeds.iter().find_map(|seed| {
            let step = step_of_code(seed.blob.trim(), &code, now, previous)?;
            // One that was used already is refused here; two at once are told apart when the
            // token is made.
            (seed.totp_step.is_none_or(|used| used < step)).then(|| (seed.id.clone(), step))
        });
        let used = matching.ok_or_else(refused)?;
        attempt.give_back();
        Ok(Proven { totp: vec![used], ..Proven::by(user.id, Methods::TOTP) })
    }

    async fn prove_credential(
        &self,
        which: CredentialReference,
        secret: Zeroizing<String>,
        source: Option<IpAddr>,
    ) -> Result<Proven, Fault> {
        let found = self
            .look(move |tx| {
                let which = which.clone();
                Box::pin(async move {
                    let found = match &which {
                        CredentialReference::Id(id) => {
                            application_credential::store::get(tx, id).await?
                        }
                        CredentialReference::Name(name, user) => match find_user(tx, user).await? {
                            Some(user) => {
                                application_credential::store::by_name(tx, &user.id, name).await?
                            }
                            None => None,
                        },
                    };
                    Ok::<_, Fault>(found)
                })
            })
            .await?;
        let named = found.as_ref().map(|it| it.id.clone()).unwrap_or_default();
        let attempt = self.throttle.enter(&named, source, self.kit.clock.now())?;
        let quick = found.as_ref().and_then(|it| fast_verify(&it.id, &secret, &it.secret_hash));
        let matches = match quick {
            Some(true) => true,
            // What is wrong takes as long as what is unknown.
            Some(false) => self.passwords.verify(secret, None).await?,
            None => {
                let hash = found.as_ref().map(|it| it.secret_hash.clone());
                self.passwords.verify(secret, hash).await?
            }
        };
        let credential = found.filter(|_| matches).ok_or_else(refused)?;
        attempt.give_back();
        let mut proven = Proven::by(credential.user_id, Methods::APPLICATION_CREDENTIAL);
        proven.bind_to_credential(&credential.id);
        Ok(proven)
    }
}
