//! The comparison, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use host_protocol::{Document, DocumentKind, Held, ServerSpec};

/// What adopting a difference does.
#[derive(Clone, Debug, PartialEq)]
pub enum Remedy {
    /// The server as the host has it is taken in, with its ports.
    TakeServer {
        /// The server's document on the host, and what it saw last.
        held: Box<Held>,
        /// Documents of its ports there.
        ports: Vec<Document>,
    },
    /// No host has the server: it is put in error for its owner to delete.
    Missing,
    /// What rows say is sent again, above the host's version.
    SayAgain {
        /// The host's version.
        held: Box<Document>,
    },
}

/// Something that rows and hosts do not agree on.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `server/ID`, `port/ID@HOST`, …: by which an operator confirms it.
    pub name: String,
    /// The host.
    pub host: Option<String>,
    /// In words.
    pub what: String,
    /// What adopting it does.
    pub remedy: Remedy,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match &self.remedy {
            Remedy::TakeServer { ports, .. } => {
                format!("takes in what the host has, with {} port(s)", ports.len())
            }
            Remedy::Missing => "puts it in error, for its owner to delete".to_owned(),
            Remedy::SayAgain { .. } => "says again what the rows say".to_owned(),
        };
        write!(f, "{}\n    {}\n    adopting it {does}", self.name, self.what)
    }
}

/// A server that rows speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowServer {
    /// Its name.
    pub name: String,
    /// Its host, if it was placed.
    pub host: Option<String>,
    /// Whether a workflow was under way for it.
    pub under_way: bool,
}

/// What rows say.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Servers that are not deleted, by id.
    pub servers: BTreeMap<String, RowServer>,
    /// Documents by host.
    pub documents: BTreeMap<String, Vec<Document>>,
    /// All hosts by id, with their names.
    pub hosts: BTreeMap<String, String>,
}

/// Compares rows with what hosts have. Only hosts that were heard say anything: of a server on
/// another, nothing is known.
pub fn plan(rows: &Rows, hosts: &BTreeMap<String, Vec<Held>>) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut held_servers: BTreeSet<&str> = BTreeSet::new();
    let host_name = |id: &str| rows.hosts.get(id).cloned().unwrap_or_else(|| id.to_owned());
    for (host, held) in hosts {
        let written: BTreeMap<(DocumentKind, &str), &Document> = rows
            .documents
            .get(host)
            .into_iter()
            .flatten()
            .map(|document| ((document.kind, document.id.as_str()), document))
            .collect();
        for one in held.iter().filter(|one| !one.document.tombstone) {
            let document = &one.document;
            let ours = written.get(&(document.kind, document.id.as_str())).copied();
            if document.kind != DocumentKind::Server {
                if ours.is_some_and(|ours| ours.generation < document.generation) {
                    differences.push(say_again(&host_name(host), host, document));
                }
                continue;
            }
            held_servers.insert(&document.id);
            let row = rows.servers.get(&document.id);
            let same = ours.is_some_and(|ours| {
                !ours.tombstone
                    && (ours.generation, ours.epoch) == (document.generation, document.epoch)
            });
            let settled =
                row.is_some_and(|row| row.host.as_deref() == Some(host.as_str()) && !row.under_way);
            if !(same && settled) {
                differences.push(take(&host_name(host), host, one, row, held));
            }
        }
    }
    for (id, row) in &rows.servers {
        if held_servers.contains(id.as_str()) {
            continue;
        }
        let written = row.host.as_ref().and_then(|host| rows.documents.get(host));
        let wanted = written.into_iter().flatten().any(|document| {
            document.kind == DocumentKind::Server && document.id == *id && !document.tombstone
        });
        // One that nobody asks a host for is in error already.
        if !wanted && !row.under_way {
            continue;
        }
        let heard = match &row.host {
            Some(host) => hosts.contains_key(host),
            // Not placed when the backup was made: any host may have it by now.
            None => rows.hosts.keys().all(|host| hosts.contains_key(host)),
        };
        if heard {
            let place = row.host.as_deref().map(host_name);
            let what = match &place {
                Some(place) => {
                    format!("{}: rows place it on {place}, which does not have it", row.name)
                }
                None => format!("{}: rows have it being built, and no host has it", row.name),
            };
            differences.push(Difference {
                name: format!("server/{id}"),
                host: row.host.clone(),
                what,
                remedy: Remedy::Missing,
            });
        }
    }
    differences
}

fn take(place: &str, host: &str, one: &Held, row: Option<&RowServer>, held: &[Held]) -> Difference {
    let document = &one.document;
    let spec: Option<ServerSpec> = document.read().ok();
    let name = spec.as_ref().map_or_else(|| document.id.clone(), |spec| spec.name.clone());
    let wanted: Vec<&str> =
        spec.iter().flat_map(|spec| spec.nics.iter().map(|nic| nic.port_id.as_str())).collect();
    let ports = wanted
        .iter()
        .filter_map(|id| {
            held.iter()
                .map(|held| &held.document)
                .find(|port| port.kind == DocumentKind::Port && port.id == *id && !port.tombstone)
        })
        .cloned()
        .collect();
    let what = match row {
        None => format!("{name}: {place} has it, and rows know nothing of it"),
        Some(row) if row.host.as_deref() != Some(host) => {
            format!("{name}: {place} has it, and rows place it elsewhere or nowhere")
        }
        Some(row) if row.under_way => {
            format!("{name}: on {place}; rows were in the middle of changing it")
        }
        Some(_) => format!("{name}: {place} has a newer version of it than the rows"),
    };
    Difference {
        name: format!("server/{}", document.id),
        host: Some(host.to_owned()),
        what,
        remedy: Remedy::TakeServer { held: Box::new(one.clone()), ports },
    }
}

fn say_again(place: &str, host: &str, document: &Document) -> Difference {
    Difference {
        name: format!("{}/{}@{place}", document.kind, document.id),
        host: Some(host.to_owned()),
        what: format!("{place} has a newer version of this {} than the rows", document.kind),
        remedy: Remedy::SayAgain { held: Box::new(document.clone()) },
    }
}
