//! What only `ioctl` does: taps, and checksum offload.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Longest device name, without the final NUL.
pub(crate) const NAME_MAX: usize = libc::IFNAMSIZ - 1;
/// Sets whether the device computes checksums of what it sends (linux/ethtool.h).
const ETHTOOL_STXCSUM: u32 = 0x17;
/// `_IOW('T', 203, int)` (linux/if_tun.h).
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
/// `_IOW('T', 202, int)` (linux/if_tun.h).
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    if name.is_empty() || name.len() > NAME_MAX || name.bytes().any(|b| b == 0 || b == b'/') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a device name (1 to {NAME_MAX} characters)"),
        ));
    }
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches to the tap of this name, which is made if it is not there: Ethernet frames, no packet
/// information, no vnet header (the userspace datapath would not fill its checksums in).
pub(crate) fn open_tap(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open("/dev/net/tun")?;
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives for the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &mut request) })?;
    Ok(file)
}

/// Lets the tap stay when nobody holds it.
pub(crate) fn persist(tap: &File) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes an integer by value.
    checked(unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETPERSIST, 1 as libc::c_ulong) })
}

/// Lets the kernel fill checksums in before a frame leaves by this device of the calling
/// thread's namespace: the userspace datapath reads raw frames and would pass them on unfinished.
pub(crate) fn checksums_in_software(name: &str) -> io::Result<()> {
    let socket: OwnedFd =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = EthtoolValue { command: ETHTOOL_STXCSUM, data: 0 };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads one ifreq whose data points to an ethtool_value; both live for
    // the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) })
}
