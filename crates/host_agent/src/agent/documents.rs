//! The documents as the agent works with them: read into their types, by kind and id.

use std::collections::BTreeMap;

use host_protocol::{
    Document, DocumentKind, HostSpec, NeighbourSpec, NetworkSpec, OperationAction, OperationSpec,
    PortSpec, ServerSpec,
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::store::StoredDocument;

/// One document, read.
#[derive(Clone, Debug)]
pub struct Wanted<T> {
    /// Its version.
    pub generation: u64,
    /// Its placement epoch.
    pub epoch: u64,
    /// Whether the object must go.
    pub tombstone: bool,
    /// Whether the region that is followed now has named it.
    pub known: bool,
    /// The request that caused this version.
    pub request_id: String,
    /// When the agent got it; for timings.
    pub received: Instant,
    /// What it says; `None` when only a tombstone without description ever came, or when this
    /// agent cannot read it (then `unreadable` says why).
    pub spec: Option<T>,
    /// Why the description cannot be read: most likely it is of a later release.
    pub unreadable: Option<String>,
}

impl<T> Wanted<T> {
    /// Whether the object should exist. What must go and is unknown to the region stays.
    pub fn is_wanted(&self) -> bool {
        !self.tombstone || !self.known
    }

    /// Whether the object must go now.
    pub fn must_go(&self) -> bool {
        self.tombstone && self.known
    }
}

/// Which part of the agent a document concerns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// Flows, devices and responders, and the host's own facts.
    Host,
    /// Flows, devices and responders.
    Network,
    /// One server.
    Server(String),
    /// One operation, on this server when the description says so.
    Operation {
        /// The operation.
        id: String,
        /// Its server.
        server_id: Option<String>,
    },
}

/// All documents of the host.
#[derive(Debug, Default)]
pub struct Documents {
    /// The newest position among them, in the lineage that is followed.
    pub position: u64,
    /// The host's own, with its id.
    pub host: Option<(String, Wanted<HostSpec>)>,
    /// Networks by id.
    pub networks: BTreeMap<String, Wanted<NetworkSpec>>,
    /// Ports by id.
    pub ports: BTreeMap<String, Wanted<PortSpec>>,
    /// Neighbours by port id.
    pub neighbours: BTreeMap<String, Wanted<NeighbourSpec>>,
    /// Servers by id.
    pub servers: BTreeMap<String, Wanted<ServerSpec>>,
    /// Operations by id.
    pub operations: BTreeMap<String, Wanted<OperationSpec>>,
}

impl Documents {
    /// Takes a document that has been stored.
    pub fn put(&mut self, stored: StoredDocument) -> Touched {
        let StoredDocument { document, known } = stored;
        if known {
            self.position = self.position.max(document.position);
        }
        match document.kind {
            DocumentKind::Host => {
                let former = self.host.take().map(|(_, wanted)| wanted);
                self.host = Some((document.id.clone(), read(document, known, former)));
                Touched::Host
            }
            DocumentKind::Network => {
                insert(&mut self.networks, document, known);
                Touched::Network
            }
            DocumentKind::Port => {
                insert(&mut self.ports, document, known);
                Touched::Network
            }
            DocumentKind::Neighbour => {
                insert(&mut self.neighbours, document, known);
                Touched::Network
            }
            DocumentKind::Server => {
                let id = document.id.clone();
                insert(&mut self.servers, document, known);
                Touched::Server(id)
            }
            DocumentKind::Operation => {
                let id = document.id.clone();
                insert(&mut self.operations, document, known);
                let server_id = self.operations.get(&id).and_then(operation_server);
                Touched::Operation { id, server_id }
            }
        }
    }

    /// Forgets a document that ended, unless something newer has taken its place.
    pub fn bury(&mut self, kind: DocumentKind, id: &str) {
        fn take<T>(map: &mut BTreeMap<String, Wanted<T>>, id: &str) {
            if map.get(id).is_some_and(|wanted| wanted.tombstone) {
                map.remove(id);
            }
        }
        match kind {
            DocumentKind::Host => {
                if self.host.as_ref().is_some_and(|(_, wanted)| wanted.tombstone) {
                    self.host = None;
                }
            }
            DocumentKind::Network => take(&mut self.networks, id),
            DocumentKind::Port => take(&mut self.ports, id),
            DocumentKind::Neighbour => take(&mut self.neighbours, id),
            DocumentKind::Server => take(&mut self.servers, id),
            DocumentKind::Operation => take(&mut self.operations, id),
        }
    }

    /// After a change of lineage nothing is known until it is named again.
    pub fn forget_lineage(&mut self) {
        fn all<T>(map: &mut BTreeMap<String, Wanted<T>>) {
            map.values_mut().for_each(|wanted| wanted.known = false);
        }
        if let Some((_, wanted)) = &mut self.host {
            wanted.known = false;
        }
        self.position = 0;
        all(&mut self.networks);
        all(&mut self.ports);
        all(&mut self.neighbours);
        all(&mut self.servers);
        all(&mut self.operations);
    }

    /// The region has named this document again, in the version that is here.
    pub fn known_again(&mut self, kind: DocumentKind, id: &str) -> Option<Touched> {
        fn one<T>(map: &mut BTreeMap<String, Wanted<T>>, id: &str) -> Option<()> {
            let wanted = map.get_mut(id)?;
            (!std::mem::replace(&mut wanted.known, true)).then_some(())
        }
        match kind {
            DocumentKind::Host => {
                let (_, wanted) = self.host.as_mut()?;
                (!std::mem::replace(&mut wanted.known, true)).then_some(Touched::Host)
            }
            DocumentKind::Network => one(&mut self.networks, id).map(|()| Touched::Network),
            DocumentKind::Port => one(&mut self.ports, id).map(|()| Touched::Network),
            DocumentKind::Neighbour => one(&mut self.neighbours, id).map(|()| Touched::Network),
            DocumentKind::Server => {
                one(&mut self.servers, id).map(|()| Touched::Server(id.to_owned()))
            }
            DocumentKind::Operation => one(&mut self.operations, id).map(|()| {
                let server_id = self.operations.get(id).and_then(operation_server);
                Touched::Operation { id: id.to_owned(), server_id }
            }),
        }
    }

    /// Operations on a server, by id.
    pub fn operations_on(&self, server_id: &str) -> Vec<(String, Wanted<OperationSpec>)> {
        self.operations
            .iter()
            .filter(|(_, wanted)| operation_server(wanted).as_deref() == Some(server_id))
            .map(|(id, wanted)| (id.clone(), wanted.clone()))
            .collect()
    }
}

/// The server that an operation is about.
pub fn operation_server(wanted: &Wanted<OperationSpec>) -> Option<String> {
    match &wanted.spec.as_ref()?.action {
        OperationAction::Reboot { server_id, .. } => Some(server_id.clone()),
    }
}

fn insert<T: DeserializeOwned>(
    map: &mut BTreeMap<String, Wanted<T>>,
    document: Document,
    known: bool,
) {
    let former = map.remove(&document.id);
    map.insert(document.id.clone(), read(document, known, former));
}

/// Reads a document. A tombstone without description keeps the one that was known: it says what
/// to take down.
fn read<T: DeserializeOwned>(
    document: Document,
    known: bool,
    former: Option<Wanted<T>>,
) -> Wanted<T> {
    let former = former.and_then(|wanted| wanted.spec);
    let (spec, unreadable) = match document.read::<T>() {
        Ok(spec) => (Some(spec), None),
        Err(_) if document.tombstone => (former, None),
        Err(error) => (None, Some(error.to_string())),
    };
    Wanted {
        generation: document.generation,
        epoch: document.epoch,
        tombstone: document.tombstone,
        known,
        request_id: document.request_id,
        received: Instant::now(),
        spec,
        unreadable,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn neighbour(generation: u64, tombstone: bool, spec: serde_json::Value) -> StoredDocument {
        StoredDocument {
            document: Document {
                kind: DocumentKind::Neighbour,
                id: "n".to_owned(),
                generation,
                epoch: 0,
                position: generation,
                tombstone,
                request_id: String::new(),
                spec,
            },
            known: true,
        }
    }

    fn spec() -> serde_json::Value {
        json!({
            "port_id": "n", "network_id": "net", "host_number": 2, "port_number": 3,
            "mac": "fa:16:3e:00:00:01", "ips": [], "security_groups": [], "hostname": "h",
        })
    }

    #[test]
    fn a_bare_tombstone_keeps_the_description_that_says_what_to_take_down() {
        let mut documents = Documents::default();
        documents.put(neighbour(1, false, spec()));
        documents.put(neighbour(2, true, json!(null)));
        let wanted = &documents.neighbours["n"];
        assert!(wanted.must_go());
        assert_eq!(wanted.spec.as_ref().unwrap().port_number, 3);
    }

    #[test]
    fn what_a_later_release_wrote_is_not_guessed_at() {
        let mut documents = Documents::default();
        documents.put(neighbour(1, false, json!({ "shape": "new" })));
        let wanted = &documents.neighbours["n"];
        assert!(wanted.spec.is_none());
        assert!(wanted.unreadable.as_ref().unwrap().contains("port_id"));
    }

    #[test]
    fn burying_spares_what_came_back() {
        let mut documents = Documents::default();
        documents.put(neighbour(2, true, spec()));
        documents.put(neighbour(3, false, spec()));
        documents.bury(DocumentKind::Neighbour, "n");
        assert_eq!(documents.neighbours.len(), 1);
    }

    #[test]
    fn a_tombstone_of_a_former_lineage_is_not_carried_out() {
        let mut documents = Documents::default();
        documents.put(neighbour(2, true, spec()));
        documents.forget_lineage();
        assert!(documents.neighbours["n"].is_wanted());
        let touched = documents.known_again(DocumentKind::Neighbour, "n");
        assert_eq!(touched, Some(Touched::Network));
        assert!(documents.neighbours["n"].must_go());
        assert_eq!(documents.known_again(DocumentKind::Neighbour, "n"), None);
    }
}
