//! SQL of reports.

use cloud_types::HostId;
use database::{DatabaseError, Row, Tx, params};
use host_protocol::{DocumentKind, Report, ReportState};

use super::model::StoredReport;

fn state(row: &Row) -> Result<ReportState, DatabaseError> {
    let text = row.text("state")?;
    [ReportState::Working, ReportState::Done, ReportState::Failed, ReportState::Gone]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| DatabaseError::Decode {
            table: "host_reports".to_owned(),
            column: "state".to_owned(),
            reason: format!("{text:?} is not a state of a report"),
        })
}

pub async fn get(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<Option<StoredReport>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT generation, epoch, sequence, state, facts, error, reported_at
             FROM host_reports WHERE host_id = $1 AND kind = $2 AND id = $3",
            &params![host, kind.as_str(), id],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let number = |column| row.int(column).map(|n| u64::try_from(n).unwrap_or_default());
    Ok(Some(StoredReport {
        report: Report {
            kind,
            id: id.to_owned(),
            generation: number("generation")?,
            epoch: number("epoch")?,
            sequence: number("sequence")?,
            state: state(&row)?,
            facts: row.json("facts")?,
            error: row.opt_json("error")?,
        },
        reported_at: row.timestamp("reported_at")?,
    }))
}

pub async fn upsert(tx: &mut Tx, host: &HostId, report: &Report) -> Result<(), DatabaseError> {
    let error = report.error.as_ref().and_then(|error| serde_json::to_value(error).ok());
    tx.execute(
        "INSERT INTO host_reports
             (host_id, kind, id, generation, epoch, sequence, state, facts, error, reported_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (host_id, kind, id) DO UPDATE SET
             generation = excluded.generation, epoch = excluded.epoch,
             sequence = excluded.sequence, state = excluded.state, facts = excluded.facts,
             error = excluded.error, reported_at = excluded.reported_at",
        &params![
            host,
            report.kind.as_str(),
            report.id,
            report.generation,
            report.epoch,
            report.sequence,
            report.state.as_str(),
            report.facts,
            error,
            tx.now()
        ],
    )
    .await?;
    Ok(())
}

pub async fn delete(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    id: &str,
) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM host_reports WHERE host_id = $1 AND kind = $2 AND id = $3",
        &params![host, kind.as_str(), id],
    )
    .await?;
    Ok(())
}

pub async fn delete_host(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM host_reports WHERE host_id = $1", &params![host]).await?;
    Ok(())
}
