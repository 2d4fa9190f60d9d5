//! A client of the QEMU Machine Protocol: one JSON object a line, commands answered by id, events
//! in between.
//!
//! ```text
//!   connect ─► greeting ─► qmp_capabilities ─► ready ─► execute … / events … ─► closed
//! ```
//! Losing the connection says nothing about the guest: [`Qmp`] then fails every command with
//! [`QmpError::Closed`], the event channel ends, and the owner connects again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// How long a command may take. QEMU answers from its main loop within milliseconds; one that
/// does not is stuck on storage.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest line that is taken; QEMU's longest answers are schemas of about a megabyte.
const MAX_LINE_BYTES: u64 = 8 << 20;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QmpError {
    /// QEMU refused it.
    #[error("QEMU refused {command}: {message} ({class})")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class.
        class: String,
        /// QEMU's sentence.
        message: String,
    },
    /// No answer in time.
    #[error("QEMU did not answer {command} within {seconds} seconds")]
    Timeout {
        /// The command.
        command: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection is gone.
    #[error("the connection to QEMU's monitor is closed")]
    Closed,
    /// The other side does not speak QMP.
    #[error("not the QEMU Machine Protocol: {0}")]
    Protocol(String),
}

/// Something that QEMU says by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct QmpEvent {
    /// `SHUTDOWN`, `STOP`, `RESUME`, …
    pub name: String,
    /// What it carries.
    pub data: Value,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<ErrorBody>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    id: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorBody {
    class: String,
    desc: String,
}

type Answer = Result<Value, ErrorBody>;

#[derive(Default)]
struct Waiting {
    closed: bool,
    answers: HashMap<u64, oneshot::Sender<Answer>>,
}

/// A connection that is ready for commands. Cheap to clone; the last clone closes it.
#[derive(Clone)]
pub struct Qmp {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    waiting: Arc<Mutex<Waiting>>,
    next_id: Arc<AtomicU64>,
    version: Arc<str>,
    // Ends the reader with the last clone.
    _reader: Arc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Qmp {
    /// Takes a connected socket through greeting and capabilities. The stream of events begins
    /// with the first one after that.
    pub async fn open(
        stream: UnixStream,
        within: Duration,
    ) -> Result<(Qmp, mpsc::UnboundedReceiver<QmpEvent>), QmpError> {
        let (read, write) = stream.into_split();
        let mut reader = BufReader::new(read);
        let greeting = tokio::time::timeout(within, read_line(&mut reader))
            .await
            .map_err(|_| QmpError::Timeout {
                command: "greeting".to_owned(),
                seconds: within.as_secs(),
            })??
            .ok_or(QmpError::Closed)?;
        let greeting = greeting
            .greeting
            .ok_or_else(|| QmpError::Protocol("no greeting came first".to_owned()))?;
        let number = |part: &str| greeting["version"]["qemu"][part].as_u64().unwrap_or(0);
        let version = format!("{}.{}.{}", number("major"), number("minor"), number("micro"));
        let (events, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let task = tokio::spawn(read_all(reader, Arc::clone(&waiting), events));
        let qmp = Qmp {
            writer: Arc::new(tokio::sync::Mutex::new(write)),
            waiting,
            next_id: Arc::new(AtomicU64::new(1)),
            version: version.into(),
            _reader: Arc::new(AbortOnDrop(task.abort_handle())),
        };
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok((qmp, receiver))
    }

    /// QEMU's version, `7.2.22`, from the greeting.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sends a command and waits for its answer. `arguments` may be null.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            message["arguments"] = arguments;
        }
        let mut line = message.to_string();
        line.push('\n');
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.closed {
                return Err(QmpError::Closed);
            }
            waiting.answers.insert(id, sender);
        }
        let exchange = async {
            let mut writer = self.writer.lock().await;
            writer.write_all(line.as_bytes()).await.map_err(|_| QmpError::Closed)?;
            drop(writer);
            answer.await.map_err(|_| QmpError::Closed)
        };
        let outcome = tokio::time::timeout(COMMAND_TIMEOUT, exchange).await;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).answers.remove(&id);
        match outcome {
            Err(_) => Err(QmpError::Timeout {
                command: command.to_owned(),
                seconds: COMMAND_TIMEOUT.as_secs(),
            }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(body))) => Err(QmpError::Refused {
                command: command.to_owned(),
                class: body.class,
                message: body.desc,
            }),
        }
    }
}

async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Line>, QmpError> {
    let mut bytes = Vec::new();
    let read = reader
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut bytes)
        .await
        .map_err(|_| QmpError::Closed)?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') {
        return Err(QmpError::Protocol("a line that is too long or cut off".to_owned()));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| QmpError::Protocol(error.to_string()))
}

async fn read_all(
    mut reader: BufReader<OwnedReadHalf>,
    waiting: Arc<Mutex<Waiting>>,
    events: mpsc::UnboundedSender<QmpEvent>,
) {
    /// Fails whoever waits, also when the task is aborted.
    struct CloseOnDrop(Arc<Mutex<Waiting>>);
    impl Drop for CloseOnDrop {
        fn drop(&mut self) {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.closed = true;
            waiting.answers.clear();
        }
    }
    let close = CloseOnDrop(waiting);
    loop {
        let line = match read_line(&mut reader).await {
            Ok(Some(line)) => line,
            Ok(None) | Err(QmpError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "closing the connection to a QEMU monitor");
                return;
            }
        };
        if let Some(name) = line.event {
            // Nobody listening is fine: the connection may be used for commands only.
            let _ = events.send(QmpEvent { name, data: line.data });
        } else if let Some(id) = line.id {
            let sender = close.0.lock().unwrap_or_else(PoisonError::into_inner).answers.remove(&id);
            if let Some(sender) = sender {
                let answer = match line.error {
                    Some(body) => Err(body),
                    None => Ok(line.result.unwrap_or(Value::Null)),
                };
                let _ = sender.send(answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}"#;

    /// Plays QEMU: answers each line that comes with the next of `answers`.
    fn play(stream: UnixStream, answers: Vec<&'static str>) -> tokio::task::JoinHandle<Vec<Value>> {
        tokio::spawn(async move {
            let (read, mut write) = stream.into_split();
            write.write_all(format!("{GREETING}\n").as_bytes()).await.unwrap();
            let mut lines = BufReader::new(read).lines();
            let mut heard = Vec::new();
            for answer in answers {
                let Some(line) = lines.next_line().await.unwrap() else {
                    break;
                };
                heard.push(serde_json::from_str(&line).unwrap());
                write.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
            heard
        })
    }

    #[tokio::test]
    async fn commands_and_events_find_their_way() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = play(
            theirs,
            vec![
                r#"{"return": {}, "id": 1}"#,
                "{\"event\": \"STOP\", \"data\": {}}\n{\"return\": {\"status\": \"paused\"}, \"id\": 2}",
                r#"{"error": {"class": "GenericError", "desc": "no such disk"}, "id": 3}"#,
            ],
        );
        let (qmp, mut events) = Qmp::open(ours, Duration::from_secs(5)).await.unwrap();
        assert_eq!(qmp.version(), "7.2.22");
        let status = qmp.execute("query-status", Value::Null).await.unwrap();
        assert_eq!(status["status"], "paused");
        assert_eq!(events.recv().await.unwrap().name, "STOP");
        let error = qmp.execute("device_del", json!({ "id": "x" })).await.unwrap_err();
        assert!(error.to_string().contains("no such disk"), "{error}");
        let heard = peer.await.unwrap();
        assert_eq!(heard[2]["arguments"]["id"], "x");
    }

    #[tokio::test]
    async fn a_lost_connection_fails_whoever_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = play(theirs, vec![r#"{"return": {}, "id": 1}"#]);
        let (qmp, mut events) = Qmp::open(ours, Duration::from_secs(5)).await.unwrap();
        peer.await.unwrap();
        assert_eq!(qmp.execute("query-status", Value::Null).await, Err(QmpError::Closed));
        assert!(events.recv().await.is_none());
    }

    #[tokio::test]
    async fn silence_instead_of_a_greeting_ends() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let result = Qmp::open(ours, Duration::from_millis(20)).await;
        assert!(matches!(result, Err(QmpError::Timeout { .. })));
    }
}
