//! Where servers' disks are kept, as the agent needs it. The real adapter is a directory; a
//! simulated host implements the same trait.

mod directory;
mod qcow2;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use host_protocol::{ImageFormat, ServerSpec};

use crate::BoxFuture;

pub use directory::DirectoryPool;

/// Why the pool could not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PoolError {
    /// No space is left.
    #[error("the host's disk is full: {0}")]
    Full(String),
    /// The disk asked for is smaller than the image it should start from.
    #[error("{0}")]
    TooSmall(String),
    /// The image's file is not what it is declared to be.
    #[error("{0}")]
    BadImage(String),
    /// Any other refusal of the file system.
    #[error("{0}")]
    Io(String),
}

/// Space in the pool, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSpace {
    /// The file system's size.
    pub total_bytes: u64,
    /// What is free to use.
    pub free_bytes: u64,
}

/// An image in the host's cache, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedImage {
    /// The image.
    pub image_id: String,
    /// SHA-256 as verified on this host, hexadecimal.
    pub sha256: String,
    /// The declared format.
    pub format: ImageFormat,
    /// The file; never written.
    pub path: PathBuf,
}

/// A disk, ready for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFile {
    /// The disk's name in the spec.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Its format, known because the pool wrote it.
    pub format: ImageFormat,
    /// What the guest sees, in bytes.
    pub size_bytes: u64,
    /// What it stands on, copy-on-write.
    pub backing: Option<CachedImage>,
}

/// What a server's disks are made from.
#[derive(Clone, Debug)]
pub struct DiskRequest {
    /// The server.
    pub spec: ServerSpec,
    /// For each disk of the spec, its image when it has one.
    pub images: Vec<Option<CachedImage>>,
    /// The user that the guest runs as and that the files belong to.
    pub uid: u32,
}

/// A server that has something in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolServer {
    /// The server.
    pub server_id: String,
    /// The user that its files belong to.
    pub uid: u32,
}

/// Keeps disks. All of a server stands in one directory that goes with its tombstone only.
pub trait Pool: Send + Sync + 'static {
    /// Total and free space.
    fn space(&self) -> BoxFuture<'_, Result<PoolSpace, PoolError>>;

    /// Makes the disks that are missing, and returns all. A disk that exists is never written,
    /// whatever the spec says.
    fn ensure_disks(&self, request: DiskRequest)
    -> BoxFuture<'_, Result<Vec<DiskFile>, PoolError>>;

    /// Writes the config drive anew and returns its path.
    fn write_config_drive<'a>(
        &'a self,
        server_id: &'a str,
        uid: u32,
        image: Vec<u8>,
    ) -> BoxFuture<'a, Result<PathBuf, PoolError>>;

    /// Removes everything of a server. One that is not there is done. Only for tombstones.
    fn remove<'a>(&'a self, server_id: &'a str) -> BoxFuture<'a, Result<(), PoolError>>;

    /// Servers that have something in the pool.
    fn servers(&self) -> BoxFuture<'_, Result<Vec<PoolServer>, PoolError>>;

    /// Images that some disk in the pool stands on, as (image id, SHA-256).
    fn images_in_use(&self) -> BoxFuture<'_, Result<Vec<(String, String)>, PoolError>>;
}
