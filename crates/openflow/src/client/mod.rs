//! One connection to a bridge's management socket (`BRIDGE.mgmt`).
//!
//! ```text
//!   connect ── hello, 1.4 agreed ──▶ open ── socket ends, bytes make no sense, echo unanswered ──▶ closed
//! ```
//!
//! Closed is final: whoever owns the connection makes another and looks at what the switch has
//! kept. Two tasks own the socket's halves, so that a switch which is slow to read never stops us
//! from reading what it writes; both end with the connection. Replies find their request by
//! transaction id.

mod tasks;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::time::timeout;

use crate::model::Flow;
use crate::wire::{
    self, BundleControl, Description, EncodeError, FlowFilter, FlowMod, FlowStats, FlowStatsEntry,
    GroupMod, Incoming, MeterMod, PacketIn, PacketOut, Port, PortChange, SwitchError,
};
use tasks::{Pending, Shared};

/// Octets that are encoded before they are handed to the socket, so that a bundle of a hundred
/// thousand flows does not stand in memory twice.
const CHUNK: usize = 64 * 1024;
/// Chunks that may wait for a slow switch.
const QUEUED_CHUNKS: usize = 16;
/// Events that a slow subscriber may be behind before it loses some.
const QUEUED_EVENTS: usize = 1024;

/// How patient a connection is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the switch may take to accept a connection and agree on a version.
    pub connect_timeout: Duration,
    /// How long the switch may be silent while a request waits. A bundle of ten thousand flows takes
    /// it a second on a busy machine.
    pub request_timeout: Duration,
    /// After this much silence the switch is asked whether it is there; after three times as much
    /// the connection is given up.
    pub echo_interval: Duration,
    /// Ask for packet-in and port status.
    pub events: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            echo_interval: Duration::from_secs(10),
            events: true,
        }
    }
}

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// No connection could be made.
    #[error("cannot connect to {path}: {why}; is ovs-vswitchd running and the bridge configured?")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        why: Arc<io::Error>,
    },
    /// The peer does not agree to OpenFlow 1.4.
    #[error("{path} does not speak OpenFlow 1.4: {why}")]
    Negotiation {
        /// The socket.
        path: PathBuf,
        /// What it said.
        why: String,
    },
    /// The connection ended. What was under way may or may not have been done.
    #[error("the connection to the switch has ended: {0}")]
    Closed(Arc<str>),
    /// The switch did not answer.
    #[error("the switch has not answered for {0:?}; what was asked may or may not have been done")]
    Timeout(Duration),
    /// The switch said no.
    #[error(transparent)]
    Refused(#[from] SwitchError),
    /// One or more messages of a bundle were refused, so nothing was changed.
    #[error("the switch refused the change, nothing was applied: {}", describe(.failed))]
    Bundle {
        /// Position in the list given, and what was wrong with it.
        failed: Vec<(usize, SwitchError)>,
    },
    /// The request cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Message number so many of a bundle cannot be written; nothing was applied.
    #[error("message {index} of the bundle cannot be sent: {why}")]
    EncodeMember {
        /// Position in the list given.
        index: usize,
        /// What is wrong with it.
        why: EncodeError,
    },
}

impl ConnectionError {
    /// Whether a new connection is needed.
    pub fn is_disconnected(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Negotiation { .. } | Self::Closed(_) | Self::Timeout(_)
        )
    }
}

fn describe(failed: &[(usize, SwitchError)]) -> String {
    let mut text: Vec<String> =
        failed.iter().take(3).map(|(index, error)| format!("message {index}: {error}")).collect();
    if failed.len() > 3 {
        text.push(format!("and {} more", failed.len() - 3));
    }
    text.join("; ")
}

/// What the switch says by itself.
#[derive(Debug, Clone)]
pub enum Event {
    /// A packet.
    PacketIn(PacketIn),
    /// A port came, went or changed.
    Port(PortChange),
}

/// A message that may be part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleMember {
    /// A change of the flow table.
    Flow(FlowMod),
    /// A change of the group table.
    Group(GroupMod),
}

impl BundleMember {
    fn encode(&self, out: &mut Vec<u8>, xid: u32) -> Result<(), EncodeError> {
        match self {
            Self::Flow(change) => change.encode(out, xid),
            Self::Group(change) => change.encode(out, xid),
        }
    }
}

impl From<FlowMod> for BundleMember {
    fn from(change: FlowMod) -> Self {
        Self::Flow(change)
    }
}

impl From<GroupMod> for BundleMember {
    fn from(change: GroupMod) -> Self {
        Self::Group(change)
    }
}

/// An open connection. Dropping it closes the socket; nothing in the switch changes by that.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Vec<u8>>,
    closed: watch::Receiver<Option<Arc<str>>>,
    next_xid: AtomicU32,
    next_bundle: AtomicU32,
    /// One bundle at a time: Open vSwitch commits them one after the other anyway.
    bundling: Mutex<()>,
    options: Options,
}

impl Connection {
    /// Connects, agrees on OpenFlow 1.4 and asks for events if wanted.
    pub async fn connect(path: &Path, options: Options) -> Result<Self, ConnectionError> {
        let failed =
            |why: io::Error| ConnectionError::Connect { path: path.to_owned(), why: Arc::new(why) };
        let negotiation = |why: String| ConnectionError::Negotiation { path: path.to_owned(), why };
        let limit = options.connect_timeout;
        let mut socket = timeout(limit, UnixStream::connect(path))
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        timeout(limit, tasks::negotiate(&mut socket))
            .await
            .map_err(|_| negotiation("no answer to hello".into()))?
            .map_err(negotiation)?;

        let (outgoing, queue) = mpsc::channel(QUEUED_CHUNKS);
        let (closing, closed) = watch::channel(None);
        let shared = Arc::new(Shared::new(broadcast::Sender::new(QUEUED_EVENTS), closing));
        let (read, write) = socket.into_split();
        tokio::spawn(tasks::write(write, queue, shared.clone()));
        tokio::spawn(tasks::read(
            read,
            outgoing.downgrade(),
            shared.clone(),
            options.echo_interval,
        ));
        let connection = Self {
            shared,
            outgoing,
            closed,
            next_xid: AtomicU32::new(1),
            next_bundle: AtomicU32::new(1),
            bundling: Mutex::new(()),
            options,
        };
        if connection.options.events {
            let xid = connection.xids(3);
            let mut bytes = wire::set_packet_in_format(xid);
            bytes.extend(wire::set_async(xid.wrapping_add(1)));
            bytes.extend(wire::set_config(xid.wrapping_add(2), 0xffff));
            connection.unanswered(xid, 3, bytes).await?;
        }
        Ok(connection)
    }

    /// Why the connection ended, once it has.
    pub async fn closed(&self) -> Arc<str> {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_else(|| "unknown".into()),
            Err(_) => "dropped".into(),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some()
    }

    /// What the switch says from now on. A subscriber that is far behind loses events and is told so.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Returns when the switch has done everything that was asked before.
    pub async fn barrier(&self) -> Result<(), ConnectionError> {
        let xid = self.xids(1);
        let mut pending = self.shared.expect(xid, 1);
        self.send(wire::barrier_request(xid)).await?;
        self.reply(&mut pending).await.map(|_| ())
    }

    /// Applies all the changes or none, in order, at one instant for packets.
    pub async fn bundle<M: Into<BundleMember>>(
        &self,
        changes: impl IntoIterator<Item = M>,
    ) -> Result<(), ConnectionError> {
        let mut changes = changes.into_iter().map(Into::into).peekable();
        if changes.peek().is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.bundling.lock().await;
        let bundle = self.next_bundle.fetch_add(1, Ordering::Relaxed);
        let first = self.next_xid.load(Ordering::Relaxed);
        let mut pending = self.shared.expect_from(first);
        let mut chunk = wire::bundle_control(self.xids(1), bundle, BundleControl::Open);
        let mut xids = Vec::new();
        for (index, change) in changes.enumerate() {
            let xid = self.xids(1);
            xids.push(xid);
            if let Err(why) =
                wire::bundle_add(&mut chunk, xid, bundle, |out| change.encode(out, xid))
            {
                // Told to forget it, not left to time out: the switch keeps few bundles.
                chunk.extend(wire::bundle_control(self.xids(1), bundle, BundleControl::Discard));
                self.send(chunk).await?;
                return Err(ConnectionError::EncodeMember { index, why });
            }
            if chunk.len() >= CHUNK {
                self.send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK + 1024))).await?;
            }
        }
        // The switch leaves out what it cannot even read and would commit the rest: hear its
        // complaints first.
        let added = self.xids(1);
        chunk.extend(wire::barrier_request(added));
        self.send(chunk).await?;
        let mut failed = self.complaints(&mut pending, &xids, added).await?;
        if failed.is_empty() {
            let commit = self.xids(1);
            self.send(wire::bundle_control(commit, bundle, BundleControl::Commit)).await?;
            failed = self.complaints(&mut pending, &xids, commit).await?;
        } else {
            let discard = wire::bundle_control(self.xids(1), bundle, BundleControl::Discard);
            self.send(discard).await?;
        }
        if failed.is_empty() { Ok(()) } else { Err(ConnectionError::Bundle { failed }) }
    }

    /// Gathers errors until the answer to `last` comes; those of `members` with their positions.
    async fn complaints(
        &self,
        pending: &mut Pending,
        members: &[u32],
        last: u32,
    ) -> Result<Vec<(usize, SwitchError)>, ConnectionError> {
        let mut failed = Vec::new();
        loop {
            match self.next(pending).await? {
                (xid, Incoming::Error(error)) => {
                    match members.iter().position(|&member| member == xid) {
                        Some(index) => failed.push((index, error)),
                        None if failed.is_empty() => return Err(error.into()),
                        // "One of the messages failed": which one and why is known already.
                        None => return Ok(failed),
                    }
                }
                (xid, _) if xid == last => return Ok(failed),
                // The answer to "open".
                _ => {}
            }
        }
    }

    /// Changes a meter. Meters cannot be in a bundle.
    pub async fn meter(&self, change: &MeterMod) -> Result<(), ConnectionError> {
        let xid = self.xids(1);
        let mut bytes = Vec::new();
        change.encode(&mut bytes, xid)?;
        self.unanswered(xid, 1, bytes).await
    }

    /// Forgets every tracked connection of a zone, see [`wire::flush_zone`].
    pub async fn flush_zone(&self, zone: u16) -> Result<(), ConnectionError> {
        let xid = self.xids(1);
        self.unanswered(xid, 1, wire::flush_zone(xid, zone)).await
    }

    /// Sends a packet. Does not wait: the switch answers only what it refuses, and then it is logged.
    pub async fn packet_out(&self, packet: &PacketOut) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes, self.xids(1))?;
        self.send(bytes).await
    }

    /// Begins a dump; the parts come as the switch sends them.
    pub async fn dump(&self, filter: &FlowFilter) -> Result<FlowDump<'_>, ConnectionError> {
        let xid = self.xids(1);
        let request = wire::flow_stats_request(xid, filter)?;
        let pending = self.shared.expect(xid, 1);
        self.send(request).await?;
        Ok(FlowDump { connection: self, pending, finished: false })
    }

    /// Every flow, with its counters and with those that this client does not understand.
    pub async fn dump_all(&self) -> Result<Vec<FlowStatsEntry>, ConnectionError> {
        let mut dump = self.dump(&FlowFilter::default()).await?;
        let mut out = Vec::new();
        while let Some(part) = dump.next().await? {
            out.extend(part);
        }
        Ok(out)
    }

    /// Every flow that this client understands.
    pub async fn dump_flows(&self) -> Result<Vec<Flow>, ConnectionError> {
        Ok(self
            .dump_all()
            .await?
            .into_iter()
            .filter_map(|entry| match entry {
                FlowStatsEntry::Known(FlowStats { flow, .. }) => Some(flow),
                FlowStatsEntry::Foreign { .. } => None,
            })
            .collect())
    }

    /// What the switch is.
    pub async fn description(&self) -> Result<Description, ConnectionError> {
        let xid = self.xids(1);
        let mut pending = self.shared.expect(xid, 1);
        self.send(wire::description_request(xid)).await?;
        loop {
            if let Incoming::Description(description) = self.reply(&mut pending).await? {
                return Ok(description);
            }
        }
    }

    /// The bridge's ports.
    pub async fn ports(&self) -> Result<Vec<Port>, ConnectionError> {
        let xid = self.xids(1);
        let mut pending = self.shared.expect(xid, 1);
        self.send(wire::port_desc_request(xid)).await?;
        let mut out = Vec::new();
        loop {
            if let Incoming::Ports { ports, more } = self.reply(&mut pending).await? {
                out.extend(ports);
                if !more {
                    return Ok(out);
                }
            }
        }
    }

    /// The first of `count` transaction ids in a row.
    fn xids(&self, count: u32) -> u32 {
        self.next_xid.fetch_add(count, Ordering::Relaxed)
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), ConnectionError> {
        match timeout(self.options.request_timeout, self.outgoing.send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.shared.closed_error()),
            Err(_) => Err(ConnectionError::Timeout(self.options.request_timeout)),
        }
    }

    /// Sends what has no answer unless it fails, and waits by a barrier until it is done.
    async fn unanswered(
        &self,
        first: u32,
        count: u32,
        mut bytes: Vec<u8>,
    ) -> Result<(), ConnectionError> {
        let barrier = self.xids(1);
        let mut errors = self.shared.expect(first, count);
        let mut done = self.shared.expect(barrier, 1);
        bytes.extend(wire::barrier_request(barrier));
        self.send(bytes).await?;
        self.reply(&mut done).await?;
        match errors.try_next() {
            Some(Incoming::Error(error)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn next(&self, pending: &mut Pending) -> Result<(u32, Incoming), ConnectionError> {
        match timeout(self.options.request_timeout, pending.next()).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(self.shared.closed_error()),
            Err(_) => Err(ConnectionError::Timeout(self.options.request_timeout)),
        }
    }

    async fn reply(&self, pending: &mut Pending) -> Result<Incoming, ConnectionError> {
        match self.next(pending).await?.1 {
            Incoming::Error(error) => Err(error.into()),
            message => Ok(message),
        }
    }
}

/// A dump under way. Dropping it early ignores the rest.
#[derive(Debug)]
pub struct FlowDump<'a> {
    connection: &'a Connection,
    pending: Pending,
    finished: bool,
}

impl FlowDump<'_> {
    /// The next part, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<FlowStatsEntry>>, ConnectionError> {
        while !self.finished {
            if let Incoming::FlowStats { flows, more } =
                self.connection.reply(&mut self.pending).await?
            {
                self.finished = !more;
                return Ok(Some(flows));
            }
        }
        Ok(None)
    }
}
