//! The agent's edges towards the host's network other than the switch: the devices that ports are
//! plugged into, and the responders that answer guests. Real adapters live in `links/` and
//! `responders/`; a simulated host implements the same traits.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use cloud_types::MacAddress;
use host_protocol::{HostSpec, NeighbourSpec, NetworkSpec, PortSpec, ServerSpec};

use crate::BoxFuture;

/// Why a device could not be made or removed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("device {device}: {message}")]
pub struct LinkError {
    /// The device.
    pub device: String,
    /// What happened, why, and what to do.
    pub message: String,
}

/// A port that is plugged into a network namespace of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacePort {
    /// The namespace; made when absent, removed with its last port.
    pub namespace: String,
    /// The device's MAC inside the namespace.
    pub mac: MacAddress,
    /// MTU of both ends.
    pub mtu: u16,
    /// Addresses with prefix length of their subnet.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateway, if its subnet has one.
    pub gateway: Option<IpAddr>,
}

/// Taps, veths and namespaces. Every call is idempotent, and returns when the kernel has done it.
pub trait Links: Send + Sync + 'static {
    /// Makes a persistent tap without vnet header, up, with this MTU, IPv6 autoconfiguration off.
    /// A device that is already right is left as it is, also while a guest holds it.
    fn ensure_tap<'a>(&'a self, device: &'a str, mtu: u16) -> BoxFuture<'a, Result<(), LinkError>>;

    /// Opens the tap for a guest to inherit (close-on-exec set; the hypervisor clears it in the
    /// child). `None` from a simulated host.
    fn open_tap<'a>(&'a self, device: &'a str)
    -> BoxFuture<'a, Result<Option<OwnedFd>, LinkError>>;

    /// Makes a veth whose host end is `device` (checksum offload off on both ends) and whose
    /// other end is configured inside the namespace.
    fn ensure_namespace_port<'a>(
        &'a self,
        device: &'a str,
        port: &'a NamespacePort,
    ) -> BoxFuture<'a, Result<(), LinkError>>;

    /// Removes the device, and a namespace that this call leaves without ports. A device that is
    /// not there is done.
    fn remove<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<(), LinkError>>;

    /// Makes the veth into the responders' namespace, and returns the host end's name, which the
    /// agent puts on the bridge.
    fn ensure_responder_link(&self) -> BoxFuture<'_, Result<String, LinkError>>;
}

/// Everything the responders answer from. Rebuilt and handed over whole on each change: lookups
/// are by port number, so the responders index it as they like.
#[derive(Clone, Debug, Default)]
pub struct ResponderTables {
    /// The host, once its document is known.
    pub host: Option<HostSpec>,
    /// Networks with a port here.
    pub networks: Vec<NetworkSpec>,
    /// Ports here; each answers for requests from `10.` + its 24-bit number.
    pub ports: Vec<PortSpec>,
    /// Ports of these networks elsewhere, for DNS.
    pub neighbours: Vec<NeighbourSpec>,
    /// Servers here, for metadata.
    pub servers: Vec<ServerSpec>,
}

/// DHCP, DNS and metadata, answered on the host from its own documents.
pub trait Responders: Send + Sync + 'static {
    /// Takes new tables; answers given after the return come from them.
    fn update(&self, tables: ResponderTables);
}
