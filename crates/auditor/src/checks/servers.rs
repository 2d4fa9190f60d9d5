//! Where servers are: row, claim, document and ports name one host and one epoch.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Finding, Kind};
use crate::rows::{Claim, DocumentRow, PortRow, ServerRow, ServerSlice, WorkflowRow};

/// One server, with all that is written about it.
struct Written<'a> {
    id: &'a str,
    row: Option<&'a ServerRow>,
    claim: Option<&'a Claim>,
    documents: Vec<&'a DocumentRow>,
    workflows: Vec<&'a WorkflowRow>,
    ports: Vec<&'a PortRow>,
}

impl Written<'_> {
    fn finding(&self, kind: Kind, message: impl Into<String>) -> Finding {
        Finding::new(kind, "server", self.id, message)
    }

    /// Whether a workflow is under way; what it has not finished yet is no fault.
    fn busy(&self) -> bool {
        !self.workflows.is_empty()
    }

    fn live(&self) -> Option<&ServerRow> {
        self.row.filter(|row| !row.deleted)
    }
}

/// Checks the servers of a slice.
pub fn servers(slice: &ServerSlice) -> Vec<Finding> {
    let mut found = Vec::new();
    for server in collect(slice) {
        claim(&server, &mut found);
        documents(&server, &mut found);
        ports(&server, &mut found);
        settled(&server, &mut found);
    }
    found
}

fn collect(slice: &ServerSlice) -> Vec<Written<'_>> {
    let mut ids: BTreeSet<&str> = slice.servers.keys().map(String::as_str).collect();
    ids.extend(slice.claims.iter().map(|claim| claim.server.as_str()));
    ids.extend(slice.documents.iter().map(|document| document.id.as_str()));
    ids.extend(slice.ports.iter().map(|port| port.device.as_str()));
    let mut all: BTreeMap<&str, Written<'_>> = ids
        .into_iter()
        .map(|id| {
            let written = Written {
                id,
                row: slice.servers.get(id),
                claim: None,
                documents: Vec::new(),
                workflows: Vec::new(),
                ports: Vec::new(),
            };
            (id, written)
        })
        .collect();
    for claim in &slice.claims {
        if let Some(server) = all.get_mut(claim.server.as_str()) {
            server.claim = Some(claim);
        }
    }
    for document in &slice.documents {
        if let Some(server) = all.get_mut(document.id.as_str()) {
            server.documents.push(document);
        }
    }
    for workflow in &slice.workflows {
        if let Some(server) = all.get_mut(workflow.owner.as_str()) {
            server.workflows.push(workflow);
        }
    }
    for port in &slice.ports {
        if let Some(server) = all.get_mut(port.device.as_str()) {
            server.ports.push(port);
        }
    }
    all.into_values().collect()
}

fn claim(server: &Written<'_>, found: &mut Vec<Finding>) {
    match (server.row, server.claim) {
        (None, Some(claim)) => found.push(server.finding(
            Kind::Placement,
            format!("there is no such server, but room is claimed for it on host {}", claim.host),
        )),
        (Some(row), Some(claim)) => {
            if row.deleted && !server.busy() {
                found.push(server.finding(
                    Kind::Placement,
                    format!("it is deleted, and still holds its claim on host {}", claim.host),
                ));
            } else if row.host.as_deref() != Some(claim.host.as_str()) || row.epoch != claim.epoch {
                found.push(server.finding(
                    Kind::Placement,
                    format!(
                        "its row says host {} at epoch {}, its claim host {} at epoch {}",
                        row.host.as_deref().unwrap_or("(none)"),
                        row.epoch,
                        claim.host,
                        claim.epoch
                    ),
                ));
            }
        }
        (Some(row), None) => {
            if let (Some(host), false, false) = (&row.host, row.deleted, server.busy()) {
                found.push(
                    server
                        .finding(Kind::Placement, format!("it is on host {host} without a claim")),
                );
            }
        }
        (None, None) => {}
    }
}

fn documents(server: &Written<'_>, found: &mut Vec<Finding>) {
    let hosts: BTreeSet<&str> =
        server.documents.iter().map(|document| document.host.as_str()).collect();
    if hosts.len() > 1 {
        let list: Vec<&str> = hosts.iter().copied().collect();
        found.push(server.finding(
            Kind::DoublePlacement,
            format!("hosts {} have a document of it at the same time", list.join(", ")),
        ));
    }
    let running: BTreeSet<&str> = server
        .documents
        .iter()
        .filter(|document| says_running(document))
        .map(|document| document.host.as_str())
        .collect();
    if running.len() > 1 {
        let list: Vec<&str> = running.iter().copied().collect();
        found.push(server.finding(
            Kind::DoublePlacement,
            format!("hosts {} say that its guest runs there", list.join(", ")),
        ));
    }
    for document in &server.documents {
        let wanted = match server.live() {
            None if document.tombstone || server.busy() => continue,
            None => "there is no such server (any more)".to_owned(),
            Some(row) if row.host.as_deref() != Some(document.host.as_str()) => {
                format!("the server is on host {}", row.host.as_deref().unwrap_or("(none)"))
            }
            Some(row) if row.epoch != document.epoch => {
                format!("the server is at epoch {}, the document at {}", row.epoch, document.epoch)
            }
            Some(_) if document.tombstone && !server.busy() => {
                "the server is there, and nothing is under way, but the host is told to remove it"
                    .to_owned()
            }
            Some(_) => continue,
        };
        // One that is to go, and whose removal is waited for by somebody, is on its way.
        if document.tombstone && server.busy() {
            continue;
        }
        if document.tombstone && server.live().is_none_or(|row| row.host.is_none()) {
            continue;
        }
        found.push(server.finding(
            Kind::Document,
            format!("host {} has a document of it, but {wanted}", document.host),
        ));
    }
    if let Some(row) = server.live()
        && let Some(host) = &row.host
        && !server.busy()
        && row.vm_state != "building"
        && !server.documents.iter().any(|document| document.host == *host)
    {
        found.push(
            server.finding(
                Kind::Document,
                format!("it is on host {host}, which has no document of it"),
            ),
        );
    }
}

fn says_running(document: &DocumentRow) -> bool {
    document.report.as_ref().is_some_and(|report| {
        report.state != "gone" && report.facts["power_state"].as_str() == Some("running")
    })
}

fn ports(server: &Written<'_>, found: &mut Vec<Finding>) {
    for port in server.ports.iter().filter(|port| port.is_of_server()) {
        let wrong = match (server.row, &port.host) {
            (None, _) => Some("of a server that was never there".to_owned()),
            (Some(row), _) if row.deleted && !server.busy() => {
                Some("still there although its server is deleted".to_owned())
            }
            (Some(row), Some(host)) if row.host.as_ref() != Some(host) => Some(format!(
                "bound to host {host}, but its server is on {}",
                row.host.as_deref().unwrap_or("no host")
            )),
            (Some(row), None) if row.host.is_some() && !row.deleted && !server.busy() => {
                Some("bound nowhere, but its server is placed".to_owned())
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            let message = format!("it is {wrong} (server {})", server.id);
            found.push(Finding::new(Kind::Binding, "port", &port.id, message));
        }
    }
}

/// Nobody works on the server: it is at rest, and as its host says.
fn settled(server: &Written<'_>, found: &mut Vec<Finding>) {
    let Some(row) = server.live().filter(|_| !server.busy()) else { return };
    if let Some(task) = &row.task_state {
        found.push(
            server
                .finding(Kind::Stuck, format!("{task} is under way, but no workflow works on it")),
        );
        return;
    }
    if row.vm_state == "building" {
        found.push(server.finding(Kind::Stuck, "it is being built, but no workflow works on it"));
        return;
    }
    let newest = server.documents.iter().find(|document| {
        !document.tombstone && row.host.as_deref() == Some(document.host.as_str())
    });
    let Some(document) = newest else { return };
    if let (Some(should), Some(told)) = (&row.desired, document.spec["power"].as_str())
        && should != told
    {
        found.push(server.finding(
            Kind::Document,
            format!("it should be {should}, and host {} is told {told}", document.host),
        ));
    }
    match &document.report {
        Some(report) if report.generation >= document.generation => {
            let seen = report.facts["power_state"].as_str().and_then(nova_power);
            if let (Some(seen), "done") = (seen, report.state.as_str())
                && seen != row.power_state
            {
                found.push(server.finding(
                    Kind::Report,
                    format!(
                        "its power state is {} in the row and {seen} in the host's last word",
                        row.power_state
                    ),
                ));
            }
        }
        report => found.push(server.finding(
            Kind::HostBehind,
            format!(
                "host {} is at generation {} of its document, which is at {}",
                document.host,
                report.as_ref().map_or(0, |report| report.generation),
                document.generation
            ),
        )),
    }
}

/// Nova's number of what an agent calls a power state.
fn nova_power(word: &str) -> Option<i64> {
    match word {
        "running" => Some(1),
        "paused" => Some(3),
        "shutdown" => Some(4),
        "crashed" => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::ReportRow;

    fn placed() -> ServerSlice {
        let row = ServerRow {
            id: "s1".into(),
            host: Some("h1".into()),
            epoch: 1,
            vm_state: "active".into(),
            power_state: 1,
            desired: Some("running".into()),
            ..ServerRow::default()
        };
        let document = DocumentRow {
            host: "h1".into(),
            id: "s1".into(),
            generation: 2,
            epoch: 1,
            spec: json!({"power": "running"}),
            report: Some(ReportRow {
                generation: 2,
                state: "done".into(),
                facts: json!({"power_state": "running"}),
                ..ReportRow::default()
            }),
            ..DocumentRow::default()
        };
        ServerSlice {
            servers: [("s1".to_owned(), row)].into(),
            claims: vec![Claim { server: "s1".into(), host: "h1".into(), epoch: 1 }],
            documents: vec![document],
            workflows: Vec::new(),
            ports: vec![PortRow {
                id: "p1".into(),
                device: "s1".into(),
                device_owner: "compute:nova".into(),
                host: Some("h1".into()),
                ..PortRow::default()
            }],
        }
    }

    fn kinds(slice: &ServerSlice) -> Vec<Kind> {
        servers(slice).into_iter().map(|finding| finding.kind).collect()
    }

    fn at_work(mut slice: ServerSlice) -> ServerSlice {
        slice.workflows.push(WorkflowRow { owner: "s1".into(), ..WorkflowRow::default() });
        slice
    }

    #[test]
    fn a_server_that_is_placed_is_no_finding() {
        assert_eq!(kinds(&placed()), []);
    }

    #[test]
    fn a_second_host_with_a_document_is_found() {
        let mut slice = at_work(placed());
        let mut second = slice.documents[0].clone();
        second.host = "h2".into();
        second.tombstone = true;
        second.report = None;
        slice.documents.push(second);
        assert_eq!(kinds(&slice), [Kind::DoublePlacement]);
        slice.documents[1].report = slice.documents[0].report.clone();
        assert_eq!(kinds(&slice), [Kind::DoublePlacement, Kind::DoublePlacement]);
    }

    #[test]
    fn a_claim_that_is_missing_wrong_or_left_over_is_found() {
        let mut slice = placed();
        slice.claims[0].epoch = 2;
        assert_eq!(kinds(&slice), [Kind::Placement]);
        slice.claims.clear();
        assert_eq!(kinds(&slice), [Kind::Placement]);
        // Between two steps of a workflow that is under way, it may be so.
        assert_eq!(kinds(&at_work(slice)), []);
        let mut slice = placed();
        slice.servers.clear();
        slice.documents.clear();
        slice.ports.clear();
        assert_eq!(kinds(&slice), [Kind::Placement]);
    }

    #[test]
    fn a_failed_create_that_kept_its_claim_is_found() {
        let mut slice = placed();
        slice.documents.clear();
        slice.ports.clear();
        let row = slice.servers.get_mut("s1").unwrap();
        row.host = None;
        row.vm_state = "error".into();
        assert_eq!(kinds(&slice), [Kind::Placement]);
    }

    #[test]
    fn a_deleted_server_whose_host_still_has_it_is_found() {
        let mut slice = placed();
        slice.servers.get_mut("s1").unwrap().deleted = true;
        slice.claims.clear();
        slice.ports.clear();
        assert_eq!(kinds(&slice), [Kind::Document]);
        slice.documents[0].tombstone = true;
        assert_eq!(kinds(&slice), []);
    }

    #[test]
    fn a_port_bound_elsewhere_than_its_server_is_found() {
        let mut slice = placed();
        slice.ports[0].host = Some("h2".into());
        assert_eq!(kinds(&slice), [Kind::Binding]);
        slice.ports[0].host = None;
        assert_eq!(kinds(&slice), [Kind::Binding]);
        assert_eq!(kinds(&at_work(slice)), []);
    }

    #[test]
    fn a_host_that_is_told_another_power_state_than_the_row_wants_is_found() {
        let mut slice = placed();
        slice.servers.get_mut("s1").unwrap().desired = Some("stopped".into());
        assert_eq!(kinds(&slice), [Kind::Document]);
        // A workflow writes one and then the other.
        assert_eq!(kinds(&at_work(slice)), []);
    }

    #[test]
    fn a_task_that_nobody_carries_out_is_found() {
        let mut slice = placed();
        slice.servers.get_mut("s1").unwrap().task_state = Some("powering-off".into());
        assert_eq!(kinds(&slice), [Kind::Stuck]);
        assert_eq!(kinds(&at_work(slice)), []);
    }

    #[test]
    fn a_row_that_disagrees_with_the_hosts_last_word_is_found() {
        let mut slice = placed();
        slice.servers.get_mut("s1").unwrap().power_state = 4;
        assert_eq!(kinds(&slice), [Kind::Report]);
        slice.documents[0].generation = 3;
        assert_eq!(kinds(&slice), [Kind::HostBehind]);
        slice.documents.clear();
        assert_eq!(kinds(&slice), [Kind::Document]);
    }
}
