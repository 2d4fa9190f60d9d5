//! `server_start` and `server_stop`: what the host should keep is written into the document, and
//! the report says that it does. Undone, the document says again what it said before.

use std::time::Duration;

use cloud_types::{Fault, ServerId};
use database::{BoxFuture, Tx};
use host_protocol::{DesiredPower, PowerState, STOP_GRACE_SECONDS};
use serde::{Deserialize, Serialize};
use workflow_engine::{End, EventKey, Outcome, Step, StepContext, Workflow};

use super::super::model::{State, VmState};
use super::super::store;
use super::{Word, end_action, host_failed, last_word, put_document, wait_for, wanted};

/// What a change of power works on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PowerChange {
    server: ServerId,
}

impl PowerChange {
    /// The workflow's input.
    pub fn new(server: ServerId) -> Self {
        PowerChange { server }
    }
}

/// Starts a guest.
pub struct ServerStart;

/// Stops a guest.
pub struct ServerStop;

macro_rules! power_workflow {
    ($name:ident, $kind:literal, $desired:expr, $back:expr, $sentence:literal, $deadline:expr) => {
        impl Workflow for $name {
            const KIND: &'static str = $kind;
            const VERSION: u32 = 1;
            type State = PowerChange;

            fn steps(&self) -> Vec<Step<Self>> {
                vec![
                    Step::new("set_power", 20, $sentence)
                        .forward(|_, c, s| Box::pin(drive(c, s, $desired)))
                        .undo(|_, c, s| Box::pin(want(c, s, $back))),
                ]
            }

            fn point_of_no_return(&self) -> Option<&'static str> {
                None
            }

            fn deadline(&self) -> (Duration, &'static str) {
                $deadline
            }

            fn finished<'c>(
                &'c self,
                tx: &'c mut Tx,
                state: &'c PowerChange,
                end: &'c End,
            ) -> BoxFuture<'c, Result<(), Fault>> {
                Box::pin(finish(tx, state.server, $desired, $kind, end))
            }
        }
    };
}

power_workflow!(
    ServerStart,
    "server_start",
    DesiredPower::Running,
    DesiredPower::Stopped,
    "Starting the guest",
    (Duration::from_secs(5 * 60), "a host starts a guest in seconds, and minutes under load")
);
power_workflow!(
    ServerStop,
    "server_stop",
    DesiredPower::Stopped,
    DesiredPower::Running,
    "Stopping the guest",
    (
        Duration::from_secs(STOP_GRACE_SECONDS + 120),
        "the guest has its grace to end itself, and the host two minutes to answer"
    )
);

fn is_as_desired(power: PowerState, desired: DesiredPower) -> bool {
    match desired {
        DesiredPower::Running => matches!(power, PowerState::Running | PowerState::Paused),
        DesiredPower::Stopped => matches!(power, PowerState::Shutdown | PowerState::Crashed),
    }
}

/// Writes what is wanted, and waits until it is so.
async fn drive(
    c: &mut StepContext<'_>,
    s: &mut PowerChange,
    desired: DesiredPower,
) -> Result<Outcome, Fault> {
    let id = s.server;
    let before = wanted(c.tx, id).await?;
    let mut server = before.clone();
    let Some(host) = server.host.clone() else {
        return Err(Fault::conflict(format!("Server {id} is on no host.")));
    };
    server.desired = desired;
    store::save(c.tx, &before, &mut server).await?;
    put_document(c.tx, &server, &host).await?;
    match last_word(c.tx, &server, &host).await? {
        Word::Done(power) if is_as_desired(power, desired) => Ok(Outcome::Done),
        Word::Failed { message, retrying: false, .. } => Err(host_failed(&host, &message)),
        Word::None | Word::Done(_) | Word::Failed { .. } => Ok(wait_for(id)),
    }
}

/// Writes what was wanted before. The host does it when it can; nobody waits.
async fn want(
    c: &mut StepContext<'_>,
    s: &mut PowerChange,
    desired: DesiredPower,
) -> Result<Outcome, Fault> {
    let Some(before) = store::get_locked(c.tx, s.server).await? else {
        return Ok(Outcome::Done);
    };
    if before.state.is_going() {
        return Ok(Outcome::Done);
    }
    let mut server = before.clone();
    server.desired = desired;
    store::save(c.tx, &before, &mut server).await?;
    if let Some(host) = &server.host {
        put_document(c.tx, &server, host).await?;
    }
    Ok(Outcome::Done)
}

async fn finish(
    tx: &mut Tx,
    id: ServerId,
    desired: DesiredPower,
    event: &str,
    end: &End,
) -> Result<(), Fault> {
    let Some(before) = store::get_locked(tx, id).await? else { return Ok(()) };
    let mut server = before.clone();
    let mut failure = None;
    if !server.state.is_going() {
        let vm = match (end, desired) {
            (End::Succeeded, DesiredPower::Running) => VmState::Active,
            (End::Succeeded, DesiredPower::Stopped) => VmState::Stopped,
            // Back to what it was; a healthy server whose stop failed is a healthy server.
            (End::Undone { .. } | End::Cancelled, _) => server.state.vm,
        };
        server.state = State::settled(vm);
        if vm != VmState::Error {
            server.fault = None;
        }
        if let Some(host) = server.host.clone()
            && let Word::Done(power) = last_word(tx, &server, &host).await?
        {
            server.power = power.into();
        }
        store::save(tx, &before, &mut server).await?;
    }
    match end {
        End::Succeeded => {}
        End::Undone { fault } => failure = Some(fault.message.clone()),
        End::Cancelled => failure = Some("The server was deleted meanwhile.".to_owned()),
    }
    workflow_engine::wake(tx, &EventKey::server(id)).await?;
    end_action(tx, id, event, server.host.as_ref(), failure.as_deref()).await
}
