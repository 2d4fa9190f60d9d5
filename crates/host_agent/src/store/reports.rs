//! The outbox: the last word on each object, until the control plane has taken it.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use host_protocol::{
    DocumentKind, Generation, PlacementEpoch, Report, ReportError, ReportResult, ReportState,
};
use rusqlite::{OptionalExtension, params};

use super::documents::bury_one;
use super::{DocumentStore, Result, StoreError, get_meta, now_micros, relaxed, set_meta, to_sql};

const SEQUENCE: &str = "sequence";

/// Reports by kind and id.
pub(super) type Unsaved = BTreeMap<(DocumentKind, String), Report>;

/// A report before it has its sequence number.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The document's kind.
    pub kind: DocumentKind,
    /// The document's id.
    pub id: String,
    /// The generation that this is about.
    pub generation: Generation,
    /// The document's placement epoch.
    pub epoch: PlacementEpoch,
    /// How far the host is.
    pub state: ReportState,
    /// What it sees.
    pub facts: serde_json::Value,
    /// Why it failed.
    pub error: Option<ReportError>,
}

impl Draft {
    fn numbered(self, sequence: i64) -> Report {
        Report {
            kind: self.kind,
            id: self.id,
            generation: self.generation,
            epoch: self.epoch,
            sequence: u64::try_from(sequence).unwrap_or(0),
            state: self.state,
            facts: self.facts,
            error: self.error,
        }
    }

    fn says_the_same(&self, report: &Report) -> bool {
        report.generation == self.generation
            && report.epoch == self.epoch
            && report.state == self.state
            && report.facts == self.facts
            && report.error == self.error
    }
}

impl DocumentStore {
    /// Puts a report into the outbox in place of an earlier one on the same document. One that
    /// says nothing new is dropped. Answers whether there is something to send.
    ///
    /// Not synced: a report that is lost with the power is made again from the world. Sequence
    /// numbers still rise across that, and across the loss of the whole store, because they never
    /// fall behind the clock's microseconds.
    ///
    /// When the disk does not take it (it is full, or read-only), it is kept in memory and sent
    /// from there: that is just when the region must hear of it.
    pub async fn put_report(&self, draft: Draft) -> Result<bool> {
        let key = (draft.kind, draft.id.clone());
        let said = self.unsaved().get(&key).is_some_and(|report| draft.says_the_same(report));
        if said {
            return Ok(false);
        }
        match self.save_report(draft.clone()).await {
            Ok(new) => {
                self.unsaved().remove(&key);
                Ok(new)
            }
            Err(error) => {
                tracing::error!(kind = %draft.kind, id = %draft.id, %error, "a report is kept in memory only");
                self.unsaved().insert(key, draft.numbered(now_micros()));
                Ok(true)
            }
        }
    }

    fn unsaved(&self) -> MutexGuard<'_, Unsaved> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn save_report(&self, draft: Draft) -> Result<bool> {
        self.run(move |connection| {
            let stored: Option<String> = connection
                .prepare_cached("SELECT report FROM reports WHERE kind = ?1 AND id = ?2")?
                .query_row(params![draft.kind.as_str(), draft.id], |row| row.get(0))
                .optional()?;
            if let Some(text) = stored
                && serde_json::from_str::<Report>(&text)
                    .is_ok_and(|report| draft.says_the_same(&report))
            {
                return Ok(false);
            }
            relaxed(connection, |transaction| {
                let last: i64 = get_meta(transaction, SEQUENCE)?
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0);
                let sequence = (last + 1).max(now_micros());
                set_meta(transaction, SEQUENCE, &sequence.to_string())?;
                let report = draft.numbered(sequence);
                let text =
                    serde_json::to_string(&report).map_err(|error| StoreError::Unreadable {
                        place: format!("reports {}/{}", report.kind, report.id),
                        message: error.to_string(),
                    })?;
                transaction
                    .prepare_cached(
                        "INSERT INTO reports (kind, id, sequence, sent, report)
                         VALUES (?1, ?2, ?3, 0, ?4)
                         ON CONFLICT (kind, id) DO UPDATE SET sequence = ?3, sent = 0, report = ?4",
                    )?
                    .execute(params![report.kind.as_str(), report.id, sequence, text])?;
                Ok(true)
            })
        })
        .await
    }

    /// The last word on an object, sent or not.
    pub async fn last_report(&self, kind: DocumentKind, id: &str) -> Result<Option<Report>> {
        let id = id.to_owned();
        self.run(move |connection| {
            let text: Option<String> = connection
                .prepare_cached("SELECT report FROM reports WHERE kind = ?1 AND id = ?2")?
                .query_row(params![kind.as_str(), id], |row| row.get(0))
                .optional()?;
            // One of a former release that cannot be read is no word.
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
        })
        .await
    }

    /// Reports that are due, oldest first.
    pub async fn due_reports(&self, limit: usize) -> Result<Vec<Report>> {
        let unsaved: Vec<Report> = self.unsaved().values().take(limit).cloned().collect();
        let saved = match self.saved_reports(limit - unsaved.len()).await {
            Err(_) if !unsaved.is_empty() => Vec::new(),
            saved => saved?,
        };
        // What memory holds of an object is later than what the disk does.
        let newest = |report: &Report| {
            !unsaved.iter().any(|later| later.kind == report.kind && later.id == report.id)
        };
        Ok(saved.into_iter().filter(newest).chain(unsaved.iter().cloned()).collect())
    }

    async fn saved_reports(&self, limit: usize) -> Result<Vec<Report>> {
        self.run(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT report FROM reports WHERE sent = 0 ORDER BY sequence LIMIT ?1",
            )?;
            let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                row.get::<_, String>(0)
            })?;
            let mut reports = Vec::new();
            for text in rows {
                let text = text?;
                reports.push(serde_json::from_str(&text).map_err(|error| {
                    StoreError::Unreadable {
                        place: "reports".to_owned(),
                        message: error.to_string(),
                    }
                })?);
            }
            Ok(reports)
        })
        .await
    }

    /// Takes the control plane's word on reports that were sent. A report that was replaced
    /// meanwhile stays due. A `Gone` that was taken ends its document; the answer lists these.
    pub async fn reports_answered(
        &self,
        answered: Vec<(Report, ReportResult)>,
    ) -> Result<Vec<(DocumentKind, String)>> {
        for (report, _) in &answered {
            let key = (report.kind, report.id.clone());
            let mut unsaved = self.unsaved();
            if unsaved.get(&key).is_some_and(|held| held.sequence == report.sequence) {
                unsaved.remove(&key);
            }
        }
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let mut buried = Vec::new();
            for (report, result) in answered {
                transaction
                    .prepare_cached(
                        "UPDATE reports SET sent = 1 WHERE kind = ?1 AND id = ?2 AND sequence = ?3",
                    )?
                    .execute(params![
                        report.kind.as_str(),
                        report.id,
                        to_sql(report.sequence)
                    ])?;
                if let ReportResult::Refused { reason } = &result {
                    tracing::info!(kind = %report.kind, id = %report.id, %reason, "a report was refused");
                }
                // A refused `Gone` means that the region holds no such document any more, or a
                // newer one that is on its way here: either way nothing more is owed for this
                // generation.
                if report.state == ReportState::Gone
                    && bury_one(&transaction, report.kind, &report.id, report.generation)?
                {
                    buried.push((report.kind, report.id));
                }
            }
            transaction.commit()?;
            Ok(buried)
        })
        .await
    }
}
