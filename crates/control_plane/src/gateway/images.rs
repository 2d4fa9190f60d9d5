//! Images for hosts. A host may read an image only while a server placed on it stands on that
//! image, so that a host that is taken over cannot read what its guests never used.

use cloud_types::{Fault, HostId, ImageId};
use database::Database;
use host_documents::documents;
use host_protocol::{DocumentKind, ServerSpec};

/// Whether a server on `host` uses `image`.
pub async fn may_read(db: &Database, host: HostId, image: ImageId) -> Result<bool, Fault> {
    let servers = db
        .read(move |tx| {
            Box::pin(async move {
                Ok::<_, Fault>(documents::list_of_kind(tx, &host, DocumentKind::Server).await?)
            })
        })
        .await?;
    let wanted = image.to_string();
    Ok(servers.iter().filter(|document| !document.tombstone).any(|document| {
        document.read::<ServerSpec>().is_ok_and(|spec| {
            spec.disks
                .iter()
                .filter_map(|disk| disk.image.as_ref())
                .any(|image| image.image_id == wanted)
        })
    }))
}
