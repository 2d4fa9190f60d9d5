//! A transaction's closure with its types hidden.
//!
//! Every caller hands in a closure of its own type. Were the way of a transaction generic over it,
//! the compiler would make the whole of that way, retries and all, anew for each of the hundreds
//! of callers. So it knows only [`Work`]: something that runs on a [`Tx`] and keeps its answer
//! until the one who knows its type takes it.

use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;

use crate::{DatabaseError, Tx};

/// What is run in a transaction, perhaps several times; the answer of the last run waits inside.
pub(crate) trait Work: Send + Sync {
    /// Runs the closure and what belongs to its end. Whether its changes are to be kept.
    fn run<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, bool>;
}

/// A closure and its answer.
pub(crate) struct Closure<T, E, F> {
    closure: F,
    answer: Mutex<Option<Result<T, E>>>,
}

impl<T, E, F> Closure<T, E, F>
where
    T: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
{
    pub fn new(closure: F) -> Self {
        Closure { closure, answer: Mutex::new(None) }
    }

    /// The answer of the last run.
    pub fn answer(&self) -> Result<T, E> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.unwrap_or_else(|| Err(DatabaseError::Closed.into()))
    }
}

impl<T, E, F> Work for Closure<T, E, F>
where
    T: Send + 'static,
    E: From<DatabaseError> + Send + 'static,
    F: for<'c> Fn(&'c mut Tx) -> BoxFuture<'c, Result<T, E>> + Send + Sync + 'static,
{
    fn run<'c>(&'c self, tx: &'c mut Tx) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            let result = match (self.closure)(tx).await {
                Ok(value) => tx.finish_closure().await.map(|()| value).map_err(E::from),
                refused => refused,
            };
            let keep = result.is_ok();
            *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            keep
        })
    }
}
