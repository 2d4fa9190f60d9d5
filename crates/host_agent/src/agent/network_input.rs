//! The documents that the host's network is made from, sorted by what is to be done about them.

use std::collections::BTreeMap;

use host_protocol::{DocumentKind, HostSpec, NeighbourSpec, NetworkSpec, PortSpec};

use super::documents::Wanted;
use super::shared::{Shared, lock};
use crate::edges::ResponderTables;

/// The documents that the network is made from.
pub(super) struct Input {
    /// Position of the newest document.
    pub position: u64,
    pub host: HostSpec,
    pub networks: BTreeMap<String, NetworkSpec>,
    pub ports: BTreeMap<String, Wanted<PortSpec>>,
    pub neighbours: Vec<NeighbourSpec>,
    pub gone_ports: Vec<(String, Wanted<PortSpec>)>,
    pub gone_networks: Vec<(String, Wanted<NetworkSpec>)>,
    pub gone_neighbours: Vec<(String, Wanted<NeighbourSpec>)>,
    pub unreadable: Vec<(DocumentKind, String, Wanted<()>)>,
    /// Networks and neighbours in a later version than their first. A number of an earlier one may
    /// be in quarantine until the region hears that this host no longer goes by it; of a first
    /// version nobody waits to hear.
    pub renewed: Vec<(DocumentKind, String, Wanted<()>)>,
    pub tables: ResponderTables,
}

/// Reads the documents; `None` before the host's own has come.
pub(super) fn collect(shared: &Shared) -> Option<Input> {
    let documents = lock(&shared.documents);
    let host = documents.host.as_ref()?.1.spec.clone()?;
    let mut unreadable = Vec::new();
    let Split { wanted: networks, gone: gone_networks } =
        split(&documents.networks, DocumentKind::Network, &mut unreadable);
    let Split { wanted: ports, gone: gone_ports } =
        split(&documents.ports, DocumentKind::Port, &mut unreadable);
    let Split { wanted: neighbours, gone: gone_neighbours } =
        split(&documents.neighbours, DocumentKind::Neighbour, &mut unreadable);
    let mut renewed = Vec::new();
    renew(&networks, DocumentKind::Network, &mut renewed);
    renew(&neighbours, DocumentKind::Neighbour, &mut renewed);
    let networks: BTreeMap<String, NetworkSpec> =
        networks.into_iter().filter_map(|(id, wanted)| Some((id, wanted.spec?))).collect();
    let neighbours: Vec<NeighbourSpec> =
        neighbours.into_values().filter_map(|wanted| wanted.spec).collect();
    let tables = ResponderTables {
        host: Some(host.clone()),
        networks: networks.values().cloned().collect(),
        ports: ports.values().filter_map(|wanted| wanted.spec.clone()).collect(),
        neighbours: neighbours.clone(),
        servers: documents
            .servers
            .values()
            .filter(|wanted| wanted.is_wanted())
            .filter_map(|wanted| wanted.spec.clone())
            .collect(),
    };
    Some(Input {
        position: documents.position,
        host,
        networks,
        ports,
        neighbours,
        gone_ports,
        gone_networks,
        gone_neighbours,
        unreadable,
        renewed,
        tables,
    })
}

fn without_spec<T>(wanted: &Wanted<T>) -> Wanted<()> {
    Wanted {
        generation: wanted.generation,
        epoch: wanted.epoch,
        tombstone: wanted.tombstone,
        known: wanted.known,
        request_id: wanted.request_id.clone(),
        received: wanted.received,
        spec: None,
        unreadable: wanted.unreadable.clone(),
    }
}

/// Documents of one kind: those that should be, and those that must go.
struct Split<T> {
    wanted: BTreeMap<String, Wanted<T>>,
    gone: Vec<(String, Wanted<T>)>,
}

fn split<T: Clone>(
    map: &BTreeMap<String, Wanted<T>>,
    kind: DocumentKind,
    unreadable: &mut Vec<(DocumentKind, String, Wanted<()>)>,
) -> Split<T> {
    let mut split = Split { wanted: BTreeMap::new(), gone: Vec::new() };
    for (id, wanted) in map {
        if wanted.must_go() {
            split.gone.push((id.clone(), wanted.clone()));
        } else if wanted.spec.is_some() {
            split.wanted.insert(id.clone(), wanted.clone());
        } else {
            unreadable.push((kind, id.clone(), without_spec(wanted)));
        }
    }
    split
}

fn renew<T>(
    map: &BTreeMap<String, Wanted<T>>,
    kind: DocumentKind,
    renewed: &mut Vec<(DocumentKind, String, Wanted<()>)>,
) {
    let later = map.iter().filter(|(_, wanted)| wanted.generation > 1);
    renewed.extend(later.map(|(id, wanted)| (kind, id.clone(), without_spec(wanted))));
}
