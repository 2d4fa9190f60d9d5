//! Sharing images with other projects.

use std::sync::Arc;

use cloud_types::{Fault, ImageId, ProjectId};
use service_kit::{Ctx, Target};

use super::{Images, lock, not_found, viewer, visible};
use crate::image::model::Visibility;
use crate::image::store::{self, Member};

impl Images {
    /// An image's members: all for its owner, oneself for a member.
    ///
    /// # Errors
    /// 404 for an image that the caller may not know of, 403 for one that is not `shared`.
    pub async fn members(&self, ctx: &Ctx, id: ImageId) -> Result<Vec<Member>, Fault> {
        let viewer = Arc::new(viewer(ctx));
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move {
                    let image = visible(tx, &viewer, &id).await?;
                    if image.visibility != Visibility::Shared {
                        return Err(Fault::forbidden("Only shared images have members."));
                    }
                    let mut members = store::members(tx, &id).await?;
                    if !viewer.sees_all && viewer.project.as_ref() != Some(&image.owner) {
                        members.retain(|member| viewer.project.as_ref() == Some(&member.member));
                    }
                    Ok(members)
                })
            })
            .await
    }

    /// Shares an image with a project, or ends that.
    ///
    /// # Errors
    /// 403 for others than the owner and for images that are not `shared`, 404 for a member that
    /// is not there, 409 for one that is.
    pub async fn set_member(
        &self,
        ctx: &Ctx,
        id: ImageId,
        member: ProjectId,
        present: bool,
    ) -> Result<Option<Member>, Fault> {
        let (viewer, own_ctx) = (Arc::new(viewer(ctx)), ctx.clone());
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx, member) = (viewer.clone(), own_ctx.clone(), member.clone());
                Box::pin(async move {
                    tx.lock(&[lock(&id)]).await?;
                    let image = visible(tx, &viewer, &id).await?;
                    ctx.authorise("image:members:update", &Target::project(&image.owner))?;
                    if image.visibility != Visibility::Shared {
                        return Err(Fault::forbidden("Only shared images have members."));
                    }
                    if present {
                        if !store::add_member(tx, &id, &member).await? {
                            return Err(Fault::conflict(format!(
                                "Project {member} is a member of image {id} already."
                            )));
                        }
                    } else if !store::remove_member(tx, &id, &member).await? {
                        return Err(Fault::not_found(format!(
                            "{member} not found in the member list of the image {id}."
                        )));
                    }
                    Ok(store::member(tx, &id, &member).await?)
                })
            })
            .await
    }

    /// A member accepts an image, or rejects it.
    ///
    /// # Errors
    /// 400 for another word, 403 for anybody but the member, 404 when there is no such member.
    pub async fn answer_member(
        &self,
        ctx: &Ctx,
        id: ImageId,
        member: ProjectId,
        status: String,
    ) -> Result<Member, Fault> {
        if !["pending", "accepted", "rejected"].contains(&status.as_str()) {
            return Err(Fault::bad_request(
                "Invalid status: it can be pending, accepted or rejected.",
            ));
        }
        let (viewer, own_ctx) = (Arc::new(viewer(ctx)), ctx.clone());
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), own_ctx.clone());
                let (member, status) = (member.clone(), status.clone());
                Box::pin(async move {
                    tx.lock(&[lock(&id)]).await?;
                    visible(tx, &viewer, &id).await?;
                    ctx.authorise("image:members:update", &Target::project(&member))?;
                    if !store::set_member_status(tx, &id, &member, &status).await? {
                        return Err(Fault::not_found(format!(
                            "{member} not found in the member list of the image {id}."
                        )));
                    }
                    store::member(tx, &id, &member).await?.ok_or_else(|| not_found(&id))
                })
            })
            .await
    }
}
