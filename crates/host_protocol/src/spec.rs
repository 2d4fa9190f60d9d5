//! The description inside each kind of document.

use std::net::IpAddr;

use cloud_types::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The host itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// The host's name.
    pub name: String,
    /// Its number in the L2 domain: the host part of its locators.
    pub host_number: u16,
    /// The L2 domain that its underlay port stands in.
    pub l2_domain: String,
    /// The zone (availability zone).
    pub zone: String,
    /// The cluster within the zone.
    pub cluster: String,
}

/// A network that has a port on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network.
    pub network_id: String,
    /// Its number in the region, 24 bits: the network part of flood locators.
    pub network_number: u32,
    /// Guests' MTU in bytes.
    pub mtu: u16,
    /// Search domain handed out by DHCP, without a trailing dot.
    pub dns_domain: String,
    /// Its subnets.
    pub subnets: Vec<SubnetSpec>,
}

/// A subnet as the responders need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// The subnet.
    pub subnet_id: String,
    /// Its range.
    pub cidr: IpNet,
    /// The gateway, when it has one. The host answers ARP for it.
    pub gateway_ip: Option<IpAddr>,
    /// Whether DHCP is answered.
    pub enable_dhcp: bool,
    /// Name servers to hand out; empty means the host's own responder.
    #[serde(default)]
    pub dns_nameservers: Vec<IpAddr>,
    /// Routes to hand out (destination, next hop).
    #[serde(default)]
    pub host_routes: Vec<(IpNet, IpAddr)>,
    /// How routers tell guests to find their IPv6 addresses; absent means that the host sends no
    /// router advertisements about the subnet. Always absent for IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    /// How guests get their IPv6 addresses; absent means by nothing that the host does. Always
    /// absent for IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_mode: Option<Ipv6Mode>,
}

/// How an IPv6 guest comes by its address and by the rest of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6Mode {
    /// Both from router advertisements (RFC 4862, RFC 8106).
    Slaac,
    /// The address from router advertisements, the rest by DHCPv6 (RFC 8415, section 6.1).
    #[serde(rename = "dhcpv6-stateless")]
    Dhcpv6Stateless,
    /// Both by DHCPv6.
    #[serde(rename = "dhcpv6-stateful")]
    Dhcpv6Stateful,
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    /// The subnet that the address comes from.
    pub subnet_id: String,
    /// The address.
    pub ip: IpAddr,
}

/// What a port is plugged into on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Attachment {
    /// A tap that QEMU opens for a server's NIC.
    Tap,
    /// A veth into a network namespace of the host, configured with the port's addresses. This
    /// is how operators reach guests where no router exists, and how tests play many guests.
    Namespace {
        /// The namespace's name; made when absent, removed with its last port.
        name: String,
    },
}

/// A port that lives on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The port.
    pub port_id: String,
    /// Its network.
    pub network_id: String,
    /// The owning project.
    pub project_id: String,
    /// Its number on this host, 24 bits, at least 1: the port part of its locator.
    pub port_number: u32,
    /// The guest's own MAC.
    pub mac: MacAddress,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// More (address, MAC) pairs that it may send from.
    #[serde(default)]
    pub allowed_address_pairs: Vec<(IpNet, MacAddress)>,
    /// Whether anti-spoofing and security groups apply.
    pub port_security: bool,
    /// Whether the port forwards at all.
    pub admin_state_up: bool,
    /// The groups that it is in: rules of the network's ports may be about their members.
    pub security_groups: Vec<String>,
    /// The union of its groups' rules.
    pub security_rules: Vec<SecurityRule>,
    /// Name in the tenant's DNS and in DHCP, without domain.
    pub hostname: String,
    /// Its domain, where that is not the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<String>,
    /// More that DHCP tells the guest, before what the subnet says; in order of name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_options: Vec<DhcpOption>,
    /// What is plugged in.
    pub attachment: Attachment,
    /// The server that it belongs to, if any: metadata requests from this port are about it.
    pub server_id: Option<String>,
}

/// An option that DHCP hands out to one port (`extra_dhcp_opts` of the API).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DhcpOption {
    /// Its name (`bootfile-name`, `tftp-server`, …) or its number in decimal.
    pub name: String,
    /// Its value as text, as the API got it.
    pub value: String,
    /// For DHCPv6 rather than DHCPv4.
    pub ipv6: bool,
}

/// Which way a rule looks at traffic, from the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the port.
    Ingress,
    /// From the port.
    Egress,
}

/// One thing that a security group allows. What no rule allows is dropped; answers to what was
/// allowed pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecurityRule {
    /// Which way.
    pub direction: Direction,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// IP protocol number; absent means any.
    pub protocol: Option<u8>,
    /// Lowest port (TCP, UDP, SCTP, DCCP) or ICMP type.
    pub port_min: Option<u16>,
    /// Highest port, or ICMP code.
    pub port_max: Option<u16>,
    /// The other side.
    pub remote: Remote,
    /// Judges each packet by itself, in the rule's own direction: an answer needs a rule too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stateless: bool,
}

/// Whom a rule lets a port talk to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remote {
    /// Anyone.
    Anyone,
    /// Addresses of a range.
    Range(IpNet),
    /// Addresses of the ports of the same network that are in this security group, wherever they
    /// live. A host has a document for each of them, so a port that comes or goes is said to each
    /// host once, however many ports there have rules about its groups.
    Group(String),
    /// Addresses of any of these ranges: an address group. Sorted; empty means nobody.
    Addresses(Vec<IpNet>),
}

/// A port of one of the host's networks that lives on another host of the L2 domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourSpec {
    /// The port.
    pub port_id: String,
    /// Its network.
    pub network_id: String,
    /// The host it lives on.
    pub host_number: u16,
    /// Its number there.
    pub port_number: u32,
    /// Its own MAC.
    pub mac: MacAddress,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// More (address, MAC) pairs that it may use.
    #[serde(default)]
    pub allowed_address_pairs: Vec<(IpNet, MacAddress)>,
    /// The groups that it is in.
    pub security_groups: Vec<String>,
    /// Name in the tenant's DNS.
    pub hostname: String,
    /// Its domain, where that is not the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_domain: Option<String>,
}

/// What a server's guest should be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredPower {
    /// A QEMU runs.
    Running,
    /// None runs: asked politely by ACPI first, then ended after [`STOP_GRACE_SECONDS`].
    Stopped,
}

/// Seconds a guest has to end itself after the power button before it is ended.
pub const STOP_GRACE_SECONDS: u64 = 60;

/// A server placed on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// The server.
    pub server_id: String,
    /// The owning project.
    pub project_id: String,
    /// Its name.
    pub name: String,
    /// What the guest should be doing.
    pub power: DesiredPower,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disks, root first.
    pub disks: Vec<DiskSpec>,
    /// NICs in order; each has a port document of its own, which the host waits for.
    pub nics: Vec<NicSpec>,
    /// Whether to build a config drive.
    pub config_drive: bool,
    /// What the metadata service and the config drive tell the guest.
    pub metadata: ServerMetadata,
}

/// A disk of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Names the disk within the server: `root`, `ephemeral0`, `swap`.
    pub name: String,
    /// Size that the guest sees, in MiB; 0 means the image's own virtual size.
    pub size_mib: u64,
    /// What it starts from; absent means blank.
    pub image: Option<ImageSource>,
}

/// An image that a disk stands on, copy-on-write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSource {
    /// The image.
    pub image_id: String,
    /// The declared format, never probed.
    pub format: ImageFormat,
    /// Length of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the file, 64 hexadecimal digits; checked before first use on a host.
    pub sha256: String,
}

/// Formats of images that a guest can boot from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// Bytes of the disk.
    Raw,
    /// QEMU's format, version 2 or 3, with no backing or data file.
    Qcow2,
}

/// A NIC of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// The port it stands for.
    pub port_id: String,
    /// Its MAC.
    pub mac: MacAddress,
    /// MTU told to the guest (virtio-net).
    pub mtu: u16,
}

/// What the guest may learn of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// Host name without domain.
    pub hostname: String,
    /// Availability zone.
    pub availability_zone: String,
    /// Name of the key pair, if any, with its public key in OpenSSH form.
    pub public_keys: Vec<(String, String)>,
    /// User's key-value pairs.
    pub meta: std::collections::BTreeMap<String, String>,
    /// User data, base64; may hold secrets, so it is never logged.
    pub user_data: Option<String>,
    /// Name of the flavor, for EC2's `instance-type`.
    pub flavor: String,
    /// Launch index within a multi-create.
    pub launch_index: u32,
    /// Files to inject (path, base64 contents).
    #[serde(default)]
    pub personality: Vec<(String, String)>,
    /// Names of the security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// When the server was created, in microseconds since the epoch.
    #[serde(default)]
    pub created_at: i64,
}

impl std::fmt::Debug for ServerMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerMetadata").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// One act that a workflow asks of the host. The document's id is `{workflow}/{step}`; the host
/// remembers what it did for that id, and does nothing twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationSpec {
    /// The workflow.
    pub workflow: String,
    /// The step's name.
    pub step: String,
    /// Forward, or undo. A forward is refused after its undo.
    pub direction: OperationDirection,
    /// Which try this is.
    pub attempt: u32,
    /// The worker's lease epoch; the host refuses lower ones than it saw for the workflow.
    pub worker_epoch: u64,
    /// What to do.
    pub action: OperationAction,
}

/// Whether a step is done or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationDirection {
    /// Do it.
    Forward,
    /// Take it back.
    Undo,
}

/// Acts on a server that are not a lasting state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum OperationAction {
    /// Restart the guest.
    Reboot {
        /// The server.
        server_id: String,
        /// End QEMU and start it again, rather than asking the guest first.
        hard: bool,
    },
}
