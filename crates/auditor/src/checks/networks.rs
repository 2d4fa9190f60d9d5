//! What hosts know of networks: each host that has a port of a network knows the network and every
//! port of it on the other hosts, and no other host does.

use std::collections::{BTreeMap, BTreeSet};

use super::ports::number_fault;
use crate::model::{Finding, Kind};
use crate::rows::{NetworkSlice, PortRow};

/// Checks the networks of a slice.
pub fn networks(slice: &NetworkSlice) -> Vec<Finding> {
    let mut found = Vec::new();
    // Hosts by network, with their L2 domains.
    let mut hosts: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for port in &slice.ports {
        if let (Some(host), Some(domain)) = (&port.host, &port.domain) {
            hosts.entry(&port.network).or_default().insert(host, domain);
        }
        if !slice.networks.contains(&port.network) {
            let message = format!("its network {} is not there", port.network);
            found.push(Finding::new(Kind::Orphan, "port", &port.id, message));
        }
    }
    let none = BTreeMap::new();
    for document in slice.documents.iter().filter(|document| !document.tombstone) {
        let there = hosts.get(document.id.as_str()).unwrap_or(&none);
        if !there.contains_key(document.host.as_str()) {
            let message = format!(
                "host {} is told to have it, but none of its ports is there",
                document.host
            );
            found.push(Finding::new(Kind::Document, "network", &document.id, message));
        }
    }
    for (network, there) in &hosts {
        for host in there.keys() {
            let told = slice.documents.iter().any(|document| {
                document.id == *network && document.host == *host && !document.tombstone
            });
            if !told {
                let message = format!("host {host} has ports of it and is not told of it");
                found.push(Finding::new(Kind::Document, "network", *network, message));
            }
        }
    }
    for port in &slice.ports {
        neighbours(slice, port, hosts.get(port.network.as_str()).unwrap_or(&none), &mut found);
    }
    for number in &slice.numbers {
        found.extend(number_fault(number, "network", slice.networks.contains(&number.owner)));
    }
    found
}

fn neighbours(
    slice: &NetworkSlice,
    port: &PortRow,
    hosts: &BTreeMap<&str, &str>,
    found: &mut Vec<Finding>,
) {
    let (Some(host), Some(domain)) = (&port.host, &port.domain) else { return };
    let should: BTreeSet<&str> = hosts
        .iter()
        .filter(|(other, theirs)| *other != host && *theirs == domain)
        .map(|(other, _)| *other)
        .collect();
    let none = BTreeSet::new();
    let does: BTreeSet<&str> =
        slice.neighbours.get(&port.id).unwrap_or(&none).iter().map(String::as_str).collect();
    for missing in should.difference(&does) {
        let message = format!("host {missing} has ports of its network and does not know of it");
        found.push(Finding::new(Kind::Document, "port", &port.id, message));
    }
    for extra in does.difference(&should).filter(|extra| *extra != host) {
        let message = format!("host {extra} knows of it and has no port of its network");
        found.push(Finding::new(Kind::Document, "port", &port.id, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::DocumentRow;

    fn port(id: &str, host: &str) -> PortRow {
        PortRow {
            id: id.into(),
            network: "n1".into(),
            host: Some(host.into()),
            domain: Some("l2".into()),
            ..PortRow::default()
        }
    }

    fn on_two_hosts() -> NetworkSlice {
        let document = |host: &str| DocumentRow {
            host: host.into(),
            id: "n1".into(),
            ..DocumentRow::default()
        };
        NetworkSlice {
            networks: ["n1".to_owned()].into(),
            ports: vec![port("p1", "h1"), port("p2", "h2")],
            documents: vec![document("h1"), document("h2")],
            neighbours: [
                ("p1".to_owned(), ["h2".to_owned()].into()),
                ("p2".to_owned(), ["h1".to_owned()].into()),
            ]
            .into(),
            numbers: Vec::new(),
        }
    }

    #[test]
    fn two_hosts_that_know_of_each_others_ports_are_no_finding() {
        assert_eq!(networks(&on_two_hosts()), []);
    }

    #[test]
    fn a_host_that_knows_too_little_or_too_much_is_found() {
        let mut slice = on_two_hosts();
        slice.neighbours.get_mut("p1").unwrap().clear();
        assert_eq!(networks(&slice).len(), 1);
        let mut slice = on_two_hosts();
        slice.neighbours.get_mut("p1").unwrap().insert("h3".into());
        assert_eq!(networks(&slice).len(), 1);
        let mut slice = on_two_hosts();
        slice.documents.pop();
        assert_eq!(networks(&slice).len(), 1);
        let mut slice = on_two_hosts();
        slice.documents[1].host = "h3".into();
        assert_eq!(networks(&slice).len(), 2);
    }

    #[test]
    fn a_port_without_its_network_is_found() {
        let mut slice = on_two_hosts();
        slice.networks.clear();
        assert!(networks(&slice).iter().all(|finding| finding.kind == Kind::Orphan));
        assert_eq!(networks(&slice).len(), 2);
    }
}
