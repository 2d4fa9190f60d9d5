//! Ethernet addresses, and the locators that stand for them on the wire between hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not six colon-separated hexadecimal octets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address (six colon-separated pairs of hexadecimal digits)")]
pub struct ParseMacError(pub String);

/// A 48-bit Ethernet address (EUI-48), printed in lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether the group bit is set (multicast or broadcast).
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;
    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let wrong = || ParseMacError(text.chars().take(64).collect());
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(MacAddress(octets)) }
    }
}

impl Serialize for MacAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a frame carries as its address between hosts: a locally administered MAC that names a
/// host and one of its ports, or a host and a network for flooded frames.
///
/// ```text
///   port:  02:hh:hh:pp:pp:pp   host number (16 bits), port number on that host (24 bits)
///   flood: 12:hh:hh:nn:nn:nn   host number (16 bits), network number in the region (24 bits)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Locator {
    /// A port of a host.
    Port {
        /// Unique within the L2 domain.
        host: u16,
        /// Unique on the host; 24 bits.
        port: u32,
    },
    /// Frames for all members of a network on a host.
    Flood {
        /// Unique within the L2 domain.
        host: u16,
        /// Unique in the region; 24 bits.
        network: u32,
    },
}

impl Locator {
    /// First octet of a port locator.
    pub const PORT_PREFIX: u8 = 0x02;
    /// First octet of a flood locator.
    pub const FLOOD_PREFIX: u8 = 0x12;

    /// The address that goes on the wire. Numbers are cut to 24 bits.
    pub fn mac(self) -> MacAddress {
        let (prefix, host, number) = match self {
            Locator::Port { host, port } => (Self::PORT_PREFIX, host, port),
            Locator::Flood { host, network } => (Self::FLOOD_PREFIX, host, network),
        };
        let [h1, h0] = host.to_be_bytes();
        let [_, n2, n1, n0] = number.to_be_bytes();
        MacAddress([prefix, h1, h0, n2, n1, n0])
    }

    /// Reads a wire address back; `None` when it is not a locator.
    pub fn from_mac(mac: MacAddress) -> Option<Self> {
        let [prefix, h1, h0, n2, n1, n0] = mac.0;
        let host = u16::from_be_bytes([h1, h0]);
        let number = u32::from_be_bytes([0, n2, n1, n0]);
        match prefix {
            Self::PORT_PREFIX => Some(Locator::Port { host, port: number }),
            Self::FLOOD_PREFIX => Some(Locator::Flood { host, network: number }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trips_and_refuses_other_spellings() {
        let mac: MacAddress = "fa:16:3E:00:0a:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:0a:ff");
        for bad in [
            "",
            "fa:16:3e:00:0a",
            "fa:16:3e:00:0a:ff:00",
            "fa-16-3e-00-0a-ff",
            "fa:16:3e:0:0a:ff",
            "+a:16:3e:00:0a:ff",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn locators_round_trip_and_never_collide() {
        let port = Locator::Port { host: 0x0102, port: 0x030405 };
        let flood = Locator::Flood { host: 0x0102, network: 0x030405 };
        assert_eq!(port.mac().to_string(), "02:01:02:03:04:05");
        assert_eq!(Locator::from_mac(port.mac()), Some(port));
        assert_eq!(Locator::from_mac(flood.mac()), Some(flood));
        assert_eq!(Locator::from_mac(MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1])), None);
    }
}
