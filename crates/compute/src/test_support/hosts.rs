//! Simulated hosts: they read their documents and report, as agents do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cloud_types::{Fault, HostId};
use database::{BoxFuture, Tx};
use host_documents::reports::{ReportSink, apply, get as report_of};
use host_documents::{documents, hosts};
use host_protocol::{
    DesiredPower, Document, DocumentKind, HostAnswer, HostFacts, HostQuery, OperationSpec,
    PortFacts, PowerState, Report, ReportError, ReportState, ServerFacts, ServerSpec,
};
use network::Network;
use serde_json::{Value, json};

use super::Cloud;
use crate::Compute;
use crate::host::HostQueries;

/// How a host behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It does what its documents say.
    Works,
    /// It cannot start guests, and says so with this code; whether it goes on trying.
    Fails(&'static str, bool),
    /// It is not heard of.
    Silent,
}

#[derive(Debug)]
pub(super) struct SimulatedHost {
    pub(super) id: HostId,
    pub(super) name: String,
    behaviour: Behaviour,
    /// What the guests did by themselves.
    power: HashMap<String, PowerState>,
    /// Operations that were carried out, in order.
    operations: Vec<String>,
    /// The generation for which each server was given up.
    given_up: HashMap<String, u64>,
}

/// The hosts, shared with the one who asks them for consoles.
#[derive(Clone, Default)]
pub(super) struct Hosts(pub(super) Arc<Mutex<Vec<SimulatedHost>>>);

impl HostQueries for Hosts {
    fn ask(&self, host: &HostId, query: HostQuery) -> BoxFuture<'_, Result<HostAnswer, Fault>> {
        let known = self.0.lock().unwrap().iter().any(|known| known.id == *host);
        Box::pin(async move {
            match query {
                _ if !known => Err(Fault::unavailable("The host is not connected.")),
                HostQuery::ConsoleLog { server_id, lines } => Ok(HostAnswer::ConsoleLog {
                    output: format!("{server_id} {lines:?} login:\u{7} "),
                }),
                HostQuery::Inventory => Ok(HostAnswer::Inventory { held: Vec::new() }),
                HostQuery::NetworkState { .. } | HostQuery::Trace { .. } => {
                    Ok(HostAnswer::Failed { message: "no switch".into(), not_found: false })
                }
            }
        })
    }
}

/// Compute and network, as the control plane composes them.
pub(super) struct Both(pub(super) Compute, pub(super) Network);

impl ReportSink for Both {
    fn reported<'c>(
        &'c self,
        tx: &'c mut Tx,
        host: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            self.1.reported(tx, host, report).await?;
            self.0.reported(tx, host, report).await
        })
    }
}

fn facts(name: &str) -> HostFacts {
    HostFacts {
        hostname: name.to_owned(),
        vcpus: 4,
        memory_mib: 8192,
        disk_gib: 100,
        disk_free_gib: 90,
        accelerator: "tcg".to_owned(),
        qemu_version: "7.2.22".to_owned(),
        ovs_version: "3.1.0".to_owned(),
        host_ip: "127.0.0.1".to_owned(),
        cpu_model: "test".to_owned(),
        agent_version: "0".to_owned(),
        booted_at: None,
        flows_mended: 0,
        flows_mended_at: None,
    }
}

impl Cloud {
    /// A new host.
    pub async fn join(&self, name: &str, zone: &str) -> HostId {
        let (wanted, zone) = (name.to_owned(), zone.to_owned());
        let host = self
            .transact(move |tx| {
                let (name, zone) = (wanted.clone(), zone.clone());
                Box::pin(async move {
                    let token = hosts::create_join_token(tx, &zone, "c1", "l2-1").await?;
                    hosts::enrol(tx, &token, &name, name.as_bytes()).await
                })
            })
            .await;
        self.hosts.0.lock().unwrap().push(SimulatedHost {
            id: host.id,
            name: host.name,
            behaviour: Behaviour::Works,
            power: HashMap::new(),
            operations: Vec::new(),
            given_up: HashMap::new(),
        });
        host.id
    }

    /// Changes how a host behaves from now on.
    pub fn behave(&self, name: &str, behaviour: Behaviour) {
        let mut hosts = self.hosts.0.lock().unwrap();
        hosts.iter_mut().find(|host| host.name == name).unwrap().behaviour = behaviour;
    }

    /// The guest does something by itself, on whichever host it runs.
    pub fn guest(&self, server: &str, power: PowerState) {
        for host in self.hosts.0.lock().unwrap().iter_mut() {
            host.power.insert(server.to_owned(), power);
        }
    }

    /// Operations that hosts carried out.
    pub fn operations(&self) -> Vec<String> {
        let hosts = self.hosts.0.lock().unwrap();
        hosts.iter().flat_map(|host| host.operations.clone()).collect()
    }

    /// Every host looks at its documents once and reports what changed. Whether any had news.
    pub async fn drive(&self) -> bool {
        let ids: Vec<HostId> = self.hosts.0.lock().unwrap().iter().map(|host| host.id).collect();
        let mut news = false;
        for id in ids {
            let behaviour = self.with_host(id, |host| host.behaviour.clone());
            if behaviour == Behaviour::Silent {
                continue;
            }
            let known = self
                .transact(move |tx| {
                    Box::pin(async move {
                        hosts::seen(tx, &id).await?;
                        let (known, _) = documents::snapshot(tx, &id).await?;
                        let mut told = Vec::new();
                        for document in known {
                            let last = report_of(tx, &id, document.kind, &document.id).await?;
                            told.push((document, last.map(|stored| stored.report)));
                        }
                        Ok(told)
                    })
                })
                .await;
            for (document, last) in known {
                let Some(report) = self.answer(id, &behaviour, &document, last.as_ref()) else {
                    continue;
                };
                news = true;
                self.report(id, report).await;
            }
        }
        news
    }

    async fn report(&self, host: HostId, report: Report) {
        let sink = Arc::new(Both(self.compute.clone(), self.network.clone()));
        self.transact(move |tx| {
            let (sink, report) = (sink.clone(), report.clone());
            Box::pin(async move {
                apply(tx, &host, &report, &*sink).await?;
                Ok(())
            })
        })
        .await;
    }

    fn with_host<T>(&self, id: HostId, look: impl Fn(&mut SimulatedHost) -> T) -> T {
        let mut hosts = self.hosts.0.lock().unwrap();
        look(hosts.iter_mut().find(|host| host.id == id).unwrap())
    }

    /// What the host says of a document, if that is news.
    fn answer(
        &self,
        host: HostId,
        behaviour: &Behaviour,
        document: &Document,
        last: Option<&Report>,
    ) -> Option<Report> {
        let mut error = None;
        let (state, facts) = match document.kind {
            _ if document.tombstone => (ReportState::Gone, Value::Null),
            DocumentKind::Host => {
                (ReportState::Done, json!(facts(&self.with_host(host, |host| host.name.clone()))))
            }
            DocumentKind::Port => {
                (ReportState::Done, json!(PortFacts { bound: true, device: "tap0".into() }))
            }
            DocumentKind::Network | DocumentKind::Neighbour => (ReportState::Done, Value::Null),
            DocumentKind::Operation => {
                let spec: OperationSpec = document.read().unwrap();
                if last.is_none() {
                    self.with_host(host, |host| host.operations.push(document.id.clone()));
                }
                let host_protocol::OperationAction::Reboot { server_id, .. } = spec.action;
                self.with_host(host, |host| host.power.remove(&server_id));
                (ReportState::Done, Value::Null)
            }
            DocumentKind::Server => {
                let spec: ServerSpec = document.read().unwrap();
                let given_up = self.with_host(host, |host| {
                    if let Behaviour::Fails(_, false) = behaviour {
                        host.given_up.insert(document.id.clone(), document.generation);
                    }
                    host.given_up.get(&document.id) == Some(&document.generation)
                });
                let failure = match behaviour {
                    Behaviour::Fails(code, retrying) => Some((*code, *retrying)),
                    _ if given_up => Some(("gave_up", false)),
                    _ => None,
                };
                if let Some((code, retrying)) = failure {
                    let message = "it cannot".to_owned();
                    error = Some(ReportError { code: code.to_owned(), message, retrying });
                    (ReportState::Failed, Value::Null)
                } else {
                    let own = self.with_host(host, |host| host.power.get(&document.id).copied());
                    let power = match (spec.power, own) {
                        (DesiredPower::Stopped, _) => PowerState::Shutdown,
                        (DesiredPower::Running, Some(own)) => own,
                        (DesiredPower::Running, None) => PowerState::Running,
                    };
                    let facts = ServerFacts {
                        power_state: power,
                        incarnation: 1,
                        stages: Vec::new(),
                        image_checksum: None,
                    };
                    (ReportState::Done, json!(facts))
                }
            }
        };
        if document.tombstone && document.kind == DocumentKind::Server {
            self.with_host(host, |host| host.power.remove(&document.id));
        }
        let same = last.is_some_and(|last| {
            last.generation == document.generation && last.state == state && last.facts == facts
        });
        if same {
            return None;
        }
        Some(Report {
            kind: document.kind,
            id: document.id.clone(),
            generation: document.generation,
            epoch: document.epoch,
            sequence: self.next(),
            state,
            facts,
            error,
        })
    }
}
