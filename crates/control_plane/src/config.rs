//! `etc/meridian.toml`: what an operator decides. `meridian init` writes it with every value
//! spelled out; an unknown key is refused with its line, since a typo that is ignored is a setting
//! that silently does not hold.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use identity::{
    ComplianceRules, EnforcementModel, HashParams, IdentityConfig, LoginLimits, SecurityCompliance,
};
use serde::{Deserialize, Serialize};

/// The configuration of the control plane and of the commands that talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The region's name in the catalogue.
    pub region: String,
    /// The public API.
    pub api: Api,
    /// Where hosts connect.
    pub gateway: Gateway,
    /// Where rows are kept.
    pub database: DatabaseSection,
    /// The zone that this process also plays, until a second room exists.
    pub zone: Zone,
    /// This installation, where several share a machine.
    pub instance: Instance,
    /// How passwords are hashed.
    #[serde(default)]
    pub password_hashing: PasswordHashing,
    /// How often logins may fail.
    #[serde(default)]
    pub login_limits: LoginLimits,
    /// What is asked of passwords and accounts, as in Keystone.
    #[serde(default)]
    pub security_compliance: SecurityCompliance,
    /// Who is who.
    #[serde(default)]
    pub identity: IdentitySection,
}

/// Who is who.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentitySection {
    /// A process that has not heard of revoked tokens for a minute serves reads only; after so many
    /// seconds it refuses tokens rather than honour a revoked one.
    pub refuse_without_news_seconds: u64,
    /// How many half minutes before the current one have a TOTP code that is still taken.
    pub totp_previous_windows: u8,
    /// How many levels of projects may be below a domain.
    pub max_project_tree_depth: usize,
    /// How limits add up over a tree of projects: `flat` or `strict_two_level`.
    pub limit_model: EnforcementModel,
    /// For how many minutes a group membership that an identity provider vouched for is kept after
    /// a login, where the provider does not say; zero: not at all.
    pub default_authorization_ttl: u32,
}

impl Default for IdentitySection {
    fn default() -> Self {
        let usual = IdentityConfig::default();
        IdentitySection {
            refuse_without_news_seconds: usual.feed_refuse_after.as_secs(),
            totp_previous_windows: usual.totp_previous_windows,
            max_project_tree_depth: usual.max_project_tree_depth,
            limit_model: usual.limit_model,
            default_authorization_ttl: usual.authorization_ttl,
        }
    }
}

/// How passwords are hashed from now on; older hashes stay valid, and are renewed at the next
/// login of their owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordHashing {
    /// Memory of one argon2id hash, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// Hashes computed at once, on threads of low priority; zero: one core is left free.
    pub workers: usize,
    /// Logins that wait for their turn; more are answered 429.
    pub queue: usize,
}

impl Default for PasswordHashing {
    fn default() -> Self {
        let HashParams { memory_kib, passes, lanes } = HashParams::default();
        let queue = IdentityConfig::default().hashing_queue;
        PasswordHashing { memory_kib, passes, lanes, workers: 0, queue }
    }
}

impl PasswordHashing {
    /// The cost of a hash.
    pub fn params(&self) -> HashParams {
        HashParams { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }
}

/// The public API's listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// How clients reach it: `https://name:port`, without a path.
    pub public_url: String,
}

/// The hosts' listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// How hosts reach it: `https://name:port`.
    pub url: String,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// `sqlite:PATH` (relative to the state directory) or `postgres://…`.
    pub url: String,
}

/// The zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Its name: the availability zone that users see.
    pub name: String,
    /// Where images are kept; relative to the state directory.
    pub images: PathBuf,
}

/// One installation among several on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Two to six lower-case letters or digits, first in the names of taps, veths and namespaces.
    pub prefix: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not say what it should.
    #[error("{path}: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, column and reason.
        why: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let invalid = |why: String| ConfigError::Invalid { path: path.to_owned(), why };
        let config: Config = toml::from_str(&text).map_err(|e| invalid(e.to_string()))?;
        config.check().map_err(invalid)?;
        Ok(config)
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_default()
    }

    fn check(&self) -> Result<(), String> {
        let prefix = &self.instance.prefix;
        let fits = (2..=6).contains(&prefix.len())
            && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !fits {
            return Err(format!(
                "instance.prefix is {prefix:?}; it has to be two to six lower-case letters or digits"
            ));
        }
        for (key, url) in
            [("api.public_url", &self.api.public_url), ("gateway.url", &self.gateway.url)]
        {
            if !url.starts_with("https://") || url.ends_with('/') {
                return Err(format!(
                    "{key} is {url:?}; it has to be https://NAME:PORT without a slash at the end"
                ));
            }
        }
        if self.identity.refuse_without_news_seconds < 60 {
            return Err(
                "identity.refuse_without_news_seconds has to be 60 or more: news come every \
                        20 seconds, and until a minute has passed nothing is amiss"
                    .into(),
            );
        }
        if self.identity.max_project_tree_depth == 0 {
            return Err("identity.max_project_tree_depth has to be 1 or more".into());
        }
        if !self.database.url.starts_with("sqlite:")
            && !self.database.url.starts_with("postgres://")
        {
            return Err("database.url has to begin with sqlite: or postgres://".into());
        }
        let hashing = self.password_hashing.params().check();
        hashing.map_err(|why| format!("[password_hashing]: {why}"))?;
        self.security_compliance.check().map_err(|why| format!("[security_compliance]: {why}"))
    }

    /// What identity is told of it.
    ///
    /// # Errors
    /// What cannot be kept to.
    pub fn identity(&self) -> Result<IdentityConfig, String> {
        let default = IdentityConfig::default();
        let PasswordHashing { workers, queue, .. } = self.password_hashing;
        Ok(IdentityConfig {
            hashing: self.password_hashing.params(),
            hashing_workers: if workers == 0 { default.hashing_workers } else { workers },
            hashing_queue: queue,
            login_limits: self.login_limits,
            feed_refuse_after: Duration::from_secs(self.identity.refuse_without_news_seconds),
            totp_previous_windows: self.identity.totp_previous_windows,
            max_project_tree_depth: self.identity.max_project_tree_depth,
            limit_model: self.identity.limit_model,
            authorization_ttl: self.identity.default_authorization_ttl,
            compliance: ComplianceRules::new(self.security_compliance.clone())?,
            ..default
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        Config {
            region: "region-1".into(),
            api: Api {
                listen: ([127, 0, 0, 1], 5000).into(),
                public_url: "https://127.0.0.1:5000".into(),
            },
            gateway: Gateway {
                listen: ([127, 0, 0, 1], 5001).into(),
                url: "https://127.0.0.1:5001".into(),
            },
            database: DatabaseSection { url: "sqlite:db/meridian.sqlite".into() },
            zone: Zone { name: "zone-1".into(), images: "zone/images".into() },
            instance: Instance { prefix: "m1".into() },
            password_hashing: PasswordHashing::default(),
            login_limits: LoginLimits::default(),
            security_compliance: SecurityCompliance::default(),
            identity: IdentitySection::default(),
        }
    }

    fn read(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meridian.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&example().to_text()).unwrap(), example());
    }

    #[test]
    fn a_typo_is_refused_with_its_line() {
        let text = example().to_text().replace("public_url", "publik_url");
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains("publik_url") && error.contains("line"), "{error}");
    }

    #[test]
    fn a_file_of_before_there_were_these_sections_is_read() {
        let text = example().to_text();
        let (old, new) = text.split_once("[password_hashing]").unwrap();
        assert!(new.contains("[security_compliance]") && new.contains("[login_limits]"));
        assert_eq!(read(old).unwrap(), example());
    }

    #[test]
    fn settings_of_passwords_that_cannot_be_kept_to_are_refused() {
        for (was, is, word) in [
            ("password_regex = \"\"", "password_regex = \"(\"", "password_regex"),
            ("passes = 2", "passes = 0", "[password_hashing]"),
            ("lockout_duration", "lockout_time", "lockout_time"),
        ] {
            let error = read(&example().to_text().replace(was, is)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_a_file_does_not_say_of_identity_is_as_usual() {
        let text = example().to_text();
        let bare = text.split("[identity]").next().unwrap();
        assert_eq!(read(bare).unwrap(), example());
        let longer = format!("{bare}\n[identity]\nrefuse_without_news_seconds = 3600\n");
        assert_eq!(read(&longer).unwrap().identity.refuse_without_news_seconds, 3600);
        for (wrong, word) in [
            ("refuse_without_news_seconds = 0", "refuse_without_news_seconds"),
            ("max_project_tree_depth = 0", "max_project_tree_depth"),
            ("limit_model = \"sloping\"", "sloping"),
        ] {
            let error = read(&format!("{bare}\n[identity]\n{wrong}\n")).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        let strict = "limit_model = \"strict_two_level\"\nmax_project_tree_depth = 3";
        let told = read(&format!("{bare}\n[identity]\n{strict}\n")).unwrap().identity().unwrap();
        assert_eq!(
            (told.limit_model, told.max_project_tree_depth),
            (EnforcementModel::StrictTwoLevel, 3)
        );
    }

    #[test]
    fn a_prefix_that_is_no_device_name_is_refused() {
        let text = example().to_text().replace("\"m1\"", "\"m 1/..\"");
        assert!(read(&text).unwrap_err().to_string().contains("instance.prefix"));
    }
}
