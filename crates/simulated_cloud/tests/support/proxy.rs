//! The way from one process to PostgreSQL, which a test can cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// How often a line that stands still looks whether it may go on.
const LOOK: Duration = Duration::from_millis(20);

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Line {
    /// It arrives.
    Open = 0,
    /// It waits, and arrives when the line is open again: a switch that is rebooted.
    Silent = 1,
    /// Connections break, and new ones are refused.
    Broken = 2,
}

/// A socket that stands for PostgreSQL's.
pub struct Proxy {
    directory: tempfile::TempDir,
    line: Arc<AtomicU8>,
    url: String,
}

impl Proxy {
    /// A way to the database of a `postgres://USER@SOCKET-DIRECTORY/NAME` URL.
    pub fn start(url: &str) -> Result<Proxy> {
        let rest = url.strip_prefix("postgres://").context("a postgres URL")?;
        let (user, rest) = rest.split_once('@').context("a user in the URL")?;
        let (host, name) = rest.split_once('/').context("a database in the URL")?;
        let server = PathBuf::from(host.replace("%2F", "/")).join(".s.PGSQL.5432");
        let directory = tempfile::tempdir()?;
        let listener = UnixListener::bind(directory.path().join(".s.PGSQL.5432"))?;
        let own = directory.path().to_string_lossy().replace('/', "%2F");
        let line = Arc::new(AtomicU8::new(Line::Open as u8));
        tokio::spawn(accept(listener, server, line.clone()));
        Ok(Proxy { directory, line, url: format!("postgres://{user}@{own}/{name}") })
    }

    /// How to connect through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Says what becomes of what is sent from now on.
    pub fn set(&self, line: Line) {
        self.line.store(line as u8, Ordering::SeqCst);
    }

    /// Where its socket is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

fn is(line: &AtomicU8, what: Line) -> bool {
    line.load(Ordering::SeqCst) == what as u8
}

async fn accept(listener: UnixListener, server: PathBuf, line: Arc<AtomicU8>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, line) = (server.clone(), line.clone());
        tokio::spawn(async move {
            if is(&line, Line::Broken) {
                return;
            }
            let Ok(server) = UnixStream::connect(server).await else { return };
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let there = tokio::spawn(carry(from_client, to_server, line.clone()));
            carry(from_server, to_client, line).await;
            there.abort();
        });
    }
}

async fn carry(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    line: Arc<AtomicU8>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = until_broken(&line) => return,
        };
        let Ok(read) = read else { return };
        if read == 0 {
            return;
        }
        while is(&line, Line::Silent) {
            tokio::time::sleep(LOOK).await;
        }
        if is(&line, Line::Broken) || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn until_broken(line: &AtomicU8) {
    while !is(line, Line::Broken) {
        tokio::time::sleep(LOOK).await;
    }
}
