//! What a host's reports do to servers. A report wakes whatever workflow waits for it; when none is
//! under way, it moves the server itself: a guest that powered itself off is `SHUTOFF`, and its
//! host is told to leave it so.

use cloud_types::{Fault, HostId, ServerId};
use database::{BoxFuture, Tx};
use host_documents::documents;
use host_documents::reports::ReportSink;
use host_protocol::{DocumentKind, PowerState, Report, ReportState};
use planted_bugs::planted;
use uuid::Uuid;
use workflow_engine::EventKey;

use super::model::{Power, Server, ServerFault, VmState, settle};
use super::store;
use super::workflow::{facts, put_document, refresh_document};
use crate::Compute;
use crate::host;

impl ReportSink for Compute {
    fn reported<'c>(
        &'c self,
        tx: &'c mut Tx,
        host: &'c HostId,
        report: &'c Report,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            match report.kind {
                DocumentKind::Server => server_reported(tx, host, report).await,
                DocumentKind::Operation => {
                    Ok(workflow_engine::wake(tx, &EventKey::operation(&report.id)).await?)
                }
                DocumentKind::Host => Ok(host::store::know(tx, host).await?),
                DocumentKind::Port if report.state == ReportState::Gone => {
                    port_gone(tx, host, &report.id).await
                }
                DocumentKind::Network | DocumentKind::Port | DocumentKind::Neighbour => Ok(()),
            }
        })
    }
}

/// A port is gone from a host, where it may have been deleted under a server: that server's document
/// is written again, without the NIC.
async fn port_gone(tx: &mut Tx, host: &HostId, port: &str) -> Result<(), Fault> {
    for id in store::with_nic(tx, host, port).await? {
        let Some(server) = store::get_locked(tx, id).await? else { continue };
        if server.host.as_ref().is_some_and(|placed| placed.id == *host) {
            refresh_document(tx, &server).await?;
        }
    }
    Ok(())
}

async fn server_reported(tx: &mut Tx, host: &HostId, report: &Report) -> Result<(), Fault> {
    let Ok(id) = report.id.parse::<ServerId>() else { return Ok(()) };
    workflow_engine::wake(tx, &EventKey::server(id)).await?;
    if report.state == ReportState::Gone {
        return Ok(());
    }
    let Some(before) = store::get_locked(tx, id).await? else { return Ok(()) };
    let here = before.host.as_ref().is_some_and(|placed| placed.id == *host);
    if !here || before.epoch != report.epoch || before.state.vm == VmState::Deleted {
        return Ok(());
    }
    let observed = facts(report).map(|facts| facts.power_state);
    let mut server = before.clone();
    if let Some(power) = observed {
        server.power = power.into();
    }
    let mut tell = false;
    if server.state.task.is_none() && is_newest(tx, host, report).await? {
        match (report.state, observed) {
            (ReportState::Done, Some(power)) => {
                let settled = settle(server.state.vm, power);
                if settled.vm == VmState::Active && power == PowerState::Running {
                    server.fault = None;
                }
                server.state.vm = settled.vm;
                if let Some(desired) = settled.desired {
                    tell = server.desired != desired;
                    server.desired = desired;
                }
            }
            (ReportState::Failed, _) => given_up(tx, &mut server, report),
            _ => {}
        }
    }
    if server.state != before.state {
        note(tx, &before, &server).await?;
    }
    store::save(tx, &before, &mut server).await?;
    if planted("keep_power_off_from_host") {
        tell = false;
    }
    if tell && let Some(placed) = server.host.clone() {
        put_document(tx, &server, &placed).await?;
    }
    Ok(())
}

async fn is_newest(tx: &mut Tx, host: &HostId, report: &Report) -> Result<bool, Fault> {
    let document = documents::get(tx, host, DocumentKind::Server, &report.id).await?;
    Ok(document
        .is_some_and(|document| !document.tombstone && document.generation == report.generation))
}

/// The host cannot keep the guest running. While it goes on trying the server is as it was; when
/// it has given up, the owner must know.
fn given_up(tx: &Tx, server: &mut Server, report: &Report) {
    let Some(error) = report.error.as_ref().filter(|error| !error.retrying) else { return };
    if server.state.vm != VmState::Active {
        return;
    }
    server.state.vm = VmState::Error;
    if server.power == Power::Running {
        server.power = Power::Crashed;
    }
    server.fault = Some(ServerFault {
        code: 500,
        message: format!(
            "The host could not keep the server running: {} ({}). A hard reboot tries again.",
            error.message, error.code
        ),
        details: None,
        created: tx.now(),
    });
}

/// Records what the guest or its host did by themselves, among the actions.
async fn note(tx: &mut Tx, before: &Server, after: &Server) -> Result<(), Fault> {
    let (action, details, success) = match (before.state.vm, after.state.vm) {
        (_, VmState::Stopped) => ("stop", "The guest powered itself off.", true),
        (_, VmState::Active) => ("start", "The host has the guest running again.", true),
        _ => ("fail", "The host gave the guest up.", false),
    };
    let request_id = format!("req-{}", random_uuid(tx));
    let host = after.host.as_ref().map(|host| host.name.as_str());
    store::begin_action_as(tx, after.id, &request_id, action).await?;
    store::finish_event(tx, after.id, &request_id, action, 0, host, success, details).await?;
    let message = (!success).then_some("Error");
    store::finish_action(tx, after.id, &request_id, message).await?;
    Ok(())
}

/// A random identifier out of the transaction's own source, so that a simulation repeats itself.
pub(super) fn random_uuid(tx: &Tx) -> Uuid {
    let random = (u128::from(tx.random_u64()) << 64) | u128::from(tx.random_u64());
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}
