//! What an operator does at the machine's console, past the API: a way back in, and taking over
//! the people of another cloud. The control plane may run meanwhile.

use anyhow::{Context, Result, bail};
use database::Database;
pub use identity::Recovered;
pub use identity::import::{ImportOptions, Lists, Plan, Snapshot};

use crate::config::Config;
use crate::layout::Layout;
use crate::{init, server};

async fn open(layout: &Layout) -> Result<(Config, Database)> {
    if !layout.config().exists() {
        bail!("{} is not there: run `meridian init` first", layout.config().display());
    }
    let config = Config::read(&layout.config())?;
    let db = init::open_database(layout, &config).await?;
    server::migrate(&db).await?;
    Ok((config, db))
}

/// Makes an administrator for an hour; also says where the API is.
///
/// # Errors
/// When there is no cloud here, or its database cannot be written.
pub async fn recover(layout: &Layout) -> Result<(Recovered, String)> {
    let (config, db) = open(layout).await?;
    let made = identity::recover(&db, config.password_hashing.params()).await;
    let made = made.context("making an administrator for an hour")?;
    db.close().await;
    Ok((made, config.api.public_url))
}

/// Imports people, or only says what would be imported.
///
/// # Errors
/// When something contradicts what is here; then nothing was imported.
pub async fn import(
    layout: &Layout,
    snapshot: Snapshot,
    options: ImportOptions,
    dry_run: bool,
) -> Result<Plan> {
    let (_, db) = open(layout).await?;
    let done = if dry_run {
        identity::import::plan(&db, &snapshot, options).await
    } else {
        identity::import::apply(&db, snapshot, options).await
    };
    db.close().await;
    Ok(done?)
}
