//! What can be done with credentials.

use cloud_types::{Fault, ProjectId, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Target};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::model::{
    Credential, EC2, Ec2Blob, check_delegated_project, check_unrestricted, id_of_access_key,
    is_cut_out, owned_by,
};
use super::store::{self, Wanted};
use crate::fields::Patch;
use crate::token::service::revoke;
use crate::token::{Revocation, RevocationKind};
use crate::{Identity, project, user, wire};

/// A new credential.
#[derive(Clone)]
pub(crate) struct NewCredential {
    pub user_id: UserId,
    pub project_id: Option<ProjectId>,
    pub kind: String,
    pub blob: Zeroizing<String>,
    pub extra: Map<String, Value>,
}

/// What changes of one.
#[derive(Clone)]
pub(crate) struct CredentialChange {
    pub user_id: Option<UserId>,
    pub project_id: Patch<ProjectId>,
    pub kind: Option<String>,
    pub blob: Option<Zeroizing<String>>,
    pub extra: Map<String, Value>,
}

fn journal(
    tx: &mut Tx,
    action: &'static str,
    before: Option<&Credential>,
    after: Option<&Credential>,
) {
    let one = after.or(before);
    tx.journal(JournalEntry {
        kind: "credential",
        id: one.map(|it| it.id.clone()).unwrap_or_default(),
        project: one.and_then(|it| it.project_id.clone()),
        action,
        before: before.map(Credential::public),
        after: after.map(Credential::public),
    });
}

fn is_ec2(kind: &str) -> bool {
    kind.eq_ignore_ascii_case(EC2)
}

impl Identity {
    pub(crate) async fn list_credentials(
        &self,
        ctx: &Ctx,
        filters: Filters,
    ) -> Result<Vec<Credential>, Fault> {
        let token = ctx.token()?;
        ctx.authorise("identity:list_credentials", &owned_by(&token.user_id))?;
        // Whoever may see one that belongs to nobody may see all.
        let sees_all = ctx.may("identity:get_credential", &Target::none());
        let wanted = Wanted {
            user: Some(token.user_id.clone()).filter(|_| !sees_all),
            project: token.project.as_ref().map(|it| it.id.clone()).filter(|_| is_cut_out(token)),
        };
        let page = wire::page_request(&filters)?;
        let vault = self.tokens.vault();
        self.look(move |tx| {
            let (wanted, filters, page) = (wanted.clone(), filters.clone(), page.clone());
            let vault = vault.clone();
            Box::pin(async move { store::list(tx, &vault, &wanted, &filters, &page).await })
        })
        .await
    }

    /// A credential that the caller may do `rule` to.
    pub(crate) async fn credential(
        &self,
        ctx: &Ctx,
        rule: &'static str,
        id: &str,
    ) -> Result<Credential, Fault> {
        let (id, vault, asker) = (id.to_owned(), self.tokens.vault(), ctx.clone());
        self.look(move |tx| {
            let (id, vault, asker) = (id.clone(), vault.clone(), asker.clone());
            Box::pin(async move {
                let found = store::get(tx, &vault, &id).await?;
                allowed(&asker, rule, &id, found)
            })
        })
        .await
    }

    pub(crate) async fn create_credential(
        &self,
        ctx: &Ctx,
        new: NewCredential,
    ) -> Result<Credential, Fault> {
        ctx.authorise("identity:create_credential", &owned_by(&new.user_id))?;
        let token = ctx.token()?.clone();
        if is_ec2(&new.kind) {
            check_unrestricted(&token)?;
        }
        check_delegated_project(&token, new.project_id.as_ref())?;
        let (id, blob) = if is_ec2(&new.kind) {
            if new.project_id.is_none() {
                return Err(Fault::bad_request("'project_id' is a required property"));
            }
            let mut blob = Ec2Blob::read(&new.blob)?;
            blob.bind(&token);
            (id_of_access_key(&blob.access), blob.into_text())
        } else {
            (Uuid::new_v4().simple().to_string(), new.blob.clone())
        };
        let vault = self.tokens.vault();
        self.change(ctx, move |tx| {
            let (new, id, blob, vault) = (new.clone(), id.clone(), blob.clone(), vault.clone());
            Box::pin(async move {
                let now = tx.now();
                let credential = Credential {
                    id,
                    user_id: new.user_id,
                    project_id: new.project_id,
                    kind: new.kind,
                    blob,
                    extra: new.extra,
                    // An access key may come again after it was deleted: later than before.
                    serial: u64::try_from(now.0).unwrap_or(0),
                    totp_step: None,
                    generation: 1,
                    created_at: now,
                };
                let credential = add(tx, &vault, credential).await?;
                Ok((credential, Vec::new()))
            })
        })
        .await
    }

    pub(crate) async fn update_credential(
        &self,
        ctx: &Ctx,
        id: &str,
        change: CredentialChange,
    ) -> Result<Credential, Fault> {
        let (id, vault, asker) = (id.to_owned(), self.tokens.vault(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, vault, asker) = (id.clone(), vault.clone(), asker.clone());
            let change = change.clone();
            Box::pin(async move {
                const RULE: &str = "identity:update_credential";
                tx.lock(&[ObjectLock::new("credential", &id)]).await?;
                let found = store::get(tx, &vault, &id).await?;
                let before = allowed(&asker, RULE, &id, found)?;
                let mut after = before.clone();
                if let Some(user) = change.user_id {
                    after.user_id = user;
                }
                change.project_id.apply(&mut after.project_id);
                if let Some(kind) = change.kind {
                    after.kind = kind;
                }
                if let Some(blob) = change.blob {
                    after.blob = blob;
                }
                after.extra.extend(change.extra);
                if is_ec2(&before.kind) {
                    Ec2Blob::read(&after.blob)?.check_bound(&before.ec2()?)?;
                } else if is_ec2(&after.kind) {
                    return Err(Fault::bad_request(
                        "A credential of another type cannot become an ec2 credential: its id \
                         would not follow from its access key. Create one.",
                    ));
                }
                // Whoever may change it must not give it away, or to another project.
                asker.authorise(RULE, &after.target())?;
                check_delegated_project(asker.token()?, after.project_id.as_ref())?;
                if after.user_id != before.user_id {
                    must_exist(tx, &after).await?;
                }
                if after.blob != before.blob {
                    after.totp_step = None;
                }
                after.serial += 1;
                store::update(tx, &vault, &after).await?;
                journal(tx, "update", Some(&before), Some(&after));
                let mut ended = Vec::new();
                if is_ec2(&before.kind) {
                    ended.push(end_key(tx, &id, before.serial).await?);
                }
                Ok((after, ended))
            })
        })
        .await
    }

    pub(crate) async fn delete_credential(&self, ctx: &Ctx, id: &str) -> Result<(), Fault> {
        let (id, vault, asker) = (id.to_owned(), self.tokens.vault(), ctx.clone());
        self.change(ctx, move |tx| {
            let (id, vault, asker) = (id.clone(), vault.clone(), asker.clone());
            Box::pin(async move {
                tx.lock(&[ObjectLock::new("credential", &id)]).await?;
                let found = store::get(tx, &vault, &id).await?;
                let credential = allowed(&asker, "identity:delete_credential", &id, found)?;
                Ok(((), remove(tx, &credential).await?))
            })
        })
        .await
    }
}

/// The credential that was found, if the caller may do `rule` to it. Who may do it to nobody's
/// credential is told 404 when there is none; all others 403 either way.
fn allowed(
    ctx: &Ctx,
    rule: &str,
    id: &str,
    found: Option<Credential>,
) -> Result<Credential, Fault> {
    ctx.authorise(rule, &found.as_ref().map_or_else(Target::none, Credential::target))?;
    let credential = found.ok_or_else(|| wire::not_found("credential", id))?;
    check_delegated_project(ctx.token()?, credential.project_id.as_ref())?;
    Ok(credential)
}

async fn must_exist(tx: &mut Tx, credential: &Credential) -> Result<(), Fault> {
    if user::store::get(tx, &credential.user_id).await?.is_none() {
        return Err(wire::not_found("user", &credential.user_id));
    }
    if let Some(project) = &credential.project_id
        && project::store::get(tx, project).await?.is_none()
    {
        return Err(wire::not_found("project", project));
    }
    Ok(())
}

/// Stores a new credential of a user, and perhaps a project, that exist.
pub(crate) async fn add(
    tx: &mut Tx,
    vault: &crate::vault::Vault,
    credential: Credential,
) -> Result<Credential, Fault> {
    tx.lock(&[ObjectLock::new("user", &credential.user_id)]).await?;
    must_exist(tx, &credential).await?;
    if !store::insert(tx, vault, &credential).await? {
        return Err(Fault::conflict(format!(
            "Conflict occurred attempting to store credential - Duplicate entry found with ID {}.",
            credential.id
        )));
    }
    journal(tx, "create", None, Some(&credential));
    Ok(credential)
}

/// Deletes a credential, and ends the tokens that were got with it.
pub(crate) async fn remove(tx: &mut Tx, credential: &Credential) -> Result<Vec<Revocation>, Fault> {
    store::delete(tx, &credential.id).await?;
    journal(tx, "delete", Some(credential), None);
    if !is_ec2(&credential.kind) {
        return Ok(Vec::new());
    }
    Ok(vec![end_key(tx, &credential.id, credential.serial).await?])
}

async fn end_key(tx: &mut Tx, id: &str, serial: u64) -> Result<Revocation, Fault> {
    Ok(revoke(tx, RevocationKind::Ec2Key, id, "", serial + 1).await?)
}

/// Deletes what a user has, who is being deleted.
pub(crate) async fn forget_user(tx: &mut Tx, user: &UserId) -> Result<Vec<Revocation>, Fault> {
    let keys = store::ec2_keys_of_user(tx, user).await?;
    store::delete_of_user(tx, user).await?;
    end_keys(tx, keys).await
}

/// Deletes what is for a project, which is being deleted.
pub(crate) async fn forget_project(
    tx: &mut Tx,
    project: &ProjectId,
) -> Result<Vec<Revocation>, Fault> {
    let keys = store::ec2_keys_of_project(tx, project).await?;
    store::delete_of_project(tx, project).await?;
    end_keys(tx, keys).await
}

async fn end_keys(tx: &mut Tx, keys: Vec<(String, u64)>) -> Result<Vec<Revocation>, Fault> {
    let mut ended = Vec::with_capacity(keys.len());
    for (id, serial) in keys {
        ended.push(end_key(tx, &id, serial).await?);
    }
    Ok(ended)
}
