//! What hosts say of ports, networks and neighbours.

use cloud_types::{Fault, HostId, PortId, ServerId};
use database::{BoxFuture, JournalEntry, Tx};
use host_documents::reports::ReportSink;
use host_protocol::{DocumentKind, PortFacts, Report, ReportState};
use workflow_engine::EventKey;

use super::{numbers, store};
use crate::Network;
use crate::port::model::{COMPUTE_OWNER, PortStatus};

impl ReportSink for Network {
    fn reported<'c>(
        &'c self,
        tx: &'c mut Tx,
        host: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            let ours = matches!(
                report.kind,
                DocumentKind::Port | DocumentKind::Network | DocumentKind::Neighbour
            );
            if !ours {
                return Ok(());
            }
            if report.kind == DocumentKind::Port {
                set_status(tx, host, report).await?;
            }
            if matches!(report.state, ReportState::Done | ReportState::Gone) {
                numbers::confirm(tx, host, report.kind, &report.id, report.generation).await?;
            }
            Ok(())
        })
    }
}

/// What a report says of the port's traffic; `None` when it says nothing.
fn status_of(report: &Report) -> Option<PortStatus> {
    let facts: Option<PortFacts> = serde_json::from_value(report.facts.clone()).ok();
    let bound = facts.map(|facts| facts.bound);
    match report.state {
        ReportState::Done => Some(bound.unwrap_or(true)),
        // A port whose new rules cannot be put in force may still carry traffic by the old ones.
        ReportState::Failed => Some(bound.unwrap_or(false)),
        ReportState::Working => bound,
        ReportState::Gone => Some(false),
    }
    .map(|up| if up { PortStatus::Active } else { PortStatus::Down })
}

async fn set_status(tx: &mut Tx, host: &HostId, report: &Report) -> Result<(), Fault> {
    let Some(status) = status_of(report) else { return Ok(()) };
    let Ok(port) = report.id.parse::<PortId>() else { return Ok(()) };
    let Some(changed) = store::set_status(tx, &port, host, status).await? else {
        return Ok(());
    };
    tracing::debug!(%port, %host, status = status.as_str(), "a port's status changed");
    tx.journal(JournalEntry {
        kind: "port",
        id: report.id.clone(),
        project: Some(changed.project_id),
        action: "update",
        before: None,
        after: Some(serde_json::json!({ "status": status.as_str() })),
    });
    workflow_engine::wake(tx, &EventKey::port(port)).await?;
    if changed.device_owner.starts_with(COMPUTE_OWNER)
        && let Ok(server) = changed.device_id.parse::<ServerId>()
    {
        workflow_engine::wake(tx, &EventKey::server(server)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(state: ReportState, facts: serde_json::Value) -> Report {
        Report {
            kind: DocumentKind::Port,
            id: PortId::random().to_string(),
            generation: 1,
            epoch: 0,
            sequence: 1,
            state,
            facts,
            error: None,
        }
    }

    #[test]
    fn a_port_is_active_when_its_host_says_that_it_is_bound() {
        let bound = json!({"bound": true, "device": "tap0"});
        let unbound = json!({"bound": false, "device": "tap0"});
        let nothing = json!(null);
        for (state, facts, wanted) in [
            (ReportState::Done, bound.clone(), Some(PortStatus::Active)),
            (ReportState::Done, nothing.clone(), Some(PortStatus::Active)),
            (ReportState::Done, unbound.clone(), Some(PortStatus::Down)),
            (ReportState::Failed, bound, Some(PortStatus::Active)),
            (ReportState::Failed, nothing.clone(), Some(PortStatus::Down)),
            (ReportState::Working, unbound, Some(PortStatus::Down)),
            (ReportState::Working, nothing.clone(), None),
            (ReportState::Gone, nothing, Some(PortStatus::Down)),
        ] {
            assert_eq!(status_of(&report(state, facts)), wanted);
        }
    }
}
