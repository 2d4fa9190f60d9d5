//! A transaction from BEGIN to a known outcome.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{join_all, join3};

use super::classify::{classify, is_lost};
use super::listener;
use super::{Inner, PostgresSession};
use crate::shared::count;
use crate::tx::Session;
use crate::work::Work;
use crate::{DatabaseError, Origin, Tx};

/// Attempts at one transaction. With the pauses, some three seconds; objects that are locked
/// first collide seldom, so more would hide a mistake.
const ATTEMPTS: u32 = 10;
/// Attempts when a compare-and-swap lost: the closure may rest on what its caller read before,
/// and would lose for ever.
const STALE_ATTEMPTS: u32 = 3;
/// The first and the longest pause between attempts; a random part of it is taken.
const PAUSE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(500));
/// No further attempt is begun after this long: a request has not forever, and a server that does
/// not answer takes seconds for each.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// How long to ask what became of a commit before the answer is [`DatabaseError::Unknown`].
const RESOLVE_FOR: Duration = Duration::from_secs(15);

const MARK: &str = "INSERT INTO transaction_markers (id, kind) VALUES ($1, 'commit')";
const NOTIFY: &str = "SELECT pg_notify('meridian', $1)::text AS sent";

tokio::task_local! {
    static INSIDE: ();
}

/// Whether this task is running a transaction's closure.
pub(super) fn inside() -> bool {
    INSIDE.try_with(|()| ()).is_ok()
}

/// What became of one attempt.
enum Attempt {
    /// Stored.
    Stored,
    /// Not stored, and not worth another attempt.
    Refused(Reason),
    /// Not stored; somebody was in the way, or the connection was lost.
    Again { reason: Reason, stale: bool },
}

/// Who says why nothing was stored.
enum Reason {
    /// The work: its answer holds.
    Own,
    /// The database.
    Database(DatabaseError),
}

impl Reason {
    fn outcome(self) -> Result<(), DatabaseError> {
        match self {
            Reason::Own => Ok(()),
            Reason::Database(error) => Err(error),
        }
    }
}

/// `Ok` when the answer that the work keeps holds, good or bad.
pub(super) async fn run(
    inner: &Arc<Inner>,
    work: &dyn Work,
    origin: &Origin,
    read_only: bool,
) -> Result<(), DatabaseError> {
    let counters = &inner.shared.counters;
    let begun = tokio::time::Instant::now();
    let mut number = 1;
    loop {
        match attempt(inner, work, origin, read_only).await {
            Attempt::Stored => {
                if !read_only {
                    count(&counters.committed);
                    count(&counters.commits);
                }
                return Ok(());
            }
            Attempt::Again { stale, .. }
                if number < if stale { STALE_ATTEMPTS } else { ATTEMPTS }
                    && begun.elapsed() < RETRY_FOR =>
            {
                count(&counters.retried);
                tokio::time::sleep(pause(number, inner.shared.random_u64())).await;
                number += 1;
            }
            Attempt::Refused(reason) | Attempt::Again { reason, .. } => {
                count(&counters.failed);
                return reason.outcome();
            }
        }
    }
}

/// Up to `PAUSE.0 * 2^number`, at random.
fn pause(number: u32, random: u64) -> Duration {
    let limit = (PAUSE.0 * (1 << number.min(10))).min(PAUSE.1);
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % micros)
}

async fn attempt(inner: &Arc<Inner>, work: &dyn Work, origin: &Origin, read_only: bool) -> Attempt {
    let (mut session, permit) = match inner.acquire().await {
        Ok(got) => got,
        Err(error) => return again(error),
    };
    let begin = if read_only {
        // One snapshot for all statements.
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    } else {
        "BEGIN ISOLATION LEVEL READ COMMITTED"
    };
    session.begin(begin);
    let mut tx =
        Tx::new(Session::Postgres(session), inner.shared.clone(), origin.clone(), read_only);
    let keep = INSIDE.scope((), work.run(&mut tx)).await;
    let failure = tx.failure().cloned();
    let (collided, wrote) = (tx.collided(), tx.wrote());
    let notifications = std::mem::take(&mut tx.notifications);
    let Session::Postgres(mut session) = tx.into_session() else {
        return Attempt::Refused(Reason::Database(DatabaseError::Closed));
    };
    if !keep {
        // Without an answer the connection is dropped, and the server rolls back.
        if session.unbegin() || session.batch("ROLLBACK").await.is_ok() {
            inner.put_back(session);
        }
        return match failure {
            Some(DatabaseError::Conflict(_) | DatabaseError::Unreachable(_)) => {
                Attempt::Again { reason: Reason::Own, stale: false }
            }
            None if collided => Attempt::Again { reason: Reason::Own, stale: true },
            _ => Attempt::Refused(Reason::Own),
        };
    }
    if read_only {
        // The answer does not hang on the end of the transaction, so nobody waits for it; the
        // connection's place in the pool is free when it has come.
        let inner = inner.clone();
        tokio::spawn(async move {
            if session.unbegin() || session.batch("COMMIT").await.is_ok() {
                inner.put_back(session);
            }
            drop(permit);
        });
        return Attempt::Stored;
    }
    let stored = commit(inner, session, wrote, &notifications).await;
    drop(permit);
    match stored {
        Ok(()) => {
            for (channel, key) in notifications {
                inner.shared.notifier.send(channel, &key);
            }
            Attempt::Stored
        }
        Err(error) => again(error),
    }
}

/// Another attempt, if the error is one that passes.
fn again(error: DatabaseError) -> Attempt {
    let passes = matches!(error, DatabaseError::Conflict(_) | DatabaseError::Unreachable(_));
    let reason = Reason::Database(error);
    if passes { Attempt::Again { reason, stale: false } } else { Attempt::Refused(reason) }
}

/// Commits, and finds out what became of it. `Ok`: stored. [`DatabaseError::Unknown`]: not known.
/// Any other error: not stored.
async fn commit(
    inner: &Inner,
    mut session: PostgresSession,
    wrote: bool,
    notifications: &[(&'static str, String)],
) -> Result<(), DatabaseError> {
    if !wrote && notifications.is_empty() {
        // Nothing to store: what was read stays true whatever becomes of the connection.
        if session.unbegin() || session.batch("COMMIT").await.is_ok() {
            inner.put_back(session);
        }
        return Ok(());
    }
    let marker = uuid::Uuid::new_v4().to_string();
    session.begun().await?;
    let mark = session.statement(MARK).await?;
    let notify = session.statement(NOTIFY).await?;
    let payloads: Vec<String> = notifications
        .iter()
        .map(|(channel, key)| listener::payload(&inner.instance, channel, key))
        .collect();
    // Sent together, answered together: if the marker or a notification fails, the COMMIT that
    // follows it is a rollback.
    let client = session.client();
    let (marked, notified, committed) = join3(
        client.execute(&mark, &[&marker]),
        join_all(payloads.iter().map(|payload| {
            let notify = &notify;
            async move { client.execute(notify, &[payload]).await }
        })),
        // It waits for the synchronous standby for as long as it takes: the server ends the limit of
        // a statement before it commits.
        client.batch_execute("COMMIT"),
    )
    .await;
    match committed {
        Err(error) if is_lost(&error) => {
            tracing::warn!(%error, "a connection was lost during a commit; asking what became of it");
            resolve(inner, &marker).await
        }
        Err(error) => Err(classify(&error, "COMMIT")),
        Ok(()) => {
            inner.put_back(session);
            let failed = marked.err().or(notified.into_iter().find_map(Result::err));
            match failed {
                None => Ok(()),
                Some(error) => Err(classify(&error, "the end of a transaction")),
            }
        }
    }
}

/// Finds out whether the transaction with this marker was stored, and makes sure that it will not
/// be later: whoever inserts the marker first decides. The insert waits for a transaction that
/// has inserted it and is not at its end.
async fn resolve(inner: &Inner, marker: &str) -> Result<(), DatabaseError> {
    let asked = async {
        let mut number = 1;
        loop {
            match ask(inner, marker).await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    return Err(DatabaseError::Unreachable(
                        "the connection was lost before the commit".to_owned(),
                    ));
                }
                Err(error) => {
                    tracing::warn!(%error, "the database cannot be asked about a commit yet");
                    tokio::time::sleep(pause(number, u64::MAX / 2)).await;
                    number += 1;
                }
            }
        }
    };
    tokio::time::timeout(RESOLVE_FOR, asked).await.unwrap_or_else(|_| {
        Err(DatabaseError::Unknown(format!(
            "the connection was lost during the commit, and the database was not reached for {} \
             seconds since",
            RESOLVE_FOR.as_secs()
        )))
    })
}

async fn ask(inner: &Inner, marker: &str) -> Result<bool, DatabaseError> {
    // A connection of its own: those of the pool may all be waiting here.
    let session = inner.config.session().await?;
    let client = session.client();
    let failed = |error: tokio_postgres::Error| classify(&error, "transaction_markers");
    // A row that is there is written again: then this, too, waits until the standby has all that
    // came before, and does not take a transaction for stored that the standby may not have.
    let row = client
        .query_one(
            "INSERT INTO transaction_markers (id, kind) VALUES ($1, 'fence')
             ON CONFLICT (id) DO UPDATE SET kind = transaction_markers.kind RETURNING kind",
            &[&marker],
        )
        .await
        .map_err(failed)?;
    Ok(row.get::<_, &str>(0) == "commit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_below_their_limit() {
        assert!(pause(1, u64::MAX) < PAUSE.0 * 2);
        assert!(pause(30, u64::MAX) < PAUSE.1);
        assert_ne!(pause(8, 1), pause(8, 100_000));
    }
}
