//! The few rtnetlink requests that the agent needs, as bytes on a socket.
//!
//! A crate for this (`rtnetlink`) brings five more and an asynchronous connection task for each
//! network namespace; six request kinds, each answered in microseconds, are less code by hand. A
//! socket belongs to the namespace in which it was opened, whichever thread uses it later, so one
//! [`Netlink`] per namespace replaces entering it for every call.

use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// The kernel answers in microseconds, or, when another request holds its lock, soon after; an
/// answer that is this late will not come.
const ANSWER_SECONDS: i64 = 30;
/// Length of `nlmsghdr`.
const HEADER: usize = 16;
/// The next hop is on the link, whatever the addresses say (linux/rtnetlink.h).
const RTNH_F_ONLINK: u32 = 4;
/// `IFLA_LINKINFO` and what is nested in it (linux/if_link.h).
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub up: bool,
    pub mac: Option<[u8; 6]>,
    /// `tun`, `veth`, …; empty for devices that are hardware.
    pub kind: String,
    /// Free text kept with the device.
    pub alias: String,
}

/// What to change of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkChange<'a> {
    pub up: bool,
    pub no_arp: bool,
    pub mtu: Option<u16>,
    pub mac: Option<[u8; 6]>,
    pub alias: Option<&'a str>,
}

/// A route to add, or to replace one to the same destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    pub device: u32,
    /// Deliver to this machine's own sockets (`RTN_LOCAL`).
    pub local: bool,
}

/// An rtnetlink socket in one network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
        Ok(Netlink { fd, sequence: 0 })
    }

    /// The device of this name.
    pub fn link(&mut self, name: &str) -> io::Result<Option<LinkInfo>> {
        let mut m = Message::link(libc::RTM_GETLINK, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        match self.request(m, 0) {
            Ok(answers) => Ok(answers.iter().find_map(|a| read_link(a))),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every device of the namespace.
    pub fn links(&mut self) -> io::Result<Vec<LinkInfo>> {
        let m = Message::link(libc::RTM_GETLINK, 0, 0, 0);
        let answers = self.request(m, libc::NLM_F_DUMP as u16)?;
        Ok(answers.iter().filter_map(|a| read_link(a)).collect())
    }

    /// Makes a pair: `name` here, `peer` in the other namespace.
    pub fn add_veth(
        &mut self,
        name: &str,
        peer: &str,
        namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let mut m = Message::link(libc::RTM_NEWLINK, 0, 0, 0);
        m.text(libc::IFLA_IFNAME, name);
        m.nested(libc::IFLA_LINKINFO, |m| {
            m.text(INFO_KIND, "veth");
            m.nested(INFO_DATA, |m| {
                m.nested(VETH_PEER, |m| {
                    m.bytes.extend_from_slice(&[0; 16]);
                    m.text(libc::IFLA_IFNAME, peer);
                    m.u32(libc::IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
                });
            });
        });
        self.request(m, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16).map(drop)
    }

    /// Changes a device; what is not named stays.
    pub fn set_link(&mut self, index: u32, change: LinkChange<'_>) -> io::Result<()> {
        let mut flags = 0;
        if change.up {
            flags |= libc::IFF_UP as u32;
        }
        if change.no_arp {
            flags |= libc::IFF_NOARP as u32;
        }
        let mut m = Message::link(libc::RTM_NEWLINK, index, flags, flags);
        if let Some(mtu) = change.mtu {
            m.u32(libc::IFLA_MTU, mtu.into());
        }
        if let Some(mac) = change.mac {
            m.attribute(libc::IFLA_ADDRESS, &mac);
        }
        if let Some(alias) = change.alias {
            m.attribute(libc::IFLA_IFALIAS, alias.as_bytes());
        }
        self.request(m, 0).map(drop)
    }

    /// Removes a device; of a pair, both ends.
    pub fn delete_link(&mut self, index: u32) -> io::Result<()> {
        self.request(Message::link(libc::RTM_DELLINK, index, 0, 0), 0).map(drop)
    }

    /// The addresses of a device, link-local IPv6 ones left out.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<IpNet>> {
        let m = Message::new(libc::RTM_GETADDR, &[0; 8]);
        let answers = self.request(m, libc::NLM_F_DUMP as u16)?;
        let mut out = Vec::new();
        for answer in &answers {
            let Some((head, rest)) = answer.split_first_chunk::<8>() else { continue };
            if u32::from_ne_bytes([head[4], head[5], head[6], head[7]]) != index {
                continue;
            }
            // IPv4 names the local end IFA_LOCAL; IPv6 has IFA_ADDRESS only.
            let wanted = if i32::from(head[0]) == libc::AF_INET {
                libc::IFA_LOCAL
            } else {
                libc::IFA_ADDRESS
            };
            let found = attributes(rest).find(|(kind, _)| *kind == wanted);
            if let Some(ip) = found.and_then(|(_, value)| read_ip(value))
                && let Ok(net) = IpNet::new(ip, head[1])
                && !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
            {
                out.push(net);
            }
        }
        Ok(out)
    }

    /// Gives a device an address, in force at once (no duplicate detection); one that it has is left.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        let m = address_message(libc::RTM_NEWADDR, index, address);
        self.request(m, (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16).map(drop)
    }

    /// Takes an address from a device.
    pub fn delete_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        self.request(address_message(libc::RTM_DELADDR, index, address), 0).map(drop)
    }

    /// Adds or replaces a route.
    pub fn set_route(&mut self, route: Route) -> io::Result<()> {
        let family = family(route.destination.addr());
        let (table, kind, scope) = match (route.local, route.gateway) {
            (true, _) => (libc::RT_TABLE_LOCAL, libc::RTN_LOCAL, libc::RT_SCOPE_HOST),
            (false, None) => (libc::RT_TABLE_MAIN, libc::RTN_UNICAST, libc::RT_SCOPE_LINK),
            (false, Some(_)) => (libc::RT_TABLE_MAIN, libc::RTN_UNICAST, libc::RT_SCOPE_UNIVERSE),
        };
        let mut head = [
            family,
            route.destination.prefix_len(),
            0,
            0,
            table,
            libc::RTPROT_STATIC,
            scope,
            kind,
            0,
            0,
            0,
            0,
        ];
        if route.gateway.is_some() {
            head[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut m = Message::new(libc::RTM_NEWROUTE, &head);
        if route.destination.prefix_len() > 0 {
            m.attribute(libc::RTA_DST, &octets(route.destination.network()));
        }
        if let Some(gateway) = route.gateway {
            m.attribute(libc::RTA_GATEWAY, &octets(gateway));
        }
        m.u32(libc::RTA_OIF, route.device);
        self.request(m, (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16).map(drop)
    }

    /// Sends one request and collects what is answered until the kernel says that it is done.
    fn request(&mut self, message: Message, flags: u16) -> io::Result<Vec<Vec<u8>>> {
        self.sequence = self.sequence.wrapping_add(1);
        // Both bits: one of them alone means "exclusive" or "replace" in other requests.
        let dump = flags & libc::NLM_F_DUMP as u16 == libc::NLM_F_DUMP as u16;
        let ack = if dump { 0 } else { libc::NLM_F_ACK as u16 };
        let bytes = message.finish(flags | ack | libc::NLM_F_REQUEST as u16, self.sequence);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
                let total =
                    u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
                let Some(payload) = after.get(..total.saturating_sub(HEADER)) else {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "netlink answer cut off",
                    ));
                };
                rest = after.get(align(payload.len())..).unwrap_or(&[]);
                if sequence != self.sequence {
                    continue; // left over from a request that failed half-way
                }
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(answers),
                    libc::NLMSG_ERROR => {
                        let code =
                            payload.first_chunk().map_or(-libc::EIO, |c| i32::from_ne_bytes(*c));
                        return match code {
                            0 => Ok(answers),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => answers.push(payload.to_vec()),
                }
            }
        }
    }
}

/// A request under construction.
struct Message {
    bytes: Vec<u8>,
    kind: u16,
}

impl Message {
    fn new(kind: u16, head: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(head);
        Message { bytes, kind }
    }

    /// A request with an `ifinfomsg`.
    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let mut head = [0; 16];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        head[8..12].copy_from_slice(&flags.to_ne_bytes());
        head[12..16].copy_from_slice(&change.to_ne_bytes());
        Message::new(kind, &head)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut value = value.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.attribute(kind, &[]);
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(mut self, flags: u16, sequence: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn family(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn read_ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

fn address_message(kind: u16, index: u32, address: IpNet) -> Message {
    let ip = address.addr();
    let no_duplicate_detection = if ip.is_ipv6() { libc::IFA_F_NODAD as u8 } else { 0 };
    let mut head = [family(ip), address.prefix_len(), no_duplicate_detection, 0, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut m = Message::new(kind, &head);
    m.attribute(libc::IFA_LOCAL, &octets(ip));
    m.attribute(libc::IFA_ADDRESS, &octets(ip));
    m
}

/// Attributes of an answer, as (kind, value); stops at the first that does not fit.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn read_link(answer: &[u8]) -> Option<LinkInfo> {
    let (head, rest) = answer.split_first_chunk::<16>()?;
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let mut info = LinkInfo {
        index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        name: String::new(),
        mtu: 0,
        up: flags & libc::IFF_UP as u32 != 0,
        mac: None,
        kind: String::new(),
        alias: String::new(),
    };
    let text = |value: &[u8]| match CStr::from_bytes_until_nul(value) {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => String::from_utf8_lossy(value).into_owned(),
    };
    for (kind, value) in attributes(rest) {
        match kind {
            libc::IFLA_IFNAME => info.name = text(value),
            libc::IFLA_IFALIAS => info.alias = text(value),
            libc::IFLA_MTU => info.mtu = value.try_into().map_or(0, u32::from_ne_bytes),
            libc::IFLA_ADDRESS => info.mac = value.try_into().ok(),
            libc::IFLA_LINKINFO => {
                let found = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                info.kind = found.map(|(_, value)| text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_a_device_that_is_not_there_is_none() {
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.name.as_str()), (1, "lo"));
        assert!(netlink.links().unwrap().contains(&lo));
        assert_eq!(netlink.link("no-such-device").unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn answers_of_any_shape_are_read_without_panic(bytes: Vec<u8>) {
            let _ = read_link(&bytes);
            let _ = attributes(&bytes).count();
        }
    }
}
