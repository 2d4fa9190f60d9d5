//! A pool that is a directory: `servers/<id>/` holds everything of one server.
//!
//! ```text
//!   servers/                 0711 root: a guest's user passes, and cannot list
//!     <id>/                  0710 root:<uid>
//!       root.qcow2           0600 <uid>, copy-on-write on the cached image
//!       ephemeral0.raw       0600 <uid>, sparse
//!       config.iso           0400 <uid>
//!       disks.json           what the disks are and stand on
//!       run/                 the running guest's things
//!     .removing-<id>/        what a removal that was interrupted has left
//! ```
//! A disk appears under its name complete and synced, or not at all, and is never written by the
//! agent again.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cloud_types::ServerId;
use host_protocol::{DiskSpec, ImageFormat};
use serde::{Deserialize, Serialize};

use super::qcow2;
use super::{CachedImage, DiskFile, DiskRequest, Pool, PoolError, PoolServer, PoolSpace};
use crate::BoxFuture;

const MIB: u64 = 1 << 20;

/// The real pool.
#[derive(Clone, Debug)]
pub struct DirectoryPool {
    servers: PathBuf,
    /// Whether files are given to guests' users; only root can.
    owned: bool,
}

/// What a server's disks are, for a restarted agent and for operators.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    disks: Vec<DiskRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DiskRecord {
    name: String,
    format: ImageFormat,
    size_bytes: u64,
    image: Option<ImageRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ImageRecord {
    image_id: String,
    sha256: String,
    format: ImageFormat,
}

impl From<&CachedImage> for ImageRecord {
    fn from(image: &CachedImage) -> Self {
        ImageRecord {
            image_id: image.image_id.clone(),
            sha256: image.sha256.clone(),
            format: image.format,
        }
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> PoolError + '_ {
    move |error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => PoolError::Full(format!(
            "no space left to write {}; free some, or add a larger disk",
            path.display()
        )),
        _ => PoolError::Io(format!("{}: {error}", path.display())),
    }
}

impl DirectoryPool {
    /// Opens the pool, making its directory.
    pub fn open(servers: &Path) -> Result<DirectoryPool, PoolError> {
        let error = io_error(servers);
        std::fs::create_dir_all(servers).map_err(&error)?;
        std::fs::set_permissions(servers, Permissions::from_mode(0o711)).map_err(&error)?;
        Ok(DirectoryPool { servers: servers.to_owned(), owned: nix::unistd::geteuid().is_root() })
    }

    fn directory(&self, server_id: &str) -> Result<PathBuf, PoolError> {
        let id: ServerId = server_id.parse().map_err(|error| PoolError::Io(format!("{error}")))?;
        Ok(self.servers.join(id.to_string()))
    }

    fn removing(&self, server_id: &str) -> PathBuf {
        self.servers.join(format!(".removing-{server_id}"))
    }

    fn make_directory(&self, server_id: &str, uid: u32) -> Result<PathBuf, PoolError> {
        let directory = self.directory(server_id)?;
        if !directory.exists() {
            std::fs::create_dir(&directory).map_err(io_error(&directory))?;
            sync_directory(&self.servers)?;
        }
        if self.owned {
            std::os::unix::fs::chown(&directory, None, Some(uid)).map_err(io_error(&directory))?;
        }
        std::fs::set_permissions(&directory, Permissions::from_mode(0o710))
            .map_err(io_error(&directory))?;
        Ok(directory)
    }

    fn make_disks(&self, request: &DiskRequest) -> Result<Vec<DiskFile>, PoolError> {
        let directory = self.make_directory(&request.spec.server_id, request.uid)?;
        let before = read_record(&directory);
        let mut record = Record::default();
        let mut disks = Vec::new();
        for (index, spec) in request.spec.disks.iter().enumerate() {
            check_name(&spec.name)?;
            let image = request.images.get(index).and_then(Option::as_ref);
            let known = before.disks.iter().find(|disk| disk.name == spec.name);
            let disk = self.make_disk(&directory, spec, image, known, request.uid)?;
            record.disks.push(DiskRecord {
                name: disk.name.clone(),
                format: disk.format,
                size_bytes: disk.size_bytes,
                image: disk.backing.as_ref().map(ImageRecord::from),
            });
            disks.push(disk);
        }
        // Disks that the spec no longer names stay, and stay known.
        for disk in &before.disks {
            if !record.disks.iter().any(|known| known.name == disk.name) {
                record.disks.push(disk.clone());
            }
        }
        if record.disks != before.disks {
            write_record(&directory, &record)?;
        }
        Ok(disks)
    }

    fn make_disk(
        &self,
        directory: &Path,
        spec: &DiskSpec,
        image: Option<&CachedImage>,
        known: Option<&DiskRecord>,
        uid: u32,
    ) -> Result<DiskFile, PoolError> {
        let format = match image {
            Some(_) => ImageFormat::Qcow2,
            None => ImageFormat::Raw,
        };
        let path = directory.join(format!("{}.{}", spec.name, extension(format)));
        if let Some(known) = known
            && known.image != image.map(ImageRecord::from)
        {
            return Err(PoolError::BadImage(format!(
                "disk {} stands on {}, and the server's description now names another image; \
                 a disk's image is not replaced under it",
                spec.name,
                known.image.as_ref().map_or("nothing", |image| &image.image_id)
            )));
        }
        let size_bytes = match known {
            Some(known) if path.exists() => known.size_bytes,
            // Starting over with an empty disk would hide the loss.
            Some(_) => {
                return Err(PoolError::Io(format!(
                    "disk {} of this server was at {} and is gone; put it back, or rebuild the server",
                    spec.name,
                    path.display()
                )));
            }
            None => disk_size(spec, image)?,
        };
        if !path.exists() {
            match image {
                Some(image) => {
                    let overlay = qcow2::overlay(size_bytes, &image.path, image.format)
                        .map_err(PoolError::Io)?;
                    create(&path, |file| {
                        file.set_len(overlay.length)?;
                        for (offset, piece) in &overlay.pieces {
                            file.write_all_at(piece, *offset)?;
                        }
                        Ok(())
                    })?;
                }
                None => create(&path, |file| file.set_len(size_bytes))?,
            }
        }
        self.give(&path, uid)?;
        Ok(DiskFile { name: spec.name.clone(), path, format, size_bytes, backing: image.cloned() })
    }

    fn give(&self, path: &Path, uid: u32) -> Result<(), PoolError> {
        if self.owned {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).map_err(io_error(path))?;
        }
        Ok(())
    }

    fn remove_server(&self, server_id: &str) -> Result<(), PoolError> {
        let directory = self.directory(server_id)?;
        let removing = self.removing(server_id);
        if directory.exists() {
            let bytes: u64 = std::fs::read_dir(&directory)
                .map_err(io_error(&directory))?
                .flatten()
                .filter_map(|entry| entry.metadata().ok())
                .map(|metadata| metadata.blocks() * 512)
                .sum();
            tracing::info!(server = %server_id, folder = %directory.display(), bytes, "removing a deleted server's files");
            if removing.exists() {
                std::fs::remove_dir_all(&removing).map_err(io_error(&removing))?;
            }
            std::fs::rename(&directory, &removing).map_err(io_error(&directory))?;
            sync_directory(&self.servers)?;
        }
        if removing.exists() {
            std::fs::remove_dir_all(&removing).map_err(io_error(&removing))?;
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<PoolServer>, PoolError> {
        let mut servers = Vec::new();
        for entry in std::fs::read_dir(&self.servers).map_err(io_error(&self.servers))? {
            let entry = entry.map_err(io_error(&self.servers))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<ServerId>().is_err() {
                continue;
            }
            let metadata = entry.metadata().map_err(io_error(&self.servers))?;
            servers.push(PoolServer { server_id: name, uid: metadata.gid() });
        }
        Ok(servers)
    }
}

/// The disk's size: what the flavor says, or the image's own where it says nothing.
fn disk_size(spec: &DiskSpec, image: Option<&CachedImage>) -> Result<u64, PoolError> {
    let asked = spec.size_mib.saturating_mul(MIB);
    let Some(image) = image else {
        return match asked {
            0 => Err(PoolError::TooSmall(format!(
                "disk {} has neither a size nor an image",
                spec.name
            ))),
            size => Ok(size),
        };
    };
    let file = File::open(&image.path).map_err(io_error(&image.path))?;
    let own = qcow2::virtual_size(&file, image.format)
        .map_err(io_error(&image.path))?
        .map_err(|why| PoolError::BadImage(format!("image {}: {why}", image.image_id)))?;
    if asked == 0 {
        return Ok(own);
    }
    if asked < own {
        return Err(PoolError::TooSmall(format!(
            "disk {} is to have {} MiB, and image {} needs {} MiB; choose a flavor with a larger disk",
            spec.name,
            spec.size_mib,
            image.image_id,
            own.div_ceil(MIB)
        )));
    }
    Ok(asked)
}

/// A disk's name becomes part of a path.
fn check_name(name: &str) -> Result<(), PoolError> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    match fits {
        true => Ok(()),
        false => Err(PoolError::Io(format!("{name:?} is no name for a disk"))),
    }
}

fn extension(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    }
}

/// Writes a file beside its place, syncs it, and puts it there.
fn create(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> Result<(), PoolError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let error = io_error(path);
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(&error)?;
    fill(&file).map_err(&error)?;
    file.sync_all().map_err(&error)?;
    std::fs::rename(&new, path).map_err(&error)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

fn sync_directory(path: &Path) -> Result<(), PoolError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error(path))
}

fn read_record(directory: &Path) -> Record {
    std::fs::read(directory.join("disks.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn write_record(directory: &Path, record: &Record) -> Result<(), PoolError> {
    use std::io::Write;
    let bytes = serde_json::to_vec_pretty(record)
        .map_err(|error| PoolError::Io(format!("disks.json: {error}")))?;
    create(&directory.join("disks.json"), |mut file| file.write_all(&bytes))
}

impl DirectoryPool {
    async fn blocking<T, F>(&self, work: F) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: FnOnce(&DirectoryPool) -> Result<T, PoolError> + Send + 'static,
    {
        let pool = self.clone();
        tokio::task::spawn_blocking(move || work(&pool))
            .await
            .map_err(|error| PoolError::Io(error.to_string()))?
    }
}

impl Pool for DirectoryPool {
    fn space(&self) -> BoxFuture<'_, Result<PoolSpace, PoolError>> {
        Box::pin(self.blocking(|pool| {
            let stat = nix::sys::statvfs::statvfs(&pool.servers)
                .map_err(|error| PoolError::Io(format!("{}: {error}", pool.servers.display())))?;
            Ok(PoolSpace {
                total_bytes: stat.blocks().saturating_mul(stat.fragment_size()),
                free_bytes: stat.blocks_available().saturating_mul(stat.fragment_size()),
            })
        }))
    }

    fn ensure_disks(
        &self,
        request: DiskRequest,
    ) -> BoxFuture<'_, Result<Vec<DiskFile>, PoolError>> {
        Box::pin(self.blocking(move |pool| pool.make_disks(&request)))
    }

    fn write_config_drive<'a>(
        &'a self,
        server_id: &'a str,
        uid: u32,
        image: Vec<u8>,
    ) -> BoxFuture<'a, Result<PathBuf, PoolError>> {
        let server_id = server_id.to_owned();
        Box::pin(self.blocking(move |pool| {
            let path = pool.make_directory(&server_id, uid)?.join("config.iso");
            create(&path, |file| {
                file.write_all_at(&image, 0)?;
                file.set_permissions(Permissions::from_mode(0o400))
            })?;
            pool.give(&path, uid)?;
            Ok(path)
        }))
    }

    fn remove<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), PoolError>> {
        let server_id = server_id.to_owned();
        Box::pin(self.blocking(move |pool| pool.remove_server(&server_id)))
    }

    fn servers(&self) -> BoxFuture<'_, Result<Vec<PoolServer>, PoolError>> {
        Box::pin(self.blocking(DirectoryPool::list))
    }

    fn images_in_use(&self) -> BoxFuture<'_, Result<Vec<(String, String)>, PoolError>> {
        Box::pin(self.blocking(|pool| {
            let mut images = Vec::new();
            for server in pool.list()? {
                let record = read_record(&pool.directory(&server.server_id)?);
                images.extend(
                    record
                        .disks
                        .into_iter()
                        .filter_map(|disk| disk.image)
                        .map(|image| (image.image_id, image.sha256)),
                );
            }
            images.sort();
            images.dedup();
            Ok(images)
        }))
    }
}
