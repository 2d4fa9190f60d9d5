//! The threads of a database file: one that writes, a few that read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use super::executor::Executor;
use super::job::Job;
use super::session::SqliteSession;
use crate::shared::Shared;
use crate::tx::Session;
use crate::{DatabaseError, Tx};

/// The most closures that share one commit: bounds how long the first of them waits.
const BATCH: usize = 128;

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, DatabaseError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| DatabaseError::Unreachable(format!("no thread for {name}: {error}")))
}

/// Waits for a thread to end, unless it is the one that asks: a closure may hold the last handle
/// of a database, and be dropped on that database's own thread.
fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() {
        let _ = thread.join();
    }
}

/// The thread that writes.
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub fn start(mut executor: Executor) -> Result<Self, DatabaseError> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let thread = spawn("database-writer", move || {
            while let Ok(first) = jobs.recv() {
                let mut batch = vec![first];
                // Whoever came while the last batch was on its way to the disk shares this one.
                batch.extend(jobs.try_iter().take(BATCH - 1));
                executor.run(batch);
            }
            executor.close();
        })?;
        Ok(Writer { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    pub fn submit(&self, job: Job) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &*queue {
            None => job.finish(Err(DatabaseError::Closed)),
            Some(queue) => {
                if let Err(mpsc::SendError(job)) = queue.send(job) {
                    job.finish(Err(DatabaseError::Closed));
                }
            }
        }
    }

    /// Waits until everything that was queued is stored.
    pub fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            join(thread);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// The threads that read.
pub(super) struct Readers {
    queue: Arc<(Mutex<Queue>, Condvar)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub fn start(path: &Path, number: usize, shared: &Arc<Shared>) -> Result<Self, DatabaseError> {
        let queue = Arc::new((Mutex::new(Queue::default()), Condvar::new()));
        let mut threads = Vec::new();
        for _ in 0..number {
            let mut reader =
                Reader { path: path.to_owned(), session: None, shared: shared.clone() };
            let queue = queue.clone();
            threads.push(spawn("database-reader", move || {
                while let Some(job) = next(&queue) {
                    reader.run(job);
                }
            })?);
        }
        Ok(Readers { queue, threads: Mutex::new(threads) })
    }

    pub fn submit(&self, job: Job) {
        let (queue, wake) = &*self.queue;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed {
            drop(queue);
            job.finish(Err(DatabaseError::Closed));
            return;
        }
        queue.jobs.push_back(job);
        wake.notify_one();
    }

    /// Waits until everything that was queued is answered and the file is closed.
    pub fn close(&self) {
        let (queue, wake) = &*self.queue;
        queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        wake.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            join(thread);
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn next(queue: &(Mutex<Queue>, Condvar)) -> Option<Job> {
    let (queue, wake) = queue;
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(job) = queue.jobs.pop_front() {
            return Some(job);
        }
        if queue.closed {
            return None;
        }
        queue = wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

struct Reader {
    path: PathBuf,
    session: Option<SqliteSession>,
    shared: Arc<Shared>,
}

impl Reader {
    fn run(&mut self, mut job: Job) {
        let outcome = self.begin().and_then(|session| {
            let mut tx = Tx::new(Session::Sqlite(session), self.shared.clone(), job.origin(), true);
            super::executor::enter(|| {
                // The answer, good or bad, is the closure's own.
                let _ = job.run(&mut tx);
            });
            let Session::Sqlite(mut session) = tx.into_session() else {
                return Err(DatabaseError::Closed);
            };
            if session.control("ROLLBACK").is_ok() && !session.is_frozen() {
                self.session = Some(session);
            }
            Ok(())
        });
        job.finish(outcome);
    }

    fn begin(&mut self) -> Result<SqliteSession, DatabaseError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => SqliteSession::open_reader(&self.path)?,
        };
        session.control("BEGIN")?;
        Ok(session)
    }
}
