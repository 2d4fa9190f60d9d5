//! What an operator does with the database as a whole: copies, a restore, the move to PostgreSQL.

use std::path::{Path, PathBuf};

use ::database::transfer::{self, Moved};
use anyhow::{Context, Result, bail};

use super::open_database;
use crate::config::Config;
use crate::layout::Layout;
use crate::{adoption, pki, server};

/// The SQLite file of a cloud; `None` when it keeps its rows in PostgreSQL.
fn file(layout: &Layout, config: &Config) -> Option<PathBuf> {
    config.database.url.strip_prefix("sqlite:").map(|path| layout.root().join(path))
}

/// Copies the database while the cloud runs.
pub fn backup(layout: &Layout, to: &Path) -> Result<()> {
    let config = Config::read(&layout.config())?;
    let Some(file) = file(layout, &config) else {
        bail!(
            "this cloud keeps its rows in PostgreSQL: make backups with its own tools \
             (pg_basebackup with archived WAL, or pg_dump --format=custom)"
        );
    };
    transfer::backup(&file, to).with_context(|| format!("copying {}", file.display()))
}

/// Takes a restored database into use: puts the copy in the place of a SQLite file (PostgreSQL is
/// restored by its own tools before), renews the lineage, and begins the review. Returns the new
/// lineage.
pub async fn restore(layout: &Layout, from: Option<&Path>) -> Result<String> {
    let config = Config::read(&layout.config())?;
    match (file(layout, &config), from) {
        (Some(file), Some(from)) => replace(&file, from)?,
        (Some(_), None) => bail!("say which copy to restore: --from FILE"),
        (None, Some(_)) => bail!(
            "this cloud keeps its rows in PostgreSQL: restore it with pg_restore or a base backup \
             first, then run this without --from"
        ),
        (None, None) => {}
    }
    let db = open_database(layout, &config).await?;
    server::migrate(&db).await?;
    let lineage = adoption::begin(&db).await.context("beginning the review")?;
    db.close().await;
    Ok(lineage)
}

/// Puts a copy where the database is; what was there is kept beside it.
fn replace(file: &Path, from: &Path) -> Result<()> {
    transfer::check(from).with_context(|| from.display().to_string())?;
    if file.exists() {
        // Alone with the file, its log is in it, so that one file is put aside.
        drop(transfer::sole(file)?);
        let now = crate::clock::clock().now();
        let aside = file.with_extension(format!("replaced-{}", now.0 / 1_000_000));
        std::fs::rename(file, &aside).with_context(|| aside.display().to_string())?;
        println!("what was there before is kept as {}", aside.display());
    }
    let draft = file.with_extension("restoring");
    std::fs::copy(from, &draft)
        .and_then(|_| std::fs::File::open(&draft)?.sync_all())
        .and_then(|()| std::fs::rename(&draft, file))
        .and_then(|()| match file.parent() {
            Some(folder) => std::fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        })
        .with_context(|| format!("putting the copy in the place of {}", file.display()))
}

/// Moves a cloud from SQLite to PostgreSQL and has its configuration say so. The control plane is
/// down meanwhile; hosts and guests go on.
pub async fn move_to_postgres(layout: &Layout, url: &str) -> Result<Moved> {
    let mut config = Config::read(&layout.config())?;
    let Some(file) = file(layout, &config) else {
        bail!("this cloud keeps its rows in PostgreSQL already");
    };
    if !url.starts_with("postgres://") {
        bail!("--to has to begin with postgres://");
    }
    // Alone with the file before anything is made elsewhere.
    drop(transfer::sole(&file)?);
    let target = Config {
        database: crate::config::DatabaseSection { url: url.to_owned() },
        ..config.clone()
    };
    let db = open_database(layout, &target).await.context("opening PostgreSQL")?;
    server::migrate(&db).await?;
    db.close().await;
    let moved = transfer::move_to_postgres(&file, url).await?;
    config.database.url = url.to_owned();
    pki::write_public(&layout.config(), &config.to_text())?;
    Ok(moved)
}

/// Gives up a move that was not finished: the cloud stays on SQLite.
pub fn abandon_move(layout: &Layout) -> Result<()> {
    let config = Config::read(&layout.config())?;
    let Some(file) = file(layout, &config) else {
        bail!("this cloud keeps its rows in PostgreSQL: its move is finished");
    };
    Ok(transfer::abandon(&file)?)
}
