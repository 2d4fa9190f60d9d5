//! How a machine becomes a host: it makes a key that never leaves it, and trades a one-time token
//! for a certificate that names it.
//!
//! ```text
//!   identity/host.key        0600, made before anything is sent, and kept over failed tries
//!   identity/host.pem        the certificate       identity/authority.pem   whom to trust
//!   identity/host_id         written last: with it, the host is enrolled
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use host_protocol::{EnrolRequest, EnrolResponse};
use rcgen::{CertificateParams, DnType, KeyPair};

use super::http;
use super::{Backoff, LinkError};
use crate::config::HostConfig;
use crate::private;

/// Who this host is.
#[derive(Clone)]
pub struct Identity {
    /// The host's id.
    pub host_id: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: String,
    /// The authority that it trusts, PEM.
    pub authority: String,
}

/// Why a machine could not become a host.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The configuration lacks what a first start needs.
    #[error("{0}")]
    Config(String),
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key or the request could not be made.
    #[error("making the host's key: {0}")]
    Key(#[from] rcgen::Error),
    /// The control plane refused the token.
    #[error(
        "joining failed: {0}. A token works for one machine, and for an hour or so; make a new one with `meridian host token`"
    )]
    Refused(LinkError),
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> EnrolError + '_ {
    move |source| EnrolError::Io { path: path.to_owned(), source }
}

/// Reads the identity, or enrols first. Tries for as long as the control plane cannot be reached.
pub async fn identity(config: &HostConfig) -> Result<Identity, EnrolError> {
    let directory = config.state_dir.join("identity");
    if let Some(identity) = read(&directory)? {
        return Ok(identity);
    }
    let Some(join) = &config.join else {
        return Err(EnrolError::Config(format!(
            "this machine is no host yet ({} has no identity) and no join token is configured",
            directory.display()
        )));
    };
    private::directory(&directory).map_err(io_error(&directory))?;
    let key = key(&directory)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, join.name.clone());
    let csr = params.serialize_request(&key)?.pem()?;
    let trusted =
        std::fs::read_to_string(&config.authority).map_err(io_error(&config.authority))?;
    let client = http::client(&trusted, None)
        .map_err(|error| EnrolError::Config(format!("{}: {error}", config.authority.display())))?;
    let request = EnrolRequest { token: join.token.clone(), name: join.name.clone(), csr };
    let mut backoff = Backoff::default();
    let gateways = config.gateways();
    let mut tries = gateways.iter().cycle();
    let response: EnrolResponse = loop {
        let gateway = tries.next().map_or(config.control_plane_url.as_str(), String::as_str);
        match http::enrol(&client, gateway, &request).await {
            Ok(response) => break response,
            Err(LinkError::Refused { status, message }) if (400..500).contains(&status) => {
                return Err(EnrolError::Refused(LinkError::Refused { status, message }));
            }
            Err(error) => {
                let wait = backoff.failed();
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "cannot join yet");
                tokio::time::sleep(wait).await;
            }
        }
    };
    for (name, text) in [
        ("host.pem", &response.certificate),
        ("authority.pem", &response.authority),
        ("host_id", &response.host_id),
    ] {
        write(&directory.join(name), text)?;
    }
    tracing::info!(host = %response.host_id, name = %join.name, "joined");
    Ok(Identity {
        host_id: response.host_id,
        certificate: response.certificate,
        key: key.serialize_pem(),
        authority: response.authority,
    })
}

fn read(directory: &Path) -> Result<Option<Identity>, EnrolError> {
    let file = |name: &str| {
        let path = directory.join(name);
        std::fs::read_to_string(&path).map_err(io_error(&path))
    };
    if !directory.join("host_id").exists() {
        return Ok(None);
    }
    Ok(Some(Identity {
        host_id: file("host_id")?.trim().to_owned(),
        certificate: file("host.pem")?,
        key: file("host.key")?,
        authority: file("authority.pem")?,
    }))
}

/// The key of an earlier try, or a new one. Where an answer was lost, the control plane knows the
/// host by it and gives the certificate again.
fn key(directory: &Path) -> Result<KeyPair, EnrolError> {
    let path = directory.join("host.key");
    if path.exists() {
        let pem = std::fs::read_to_string(&path).map_err(io_error(&path))?;
        return Ok(KeyPair::from_pem(&pem)?);
    }
    let key = KeyPair::generate()?;
    write(&path, &key.serialize_pem())?;
    Ok(key)
}

/// Writes a file that is root's alone, whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), EnrolError> {
    let new = path.with_extension("new");
    let error = io_error(path);
    let mut file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(&error)?;
    file.write_all(text.as_bytes()).map_err(&error)?;
    file.sync_all().map_err(&error)?;
    std::fs::rename(&new, path).map_err(&error)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io_error(directory))
}
