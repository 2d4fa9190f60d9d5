//! Images' files: taken in, given out, removed.

use std::sync::Arc;

use bytes::Bytes;
use cloud_types::{Fault, FaultKind, ImageId};
use database::{BoxFuture, Origin, Tx, leases};
use futures::Stream;
use service_kit::{Ctx, Target};
use tokio_util::sync::CancellationToken;

use super::{Images, journal, lock, viewer, visible};
use crate::image::DiskFormat;
use crate::image::files::ImageFile;
use crate::image::model::{BootImage, Image, ImageStatus, UPLOAD_SILENCE};
use crate::image::quota;
use crate::image::store;
use crate::image::upload;

/// Largest file that is taken, in bytes: 1 TiB.
const MAX_FILE: u64 = 1 << 40;
/// How often leftovers are looked for.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(30);
/// Of several replicas the holder of this lease looks.
const SWEEP_LEASE: &str = "image-sweeper";

impl Images {
    /// Removes files that no row stands for. What fails here is tried again by the sweeper.
    pub(super) async fn remove_leftovers(&self) {
        if let Err(fault) = self.try_remove_leftovers().await {
            tracing::warn!(%fault, "removing images' leftovers failed; it is tried again");
        }
    }

    async fn try_remove_leftovers(&self) -> Result<(), Fault> {
        let files = self
            .kit
            .db
            .read(|tx| Box::pin(async move { Ok::<_, Fault>(store::leftovers(tx).await?) }))
            .await?;
        for file in files {
            self.files.abandon(&file).await.map_err(|error| upload::disk(&error))?;
            self.files.remove(&file).await.map_err(|error| upload::disk(&error))?;
            self.kit
                .db
                .transact(&Origin::system("image-sweeper"), move |tx| {
                    let file = file.clone();
                    Box::pin(
                        async move { Ok::<_, Fault>(store::forget_leftover(tx, &file).await?) },
                    )
                })
                .await?;
        }
        Ok(())
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
        let (image, room) = self.begin(ctx, id, &upload).await?;
        let declared = image.disk_format.ok_or_else(|| {
            Fault::internal("an upload began for an image without a declared format")
        })?;
        let taken = match self.receive(id, &upload, declared, room, body).await {
            Ok(found) => self.finish(ctx, id, &upload, found).await,
            Err(fault) => Err(fault),
        };
        if taken.is_err() {
            self.give_up(id, &upload).await;
        }
        taken
    }

    /// Gives the image to the upload; says how many bytes its owner has room for.
    async fn begin(&self, ctx: &Ctx, id: ImageId, upload: &str) -> Result<(Image, u64), Fault> {
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
                    let room = quota::room(tx, &image.owner).await?;
                    Ok((image, room))
                })
            })
            .await
    }

    async fn receive<S, E>(
        &self,
        id: ImageId,
        upload: &str,
        declared: DiskFormat,
        room: u64,
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
        let found =
            upload::receive(id, incoming, declared, room.min(MAX_FILE), body, lives).await?;
        self.files.commit(upload).await.map_err(|error| upload::disk(&error))?;
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
                    if let Some(image) = &image {
                        quota::add(tx, &image.owner, 0, found.size).await?;
                    }
                    journal(tx, "update", None, image.as_ref());
                    Ok::<_, Fault>(())
                })
            })
            .await
    }

    async fn give_up(&self, id: ImageId, upload: &str) {
        let upload = upload.to_owned();
        let failed = self
            .kit
            .db
            .transact(&Origin::system("image-upload"), move |tx| {
                let upload = upload.clone();
                Box::pin(async move { store::fail_upload(tx, &id, &upload).await })
            })
            .await;
        match failed {
            Ok(()) => self.remove_leftovers().await,
            Err(error) => {
                tracing::warn!(image = %id, %error, "a failed upload is returned to queued by the sweeper");
            }
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
        let missing = || Fault::not_found(format!("Image {id} has no file in this zone."));
        let file = self
            .kit
            .db
            .read(move |tx| {
                Box::pin(async move {
                    match store::file_of(tx, &id).await? {
                        Some(file) => Ok::<_, Fault>(Some(file)),
                        None => Ok(store::held_file(tx, &id).await?),
                    }
                })
            })
            .await?
            .ok_or_else(missing)?;
        self.files.open(&file).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
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

    /// Keeps the file of an image for somebody who is about to use it, also when the image is
    /// deleted meanwhile; until [`Images::let_go`].
    ///
    /// # Errors
    /// 400 in Nova's terms when there is no such image (any more).
    pub async fn hold(tx: &mut Tx, id: &ImageId, holder: &str) -> Result<(), Fault> {
        if store::hold(tx, id, holder).await? {
            return Ok(());
        }
        Err(Fault::bad_request(format!("Can not find requested image: {id}")))
    }

    /// The holder has what it needs, or gave up. Where the image is gone, its file is a leftover
    /// from now on.
    ///
    /// # Errors
    /// The database's.
    pub async fn let_go(tx: &mut Tx, holder: &str) -> Result<(), Fault> {
        Ok(store::let_go(tx, holder).await?)
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

    /// One look for leftovers, unless another replica is at it.
    ///
    /// # Errors
    /// The database's or the disk's.
    pub async fn sweep(&self) -> Result<(), Fault> {
        let holder = self.kit.config.worker.clone();
        let taken = self
            .kit
            .db
            .transact(&Origin::system("image-sweeper"), move |tx| {
                let holder = holder.clone();
                Box::pin(async move {
                    Ok::<_, Fault>(leases::take(tx, SWEEP_LEASE, &holder, SWEEP_EVERY).await?)
                })
            })
            .await?;
        let Some(epoch) = taken else { return Ok(()) };
        // Files first: an upload that begins after this look is in no list, and stays.
        let uploads = self.files.uploads().await.map_err(|error| upload::disk(&error))?;
        let live = self
            .kit
            .db
            .transact(&Origin::system("image-sweeper"), move |tx| {
                Box::pin(async move {
                    leases::check(tx, SWEEP_LEASE, epoch).await?;
                    let before = tx.now().before(UPLOAD_SILENCE);
                    store::requeue_silent(tx, before).await?;
                    Ok::<_, Fault>(store::live_uploads(tx).await?)
                })
            })
            .await?;
        for upload in uploads.iter().filter(|upload| !live.contains(upload)) {
            self.files.abandon(upload).await.map_err(|error| upload::disk(&error))?;
        }
        self.try_remove_leftovers().await
    }
}
