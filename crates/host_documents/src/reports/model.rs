//! What a stored report is, when one is believed, and who hears of it.

use cloud_types::{Fault, HostId, Timestamp};
use database::{BoxFuture, Tx};
use host_protocol::{Document, Report, ReportState};

/// The last word of a host about one document.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredReport {
    /// The report.
    pub report: Report,
    /// When it arrived.
    pub reported_at: Timestamp,
}

/// Who hears of reports, in the transaction that stores them.
pub trait ReportSink: Send + Sync {
    /// A report was stored; a `Gone` has taken its document away.
    fn reported<'c>(
        &'c self,
        tx: &'c mut Tx,
        host: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>>;
}

/// What to do with a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store it and tell.
    Store,
    /// The tombstone was carried out: take the document away and tell.
    Remove,
    /// It is known already.
    Known,
    /// It is not believed.
    Refuse(String),
}

/// Judges a report against what is written.
pub fn judge(document: Option<&Document>, stored: Option<&Report>, report: &Report) -> Verdict {
    let Some(document) = document else {
        // The answer to the first Gone was lost, and the host says it again.
        return if report.state == ReportState::Gone {
            Verdict::Known
        } else {
            Verdict::Refuse(format!("this host has no {} {}", report.kind, report.id))
        };
    };
    if report.generation > document.generation {
        return Verdict::Refuse(format!(
            "generation {} was never written; the newest is {}",
            report.generation, document.generation
        ));
    }
    if report.epoch != document.epoch && report.generation == document.generation {
        return Verdict::Refuse(format!(
            "placement epoch {} is not that of the document, {}",
            report.epoch, document.epoch
        ));
    }
    if let Some(stored) = stored {
        if report.sequence == stored.sequence {
            return Verdict::Known;
        }
        if report.sequence < stored.sequence || report.generation < stored.generation {
            return Verdict::Refuse("a newer report is stored".to_owned());
        }
    }
    match report.state {
        ReportState::Gone if !document.tombstone => {
            Verdict::Refuse("the object is wanted; nothing asked for its removal".to_owned())
        }
        ReportState::Gone if report.generation < document.generation => {
            Verdict::Refuse("the removal of a newer generation has still to be done".to_owned())
        }
        ReportState::Gone => Verdict::Remove,
        ReportState::Working | ReportState::Done | ReportState::Failed => Verdict::Store,
    }
}
