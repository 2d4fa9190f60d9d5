//! What the host role is told by its operator.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How guests' instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// By the processor.
    Kvm,
    /// By translation.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }
}

/// How a new host proves that it may join. Used until the host has a certificate, then ignored.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinConfig {
    /// The one-time token.
    pub token: String,
    /// The host's name, shown to operators; letters, digits, dots and dashes.
    pub name: String,
}

impl fmt::Debug for JoinConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where Open vSwitch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchConfig {
    /// Directory of `db.sock` and `BRIDGE.mgmt`.
    pub run_dir: PathBuf,
    /// The bridge. It belongs to Meridian alone.
    pub bridge: String,
    /// How long the switches of the underlay remember an address that they hear nothing from, in
    /// seconds: the shortest among them. Locators are announced every third of it.
    pub underlay_ageing_seconds: u64,
}

impl Default for SwitchConfig {
    fn default() -> Self {
        SwitchConfig {
            run_dir: PathBuf::from("/run/openvswitch"),
            bridge: "meridian".to_owned(),
            underlay_ageing_seconds: 300,
        }
    }
}

/// The responders' settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RespondersConfig {
    /// Whether guests are answered at all (a simulated host has none).
    pub enabled: bool,
    /// The network namespace that the responders' sockets stand in; made when absent.
    pub namespace: String,
    /// Name servers that questions outside the tenants' own names are passed to.
    pub upstream_dns: Vec<IpAddr>,
}

impl Default for RespondersConfig {
    fn default() -> Self {
        RespondersConfig {
            enabled: true,
            namespace: "meridian-responders".to_owned(),
            upstream_dns: Vec::new(),
        }
    }
}

/// Everything the host role needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// Everything of this host: `agent.db`, `identity/`, `images/`, `servers/`.
    pub state_dir: PathBuf,
    /// `https://host:port`; paths `/host/v1/…` are below.
    pub control_plane_url: String,
    /// More gateways, of other replicas of the control plane. Once connected, the host is told of
    /// all there are; these are for the first contact, and for when none of those is left.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_control_plane_urls: Vec<String>,
    /// The certificate authority to trust on first contact: a PEM file. Once the host is
    /// enrolled, the authority it was given then is trusted instead.
    pub authority: PathBuf,
    /// For the first start.
    #[serde(default)]
    pub join: Option<JoinConfig>,
    /// The network device towards the other hosts; it is put on the bridge.
    #[serde(default)]
    pub underlay: Option<String>,
    /// Forces an accelerator; otherwise a probe guest decides.
    #[serde(default)]
    pub accelerator: Option<Accelerator>,
    /// QEMU.
    #[serde(default = "default_qemu")]
    pub qemu: PathBuf,
    /// First of 60,000 user ids, one for each guest. Absent: a block chosen by the state
    /// directory's path, so that two hosts on one machine do not share users.
    #[serde(default)]
    pub uid_base: Option<u32>,
    /// Start of the names of taps and veths, at most 6 characters; two hosts that share a
    /// network namespace need different ones.
    #[serde(default = "default_device_prefix")]
    pub device_prefix: String,
    /// Memory in MiB kept for the machine itself and not offered to guests.
    #[serde(default = "default_reserved_memory")]
    pub reserved_memory_mib: u64,
    /// Address shown to operators; absent means the first global one.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// Open vSwitch.
    #[serde(default)]
    pub switch: SwitchConfig,
    /// DHCP, DNS and metadata.
    #[serde(default)]
    pub responders: RespondersConfig,
}

impl HostConfig {
    /// Every gateway that is configured, the first one first.
    pub fn gateways(&self) -> Vec<String> {
        let mut all = vec![self.control_plane_url.clone()];
        all.extend(self.more_control_plane_urls.iter().cloned());
        all
    }
}

fn default_qemu() -> PathBuf {
    PathBuf::from("/usr/bin/qemu-system-x86_64")
}

fn default_device_prefix() -> String {
    "mt".to_owned()
}

fn default_reserved_memory() -> u64 {
    512
}
