//! Sockets inside a guest's namespace, and raw frames.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};

use super::world::Guest;

/// Runs `work` inside the guest's namespace, on a thread of its own; sockets stay there.
pub fn inside<T: Send>(guest: &Guest, work: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(format!("/run/netns/{}", guest.namespace)).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            })
            .join()
            .unwrap()
    })
}

pub fn udp(guest: &Guest, address: Ipv4Addr, port: u16) -> UdpSocket {
    inside(guest, || {
        let socket = UdpSocket::bind((address, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.set_broadcast(true).unwrap();
        socket
    })
}

/// One request and its answer's whole text.
pub fn http(guest: &Guest, to: SocketAddr, request: &str) -> io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = inside(guest, || TcpStream::connect_timeout(&to, Duration::from_secs(10)))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Everything that a guest's NIC sees, and a way to send any frame.
pub struct Tap {
    socket: OwnedFd,
    index: i32,
}

impl Tap {
    pub fn open(guest: &Guest) -> Self {
        let (socket, index) = inside(guest, || {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .unwrap();
            let index = nix::net::if_::if_nametoindex(guest.device.as_str()).unwrap();
            (socket, index as i32)
        });
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100)).unwrap();
        Tap { socket, index }
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = self.index;
        to.sll_halen = 6;
        // SAFETY: the frame and the address live for the call, and their lengths are their own.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// Reads frames until each marker was in one, in any order (the switch may turn frames that
    /// come together around); returns the others.
    pub fn until(&self, markers: &[&[u8]]) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut missing = markers.to_vec();
        let mut seen = Vec::new();
        let mut buffer = [0; 2048];
        while !missing.is_empty() {
            assert!(Instant::now() < deadline, "{missing:?} did not come; saw {seen:02x?}");
            let read = nix::sys::socket::recv(
                self.socket.as_raw_fd(),
                &mut buffer,
                nix::sys::socket::MsgFlags::empty(),
            );
            let Ok(length) = read else { continue };
            let frame = &buffer[..length];
            let before = missing.len();
            missing.retain(|marker| !contains(frame, marker));
            if missing.len() == before {
                seen.push(frame.to_vec());
            }
        }
        seen
    }
}

pub fn contains(frame: &[u8], needle: &[u8]) -> bool {
    frame.windows(needle.len()).any(|window| window == needle)
}

/// Addresses of a frame to forge.
#[derive(Clone, Copy)]
pub struct Forged {
    pub eth_src: [u8; 6],
    pub eth_dst: [u8; 6],
    pub ip_src: Ipv4Addr,
    pub ip_dst: Ipv4Addr,
}

impl Forged {
    /// A UDP datagram (checksum 0: not computed) with this payload.
    pub fn udp(&self, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2(self.eth_src, self.eth_dst)
            .ipv4(self.ip_src.octets(), self.ip_dst.octets(), 64)
            .udp(from, to);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    /// The same inside an 802.1Q tag.
    pub fn tagged(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.udp(4000, 4000, payload);
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        frame
    }

    /// An ARP reply that says that `ip_src` is at `eth_src`, with the payload as padding.
    pub fn arp(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame =
            [&self.eth_dst[..], &self.eth_src, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
        frame.extend_from_slice(&self.eth_src);
        frame.extend_from_slice(&self.ip_src.octets());
        frame.extend_from_slice(&self.eth_dst);
        frame.extend_from_slice(&self.ip_dst.octets());
        frame.extend_from_slice(payload);
        frame
    }
}
