//! Showing and changing quotas.

use cloud_types::{Fault, ProjectId};
use service_kit::quota::{self, QuotaUsage};
use service_kit::{Ctx, policy::Target};

use super::DEFAULTS;
use crate::Network;

impl Network {
    /// A project's limits and usage.
    pub async fn quota(&self, ctx: &Ctx, project: &ProjectId) -> Result<Vec<QuotaUsage>, Fault> {
        ctx.authorise("network:quotas:get", &Target::project(project))?;
        let project = project.clone();
        self.kit
            .db
            .read(move |tx| {
                let project = project.clone();
                Box::pin(async move {
                    let names: Vec<&'static str> =
                        DEFAULTS.iter().map(|default| default.resource).collect();
                    Ok::<_, Fault>(quota::usage(tx, &project, &names).await?)
                })
            })
            .await
    }

    /// The limits of each project that has some of its own.
    pub async fn own_quotas(&self, ctx: &Ctx) -> Result<Vec<(ProjectId, Vec<QuotaUsage>)>, Fault> {
        ctx.authorise("network:quotas:list", &Target::none())?;
        self.kit
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let names: Vec<&'static str> =
                        DEFAULTS.iter().map(|default| default.resource).collect();
                    let mut all = Vec::new();
                    for project in quota::projects_with_limits(tx, &names).await? {
                        let standing = quota::usage(tx, &project, &names).await?;
                        all.push((project, standing));
                    }
                    Ok::<_, Fault>(all)
                })
            })
            .await
    }

    /// The limits of a project that has none of its own.
    pub async fn default_quota(
        &self,
        ctx: &Ctx,
        project: &ProjectId,
    ) -> Result<Vec<(&'static str, i64)>, Fault> {
        ctx.authorise("network:quotas:get", &Target::project(project))?;
        self.kit
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let mut limits = Vec::with_capacity(DEFAULTS.len());
                    for default in DEFAULTS {
                        let limit = quota::default_limit(tx, default.resource).await?;
                        limits.push((default.resource, limit));
                    }
                    Ok::<_, Fault>(limits)
                })
            })
            .await
    }

    /// Sets limits of a project; `None` returns one to the default.
    pub async fn set_quota(
        &self,
        ctx: &Ctx,
        project: &ProjectId,
        limits: Vec<(&'static str, Option<i64>)>,
    ) -> Result<(), Fault> {
        ctx.authorise("network:quotas:update", &Target::project(project))?;
        let project = project.clone();
        self.kit
            .transact(ctx, move |tx| {
                let (project, limits) = (project.clone(), limits.clone());
                Box::pin(async move {
                    for (resource, limit) in limits {
                        quota::set_limit(tx, &project, resource, limit).await?;
                    }
                    Ok::<_, Fault>(())
                })
            })
            .await
    }
}
