//! Sends reports, oldest first, until each has been answered.

use std::sync::Arc;
use std::time::Duration;

use host_protocol::{DocumentKind, MAX_REPORTS, Report, ReportResult, Reports};
use planted_bugs::planted;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Backoff, ControlPlane, Gateways, LinkError};
use crate::store::{DocumentStore, StoreError};

/// Even without a call, the outbox is looked at so often: a report that the store could not take
/// at the time is then made up for.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Tells the sender that there is something to send.
#[derive(Clone, Default)]
pub struct OutboxBell {
    due: Arc<Notify>,
    connected: Arc<Notify>,
}

impl OutboxBell {
    /// There is something to send.
    pub fn ring(&self) {
        self.due.notify_one();
    }

    /// The control plane is back: what waits for its next try need not.
    pub fn connected(&self) {
        self.connected.notify_one();
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sends until `shutdown`. `buried` hears of documents that ended with an accepted `Gone`.
pub async fn send(
    control_plane: Arc<dyn ControlPlane>,
    store: DocumentStore,
    bell: OutboxBell,
    buried: impl Fn(Vec<(DocumentKind, String)>) + Send,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::default();
    loop {
        let sent = tokio::select! {
            sent = send_some(&*control_plane, &store, &bell, &buried) => sent,
            () = shutdown.cancelled() => return,
        };
        let wait = match sent {
            Ok(true) => {
                backoff.reset();
                continue;
            }
            Ok(false) => {
                tokio::select! {
                    () = bell.due.notified() => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                    () = shutdown.cancelled() => return,
                }
                continue;
            }
            Err(error) => {
                let wait = backoff.failed();
                tracing::debug!(%error, wait_ms = wait.as_millis() as u64, "reports wait");
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = bell.connected.notified() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Kill points of a batch.
fn pass(reports: &Reports, stage: &str) {
    for report in &reports.reports {
        let (kind, state) = (report.kind, report.state.as_str());
        kill_points::point(format_args!("agent.report.{kind}.{state}.{stage}"));
    }
}

/// Sends one batch; false when nothing was due.
async fn send_some(
    control_plane: &dyn ControlPlane,
    store: &DocumentStore,
    bell: &OutboxBell,
    buried: &(impl Fn(Vec<(DocumentKind, String)>) + Send),
) -> Result<bool, SendError> {
    let due = store.due_reports(MAX_REPORTS).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let (lineage, _) = store.position().await?;
    let Some(lineage) = lineage else {
        return Err(LinkError::Unreachable("no welcome yet".to_owned()).into());
    };
    let session = control_plane.gateways().map_or(0, Gateways::session);
    let reports = Reports { lineage, session, reports: due };
    if planted("lose_report") {
        let taken = |report: &Report| (report.clone(), ReportResult::Accepted);
        store.reports_answered(reports.reports.iter().map(taken).collect()).await?;
    }
    pass(&reports, "sending");
    let answer = tokio::select! {
        answer = control_plane.report(&reports) => answer?,
        // A stream was opened anew, perhaps at another gateway: an answer from the former one may
        // never come, and is not waited for. The reports are sent again.
        () = bell.connected.notified() => return Ok(true),
    };
    pass(&reports, "sent");
    if answer.results.len() != reports.reports.len() {
        let message = "the answer does not fit the reports".to_owned();
        return Err(LinkError::Protocol(message).into());
    }
    let answered: Vec<(host_protocol::Report, ReportResult)> =
        reports.reports.into_iter().zip(answer.results).collect();
    let ended = store.reports_answered(answered).await?;
    if !ended.is_empty() {
        buried(ended);
    }
    Ok(true)
}
