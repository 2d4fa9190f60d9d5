//! `server_delete`: past the point of no return from the start. The quota was given back by the
//! request; what the host may still use (its disk, its ports' addresses and numbers, its claim)
//! is given back only when the host has said that nothing is left, because a host that cannot be
//! reached may well go on running the guest.
//!
//! ```text
//!   stop_others ──▶ remove_guest ──host: gone──▶ give_back ──▶ deleted
//!        │               │
//!        └───────┬───────┘ host not heard of, or slow
//!                ▼
//!      gone for its owner already; the rest waits for the host
//! ```

use std::time::Duration;

use cloud_types::{Fault, ServerId};
use database::{BoxFuture, Tx};
use host_documents::hosts;
use serde::{Deserialize, Serialize};
use workflow_engine::{End, EventKey, Outcome, Status, Step, StepContext, Workflow};

use super::super::model::{State, VmState};
use super::super::store;
use super::{Core, end_action, remove_from_host, wait_for};
use crate::host::store as claims;

/// The owner sees the server gone after this long even when its host has not answered.
const OWNERS_PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether the workflows that were cancelled have ended, should their word be
/// missed.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(5);

/// The workflow.
pub struct ServerDelete(pub Core);

/// Its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteState {
    server: ServerId,
}

impl DeleteState {
    /// The workflow's input.
    pub fn new(server: ServerId) -> Self {
        DeleteState { server }
    }
}

impl Workflow for ServerDelete {
    const KIND: &'static str = "server_delete";
    const VERSION: u32 = 1;
    type State = DeleteState;

    fn steps(&self) -> Vec<Step<Self>> {
        vec![
            Step::new("stop_others", 10, "Ending what was under way")
                .forward(|_, c, s| Box::pin(stop_others(c, s))),
            Step::new("remove_guest", 30, "Removing the guest from its host")
                .forward(|_, c, s| Box::pin(remove_guest(c, s))),
            Step::new("give_back", 90, "Giving back ports and room")
                .forward(|w, c, s| Box::pin(Self::give_back(w, c, s))),
        ]
    }

    fn point_of_no_return(&self) -> Option<&'static str> {
        Some("stop_others")
    }

    fn deadline(&self) -> (Duration, &'static str) {
        (
            Duration::from_secs(15 * 60),
            "a host removes a guest in seconds; one that has not after a quarter of an hour is \
             down, and an operator must bring it back or declare it lost",
        )
    }

    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c DeleteState,
        _end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(finish(tx, state.server))
    }
}

async fn stop_others(c: &mut StepContext<'_>, s: &mut DeleteState) -> Result<Outcome, Fault> {
    let Some(server) = store::get_locked(c.tx, s.server).await? else { return Ok(Outcome::Done) };
    let id = server.id.to_string();
    let mut waiting = false;
    for other in workflow_engine::find_by_owner(c.tx, store::KIND, &id).await? {
        // One that is parked does nothing any more; what it left is removed below.
        if other.id == c.workflow || other.status.has_ended() || other.status == Status::Parked {
            continue;
        }
        workflow_engine::cancel(c.tx, &other.id).await?;
        waiting = true;
    }
    if !waiting {
        return Ok(Outcome::Done);
    }
    hide_when_slow(c.tx, s.server).await?;
    Ok(Outcome::Wait { event: EventKey::server(s.server), timeout: LOOK_AT_OTHERS })
}

async fn remove_guest(c: &mut StepContext<'_>, s: &mut DeleteState) -> Result<Outcome, Fault> {
    let Some(server) = store::get_locked(c.tx, s.server).await? else { return Ok(Outcome::Done) };
    if remove_from_host(c.tx, &server).await? {
        return Ok(Outcome::Done);
    }
    hide_when_slow(c.tx, s.server).await?;
    Ok(wait_for(s.server))
}

impl ServerDelete {
    async fn give_back(
        &self,
        c: &mut StepContext<'_>,
        s: &mut DeleteState,
    ) -> Result<Outcome, Fault> {
        store::get_locked(c.tx, s.server).await?;
        self.0.network.release_ports(c.tx, &s.server).await?;
        claims::release(c.tx, &s.server).await?;
        Ok(Outcome::Done)
    }
}

/// When its host is not heard of, or takes too long, the server is gone for its owner already.
async fn hide_when_slow(tx: &mut Tx, id: ServerId) -> Result<(), Fault> {
    let Some(before) = store::get(tx, id).await? else { return Ok(()) };
    let now = tx.now();
    let slow = before.terminated_at.is_some_and(|since| now.since(since) >= OWNERS_PATIENCE);
    let silent = match &before.host {
        None => false,
        Some(host) => !hosts::get(tx, &host.id).await?.is_some_and(|host| host.is_alive(now)),
    };
    if slow || silent { hide(tx, id).await } else { Ok(()) }
}

async fn hide(tx: &mut Tx, id: ServerId) -> Result<(), Fault> {
    let Some(before) = store::get(tx, id).await? else { return Ok(()) };
    if before.deleted_at.is_some() {
        return Ok(());
    }
    let mut server = before.clone();
    server.state = State::settled(VmState::Deleted);
    server.deleted_at = Some(tx.now());
    Ok(store::save(tx, &before, &mut server).await?)
}

async fn finish(tx: &mut Tx, id: ServerId) -> Result<(), Fault> {
    let Some(server) = store::get_locked(tx, id).await? else { return Ok(()) };
    hide(tx, id).await?;
    store::forget_payload(tx, id).await?;
    end_action(tx, id, "server_delete", server.host.as_ref(), None).await
}
