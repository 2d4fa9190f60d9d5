//! Where the zone keeps images' files.
//!
//! ```text
//!   DIR/incoming/<upload>      being written; a leftover when no row knows the upload
//!   DIR/images/<upload>        whole, synced, mode 0600; its row says which image it is
//! ```
//! A file is named after its upload and never written over, so an active image's bytes never
//! change, whoever comes back from the dead.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use database::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

/// How much is read at a time for a download.
const READ_BYTES: usize = 256 * 1024;

/// A file to read from its beginning.
pub struct ImageFile {
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its bytes.
    pub stream: BoxStream<'static, io::Result<Bytes>>,
}

/// A file that is being written.
pub struct Incoming {
    /// Where it is written.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
}

/// Keeps images' files; another kind of store implements the same.
pub trait ImageStore: Send + Sync + 'static {
    /// Opens a new file for an upload.
    fn begin<'a>(&'a self, upload: &'a str) -> BoxFuture<'a, io::Result<Incoming>>;
    /// Puts a whole and synced upload in its place; durable when it returns.
    fn commit<'a>(&'a self, upload: &'a str) -> BoxFuture<'a, io::Result<()>>;
    /// Forgets an upload; one that is not there is forgotten.
    fn abandon<'a>(&'a self, upload: &'a str) -> BoxFuture<'a, io::Result<()>>;
    /// Opens a whole file.
    fn open<'a>(&'a self, file: &'a str) -> BoxFuture<'a, io::Result<ImageFile>>;
    /// Removes a whole file; one that is not there is removed.
    fn remove<'a>(&'a self, file: &'a str) -> BoxFuture<'a, io::Result<()>>;
    /// Uploads that have a file.
    fn uploads(&self) -> BoxFuture<'_, io::Result<Vec<String>>>;
}

/// Files in a directory.
pub struct FileStore {
    directory: PathBuf,
}

impl FileStore {
    /// Opens the directory, making it when it is not there.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(directory: &Path) -> io::Result<Self> {
        for folder in ["incoming", "images"] {
            std::fs::create_dir_all(directory.join(folder))?;
        }
        Ok(FileStore { directory: directory.to_owned() })
    }

    fn incoming(&self, upload: &str) -> PathBuf {
        self.directory.join("incoming").join(upload)
    }

    fn image(&self, file: &str) -> PathBuf {
        self.directory.join("images").join(file)
    }
}

/// Missing is as good as removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl ImageStore for FileStore {
    fn begin<'a>(&'a self, upload: &'a str) -> BoxFuture<'a, io::Result<Incoming>> {
        Box::pin(async move {
            let path = self.incoming(upload);
            let file = OpenOptions::new()
                .write(true)
                .read(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .await?;
            Ok(Incoming { path, file })
        })
    }

    fn commit<'a>(&'a self, upload: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            fs::rename(self.incoming(upload), self.image(upload)).await?;
            File::open(self.directory.join("images")).await?.sync_all().await
        })
    }

    fn abandon<'a>(&'a self, upload: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { gone(fs::remove_file(self.incoming(upload)).await) })
    }

    fn open<'a>(&'a self, file: &'a str) -> BoxFuture<'a, io::Result<ImageFile>> {
        Box::pin(async move {
            let file = File::open(self.image(file)).await?;
            let size_bytes = file.metadata().await?.len();
            let stream = ReaderStream::with_capacity(file.take(size_bytes), READ_BYTES).boxed();
            Ok(ImageFile { size_bytes, stream })
        })
    }

    fn remove<'a>(&'a self, file: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { gone(fs::remove_file(self.image(file)).await) })
    }

    fn uploads(&self) -> BoxFuture<'_, io::Result<Vec<String>>> {
        Box::pin(async move {
            let mut entries = fs::read_dir(self.directory.join("incoming")).await?;
            let mut names = Vec::new();
            while let Some(entry) = entries.next_entry().await? {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
            Ok(names)
        })
    }
}
