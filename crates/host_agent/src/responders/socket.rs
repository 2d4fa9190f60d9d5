//! A datagram socket that knows which of its machine's addresses a request was for, and answers
//! from it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrStorage, recvmsg, sendmsg, setsockopt, socket,
};
use tokio::io::unix::AsyncFd;

/// Names the filter of ICMPv6 types among the options of a socket (RFC 3542, section 3.2).
const ICMP6_FILTER: libc::c_int = 1;
/// Neighbour discovery is believed only with this hop limit (RFC 4861, section 6.1).
const DISCOVERY_HOP_LIMIT: libc::c_int = 255;

/// A request's addresses: needed to answer it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    /// Who asked.
    pub peer: SocketAddr,
    /// The address that was asked.
    pub local: IpAddr,
}

impl From {
    /// Number of the port that asked; `None` for a packet that did not come through the bridge.
    pub fn port_number(&self) -> Option<u32> {
        port_number(self.peer.ip())
    }
}

/// The port number that a peer's address stands for.
pub(crate) fn port_number(peer: IpAddr) -> Option<u32> {
    match peer {
        IpAddr::V4(peer) => flow_compiler::port_of_identity(peer),
        IpAddr::V6(peer) => flow_compiler::port_of_identity6(peer),
    }
}

/// A datagram socket with packet information.
pub(crate) struct Identified {
    fd: AsyncFd<OwnedFd>,
}

impl Identified {
    /// A UDP socket. Must be called inside a tokio runtime, as all of these.
    pub fn udp(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_ipv4() {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        }
        Identified::raw(socket.into())
    }

    /// A raw socket that [`router_solicitations`] made.
    pub fn raw(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is owned, so it is open and the same until the registration ends.
        let fd = unsafe { AsyncFd::register(fd) }?;
        Ok(Identified { fd })
    }

    /// Waits for a request. What does not fit into the buffer is cut off.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, From)> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| receive(fd.get_ref(), buffer)) {
                Ok(Ok(Some(received))) => return Ok(received),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(None)) | Err(_) => {}
            }
        }
    }

    /// Answers. A full send buffer drops the answer: the guest asks again.
    pub fn send(&self, bytes: &[u8], to: From) -> io::Result<()> {
        let fd = self.fd.get_ref().as_raw_fd();
        let peer = SockaddrStorage::from(to.peer);
        let bytes = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        match to.local {
            IpAddr::V4(local) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: local.to_bits().to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                sendmsg(fd, &bytes, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&peer))?;
            }
            IpAddr::V6(local) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: local.octets() },
                    ipi6_ifindex: 0,
                };
                sendmsg(fd, &bytes, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&peer))?;
            }
        }
        Ok(())
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<(usize, From)>> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        fd.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let local = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
        }
        _ => None,
    });
    let peer = message.address.and_then(|peer| {
        let four = peer.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        four.or_else(|| peer.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
    });
    Ok(peer.zip(local).map(|(peer, local)| (message.bytes, From { peer, local })))
}

/// A raw socket that hears router solicitations and nothing else, and sends with the hop limit of
/// neighbour discovery. The kernel computes the checksum of what is sent.
pub(crate) fn router_solicitations() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
    setsockopt(&fd, Ipv6RecvPacketInfo, &true)?;
    // A bit for each type: set, it is held back.
    let mut filter = [u32::MAX; 8];
    filter[133 / 32] &= !(1 << (133 % 32));
    set_option(&fd, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &filter)?;
    set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &DISCOVERY_HOP_LIMIT)?;
    Ok(fd)
}

fn set_option<T>(fd: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value lives across the call and the length is its own.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
