//! Taking reports in.

use cloud_types::{Fault, HostId};
use database::{DatabaseError, ObjectLock, Tx};
use host_protocol::{DocumentKind, HostFacts, Report, ReportResult};

use super::model::{ReportSink, StoredReport, Verdict, judge};
use super::store;
use crate::{documents, hosts};

/// Judges a report, stores it, and tells the sink, all in the caller's transaction.
///
/// # Errors
/// 403 when there is no such host; what the sink fails with.
pub async fn apply(
    tx: &mut Tx,
    host: &HostId,
    report: &Report,
    sink: &dyn ReportSink,
) -> Result<ReportResult, Fault> {
    // No honest host comes near it, and it could not be stored in order.
    if [report.sequence, report.generation, report.epoch].iter().any(|n| i64::try_from(*n).is_err())
    {
        return Ok(ReportResult::Refused { reason: "a number is out of range".to_owned() });
    }
    // The object's own lock: the services that change its rows take the same.
    tx.lock(&[ObjectLock::new(report.kind.as_str(), &report.id)]).await?;
    hosts::seen(tx, host).await?;
    let document = documents::get(tx, host, report.kind, &report.id).await?;
    let stored = store::get(tx, host, report.kind, &report.id).await?.map(|stored| stored.report);
    match judge(document.as_ref(), stored.as_ref(), report) {
        Verdict::Refuse(reason) => return Ok(ReportResult::Refused { reason }),
        Verdict::Known => return Ok(ReportResult::Accepted),
        Verdict::Store => store::upsert(tx, host, report).await?,
        Verdict::Remove => documents::remove(tx, host, report.kind, &report.id).await?,
    }
    if report.kind == DocumentKind::Host
        && let Ok(facts) = serde_json::from_value::<HostFacts>(report.facts.clone())
    {
        hosts::set_facts(tx, host, &facts).await?;
    }
    sink.reported(tx, host, report).await?;
    Ok(ReportResult::Accepted)
}

/// The last report about a document.
pub async fn get(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<StoredReport>, DatabaseError> {
    store::get(tx, host, kind, id).await
}
