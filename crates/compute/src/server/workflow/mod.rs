//! What happens to servers after their request was answered: durable workflows, each step one
//! transaction. A step that needs something of a host writes a document and waits for the report;
//! it is then run again from its start, so every step looks before it acts.

mod create;
mod delete;
mod power;
mod reboot;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use cloud_types::{Fault, FaultKind, ServerId};
use database::Tx;
use host_documents::{documents, reports};
use host_protocol::{
    DocumentKind, Generation, PowerState, Report, ReportError, ReportState, ServerFacts,
};
use network::Network;
use workflow_engine::{Engine, EventKey, Outcome};

pub use create::{CreateState, ServerCreate};
pub use delete::{DeleteState, ServerDelete};
pub use power::{PowerChange, ServerStart, ServerStop};
pub use reboot::{RebootState, ServerReboot};

use super::model::{HostRef, Server, ServerFault, server_spec};
use super::store;
use crate::scheduler::Ratios;

/// What workflows need of the rest of the cloud.
#[derive(Clone)]
pub struct Core {
    /// Ports of servers.
    pub network: Network,
    /// How far hosts may be over-committed.
    pub ratios: Ratios,
}

/// Makes every kind known to a worker.
pub fn register(core: &Core, engine: &Engine) {
    engine.register(Arc::new(ServerCreate(core.clone())));
    engine.register(Arc::new(ServerDelete(core.clone())));
    engine.register(Arc::new(ServerStart));
    engine.register(Arc::new(ServerStop));
    engine.register(Arc::new(ServerReboot));
}

/// A step that waits for a host looks again after this long even when nobody woke it: it may have
/// to notice that a deadline passed or that the host is no longer heard of.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

fn wait_for(server: ServerId) -> Outcome {
    Outcome::Wait { event: EventKey::server(server), timeout: LOOK_AGAIN }
}

/// The server, locked, for a step that goes forward.
///
/// # Errors
/// 409 when it is gone or going: the workflow then undoes itself.
async fn wanted(tx: &mut Tx, id: ServerId) -> Result<Server, Fault> {
    match store::get_locked(tx, id).await? {
        Some(server) if !server.state.is_going() => Ok(server),
        _ => Err(Fault::conflict(format!("Server {id} is being deleted."))),
    }
}

/// Writes the server's document for the host on which it is placed, as the row says now. A NIC whose
/// port was deleted under the server is left out: a guest that waited for it would never start.
pub(super) async fn put_document(
    tx: &mut Tx,
    server: &Server,
    host: &HostRef,
) -> Result<Generation, Fault> {
    let payload = store::payload(tx, server.id).await?;
    let mut spec = server_spec(server, &payload);
    let ports: Vec<_> = server.fixed.nics.iter().map(|nic| nic.port_id).collect();
    let existing = Network::existing_ports(tx, &ports).await?;
    spec.nics.retain(|nic| nic.port_id.parse().is_ok_and(|port| existing.contains(&port)));
    let id = server.id.to_string();
    Ok(documents::put(tx, &host.id, DocumentKind::Server, &id, server.epoch, &spec).await?)
}

/// Writes the document again if its host has one that is wanted: after a change of what the guest
/// may learn of itself.
pub(super) async fn refresh_document(tx: &mut Tx, server: &Server) -> Result<(), Fault> {
    let Some(host) = &server.host else { return Ok(()) };
    let id = server.id.to_string();
    let known = documents::get(tx, &host.id, DocumentKind::Server, &id).await?;
    if known.is_some_and(|document| !document.tombstone) {
        put_document(tx, server, host).await?;
    }
    Ok(())
}

/// What a host has said of the newest document.
#[derive(Debug)]
enum Word {
    /// Nothing yet, or it is at work.
    None,
    /// It is done; this is what the guest does.
    Done(PowerState),
    /// It cannot do it.
    Failed {
        /// A stable word for why.
        code: String,
        /// In its words.
        message: String,
        /// Whether it goes on trying by itself.
        retrying: bool,
    },
}

/// Looks at what the host last reported about the server's newest document.
async fn last_word(tx: &mut Tx, server: &Server, host: &HostRef) -> Result<Word, Fault> {
    let id = server.id.to_string();
    let document = documents::get(tx, &host.id, DocumentKind::Server, &id).await?;
    let report = reports::get(tx, &host.id, DocumentKind::Server, &id).await?;
    let (Some(document), Some(stored)) = (document, report) else { return Ok(Word::None) };
    let report = stored.report;
    if report.generation < document.generation {
        return Ok(Word::None);
    }
    Ok(match report.state {
        ReportState::Done => {
            facts(&report).map_or(Word::None, |facts| Word::Done(facts.power_state))
        }
        ReportState::Failed => {
            let error = report.error.unwrap_or_else(|| ReportError {
                code: "unknown".to_owned(),
                message: "the host gave no reason".to_owned(),
                retrying: false,
            });
            let message = format!("{} ({})", error.message, error.code);
            Word::Failed { code: error.code, message, retrying: error.retrying }
        }
        ReportState::Working | ReportState::Gone => Word::None,
    })
}

/// The facts of a server report, when it has readable ones.
pub(super) fn facts(report: &Report) -> Option<ServerFacts> {
    serde_json::from_value(report.facts.clone()).ok()
}

/// Asks the host to remove the server. `true` when nothing of it is left there.
async fn remove_from_host(tx: &mut Tx, server: &Server) -> Result<bool, Fault> {
    let Some(host) = &server.host else { return Ok(true) };
    let id = server.id.to_string();
    Ok(documents::put_tombstone(tx, &host.id, DocumentKind::Server, &id).await?.is_none())
}

/// A fault as a server shows it.
fn server_fault(tx: &Tx, fault: &Fault) -> ServerFault {
    ServerFault {
        code: fault.status(),
        message: fault.message.clone(),
        details: None,
        created: tx.now(),
    }
}

/// A failure that is the host's, in words for the owner.
fn host_failed(host: &HostRef, message: &str) -> Fault {
    Fault::new(FaultKind::Internal, format!("Host {} could not do it: {message}", host.name))
}

/// Ends the record of the action that the workflow carried out.
async fn end_action(
    tx: &mut Tx,
    id: ServerId,
    event: &str,
    host: Option<&HostRef>,
    failure: Option<&str>,
) -> Result<(), Fault> {
    let request_id = tx.origin().request_id.clone();
    let host = host.map(|host| host.name.as_str());
    let message = failure.map(|_| "Error");
    store::finish_action(tx, id, &request_id, message).await?;
    let details = failure.unwrap_or_default();
    store::finish_event(tx, id, &request_id, event, 0, host, failure.is_none(), details).await?;
    Ok(())
}
