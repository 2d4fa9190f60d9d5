//! That every replica has the same image store. Replicas keep images in a directory that all of
//! them mount; one that starts without it would answer that images are gone, and take uploads that
//! nobody else sees. So the directory has a name, which stands in a file in it and in the database,
//! and a replica that finds another, or none, does not start.

use std::path::Path;

use anyhow::{Context, Result, bail};
use database::{Database, DatabaseError, Origin};

use crate::replica;

/// The file in the store with its name.
const MARKER: &str = "store-id";

/// Checks that the directory is the region's image store. The first one ever seen is.
pub async fn check(db: &Database, directory: &Path) -> Result<()> {
    let marker = directory.join(MARKER);
    let found = match std::fs::read_to_string(&marker) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| marker.display().to_string()),
    };
    let known = db
        .read(|tx| Box::pin(async move { replica::image_store(tx).await }))
        .await
        .context("looking up the image store")?;
    match (known, found) {
        (Some(known), Some(found)) if known == found => Ok(()),
        (Some(known), found) => {
            let what = match found {
                Some(found) => format!("is the store {found}"),
                None => "has no name: is it mounted?".to_owned(),
            };
            bail!(
                "{} is not the image store of this cloud: it {what}. All replicas share one \
                 directory, whose name is {known}. If this is it after all, write that name into {}",
                directory.display(),
                marker.display()
            )
        }
        (None, found) => {
            let id = match found {
                Some(found) => found,
                None => {
                    std::fs::create_dir_all(directory)
                        .with_context(|| directory.display().to_string())?;
                    let id = uuid::Uuid::new_v4().to_string();
                    let draft = directory.join(format!("{MARKER}.new"));
                    std::fs::write(&draft, format!("{id}\n"))
                        .and_then(|()| std::fs::rename(&draft, &marker))
                        .with_context(|| marker.display().to_string())?;
                    id
                }
            };
            remember(db, &id).await
        }
    }
}

/// A database that cannot be written now is told at a later start.
async fn remember(db: &Database, id: &str) -> Result<()> {
    let id = id.to_owned();
    let written = db
        .transact(&Origin::system("start"), move |tx| {
            let id = id.clone();
            Box::pin(async move { replica::set_image_store(tx, &id).await })
        })
        .await;
    match written {
        Ok(()) => Ok(()),
        Err(error @ (DatabaseError::ReadOnly(_) | DatabaseError::Full(_))) => {
            tracing::warn!(%error, "the image store's name is not remembered yet");
            Ok(())
        }
        Err(error) => Err(error).context("remembering the image store"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cloud_types::SystemClock;
    use database::DatabaseConfig;

    use super::*;

    #[tokio::test]
    async fn the_first_directory_is_the_store_and_another_is_refused() {
        let db =
            Database::open(&DatabaseConfig::SqliteMemory, Arc::new(SystemClock)).await.unwrap();
        crate::server::migrate(&db).await.unwrap();
        let (first, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        check(&db, first.path()).await.unwrap();
        check(&db, first.path()).await.unwrap();
        let refused = check(&db, other.path()).await.unwrap_err().to_string();
        assert!(refused.contains("is it mounted"), "{refused}");
        std::fs::write(other.path().join(MARKER), "somebody-else").unwrap();
        let refused = check(&db, other.path()).await.unwrap_err().to_string();
        assert!(refused.contains("somebody-else"), "{refused}");
    }
}
