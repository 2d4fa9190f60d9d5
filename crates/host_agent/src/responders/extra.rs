//! Options that a port's owner wants DHCP to hand out, from text to octets.
//!
//! Names and the forms of values are dnsmasq's, as that is what OpenStack's users write; a number
//! in place of a name is an option's code, whose value is read as addresses where it looks like
//! some and as text otherwise.

use std::net::{Ipv4Addr, Ipv6Addr};

use host_protocol::DhcpOption;

/// How a value is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    /// IPv4 or IPv6 addresses, after the family.
    Addresses,
    Bool,
    U8,
    U16,
    U32,
    /// Names of domains (RFC 1035, section 3.1).
    Domains,
    /// As much as fits: addresses, else text.
    Guess,
}

use Form::*;

/// Codes of RFC 2132 and its successors.
const V4: &[(&str, u8, Form)] = &[
    ("netmask", 1, Addresses),
    ("time-offset", 2, U32),
    ("router", 3, Addresses),
    ("dns-server", 6, Addresses),
    ("log-server", 7, Addresses),
    ("lpr-server", 9, Addresses),
    ("hostname", 12, Text),
    ("boot-file-size", 13, U16),
    ("domain-name", 15, Text),
    ("swap-server", 16, Addresses),
    ("root-path", 17, Text),
    ("extension-path", 18, Text),
    ("ip-forward-enable", 19, Bool),
    ("non-local-source-routing", 20, Bool),
    ("policy-filter", 21, Addresses),
    ("max-datagram-reassembly", 22, U16),
    ("default-ttl", 23, U8),
    ("mtu", 26, U16),
    ("all-subnets-local", 27, Bool),
    ("broadcast", 28, Addresses),
    ("router-discovery", 31, Bool),
    ("router-solicitation", 32, Addresses),
    ("static-route", 33, Addresses),
    ("trailer-encapsulation", 34, Bool),
    ("arp-timeout", 35, U32),
    ("ethernet-encap", 36, Bool),
    ("tcp-ttl", 37, U8),
    ("tcp-keepalive", 38, U32),
    ("nis-domain", 40, Text),
    ("nis-server", 41, Addresses),
    ("ntp-server", 42, Addresses),
    ("vendor-encap", 43, Guess),
    ("netbios-ns", 44, Addresses),
    ("netbios-dd", 45, Addresses),
    ("netbios-nodetype", 46, U8),
    ("netbios-scope", 47, Text),
    ("x-windows-fs", 48, Addresses),
    ("x-windows-dm", 49, Addresses),
    ("vendor-class", 60, Text),
    ("nis+-domain", 64, Text),
    ("nis+-server", 65, Addresses),
    ("tftp-server", 66, Text),
    ("bootfile-name", 67, Text),
    ("mobile-ip-home", 68, Addresses),
    ("smtp-server", 69, Addresses),
    ("pop3-server", 70, Addresses),
    ("nntp-server", 71, Addresses),
    ("irc-server", 74, Addresses),
    ("posix-timezone", 100, Text),
    ("tzdb-timezone", 101, Text),
    ("domain-search", 119, Domains),
    ("tftp-server-address", 150, Addresses),
    ("path-prefix", 210, Text),
    ("wpad", 252, Text),
];

/// Codes of RFC 8415's registry.
const V6: &[(&str, u16, Form)] = &[
    ("sip-server-domain", 21, Domains),
    ("sip-server", 22, Addresses),
    ("dns-server", 23, Addresses),
    ("domain-search", 24, Domains),
    ("nis-server", 27, Addresses),
    ("nis+-server", 28, Addresses),
    ("nis-domain", 29, Domains),
    ("nis+-domain", 30, Domains),
    ("sntp-server", 31, Addresses),
    ("information-refresh-time", 32, U32),
    ("bootfile-url", 59, Text),
];

/// Options that say who speaks, to whom and for how long: they are the responder's.
const OWN_V4: [u8; 11] = [0, 50, 51, 52, 53, 54, 55, 58, 59, 61, 255];
const OWN_V6: [u16; 8] = [1, 2, 3, 4, 5, 6, 13, 14];

/// Code and octets of an option for DHCPv4; `None` when its name or value says nothing.
pub(crate) fn v4(option: &DhcpOption) -> Option<(u8, Vec<u8>)> {
    let wanted = bare(&option.name);
    let (code, form) = match V4.iter().find(|(name, ..)| *name == wanted) {
        Some((_, code, form)) => (*code, *form),
        None => {
            let code = wanted.parse().ok()?;
            let known = V4.iter().find(|(_, other, _)| *other == code);
            (code, known.map_or(Guess, |(.., form)| *form))
        }
    };
    let octets = encode(form, &option.value, false)?;
    (!OWN_V4.contains(&code) && octets.len() <= 255).then_some((code, octets))
}

/// Code and octets of an option for DHCPv6.
pub(crate) fn v6(option: &DhcpOption) -> Option<(u16, Vec<u8>)> {
    let wanted = bare(&option.name);
    let (code, form) = match V6.iter().find(|(name, ..)| *name == wanted) {
        Some((_, code, form)) => (*code, *form),
        None => {
            let code = wanted.parse().ok()?;
            let known = V6.iter().find(|(_, other, _)| *other == code);
            (code, known.map_or(Guess, |(.., form)| *form))
        }
    };
    let octets = encode(form, &option.value, true)?;
    (!OWN_V6.contains(&code) && octets.len() <= 1024).then_some((code, octets))
}

/// A name without the words that dnsmasq puts before names.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix("option6:").unwrap_or(name);
    name.strip_prefix("option:").unwrap_or(name)
}

fn encode(form: Form, value: &str, ipv6: bool) -> Option<Vec<u8>> {
    match form {
        Text => Some(value.as_bytes().to_vec()),
        Addresses => addresses(value, ipv6),
        Guess => addresses(value, ipv6).or_else(|| Some(value.as_bytes().to_vec())),
        Bool => match value {
            "1" | "true" => Some(vec![1]),
            "0" | "false" => Some(vec![0]),
            _ => None,
        },
        U8 => Some(vec![value.parse().ok()?]),
        U16 => Some(value.parse::<u16>().ok()?.to_be_bytes().to_vec()),
        U32 => {
            let number: i64 = value.parse().ok()?;
            let bits = u32::try_from(number).ok().or(i32::try_from(number).ok().map(|n| n as u32));
            Some(bits?.to_be_bytes().to_vec())
        }
        Domains => domains(value.split(',').map(str::trim)),
    }
}

fn addresses(value: &str, ipv6: bool) -> Option<Vec<u8>> {
    let each = value.split(',').map(str::trim).map(|text| {
        if ipv6 {
            let bare = text.trim_start_matches('[').trim_end_matches(']');
            bare.parse::<Ipv6Addr>().ok().map(|ip| ip.octets().to_vec())
        } else {
            text.parse::<Ipv4Addr>().ok().map(|ip| ip.octets().to_vec())
        }
    });
    each.collect::<Option<Vec<_>>>().map(|all| all.concat())
}

/// Names of domains as labels; `None` when one is not a name.
pub(crate) fn domains<'a>(names: impl Iterator<Item = &'a str>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for name in names {
        let start = out.len();
        for label in name.trim_matches('.').split('.') {
            if label.is_empty() || label.len() > 63 {
                return None;
            }
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        if out.len() - start > 255 {
            return None;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, value: &str) -> DhcpOption {
        DhcpOption { name: name.to_owned(), value: value.to_owned(), ipv6: false }
    }

    #[test]
    fn names_and_numbers_become_what_dnsmasq_would_send() {
        for (name, value, wanted) in [
            ("bootfile-name", "pxelinux.0", Some((67, b"pxelinux.0".to_vec()))),
            ("67", "pxelinux.0", Some((67, b"pxelinux.0".to_vec()))),
            ("option:router", "10.0.0.9", Some((3, vec![10, 0, 0, 9]))),
            ("tftp-server", "10.0.0.9", Some((66, b"10.0.0.9".to_vec()))),
            ("ntp-server", "10.0.0.9, 10.0.0.8", Some((42, vec![10, 0, 0, 9, 10, 0, 0, 8]))),
            ("mtu", "1400", Some((26, vec![5, 120]))),
            ("time-offset", "-3600", Some((2, vec![0xff, 0xff, 0xf1, 0xf0]))),
            ("domain-search", "a.b,c", Some((119, b"\x01a\x01b\0\x01c\0".to_vec()))),
            ("150", "10.0.0.9", Some((150, vec![10, 0, 0, 9]))),
            ("224", "anything", Some((224, b"anything".to_vec()))),
            ("ntp-server", "not an address", None),
            ("mtu", "70000", None),
            ("no-such-name", "x", None),
            ("server-identifier", "10.0.0.9", None),
            ("54", "10.0.0.9", None),
        ] {
            assert_eq!(v4(&option(name, value)), wanted, "{name}={value}");
        }
    }

    #[test]
    fn dhcpv6_has_names_of_its_own() {
        let dns = v6(&option("dns-server", "[fd00::9]")).unwrap();
        assert_eq!((dns.0, dns.1.len()), (23, 16));
        let url = v6(&option("bootfile-url", "http://x/")).unwrap();
        assert_eq!(url, (59, b"http://x/".to_vec()));
        assert_eq!(v6(&option("bootfile-name", "x")), None);
        assert_eq!(v6(&option("2", "x")), None);
    }
}
