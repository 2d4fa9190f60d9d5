//! Sealing anew what older keys sealed, so that these can go.

use std::path::Path;

use cloud_types::Fault;
use database::{Database, Origin};

use super::store;
use super::vault::Vault;
use crate::key_files;
use crate::token::{KeySource, SHORTEST_WAIT};

/// Rows in one transaction.
const BATCH: i64 = 200;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Credentials that were sealed anew.
    pub credentials: u64,
    /// The numbers of keys that were removed.
    pub removed: Vec<u32>,
}

/// Seals all credentials with the key that is in use, and removes older keys. Safe to run again,
/// and while the cloud works.
///
/// # Errors
/// When a credential cannot be opened, the database fails, or the directory cannot be used.
pub async fn reseal(db: &Database, token_keys: &Path) -> Result<Resealed, Fault> {
    let failed = |error: crate::KeyError| Fault::internal(error.to_string());
    let source = KeySource::Directory(token_keys.to_owned());
    let vault = std::sync::Arc::new(Vault::open(&source).map_err(failed)?);
    let mut done = Resealed::default();
    loop {
        let vault = vault.clone();
        let batch = db
            .transact(&Origin::system("reseal-credentials"), move |tx| {
                let vault = vault.clone();
                Box::pin(async move {
                    let current = vault.current(tx.now());
                    let rows = store::sealed_otherwise(tx, &current, BATCH).await?;
                    for row in &rows {
                        let text = vault.open_sealed(&row.id, &row.bytes)?;
                        let sealed = vault.seal(tx, &row.id, &text)?;
                        store::reseal(tx, &row.id, &row.bytes, &sealed).await?;
                    }
                    Ok::<_, Fault>(rows.len() as u64)
                })
            })
            .await?;
        done.credentials += batch;
        if batch == 0 {
            break;
        }
    }
    // A process whose clock is behind may have sealed with an older key until just now.
    for number in vault.older(db.clock().now().before(SHORTEST_WAIT)) {
        key_files::remove(&token_keys.join("credentials"), number).map_err(failed)?;
        done.removed.push(number);
    }
    Ok(done)
}
