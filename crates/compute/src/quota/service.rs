//! Reading and setting quotas.

use std::collections::BTreeMap;

use cloud_types::{Fault, ProjectId};
use database::{JournalEntry, Tx};
use serde_json::json;
use service_kit::quota::{self, UNLIMITED};
use service_kit::{Ctx, Kit, Target};

use super::model::{COUNTED, Standing};

async fn read(tx: &mut Tx, project: &ProjectId) -> Result<BTreeMap<String, Standing>, Fault> {
    let names: Vec<&'static str> = COUNTED.iter().map(|default| default.resource).collect();
    Ok(quota::usage(tx, project, &names)
        .await?
        .into_iter()
        .map(|usage| (usage.resource, Standing { limit: usage.limit, in_use: usage.in_use }))
        .collect())
}

/// A project's limits and what it uses, under `rule`.
///
/// # Errors
/// 403.
pub async fn standing(
    kit: &Kit,
    ctx: &Ctx,
    rule: &str,
    project: &ProjectId,
) -> Result<BTreeMap<String, Standing>, Fault> {
    ctx.authorise(rule, &Target::project(project))?;
    let project = project.clone();
    kit.db
        .read(move |tx| {
            let project = project.clone();
            Box::pin(async move { read(tx, &project).await })
        })
        .await
}

/// The limits of a project that has none of its own.
///
/// # Errors
/// 403.
pub async fn defaults(
    kit: &Kit,
    ctx: &Ctx,
    project: &ProjectId,
) -> Result<BTreeMap<String, Standing>, Fault> {
    ctx.authorise("compute:quotas:defaults", &Target::project(project))?;
    kit.db
        .read(move |tx| {
            Box::pin(async move {
                let mut limits = BTreeMap::new();
                for default in COUNTED {
                    let limit = quota::default_limit(tx, default.resource).await?;
                    limits.insert(default.resource.to_owned(), Standing { limit, in_use: 0 });
                }
                Ok::<_, Fault>(limits)
            })
        })
        .await
}

/// Sets limits of a project, unless one is below what is used and nobody insists.
///
/// # Errors
/// 403, 400 for a limit below the usage.
pub async fn update(
    kit: &Kit,
    ctx: &Ctx,
    project: &ProjectId,
    limits: BTreeMap<&'static str, i64>,
    force: bool,
) -> Result<BTreeMap<String, Standing>, Fault> {
    ctx.authorise("compute:quotas:update", &Target::project(project))?;
    let project = project.clone();
    kit.transact(ctx, move |tx| {
        let (project, limits) = (project.clone(), limits.clone());
        Box::pin(async move {
            let before = read(tx, &project).await?;
            for (resource, limit) in &limits {
                let used = before.get(*resource).map_or(0, |standing| standing.in_use);
                if !force && *limit != UNLIMITED && *limit < used {
                    return Err(Fault::bad_request(format!(
                        "Quota limit {limit} for {resource} must be greater than or equal to \
                         already used and reserved {used}."
                    )));
                }
                quota::set_limit(tx, &project, resource, Some(*limit)).await?;
            }
            tx.journal(JournalEntry {
                kind: "compute_quota",
                id: project.to_string(),
                project: Some(project.clone()),
                action: "update",
                before: None,
                after: Some(json!(limits)),
            });
            read(tx, &project).await
        })
    })
    .await
}

/// Returns a project to the default limits.
///
/// # Errors
/// 403.
pub async fn reset(kit: &Kit, ctx: &Ctx, project: &ProjectId) -> Result<(), Fault> {
    ctx.authorise("compute:quotas:update", &Target::project(project))?;
    let project = project.clone();
    kit.transact(ctx, move |tx| {
        let project = project.clone();
        Box::pin(async move {
            for default in COUNTED {
                quota::set_limit(tx, &project, default.resource, None).await?;
            }
            tx.journal(JournalEntry {
                kind: "compute_quota",
                id: project.to_string(),
                project: Some(project.clone()),
                action: "delete",
                before: None,
                after: None,
            });
            Ok(())
        })
    })
    .await
}
