//! Whose flow it is: the cookie names the object that a flow was compiled from, so that a trace
//! or a counter can be put into words.

/// Owner of a flow. The kind is in the highest octet of the cookie, numbers below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    /// The host's own: classification, misses, state tables.
    Host,
    /// A network, by its number.
    Network(u32),
    /// A port of this host, by its number.
    Port(u32),
    /// A port of another host.
    Neighbour {
        /// The other host's number.
        host: u16,
        /// Its number there.
        port: u32,
    },
    /// A set of security rules, by its identifier in the rules' register.
    Rules(u32),
    /// A security group that rules are about, by the identifier of its conjunction.
    Group(u32),
}

impl Cookie {
    /// As the switch keeps it; never all ones.
    pub fn encode(self) -> u64 {
        let (kind, number) = match self {
            Cookie::Host => (1, 0),
            Cookie::Network(n) => (2, u64::from(n)),
            Cookie::Port(n) => (3, u64::from(n)),
            Cookie::Neighbour { host, port } => (4, u64::from(host) << 24 | u64::from(port)),
            Cookie::Rules(n) => (5, u64::from(n)),
            Cookie::Group(n) => (6, u64::from(n)),
        };
        kind << 56 | number
    }

    /// Reads a cookie back; `None` when no flow of ours has it.
    pub fn decode(cookie: u64) -> Option<Self> {
        let number = u32::try_from(cookie & 0xff_ffff_ffff_ffff).ok();
        match cookie >> 56 {
            1 => Some(Cookie::Host),
            2 => number.map(Cookie::Network),
            3 => number.map(Cookie::Port),
            4 => Some(Cookie::Neighbour {
                host: (cookie >> 24 & 0xffff) as u16,
                port: (cookie & 0xff_ffff) as u32,
            }),
            5 => number.map(Cookie::Rules),
            6 => number.map(Cookie::Group),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cookie;

    #[test]
    fn cookies_round_trip() {
        for cookie in [
            Cookie::Host,
            Cookie::Network(0xff_ffff),
            Cookie::Port(7),
            Cookie::Neighbour { host: 0xffff, port: 0xff_ffff },
            Cookie::Rules(u32::MAX),
            Cookie::Group(9),
        ] {
            assert_eq!(Cookie::decode(cookie.encode()), Some(cookie));
        }
        assert_eq!(Cookie::decode(0), None);
        assert_eq!(Cookie::decode(u64::MAX), None);
    }
}
