//! The hosts that are connected to this process, and the questions under way to them. A host may
//! have several streams here, when one broke off without a word; the one of the newest session
//! counts, also where that is another process's.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloud_types::{Fault, HostId};
use host_protocol::{Frame, HostAnswer, HostQuery, Position};
use prometheus_client::metrics::gauge::Gauge;
use service_kit::Metrics;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How long a host has to answer a question. A user waits for it, so it is short.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Questions that may wait in one host's connection.
const QUERY_BACKLOG: usize = 64;

/// One open document stream.
pub struct Connection {
    number: u64,
    host: HostId,
    connections: Arc<Connections>,
    /// Woken when documents for the host were written.
    pub documents: Arc<Notify>,
    /// Questions to pass on.
    pub queries: mpsc::Receiver<Frame>,
    /// The host opened a later stream, or is gone.
    pub superseded: CancellationToken,
    /// Up to where the host has been told.
    told: Arc<AtomicU64>,
}

impl Connection {
    /// The stream has this session from now on.
    pub fn begin_session(&self, session: u64) {
        let mut open = lock(&self.connections.open);
        let own = open.get_mut(&self.host).into_iter().flatten();
        for entry in own.filter(|entry| entry.number == self.number) {
            entry.session = session;
        }
    }

    /// The host has been told everything up to here.
    pub fn has_told(&self, position: Position) {
        self.told.store(position, Ordering::Relaxed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.remove(self.host, self.number);
    }
}

struct Open {
    number: u64,
    /// 0 until it is known.
    session: u64,
    superseded: CancellationToken,
    told: Arc<AtomicU64>,
    documents: Arc<Notify>,
    queries: mpsc::Sender<Frame>,
}

struct Waiting {
    host: HostId,
    answer: oneshot::Sender<HostAnswer>,
}

/// All open streams of this process.
#[derive(Default)]
pub struct Connections {
    next: AtomicU64,
    open: Mutex<HashMap<HostId, Vec<Open>>>,
    /// How many hosts have a stream here, for the metrics page.
    connected: Gauge,
    waiting: Mutex<HashMap<String, Waiting>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are valid after any panic in between: no update is in two parts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Registers a stream of `host`; dropping the connection takes it out again.
    pub fn open(self: &Arc<Self>, host: HostId) -> Connection {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let documents = Arc::new(Notify::new());
        let (sender, queries) = mpsc::channel(QUERY_BACKLOG);
        let (superseded, told) = (CancellationToken::new(), Arc::<AtomicU64>::default());
        let mut open = lock(&self.open);
        open.entry(host).or_default().push(Open {
            number,
            session: 0,
            superseded: superseded.clone(),
            told: told.clone(),
            documents: documents.clone(),
            queries: sender,
        });
        self.count(&open);
        drop(open);
        Connection { number, host, connections: self.clone(), documents, queries, superseded, told }
    }

    /// Ends the streams that a host has given up: those before this session.
    pub fn supersede(&self, host: HostId, session: u64) {
        if let Some(list) = lock(&self.open).get(&host) {
            for entry in list.iter().filter(|entry| entry.session != 0 && entry.session < session) {
                entry.superseded.cancel();
            }
        }
    }

    /// The hosts that have a stream here, each with the session of its newest.
    pub fn sessions(&self) -> BTreeMap<HostId, u64> {
        let open = lock(&self.open);
        let newest = open.iter().map(|(host, list)| {
            (*host, list.iter().map(|entry| entry.session).max().unwrap_or_default())
        });
        newest.filter(|(_, session)| *session != 0).collect()
    }

    /// Wakes the streams of a host that have not told it everything up to `newest`: word of a
    /// change was lost.
    pub fn catch_up(&self, host: HostId, newest: Position) {
        if let Some(list) = lock(&self.open).get(&host) {
            for entry in list.iter().filter(|entry| entry.told.load(Ordering::Relaxed) < newest) {
                entry.documents.notify_one();
            }
        }
    }

    /// Whether the host has a stream here.
    pub fn has(&self, host: HostId) -> bool {
        lock(&self.open).contains_key(&host)
    }

    fn remove(&self, host: HostId, number: u64) {
        let mut open = lock(&self.open);
        if let Some(list) = open.get_mut(&host) {
            list.retain(|entry| entry.number != number);
            if list.is_empty() {
                open.remove(&host);
            }
        }
        self.count(&open);
    }

    fn count(&self, open: &HashMap<HostId, Vec<Open>>) {
        self.connected.set(i64::try_from(open.len()).unwrap_or(i64::MAX));
    }

    /// Puts the number of connected hosts on the metrics page.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            let help = "Hosts with an open stream to this process";
            registry.register("hosts_connected", help, self.connected.clone());
        });
    }

    /// Wakes the streams of one host.
    pub fn wake(&self, host: HostId) {
        if let Some(list) = lock(&self.open).get(&host) {
            for entry in list {
                entry.documents.notify_one();
            }
        }
    }

    /// Wakes every stream: notifications were lost.
    pub fn wake_all(&self) {
        for entry in lock(&self.open).values().flatten() {
            entry.documents.notify_one();
        }
    }

    /// Hosts with an open stream.
    pub fn connected(&self) -> usize {
        lock(&self.open).len()
    }

    /// Delivers an answer; false when nobody waits for it, or another host was asked.
    pub fn answer(&self, host: HostId, id: &str, answer: HostAnswer) -> bool {
        let mut waiting = lock(&self.waiting);
        match waiting.get(id) {
            Some(entry) if entry.host == host => {}
            _ => return false,
        }
        waiting.remove(id).is_some_and(|entry| entry.answer.send(answer).is_ok())
    }

    /// Asks a host that has a stream here.
    ///
    /// # Errors
    /// 503 when it has none, 504 when it does not answer in time.
    pub async fn ask_now(&self, host: HostId, query: HostQuery) -> Result<HostAnswer, Fault> {
        let newest = lock(&self.open)
            .get(&host)
            .and_then(|list| list.last())
            .map(|entry| entry.queries.clone())
            .ok_or_else(not_connected)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id.clone(), Waiting { host, answer: sender });
        let _forget = Forget { connections: self, id: &id };
        newest.try_send(Frame::Query { id: id.clone(), query }).map_err(|_| not_connected())?;
        match tokio::time::timeout(ANSWER_DEADLINE, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(not_connected()),
            Err(_) => Err(no_answer()),
        }
    }
}

/// The host cannot be asked.
pub fn not_connected() -> Fault {
    Fault::unavailable(
        "The host that runs this server is not connected to the control plane now; the server itself is not affected. Try again in a few seconds.",
    )
}

/// The host was asked, and says nothing.
pub fn no_answer() -> Fault {
    Fault::timeout(format!(
        "The host did not answer within {} seconds. Try again.",
        ANSWER_DEADLINE.as_secs()
    ))
}

/// Takes a question out again however the wait for it ends, a dropped request included.
struct Forget<'a> {
    connections: &'a Connections,
    id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.connections.waiting).remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> HostQuery {
        HostQuery::ConsoleLog { server_id: "s".into(), lines: None }
    }

    #[tokio::test]
    async fn a_question_is_answered_only_by_the_host_that_was_asked() {
        let connections = Arc::new(Connections::default());
        let (asked, other) = (HostId::random(), HostId::random());
        let mut stream = connections.open(asked);
        let asking = {
            let connections = connections.clone();
            tokio::spawn(async move { connections.ask_now(asked, console()).await })
        };
        let Some(Frame::Query { id, .. }) = stream.queries.recv().await else {
            panic!("the question did not arrive");
        };
        let output = |text: &str| HostAnswer::ConsoleLog { output: text.into() };
        assert!(!connections.answer(other, &id, output("forged")));
        assert!(connections.answer(asked, &id, output("real")));
        assert_eq!(asking.await.unwrap().unwrap(), output("real"));
        assert!(lock(&connections.waiting).is_empty());
    }

    #[tokio::test]
    async fn a_host_that_is_not_connected_is_said_to_be_so() {
        let connections = Arc::new(Connections::default());
        let host = HostId::random();
        drop(connections.open(host));
        assert_eq!(connections.connected(), 0);
        assert_eq!(connections.ask_now(host, console()).await.unwrap_err().status(), 503);
    }

    #[tokio::test]
    async fn a_later_stream_ends_those_before_it_and_no_other() {
        let connections = Arc::new(Connections::default());
        let host = HostId::random();
        let (first, second, other) =
            (connections.open(host), connections.open(host), connections.open(HostId::random()));
        for (stream, session) in [(&first, 1), (&second, 2), (&other, 1)] {
            stream.begin_session(session);
        }
        let unborn = connections.open(host);
        connections.supersede(host, 2);
        let ended = [&first, &second, &other, &unborn].map(|s| s.superseded.is_cancelled());
        assert_eq!(ended, [true, false, false, false]);
    }

    #[tokio::test]
    async fn only_a_stream_that_is_behind_is_woken_to_catch_up() {
        let connections = Arc::new(Connections::default());
        let host = HostId::random();
        let stream = connections.open(host);
        assert_eq!(connections.sessions(), BTreeMap::new(), "its session is not known yet");
        stream.begin_session(3);
        assert_eq!(connections.sessions(), BTreeMap::from([(host, 3)]));
        stream.has_told(7);
        connections.catch_up(host, 7);
        assert_eq!(futures::FutureExt::now_or_never(stream.documents.notified()), None);
        connections.catch_up(host, 8);
        assert_eq!(futures::FutureExt::now_or_never(stream.documents.notified()), Some(()));
    }
}
