//! `meridian keys`: rotation of the keys that sign tokens and that seal secrets. Works on the
//! state directory while the cloud runs; every process notices by itself.

use std::time::Duration;

use anyhow::{Context, Result};
use cloud_types::{Clock as _, SystemClock};

use crate::config::Config;
use crate::init;
use crate::layout::Layout;

/// What the keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Signing tokens.
    Tokens,
    /// Sealing credentials and all other secrets that are kept.
    Credentials,
}

/// Adds a key that is used after `wait`. Answers what happened, for people.
///
/// # Errors
/// When the wait is too short or the keys cannot be read or written.
pub fn rotate(layout: &Layout, what: Use, wait: Duration) -> Result<String> {
    // A path that was mistyped would get keys that nobody uses.
    anyhow::ensure!(
        layout.config().exists(),
        "there is no cloud in {}: it has no {}. Nothing was changed; give the state directory",
        layout.root().display(),
        layout.config().display()
    );
    let (directory, now) = (layout.token_keys(), SystemClock.now());
    let (rotated, used) = match what {
        Use::Tokens => (identity::rotate_token_keys(&directory, now, wait)?, "signs tokens"),
        Use::Credentials => {
            (identity::rotate_credential_keys(&directory, now, wait)?, "seals secrets")
        }
    };
    let mut told = format!("Key {:04} {used} from {} on.", rotated.added, rotated.from);
    for number in rotated.removed {
        told.push_str(&format!(
            "\nKey {number:04} was removed: nothing that it made still counts."
        ));
    }
    Ok(told)
}

/// Seals all secrets with the key in use, and removes older keys. Answers what happened.
///
/// # Errors
/// When the database or the keys cannot be used.
pub async fn reseal(layout: &Layout) -> Result<String> {
    let config = Config::read(&layout.config())?;
    let db = init::open_database(layout, &config).await?;
    let done = identity::reseal(&db, &layout.token_keys())
        .await
        .map_err(|fault| anyhow::anyhow!("{}", fault.message))
        .context("sealing secrets anew")?;
    let mut told = format!("Sealed {} secrets anew.", done.secrets);
    for number in done.removed {
        told.push_str(&format!("\nKey {number:04} was removed: it seals nothing any more."));
    }
    Ok(told)
}
