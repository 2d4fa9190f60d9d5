//! The host's copies of images: one file for each image and checksum, fetched once however many
//! servers wait for it, and used only after its length and SHA-256 were seen to be right.
//!
//! ```text
//!   absent ──first request──► ID-SHA.FORMAT.part ──length and SHA-256 right, synced──► ID-SHA.FORMAT
//!      ▲                            │ wrong or broken off                                  │
//!      └────────────────────────────┘                    no disk stands on it, space short ▼
//!                                                                                       removed
//! ```
//! The declared format is part of the name and never probed. Files are 0444 in a folder that may
//! be entered and not listed: whoever escapes into a QEMU process can read the image that its own
//! command line names, and cannot find others.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cloud_types::ImageId;
use futures::StreamExt;
use futures::stream::BoxStream;
use host_protocol::{ImageFormat, ImageSource};
use sha2::{Digest, Sha256};

use crate::BoxFuture;
use crate::pool::CachedImage;

/// How often a download that breaks off is taken up again before it counts as failed.
const RESUMES: u32 = 5;
/// An image that was asked for within this time is not evicted: a disk may be about to stand on it.
const EVICT_AFTER: Duration = Duration::from_secs(3600);

/// Why an image cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The region has no such image, or no longer.
    #[error("image {0} does not exist any more")]
    NotFound(String),
    /// What arrived is not what the server's description promises.
    #[error("image {image_id} arrived damaged: {why}")]
    Corrupt {
        /// The image.
        image_id: String,
        /// What differs.
        why: String,
    },
    /// The control plane cannot be reached or broke off.
    #[error("image {image_id} cannot be fetched now: {why}")]
    Unreachable {
        /// The image.
        image_id: String,
        /// Why.
        why: String,
    },
    /// No space is left.
    #[error("the host's disk is full: no space for image {0}")]
    Full(String),
    /// The file system refused.
    #[error("image cache: {0}")]
    Io(String),
}

/// Where images come from.
pub trait ImageFetcher: Send + Sync + 'static {
    /// The image's bytes from `offset` on. The stream may begin earlier than asked only by being
    /// refused; an error in it is a connection that broke.
    fn fetch<'a>(
        &'a self,
        image_id: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>>;
}

/// The host's images, real or simulated.
pub trait Images: Send + Sync + 'static {
    /// Whether the image is here already.
    fn has(&self, source: &ImageSource) -> bool;
    /// The image, verified; fetched if need be. Dropping the future stops a download that nobody
    /// else waits for.
    fn get<'a>(&'a self, source: &'a ImageSource) -> BoxFuture<'a, Result<Cached, ImageError>>;
    /// Removes every image that nothing stands on and nobody asked for lately. `in_use` are
    /// (image id, SHA-256) of every disk in the pool. Answers how many.
    fn evict(&self, in_use: Vec<(String, String)>) -> BoxFuture<'_, Result<usize, ImageError>>;
}

impl Images for ImageCache {
    fn has(&self, source: &ImageSource) -> bool {
        self.path(source).is_ok_and(|path| path.exists())
    }

    fn get<'a>(&'a self, source: &'a ImageSource) -> BoxFuture<'a, Result<Cached, ImageError>> {
        Box::pin(self.get_image(source))
    }

    fn evict(&self, in_use: Vec<(String, String)>) -> BoxFuture<'_, Result<usize, ImageError>> {
        let cache = self.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || cache.evict_images(&in_use))
                .await
                .map_err(|error| ImageError::Io(error.to_string()))?
                .map_err(|error| ImageError::Io(error.to_string()))
        })
    }
}

/// The real cache. Cheap to clone.
#[derive(Clone)]
pub struct ImageCache {
    directory: PathBuf,
    fetcher: Arc<dyn ImageFetcher>,
    busy: Arc<Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>>,
}

/// An image and whether it had to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// The image.
    pub image: CachedImage,
    /// Whether this request waited for a download.
    pub fetched: bool,
}

impl ImageCache {
    /// Opens the cache and removes what downloads of a former agent left unfinished.
    pub fn open(directory: &Path, fetcher: Arc<dyn ImageFetcher>) -> io::Result<ImageCache> {
        std::fs::create_dir_all(directory)?;
        std::fs::set_permissions(directory, Permissions::from_mode(0o711))?;
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(ImageCache { directory: directory.to_owned(), fetcher, busy: Arc::default() })
    }

    async fn get_image(&self, source: &ImageSource) -> Result<Cached, ImageError> {
        let path = self.path(source)?;
        let image = CachedImage {
            image_id: source.image_id.clone(),
            sha256: source.sha256.to_ascii_lowercase(),
            format: source.format,
            path: path.clone(),
        };
        if path.exists() {
            touch(&path);
            return Ok(Cached { image, fetched: false });
        }
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            // Entries that nobody holds are done with.
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(busy.entry(path.clone()).or_default())
        };
        let _turn = turn.lock().await;
        if !path.exists() {
            let result = self.download(source, &path).await;
            if result.is_err() {
                let _ = std::fs::remove_file(part_of(&path));
            }
            result?;
        }
        Ok(Cached { image, fetched: true })
    }

    fn path(&self, source: &ImageSource) -> Result<PathBuf, ImageError> {
        let id: ImageId =
            source.image_id.parse().map_err(|error| ImageError::Io(format!("{error}")))?;
        let digits = source.sha256.to_ascii_lowercase();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ImageError::Corrupt {
                image_id: source.image_id.clone(),
                why: "its description has no SHA-256".to_owned(),
            });
        }
        let extension = match source.format {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
        };
        Ok(self.directory.join(format!("{id}-{digits}.{extension}")))
    }

    async fn download(&self, source: &ImageSource, path: &Path) -> Result<(), ImageError> {
        let begun = std::time::Instant::now();
        let part = part_of(path);
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&part)
            .map_err(|error| file_error(source, &error))?;
        let mut progress = Progress { file, hasher: Sha256::new(), received: 0 };
        let mut broken = 0;
        while progress.received < source.size_bytes || progress.received == 0 {
            match self.receive(source, &mut progress).await {
                Ok(()) if progress.received >= source.size_bytes => break,
                Ok(()) => broken += 1,
                Err(ImageError::Unreachable { why, .. }) if broken < RESUMES => {
                    broken += 1;
                    tracing::debug!(image = %source.image_id, received = progress.received, %why, "taking a download up again");
                }
                Err(error) => return Err(error),
            }
            if broken > RESUMES {
                return Err(ImageError::Corrupt {
                    image_id: source.image_id.clone(),
                    why: format!(
                        "it ends after {} of {} bytes",
                        progress.received, source.size_bytes
                    ),
                });
            }
            tokio::time::sleep(Duration::from_millis(200) * broken).await;
        }
        let Progress { file, hasher, received } = progress;
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if received != source.size_bytes || !digest.eq_ignore_ascii_case(&source.sha256) {
            return Err(ImageError::Corrupt {
                image_id: source.image_id.clone(),
                why: format!(
                    "{received} bytes with SHA-256 {digest}, and {} bytes with {} were promised",
                    source.size_bytes, source.sha256
                ),
            });
        }
        let place = path.to_owned();
        let published = tokio::task::spawn_blocking(move || publish(&file, &place))
            .await
            .map_err(|error| ImageError::Io(error.to_string()))?;
        published.map_err(|error| file_error(source, &error))?;
        tracing::info!(
            image = %source.image_id, bytes = received, ms = begun.elapsed().as_millis() as u64,
            "fetched an image"
        );
        Ok(())
    }

    /// Reads one stream to its end.
    async fn receive(
        &self,
        source: &ImageSource,
        progress: &mut Progress,
    ) -> Result<(), ImageError> {
        let mut stream = self.fetcher.fetch(&source.image_id, progress.received).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|why| ImageError::Unreachable {
                image_id: source.image_id.clone(),
                why,
            })?;
            if progress.received + chunk.len() as u64 > source.size_bytes {
                return Err(ImageError::Corrupt {
                    image_id: source.image_id.clone(),
                    why: format!("it is longer than {} bytes", source.size_bytes),
                });
            }
            // Chunks are tens of kilobytes: hashing and writing one to the page cache takes less
            // than handing it to another thread and back would.
            progress.hasher.update(&chunk);
            progress.file.write_all(&chunk).map_err(|error| file_error(source, &error))?;
            progress.received += chunk.len() as u64;
        }
        Ok(())
    }

    fn evict_images(&self, in_use: &[(String, String)]) -> io::Result<usize> {
        let used: Vec<String> = in_use.iter().map(|(id, sha)| format!("{id}-{sha}")).collect();
        let mut evicted = 0;
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let path = entry.path();
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let (Some(stem), Ok(asked)) = (stem, entry.metadata().and_then(|m| m.modified()))
            else {
                continue;
            };
            let age = SystemTime::now().duration_since(asked).unwrap_or_default();
            let is_part = path.extension().is_some_and(|extension| extension == "part");
            if !is_part && !used.contains(&stem) && age > EVICT_AFTER {
                std::fs::remove_file(&path)?;
                tracing::info!(image = %stem, "evicted an image that nothing stands on");
                evicted += 1;
            }
        }
        Ok(evicted)
    }
}

struct Progress {
    file: File,
    hasher: Sha256,
    received: u64,
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

/// Syncs the file and gives it its name.
fn publish(file: &File, path: &Path) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()?;
    std::fs::rename(part_of(path), path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Remembers when the image was last asked for. Only a hint, so a failure is no error.
fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

fn file_error(source: &ImageSource, error: &io::Error) -> ImageError {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => ImageError::Full(source.image_id.clone()),
        _ => ImageError::Io(format!("{}: {error}", source.image_id)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Serves one image, `cut` bytes at a time when that is not 0.
    struct Fake {
        bytes: Vec<u8>,
        cut: usize,
        asked: AtomicUsize,
    }

    impl ImageFetcher for Fake {
        fn fetch<'a>(
            &'a self,
            image_id: &'a str,
            offset: u64,
        ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Bytes, String>>, ImageError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let rest = self.bytes[usize::try_from(offset).unwrap()..].to_vec();
            let missing = self.bytes.is_empty();
            let cut = self.cut;
            let id = image_id.to_owned();
            Box::pin(async move {
                if missing {
                    return Err(ImageError::NotFound(id));
                }
                // Others get their turn, so that concurrent requests overlap.
                tokio::task::yield_now().await;
                let parts = match cut {
                    0 => vec![Ok(Bytes::from(rest))],
                    cut if rest.len() <= cut => vec![Ok(Bytes::from(rest))],
                    cut => vec![Ok(Bytes::from(rest[..cut].to_vec())), Err("cut".to_owned())],
                };
                Ok(futures::stream::iter(parts).boxed())
            })
        }
    }

    fn source(bytes: &[u8]) -> ImageSource {
        ImageSource {
            image_id: "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0".to_owned(),
            format: ImageFormat::Raw,
            size_bytes: bytes.len() as u64,
            sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn cache(bytes: &[u8], cut: usize) -> (tempfile::TempDir, ImageCache, Arc<Fake>) {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake { bytes: bytes.to_vec(), cut, asked: AtomicUsize::new(0) });
        let cache = ImageCache::open(&folder.path().join("images"), fake.clone()).unwrap();
        (folder, cache, fake)
    }

    #[tokio::test]
    async fn many_requests_share_one_download() {
        let bytes = vec![3; 100_000];
        let (_folder, cache, fake) = cache(&bytes, 0);
        let source = source(&bytes);
        let all = futures::future::join_all((0..10).map(|_| cache.get(&source))).await;
        for cached in &all {
            let cached = cached.as_ref().unwrap();
            assert_eq!(std::fs::read(&cached.image.path).unwrap(), bytes);
        }
        assert_eq!(fake.asked.load(Ordering::SeqCst), 1);
        assert!(!cache.get(&source).await.unwrap().fetched);
        let mode = std::fs::metadata(&all[0].as_ref().unwrap().image.path).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o444);
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_breaks_off_is_taken_up_again() {
        let bytes: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        let (_folder, cache, fake) = cache(&bytes, 30_000);
        assert!(cache.get(&source(&bytes)).await.unwrap().fetched);
        assert_eq!(fake.asked.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_damaged_too_short_or_too_long_is_not_used() {
        let bytes = vec![3; 1000];
        let (_folder, cache, _) = cache(&bytes, 0);
        let mut damaged = source(&bytes);
        damaged.sha256 = source(b"other").sha256;
        let mut short = source(&bytes);
        short.size_bytes = 1001;
        let mut long = source(&bytes);
        long.size_bytes = 999;
        for source in [damaged, short, long] {
            let result = cache.get(&source).await;
            assert!(matches!(result, Err(ImageError::Corrupt { .. })), "{result:?}");
            assert!(!cache.has(&source));
        }
        assert_eq!(std::fs::read_dir(&cache.directory).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_image_that_is_gone_is_said_to_be() {
        let (_folder, cache, _) = cache(&[], 0);
        let result = cache.get(&source(b"x")).await;
        assert!(matches!(result, Err(ImageError::NotFound(_))));
    }

    #[tokio::test]
    async fn only_what_nothing_stands_on_is_evicted() {
        let bytes = vec![3; 10];
        let (_folder, cache, _) = cache(&bytes, 0);
        let source = source(&bytes);
        let path = cache.get(&source).await.unwrap().image.path;
        let in_use = vec![(source.image_id.clone(), source.sha256.clone())];
        assert_eq!(cache.evict(Vec::new()).await, Ok(0), "asked for just now");
        let old = SystemTime::now() - EVICT_AFTER - Duration::from_secs(1);
        File::open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(cache.evict(in_use).await, Ok(0));
        assert_eq!(cache.evict(Vec::new()).await, Ok(1));
        assert!(!path.exists());
    }
}
