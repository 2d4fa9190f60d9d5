//! What can be done with EC2 keys.

use std::time::Duration;

use cloud_types::{Fault, ProjectId, Timestamp, UserId};
use database::{ObjectLock, Tx};
use serde_json::{Map, json};
use service_kit::{Ctx, Target};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::Signed;
use super::signature::{check_ec2, check_s3};
use crate::credential::model::{
    Credential, EC2, Ec2Blob, check_delegated_project, check_unrestricted, id_of_access_key,
    owned_by,
};
use crate::credential::{self, store};
use crate::token::model::{Reference, WantedScope};
use crate::token::service::{Issued, Proven};
use crate::token::{Methods, Stamp};
use crate::{Identity, project, trust, user, wire};

/// How old a signed request may be; upstream's `auth_ttl`.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);

/// Whose signature it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Ec2,
    S3,
}

fn no_key() -> Fault {
    Fault::not_found("EC2 access key not found.")
}

impl Identity {
    pub(crate) async fn ec2_keys(
        &self,
        ctx: &Ctx,
        owner: &UserId,
    ) -> Result<Vec<Credential>, Fault> {
        ctx.authorise("identity:ec2_list_credentials", &owned_by(owner))?;
        let (vault, owner, token) = (self.tokens.vault(), owner.clone(), ctx.token()?.clone());
        self.look(move |tx| {
            let (vault, owner, token) = (vault.clone(), owner.clone(), token.clone());
            Box::pin(async move {
                if user::store::get(tx, &owner).await?.is_none() {
                    return Err(wire::not_found("user", &owner));
                }
                let mut keys = store::of_user(tx, &vault, &owner, EC2).await?;
                keys.retain(|key| check_delegated_project(&token, key.project_id.as_ref()).is_ok());
                Ok(keys)
            })
        })
        .await
    }

    pub(crate) async fn ec2_key(&self, ctx: &Ctx, access: &str) -> Result<Credential, Fault> {
        let (vault, access, asker) = (self.tokens.vault(), access.to_owned(), ctx.clone());
        self.look(move |tx| {
            let (vault, access, asker) = (vault.clone(), access.clone(), asker.clone());
            Box::pin(async move {
                allowed(tx, &vault, &asker, "identity:ec2_get_credential", &access).await
            })
        })
        .await
    }

    pub(crate) async fn create_ec2_key(
        &self,
        ctx: &Ctx,
        owner: &UserId,
        project: &ProjectId,
    ) -> Result<Credential, Fault> {
        ctx.authorise("identity:ec2_create_credential", &owned_by(owner))?;
        let token = ctx.token()?.clone();
        check_unrestricted(&token)?;
        let (vault, owner, project) = (self.tokens.vault(), owner.clone(), project.clone());
        let word = || Uuid::new_v4().simple().to_string();
        let (access, secret) = (word(), Zeroizing::new(word()));
        self.change(ctx, move |tx| {
            let (vault, owner, project) = (vault.clone(), owner.clone(), project.clone());
            let (access, secret, token) = (access.clone(), secret.clone(), token.clone());
            Box::pin(async move {
                if user::store::get(tx, &owner).await?.is_none() {
                    return Err(wire::not_found("user", &owner));
                }
                if project::store::get(tx, &project).await?.is_none() {
                    return Err(wire::not_found("project", &project));
                }
                check_delegated_project(&token, Some(&project))?;
                let text = json!({"access": access, "secret": *secret}).to_string();
                let mut blob = Ec2Blob::read(&text)?;
                blob.bind(&token);
                let now = tx.now();
                let credential = Credential {
                    id: id_of_access_key(&access),
                    user_id: owner,
                    project_id: Some(project),
                    kind: EC2.to_owned(),
                    blob: blob.into_text(),
                    extra: Map::new(),
                    serial: u64::try_from(now.0).unwrap_or(0),
                    totp_step: None,
                    generation: 1,
                    created_at: now,
                };
                let credential = credential::service::add(tx, &vault, credential).await?;
                Ok((credential, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn delete_ec2_key(&self, ctx: &Ctx, access: &str) -> Result<(), Fault> {
        let (vault, access, asker) = (self.tokens.vault(), access.to_owned(), ctx.clone());
        self.change(ctx, move |tx| {
            let (vault, access, asker) = (vault.clone(), access.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("credential", id_of_access_key(&access))]).await?;
                let rule = "identity:ec2_delete_credential";
                let credential = allowed(tx, &vault, &asker, rule, &access).await?;
                Ok(((), credential::service::remove(tx, &credential).await?))
            })
        })
        .await
    }

    /// A token for a request that was signed with a key.
    pub(crate) async fn token_for_signed(
        &self,
        ctx: &Ctx,
        signed: Signed,
        dialect: Dialect,
    ) -> Result<Issued, Fault> {
        let rule = match dialect {
            Dialect::Ec2 => "identity:ec2tokens_validate",
            Dialect::S3 => "identity:s3tokens_validate",
        };
        ctx.authorise(rule, &Target::none())?;
        let access = signed.access.as_deref().filter(|access| !access.is_empty());
        let access = access.ok_or_else(|| Fault::unauthorized("EC2 Signature not supplied"))?;
        let id = id_of_access_key(access);
        let vault = self.tokens.vault();
        let found = self
            .look(move |tx| {
                let (vault, id) = (vault.clone(), id.clone());
                Box::pin(async move {
                    let found = store::get(tx, &vault, &id).await?;
                    let key = found.filter(|key| key.kind == EC2).ok_or_else(no_key)?;
                    let trustee = match key.ec2()?.text("trust_id") {
                        // A key that was made by impersonation belongs to the trustor, but it is
                        // the trustee who may use the trust.
                        Some(id) => trust::store::get(tx, id).await?.map(|it| it.trustee),
                        None => None,
                    };
                    Ok((key, trustee))
                })
            })
            .await?;
        let (key, trustee) = found;
        let blob = key.ec2()?;
        let secret = Zeroizing::new(blob.text("secret").unwrap_or_default().to_owned());
        match dialect {
            Dialect::Ec2 => check_ec2(&signed, &secret)?,
            Dialect::S3 => check_s3(&signed, &secret)?,
        }
        check_age(&signed, self.kit.clock.now())?;
        let project = key.project_id.as_ref().ok_or_else(no_key)?;
        let mut proven = Proven::by(trustee.unwrap_or(key.user_id.clone()), Methods::EC2);
        proven.basis.ec2_key = Some(Stamp::new(key.id.clone(), key.serial));
        if let Some(id) = blob.text("app_cred_id") {
            proven.bind_to_credential(id);
        }
        if blob.text("access_token_id").is_some() {
            return Err(Fault::unauthorized(
                "A key that was made with an OAuth access token opens nothing without it.",
            ));
        }
        let scope = match blob.text("trust_id") {
            Some(id) => WantedScope::Trust(id.to_owned()),
            None => WantedScope::Project(Reference::Id(project.to_string())),
        };
        self.issue_for(proven, scope, true).await
    }
}

/// The key, if the caller may do `rule` to it. That there is none is told to everybody.
async fn allowed(
    tx: &mut Tx,
    vault: &crate::vault::Vault,
    ctx: &Ctx,
    rule: &str,
    access: &str,
) -> Result<Credential, Fault> {
    let id = id_of_access_key(access);
    let found = store::get(tx, vault, &id).await?.filter(|key| key.kind == EC2);
    let key = found.ok_or_else(|| wire::not_found("credential", &id))?;
    ctx.authorise(rule, &key.target())?;
    check_delegated_project(ctx.token()?, key.project_id.as_ref())?;
    Ok(key)
}

fn check_age(signed: &Signed, now: Timestamp) -> Result<(), Fault> {
    let Some(text) = signed.signed_at() else {
        // Whoever signed has left it off.
        return Ok(());
    };
    let when = Timestamp::parse(&text)
        .or_else(|| basic_form(&text))
        .ok_or_else(|| Fault::unauthorized("Credential timestamp is invalid."))?;
    if when.after(SIGNED_FOR) < now {
        return Err(Fault::unauthorized("Credential is expired"));
    }
    Ok(())
}

/// `20150830T123600Z`.
fn basic_form(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' || !text.is_ascii() {
        return None;
    }
    let part = |range: std::ops::Range<usize>| &text[range];
    Timestamp::parse(&format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0..4),
        part(4..6),
        part(6..8),
        part(9..11),
        part(11..13),
        part(13..15)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_a_quarter_of_an_hour() {
        let signed = |when: &str| -> Signed {
            serde_json::from_value(json!({"headers": {"X-Amz-Date": when}})).unwrap()
        };
        let now = Timestamp::parse("2015-08-30T12:51:00Z").unwrap();
        assert!(check_age(&Signed::default(), now).is_ok());
        assert!(check_age(&signed("20150830T123600Z"), now).is_ok());
        assert!(check_age(&signed("20150830T123559Z"), now).is_err());
        assert!(check_age(&signed("2015-08-30T12:36:00Z"), now).is_ok());
        assert!(check_age(&signed("yesterday"), now).is_err());
        assert!(check_age(&signed("20150830T1236é0"), now).is_err());
    }
}
