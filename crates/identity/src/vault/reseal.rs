//! Sealing anew what older keys sealed, so that these can go; and sealing what an earlier release
//! kept unsealed.

use std::path::Path;
use std::sync::Arc;

use cloud_types::Fault;
use database::{Database, Origin};

use super::{COLUMNS, Column, Vault, store};
use crate::key_files;
use crate::token::{KeySource, SHORTEST_WAIT};

/// Rows in one transaction.
const BATCH: i64 = 200;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets that were sealed anew.
    pub secrets: u64,
    /// The numbers of keys that were removed.
    pub removed: Vec<u32>,
}

/// Seals all secrets with the key that is in use, and removes older keys. Safe to run again, and
/// while the cloud works.
///
/// # Errors
/// When a secret cannot be opened, the database fails, or the directory cannot be used.
pub async fn reseal(db: &Database, token_keys: &Path) -> Result<Resealed, Fault> {
    let failed = |error: crate::KeyError| Fault::internal(error.to_string());
    let source = KeySource::Directory(token_keys.to_owned());
    let vault = Arc::new(Vault::open(&source).map_err(failed)?);
    let mut done = Resealed { secrets: seal_plain(db, &vault).await?, ..Resealed::default() };
    // Until a look at all of them finds nothing: meanwhile others may have been sealed by a process
    // whose clock is behind.
    loop {
        let mut sealed = 0;
        for column in COLUMNS {
            sealed += reseal_column(db, &vault, column).await?;
        }
        done.secrets += sealed;
        if sealed == 0 {
            break;
        }
    }
    // Such a process may have sealed with an older key until just now.
    for number in vault.older(db.clock().now().before(SHORTEST_WAIT)) {
        key_files::remove(&token_keys.join("credentials"), number).map_err(failed)?;
        done.removed.push(number);
    }
    Ok(done)
}

async fn reseal_column(
    db: &Database,
    vault: &Arc<Vault>,
    column: &'static Column,
) -> Result<u64, Fault> {
    let (mut done, mut after) = (0, String::new());
    loop {
        let (vault, from) = (vault.clone(), after.clone());
        let (count, last) = db
            .transact(&Origin::system("reseal-secrets"), move |tx| {
                let (vault, from) = (vault.clone(), from.clone());
                Box::pin(async move {
                    let id = vault.current_id(tx.now());
                    let rows = store::sealed_otherwise(tx, column, &id, &from, BATCH).await?;
                    for row in &rows {
                        let name = format!("{}{}", column.prefix, row.key);
                        let text = vault.open_sealed(&name, &row.bytes)?;
                        let sealed = vault.seal(tx, &name, &text)?;
                        store::reseal(tx, column, row, &sealed).await?;
                    }
                    let last = rows.last().map(|row| row.key.clone());
                    Ok::<_, Fault>((rows.len() as u64, last))
                })
            })
            .await?;
        done += count;
        match last {
            Some(last) => after = last,
            None => return Ok(done),
        }
    }
}

/// Seals what an earlier release kept as it is. Answers how many secrets that were.
///
/// # Errors
/// The database's.
pub(crate) async fn seal_plain(db: &Database, vault: &Arc<Vault>) -> Result<u64, Fault> {
    let mut done = 0;
    for column in COLUMNS {
        let Some(plain) = &column.plain else { continue };
        loop {
            let vault = vault.clone();
            let count = db
                .transact(&Origin::system("seal-secrets"), move |tx| {
                    let vault = vault.clone();
                    Box::pin(async move {
                        let rows = store::plain_rows(tx, column, plain, BATCH).await?;
                        for row in &rows {
                            let name = format!("{}{}", column.prefix, row.key);
                            let sealed = vault.seal(tx, &name, &row.text)?;
                            store::seal_row(tx, column, plain, row, &sealed).await?;
                        }
                        Ok::<_, Fault>(rows.len() as u64)
                    })
                })
                .await?;
            done += count;
            if count == 0 {
                break;
            }
        }
    }
    Ok(done)
}
