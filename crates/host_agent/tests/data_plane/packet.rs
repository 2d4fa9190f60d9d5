//! Sockets inside a guest's namespace, and raw frames.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
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
        inside(guest, || Tap::device(&guest.device))
    }

    /// The host's end of a guest's NIC: what leaves the guest comes by here.
    pub fn outside(guest: &Guest) -> Self {
        Tap::device(&guest.device)
    }

    /// A device of this thread's own namespace.
    pub fn device(name: &str) -> Self {
        let index = nix::net::if_::if_nametoindex(name).unwrap() as i32;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .unwrap();
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut only: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        only.sll_family = libc::AF_PACKET as u16;
        only.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        only.sll_ifindex = index;
        // SAFETY: the address lives across the call and the length is its own.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const only).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100)).unwrap();
        Tap { socket, index }
    }

    pub fn send(&self, frame: &[u8]) {
        let sent = self.try_send(frame);
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    /// Drops the frame when the device's queue is full.
    pub fn send_if_room(&self, frame: &[u8]) {
        self.try_send(frame);
    }

    /// The next frame that is there already.
    pub fn next(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        let length = nix::sys::socket::recv(self.socket.as_raw_fd(), &mut buffer, flags).ok()?;
        Some(buffer[..length].to_vec())
    }

    fn try_send(&self, frame: &[u8]) -> isize {
        // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = self.index;
        to.sll_halen = 6;
        // SAFETY: the frame and the address live for the call, and their lengths are their own.
        unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        }
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

    /// The same inside tags of these types, outermost first.
    pub fn tagged(&self, kinds: &[u16], payload: &[u8]) -> Vec<u8> {
        let mut frame = self.udp(4000, 4000, payload);
        for kind in kinds.iter().rev() {
            let [a, b] = kind.to_be_bytes();
            frame.splice(12..12, [a, b, 0x00, 0x05]);
        }
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

/// The internet's checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| (u32::from(pair[0]) << 8) | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Addresses of a frame to forge over IPv6.
#[derive(Clone, Copy)]
pub struct Forged6 {
    pub eth_src: [u8; 6],
    pub eth_dst: [u8; 6],
    pub ip_src: Ipv6Addr,
    pub ip_dst: Ipv6Addr,
}

impl Forged6 {
    /// A UDP datagram with this payload.
    pub fn udp(&self, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2(self.eth_src, self.eth_dst)
            .ipv6(self.ip_src.octets(), self.ip_dst.octets(), 64)
            .udp(from, to);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).unwrap();
        frame
    }

    /// A message of ICMPv6 with the hop limit of neighbour discovery; the payload is an option that
    /// nobody knows (RFC 4727).
    pub fn icmp(&self, kind: u8, rest: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() + 2).next_multiple_of(8);
        let mut option = vec![253, (length / 8) as u8];
        option.extend_from_slice(payload);
        option.resize(length, 0);
        let mut body = [&[kind, 0, 0, 0][..], rest, &option].concat();
        let (src, dst) = (self.ip_src.octets(), self.ip_dst.octets());
        let pseudo = [&src[..], &dst, &(body.len() as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
        let sum = checksum(&[pseudo, body.clone()].concat());
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let [l1, l0] = (body.len() as u16).to_be_bytes();
        let header = [&[0x60, 0, 0, 0, l1, l0, 58, 255][..], &src, &dst].concat();
        [&self.eth_dst[..], &self.eth_src, &[0x86, 0xdd], &header, &body].concat()
    }

    /// A neighbour advertisement that a target is at a MAC.
    pub fn advertisement(&self, target: Ipv6Addr, mac: [u8; 6], payload: &[u8]) -> Vec<u8> {
        let rest = [&[0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat();
        self.icmp(136, &rest, payload)
    }
}
