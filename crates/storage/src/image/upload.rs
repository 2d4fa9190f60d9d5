//! Taking a file in: written, hashed and judged in one pass, durable before it counts.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use cloud_types::{Fault, ImageId};
use database::BoxFuture;
use futures::{Stream, StreamExt};
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use tokio::io::AsyncWriteExt;

use super::files::Incoming;
use super::format::{self, DiskFormat, HEAD_BYTES};
use super::store::Uploaded;

/// A client that sends nothing for this long has gone.
const SILENCE: Duration = Duration::from_secs(300);

/// What is known of a file while it arrives.
struct Sums {
    length: u64,
    head: Vec<u8>,
    md5: Md5,
    sha256: Sha256,
    sha512: Sha512,
}

impl Sums {
    fn add(&mut self, chunk: &[u8]) {
        self.length += chunk.len() as u64;
        let room = HEAD_BYTES.saturating_sub(self.head.len());
        self.head.extend_from_slice(&chunk[..chunk.len().min(room)]);
        self.md5.update(chunk);
        self.sha256.update(chunk);
        self.sha512.update(chunk);
    }
}

/// Writes a body to an incoming file and judges it. `lives` is called now and then, and ends the
/// upload when it says that the image belongs to somebody else by now.
///
/// # Errors
/// 400 when the file is not what it was declared to be or the client stopped half way, 413 over
/// the limit, 409 when the image was taken away, 503 when the disk is full.
pub async fn receive<S, E>(
    image: ImageId,
    incoming: Incoming,
    declared: DiskFormat,
    limit: u64,
    body: S,
    lives: impl Fn() -> BoxFuture<'static, Result<bool, Fault>> + Send,
) -> Result<Uploaded, Fault>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: std::fmt::Display,
{
    let mut file = incoming.file;
    let mut sums = Sums {
        length: 0,
        head: Vec::new(),
        md5: Md5::new(),
        sha256: Sha256::new(),
        sha512: Sha512::new(),
    };
    let mut sign = tokio::time::interval(super::model::UPLOAD_SIGN);
    sign.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    sign.tick().await;
    futures::pin_mut!(body);
    loop {
        let chunk = tokio::select! {
            _ = sign.tick() => {
                if !lives().await? {
                    return Err(Fault::conflict(format!("Image {image} was deleted, or taken over by another upload, while its file arrived.")));
                }
                continue;
            }
            chunk = tokio::time::timeout(SILENCE, body.next()) => chunk,
        };
        let chunk = match chunk {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(Fault::bad_request(format!(
                    "The upload stopped before its end ({error}); send the file again."
                )));
            }
            Err(_) => {
                return Err(Fault::bad_request(format!(
                    "The upload sent nothing for {} seconds; send the file again.",
                    SILENCE.as_secs()
                )));
            }
        };
        if sums.length + chunk.len() as u64 > limit {
            return Err(Fault::too_large(format!(
                "The image is larger than the {limit} bytes that this cloud takes."
            )));
        }
        // Hashing runs at about 400 MB/s on one core: off the threads that serve requests.
        let hashed = chunk.clone();
        sums = tokio::task::spawn_blocking(move || {
            sums.add(&hashed);
            sums
        })
        .await
        .map_err(|error| Fault::internal(format!("hashing an image failed: {error}")))?;
        file.write_all(&chunk).await.map_err(|error| disk(&error))?;
    }
    let virtual_size = format::check(declared, &sums.head, sums.length)
        .map_err(|error| Fault::bad_request(format!("Image {image} was not taken: {error}.")))?;
    file.flush().await.map_err(|error| disk(&error))?;
    file.sync_all().await.map_err(|error| disk(&error))?;
    Ok(Uploaded {
        size: sums.length,
        virtual_size,
        md5: hex::encode(sums.md5.finalize()),
        sha512: hex::encode(sums.sha512.finalize()),
        sha256: hex::encode(sums.sha256.finalize()),
    })
}

/// A failure of the zone's disk, in words for the caller.
pub fn disk(error: &io::Error) -> Fault {
    tracing::error!(%error, "the zone's image store failed");
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        Fault::unavailable(
            "The zone's image store is full. The image is as it was; an operator has to make room.",
        )
    } else {
        Fault::unavailable(
            "The zone's image store failed. The image is as it was; try again, and tell an operator if it stays so.",
        )
    }
}
