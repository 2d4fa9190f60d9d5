//! What can be done with images. The only file that others call.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cloud_types::{Fault, FaultKind, ImageId, ProjectId};
use database::{BoxFuture, JournalEntry, ObjectLock, Origin, Tx};
use futures::Stream;
use serde_json::{Map, Value};
use service_kit::{Ctx, Filters, Kit, Target};
use tokio_util::sync::CancellationToken;

use super::files::{ImageFile, ImageStore};
use super::listing::{Query, Viewer};
use super::model::{
    self, BASE_ATTRIBUTES, BootImage, Image, ImageStatus, READ_ONLY, UPLOAD_SILENCE, Visibility,
};
use super::patch::{self, Operation};
use super::store::{self, Member};
use super::upload;

/// Largest file that is taken, in bytes: 1 TiB.
const MAX_FILE: u64 = 1 << 40;
/// How often leftovers are looked for.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

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
                    store::insert(tx, &image).await.map_err(|error| match error {
                        database::DatabaseError::Unique { .. } => {
                            Fault::conflict(format!("Image ID {} already exists!", image.id))
                        }
                        other => other.into(),
                    })?;
                    journal(tx, "create", None, Some(&image));
                    Ok::<_, Fault>(())
                })
            })
            .await?;
        Ok(image)
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
                    store::mark_deleted(tx, &image).await?;
                    journal(tx, "delete", Some(&image), None);
                    Ok(())
                })
            })
            .await?;
        self.remove_file(id).await;
        Ok(())
    }

    /// The row says `deleted`; the sweeper does this again if it fails here.
    async fn remove_file(&self, id: ImageId) {
        if let Err(error) = self.files.remove(id).await {
            tracing::warn!(image = %id, %error, "removing an image's file failed; it is tried again");
            return;
        }
        let purged = self
            .kit
            .db
            .transact(&Origin::system("image-sweeper"), move |tx| {
                Box::pin(async move { store::purge(tx, &id).await })
            })
            .await;
        if let Err(error) = purged {
            tracing::warn!(image = %id, %error, "forgetting a deleted image failed; it is tried again");
        }
    }

    /// Takes an image's file in.
    ///
    /// # Errors
    /// 409 when the image is not queued; 400 when it has no declared format, or the file is not
    /// of it; 503 when the zone's disk fails. The image is then `queued` again.
    pub async fn upload<S, E>(&self, ctx: &Ctx, id: ImageId, body: S) -> Result<(), Fault>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let upload = uuid::Uuid::new_v4().simple().to_string();
        let image = self.begin(ctx, id, &upload).await?;
        let declared = image.disk_format.ok_or_else(|| {
            Fault::internal("an upload began for an image without a declared format")
        })?;
        let taken = match self.receive(id, &upload, declared, body).await {
            Ok(found) => self.finish(ctx, id, &upload, found).await,
            Err(fault) => Err(fault),
        };
        if taken.is_err() {
            self.give_up(id, &upload).await;
        }
        taken
    }

    async fn begin(&self, ctx: &Ctx, id: ImageId, upload: &str) -> Result<Image, Fault> {
        let (viewer, own_ctx, upload) = (Arc::new(viewer(ctx)), ctx.clone(), upload.to_owned());
        self.kit
            .transact(ctx, move |tx| {
                let (viewer, ctx, upload) = (viewer.clone(), own_ctx.clone(), upload.clone());
                Box::pin(async move {
                    tx.lock(&[lock(&id)]).await?;
                    let image = visible(tx, &viewer, &id).await?;
                    ctx.authorise("image:images:upload", &Target::project(&image.owner))?;
                    if image.disk_format.is_none() || image.container_format.is_none() {
                        return Err(Fault::bad_request("Properties disk_format, container_format must be set prior to saving data."));
                    }
                    if !store::begin_upload(tx, &id, &upload).await? {
                        return Err(Fault::conflict(format!(
                            "Image {id} is {}; a file can be uploaded only while it is queued.",
                            image.status
                        )));
                    }
                    Ok(image)
                })
            })
            .await
    }

    async fn receive<S, E>(
        &self,
        id: ImageId,
        upload: &str,
        declared: super::DiskFormat,
        body: S,
    ) -> Result<store::Uploaded, Fault>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let incoming = self.files.begin(upload).await.map_err(|error| upload::disk(&error))?;
        let (db, own) = (self.kit.db.clone(), upload.to_owned());
        let lives = move || -> BoxFuture<'static, Result<bool, Fault>> {
            let (db, own) = (db.clone(), own.clone());
            Box::pin(async move {
                let origin = Origin::system("image-upload");
                db.transact(&origin, move |tx| {
                    let own = own.clone();
                    Box::pin(async move { Ok(store::upload_lives(tx, &id, &own).await?) })
                })
                .await
            })
        };
        let found = upload::receive(id, incoming, declared, MAX_FILE, body, lives).await?;
        self.files.commit(upload, id).await.map_err(|error| upload::disk(&error))?;
        Ok(found)
    }

    async fn finish(
        &self,
        ctx: &Ctx,
        id: ImageId,
        upload: &str,
        found: store::Uploaded,
    ) -> Result<(), Fault> {
        let upload = upload.to_owned();
        let origin = ctx.origin();
        self.kit
            .db
            .transact(&origin, move |tx| {
                let (upload, found) = (upload.clone(), found.clone());
                Box::pin(async move {
                    tx.lock(&[lock(&id)]).await?;
                    if !store::finish_upload(tx, &id, &upload, &found).await? {
                        return Err(Fault::conflict(format!("Image {id} was deleted, or taken over by another upload, while its file arrived.")));
                    }
                    let image = store::get(tx, &id).await?;
                    journal(tx, "update", None, image.as_ref());
                    Ok(())
                })
            })
            .await
    }

    async fn give_up(&self, id: ImageId, upload: &str) {
        if let Err(error) = self.files.abandon(upload).await {
            tracing::warn!(image = %id, %error, "an upload's leftover stays until the next sweep");
        }
        let upload = upload.to_owned();
        let failed = self
            .kit
            .db
            .transact(&Origin::system("image-upload"), move |tx| {
                let upload = upload.clone();
                Box::pin(async move { store::fail_upload(tx, &id, &upload).await })
            })
            .await;
        if let Err(error) = failed {
            tracing::warn!(image = %id, %error, "a failed upload is returned to queued by the sweeper");
        }
    }

    /// Opens an image's file for a user; `None` when the image has none yet.
    ///
    /// # Errors
    /// 404, and 403 when it is deactivated.
    pub async fn download(
        &self,
        ctx: &Ctx,
        id: ImageId,
    ) -> Result<Option<(Image, ImageFile)>, Fault> {
        let image = self.get(ctx, id).await?;
        match image.status {
            ImageStatus::Active => {}
            ImageStatus::Deactivated if viewer(ctx).sees_all => {}
            ImageStatus::Deactivated => {
                return Err(Fault::forbidden(format!(
                    "The requested image {id} has been deactivated. Image data download is forbidden."
                )));
            }
            _ => return Ok(None),
        }
        let file = self.open_file(id).await?;
        Ok(Some((image, file)))
    }

    /// Opens an image's file, for a host that may have it.
    ///
    /// # Errors
    /// 404 when there is no file, 503 when the disk fails.
    pub async fn open_file(&self, id: ImageId) -> Result<ImageFile, Fault> {
        self.files.open(id).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Fault::not_found(format!("Image {id} has no file in this zone."))
            }
            _ => upload::disk(&error),
        })
    }

    /// What a server needs to boot from an image, inside the caller's transaction.
    ///
    /// # Errors
    /// 400 in Nova's terms when there is no such image, or it has no data yet.
    pub async fn get_for_boot(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        id: &ImageId,
    ) -> Result<BootImage, Fault> {
        let viewer = viewer(ctx);
        let image = visible(tx, &viewer, id).await.map_err(|fault| match fault.kind {
            FaultKind::NotFound => {
                Fault::bad_request(format!("Can not find requested image: {id}"))
            }
            _ => fault,
        })?;
        let (Some(format), Some(size), Some(sha256), Some(virtual_size), ImageStatus::Active) =
            (image.disk_format, image.size, image.sha256.clone(), image.virtual_size, image.status)
        else {
            return Err(Fault::bad_request(format!(
                "Image {id} is not active: it is {}. Upload its file first.",
                image.status
            )));
        };
        Ok(BootImage {
            id: image.id,
            name: image.name,
            format,
            size_bytes: size,
            sha256,
            min_disk: image.min_disk,
            min_ram: image.min_ram,
            status: image.status,
            virtual_size,
            properties: image.properties,
        })
    }

    /// Returns images of dead uploads to `queued`, and removes leftovers, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        loop {
            if let Err(fault) = self.sweep().await {
                tracing::warn!(%fault, "looking for leftovers of images failed; it is tried again");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    /// One look for leftovers.
    ///
    /// # Errors
    /// The database's or the disk's.
    pub async fn sweep(&self) -> Result<(), Fault> {
        // Files first: an upload that begins after this look is in no list, and stays.
        let uploads = self.files.uploads().await.map_err(|error| upload::disk(&error))?;
        let (live, deleted) = self
            .kit
            .db
            .transact(&Origin::system("image-sweeper"), move |tx| {
                Box::pin(async move {
                    let before = tx.now().before(UPLOAD_SILENCE);
                    store::requeue_silent(tx, before).await?;
                    Ok::<_, Fault>((store::live_uploads(tx).await?, store::deleted(tx).await?))
                })
            })
            .await?;
        for upload in uploads.iter().filter(|upload| !live.contains(upload)) {
            self.files.abandon(upload).await.map_err(|error| upload::disk(&error))?;
        }
        for id in deleted {
            self.remove_file(id).await;
        }
        Ok(())
    }

    /// An image's members: all for its owner, oneself for a member.
    ///
    /// # Errors
    /// 404 for an image that the caller may not know of.
    pub async fn members(&self, ctx: &Ctx, id: ImageId) -> Result<Vec<Member>, Fault> {
        let viewer = Arc::new(viewer(ctx));
        self.kit
            .db
            .read(move |tx| {
                let viewer = viewer.clone();
                Box::pin(async move {
                    let image = visible(tx, &viewer, &id).await?;
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

fn parse_owner(owner: &Value) -> Result<ProjectId, Fault> {
    owner
        .as_str()
        .and_then(|owner| owner.parse().ok())
        .ok_or_else(|| Fault::bad_request("Attribute 'owner' has to be a project's id."))
}
