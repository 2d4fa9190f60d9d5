//! What is wrong: the auditor's findings, the machines' and the ledger's, and the story of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use auditor::{Audit, Finding, Kind, Options};
use compute::Ratios;
use control_plane::server;

use crate::host::SimulatedHost;
use crate::machines::{self, Machine};
use crate::operations::Operations;
use crate::store;
use crate::world::Region;

/// Lines of the trace that are shown of one object.
const STORY: usize = 60;

/// Looks while the region is at work, and when it has come to rest.
pub struct Judge {
    region: Region,
    hosts: Arc<Vec<Arc<SimulatedHost>>>,
    journal_at: i64,
    suspects: Vec<Finding>,
    operations: Operations,
}

impl Judge {
    /// A judge of this region.
    pub fn new(region: Region, hosts: Arc<Vec<Arc<SimulatedHost>>>) -> Judge {
        let operations = Operations::default();
        Judge { region, hosts, journal_at: 0, suspects: Vec::new(), operations }
    }

    async fn audit(&self, journal_after: i64) -> Result<Audit> {
        let options = Options {
            percent: server::promised(Ratios::default()),
            journal_after,
            journal_page: i64::from(u32::MAX),
            repair: false,
        };
        Ok(auditor::audit(&self.region.common.db, &options).await?)
    }

    fn machines(&self) -> Vec<(String, Machine)> {
        self.hosts
            .iter()
            .map(|host| {
                let state = host.machine.state();
                let machine = Machine {
                    name: host.name.clone(),
                    guests: state
                        .guests
                        .iter()
                        .map(|(id, guest)| (id.clone(), machines::runs(guest.power)))
                        .collect(),
                    disks: state.disks.keys().cloned().collect(),
                    ports: state.ports.iter().map(|port| port.port_id.clone()).collect(),
                };
                (host.id.to_string(), machine)
            })
            .collect()
    }

    fn operations(&mut self) -> Result<Vec<Finding>> {
        let mut found = Vec::new();
        for host in self.hosts.iter() {
            found.extend(self.operations.look(&host.name, host.operations()?));
        }
        Ok(found)
    }

    /// What is wrong at any instant. What a host may merely be slow with is left out, and a
    /// wake-up counts as lost only when it is so twice.
    ///
    /// # Errors
    /// The database's.
    pub async fn meanwhile(&mut self) -> Result<Vec<Finding>> {
        let machines: Vec<Machine> =
            self.machines().into_iter().map(|(_, machine)| machine).collect();
        let mut found = machines::doubles(&machines);
        found.extend(self.operations()?);
        let audit = self.audit(self.journal_at).await?;
        self.journal_at = audit.journal_at;
        let (patient, now): (Vec<Finding>, Vec<Finding>) = audit
            .findings
            .into_iter()
            .filter(|finding| {
                !matches!(finding.kind, Kind::HostBehind | Kind::Report | Kind::Overdue)
            })
            .partition(|finding| finding.kind.needs_patience());
        found.extend(now);
        found.extend(patient.iter().filter(|finding| self.suspects.contains(finding)).cloned());
        self.suspects = patient;
        found.extend(self.region.ledger.check_broken());
        Ok(found)
    }

    /// What is wrong when all should have come to rest.
    ///
    /// # Errors
    /// The database's.
    pub async fn at_rest(&mut self) -> Result<Vec<Finding>> {
        let mut found = self.audit(0).await?.findings;
        found.extend(self.operations()?);
        let mut told = store::told(&self.region.common.db).await?;
        let machines = self.machines();
        let all: Vec<Machine> = machines.iter().map(|(_, machine)| machine.clone()).collect();
        found.extend(machines::doubles(&all));
        for (host, machine) in &machines {
            found.extend(machines::at_rest(machine, &told.remove(host).unwrap_or_default()));
        }
        found.extend(self.region.ledger.check(&store::journal(&self.region.common.db).await?));
        Ok(found)
    }

    /// What happened to an object: trace, journal, documents, reports.
    ///
    /// # Errors
    /// The database's.
    pub async fn story(&self, object: &str) -> Result<Vec<String>> {
        let mut lines: BTreeMap<String, ()> = BTreeMap::new();
        let mut rest = Vec::new();
        for line in self.region.trace.about(object, STORY) {
            lines.insert(line, ());
        }
        for line in store::story(&self.region.common.db, object).await? {
            match line.starts_with("             ") {
                true => rest.push(line),
                false => {
                    lines.insert(line, ());
                }
            }
        }
        let names: Vec<(String, &str)> =
            self.hosts.iter().map(|host| (host.id.to_string(), host.name.as_str())).collect();
        let mut story: Vec<String> = lines.into_keys().chain(rest).collect();
        for line in &mut story {
            for (id, name) in &names {
                if line.contains(id.as_str()) {
                    *line = line.replace(id.as_str(), name);
                }
            }
        }
        Ok(story)
    }
}
