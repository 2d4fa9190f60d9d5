//! Where ports are: row, documents and numbers agree.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{Finding, Kind};
use crate::rows::{NumberRow, PortRow, PortSlice};

/// Checks the ports of a slice.
pub fn ports(slice: &PortSlice) -> Vec<Finding> {
    let mut found = Vec::new();
    documents(slice, &mut found);
    neighbours(slice, &mut found);
    port_numbers(slice, &mut found);
    reused_addresses(slice, &mut found);
    found
}

fn bound_to<'a>(ports: &'a BTreeMap<String, PortRow>, id: &str) -> Option<&'a str> {
    ports.get(id).and_then(|port| port.host.as_deref())
}

fn documents(slice: &PortSlice, found: &mut Vec<Finding>) {
    for document in slice.documents.iter().filter(|document| !document.tombstone) {
        let here = bound_to(&slice.ports, &document.id);
        if here != Some(document.host.as_str()) {
            let place = here.unwrap_or("no host");
            found.push(Finding::new(
                Kind::Document,
                "port",
                &document.id,
                format!("host {} is told to have it, but it is bound to {place}", document.host),
            ));
        }
    }
    for port in slice.ports.values() {
        let Some(host) = &port.host else { continue };
        let document = slice
            .documents
            .iter()
            .find(|document| document.id == port.id && document.host == *host);
        match document {
            Some(document) if !document.tombstone => {
                let done = document.report.as_ref().map_or(0, |report| report.generation);
                if done < document.generation {
                    found.push(Finding::new(
                        Kind::HostBehind,
                        "port",
                        &port.id,
                        format!(
                            "host {host} is at generation {done} of its document, which is at {}",
                            document.generation
                        ),
                    ));
                }
            }
            _ => found.push(Finding::new(
                Kind::Document,
                "port",
                &port.id,
                format!("it is bound to host {host}, which is not told to have it"),
            )),
        }
    }
}

fn neighbours(slice: &PortSlice, found: &mut Vec<Finding>) {
    for document in slice.neighbours.iter().filter(|document| !document.tombstone) {
        let wrong = match bound_to(&slice.ports, &document.id) {
            None => "is bound nowhere",
            Some(host) if host == document.host => "lives there itself",
            Some(_) => continue,
        };
        found.push(Finding::new(
            Kind::Document,
            "port",
            &document.id,
            format!("host {} is told to know it as a neighbour, but it {wrong}", document.host),
        ));
    }
}

fn port_numbers(slice: &PortSlice, found: &mut Vec<Finding>) {
    for number in &slice.numbers {
        let port = slice.ports.get(&number.owner);
        let holds = port.is_some_and(|port| {
            port.host.as_deref() == Some(number.scope.as_str())
                && port.number == Some(number.number)
        });
        found.extend(number_fault(number, "port", holds));
    }
    for port in slice.ports.values() {
        let (Some(host), Some(number)) = (&port.host, port.number) else { continue };
        let held = slice.numbers.iter().any(|row| {
            row.owner == port.id && row.scope == *host && row.number == number && !row.released
        });
        if !held {
            found.push(Finding::new(
                Kind::Number,
                "port",
                &port.id,
                format!("it has number {number} on host {host}, which is not kept for it"),
            ));
        }
    }
}

/// What is wrong with a number, given whether its owner has it.
pub(super) fn number_fault(
    number: &NumberRow,
    object_kind: &'static str,
    holds: bool,
) -> Option<Finding> {
    let wrong = if !number.released && !holds {
        "is kept for it, but it has it no more"
    } else if number.released && number.waits == 0 {
        "was given back and nothing waits for it, but it is not free"
    } else {
        return None;
    };
    let message = format!("number {} of {} {wrong}", number.number, number.scope);
    Some(Finding::new(Kind::Number, object_kind, &number.owner, message))
}

/// An address may be given out again only when no host has a port with it any more.
fn reused_addresses(slice: &PortSlice, found: &mut Vec<Finding>) {
    for document in &slice.documents {
        for address in fixed_ips(&document.spec) {
            let Some(holder) = slice.holders.get(&address) else { continue };
            if *holder != document.id && document.tombstone {
                found.push(Finding::new(
                    Kind::Address,
                    "port",
                    holder,
                    format!(
                        "it was given {}, which host {} may still use for port {}",
                        address.1, document.host, document.id
                    ),
                ));
            }
        }
    }
}

/// Subnets and addresses in a port's description.
pub(crate) fn fixed_ips(spec: &Value) -> Vec<(String, String)> {
    let fixed = spec["fixed_ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    fixed
        .iter()
        .filter_map(|fixed| {
            Some((fixed["subnet_id"].as_str()?.to_owned(), fixed["ip"].as_str()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::{DocumentRow, ReportRow};

    fn bound() -> PortSlice {
        let port = PortRow {
            id: "p1".into(),
            network: "n1".into(),
            host: Some("h1".into()),
            number: Some(7),
            ..PortRow::default()
        };
        let document = DocumentRow {
            host: "h1".into(),
            id: "p1".into(),
            generation: 1,
            spec: json!({"fixed_ips": [{"subnet_id": "n", "ip": "10.0.0.5"}]}),
            report: Some(ReportRow { generation: 1, ..ReportRow::default() }),
            ..DocumentRow::default()
        };
        let number =
            NumberRow { scope: "h1".into(), number: 7, owner: "p1".into(), ..NumberRow::default() };
        PortSlice {
            ports: [("p1".to_owned(), port)].into(),
            documents: vec![document],
            neighbours: vec![DocumentRow {
                host: "h2".into(),
                id: "p1".into(),
                ..DocumentRow::default()
            }],
            numbers: vec![number],
            holders: [(("n".to_owned(), "10.0.0.5".to_owned()), "p1".to_owned())].into(),
        }
    }

    fn kinds(slice: &PortSlice) -> Vec<Kind> {
        ports(slice).into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_port_that_is_bound_is_no_finding() {
        assert_eq!(kinds(&bound()), []);
    }

    #[test]
    fn a_host_that_was_not_told_that_a_port_left_is_found() {
        let mut slice = bound();
        let port = slice.ports.get_mut("p1").unwrap();
        (port.host, port.number) = (None, None);
        slice.numbers[0].released = true;
        slice.numbers[0].waits = 1;
        assert_eq!(kinds(&slice), [Kind::Document, Kind::Document]);
        slice.documents[0].tombstone = true;
        slice.neighbours[0].tombstone = true;
        assert_eq!(kinds(&slice), []);
    }

    #[test]
    fn a_port_whose_host_was_not_told_is_found() {
        let mut slice = bound();
        slice.documents.clear();
        assert_eq!(kinds(&slice), [Kind::Document]);
    }

    #[test]
    fn a_host_that_has_not_done_it_is_found() {
        let mut slice = bound();
        slice.documents[0].generation = 2;
        assert_eq!(kinds(&slice), [Kind::HostBehind]);
    }

    #[test]
    fn a_number_that_nobody_has_or_that_nothing_keeps_is_found() {
        let mut slice = bound();
        slice.numbers[0].released = true;
        assert_eq!(kinds(&slice), [Kind::Number, Kind::Number]);
        slice.numbers.clear();
        assert_eq!(kinds(&slice), [Kind::Number]);
        let mut slice = bound();
        slice.ports.get_mut("p1").unwrap().number = Some(8);
        assert_eq!(kinds(&slice), [Kind::Number, Kind::Number]);
    }

    #[test]
    fn an_address_given_again_while_a_host_may_use_it_is_found() {
        let mut slice = bound();
        let mut old = slice.documents[0].clone();
        (old.id, old.tombstone) = ("p0".into(), true);
        slice.documents.push(old);
        assert_eq!(kinds(&slice), [Kind::Address]);
    }
}
