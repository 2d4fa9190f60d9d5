//! The two tasks that own a connection's socket, and what they share with its callers.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{ConnectionError, Event};
use crate::wire::{self, HEADER_LEN, Header, Incoming};

/// Silences in a row after which the switch is believed to be gone.
const SILENCES: u32 = 3;

/// Who waits for which transaction ids.
struct Waiter {
    first: u32,
    /// How many ids, or `None` for all that follow.
    count: Option<u32>,
    sender: mpsc::UnboundedSender<(u32, Incoming)>,
}

impl Waiter {
    fn wants(&self, xid: u32) -> bool {
        let distance = xid.wrapping_sub(self.first);
        // Half of the number space lies behind an open range.
        self.count.map_or(distance < u32::MAX / 2, |count| distance < count)
    }
}

/// What the tasks share with callers.
pub(super) struct Shared {
    pub(super) events: broadcast::Sender<Event>,
    closing: watch::Sender<Option<Arc<str>>>,
    /// Few at a time, so a list is searched, narrow ranges before open ones. Empty for ever once closed.
    waiters: Mutex<Vec<Waiter>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("closed", &self.closing.borrow()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        events: broadcast::Sender<Event>,
        closing: watch::Sender<Option<Arc<str>>>,
    ) -> Self {
        Self { events, closing, waiters: Mutex::default() }
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Waiter>> {
        // A panic elsewhere cannot leave the list half changed.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replies to `count` transaction ids from `first` on.
    pub(super) fn expect(self: &Arc<Self>, first: u32, count: u32) -> Pending {
        self.register(first, Some(count))
    }

    /// Replies to every transaction id from `first` on that nobody else waits for.
    pub(super) fn expect_from(self: &Arc<Self>, first: u32) -> Pending {
        self.register(first, None)
    }

    fn register(self: &Arc<Self>, first: u32, count: Option<u32>) -> Pending {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut waiters = self.waiters();
        // Once closed nobody will answer: dropping the sender says so at once.
        if self.closing.borrow().is_none() {
            let waiter = Waiter { first, count, sender };
            if count.is_some() { waiters.insert(0, waiter) } else { waiters.push(waiter) }
        }
        Pending { receiver, shared: self.clone() }
    }

    pub(super) fn closed_error(&self) -> ConnectionError {
        ConnectionError::Closed(
            self.closing.borrow().clone().unwrap_or_else(|| "it is closing".into()),
        )
    }

    /// Ends the connection for everyone; the first reason stays.
    fn close(&self, why: &str) {
        let mut waiters = self.waiters();
        self.closing.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| why.into());
            first
        });
        waiters.clear();
    }

    fn is_awaited(&self, xid: u32) -> bool {
        self.waiters().iter().any(|w| w.wants(xid))
    }

    fn deliver(&self, xid: u32, message: Incoming) {
        let mut waiters = self.waiters();
        waiters.retain(|w| !w.sender.is_closed());
        match waiters.iter().find(|w| w.wants(xid)) {
            // The receiver may have gone just now, which is the same as not having been there.
            Some(waiter) => drop(waiter.sender.send((xid, message))),
            None => match message {
                Incoming::Error(error) => {
                    warn!(xid, %error, "nobody waits for this error of the switch")
                }
                other => debug!(xid, ?other, "nobody waits for this message of the switch"),
            },
        }
    }
}

/// Replies on their way. Dropping it stops the waiting.
#[derive(Debug)]
pub(super) struct Pending {
    receiver: mpsc::UnboundedReceiver<(u32, Incoming)>,
    shared: Arc<Shared>,
}

impl Pending {
    pub(super) async fn next(&mut self) -> Option<(u32, Incoming)> {
        self.receiver.recv().await
    }

    pub(super) fn try_next(&mut self) -> Option<Incoming> {
        self.receiver.try_recv().ok().map(|(_, message)| message)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.receiver.close();
        self.shared.waiters().retain(|w| !w.sender.is_closed());
    }
}

/// Says hello and waits for the peer's; an error is a sentence.
pub(super) async fn negotiate(socket: &mut UnixStream) -> Result<(), String> {
    socket.write_all(&wire::hello(0)).await.map_err(|e| e.to_string())?;
    let mut head = [0; HEADER_LEN];
    socket.read_exact(&mut head).await.map_err(|e| e.to_string())?;
    let header = Header::decode(&head).map_err(|e| e.to_string())?;
    let mut body = vec![0; header.len - HEADER_LEN];
    socket.read_exact(&mut body).await.map_err(|e| e.to_string())?;
    match Incoming::decode(&header, &Bytes::from(body)).map_err(|e| e.to_string())? {
        Incoming::Hello { speaks_1_4: true, .. } => Ok(()),
        Incoming::Hello { version, .. } => Err(format!(
            "it offers version {version:#04x}; the bridge's `protocols` must allow OpenFlow14"
        )),
        Incoming::Error(error) => Err(error.to_string()),
        _ => Err("it did not begin with hello".into()),
    }
}

/// Writes what is queued until the connection is dropped or fails.
pub(super) async fn write(
    mut socket: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) {
    let mut closing = shared.closing.subscribe();
    loop {
        let bytes = tokio::select! {
            bytes = queue.recv() => bytes,
            _ = closing.wait_for(Option::is_some) => break,
        };
        let Some(bytes) = bytes else {
            shared.close("closed by this side");
            break;
        };
        tokio::select! {
            result = socket.write_all(&bytes) => if let Err(e) = result {
                shared.close(&format!("writing to the switch failed: {e}"));
                break;
            },
            _ = closing.wait_for(Option::is_some) => break,
        }
    }
}

/// Reads until the connection ends.
pub(super) async fn read(
    mut socket: OwnedReadHalf,
    outgoing: mpsc::WeakSender<Vec<u8>>,
    shared: Arc<Shared>,
    echo_interval: Duration,
) {
    let mut closing = shared.closing.subscribe();
    let why = tokio::select! {
        why = read_messages(&mut socket, &outgoing, &shared, echo_interval) => why,
        _ = closing.wait_for(Option::is_some) => return,
    };
    shared.close(&why);
}

async fn read_messages(
    socket: &mut OwnedReadHalf,
    outgoing: &mpsc::WeakSender<Vec<u8>>,
    shared: &Shared,
    echo_interval: Duration,
) -> String {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut silences = 0;
    loop {
        match timeout(echo_interval, socket.read_buf(&mut buffer)).await {
            Ok(Ok(0)) if buffer.is_empty() => return "the switch closed the connection".into(),
            Ok(Ok(0)) => {
                return "the switch closed the connection in the middle of a message".into();
            }
            Ok(Ok(_)) => silences = 0,
            Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
            Ok(Err(e)) => return format!("reading from the switch failed: {e}"),
            Err(_) => {
                silences += 1;
                if silences >= SILENCES {
                    return format!(
                        "the switch has been silent for {:?}",
                        echo_interval * silences
                    );
                }
                if let Some(outgoing) = outgoing.upgrade() {
                    // A full queue is unread by the switch: its silence is counted all the same.
                    let _ = outgoing.try_send(wire::echo_request(0));
                }
            }
        }
        while let Some(head) = buffer.first_chunk::<HEADER_LEN>() {
            let header = match Header::decode(head) {
                Ok(header) => header,
                Err(e) => return format!("the switch sent nonsense: {e}"),
            };
            if buffer.len() < header.len {
                buffer.reserve(header.len - buffer.len());
                break;
            }
            let body = buffer.split_to(header.len).freeze().slice(HEADER_LEN..);
            match Incoming::decode(&header, &body) {
                Ok(message) => dispatch(header.xid, message, outgoing, shared),
                // A request that waits for this very message would wait for ever.
                Err(e) if shared.is_awaited(header.xid) => {
                    return format!(
                        "message type {} from the switch cannot be read: {e}",
                        header.kind
                    );
                }
                // The framing holds, so what follows can be read.
                Err(e) => {
                    warn!(kind = header.kind, error = %e, "a message of the switch cannot be read")
                }
            }
        }
    }
}

fn dispatch(xid: u32, message: Incoming, outgoing: &mpsc::WeakSender<Vec<u8>>, shared: &Shared) {
    match message {
        Incoming::EchoRequest(data) => {
            if let Some(outgoing) = outgoing.upgrade()
                && outgoing.try_send(wire::echo_reply(xid, &data)).is_err()
            {
                debug!("no room to answer an echo request");
            }
        }
        Incoming::EchoReply | Incoming::Hello { .. } => {}
        // Without a subscriber an event is nobody's.
        Incoming::PacketIn(packet) => drop(shared.events.send(Event::PacketIn(packet))),
        Incoming::PortStatus(change) => drop(shared.events.send(Event::Port(change))),
        message => shared.deliver(xid, message),
    }
}
