//! Making a cloud where there was none: configuration, authority, certificates, token keys,
//! database, first users and the files that clients read. Each part is made only when it is not
//! there, so running it again after a failure, or for no reason, is safe and keeps every secret.

mod bundle;
mod clouds;
mod database;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use ::database::{Database, DatabaseConfig, Origin};
use anyhow::{Context, Result, bail};
use host_documents::hosts;
use identity::{LoginLimits, SecurityCompliance};
use rand::Rng;

pub use self::database::{abandon_move, backup, move_to_postgres, restore};
use crate::config::{
    Api, Config, DatabaseSection, Gateway, IdentitySection, Instance, PasswordHashing, Zone,
};
use crate::layout::Layout;
use crate::pki::{self, Authority, KeyPairPem};
use crate::server;
pub use bundle::{ReplicaOptions, join_replica, write_bundle};
use clouds::Account;

/// Length of generated passwords; 62^24 is over 140 bits.
const PASSWORD_LENGTH: usize = 24;
/// A server certificate with fewer days left than this is made anew at start.
const RENEW_BELOW_DAYS: i64 = pki::SERVER_VALIDITY_DAYS / 3;

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the public API listens.
    pub listen: SocketAddr,
    /// Where hosts connect.
    pub gateway_listen: SocketAddr,
    /// Name under which both are reached; the listening address unless said.
    pub public_name: Option<String>,
    /// First in the names of devices on this machine.
    pub prefix: String,
    /// `sqlite:PATH` or `postgres://…`.
    pub database: String,
}

/// Makes what is missing and returns the configuration in force. A configuration that is there
/// already wins over `options`.
pub async fn init(layout: &Layout, options: &Options) -> Result<Config> {
    if !layout.config().exists() {
        let config = configuration(options);
        pki::write_public(&layout.config(), &config.to_text())?;
    }
    let config = Config::read(&layout.config())?;
    Authority::open_or_create(&layout.pki(), "Meridian certificate authority")?;
    ensure_server_certificates(layout, &config)?;
    bootstrap(layout, &config).await?;
    Ok(config)
}

fn configuration(options: &Options) -> Config {
    let url = |address| url_of(address, options.public_name.as_deref());
    Config {
        region: "region-1".into(),
        api: Api { listen: options.listen, public_url: url(options.listen) },
        gateway: Gateway { listen: options.gateway_listen, url: url(options.gateway_listen) },
        database: DatabaseSection { url: options.database.clone() },
        zone: Zone { name: "zone-1".into(), images: "zone/images".into() },
        instance: Instance { prefix: options.prefix.clone() },
        password_hashing: PasswordHashing::default(),
        login_limits: LoginLimits::default(),
        security_compliance: SecurityCompliance::default(),
        identity: IdentitySection::default(),
    }
}

/// How something that listens on `address` is reached, under a name where it has one.
fn url_of(address: SocketAddr, name: Option<&str>) -> String {
    let name = name.map_or_else(
        || match address.ip() {
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            std::net::IpAddr::V4(ip) => ip.to_string(),
        },
        str::to_owned,
    );
    format!("https://{name}:{}", address.port())
}

/// The certificate and key of the public API and of the gateway, made or renewed when needed.
pub fn ensure_server_certificates(layout: &Layout, config: &Config) -> Result<()> {
    let authority = Authority::open_or_create(&layout.pki(), "Meridian certificate authority")?;
    for (name, listen, url) in [
        ("api", config.api.listen, &config.api.public_url),
        ("gateway", config.gateway.listen, &config.gateway.url),
    ] {
        let certificate = layout.pki().join(format!("{name}.pem"));
        let key = layout.pki().join(format!("{name}.key"));
        if key.exists() && days_left(&certificate).is_some_and(|days| days > RENEW_BELOW_DAYS) {
            continue;
        }
        let mut names =
            vec![host_of(url), "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
        names.sort();
        names.dedup();
        let made = authority.issue_server(&names)?;
        pki::write_private(&key, &made.key)?;
        pki::write_public(&certificate, &made.certificate)?;
    }
    Ok(())
}

/// Which replica of the control plane this state directory is; made at its first start.
pub fn replica_id(layout: &Layout) -> Result<String> {
    let path = layout.replica_id();
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let id = uuid::Uuid::new_v4().to_string();
    pki::write_public(&path, &format!("{id}\n"))?;
    Ok(id)
}

/// Reads a server's certificate and key.
pub fn server_certificate(layout: &Layout, name: &str) -> Result<KeyPairPem> {
    Ok(KeyPairPem {
        certificate: pki::read_pem(&layout.pki().join(format!("{name}.pem")))?,
        key: pki::read_pem(&layout.pki().join(format!("{name}.key")))?,
    })
}

fn days_left(certificate: &Path) -> Option<i64> {
    let text = std::fs::read(certificate).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).ok()?;
    let parsed = pem.parse_x509().ok()?;
    let left = parsed.validity().time_to_expiration()?;
    Some(left.whole_days())
}

fn host_of(url: &str) -> String {
    let rest = url.trim_start_matches("https://");
    match rest.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((address, _)) => address.to_owned(),
        None => rest.rsplit_once(':').map_or(rest, |(name, _)| name).to_owned(),
    }
}

async fn bootstrap(layout: &Layout, config: &Config) -> Result<()> {
    let known = std::fs::read_to_string(layout.clouds()).unwrap_or_default();
    let password = |cloud: &str| clouds::password_in(&known, cloud).unwrap_or_else(new_password);
    let (admin, demo) = (password("meridian-admin"), password("meridian"));
    let base = &config.api.public_url;
    let accounts = [
        Account { cloud: "meridian-admin", user: "admin", password: &admin, project: "admin" },
        Account { cloud: "meridian", user: "demo", password: &demo, project: "demo" },
    ];
    let authority = layout.authority();
    // Written before the users exist: a crash in between leaves passwords that the next run gives
    // to the users, never users with passwords that nobody knows.
    let [admin_account, demo_account] = &accounts;
    pki::write_private(
        &layout.clouds(),
        &clouds::clouds_yaml(&accounts, base, &config.region, &authority),
    )?;
    pki::write_private(
        &layout.openrc_admin(),
        &clouds::openrc(admin_account, base, &config.region, &authority),
    )?;
    pki::write_private(
        &layout.openrc_demo(),
        &clouds::openrc(demo_account, base, &config.region, &authority),
    )?;

    let db = open_database(layout, config).await?;
    server::migrate(&db).await?;
    server::bootstrap_identity(layout, config, &db, &admin, &demo).await
}

fn new_password() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..PASSWORD_LENGTH)
        .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
        .collect()
}

/// Opens the database that the configuration names.
pub async fn open_database(layout: &Layout, config: &Config) -> Result<Database> {
    let url = &config.database.url;
    let database = match url.strip_prefix("sqlite:") {
        Some(path) => {
            let path = layout.root().join(path);
            if let Some(folder) = path.parent() {
                // Hashes of passwords and users' data are in it.
                let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
                made.with_context(|| folder.display().to_string())?;
            }
            DatabaseConfig::Sqlite { path }
        }
        None => DatabaseConfig::Postgres { url: url.clone() },
    };
    Database::open(&database, crate::clock::clock()).await.context("opening the database")
}

/// Makes a one-time token with which a machine joins as a host.
pub async fn join_token(
    layout: &Layout,
    zone: Option<&str>,
    cluster: &str,
    l2_domain: &str,
) -> Result<String> {
    if !layout.config().exists() {
        bail!("{} is not there: run `meridian init` first", layout.config().display());
    }
    let config = Config::read(&layout.config())?;
    let db = open_database(layout, &config).await?;
    server::migrate(&db).await?;
    let (zone, cluster, l2_domain) =
        (zone.unwrap_or(&config.zone.name).to_owned(), cluster.to_owned(), l2_domain.to_owned());
    let token = db
        .transact(&Origin::system("join-token"), move |tx| {
            let (zone, cluster, l2_domain) = (zone.clone(), cluster.clone(), l2_domain.clone());
            Box::pin(async move { hosts::create_join_token(tx, &zone, &cluster, &l2_domain).await })
        })
        .await?;
    Ok(token)
}

/// Audits the cloud's database now, beside whatever runs on it, and returns what is wrong, worst
/// first. With `repair`, what is proven wrong is put right.
///
/// # Errors
/// When there is no cloud in the directory; the database's.
pub async fn audit(layout: &Layout, repair: bool) -> Result<Vec<(auditor::Finding, bool)>> {
    let config = Config::read(&layout.config())?;
    let db = open_database(layout, &config).await?;
    let percent = server::promised(compute::Ratios::default());
    let options =
        auditor::Options { percent, journal_after: 0, journal_page: auditor::JOURNAL_PAGE, repair };
    let auditor::Audit { findings, repaired, .. } =
        auditor::audit(&db, &options).await.context("auditing")?;
    db.close().await;
    let repaired = |place: usize| repaired.contains(&place);
    let mut told: Vec<_> = findings
        .into_iter()
        .enumerate()
        .map(|(place, finding)| (finding, repaired(place)))
        .collect();
    told.sort_by(|(a, _), (b, _)| (a.kind, &a.object).cmp(&(b.kind, &b.object)));
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_from_urls() {
        assert_eq!(host_of("https://cloud.example:5000"), "cloud.example");
        assert_eq!(host_of("https://[::1]:5000"), "::1");
    }

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, other) = (new_password(), new_password());
        assert_eq!(one.len(), PASSWORD_LENGTH);
        assert_ne!(one, other);
    }
}
