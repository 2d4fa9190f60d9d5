//! Ways into a cloud: one that runs somewhere, and throw-away ones of our own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use black_box::Client;

/// How to log in to a cloud.
#[derive(Clone)]
pub struct Access {
    base: String,
    authority: Vec<u8>,
    password: String,
}

impl Access {
    /// From the cloud's state directory.
    ///
    /// # Errors
    /// When there is no cloud in it.
    pub fn of(state: &Path) -> Result<Self> {
        let file = state.join("etc/clouds.yaml");
        let clouds = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let section =
            clouds.split_once("  meridian-admin:\n").context("no cloud meridian-admin")?.1;
        let value = |key: &str| -> Result<String> {
            section
                .lines()
                .find_map(|line| line.trim().strip_prefix(key))
                .map(|text| text.trim().to_owned())
                .with_context(|| format!("no {key} in clouds.yaml"))
        };
        Ok(Access {
            base: value("auth_url:")?.trim_end_matches("/identity/v3").to_owned(),
            authority: std::fs::read(state.join("pki/ca.pem"))?,
            password: value("password:")?,
        })
    }

    /// The administrator's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A client without a token, with a connection of its own.
    ///
    /// # Errors
    /// When the authority is not a certificate.
    pub fn anonymous(&self) -> Result<Client> {
        Client::new(&self.base, &self.authority)
    }

    /// A client with the administrator's token.
    ///
    /// # Errors
    /// When the login fails.
    pub async fn admin(&self) -> Result<Client> {
        self.anonymous()?.login("admin", &self.password, "admin").await
    }
}

/// Where the program was built: beside ourselves.
///
/// # Errors
/// When it was not.
pub fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("finding the build directory")?.to_owned();
    for name in ["meridian", "simulated-host"] {
        anyhow::ensure!(
            directory.join(name).exists(),
            "{} is not built: run `cargo build --release -p meridian -p simulated_cloud -p bench`",
            directory.join(name).display()
        );
    }
    Ok(directory)
}
