//! Addresses and quarantined numbers: each belongs to exactly one port, and none is kept for ever.

use crate::model::{Finding, Kind};
use crate::rows::{AddressRow, ForgottenAddress, WaitRow};

/// Checks allocated addresses.
pub fn addresses(rows: &[AddressRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    for row in rows {
        let AddressRow { subnet, ip, port, .. } = row;
        let mut say = |wrong: String| {
            found.push(Finding::new(Kind::Address, "subnet", subnet, format!("{ip} {wrong}")));
        };
        match &row.port_network {
            None => say(format!("is allocated to port {port}, which is not there")),
            Some(network) if *network != row.network => say(format!(
                "is allocated to port {port} on network {}, but the port is on {network}",
                row.network
            )),
            Some(_) if !row.subnet_exists => {
                say(format!("is allocated to port {port}, but its subnet is not there"));
            }
            Some(_) => {}
        }
        if row.released {
            say(format!("is allocated to port {port} and is free at the same time"));
        }
    }
    found
}

/// Released addresses that wait for a port which has nothing to wait for.
pub fn forgotten_addresses(rows: &[ForgottenAddress]) -> Vec<Finding> {
    rows.iter()
        .map(|row| {
            let message = format!(
                "{} waits until port {} is gone from all hosts, which it is",
                row.key, row.port
            );
            Finding::new(Kind::Address, "subnet", &row.subnet, message)
        })
        .collect()
}

/// Checks what numbers wait for.
pub fn waits(rows: &[WaitRow]) -> Vec<Finding> {
    let mut found = Vec::new();
    for row in rows {
        let WaitRow { host, kind, document, scope, number, .. } = row;
        let wrong = match &row.owner {
            None => "is free already".to_owned(),
            Some(owner) if owner != document => format!("was given to {owner} already"),
            Some(_) if !row.document_exists => {
                "waits for ever: the host has no such document".to_owned()
            }
            Some(_) => continue,
        };
        let message = format!(
            "number {number} of {scope} should wait until host {host} has no {kind} {document} any \
             more, and {wrong}"
        );
        found.push(Finding::new(Kind::Number, "port", document, message));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocated() -> AddressRow {
        AddressRow {
            subnet: "s".into(),
            ip: "10.0.0.5".into(),
            port: "p1".into(),
            network: "n1".into(),
            port_network: Some("n1".into()),
            subnet_exists: true,
            released: false,
        }
    }

    #[test]
    fn an_address_of_nobody_of_another_network_or_free_as_well_is_found() {
        assert_eq!(addresses(&[allocated()]), []);
        for leaked in [
            AddressRow { port_network: None, ..allocated() },
            AddressRow { port_network: Some("n2".into()), ..allocated() },
            AddressRow { subnet_exists: false, ..allocated() },
            AddressRow { released: true, ..allocated() },
        ] {
            assert_eq!(addresses(&[leaked]).len(), 1);
        }
    }

    #[test]
    fn an_address_that_waits_for_nothing_is_found() {
        assert_eq!(forgotten_addresses(&[ForgottenAddress::default()]).len(), 1);
    }

    #[test]
    fn a_number_that_is_free_or_given_too_early_or_waits_for_ever_is_found() {
        let waiting = WaitRow {
            document: "p1".into(),
            owner: Some("p1".into()),
            released: true,
            document_exists: true,
            ..WaitRow::default()
        };
        assert_eq!(waits(std::slice::from_ref(&waiting)), []);
        for wrong in [
            WaitRow { owner: None, ..waiting.clone() },
            WaitRow { owner: Some("p2".into()), ..waiting.clone() },
            WaitRow { document_exists: false, ..waiting },
        ] {
            assert_eq!(waits(&[wrong]).len(), 1);
        }
    }
}
