//! What a network knows of its own names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Answer, Query, Record, ResponseCode, kind};
use crate::responders::table::NetworkEntry;

/// The answer from the network's own ports; `None` when the question is about elsewhere.
pub(crate) fn answer(network: &NetworkEntry, query: &Query) -> Option<Answer> {
    if let Some(address) = reverse(&query.name) {
        return pointer(network, query, address);
    }
    if let Some(addresses) = network.whole_name(&query.name.join(".")) {
        return Some(found(query, addresses));
    }
    let host = match own_name(network, &query.name)? {
        Own::Host(host) => host,
        // The domain itself: it is there, and has no address.
        Own::Domain => return Some(Answer { code: ResponseCode::NoError, records: Vec::new() }),
    };
    let Some(addresses) = network.host(&host) else {
        return Some(Answer { code: ResponseCode::NameError, records: Vec::new() });
    };
    Some(found(query, addresses))
}

fn found(query: &Query, addresses: &[IpAddr]) -> Answer {
    let wanted = |ip: &IpAddr| match query.kind {
        kind::A => ip.is_ipv4(),
        kind::AAAA => ip.is_ipv6(),
        kind::ANY => true,
        _ => false,
    };
    let records = addresses.iter().copied().filter(wanted).map(Record::Address).collect();
    Answer { code: ResponseCode::NoError, records }
}

enum Own {
    Host(String),
    Domain,
}

/// The host that a name means in this network: a single label, or one below the search domain.
fn own_name(network: &NetworkEntry, name: &[String]) -> Option<Own> {
    let domain = network.domain();
    let below: Vec<&str> = domain.split('.').filter(|label| !label.is_empty()).collect();
    match name {
        [] => None,
        _ if !below.is_empty() && name == below => Some(Own::Domain),
        [host] => Some(Own::Host(host.clone())),
        // Deeper names are under the domain too, and nobody has one.
        _ if !below.is_empty() && name.ends_with(&to_strings(&below)) => {
            Some(Own::Host(name[..name.len() - below.len()].join(".")))
        }
        _ => None,
    }
}

fn to_strings(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// The name of an address. Addresses of the network's own subnets are nobody else's to name.
fn pointer(network: &NetworkEntry, query: &Query, address: IpAddr) -> Option<Answer> {
    let ours = network.spec.subnets.iter().any(|subnet| subnet.cidr.contains(&address));
    match network.name_of(address) {
        Some(name) => {
            let full = name.to_owned();
            let asked = matches!(query.kind, kind::PTR | kind::ANY);
            let records = if asked { vec![Record::Pointer(full)] } else { Vec::new() };
            Some(Answer { code: ResponseCode::NoError, records })
        }
        None if ours => Some(Answer { code: ResponseCode::NameError, records: Vec::new() }),
        None => None,
    }
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for.
fn reverse(name: &[String]) -> Option<IpAddr> {
    let [labels @ .., zone, arpa] = name else { return None };
    match (zone.as_str(), arpa.as_str(), labels.len()) {
        ("in-addr", "arpa", 4) => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip(labels.iter().rev()) {
                *octet = label.parse().ok()?;
            }
            Some(Ipv4Addr::from(octets).into())
        }
        ("ip6", "arpa", 32) => {
            let mut bits = 0;
            for label in labels.iter().rev() {
                if label.len() != 1 {
                    return None;
                }
                bits = bits << 4 | u128::from_str_radix(label, 16).ok()?;
            }
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::question;
    use super::*;
    use crate::edges::ResponderTables;
    use crate::responders::table::PortTable;
    use crate::responders::table::tests::{network, port};

    fn ask(name: &str, kind: u16) -> Option<Answer> {
        let mut six = port();
        six.port_id = "six".to_owned();
        six.port_number = 6;
        six.hostname = "Both".to_owned();
        let mut own = port();
        own.port_id = "own".to_owned();
        own.port_number = 7;
        own.hostname = "Web".to_owned();
        own.dns_domain = Some("Shop.Example.".to_owned());
        own.fixed_ips[0].ip = [10, 1, 0, 11].into();
        six.fixed_ips[0].ip = [10, 1, 0, 10].into();
        six.fixed_ips.push(host_protocol::FixedIp {
            subnet_id: "v6".to_owned(),
            ip: "fd00::10".parse().unwrap(),
        });
        let table = PortTable::new(ResponderTables {
            networks: vec![network()],
            ports: vec![port(), six, own],
            ..ResponderTables::default()
        });
        let query = Query::read(&question(name, kind)).unwrap();
        answer(&table.port(5).unwrap().network, &query)
    }

    fn records(name: &str, kind: u16) -> Vec<Record> {
        let answer = ask(name, kind).unwrap();
        assert_eq!(answer.code, ResponseCode::NoError, "{name}");
        answer.records
    }

    #[test]
    fn names_of_the_network_have_their_addresses() {
        let hello = [Record::Address([10, 1, 0, 9].into())];
        assert_eq!(records("hello", kind::A), hello);
        assert_eq!(records("HELLO.cloud.internal", kind::A), hello);
        assert_eq!(records("hello", kind::AAAA), []);
        assert_eq!(records("both", kind::ANY).len(), 2);
        assert_eq!(records("cloud.internal", kind::A), []);
    }

    #[test]
    fn a_domain_of_its_own_is_a_ports_and_no_more() {
        let web = [Record::Address([10, 1, 0, 11].into())];
        assert_eq!(records("web.shop.example", kind::A), web);
        assert_eq!(records("web", kind::A), web);
        let whole = [Record::Pointer("web.shop.example".to_owned())];
        assert_eq!(records("11.0.1.10.in-addr.arpa", kind::PTR), whole);
        // The rest of that domain may be anybody's.
        assert_eq!(ask("other.shop.example", kind::A), None);
    }

    #[test]
    fn names_that_nobody_has_do_not_exist() {
        for name in ["nobody", "nobody.cloud.internal", "a.hello.cloud.internal"] {
            assert_eq!(ask(name, kind::A).unwrap().code, ResponseCode::NameError, "{name}");
        }
    }

    #[test]
    fn addresses_have_names() {
        let name = |text: &str| [Record::Pointer(text.to_owned())];
        assert_eq!(records("9.0.1.10.in-addr.arpa", kind::PTR), name("hello.cloud.internal"));
        let six = "0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(records(six, kind::PTR), name("both.cloud.internal"));
        let free = ask("200.0.1.10.in-addr.arpa", kind::PTR).unwrap();
        assert_eq!(free.code, ResponseCode::NameError);
    }

    #[test]
    fn the_rest_of_the_world_is_asked_elsewhere() {
        assert_eq!(ask("example.org", kind::A), None);
        assert_eq!(ask("8.8.8.8.in-addr.arpa", kind::PTR), None);
        assert_eq!(ask("notcloud.internal", kind::A), None);
    }
}
