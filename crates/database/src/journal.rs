//! The journal: what every transaction changed, in an order that a consumer can follow.
//!
//! Sequence numbers are taken when an entry is written and become visible when its transaction
//! commits, which on PostgreSQL is another order: a consumer that remembered the highest sequence
//! it saw would skip whoever took a lower one and committed later. So the order is (era,
//! transaction id, sequence), and a consumer reads only what is below the oldest transaction
//! still under way: nothing can appear there any more.
//!
//! ```text
//!   transaction ids   … 97 98 99 | 100 101 102 …
//!                     all ended  | 100 is under way: 101, though committed, waits
//! ```

use std::time::Duration;

use cloud_types::{ProjectId, Timestamp, UserId};

use crate::{Backend, Database, DatabaseError, JournalEntry, Origin, Row, Tx, params};

/// The channel that is notified when a transaction with journal entries commits.
pub const CHANNEL: &str = "journal";

/// A consumer looks again after this long when something may have been held back by a transaction
/// under way, whose end nobody announces.
const HELD_BACK: Duration = Duration::from_millis(20);
/// A consumer looks again after this long in any case, should a notification be lost.
const IDLE: Duration = Duration::from_secs(10);

/// A place in the journal's order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalPosition {
    /// Which lineage of the database.
    pub era: i64,
    /// The transaction.
    pub transaction_id: i64,
    /// The entry's number within the journal.
    pub sequence: i64,
}

/// One entry as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalRecord {
    /// Where it stands.
    pub position: JournalPosition,
    /// The transaction's time.
    pub time: Timestamp,
    /// The request or worker that did it.
    pub request_id: String,
    /// The user who asked, if one did.
    pub actor: Option<UserId>,
    /// The project that owns the object, or else the one that the user acted for.
    pub project: Option<ProjectId>,
    /// The kind of object.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// What was done to it.
    pub action: String,
    /// The object before.
    pub before: Option<serde_json::Value>,
    /// The object after.
    pub after: Option<serde_json::Value>,
}

impl JournalRecord {
    fn read(row: &Row) -> Result<Self, DatabaseError> {
        Ok(JournalRecord {
            position: JournalPosition {
                era: row.int("era")?,
                transaction_id: row.int("transaction_id")?,
                sequence: row.int("sequence")?,
            },
            time: row.timestamp("time")?,
            request_id: row.text("request_id")?,
            actor: row.opt_parse("actor")?,
            project: row.opt_parse("project")?,
            kind: row.text("kind")?,
            id: row.text("object_id")?,
            action: row.text("action")?,
            before: row.opt_json("before_json")?,
            after: row.opt_json("after_json")?,
        })
    }
}

pub(crate) async fn append(tx: &mut Tx, entries: &[JournalEntry]) -> Result<(), DatabaseError> {
    // The era is read, not remembered, so that no process writes under an old one.
    let transaction = match tx.backend() {
        Backend::Sqlite => {
            tx.query_one(
                "UPDATE database_lineage SET last_transaction = last_transaction + 1
                 WHERE only_row = 1 RETURNING last_transaction AS transaction_id, era",
                &[],
            )
            .await?
        }
        Backend::Postgres => {
            tx.query_one(
                "SELECT pg_current_xact_id()::text::bigint AS transaction_id, era
                 FROM database_lineage WHERE only_row = 1",
                &[],
            )
            .await?
        }
    };
    let (transaction_id, era) = (transaction.int("transaction_id")?, transaction.int("era")?);
    let Origin { request_id, actor, project: acting } = tx.origin().clone();
    let time = tx.now();
    for entry in entries {
        tx.execute(
            "INSERT INTO journal (era, transaction_id, time, request_id, actor, project, kind,
                 object_id, action, before_json, after_json)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &params![
                era,
                transaction_id,
                time,
                request_id,
                actor,
                entry.project.as_ref().or(acting.as_ref()),
                entry.kind,
                entry.id,
                entry.action,
                entry.before,
                entry.after,
            ],
        )
        .await?;
    }
    Ok(())
}

const ON_SQLITE: &str = "SELECT era, transaction_id, sequence, time, request_id, actor, project,
        kind, object_id, action, before_json, after_json
     FROM journal
     WHERE (era, transaction_id, sequence) > ($1, $2, $3)
     ORDER BY era, transaction_id, sequence LIMIT $4";

const ON_POSTGRES: &str = "SELECT era, transaction_id, sequence, time, request_id, actor, project,
        kind, object_id, action, before_json, after_json
     FROM journal
     WHERE (era, transaction_id, sequence) > ($1, $2, $3)
       AND (transaction_id < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
            OR era < (SELECT era FROM database_lineage WHERE only_row = 1))
     ORDER BY era, transaction_id, sequence LIMIT $4";

/// Entries after `position`, in order, at most `limit`. Never skips one that is not visible yet.
pub async fn after(
    tx: &mut Tx,
    position: JournalPosition,
    limit: u32,
) -> Result<Vec<JournalRecord>, DatabaseError> {
    let sql = match tx.backend() {
        Backend::Sqlite => ON_SQLITE,
        Backend::Postgres => ON_POSTGRES,
    };
    let rows = tx
        .query(sql, &params![position.era, position.transaction_id, position.sequence, limit])
        .await?;
    rows.iter().map(JournalRecord::read).collect()
}

/// Deletes entries from before `time`, oldest first, at most `limit`; never one that a consumer
/// has still to read. Returns how many. Whoever keeps the journal for longer exports it first.
pub async fn trim(tx: &mut Tx, time: Timestamp, limit: u32) -> Result<u64, DatabaseError> {
    tx.execute(
        "DELETE FROM journal WHERE sequence IN (
             SELECT sequence FROM journal j
             WHERE j.time < $1 AND NOT EXISTS (
                 SELECT 1 FROM journal_consumers c
                 WHERE (c.era, c.transaction_id, c.sequence)
                     < (j.era, j.transaction_id, j.sequence))
             ORDER BY j.era, j.transaction_id, j.sequence LIMIT $2)",
        &params![time, limit],
    )
    .await
}

/// How far a consumer is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalLag {
    /// Entries not consumed yet, counted up to 10,000.
    pub entries: u64,
    /// Age of the oldest of them.
    pub age: Duration,
}

/// A reader of the journal with a position of its own, kept in the database under its name.
#[derive(Clone)]
pub struct Consumer {
    database: Database,
    name: String,
}

impl Consumer {
    pub(crate) fn new(database: Database, name: &str) -> Self {
        Consumer { database, name: name.to_owned() }
    }

    /// The entries after the stored position, at most `limit`. Asked again before
    /// [`Consumer::commit`], the answer is the same again.
    pub async fn next(&self, limit: u32) -> Result<Vec<JournalRecord>, DatabaseError> {
        let name = self.name.clone();
        self.database
            .read(move |tx| {
                let name = name.clone();
                Box::pin(async move {
                    let position = stored_position(tx, &name).await?;
                    after(tx, position, limit).await
                })
            })
            .await
    }

    /// Waits until there is something after the stored position, and returns it.
    pub async fn follow(&self, limit: u32) -> Result<Vec<JournalRecord>, DatabaseError> {
        let mut changes = self.database.subscribe(CHANNEL);
        loop {
            let records = self.next(limit).await?;
            if !records.is_empty() {
                return Ok(records);
            }
            // Something committed may be held back by another transaction, whose end is not
            // announced; so the wait is short then.
            let wait = if self.lag().await?.entries > 0 { HELD_BACK } else { IDLE };
            let _ = tokio::time::timeout(wait, changes.recv()).await;
        }
    }

    /// Stores that everything up to and with `position` is done with. Never moves back.
    pub async fn commit(&self, position: JournalPosition) -> Result<(), DatabaseError> {
        let consumer = self.clone();
        self.database
            .transact(&Origin::system(&self.name), move |tx| {
                let consumer = consumer.clone();
                Box::pin(async move { consumer.commit_in(tx, position).await })
            })
            .await
    }

    /// [`Consumer::commit`] within a transaction of the consumer's own: what it does and its
    /// position are stored together, so nothing is done twice.
    pub async fn commit_in(
        &self,
        tx: &mut Tx,
        position: JournalPosition,
    ) -> Result<(), DatabaseError> {
        tx.execute(
            "INSERT INTO journal_consumers (name, era, transaction_id, sequence, updated_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (name) DO UPDATE SET era = excluded.era,
                 transaction_id = excluded.transaction_id, sequence = excluded.sequence,
                 updated_at = excluded.updated_at
             WHERE (journal_consumers.era, journal_consumers.transaction_id,
                    journal_consumers.sequence)
                 < (excluded.era, excluded.transaction_id, excluded.sequence)",
            &params![
                self.name,
                position.era,
                position.transaction_id,
                position.sequence,
                tx.now(),
            ],
        )
        .await?;
        Ok(())
    }

    /// How far this consumer is behind; an operator is told when it stays over a second.
    pub async fn lag(&self) -> Result<JournalLag, DatabaseError> {
        let name = self.name.clone();
        self.database
            .read(move |tx| {
                let name = name.clone();
                Box::pin(async move {
                    let position = stored_position(tx, &name).await?;
                    let row = tx
                        .query_one(
                            "SELECT COUNT(*) AS entries, MIN(time) AS oldest FROM (
                                 SELECT time FROM journal
                                 WHERE (era, transaction_id, sequence) > ($1, $2, $3)
                                 ORDER BY era, transaction_id, sequence LIMIT 10000) AS behind",
                            &params![position.era, position.transaction_id, position.sequence],
                        )
                        .await?;
                    Ok(JournalLag {
                        entries: row.u64("entries")?,
                        age: row
                            .opt_timestamp("oldest")?
                            .map_or(Duration::ZERO, |oldest| tx.now().since(oldest)),
                    })
                })
            })
            .await
    }
}

async fn stored_position(tx: &mut Tx, name: &str) -> Result<JournalPosition, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT era, transaction_id, sequence FROM journal_consumers WHERE name = $1",
            &params![name],
        )
        .await?;
    match row {
        None => Ok(JournalPosition::default()),
        Some(row) => Ok(JournalPosition {
            era: row.int("era")?,
            transaction_id: row.int("transaction_id")?,
            sequence: row.int("sequence")?,
        }),
    }
}
