//! A UDP socket that knows which of its machine's addresses a request was for, and answers from it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A request's addresses: needed to answer it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    /// Who asked.
    pub peer: SocketAddrV4,
    /// The address that was asked.
    pub local: Ipv4Addr,
}

impl From {
    /// Number of the port that asked; `None` for a packet that did not come through the bridge.
    pub fn port_number(&self) -> Option<u32> {
        flow_compiler::port_of_identity(*self.peer.ip())
    }
}

/// A UDP socket with packet information.
pub(crate) struct IdentifiedUdp {
    socket: UdpSocket,
}

impl IdentifiedUdp {
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        Ok(IdentifiedUdp { socket: UdpSocket::from_std(socket)? })
    }

    /// Waits for a request. What does not fit into the buffer is cut off.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, From)> {
        loop {
            let read = || receive(&self.socket, buffer);
            let received = self.socket.async_io(Interest::READABLE, read).await?;
            if let Some(received) = received {
                return Ok(received);
            }
        }
    }

    /// Answers. A full send buffer drops the answer: the guest asks again.
    pub fn send(&self, bytes: &[u8], to: From) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: to.local.to_bits().to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let fd = self.socket.as_raw_fd();
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let peer = SockaddrIn::from(to.peer);
        sendmsg(fd, &[IoSlice::new(bytes)], &control, MsgFlags::MSG_DONTWAIT, Some(&peer))?;
        Ok(())
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, From)>> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let local = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)))
        }
        _ => None,
    });
    Ok(message.address.zip(local).map(|(peer, local)| {
        (message.bytes, From { peer: SocketAddrV4::new(peer.ip(), peer.port()), local })
    }))
}
