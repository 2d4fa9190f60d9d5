//! Where things are under a state directory. Every role and command takes its paths from here.
//!
//! ```text
//! STATE/etc      meridian.toml, clouds.yaml, openrc-*      what people read
//! STATE/pki      authority, certificates and keys          0600
//! STATE/keys     token signing keys                        0600
//! STATE/db       meridian.sqlite
//! STATE/zone     images
//! STATE/host     all that belongs to this machine as a host
//! STATE/run      sockets, process ids
//! STATE/log      one file for each process
//! ```

use std::path::{Path, PathBuf};

/// A state directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident => $path:literal;)*) => {
        impl Layout {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.root.join($path) })*
        }
    };
}

paths! {
    /// The configuration.
    config => "etc/meridian.toml";
    /// Which replica of the control plane this is.
    replica_id => "etc/replica-id";
    /// What OpenStack clients read.
    clouds => "etc/clouds.yaml";
    /// Shell variables for the administrator.
    openrc_admin => "etc/openrc-admin";
    /// Shell variables for the demo user.
    openrc_demo => "etc/openrc-demo";
    /// The authority and the servers' certificates.
    pki => "pki";
    /// The authority's certificate, for clients.
    authority => "pki/ca.pem";
    /// Token signing keys.
    token_keys => "keys";
    /// The embedded database.
    database => "db/meridian.sqlite";
    /// The zone's images.
    images => "zone/images";
    /// This machine as a host.
    host => "host";
    /// Sockets and process ids.
    run => "run";
    /// Logs.
    log => "log";
    /// The supervisor's word on what runs.
    status => "run/status.json";
    /// The supervisor's process id.
    supervisor_pid => "run/supervise.pid";
}

impl Layout {
    /// The layout under `root`, which should be absolute.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
