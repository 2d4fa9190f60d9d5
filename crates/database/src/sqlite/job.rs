//! A closure waiting for its transaction, with the way back to its caller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{DatabaseError, Origin, Tx};

/// What the executor sees of a job.
pub(crate) trait Job: Send {
    /// Whether it asked for a snapshot only.
    fn read_only(&self) -> bool;
    /// On whose behalf it runs.
    fn origin(&self) -> Origin;
    /// Runs the closure. `Ok` when its changes are to be kept; its answer waits for
    /// [`Job::finish`].
    fn run(&mut self, tx: &mut Tx) -> Result<(), ()>;
    /// Gives the answer: the closure's own for `Ok`, the error otherwise.
    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>);
}

pub(crate) type BoxedJob = Box<dyn Job>;

struct Closure<T, E, F> {
    closure: F,
    origin: Origin,
    read_only: bool,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
}

/// Wraps a closure; the answer comes on the receiver.
pub(crate) fn make_job<T, E, F>(
    closure: F,
    origin: Origin,
    read_only: bool,
) -> (BoxedJob, oneshot::Receiver<Result<T, E>>)
where
    T: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
{
    let (answer, receiver) = oneshot::channel();
    let job = Closure { closure, origin, read_only, result: None, answer };
    (Box::new(job), receiver)
}

impl<T, E, F> Closure<T, E, F>
where
    T: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
{
    fn call(&self, tx: &mut Tx) -> Result<T, E> {
        let value = poll_once((self.closure)(tx)).unwrap_or_else(|| {
            Err(DatabaseError::Misuse(
                "a transaction's closure waited for something other than its own statements; it \
                 must not sleep, call out, or take an asynchronous lock"
                    .to_owned(),
            )
            .into())
        })?;
        poll_once(tx.finish_closure()).unwrap_or_else(|| {
            Err(DatabaseError::Misuse("the end of a transaction waited".to_owned()))
        })?;
        Ok(value)
    }
}

impl<T, E, F> Job for Closure<T, E, F>
where
    T: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
{
    fn read_only(&self) -> bool {
        self.read_only
    }

    fn origin(&self) -> Origin {
        self.origin.clone()
    }

    fn run(&mut self, tx: &mut Tx) -> Result<(), ()> {
        // The transaction of a closure that panicked is rolled back; nothing of it is used again.
        let result = catch_unwind(AssertUnwindSafe(|| self.call(tx))).unwrap_or_else(|_| {
            Err(DatabaseError::Misuse("a transaction's closure panicked".to_owned()).into())
        });
        let keep = if result.is_ok() { Ok(()) } else { Err(()) };
        self.result = Some(result);
        keep
    }

    fn finish(self: Box<Self>, outcome: Result<(), DatabaseError>) {
        let answer = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(DatabaseError::Closed.into()),
            (Err(error), _) => Err(error.into()),
        };
        // The caller may have gone away; what was stored stays stored.
        let _ = self.answer.send(answer);
    }
}

fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
