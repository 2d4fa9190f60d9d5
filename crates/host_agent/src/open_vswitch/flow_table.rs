//! The OpenFlow side of the switch: what the table should be, what it is known to be, and the
//! difference between them as one bundle.
//!
//! ```text
//!   unknown ──connect, dump──▶ known ──apply: bundle of the difference──▶ known
//!      ▲                         │ connection lost, refused, or no answer
//!      └─────────────────────────┘
//! ```
//!
//! While the table is *known*, a change costs what it changes and not what there is. After a lost
//! connection nothing is assumed: vswitchd may have been restarted with an empty table, or the
//! last bundle may have arrived after all, so the table is read and only the difference is sent.
//! Guests' traffic is never interrupted by that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use openflow::wire::{FlowStatsEntry, RawMatch};
use openflow::{Actions, Connection, ConnectionError, Flow, FlowMod, Match, Options, PacketOut};
use tokio::sync::Mutex;

use crate::switch::{self, Applied, CountedFlow, SwitchError, TableRead, Verified};

/// What names a flow in a table; two flows cannot share it.
type Key = (u8, u16, Match);
/// What a flow does, and whose it is.
type Effect = (u64, Actions);
/// A flow table by what names each flow.
type Table = BTreeMap<Key, Effect>;

fn table(flows: impl IntoIterator<Item = Flow>) -> Table {
    flows
        .into_iter()
        .map(|flow| ((flow.table, flow.priority, flow.match_fields), (flow.cookie, flow.actions)))
        .collect()
}

fn flow(key: &Key, effect: &Effect) -> Flow {
    Flow {
        table: key.0,
        priority: key.1,
        cookie: effect.0,
        match_fields: key.2.clone(),
        actions: effect.1.clone(),
    }
}

/// What has to be sent to turn one table into another. Additions come first: while a bundle is
/// atomic for packets, its order decides what wins where a flow replaces another.
fn difference(from: &Table, to: &Table) -> (Vec<FlowMod>, Applied) {
    let mut changes = Vec::new();
    let mut applied = Applied { total: to.len(), changed: 0, removed: 0 };
    for (key, effect) in to {
        if from.get(key) != Some(effect) {
            changes.push(FlowMod::add(flow(key, effect)));
            applied.changed += 1;
        }
    }
    for key in from.keys().filter(|key| !to.contains_key(key)) {
        changes.push(FlowMod::delete_strict(key.0, key.1, key.2.clone()));
        applied.removed += 1;
    }
    (changes, applied)
}

fn checksum(table: &Table) -> String {
    let flows: Vec<Flow> = table.iter().map(|(key, effect)| flow(key, effect)).collect();
    switch::checksum(&flows)
}

/// What a dump showed.
struct Dumped {
    known: Table,
    /// Flows with a match that this client does not speak, so that it cannot have written them.
    foreign: Vec<FlowMod>,
}

struct State {
    connection: Option<Arc<Connection>>,
    /// What the switch should hold, once somebody said so.
    wanted: Option<Table>,
    /// Whether the switch is known to hold just that. One copy of the table is enough for both: on
    /// a busy host it is the largest thing that the agent keeps.
    in_step: bool,
}

/// The flow table of one bridge.
pub struct FlowTable {
    socket: PathBuf,
    state: Mutex<State>,
}

fn refused(error: ConnectionError) -> SwitchError {
    if error.is_disconnected() {
        SwitchError::Unreachable(error.to_string())
    } else {
        SwitchError::Refused(error.to_string())
    }
}

impl FlowTable {
    /// The table behind a bridge's management socket. Connects when it is first used.
    pub fn new(socket: PathBuf) -> Self {
        FlowTable {
            socket,
            state: Mutex::new(State { connection: None, wanted: None, in_step: false }),
        }
    }

    /// An open connection; a new one is made when there is none or it has ended.
    ///
    /// # Errors
    /// [`SwitchError::Unreachable`] when vswitchd does not answer.
    pub async fn connection(&self) -> Result<Arc<Connection>, SwitchError> {
        Self::connected(&self.socket, &mut *self.state.lock().await).await
    }

    async fn connected(
        socket: &std::path::Path,
        state: &mut State,
    ) -> Result<Arc<Connection>, SwitchError> {
        if let Some(connection) = state.connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(connection.clone());
        }
        state.in_step = false;
        let connection = Connection::connect(socket, Options::default()).await.map_err(refused)?;
        let connection = Arc::new(connection);
        state.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Version of the switch.
    ///
    /// # Errors
    /// When vswitchd cannot be reached.
    pub async fn version(&self) -> Result<String, SwitchError> {
        let description = self.connection().await?.description().await.map_err(refused)?;
        Ok(description.software)
    }

    /// Makes the table exactly this, sending only what differs.
    ///
    /// # Errors
    /// When vswitchd cannot be reached, or refuses; nothing was changed then, or it is not known,
    /// and the next call reads the table first.
    pub async fn apply(&self, flows: Vec<Flow>) -> Result<Applied, SwitchError> {
        let mut state = self.state.lock().await;
        let wanted = table(flows);
        let connection = match Self::connected(&self.socket, &mut state).await {
            Ok(connection) => connection,
            Err(error) => {
                state.wanted = Some(wanted);
                state.in_step = false;
                return Err(error);
            }
        };
        // Until the switch has confirmed, what it holds is not known.
        let was_in_step = std::mem::replace(&mut state.in_step, false);
        let before = state.wanted.replace(wanted);
        let (before, foreign) = match before {
            Some(before) if was_in_step => (before, Vec::new()),
            _ => {
                let dumped = dump(&connection).await?;
                (dumped.known, dumped.foreign)
            }
        };
        let wanted = state.wanted.get_or_insert_default();
        let (mut changes, applied) = difference(&before, wanted);
        drop(before);
        changes.extend(foreign);
        send(&connection, changes).await?;
        state.in_step = true;
        Ok(applied)
    }

    /// Reads the table back, and puts right what is not as it was applied last.
    ///
    /// # Errors
    /// As [`FlowTable::apply`].
    pub async fn verify(&self) -> Result<Verified, SwitchError> {
        let mut state = self.state.lock().await;
        let connection = Self::connected(&self.socket, &mut state).await?;
        state.in_step = false;
        let dumped = dump(&connection).await?;
        let found = dumped.known.len() + dumped.foreign.len();
        let checksum = checksum(&dumped.known);
        let Some(wanted) = &state.wanted else {
            // Nobody has said what should be there, so nothing is wrong.
            return Ok(Verified { found, repaired: 0, checksum });
        };
        let (mut changes, _) = difference(&dumped.known, wanted);
        changes.extend(dumped.foreign);
        let repaired = changes.len();
        send(&connection, changes).await?;
        state.in_step = true;
        Ok(Verified { found, repaired, checksum })
    }

    /// Reads the table back and changes nothing.
    ///
    /// # Errors
    /// When vswitchd cannot be reached.
    pub async fn read(&self) -> Result<TableRead, SwitchError> {
        let mut state = self.state.lock().await;
        let connection = Self::connected(&self.socket, &mut state).await?;
        let mut read = TableRead::default();
        let wanted = state.wanted.iter().flatten();
        read.wanted = wanted.map(|(key, effect)| flow(key, effect)).collect();
        for entry in connection.dump_all().await.map_err(refused)? {
            match entry {
                FlowStatsEntry::Known(stats) => {
                    read.flows.push(CountedFlow { flow: stats.flow, packets: stats.packets });
                }
                FlowStatsEntry::Foreign { .. } => read.foreign += 1,
            }
        }
        Ok(read)
    }

    /// Sends frames out of a port, past the table.
    ///
    /// # Errors
    /// When vswitchd cannot be reached.
    pub async fn announce(&self, ofport: u32, frames: Vec<Vec<u8>>) -> Result<(), SwitchError> {
        let connection = self.connection().await?;
        for frame in frames {
            connection.packet_out(&PacketOut::to_port(ofport, frame)).await.map_err(refused)?;
        }
        Ok(())
    }

    /// Forgets the tracked connections of a conntrack zone.
    ///
    /// # Errors
    /// When vswitchd cannot be reached.
    pub async fn flush_zone(&self, zone: u16) -> Result<(), SwitchError> {
        let connection = self.connection().await?;
        connection.flush_zone(zone).await.map_err(refused)
    }
}

/// Sends changes as one bundle. A refusal shows the flow that the switch did not like.
async fn send(connection: &Connection, changes: Vec<FlowMod>) -> Result<(), SwitchError> {
    let error = match connection.bundle(changes.iter().cloned()).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let culprit = match &error {
        ConnectionError::Bundle { failed } => failed.first().map(|(index, _)| *index),
        ConnectionError::EncodeMember { index, .. } => Some(*index),
        _ => None,
    };
    match culprit.and_then(|index| changes.get(index)) {
        Some(FlowMod {
            table,
            priority,
            cookie,
            match_fields: RawMatch::Known(found),
            actions,
            ..
        }) => {
            let flow = flow(&(*table, *priority, found.clone()), &(*cookie, actions.clone()));
            Err(SwitchError::Refused(format!("{error}; the first is {flow}")))
        }
        _ => Err(refused(error)),
    }
}

async fn dump(connection: &Connection) -> Result<Dumped, SwitchError> {
    let entries = connection.dump_all().await.map_err(refused)?;
    let mut dumped = Dumped { known: Table::new(), foreign: Vec::new() };
    for entry in entries {
        match entry {
            FlowStatsEntry::Known(stats) => dumped.known.extend(table([stats.flow])),
            FlowStatsEntry::Foreign { table, priority, match_fields, .. } => {
                dumped.foreign.push(FlowMod::delete_strict_raw(table, priority, match_fields))
            }
        }
    }
    Ok(dumped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(port: u32, out: u32, cookie: u64) -> Flow {
        Flow {
            table: 0,
            priority: 100,
            cookie,
            match_fields: Match::any().in_port(port),
            actions: Actions::new().output(out),
        }
    }

    #[test]
    fn only_what_differs_is_sent() {
        let before = table([some(1, 2, 7), some(2, 1, 7), some(3, 1, 7)]);
        let after = table([some(1, 2, 7), some(2, 9, 7), some(4, 1, 7)]);
        let (changes, applied) = difference(&before, &after);
        assert_eq!(applied, Applied { total: 3, changed: 2, removed: 1 });
        assert_eq!(changes.len(), 3);
        assert!(difference(&after, &after).0.is_empty());
    }

    #[test]
    fn a_flow_of_another_owner_is_another_flow() {
        let (changes, _) = difference(&table([some(1, 2, 7)]), &table([some(1, 2, 8)]));
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn the_checksum_does_not_depend_on_the_order_in_which_flows_came() {
        let one = table([some(1, 2, 7), some(2, 1, 7)]);
        let other = table([some(2, 1, 7), some(1, 2, 7)]);
        assert_eq!(checksum(&one), checksum(&other));
        assert_ne!(checksum(&one), checksum(&table([some(1, 2, 7)])));
    }
}
