//! The two tasks that own a connection's socket, and what they share with its callers.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::client::Options;
use crate::error::OvsdbError;
use crate::framing::Frames;
use crate::monitor::{TableUpdates, table_updates};

/// Silences in a row after which the server is believed to be gone.
const SILENCES: u32 = 3;

type Answer = Result<Value, OvsdbError>;

#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    monitors: HashMap<u64, mpsc::UnboundedSender<TableUpdates>>,
}

/// What the tasks share with callers.
pub(crate) struct Shared {
    waiting: Mutex<Waiting>,
    closing: watch::Sender<Option<Arc<str>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("closed", &self.closing.borrow()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(closing: watch::Sender<Option<Arc<str>>>) -> Self {
        Self { waiting: Mutex::default(), closing }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere cannot leave the maps half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request. Dropping it stops the waiting at the next answer.
    pub(crate) fn expect(&self, id: u64) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        waiting.answers.retain(|_, sender| !sender.is_closed());
        // Once closed nobody will answer: dropping the sender says so at once.
        if self.closing.borrow().is_none() {
            waiting.answers.insert(id, sender);
        }
        receiver
    }

    /// The updates of a monitor.
    pub(crate) fn follow(&self, id: u64) -> mpsc::UnboundedReceiver<TableUpdates> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut waiting = self.waiting();
        waiting.monitors.retain(|_, sender| !sender.is_closed());
        if self.closing.borrow().is_none() {
            waiting.monitors.insert(id, sender);
        }
        receiver
    }

    pub(crate) fn closed_error(&self) -> OvsdbError {
        OvsdbError::Closed(self.closing.borrow().clone().unwrap_or_else(|| "it is closing".into()))
    }

    /// Ends the connection for everyone; the first reason stays.
    fn close(&self, why: &str) {
        let mut waiting = self.waiting();
        self.closing.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert_with(|| why.into());
            first
        });
        *waiting = Waiting::default();
    }
}

/// A message of either kind (RFC 7047 section 4).
#[derive(Deserialize)]
struct Incoming {
    #[serde(default)]
    id: Value,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

/// Writes what is queued until the connection is dropped or fails.
pub(crate) async fn write(
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
                shared.close(&format!("writing to the server failed: {e}"));
                break;
            },
            _ = closing.wait_for(Option::is_some) => break,
        }
    }
}

/// Reads until the connection ends.
pub(crate) async fn read(
    mut socket: OwnedReadHalf,
    outgoing: mpsc::WeakSender<Vec<u8>>,
    shared: Arc<Shared>,
    options: Options,
) {
    let mut closing = shared.closing.subscribe();
    let why = tokio::select! {
        why = read_messages(&mut socket, &outgoing, &shared, &options) => why,
        _ = closing.wait_for(Option::is_some) => return,
    };
    shared.close(&why);
}

async fn read_messages(
    socket: &mut OwnedReadHalf,
    outgoing: &mpsc::WeakSender<Vec<u8>>,
    shared: &Shared,
    options: &Options,
) -> String {
    let mut frames = Frames::new(options.max_message);
    let mut silences = 0;
    loop {
        frames.buffer().reserve(16 * 1024);
        match timeout(options.echo_interval, socket.read_buf(frames.buffer())).await {
            Ok(Ok(0)) if frames.is_between_messages() => {
                return "the server closed the connection".into();
            }
            Ok(Ok(0)) => {
                return "the server closed the connection in the middle of a message".into();
            }
            Ok(Ok(_)) => silences = 0,
            Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
            Ok(Err(e)) => return format!("reading from the server failed: {e}"),
            Err(_) => {
                silences += 1;
                if silences >= SILENCES {
                    return format!(
                        "the server has been silent for {:?}",
                        options.echo_interval * silences
                    );
                }
                send(outgoing, &json!({"method": "echo", "params": [], "id": "echo"}));
            }
        }
        loop {
            let frame = match frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(why) => return format!("the server sent nonsense: {why}"),
            };
            match serde_json::from_slice::<Incoming>(&frame) {
                Ok(message) => {
                    if let Err(e) = dispatch(message, outgoing, shared) {
                        return e.to_string();
                    }
                }
                Err(e) => return format!("the server sent nonsense: {e}"),
            }
        }
    }
}

fn send(outgoing: &mpsc::WeakSender<Vec<u8>>, message: &Value) {
    if let Some(outgoing) = outgoing.upgrade()
        && outgoing.try_send(message.to_string().into_bytes()).is_err()
    {
        // Its silence, or ours in its eyes, ends the connection in the end.
        debug!("no room for an echo");
    }
}

fn dispatch(
    message: Incoming,
    outgoing: &mpsc::WeakSender<Vec<u8>>,
    shared: &Shared,
) -> Result<(), OvsdbError> {
    match message.method.as_deref() {
        Some("echo") => {
            send(outgoing, &json!({"result": message.params, "error": null, "id": message.id}))
        }
        Some("update") => {
            let [id, updates] = message.params.as_array().map(Vec::as_slice).unwrap_or_default()
            else {
                return Err(OvsdbError::Protocol("an update without monitor and tables".into()));
            };
            // A lost update would leave a replica wrong for ever, so a bad one ends the connection.
            let updates = table_updates(updates)?;
            if let Some(monitor) =
                id.as_u64().and_then(|id| shared.waiting().monitors.get(&id).cloned())
            {
                // Nobody listens any more: as if not followed.
                let _ = monitor.send(updates);
            }
        }
        Some(method) => debug!(method, "a notification that was not asked for"),
        None => {
            let Some(id) = message.id.as_u64() else { return Ok(()) };
            let Some(answer) = shared.waiting().answers.remove(&id) else {
                warn!(id, "an answer to no request");
                return Ok(());
            };
            let result = if message.error.is_null() {
                Ok(message.result)
            } else {
                Err(OvsdbError::Rpc(message.error.to_string()))
            };
            // The caller may have given up.
            let _ = answer.send(result);
        }
    }
    Ok(())
}
