//! What can be done with images. The only place that others call: records here, their files in
//! [`file`], their members in [`member`].

mod file;
mod member;

use std::collections::BTreeMap;
use std::sync::Arc;

use cloud_types::{Fault, ImageId, ProjectId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::{Map, Value};
use service_kit::quota::QuotaUsage;
use service_kit::{Ctx, Filters, Kit, Target};

use super::files::ImageStore;
use super::model::{self, BASE_ATTRIBUTES, Image, ImageStatus, READ_ONLY, Visibility};
use super::patch::{self, Operation};
use super::quota;
use super::store;
use super::store::listing::{Query, Viewer};

/// The image service. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    kit: Kit,
    files: Arc<dyn ImageStore>,
}

fn not_found(id: &ImageId) -> Fault {
    Fault::not_found(format!("No image found with ID {id}"))
}

fn lock(id: &ImageId) -> ObjectLock {
    ObjectLock::new("image", id)
}

fn journal(tx: &mut Tx, action: &'static str, before: Option<&Image>, after: Option<&Image>) {
    let view = |image: &Image| {
        serde_json::json!({
            "name": image.name, "status": image.status.as_str(),
            "visibility": image.visibility.as_str(), "size": image.size,
        })
    };
    let Some(image) = after.or(before) else { return };
    tx.journal(JournalEntry {
        kind: "image",
        id: image.id.to_string(),
        project: Some(image.owner.clone()),
        action,
        before: before.map(view),
        after: after.map(view),
    });
}

/// Whether the caller may know of an image.
async fn sees(tx: &mut Tx, viewer: &Viewer, image: &Image) -> Result<bool, Fault> {
    if viewer.sees_all || viewer.project.as_ref() == Some(&image.owner) {
        return Ok(true);
    }
    Ok(match image.visibility {
        Visibility::Public | Visibility::Community => true,
        Visibility::Private => false,
        Visibility::Shared => match &viewer.project {
            Some(project) => store::member(tx, &image.id, project).await?.is_some(),
            None => false,
        },
    })
}

async fn visible(tx: &mut Tx, viewer: &Viewer, id: &ImageId) -> Result<Image, Fault> {
    let image = store::get(tx, id).await?.ok_or_else(|| not_found(id))?;
    if sees(tx, viewer, &image).await? { Ok(image) } else { Err(not_found(id)) }
}

fn viewer(ctx: &Ctx) -> Viewer {
    Viewer { project: ctx.project().ok(), sees_all: ctx.may("image:all_projects", &Target::none()) }
}

/// Who is allowed to make an image visible in this way.
fn authorise_visibility(ctx: &Ctx, image: &Image) -> Result<(), Fault> {
    let target = Target::project(&image.owner);
    match image.visibility {
        Visibility::Public => ctx.authorise("image:images:publicize", &target),
        Visibility::Community => ctx.authorise("image:images:communitize", &target),
        Visibility::Shared | Visibility::Private => Ok(()),
    }
}

impl Images {
    /// The service over a zone's files.
    pub fn new(kit: Kit, files: Arc<dyn ImageStore>) -> Self {
        Images { kit, files }
    }

    /// Makes a record without a file.
    ///
    /// # Errors
    /// 400 for attributes that cannot be read, 403 for what the caller may not choose, 409 for an
    /// id that is taken.
    pub async fn create(&self, ctx: &Ctx, attributes: Map<String, Value>) -> Result<Image, Fault> {
        let mut attributes = attributes;
        let owner = match attributes.remove("owner") {
            Some(owner) => parse_owner(&owner)?,
            None => ctx.project()?,
        };
        let id = match attributes.remove("id") {
            None => ImageId::random(),
            Some(id) => id
                .as_str()
                .and_then(|id| id.parse().ok())
                .ok_or_else(|| Fault::bad_request("Attribute 'id' has to be a UUID."))?,
        };
        let now = self.kit.clock.now();
        let mut image = Image {
            id,
            owner,
            name: None,
            status: ImageStatus::Queued,
            visibility: Visibility::Shared,
            disk_format: None,
            container_format: None,
            size: None,
            virtual_size: None,
            checksum: None,
            sha512: None,
            sha256: None,
            min_disk: 0,
            min_ram: 0,
            protected: false,
            hidden: false,
            properties: BTreeMap::new(),
            tags: Vec::new(),
            created_at: now,
            updated_at: now,
            generation: 1,
        };
        for (name, value) in &attributes {
            if READ_ONLY.contains(&name.as_str()) {
                return Err(Fault::forbidden(format!("Attribute '{name}' is read-only.")));
            }
            if BASE_ATTRIBUTES.contains(&name.as_str()) {
                patch::set_base(&mut image, name, value)?;
            } else {
                model::check_property_name(name)?;
                let text = value.as_str().ok_or_else(|| {
                    Fault::bad_request(format!("Provided object does not match schema 'image': {value} is not of type 'string' (property '{name}')"))
                })?;
                image.properties.insert(name.clone(), text.to_owned());
            }
        }
        model::validate(&image)?;
        ctx.authorise("image:images:create", &Target::project(&image.owner))?;
        authorise_visibility(ctx, &image)?;
        let made = image.clone();
        self.kit
            .transact(ctx, move |tx| {
                let image = made.clone();
                Box::pin(async move {
                    quota::add(tx, &image.owner, 1, 0).await?;
                    store::insert(tx, &image).await.map_err(|error| match error {
                        database::DatabaseError::Unique { .. } => {
                            Fault::conflict(format!("Image ID {} already exists!", image.id))
                        }
                        other => other.into(),
                    })?;
                    journal(tx, "create", None, Some(&image));
                    Ok::<_, Fault>(image)
                })
            })
            .await
    }

    /// One image.
    ///
    /// # Errors
    /// 404 when there is none, or the caller may not know of it.
    pub async fn get(&self, ctx: &Ctx, id: ImageId) -> Result<Image, Fault> {
        let viewer = Arc::new(viewer(ctx));
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move { visible(tx, &viewer, &id).await })
            })
            .await
    }

    /// A page of images, and the id after which the next begins.
    ///
    /// # Errors
    /// 400 for filters that cannot be read or a marker that names nothing.
    pub async fn list(
        &self,
        ctx: &Ctx,
        filters: &Filters,
    ) -> Result<(Vec<Image>, Option<ImageId>), Fault> {
        let viewer = Arc::new(viewer(ctx));
        let query = Query::new(filters, &viewer)?;
        let page = query.page;
        let mut images = self
            .kit
            .db
            .read(move |tx| {
                let (viewer, mut query) = (viewer.clone(), query.clone());
                Box::pin(async move {
                    if let Some(marker) = query.marker {
                        let image = visible(tx, &viewer, &marker).await.map_err(|_| {
                            Fault::bad_request(format!("Marker {marker} names no image."))
                        })?;
                        query.begin_after(image);
                    }
                    Ok::<_, Fault>(store::list(tx, &query).await?)
                })
            })
            .await?;
        let more = images.len() > page;
        images.truncate(page);
        let next = if more { images.last().map(|image| image.id) } else { None };
        Ok((images, next))
    }

    /// The caller's limits and usage.
    ///
    /// # Errors
    /// 403 without a project.
    pub async fn usage(&self, ctx: &Ctx) -> Result<Vec<QuotaUsage>, Fault> {
        let project = ctx.project()?;
        self.kit
            .db
            .read(move |tx| {
                let project = project.clone();
                Box::pin(async move { quota::standing(tx, &project).await })
            })
            .await
    }

    /// Reads, judges and stores a change of one image in one transaction.
    async fn change<F>(
        &self,
        ctx: &Ctx,
        id: ImageId,
        rule: &'static str,
        action: &'static str,
        decide: F,
    ) -> Result<Image, Fault>
    where
        F: Fn(&Ctx, &Image) -> Result<Image, Fault> + Send + Sync + 'static,
    {
        let (viewer, own_ctx, decide) = (Arc::new(viewer(ctx)), ctx.clone(), Arc::new(decide));
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx, decide) = (viewer.clone(), own_ctx.clone(), decide.clone());
                Box::pin(async move {
                    tx.lock(&[lock(&id)]).await?;
                    let before = visible(tx, &viewer, &id).await?;
                    ctx.authorise(rule, &Target::project(&before.owner))?;
                    let after = decide(&ctx, &before)?;
                    if after.owner != before.owner {
                        let bytes = before.size.unwrap_or(0);
                        quota::remove(tx, &before.owner, 1, bytes).await?;
                        quota::add(tx, &after.owner, 1, bytes).await?;
                    }
                    store::update(tx, &after).await?;
                    journal(tx, action, Some(&before), Some(&after));
                    let stored = store::get(tx, &id).await?;
                    stored.ok_or_else(|| not_found(&id))
                })
            })
            .await
    }

    /// Applies a JSON patch.
    ///
    /// # Errors
    /// 404, 403, or what [`patch::apply`] refuses.
    pub async fn update(
        &self,
        ctx: &Ctx,
        id: ImageId,
        operations: Vec<Operation>,
    ) -> Result<Image, Fault> {
        self.change(ctx, id, "image:images:update", "update", move |ctx, before| {
            let after = patch::apply(before, &operations)?;
            if after.owner != before.owner {
                ctx.authorise("image:images:chown", &Target::project(&after.owner))?;
            }
            if after.visibility != before.visibility {
                authorise_visibility(ctx, &after)?;
            }
            Ok(after)
        })
        .await
    }

    /// Adds a tag, or takes it away.
    ///
    /// # Errors
    /// 404 for an image or a tag that is not there, 413 for too many.
    pub async fn set_tag(
        &self,
        ctx: &Ctx,
        id: ImageId,
        tag: String,
        present: bool,
    ) -> Result<(), Fault> {
        self.change(ctx, id, "image:images:update", "update", move |_, before| {
            let mut after = before.clone();
            after.tags.retain(|known| *known != tag);
            if !present && after.tags.len() == before.tags.len() {
                return Err(Fault::not_found(format!("Image {id} has no tag {tag}.")));
            }
            if present {
                after.tags.push(tag.clone());
                after.tags.sort();
            }
            model::validate(&after)?;
            Ok(after)
        })
        .await
        .map(drop)
    }

    /// Keeps an image's file from being read, or lets it be read again.
    ///
    /// # Errors
    /// 403 when the image has no file.
    pub async fn set_active(&self, ctx: &Ctx, id: ImageId, active: bool) -> Result<(), Fault> {
        self.change(ctx, id, "image:images:deactivate", "update", move |_, before| {
            let mut after = before.clone();
            after.status = match (before.status, active) {
                (ImageStatus::Active | ImageStatus::Deactivated, true) => ImageStatus::Active,
                (ImageStatus::Active | ImageStatus::Deactivated, false) => ImageStatus::Deactivated,
                (other, _) => {
                    return Err(Fault::forbidden(format!(
                        "Image {id} is {other}; only an image with data can be deactivated or reactivated."
                    )));
                }
            };
            Ok(after)
        })
        .await
        .map(drop)
    }

    /// Deletes an image; its file follows.
    ///
    /// # Errors
    /// 403 when it is protected.
    pub async fn delete(&self, ctx: &Ctx, id: ImageId) -> Result<(), Fault> {
        let (viewer, own_ctx) = (Arc::new(viewer(ctx)), ctx.clone());
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx) = (viewer.clone(), own_ctx.clone());
                Box::pin(async move {
                    tx.lock(&[lock(&id)]).await?;
                    let image = visible(tx, &viewer, &id).await?;
                    ctx.authorise("image:images:delete", &Target::project(&image.owner))?;
                    if image.protected {
                        return Err(Fault::forbidden(format!(
                            "Image {id} is protected and cannot be deleted. Set 'protected' to false first."
                        )));
                    }
                    store::delete(tx, &image).await?;
                    quota::remove(tx, &image.owner, 1, image.size.unwrap_or(0)).await?;
                    journal(tx, "delete", Some(&image), None);
                    Ok::<_, Fault>(())
                })
            })
            .await?;
        self.remove_leftovers().await;
        Ok(())
    }
}

fn parse_owner(owner: &Value) -> Result<ProjectId, Fault> {
    owner
        .as_str()
        .and_then(|owner| owner.parse().ok())
        .ok_or_else(|| Fault::bad_request("Attribute 'owner' has to be a project's id."))
}
