//! Taps, veths and namespaces: the devices that ports are plugged into.
//!
//! ```text
//!   guest ── QEMU ══ tap ────────────┐
//!   namespace: veth ══ veth ─────────┼── bridge ── underlay
//!   responders' namespace: veth ══ ──┘
//! ```
//! Every call looks at what the kernel has and does the difference, so that it can be repeated at
//! any time, also while a guest holds the device. Nothing is spawned: [`netlink`] speaks to the
//! kernel itself. Calls block for as long as the kernel takes, on threads that may block.
//!
//! A device carries what it needs to be removed: the alias of a port's veth names the namespace
//! of its other end, and that of the namespace's loopback says whether Meridian made the
//! namespace. So a restarted agent needs no memory of its own.

mod ioctl;
mod namespace;
mod netlink;

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;

use flow_compiler::{PORT_NETWORK6, RESPONDER_MAC, RESPONDER_NETWORK, RESPONDER_NETWORK6};
use ipnet::{IpNet, Ipv4Net};
use sha2::{Digest, Sha256};

use crate::BoxFuture;
use crate::edges::{LinkError, Links, NamespacePort};
use namespace::Namespace;
use netlink::{LinkChange, Netlink, Route};

/// Alias of the loopback of a namespace that was made here.
const OURS: &str = "meridian";
/// Start of the alias of a port's veth; the name of the namespace follows.
const PEER_IN: &str = "meridian:netns=";
/// The responders' end of their veth.
const RESPONDER_DEVICE: &str = "resp0";
/// Next hop for every guest, so that the kernel keeps one neighbour for all of them (RFC 5737's
/// range: no guest and no service has it).
const RESPONDER_NEXT_HOP: [u8; 4] = [192, 0, 2, 1];
/// The same over IPv6.
const RESPONDER_NEXT_HOP6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The responders' MTU: as large as a guest's on an Ethernet without jumbo frames.
const RESPONDER_MTU: u16 = 1500;

/// The name of a port's device: the host's prefix and as much of a hash of the port's id as fits
/// into 15 characters, so that two hosts on one machine do not clash.
pub fn device_name(prefix: &str, port_id: &str) -> String {
    let hash = Sha256::digest(port_id.as_bytes());
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let free = ioctl::NAME_MAX.saturating_sub(prefix.len());
    format!("{prefix}{}", &digits[..free.min(digits.len())])
}

/// The kernel's devices, in the network namespace in which the agent runs.
#[derive(Clone, Debug)]
pub struct HostLinks {
    responder_device: String,
    responder_namespace: String,
}

impl HostLinks {
    /// `device_prefix` begins the name of the responders' veth; `responder_namespace` is where
    /// its other end goes.
    pub fn new(device_prefix: &str, responder_namespace: &str) -> Self {
        HostLinks {
            responder_device: format!("{device_prefix}-resp"),
            responder_namespace: responder_namespace.to_owned(),
        }
    }
}

impl Links for HostLinks {
    fn ensure_tap<'a>(&'a self, device: &'a str, mtu: u16) -> BoxFuture<'a, Result<(), LinkError>> {
        blocking(device, move |device| ensure_tap(device, mtu))
    }

    fn open_tap<'a>(
        &'a self,
        device: &'a str,
    ) -> BoxFuture<'a, Result<Option<OwnedFd>, LinkError>> {
        blocking(device, |device| match Netlink::open()?.link(device)? {
            Some(link) if link.kind == "tun" => Ok(Some(OwnedFd::from(ioctl::open_tap(device)?))),
            Some(link) => Err(other_kind(&link.kind, "tap")),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the tap is not there")),
        })
    }

    fn ensure_namespace_port<'a>(
        &'a self,
        device: &'a str,
        port: &'a NamespacePort,
    ) -> BoxFuture<'a, Result<(), LinkError>> {
        let port = port.clone();
        blocking(device, move |device| ensure_namespace_port(device, &port))
    }

    fn remove<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<(), LinkError>> {
        blocking(device, remove)
    }

    fn ensure_responder_link(&self) -> BoxFuture<'_, Result<String, LinkError>> {
        let namespace = self.responder_namespace.clone();
        blocking(&self.responder_device, move |device| {
            ensure_responder_link(device, &namespace).map(|()| device.to_owned())
        })
    }
}

/// Runs kernel calls where blocking is allowed, and says which device they were about.
fn blocking<'a, T: Send + 'static>(
    device: &str,
    work: impl FnOnce(&str) -> io::Result<T> + Send + 'static,
) -> BoxFuture<'a, Result<T, LinkError>> {
    let device = device.to_owned();
    Box::pin(async move {
        let name = device.clone();
        let done = tokio::task::spawn_blocking(move || work(&name)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(|e| LinkError { device, message: advice(&e) })
    })
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{error}; the host role needs CAP_NET_ADMIN and CAP_SYS_ADMIN")
        }
        io::ErrorKind::ResourceBusy => {
            format!("{error}; another process holds the device open")
        }
        _ => error.to_string(),
    }
}

fn other_kind(found: &str, wanted: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!(
            "a device of this name is there, but is of kind {found:?} and not a {wanted}; remove \
             it, or give this host another device_prefix"
        ),
    )
}

fn ensure_tap(device: &str, mtu: u16) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let link = match netlink.link(device)? {
        Some(link) if link.kind == "tun" => link,
        Some(link) => return Err(other_kind(&link.kind, "tap")),
        None => {
            ioctl::persist(&ioctl::open_tap(device)?)?;
            existing(&mut netlink, device)?
        }
    };
    host_end(&mut netlink, device, &link, mtu)
}

/// The host's own end of a guest's device: up, and silent (the host takes no address there).
fn host_end(
    netlink: &mut Netlink,
    device: &str,
    link: &netlink::LinkInfo,
    mtu: u16,
) -> io::Result<()> {
    no_ipv6(device);
    if !link.up || link.mtu != u32::from(mtu) {
        let change = LinkChange { up: true, mtu: Some(mtu), ..Default::default() };
        netlink.set_link(link.index, change)?;
    }
    Ok(())
}

fn existing(netlink: &mut Netlink, device: &str) -> io::Result<netlink::LinkInfo> {
    netlink.link(device)?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "the device vanished while it was set up")
    })
}

/// IPv6 on the host's end would send router solicitations to the guest. A kernel without IPv6 has
/// nothing to switch off, so a failure means nothing.
fn no_ipv6(device: &str) {
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1");
}

/// IPv6 without anything that it does by itself: no address of its own, no solicitations. Answers
/// may leave from any address, and IPv6 sockets leave IPv4's ports alone. Whether there is IPv6.
fn quiet_ipv6(device: &str) -> bool {
    let base = "/proc/sys/net/ipv6";
    let of_device = format!("{base}/conf/{device}");
    let settings = [
        (format!("{of_device}/accept_ra"), "0"),
        (format!("{of_device}/autoconf"), "0"),
        (format!("{of_device}/addr_gen_mode"), "1"),
        (format!("{of_device}/disable_ipv6"), "0"),
        (format!("{base}/ip_nonlocal_bind"), "1"),
        (format!("{base}/bindv6only"), "1"),
    ];
    settings.iter().all(|(path, value)| fs::write(path, value).is_ok())
}

/// Makes the pair if it is not there, or its other end is not where it should be.
fn ensure_veth(
    netlink: &mut Netlink,
    device: &str,
    inner_device: &str,
    namespace: &Namespace,
) -> io::Result<(netlink::LinkInfo, Netlink, netlink::LinkInfo)> {
    let mut inside = namespace.run(Netlink::open)?;
    let found = netlink.link(device)?;
    let inner = inside.link(inner_device)?.filter(|link| link.kind == "veth");
    match (&found, &inner) {
        (Some(outer), _) if outer.kind != "veth" => return Err(other_kind(&outer.kind, "veth")),
        (None, Some(_)) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("the namespace has another device called {inner_device}"),
            ));
        }
        _ => {}
    }
    let (outer, inner) = match (found, inner) {
        (Some(outer), Some(inner)) => (outer, inner),
        (found, _) => {
            if let Some(astray) = found {
                netlink.delete_link(astray.index)?;
            }
            netlink.add_veth(device, inner_device, std::os::fd::AsFd::as_fd(namespace))?;
            (existing(netlink, device)?, existing(&mut inside, inner_device)?)
        }
    };
    // Both directions pass the userspace datapath as raw frames. Each time, as an agent may have
    // been cut off between making the pair and this.
    ioctl::checksums_in_software(device)?;
    namespace.run(|| ioctl::checksums_in_software(inner_device))?;
    Ok((outer, inside, inner))
}

/// Opens a namespace, or makes it and marks it as ours.
fn ensure_namespace(name: &str) -> io::Result<Namespace> {
    if let Some(namespace) = Namespace::open(name)? {
        return Ok(namespace);
    }
    let namespace = Namespace::create(name)?;
    let change = LinkChange { up: true, alias: Some(OURS), ..Default::default() };
    namespace.run(|| Netlink::open()?.set_link(1, change))?;
    Ok(namespace)
}

fn ensure_namespace_port(device: &str, port: &NamespacePort) -> io::Result<()> {
    let namespace = ensure_namespace(&port.namespace)?;
    let mut netlink = Netlink::open()?;
    let (outer, mut inside, inner) = ensure_veth(&mut netlink, device, device, &namespace)?;
    let alias = format!("{PEER_IN}{}", port.namespace);
    if outer.alias != alias {
        let change = LinkChange { alias: Some(&alias), ..Default::default() };
        netlink.set_link(outer.index, change)?;
    }
    host_end(&mut netlink, device, &outer, port.mtu)?;
    if inner.mac != Some(port.mac.0) || !inner.up || inner.mtu != u32::from(port.mtu) {
        let change = LinkChange {
            up: true,
            mtu: Some(port.mtu),
            mac: Some(port.mac.0),
            ..Default::default()
        };
        inside.set_link(inner.index, change)?;
    }
    let wanted: Vec<IpNet> =
        port.addresses.iter().filter_map(|(ip, length)| IpNet::new(*ip, *length).ok()).collect();
    for address in inside.addresses(inner.index)? {
        if !wanted.contains(&address) {
            inside.delete_address(inner.index, address)?;
        }
    }
    for address in &wanted {
        inside.add_address(inner.index, *address)?;
    }
    if let Some(gateway) = port.gateway {
        let any = match gateway {
            std::net::IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            std::net::IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
        };
        let route =
            Route { destination: any, gateway: Some(gateway), device: inner.index, local: false };
        inside.set_route(route)?;
    }
    Ok(())
}

fn remove(device: &str) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let Some(link) = netlink.link(device)? else { return Ok(()) };
    match netlink.delete_link(link.index) {
        Err(e) if e.raw_os_error() != Some(libc::ENODEV) => return Err(e),
        _ => {}
    }
    match link.alias.strip_prefix(PEER_IN) {
        Some(namespace) => remove_if_empty(namespace),
        None => Ok(()),
    }
}

/// Removes a namespace that was made here and has nothing left but its loopback.
fn remove_if_empty(name: &str) -> io::Result<()> {
    let Some(namespace) = Namespace::open(name)? else { return Ok(()) };
    let links = namespace.run(|| Netlink::open()?.links())?;
    let ours = links.iter().any(|link| link.index == 1 && link.alias == OURS);
    if ours && links.len() == 1 { Namespace::remove(name) } else { Ok(()) }
}

/// The namespace of the responders' sockets:
/// every address of [`RESPONDER_NETWORK`] is local, and every guest (10.0.0.0/8) is behind one
/// next hop on a device that resolves nothing. The same with the networks that stand for them over
/// IPv6, where the kernel has it.
fn ensure_responder_link(device: &str, name: &str) -> io::Result<()> {
    let namespace = ensure_namespace(name)?;
    let mut netlink = Netlink::open()?;
    let (outer, mut inside, inner) =
        ensure_veth(&mut netlink, device, RESPONDER_DEVICE, &namespace)?;
    host_end(&mut netlink, device, &outer, RESPONDER_MTU)?;
    let six = namespace.run(|| Ok(quiet_ipv6(RESPONDER_DEVICE)))?;
    let change = LinkChange {
        up: true,
        no_arp: true,
        mtu: Some(RESPONDER_MTU),
        mac: Some(RESPONDER_MAC),
        ..Default::default()
    };
    inside.set_link(inner.index, change)?;
    inside.set_route(Route {
        destination: IpNet::V4(RESPONDER_NETWORK),
        gateway: None,
        device: 1,
        local: true,
    })?;
    if six {
        inside.set_route(Route {
            destination: IpNet::V6(RESPONDER_NETWORK6),
            gateway: None,
            device: 1,
            local: true,
        })?;
        inside.set_route(Route {
            destination: IpNet::V6(PORT_NETWORK6),
            gateway: Some(RESPONDER_NEXT_HOP6.into()),
            device: inner.index,
            local: false,
        })?;
    }
    let guests = Ipv4Net::new([10, 0, 0, 0].into(), 8).map_err(io::Error::other)?;
    inside.set_route(Route {
        destination: IpNet::V4(guests),
        gateway: Some(RESPONDER_NEXT_HOP.into()),
        device: inner.index,
        local: false,
    })
}

/// Runs `work` in a network namespace that is there already, on a thread of its own. Sockets that
/// it opens stay in that namespace.
pub(crate) fn in_namespace<T: Send>(
    name: &str,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = Namespace::open(name)?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no network namespace {name}"))
    })?;
    namespace.run(work)
}

#[cfg(test)]
mod tests;
