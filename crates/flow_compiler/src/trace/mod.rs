//! Follows a packet through a flow table, without a switch: a pure function of the flows and the
//! packet, by the switch's rules (highest priority, actions in order, `ct` forks, conjunctions).
//!
//! ```text
//!   flows (as compiled, or as a switch dumped them) ┐
//!   where it comes in, what it is                   ├─► steps, one for each table looked up
//!   whether its connection is new or answered       ┘   ends: to a port, back, dropped
//! ```
//! [`words`] puts a step into words. What other hosts do with a packet that ends on the wire is asked
//! of them in turn, with the packet as it is there.

mod packet;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};

use openflow::{Action, Actions, Ct, CtZone, Field, Flow, ct_state, port};

use crate::tables;
use packet::Packet;
pub use packet::Probe;

/// Look-ups after which a packet is given up; the switch does so earlier.
const MAX_STEPS: usize = 4096;

/// How far the packet's connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// The packet begins it.
    #[default]
    New,
    /// The packet is an answer within one that was let begin.
    Answer,
}

/// One look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Table.
    pub table: u8,
    /// Position in the flows of the one that was taken; `None` when the table has none that fits.
    pub flow: Option<usize>,
    /// The packet, as it came to the table.
    pub packet: Probe,
    /// Nothing came of it: the packet, or this copy of it, ends here.
    pub drops: bool,
    /// OpenFlow port that the packet is on its way to, once that is decided.
    pub towards: Option<u32>,
    /// OpenFlow port by which it came in.
    pub from: u32,
}

/// What became of the packet or of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Out of a port.
    Output {
        /// Its OpenFlow number.
        ofport: u32,
        /// As it leaves.
        packet: Probe,
    },
    /// The host answered it itself.
    Answered {
        /// The answer.
        packet: Probe,
    },
    /// Dropped in the step of this index.
    Dropped {
        /// Index of the step.
        step: usize,
    },
}

/// The way of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Look-ups, in order.
    pub steps: Vec<Step>,
    /// What became of it.
    pub ends: Vec<End>,
}

/// Follows a packet.
pub fn trace(flows: &[Flow], in_port: u32, probe: &Probe, connection: Connection) -> Trace {
    let mut by_table: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (index, flow) in flows.iter().enumerate() {
        by_table.entry(flow.table).or_default().push(index);
    }
    for indices in by_table.values_mut() {
        indices.sort_by_key(|index| std::cmp::Reverse(flows[*index].priority));
    }
    let mut walk = Walk { flows, by_table, connection, trace: Trace::default() };
    walk.table(tables::CLASSIFY, Packet::new(in_port, probe));
    walk.trace
}

struct Walk<'a> {
    flows: &'a [Flow],
    by_table: BTreeMap<u8, Vec<usize>>,
    connection: Connection,
    trace: Trace,
}

impl Walk<'_> {
    /// Looks a packet up; returns it as the table's actions leave it.
    fn table(&mut self, table: u8, mut packet: Packet) -> Packet {
        if self.trace.steps.len() >= MAX_STEPS {
            return packet;
        }
        let flow = self.decide(table, &packet);
        let actions = flow.map(|index| self.flows[index].actions.clone()).unwrap_or_default();
        let towards = packet.get(Field::Reg(tables::REG_DESTINATION)) as u32;
        let drops = actions.is_drop();
        let step = self.trace.steps.len();
        self.trace.steps.push(Step {
            table,
            flow,
            packet: packet.probe(),
            drops,
            towards: (towards != 0).then_some(towards),
            from: packet.get(Field::InPort) as u32,
        });
        if drops {
            self.trace.ends.push(End::Dropped { step });
            return packet;
        }
        for action in &actions.apply {
            packet = self.act(table, action, packet);
        }
        match actions.goto {
            Some(next) => self.table(next, packet),
            None => packet,
        }
    }

    fn act(&mut self, table: u8, action: &Action, mut packet: Packet) -> Packet {
        match action {
            Action::Output(port::IN_PORT) => {
                self.trace.ends.push(End::Answered { packet: packet.probe() });
            }
            // The switch does not send a packet back where it came from.
            Action::Output(ofport) if u128::from(*ofport) == packet.get(Field::InPort) => {}
            Action::Output(ofport) => {
                self.trace.ends.push(End::Output { ofport: *ofport, packet: packet.probe() });
            }
            Action::SetField { field, value, mask } => {
                let kept = packet.get(*field) & !mask;
                packet.set(*field, kept | value);
            }
            Action::Move { src, dst } => {
                let bits = packet.read(*src);
                packet.write(*dst, bits);
            }
            Action::Resubmit { in_port: None, table: to } => {
                packet = self.table(to.unwrap_or(table), packet);
            }
            Action::Ct(ct) => packet = self.track(ct, packet),
            // Nothing that the compiler writes: whatever it does, it decides nothing here.
            _ => {}
        }
        packet
    }

    fn track(&mut self, ct: &Ct, mut packet: Packet) -> Packet {
        let zone = match ct.zone {
            CtZone::Number(zone) => zone,
            CtZone::From(source) => packet.read(source) as u16,
        };
        if let Some(next) = ct.table {
            let mut copy = packet.clone();
            let probe = packet.probe();
            let (state, first) = match self.connection {
                Connection::New => (ct_state::NEW, probe),
                Connection::Answer => (ct_state::EST | ct_state::RPL, probe.reversed()),
            };
            copy.tracked(zone, state | ct_state::TRK, &first);
            self.table(next, copy);
        }
        packet.forget_tracking();
        packet
    }

    /// The flow that decides. Clauses of conjunctions decide nothing themselves: of one priority
    /// they are taken together, and where all of a conjunction are there, the flow that matches its
    /// identifier does (ovs-fields(7), "Conjunctive Match Fields").
    fn decide(&self, table: u8, packet: &Packet) -> Option<usize> {
        let hits: Vec<usize> = self
            .by_table
            .get(&table)?
            .iter()
            .copied()
            .filter(|index| packet.matches(&self.flows[*index]))
            .collect();
        let is_clause = |index: &usize| !clauses(&self.flows[*index].actions).is_empty();
        let best = hits.iter().copied().find(|index| !is_clause(index));
        let floor = best.map_or(0, |index| self.flows[index].priority);
        let mut met: BTreeMap<(std::cmp::Reverse<u16>, u32), BTreeSet<u8>> = BTreeMap::new();
        for index in hits.iter().filter(|index| is_clause(index)) {
            let flow = &self.flows[*index];
            for (id, clause, _) in clauses(&flow.actions) {
                met.entry((std::cmp::Reverse(flow.priority), id)).or_default().insert(clause);
            }
        }
        let all = |id: u32| {
            let of = hits.iter().flat_map(|index| clauses(&self.flows[*index].actions));
            of.filter(|(other, ..)| *other == id).map(|(.., count)| count).next().unwrap_or(0)
        };
        for ((std::cmp::Reverse(priority), id), clauses) in met {
            if priority <= floor {
                break;
            }
            if clauses.len() == usize::from(all(id)) {
                let mut packet = packet.clone();
                packet.set(Field::ConjId, id.into());
                let decided = self.by_table.get(&table)?.iter().copied().find(|index| {
                    let flow = &self.flows[*index];
                    flow.match_fields.get(Field::ConjId).is_some() && packet.matches(flow)
                });
                if decided.is_some() {
                    return decided;
                }
            }
        }
        best
    }
}

fn clauses(actions: &Actions) -> Vec<(u32, u8, u8)> {
    let of = |action: &Action| match action {
        Action::Conjunction { id, clause, clauses } => Some((*id, *clause, *clauses)),
        _ => None,
    };
    actions.apply.iter().filter_map(of).collect()
}
