//! What may be done with flavors. The only file that the rest of compute calls.

use std::collections::BTreeMap;

use cloud_types::{Fault, ProjectId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::json;
use service_kit::{Ctx, Kit, Target};

use super::model::Flavor;
use super::store::{self, FlavorQuery};

const KIND: &str = "flavor";

/// The flavor, when the caller may use it: public, or shared with the project, or an administrator
/// asks.
///
/// # Errors
/// 404 when there is none, or none that the caller may know of.
pub async fn visible(tx: &mut Tx, ctx: &Ctx, flavor_id: &str) -> Result<Flavor, Fault> {
    let missing = || Fault::not_found(format!("Flavor {} could not be found.", cut(flavor_id)));
    let flavor = store::get(tx, flavor_id).await?.ok_or_else(missing)?;
    if flavor.is_public || ctx.may("compute:flavors:all", &Target::none()) {
        return Ok(flavor);
    }
    let project = ctx.project().map_err(|_| missing())?;
    if store::has_access(tx, flavor_id, &project).await? { Ok(flavor) } else { Err(missing()) }
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A page of flavors; one more than the limit is read, to know whether more follow.
///
/// # Errors
/// 400 for a marker that names none.
pub async fn list(kit: &Kit, query: FlavorQuery) -> Result<Vec<Flavor>, Fault> {
    kit.db
        .read(move |tx| {
            let query = query.clone();
            Box::pin(async move {
                store::list(tx, &query).await?.ok_or_else(|| {
                    Fault::bad_request(format!(
                        "marker [{}] not found",
                        cut(query.marker.as_deref().unwrap_or_default())
                    ))
                })
            })
        })
        .await
}

/// One flavor.
///
/// # Errors
/// As [`visible`].
pub async fn show(kit: &Kit, ctx: &Ctx, flavor_id: &str) -> Result<Flavor, Fault> {
    let (ctx, flavor_id) = (ctx.clone(), flavor_id.to_owned());
    kit.db
        .read(move |tx| {
            let (ctx, flavor_id) = (ctx.clone(), flavor_id.clone());
            Box::pin(async move { visible(tx, &ctx, &flavor_id).await })
        })
        .await
}

/// Makes a flavor.
///
/// # Errors
/// 403, 409 when name or id is taken.
pub async fn create(kit: &Kit, ctx: &Ctx, flavor: Flavor) -> Result<Flavor, Fault> {
    ctx.authorise("compute:flavors:create", &Target::none())?;
    kit.transact(ctx, move |tx| {
        let flavor = flavor.clone();
        Box::pin(async move {
            tx.lock(&[ObjectLock::new("flavor_names", "all")]).await?;
            match store::taken(tx, &flavor).await? {
                (_, true) => {
                    return Err(Fault::conflict(format!(
                        "Flavor with name {} already exists.",
                        flavor.name
                    )));
                }
                (true, _) => {
                    return Err(Fault::conflict(format!(
                        "Flavor with ID {} already exists.",
                        flavor.flavor_id
                    )));
                }
                _ => {}
            }
            store::insert(tx, &flavor).await?;
            journal(tx, "create", None, Some(&flavor));
            Ok(flavor)
        })
    })
    .await
}

fn journal(tx: &mut Tx, action: &'static str, before: Option<&Flavor>, after: Option<&Flavor>) {
    let id = before.or(after).map_or_else(String::new, |flavor| flavor.flavor_id.clone());
    tx.journal(JournalEntry {
        kind: KIND,
        id,
        project: None,
        action,
        before: before.map(Flavor::journal_view),
        after: after.map(Flavor::journal_view),
    });
}

/// Reads a flavor, changes it by `change`, stores it.
async fn update(
    kit: &Kit,
    ctx: &Ctx,
    rule: &'static str,
    flavor_id: &str,
    change: impl Fn(&mut Flavor) -> Result<(), Fault> + Clone + Send + Sync + 'static,
) -> Result<Flavor, Fault> {
    ctx.authorise(rule, &Target::none())?;
    let (caller, ctx, flavor_id) = (ctx, ctx.clone(), flavor_id.to_owned());
    kit.transact(caller, move |tx| {
        let (ctx, flavor_id, change) = (ctx.clone(), flavor_id.clone(), change.clone());
        Box::pin(async move {
            tx.lock(&[ObjectLock::new(KIND, &flavor_id)]).await?;
            let before = visible(tx, &ctx, &flavor_id).await?;
            let mut flavor = before.clone();
            change(&mut flavor)?;
            if flavor != before {
                store::save(tx, &flavor).await?;
                journal(tx, "update", Some(&before), Some(&flavor));
            }
            Ok(flavor)
        })
    })
    .await
}

/// Sets the description (2.55).
///
/// # Errors
/// 403, 404.
pub async fn describe(
    kit: &Kit,
    ctx: &Ctx,
    flavor_id: &str,
    description: Option<String>,
) -> Result<Flavor, Fault> {
    update(kit, ctx, "compute:flavors:update", flavor_id, move |flavor| {
        flavor.description = description.clone();
        Ok(())
    })
    .await
}

/// Adds or replaces extra specs.
///
/// # Errors
/// 403, 404, 400 for more than 128.
pub async fn set_specs(
    kit: &Kit,
    ctx: &Ctx,
    flavor_id: &str,
    specs: BTreeMap<String, String>,
) -> Result<Flavor, Fault> {
    const MAX_SPECS: usize = 128;
    update(kit, ctx, "compute:flavors:set_extra_specs", flavor_id, move |flavor| {
        flavor.extra_specs.extend(specs.clone());
        if flavor.extra_specs.len() > MAX_SPECS {
            return Err(Fault::bad_request(format!(
                "A flavor has at most {MAX_SPECS} extra specs."
            )));
        }
        Ok(())
    })
    .await
}

/// Takes an extra spec away.
///
/// # Errors
/// 403, 404.
pub async fn unset_spec(kit: &Kit, ctx: &Ctx, flavor_id: &str, key: &str) -> Result<Flavor, Fault> {
    let key = key.to_owned();
    update(kit, ctx, "compute:flavors:set_extra_specs", flavor_id, move |flavor| {
        match flavor.extra_specs.remove(&key) {
            Some(_) => Ok(()),
            None => Err(no_such_spec(flavor, &key)),
        }
    })
    .await
}

/// The refusal for an extra spec that a flavor does not have.
pub fn no_such_spec(flavor: &Flavor, key: &str) -> Fault {
    Fault::not_found(format!(
        "Flavor {} has no extra specs with key {}.",
        flavor.flavor_id,
        cut(key)
    ))
}

/// Deletes a flavor. Servers of it stay as they are.
///
/// # Errors
/// 403, 404.
pub async fn delete(kit: &Kit, ctx: &Ctx, flavor_id: &str) -> Result<(), Fault> {
    ctx.authorise("compute:flavors:delete", &Target::none())?;
    let (caller, ctx, flavor_id) = (ctx, ctx.clone(), flavor_id.to_owned());
    kit.transact(caller, move |tx| {
        let (ctx, flavor_id) = (ctx.clone(), flavor_id.clone());
        Box::pin(async move {
            tx.lock(&[ObjectLock::new(KIND, &flavor_id)]).await?;
            let flavor = visible(tx, &ctx, &flavor_id).await?;
            store::delete(tx, &flavor).await?;
            journal(tx, "delete", Some(&flavor), None);
            Ok(())
        })
    })
    .await
}

/// The projects that a private flavor is shared with.
///
/// # Errors
/// 403, 404 also for a public flavor, which has no such list.
pub async fn access(kit: &Kit, ctx: &Ctx, flavor_id: &str) -> Result<Vec<String>, Fault> {
    ctx.authorise("compute:flavors:access", &Target::none())?;
    let (ctx, flavor_id) = (ctx.clone(), flavor_id.to_owned());
    kit.db
        .read(move |tx| {
            let (ctx, flavor_id) = (ctx.clone(), flavor_id.clone());
            Box::pin(async move {
                let flavor = visible(tx, &ctx, &flavor_id).await?;
                if flavor.is_public {
                    return Err(Fault::not_found("Access list not available for public flavors."));
                }
                Ok(store::access_list(tx, &flavor_id).await?)
            })
        })
        .await
}

/// Gives a project access to a flavor, or takes it away; the list afterwards.
///
/// # Errors
/// 403, 404, 409 when it has access already or (from 2.7) the flavor is public.
pub async fn change_access(
    kit: &Kit,
    ctx: &Ctx,
    flavor_id: &str,
    project: ProjectId,
    add: bool,
) -> Result<Vec<String>, Fault> {
    let rule = if add { "compute:flavors:add_access" } else { "compute:flavors:remove_access" };
    ctx.authorise(rule, &Target::none())?;
    let (caller, ctx, flavor_id) = (ctx, ctx.clone(), flavor_id.to_owned());
    kit.transact(caller, move |tx| {
        let (ctx, flavor_id, project) = (ctx.clone(), flavor_id.clone(), project.clone());
        Box::pin(async move {
            tx.lock(&[ObjectLock::new(KIND, &flavor_id)]).await?;
            let flavor = visible(tx, &ctx, &flavor_id).await?;
            if add {
                if flavor.is_public && ctx.at_least(2, 7) {
                    return Err(Fault::conflict("Can not add access to a public flavor."));
                }
                if !store::add_access(tx, &flavor_id, &project).await? {
                    return Err(Fault::conflict(format!(
                        "Flavor access already exists for flavor {flavor_id} and project {project} combination."
                    )));
                }
            } else if !store::remove_access(tx, &flavor_id, &project).await? {
                return Err(Fault::not_found(format!(
                    "Flavor access not found for {flavor_id} / {project} combination."
                )));
            }
            tx.journal(JournalEntry {
                kind: KIND,
                id: flavor_id.clone(),
                project: Some(project.clone()),
                action: if add { "add_access" } else { "remove_access" },
                before: None,
                after: Some(json!({"project": project})),
            });
            Ok(store::access_list(tx, &flavor_id).await?)
        })
    })
    .await
}
