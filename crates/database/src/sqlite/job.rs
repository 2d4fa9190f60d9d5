//! Work waiting for its transaction, with the way back to its caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use planted_bugs::planted;
use tokio::sync::oneshot;

use crate::work::Work;
use crate::{DatabaseError, Origin, Tx};

/// What the executor sees of a caller.
pub(crate) struct Job {
    work: Arc<dyn Work>,
    origin: Origin,
    read_only: bool,
    /// How the work went wrong by itself, without an answer.
    broken: Option<DatabaseError>,
    answer: oneshot::Sender<Result<(), DatabaseError>>,
}

/// Wraps work. What comes on the receiver is `Ok` when the answer that the work keeps is the one.
pub(crate) fn make_job(
    work: Arc<dyn Work>,
    origin: Origin,
    read_only: bool,
) -> (Job, oneshot::Receiver<Result<(), DatabaseError>>) {
    let (answer, receiver) = oneshot::channel();
    (Job { work, origin, read_only, broken: None, answer }, receiver)
}

impl Job {
    /// Whether it asked for a snapshot only.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// On whose behalf it runs.
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Runs the work. `Ok` when its changes are to be kept; the answer waits for [`Job::finish`].
    pub fn run(&mut self, tx: &mut Tx) -> Result<(), ()> {
        // The transaction of a closure that panicked is rolled back; nothing of it is used again.
        let twice =
            planted("commit_twice") && !self.read_only && tx.random_u64().is_multiple_of(16);
        let ran = catch_unwind(AssertUnwindSafe(|| match poll_once(self.work.run(tx)) {
            Some(true) if twice => poll_once(self.work.run(tx)),
            ran => ran,
        }));
        let broken = match ran {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => return Err(()),
            Ok(None) => {
                "a transaction's closure waited for something other than its own statements; it \
                 must not sleep, call out, or take an asynchronous lock"
            }
            Err(_) => "a transaction's closure panicked",
        };
        self.broken = Some(DatabaseError::Misuse(broken.to_owned()));
        Err(())
    }

    /// Says that the work's own answer holds, or what stands in its place.
    pub fn finish(self, outcome: Result<(), DatabaseError>) {
        let outcome = match (outcome, self.broken) {
            (Ok(()), Some(broken)) => Err(broken),
            (outcome, _) => outcome,
        };
        // The caller may have gone away; what was stored stays stored.
        let _ = self.answer.send(outcome);
    }
}

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
