//! Pure arithmetic on ranges of addresses: which a subnet may give, in which order, and how an
//! address is written as a key that sorts like the number it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cloud_types::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A run of addresses that are given out automatically, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// First address.
    pub start: IpAddr,
    /// Last address.
    pub end: IpAddr,
}

impl Pool {
    /// Whether an address lies in the run.
    pub fn contains(&self, ip: IpAddr) -> bool {
        number(self.start) <= number(ip) && number(ip) <= number(self.end)
    }

    /// Whether two runs share an address.
    pub fn overlaps(&self, other: &Pool) -> bool {
        number(self.start) <= number(other.end) && number(other.start) <= number(self.end)
    }
}

/// An address as a number, within its family.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address of a number in the family of `like`; `None` beyond the family's end.
pub fn address(number: u128, like: IpAddr) -> Option<IpAddr> {
    match like {
        IpAddr::V4(_) => u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(number))),
    }
}

/// The address after this one.
pub fn successor(ip: IpAddr) -> Option<IpAddr> {
    address(number(ip).checked_add(1)?, ip)
}

/// An address as fixed-width hexadecimal digits: within a subnet, keys sort as the addresses do,
/// on every database and under every collation.
pub fn key(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    }
}

/// Reads a [`key`] back.
pub fn from_key(key: &str) -> Option<IpAddr> {
    match key.len() {
        8 => u32::from_str_radix(key, 16).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        32 => u128::from_str_radix(key, 16).ok().map(|n| IpAddr::V6(Ipv6Addr::from(n))),
        _ => None,
    }
}

/// The first and last address that a guest may have. The network address (in IPv6 the subnet
/// router's anycast address) and IPv4's broadcast address are not for guests, except in ranges of
/// one or two addresses, which have neither.
pub fn usable(cidr: &IpNet) -> (IpAddr, IpAddr) {
    let (first, last) = (cidr.network(), cidr.broadcast());
    let spare = cidr.max_prefix_len() - cidr.prefix_len();
    if spare <= 1 {
        return (first, last);
    }
    let first = address(number(first) + 1, first).unwrap_or(first);
    let last = match last {
        IpAddr::V4(_) => address(number(last) - 1, last).unwrap_or(last),
        IpAddr::V6(_) => last,
    };
    (first, last)
}

/// Whether a guest may have this address in that range.
pub fn is_usable(cidr: &IpNet, ip: IpAddr) -> bool {
    let (first, last) = usable(cidr);
    cidr.contains(&ip) && (number(first)..=number(last)).contains(&number(ip))
}

/// What Neutron gives when nothing is asked: everything usable except the gateway.
pub fn default_pools(cidr: &IpNet, gateway: Option<IpAddr>) -> Vec<Pool> {
    let (first, last) = usable(cidr);
    let Some(gateway) = gateway.filter(|ip| is_usable(cidr, *ip)) else {
        return vec![Pool { start: first, end: last }];
    };
    let mut pools = Vec::with_capacity(2);
    if number(gateway) > number(first)
        && let Some(end) = address(number(gateway) - 1, gateway)
    {
        pools.push(Pool { start: first, end });
    }
    if number(gateway) < number(last)
        && let Some(start) = successor(gateway)
    {
        pools.push(Pool { start, end: last });
    }
    pools
}

/// The gateway when none is asked: the first address after the network's own.
pub fn default_gateway(cidr: &IpNet) -> Option<IpAddr> {
    usable(cidr).0.into()
}

/// The first address at or after `from` that the pools hold. Pools are sorted and disjoint.
pub fn first_in_pools(pools: &[Pool], from: IpAddr) -> Option<IpAddr> {
    pools.iter().find_map(|pool| {
        if number(from) <= number(pool.start) {
            Some(pool.start)
        } else if number(from) <= number(pool.end) {
            Some(from)
        } else {
            None
        }
    })
}

/// The first address at or after `from` in the pools that is not in `taken`, which holds in order
/// every taken address from `from` on, up to a limit. `Err` names where to look on when the limit
/// may have hidden more.
pub fn first_gap(
    pools: &[Pool],
    from: IpAddr,
    taken: &[IpAddr],
    limited: bool,
) -> Result<Option<IpAddr>, IpAddr> {
    let mut candidate = first_in_pools(pools, from);
    for ip in taken {
        match candidate {
            Some(free) if number(free) < number(*ip) => return Ok(Some(free)),
            Some(free) if free == *ip => {
                candidate = successor(free).and_then(|next| first_in_pools(pools, next));
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
    match (candidate, limited) {
        (Some(next), true) => Err(next),
        (free, _) => Ok(free),
    }
}

/// The address that a guest gives itself from a router advertisement (modified EUI-64, RFC 4291
/// appendix A); `None` unless the range is a /64.
pub fn slaac_address(cidr: &IpNet, mac: MacAddress) -> Option<IpAddr> {
    let IpNet::V6(net) = cidr else { return None };
    if net.prefix_len() != 64 {
        return None;
    }
    let [a, b, c, d, e, f] = mac.0;
    let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Some(IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | u128::from(interface))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_gateway_splits_the_pool() {
        let cidr: IpNet = "10.0.0.0/29".parse().unwrap();
        let range = |a: &str, b: &str| Pool { start: ip(a), end: ip(b) };
        assert_eq!(default_pools(&cidr, None), [range("10.0.0.1", "10.0.0.6")]);
        assert_eq!(default_pools(&cidr, Some(ip("10.0.0.1"))), [range("10.0.0.2", "10.0.0.6")]);
        assert_eq!(
            default_pools(&cidr, Some(ip("10.0.0.3"))),
            [range("10.0.0.1", "10.0.0.2"), range("10.0.0.4", "10.0.0.6")]
        );
        assert_eq!(default_pools(&cidr, Some(ip("10.9.0.1"))).len(), 1);
    }

    #[test]
    fn network_and_broadcast_addresses_are_not_for_guests() {
        let cidr: IpNet = "192.0.2.0/24".parse().unwrap();
        assert!(!is_usable(&cidr, ip("192.0.2.0")) && !is_usable(&cidr, ip("192.0.2.255")));
        assert!(is_usable(&cidr, ip("192.0.2.1")) && is_usable(&cidr, ip("192.0.2.254")));
        let pair: IpNet = "192.0.2.4/31".parse().unwrap();
        assert!(is_usable(&pair, ip("192.0.2.4")) && is_usable(&pair, ip("192.0.2.5")));
        let six: IpNet = "fd00::/64".parse().unwrap();
        assert!(!is_usable(&six, ip("fd00::")) && is_usable(&six, ip("fd00::ffff:ffff:ffff:ffff")));
    }

    #[test]
    fn slaac_follows_rfc_4291() {
        let cidr: IpNet = "2001:db8::/64".parse().unwrap();
        let mac: MacAddress = "fa:16:3e:01:02:03".parse().unwrap();
        assert_eq!(slaac_address(&cidr, mac), Some(ip("2001:db8::f816:3eff:fe01:203")));
        assert_eq!(slaac_address(&"2001:db8::/72".parse().unwrap(), mac), None);
    }

    proptest! {
        #[test]
        fn keys_sort_as_addresses_and_read_back(a: u32, b: u32, c: u128, d: u128) {
            let (a, b) = (IpAddr::V4(a.into()), IpAddr::V4(b.into()));
            let (c, d) = (IpAddr::V6(c.into()), IpAddr::V6(d.into()));
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(key(c).cmp(&key(d)), c.cmp(&d));
            prop_assert_eq!(from_key(&key(a)), Some(a));
            prop_assert_eq!(from_key(&key(c)), Some(c));
        }

        /// Against the plain definition: the first address of a pool, at or after `from`, that is
        /// not taken.
        #[test]
        fn first_gap_is_the_first_gap(
            from in 0u8..64,
            mut taken in proptest::collection::btree_set(0u8..64, 0..64),
            cut in 1u8..62,
            limit in 1usize..70,
        ) {
            let at = |n: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
            let pools = [
                Pool { start: at(0), end: at(cut - 1) },
                Pool { start: at(cut + 1), end: at(63) },
            ];
            taken.retain(|n| *n >= from);
            let wanted = (from..64).find(|n| *n != cut && !taken.contains(n)).map(at);
            let all: Vec<IpAddr> = taken.iter().copied().map(at).collect();
            let mut start = at(from);
            let found = loop {
                let page: Vec<IpAddr> =
                    all.iter().copied().filter(|ip| *ip >= start).take(limit).collect();
                match first_gap(&pools, start, &page, page.len() == limit) {
                    Ok(found) => break found,
                    Err(next) => start = next,
                }
            };
            prop_assert_eq!(found, wanted);
        }
    }
}
