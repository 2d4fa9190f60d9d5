//! `server_reboot`: an act, not a lasting state, so the host is given an operation document. The
//! host remembers what it did for its id, `workflow/step`, and does nothing twice. A server that
//! is off has nothing to restart: a hard reboot starts it.

use std::time::Duration;

use cloud_types::{Fault, ServerId};
use database::{BoxFuture, Tx};
use host_documents::{documents, reports};
use host_protocol::{
    DesiredPower, DocumentKind, OperationAction, OperationDirection, OperationSpec, PowerState,
    ReportState, STOP_GRACE_SECONDS,
};
use serde::{Deserialize, Serialize};
use workflow_engine::{End, EventKey, Outcome, Step, StepContext, Workflow};

use super::super::model::{HostRef, Server, State, VmState};
use super::super::store;
use super::{LOOK_AGAIN, Word, end_action, host_failed, last_word, put_document, wait_for, wanted};

/// The workflow.
pub struct ServerReboot;

/// Its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RebootState {
    server: ServerId,
    hard: bool,
    /// The operation, and the host that was given it.
    operation: Option<(HostRef, String)>,
    /// The host was told anew to run the guest.
    told_anew: bool,
}

impl RebootState {
    /// The workflow's input.
    pub fn new(server: ServerId, hard: bool) -> Self {
        RebootState { server, hard, operation: None, told_anew: false }
    }
}

impl Workflow for ServerReboot {
    const KIND: &'static str = "server_reboot";
    const VERSION: u32 = 1;
    type State = RebootState;

    fn steps(&self) -> Vec<Step<Self>> {
        vec![
            Step::new("restart", 20, "Restarting the guest")
                .forward(|_, c, s| Box::pin(restart(c, s)))
                .undo(|_, c, s| Box::pin(forget(c, s))),
        ]
    }

    fn point_of_no_return(&self) -> Option<&'static str> {
        None
    }

    fn deadline(&self) -> (Duration, &'static str) {
        (
            Duration::from_secs(STOP_GRACE_SECONDS + 180),
            "the guest has its grace to end itself, and the host three minutes to start it again",
        )
    }

    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c RebootState,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(finish(tx, state, end))
    }
}

async fn restart(c: &mut StepContext<'_>, s: &mut RebootState) -> Result<Outcome, Fault> {
    let before = wanted(c.tx, s.server).await?;
    let Some(host) = before.host.clone() else {
        return Err(Fault::conflict(format!("Server {} is on no host.", s.server)));
    };
    if before.state.vm != VmState::Active {
        return start_anew(c, s, &before, &host).await;
    }
    let server = before;
    let id = format!("{}/restart", c.workflow);
    s.operation = Some((host.clone(), id.clone()));
    let spec = OperationSpec {
        workflow: c.workflow.to_string(),
        step: "restart".to_owned(),
        direction: OperationDirection::Forward,
        attempt: 1,
        worker_epoch: c.epoch,
        action: OperationAction::Reboot { server_id: s.server.to_string(), hard: s.hard },
    };
    // Written once: another worker that takes the workflow up finds it, and waits on.
    let known = documents::get(c.tx, &host.id, DocumentKind::Operation, &id).await?;
    if known.is_none() {
        documents::put(c.tx, &host.id, DocumentKind::Operation, &id, server.epoch, &spec).await?;
    }
    let report = reports::get(c.tx, &host.id, DocumentKind::Operation, &id).await?;
    match report.map(|stored| stored.report) {
        Some(report) if report.state == ReportState::Done => Ok(Outcome::Done),
        Some(report) if report.state == ReportState::Failed => {
            let message =
                report.error.map_or_else(|| "no reason given".to_owned(), |error| error.message);
            Err(host_failed(&host, &message))
        }
        _ => Ok(Outcome::Wait { event: EventKey::operation(&id), timeout: LOOK_AGAIN }),
    }
}

/// The guest does not run: there is nothing to restart, and it is started. A host that gave it up
/// did so for the document's generation, so it is told twice, off and on, which it sees as one
/// newer document.
async fn start_anew(
    c: &mut StepContext<'_>,
    s: &mut RebootState,
    before: &Server,
    host: &HostRef,
) -> Result<Outcome, Fault> {
    let mut server = before.clone();
    if !s.told_anew {
        s.told_anew = true;
        server.desired = DesiredPower::Stopped;
        put_document(c.tx, &server, host).await?;
    }
    server.desired = DesiredPower::Running;
    store::save(c.tx, before, &mut server).await?;
    put_document(c.tx, &server, host).await?;
    match last_word(c.tx, &server, host).await? {
        Word::Done(PowerState::Running | PowerState::Paused) => Ok(Outcome::Done),
        Word::Failed { message, retrying: false, .. } => Err(host_failed(host, &message)),
        Word::None | Word::Done(_) | Word::Failed { .. } => Ok(wait_for(s.server)),
    }
}

/// The host no longer needs to do it, if it has not done it yet.
async fn forget(c: &mut StepContext<'_>, s: &mut RebootState) -> Result<Outcome, Fault> {
    store::get_locked(c.tx, s.server).await?;
    if let Some((host, id)) = &s.operation {
        documents::put_tombstone(c.tx, &host.id, DocumentKind::Operation, id).await?;
    }
    Ok(Outcome::Done)
}

async fn finish(tx: &mut Tx, state: &RebootState, end: &End) -> Result<(), Fault> {
    let id = state.server;
    let Some(before) = store::get_locked(tx, id).await? else { return Ok(()) };
    let mut server = before.clone();
    let mut failure = None;
    if !server.state.is_going() {
        if *end == End::Succeeded {
            server.state.vm = VmState::Active;
            server.fault = None;
        } else if server.state.vm == VmState::Stopped {
            server.desired = DesiredPower::Stopped;
        }
        server.state = State::settled(server.state.vm);
        if let Some(host) = server.host.clone() {
            if let Word::Done(power) = last_word(tx, &server, &host).await? {
                server.power = power.into();
            }
            store::save(tx, &before, &mut server).await?;
            put_document(tx, &server, &host).await?;
        } else {
            store::save(tx, &before, &mut server).await?;
        }
    }
    if let (End::Succeeded, Some((host, operation))) = (end, &state.operation) {
        documents::put_tombstone(tx, &host.id, DocumentKind::Operation, operation).await?;
    }
    match end {
        End::Succeeded => {}
        End::Undone { fault } => failure = Some(fault.message.clone()),
        End::Cancelled => failure = Some("The server was deleted meanwhile.".to_owned()),
    }
    workflow_engine::wake(tx, &EventKey::server(id)).await?;
    end_action(tx, id, "server_reboot", server.host.as_ref(), failure.as_deref()).await
}
