//! What is known of a server: the row, and beneath it what never changes after the request.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use cloud_types::{HostId, ImageId, MacAddress, PortId, ProjectId, ServerId, Timestamp, UserId};
use host_protocol::{DesiredPower, ImageFormat};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Power, State};
use crate::scheduler::Resources;

/// A host as a server names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRef {
    /// The host.
    pub id: HostId,
    /// Its name.
    pub name: String,
}

/// Who locked a server; an owner's lock gives way to an administrator, not the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockedBy {
    /// A member of the project.
    Owner,
    /// An administrator.
    Admin,
}

impl LockedBy {
    /// The word in the database and in the `locked_by` filter.
    pub fn as_str(self) -> &'static str {
        match self {
            LockedBy::Owner => "owner",
            LockedBy::Admin => "admin",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "owner" => Some(LockedBy::Owner),
            "admin" => Some(LockedBy::Admin),
            _ => None,
        }
    }
}

/// `OS-DCF:diskConfig`: whether the guest may expect the file system to be grown for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DiskConfig {
    /// The disk is one partition and grown.
    Auto,
    /// The disk is left as the image has it.
    #[default]
    Manual,
}

impl DiskConfig {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskConfig::Auto => "AUTO",
            DiskConfig::Manual => "MANUAL",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "AUTO" => Some(DiskConfig::Auto),
            "MANUAL" => Some(DiskConfig::Manual),
            _ => None,
        }
    }
}

/// The flavor as it was when the server was made; changing or deleting the flavor changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlavorSnapshot {
    /// Its public id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Root disk in GiB; 0 means as large as the image.
    pub disk_gib: u64,
    /// A second, blank disk in GiB; 0 for none.
    pub ephemeral_gib: u64,
    /// Swap disk in MiB; 0 for none.
    pub swap_mib: u64,
    /// Extra specs.
    pub extra_specs: BTreeMap<String, String>,
}

/// The image as it was when the server was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSnapshot {
    /// The image.
    pub id: ImageId,
    /// Its declared format.
    pub format: ImageFormat,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Size of the disk that the guest sees, in bytes, where it is known.
    pub virtual_size: Option<u64>,
    /// The processor architecture that it says it needs.
    pub architecture: Option<String>,
}

/// The key pair as it was when the server was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySnapshot {
    /// Its name.
    pub name: String,
    /// The public key in OpenSSH's form.
    pub public_key: String,
}

/// A NIC, in the guest's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The port it stands for.
    pub port_id: PortId,
    /// Its MAC.
    pub mac: MacAddress,
    /// MTU in bytes.
    pub mtu: u16,
}

/// What never changes after the request; one JSON column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fixed {
    /// The flavor.
    pub flavor: FlavorSnapshot,
    /// The image; absent never, until servers boot from volumes.
    pub image: Option<ImageSnapshot>,
    /// The key pair.
    pub key: Option<KeySnapshot>,
    /// The NICs.
    pub nics: Vec<Nic>,
    /// Scheduler hints, kept as given.
    #[serde(default)]
    pub scheduler_hints: Value,
    /// The host that was asked for by name.
    #[serde(default)]
    pub forced_host: Option<String>,
    /// Certificates that the image's signature was to be checked with, kept as given.
    #[serde(default)]
    pub trusted_certificates: Option<Vec<String>>,
}

impl Fixed {
    /// What the server takes from its host. A root disk that is as large as its image counts with
    /// the image's own size, rounded up.
    pub fn resources(&self) -> Resources {
        const GIB: u64 = 1 << 30;
        let root_gib = if self.flavor.disk_gib > 0 {
            self.flavor.disk_gib
        } else {
            self.image
                .as_ref()
                .map_or(0, |image| image.virtual_size.unwrap_or(image.size_bytes).div_ceil(GIB))
        };
        Resources {
            vcpus: u64::from(self.flavor.vcpus),
            memory_mib: self.flavor.memory_mib,
            disk_gib: root_gib
                .saturating_add(self.flavor.ephemeral_gib)
                .saturating_add(self.flavor.swap_mib.div_ceil(1024)),
        }
    }
}

/// Why a server is in `ERROR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFault {
    /// HTTP-like: 500 for the cloud's own failures, 400 for what the owner can change.
    pub code: u16,
    /// What happened and what to do.
    pub message: String,
    /// More, for operators.
    pub details: Option<String>,
    /// When.
    pub created: Timestamp,
}

/// The large parts of a request that lists do not read.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// User data, base64; may hold secrets.
    pub user_data: Option<String>,
    /// Files to inject: path and base64 contents.
    pub personality: Vec<(String, String)>,
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").finish_non_exhaustive()
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// The owning project.
    pub project: ProjectId,
    /// The user who made it.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// The guest's host name.
    pub hostname: String,
    /// Free text.
    pub description: Option<String>,
    /// Where it is in its life.
    pub state: State,
    /// What its host last said.
    pub power: Power,
    /// What its host is told to keep.
    pub desired: DesiredPower,
    /// Percent done of what is under way.
    pub progress: u8,
    /// Where it is placed.
    pub host: Option<HostRef>,
    /// Counts its placements.
    pub epoch: u64,
    /// Its availability zone, once placed; before, the one asked for or nothing.
    pub zone: String,
    /// The availability zone that was asked for.
    pub requested_zone: Option<String>,
    /// Shared by the servers of one request.
    pub reservation_id: String,
    /// Its place among them.
    pub launch_index: u32,
    /// Whether, and by whom, it is locked.
    pub locked_by: Option<LockedBy>,
    /// Why.
    pub locked_reason: Option<String>,
    /// An address for people, kept as given.
    pub access_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub access_ipv6: Option<Ipv6Addr>,
    /// Disk configuration.
    pub disk_config: DiskConfig,
    /// Whether it has a config drive.
    pub config_drive: bool,
    /// Key-value pairs of the user.
    pub metadata: BTreeMap<String, String>,
    /// Names of security groups that were asked for.
    pub security_groups: Vec<String>,
    /// What never changes.
    pub fixed: Fixed,
    /// Why it is in `ERROR`.
    pub fault: Option<ServerFault>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
    /// When it first ran.
    pub launched_at: Option<Timestamp>,
    /// When its deletion began.
    pub terminated_at: Option<Timestamp>,
    /// When it was gone for its user.
    pub deleted_at: Option<Timestamp>,
    /// Counts changes of the row; 0 before it is stored.
    pub generation: i64,
}

impl Server {
    /// The name of its key pair.
    pub fn key_name(&self) -> Option<&str> {
        self.fixed.key.as_ref().map(|key| key.name.as_str())
    }

    /// What the journal says of it: nothing secret, nothing large.
    pub fn journal_view(&self) -> Value {
        json!({
            "name": self.name,
            "status": self.state.status(),
            "task_state": self.state.task,
            "power_state": self.power.code(),
            "host": self.host.as_ref().map(|host| &host.name),
            "placement_epoch": self.epoch,
            "flavor": self.fixed.flavor.id,
            "vcpus": self.fixed.flavor.vcpus,
            "memory_mib": self.fixed.flavor.memory_mib,
            "disk_gib": self.fixed.resources().disk_gib,
            "image": self.fixed.image.as_ref().map(|image| image.id),
            "metadata": self.metadata,
            "locked": self.locked_by.is_some(),
            "fault": self.fault.as_ref().map(|fault| &fault.message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_disk_of_the_images_size_is_counted() {
        let mut fixed = Fixed {
            flavor: FlavorSnapshot {
                vcpus: 2,
                memory_mib: 512,
                swap_mib: 100,
                ..Default::default()
            },
            image: Some(ImageSnapshot {
                id: ImageId::random(),
                format: ImageFormat::Qcow2,
                size_bytes: 10,
                sha256: String::new(),
                virtual_size: Some((2 << 30) + 1),
                architecture: None,
            }),
            ..Fixed::default()
        };
        assert_eq!(fixed.resources(), Resources { vcpus: 2, memory_mib: 512, disk_gib: 4 });
        fixed.flavor.disk_gib = 10;
        assert_eq!(fixed.resources().disk_gib, 11);
    }

    #[test]
    fn the_record_of_a_server_reads_back() {
        let fixed = Fixed { forced_host: Some("h".into()), ..Fixed::default() };
        let text = serde_json::to_string(&fixed).unwrap();
        assert_eq!(serde_json::from_str::<Fixed>(&text).unwrap(), fixed);
    }
}
