//! Making another replica of a control plane that exists: what all of them have in common is
//! carried over in one file, which holds every secret of the cloud and is its reader's alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::ensure_server_certificates;
use crate::config::{Api, Config, Gateway};
use crate::layout::Layout;
use crate::pki;
use crate::server::POLICY_FILES;

/// The shape of the file.
const FORMAT: u32 = 1;

/// What replicas have in common.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    format: u32,
    /// Configuration of the replica that it was made from.
    config: Config,
    /// Files by their path below the state directory; all of them private.
    files: BTreeMap<PathBuf, String>,
}

/// What differs between replicas.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// Where its API listens.
    pub listen: SocketAddr,
    /// Where hosts connect to it.
    pub gateway_listen: SocketAddr,
    /// Name under which hosts reach it; the address it listens on unless said.
    pub name: Option<String>,
    /// How clients reach the region, where that is to change: `https://name:port`.
    pub public_url: Option<String>,
    /// The shared image store, where it is mounted elsewhere than on the first replica.
    pub images: Option<PathBuf>,
    /// How this replica reaches the database, where that is another way than the first's.
    pub database: Option<String>,
}

/// Writes the file from which another replica is made.
pub fn write_bundle(layout: &Layout, to: &Path) -> Result<()> {
    let mut config = Config::read(&layout.config())?;
    if config.database.url.starts_with("sqlite:") {
        bail!(
            "this cloud keeps its rows in SQLite, which one control plane has for itself. Move them \
             to PostgreSQL first: `meridian database move --to postgres://…`"
        );
    }
    config.zone.images = layout.root().join(&config.zone.images);
    let mut files = BTreeMap::new();
    let fixed = [
        layout.pki().join("ca.pem"),
        layout.pki().join("ca.key"),
        layout.clouds(),
        layout.openrc_admin(),
        layout.openrc_demo(),
    ];
    for path in fixed {
        add(&mut files, layout, &path)?;
    }
    for name in POLICY_FILES {
        let policy = layout.root().join("etc").join(name);
        if policy.exists() {
            add(&mut files, layout, &policy)?;
        }
    }
    // Those that sign tokens, and those that seal what users keep with identity.
    for directory in [layout.token_keys(), layout.token_keys().join("credentials")] {
        if !directory.exists() {
            continue;
        }
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "key") {
                add(&mut files, layout, &path)?;
            }
        }
    }
    let text = serde_json::to_string_pretty(&Bundle { format: FORMAT, config, files })?;
    pki::write_private(to, &text)?;
    Ok(())
}

fn add(files: &mut BTreeMap<PathBuf, String>, layout: &Layout, path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let name = path.strip_prefix(layout.root()).context("a file outside the state directory")?;
    files.insert(name.to_owned(), text);
    Ok(())
}

/// Makes a replica's state directory from the file. It starts like the first one.
pub fn join_replica(layout: &Layout, bundle: &Path, options: &ReplicaOptions) -> Result<Config> {
    if layout.config().exists() {
        bail!("{} is there already: this directory is a control plane", layout.config().display());
    }
    let text = std::fs::read_to_string(bundle).with_context(|| bundle.display().to_string())?;
    let bundle: Bundle =
        serde_json::from_str(&text).with_context(|| bundle.display().to_string())?;
    if bundle.format != FORMAT {
        bail!("the file has format {}, this release knows {FORMAT}", bundle.format);
    }
    for path in bundle.files.keys() {
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            bail!("the file names {}, which is outside the state directory", path.display());
        }
    }
    let gateway = super::url_of(options.gateway_listen, options.name.as_deref());
    let mut config = bundle.config;
    config.api = Api {
        listen: options.listen,
        public_url: options.public_url.clone().unwrap_or(config.api.public_url),
    };
    config.gateway = Gateway { listen: options.gateway_listen, url: gateway };
    if let Some(images) = &options.images {
        config.zone.images = std::path::absolute(images)?;
    }
    if let Some(database) = &options.database {
        config.database.url.clone_from(database);
    }
    for (path, text) in &bundle.files {
        pki::write_private(&layout.root().join(path), text)?;
    }
    ensure_server_certificates(layout, &config)?;
    // Last: with it, the directory is a control plane.
    pki::write_private(&layout.config(), &config.to_text())?;
    Config::read(&layout.config()).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use identity::{LoginLimits, SecurityCompliance};

    use crate::config::{DatabaseSection, IdentitySection, Instance, PasswordHashing, Zone};
    use crate::pki::Authority;

    fn first(database: &str) -> (tempfile::TempDir, Layout) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let config = Config {
            region: "region-1".into(),
            api: Api {
                listen: ([127, 0, 0, 1], 5000).into(),
                public_url: "https://cloud.example:5000".into(),
            },
            gateway: Gateway {
                listen: ([127, 0, 0, 1], 5001).into(),
                url: "https://127.0.0.1:5001".into(),
            },
            database: DatabaseSection { url: database.into() },
            zone: Zone { name: "zone-1".into(), images: "zone/images".into() },
            instance: Instance { prefix: "m1".into() },
            password_hashing: PasswordHashing::default(),
            login_limits: LoginLimits::default(),
            security_compliance: SecurityCompliance::default(),
            identity: IdentitySection::default(),
        };
        pki::write_public(&layout.config(), &config.to_text()).unwrap();
        Authority::open_or_create(&layout.pki(), "test").unwrap();
        for path in [layout.clouds(), layout.openrc_admin(), layout.openrc_demo()] {
            pki::write_private(&path, "secret").unwrap();
        }
        pki::write_private(&layout.token_keys().join("0001.key"), "seed").unwrap();
        let sealing = layout.token_keys().join("credentials/0001.key");
        pki::write_private(&sealing, "seal").unwrap();
        (directory, layout)
    }

    fn options() -> ReplicaOptions {
        ReplicaOptions {
            listen: ([127, 0, 0, 2], 5000).into(),
            gateway_listen: ([127, 0, 0, 2], 5001).into(),
            name: None,
            public_url: None,
            images: None,
            database: None,
        }
    }

    #[test]
    fn a_replica_has_the_secrets_of_the_first_and_addresses_of_its_own() {
        let (first_directory, first) = first("postgres://u@h/meridian");
        let bundle = first_directory.path().join("bundle");
        write_bundle(&first, &bundle).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let second = Layout::new(directory.path());
        let config = join_replica(&second, &bundle, &options()).unwrap();
        assert_eq!(config.api.public_url, "https://cloud.example:5000");
        assert_eq!(config.gateway.url, "https://127.0.0.2:5001");
        assert_eq!(config.zone.images, first_directory.path().join("zone/images"));
        for path in ["pki/ca.key", "pki/ca.pem", "keys/0001.key", "keys/credentials/0001.key"] {
            let read = |layout: &Layout| std::fs::read(layout.root().join(path)).unwrap();
            assert_eq!(read(&first), read(&second), "{path}");
        }
        assert!(second.pki().join("gateway.pem").exists());
        let again = join_replica(&second, &bundle, &options()).unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
    }

    #[test]
    fn a_cloud_on_sqlite_has_one_control_plane() {
        let (directory, layout) = first("sqlite:db/meridian.sqlite");
        let refused = write_bundle(&layout, &directory.path().join("bundle")).unwrap_err();
        assert!(refused.to_string().contains("database move"), "{refused}");
    }

    #[test]
    fn a_file_that_names_paths_elsewhere_is_refused() {
        let (directory, layout) = first("postgres://u@h/meridian");
        let bundle = directory.path().join("bundle");
        write_bundle(&layout, &bundle).unwrap();
        let text = std::fs::read_to_string(&bundle).unwrap();
        std::fs::write(&bundle, text.replace("keys/0001.key", "../../0001.key")).unwrap();
        let other = tempfile::tempdir().unwrap();
        let refused = join_replica(&Layout::new(other.path()), &bundle, &options()).unwrap_err();
        assert!(refused.to_string().contains("outside"), "{refused}");
        assert!(std::fs::read_dir(other.path()).unwrap().next().is_none());
    }
}
