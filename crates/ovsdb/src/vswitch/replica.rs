//! A copy of the tables of interest, kept by a monitor.

use std::collections::HashMap;

use uuid::Uuid;

use super::{DATABASE, PortStatus};
use crate::monitor::{MonitorTable, RowUpdate, TableUpdates};
use crate::value::Row;

type Table = HashMap<Uuid, Row>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    tables: HashMap<String, Table>,
}

impl Replica {
    /// What is followed. Statistics are left out: they change every few seconds on every port.
    pub(super) fn tables() -> Vec<MonitorTable> {
        vec![
            MonitorTable::new(
                DATABASE,
                &["bridges", "cur_cfg", "next_cfg", "ovs_version", "external_ids"],
            ),
            MonitorTable::new(
                "Bridge",
                &[
                    "name",
                    "ports",
                    "datapath_type",
                    "fail_mode",
                    "other_config",
                    "protocols",
                    "controller",
                ],
            ),
            MonitorTable::new("Port", &["name", "interfaces", "external_ids"]),
            MonitorTable::new(
                "Interface",
                &[
                    "name",
                    "type",
                    "options",
                    "ofport",
                    "ofport_request",
                    "error",
                    "link_state",
                    "external_ids",
                ],
            ),
        ]
    }

    pub(super) fn apply(&mut self, updates: &TableUpdates) {
        for (table, rows) in updates {
            let table = self.tables.entry(table.clone()).or_default();
            for (id, update) in rows {
                match update {
                    RowUpdate::Present(row) => drop(table.insert(*id, row.clone())),
                    RowUpdate::Gone => drop(table.remove(id)),
                }
            }
        }
    }

    fn row(&self, table: &str, id: &Uuid) -> Option<&Row> {
        self.tables.get(table)?.get(id)
    }

    fn by_name(&self, table: &str, name: &str) -> Option<(Uuid, &Row)> {
        self.tables
            .get(table)?
            .iter()
            .find(|(_, row)| row.text("name") == Some(name))
            .map(|(id, row)| (*id, row))
    }

    /// The one row of the table that has the database's name.
    pub(super) fn root(&self) -> Option<(Uuid, &Row)> {
        self.tables.get(DATABASE)?.iter().next().map(|(id, row)| (*id, row))
    }

    pub(super) fn bridge(&self, name: &str) -> Option<(Uuid, &Row)> {
        self.by_name("Bridge", name)
    }

    /// The ports of a bridge: row identity, port row, identity and row of its first interface.
    pub(super) fn port_rows<'a>(
        &'a self,
        bridge: &str,
    ) -> impl Iterator<Item = (Uuid, &'a Row, Uuid, &'a Row)> + use<'a> {
        let ports = self.bridge(bridge).map(|(_, row)| row.references("ports")).unwrap_or_default();
        ports.into_iter().filter_map(|id| {
            let port = self.row("Port", &id)?;
            let interface = *port.references("interfaces").first()?;
            Some((id, port, interface, self.row("Interface", &interface)?))
        })
    }

    pub(super) fn ports(&self, bridge: &str) -> Vec<PortStatus> {
        let mut out: Vec<PortStatus> = self
            .port_rows(bridge)
            .map(|(_, port, _, interface)| PortStatus {
                name: port.text("name").unwrap_or_default().to_owned(),
                kind: interface.text("type").unwrap_or_default().to_owned(),
                // -1 says that it could not be set up.
                ofport: interface.integer("ofport").and_then(|n| u32::try_from(n).ok()),
                error: interface.text("error").filter(|e| !e.is_empty()).map(String::from),
                link_up: interface.text("link_state").map(|state| state == "up"),
                options: interface.map("options"),
                external_ids: port.map("external_ids"),
            })
            .collect();
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }
}
