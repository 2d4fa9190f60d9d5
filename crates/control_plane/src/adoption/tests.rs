//! What is found between rows and hosts.

use std::collections::BTreeMap;

use host_protocol::{Document, DocumentKind, Held};
use serde_json::json;

use super::model::{Difference, Remedy, RowServer, Rows, plan};

fn document(kind: DocumentKind, id: &str, generation: u64) -> Document {
    let spec = match kind {
        DocumentKind::Server => json!({
            "server_id": id, "project_id": "p", "name": format!("name of {id}"), "power": "running",
            "vcpus": 1, "memory_mib": 64, "disks": [], "config_drive": false,
            "nics": [{"port_id": format!("port of {id}"), "mac": "fa:16:3e:00:00:01", "mtu": 1500}],
            "metadata": {
                "hostname": id, "availability_zone": "z", "public_keys": [], "meta": {},
                "user_data": null, "flavor": "tiny", "launch_index": 0,
            },
        }),
        _ => json!({}),
    };
    Document {
        kind,
        id: id.to_owned(),
        generation,
        epoch: 1,
        position: 0,
        tombstone: false,
        request_id: String::new(),
        spec,
    }
}

fn held(kind: DocumentKind, id: &str, generation: u64) -> Held {
    Held { document: document(kind, id, generation), state: None, facts: json!(null) }
}

/// Rows with two hosts, of which the first has `server`.
fn rows(server: &[(&str, Option<&str>, u64)]) -> Rows {
    let mut rows = Rows::default();
    for host in ["a", "b"] {
        rows.hosts.insert(host.to_owned(), format!("host-{host}"));
        rows.documents.insert(host.to_owned(), Vec::new());
    }
    for (id, host, generation) in server {
        let row = RowServer {
            name: (*id).to_owned(),
            host: host.map(str::to_owned),
            under_way: host.is_none(),
        };
        rows.servers.insert((*id).to_owned(), row);
        if let Some(host) = host {
            let documents = rows.documents.get_mut(*host).unwrap();
            documents.push(document(DocumentKind::Server, id, *generation));
        }
    }
    rows
}

fn said(hosts: &[(&str, &[Held])]) -> BTreeMap<String, Vec<Held>> {
    hosts.iter().map(|(host, held)| ((*host).to_owned(), held.to_vec())).collect()
}

fn names(differences: &[Difference]) -> Vec<&str> {
    differences.iter().map(|difference| difference.name.as_str()).collect()
}

#[test]
fn what_rows_and_hosts_agree_on_is_no_difference() {
    let rows = rows(&[("s", Some("a"), 3)]);
    let hosts = said(&[("a", &[held(DocumentKind::Server, "s", 3)]), ("b", &[])]);
    assert_eq!(plan(&rows, &hosts), []);
}

#[test]
fn a_server_that_only_a_host_has_is_taken_in_with_its_ports() {
    let port = held(DocumentKind::Port, "port of s", 2);
    let hosts = said(&[("a", &[held(DocumentKind::Server, "s", 3), port.clone()])]);
    let found = plan(&rows(&[]), &hosts);
    assert_eq!(names(&found), ["server/s"]);
    let Remedy::TakeServer { ports, .. } = &found[0].remedy else { panic!("{found:?}") };
    assert_eq!(ports, &[port.document]);
    assert!(found[0].what.contains("host-a has it"), "{}", found[0].what);
}

#[test]
fn a_server_that_its_host_does_not_have_is_missing_once_the_host_was_heard() {
    let rows = rows(&[("s", Some("a"), 3)]);
    assert_eq!(plan(&rows, &said(&[("b", &[])])), [], "nothing is known of a silent host");
    let found = plan(&rows, &said(&[("a", &[])]));
    assert_eq!((names(&found), &found[0].remedy), (vec!["server/s"], &Remedy::Missing));
}

#[test]
fn a_server_that_was_being_built_is_missing_only_when_every_host_was_heard() {
    let rows = rows(&[("s", None, 0)]);
    assert_eq!(plan(&rows, &said(&[("a", &[])])), []);
    assert_eq!(names(&plan(&rows, &said(&[("a", &[]), ("b", &[])]))), ["server/s"]);
    let built = said(&[("a", &[]), ("b", &[held(DocumentKind::Server, "s", 1)])]);
    assert!(matches!(plan(&rows, &built)[0].remedy, Remedy::TakeServer { .. }));
}

#[test]
fn a_newer_version_on_a_host_wins_for_servers_and_is_overwritten_for_the_rest() {
    let mut rows = rows(&[("s", Some("a"), 3)]);
    rows.documents.get_mut("a").unwrap().push(document(DocumentKind::Port, "p", 1));
    let hosts =
        said(&[("a", &[held(DocumentKind::Server, "s", 5), held(DocumentKind::Port, "p", 4)])]);
    let found = plan(&rows, &hosts);
    assert_eq!(names(&found), ["server/s", "port/p@host-a"]);
    assert!(matches!(found[0].remedy, Remedy::TakeServer { .. }));
    assert!(matches!(found[1].remedy, Remedy::SayAgain { .. }));
}

#[test]
fn a_removal_that_a_host_has_not_done_yet_is_no_server_there() {
    let rows = rows(&[("s", Some("a"), 3)]);
    let mut going = held(DocumentKind::Server, "s", 4);
    going.document.tombstone = true;
    let found = plan(&rows, &said(&[("a", &[going])]));
    assert_eq!((names(&found), &found[0].remedy), (vec!["server/s"], &Remedy::Missing));
}

#[test]
fn a_server_that_was_put_in_error_is_settled() {
    let mut rows = rows(&[("s", Some("a"), 3)]);
    rows.documents.get_mut("a").unwrap().clear();
    assert_eq!(plan(&rows, &said(&[("a", &[]), ("b", &[])])), []);
}
