//! The threads that hash. They are few, they have a low priority, and what waits for them is
//! bounded: however many people log in at once, checking tokens gets a core when it wants one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that were started; they are when there is work for one more.
    threads: usize,
    /// Jobs being worked on.
    running: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    niceness: i32,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotDone {
    /// As many wait as may.
    Full,
    /// It panicked, or there is no thread for it.
    Failed,
}

/// Threads for slow work.
pub(super) struct Threads {
    shared: Arc<Shared>,
    workers: usize,
    queue: usize,
}

impl Threads {
    /// At most `workers` jobs at once, and `queue` more that wait. Without workers each caller does
    /// its own, and everything else on its thread waits: for simulations, which have one thread.
    pub fn new(workers: usize, queue: usize, niceness: i32) -> Self {
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), niceness };
        Threads { shared: Arc::new(shared), workers, queue }
    }

    /// What the job comes to. A caller that no longer waits when the job's turn comes costs
    /// nothing.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        if self.workers == 0 {
            return Ok(job());
        }
        let (send, receive) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !send.is_closed() {
                // The receiver may go while we work; then nobody wants to know.
                let _ = send.send(job());
            }
        });
        self.submit(job)?;
        receive.await.map_err(|_| NotDone::Failed)
    }

    fn submit(&self, job: Job) -> Result<(), NotDone> {
        let mut state = self.shared.lock();
        if state.running + state.jobs.len() >= self.workers + self.queue {
            return Err(NotDone::Full);
        }
        state.jobs.push_back(job);
        if state.threads < self.workers && state.running + state.jobs.len() > state.threads {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("password-{}", state.threads))
                .spawn(move || work(&shared));
            match thread {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.jobs.pop_back();
                    tracing::error!(%error, "no thread for hashing passwords");
                    return Err(NotDone::Failed);
                }
                Err(error) => tracing::warn!(%error, "fewer threads for hashing passwords"),
            }
        }
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

fn work(shared: &Shared) {
    lower_priority(shared.niceness);
    let mut state = shared.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            state.running += 1;
            drop(state);
            // A panic was logged by its hook; its caller sees the closed channel.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            state = shared.lock();
            state.running -= 1;
        } else if state.closed {
            return;
        } else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// On Linux a thread has a niceness of its own, and 0 names the calling one.
#[cfg(target_os = "linux")]
fn lower_priority(niceness: i32) {
    // SAFETY: the call takes three numbers and reads no memory of ours.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) } != 0 {
        tracing::warn!(
            error = %std::io::Error::last_os_error(),
            "threads that hash passwords run at ordinary priority"
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority(_niceness: i32) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn beyond_the_queue_work_is_refused_and_what_was_taken_is_done() {
        let threads = Threads::new(1, 1, 0);
        let (open, gate) = mpsc::channel::<()>();
        let first = threads.run(move || gate.recv().is_ok());
        let second = threads.run(|| 2);
        let third = async { (threads.run(|| 3).await, open.send(())) };
        let (first, second, third) = tokio::join!(first, second, third);
        assert_eq!((first, second), (Ok(true), Ok(2)));
        assert_eq!(third, (Err(NotDone::Full), Ok(())));
        assert_eq!(threads.run(|| 4).await, Ok(4));
    }

    #[tokio::test]
    async fn a_job_that_panics_costs_no_thread() {
        let threads = Threads::new(1, 1, 0);
        let failed: Result<(), _> = threads.run(|| panic!("on purpose")).await;
        assert_eq!(failed, Err(NotDone::Failed));
        assert_eq!(threads.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done() {
        let threads = Threads::new(1, 2, 0);
        let (open, gate) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel::<()>();
        let first = threads.run(move || gate.recv().is_ok());
        let forgotten = Box::pin(threads.run(move || tell.send(()).is_ok()));
        let (first, ()) = tokio::join!(first, async {
            // Polled once, so that it is in the queue, and then dropped.
            let mut forgotten = forgotten;
            assert!(futures_poll_once(&mut forgotten).await);
            drop(forgotten);
            open.send(()).unwrap();
        });
        assert_eq!(first, Ok(true));
        assert_eq!(threads.run(|| 1).await, Ok(1));
        assert!(told.try_recv().is_err());
    }

    /// Polls once; true while it is pending.
    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_threads_have_the_priority_that_was_asked_for() {
        let niceness = || {
            // SAFETY: the call takes two numbers and reads no memory of ours.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        };
        let own = niceness();
        let wanted = (own + 3).min(19);
        assert_eq!(Threads::new(1, 1, wanted).run(niceness).await, Ok(wanted));
        assert_eq!(niceness(), own, "the thread that asks keeps its own");
    }
}
