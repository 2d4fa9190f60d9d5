//! `server_create`: a host is claimed, ports are bound there, the host is told, and it reports
//! that the guest runs.
//!
//! ```text
//!   schedule ──▶ bind_ports ──▶ place ──host: running──▶ active
//!                                │  ▲
//!      host failed, others left: │  │ unbind, release, claim another, bind, tell
//!          tombstone, wait gone  └──┘ (at most MAX_HOSTS in all)
//! ```
//! Undone, the guest is removed from its host, the ports are free and the claim is given back; the
//! server stays in `ERROR` with the reason, for its owner to read and delete.

use std::time::Duration;

use cloud_types::{Fault, FaultKind, HostId, ServerId, Timestamp};
use database::{BoxFuture, Tx};
use host_documents::hosts;
use host_protocol::{DesiredPower, PowerState};
use planted_bugs::planted;
use serde::{Deserialize, Serialize};
use storage::image::Images;
use workflow_engine::{End, EventKey, Outcome, Step, StepContext, Workflow};

use super::super::model::{HostRef, Server, State, TaskState, VmState, settle};
use super::super::reconcile::random_uuid;
use super::super::store;
use super::{
    Core, Word, end_action, host_failed, last_word, put_document, remove_from_host, server_fault,
    wait_for, wanted,
};
use crate::host::model::capacity;
use crate::host::store::{self as claims, Allocation};
use crate::host::{self};
use crate::scheduler::{self, Request};

/// Hosts that are tried in all: one and three alternates, as Nova does.
const MAX_HOSTS: usize = 4;
/// A host that keeps failing and keeps trying gets this long before another is tried: longer than
/// a passing lack of memory, shorter than a person's patience.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a claim is tried again when somebody was faster, before other work may go first.
const CLAIM_ATTEMPTS: u32 = 8;

/// Hosts that a server's place is chosen from, in a cloud that has more. With so many, the best of
/// them is among the best twentieth of all in 99 of 100 cases.
const CANDIDATES: u32 = 96;

/// What a host says when the reason is the server's and not its own: another would say the same.
const NO_HOST_CAN: &[&str] = &["no_such_image", "disk_too_small", "bad_config_drive"];

/// The workflow.
pub struct ServerCreate(pub Core);

/// A host that failed, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    host: HostId,
    name: String,
    message: String,
}

/// Its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateState {
    server: ServerId,
    /// Hosts that failed.
    failures: Vec<Failure>,
    /// The host is being left for another.
    leaving: bool,
    /// Since when the host has been failing and trying.
    failing_since: Option<Timestamp>,
}

impl CreateState {
    /// The workflow's input.
    pub fn new(server: ServerId) -> Self {
        CreateState { server, failures: Vec::new(), leaving: false, failing_since: None }
    }
}

impl Workflow for ServerCreate {
    const KIND: &'static str = "server_create";
    const VERSION: u32 = 1;
    type State = CreateState;

    fn steps(&self) -> Vec<Step<Self>> {
        vec![
            Step::new("schedule", 10, "Choosing a host")
                .forward(|w, c, s| Box::pin(Self::schedule(w, c, s)))
                .undo(|_, c, s| Box::pin(release(c, s))),
            Step::new("bind_ports", 20, "Connecting its ports to the host")
                .forward(|w, c, s| Box::pin(Self::bind_ports(w, c, s)))
                .undo(|w, c, s| Box::pin(Self::unbind_ports(w, c, s))),
            Step::new("place", 30, "Starting the guest")
                .forward(|w, c, s| Box::pin(Self::place(w, c, s)))
                .undo(|_, c, s| Box::pin(displace(c, s))),
        ]
    }

    fn point_of_no_return(&self) -> Option<&'static str> {
        None
    }

    fn deadline(&self) -> (Duration, &'static str) {
        (
            Duration::from_secs(30 * 60),
            "a 40 GiB image takes six minutes to a host over 1 Gbit/s, and four hosts may be tried",
        )
    }

    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c CreateState,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(finish(tx, state, end))
    }
}

impl ServerCreate {
    async fn schedule(
        &self,
        c: &mut StepContext<'_>,
        s: &mut CreateState,
    ) -> Result<Outcome, Fault> {
        let before = wanted(c.tx, s.server).await?;
        let mut server = before.clone();
        if !self.claim(c, s, &mut server).await? {
            return Ok(Outcome::Retry {
                after: Duration::from_millis(100),
                why: "other servers took the room on every host that was chosen".to_owned(),
            });
        }
        store::save(c.tx, &before, &mut server).await?;
        Ok(Outcome::Done)
    }

    /// Chooses a host and claims room there. `false` when others were faster every time.
    async fn claim(
        &self,
        c: &mut StepContext<'_>,
        s: &CreateState,
        server: &mut Server,
    ) -> Result<bool, Fault> {
        if claims::allocation(c.tx, &server.id).await?.is_some() {
            return Ok(true);
        }
        let nics: Vec<_> = server.fixed.nics.iter().map(|nic| nic.port_id).collect();
        let domain = self.0.network.l2_domain_of_ports(c.tx, &nics).await?;
        let request = Request {
            resources: server.fixed.resources(),
            zone: server.requested_zone.clone(),
            host: server.fixed.forced_host.clone(),
            l2_domains: domain.clone().map(|domain| [domain].into()),
            architecture: server.fixed.image.as_ref().and_then(|image| image.architecture.clone()),
            tried: s.failures.iter().map(|failure| failure.host).collect(),
            tie_breaker: server.id.0.as_u64_pair().1,
        };
        let turn = u32::try_from(s.failures.len()).unwrap_or(u32::MAX);
        for _ in 0..CLAIM_ATTEMPTS {
            // The best of a few hosts is nearly the best of all, and the work does not grow with the
            // cloud. All are looked at before a server is refused, and when one was asked for.
            let start = HostId(random_uuid(c.tx));
            let some = match request.host {
                Some(_) => Vec::new(),
                None => {
                    host::service::some_views(c.tx, start, domain.as_deref(), CANDIDATES).await?
                }
            };
            let decision = match scheduler::schedule(&request, &some, self.0.ratios) {
                Ok(decision) => decision,
                Err(_) => {
                    let views = host::service::views(c.tx).await?;
                    match scheduler::schedule(&request, &views, self.0.ratios) {
                        Ok(decision) => decision,
                        Err(refusal) => return Err(no_host(&refusal.to_string(), s)),
                    }
                }
            };
            let Some(chosen) = hosts::get(c.tx, &decision.host).await? else { continue };
            let allowed = self.0.ratios.allowed(capacity(&chosen).unwrap_or_default());
            let epoch = server.epoch + 1;
            let claim = Allocation { host: chosen.id, epoch, resources: request.resources };
            if !claims::claim(c.tx, &server.id, &claim, allowed).await? {
                continue;
            }
            server.epoch = epoch;
            server.host = Some(HostRef { id: chosen.id, name: chosen.name.clone() });
            server.zone = chosen.zone;
            server.state = State { vm: VmState::Building, task: Some(TaskState::Networking) };
            server.progress = 10;
            store::finish_event(
                c.tx,
                server.id,
                &c.request_id,
                "schedule",
                turn,
                Some(&chosen.name),
                true,
                &decision.explanation,
            )
            .await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn bind_ports(
        &self,
        c: &mut StepContext<'_>,
        s: &mut CreateState,
    ) -> Result<Outcome, Fault> {
        let server = wanted(c.tx, s.server).await?;
        self.bind(c.tx, &server).await?;
        Ok(Outcome::Done)
    }

    async fn bind(&self, tx: &mut Tx, server: &Server) -> Result<(), Fault> {
        let host = placed(server)?;
        let host = hosts::get(tx, &host.id)
            .await?
            .ok_or_else(|| Fault::internal(format!("Host {} has left the cloud.", host.name)))?;
        for nic in &server.fixed.nics {
            self.0.network.bind_port(tx, &nic.port_id, &host).await?;
        }
        Ok(())
    }

    async fn unbind_ports(
        &self,
        c: &mut StepContext<'_>,
        s: &mut CreateState,
    ) -> Result<Outcome, Fault> {
        if let Some(server) = store::get_locked(c.tx, s.server).await?
            && !planted("forget_undo_of_ports")
        {
            self.unbind(c.tx, &server).await?;
        }
        Ok(Outcome::Done)
    }

    async fn unbind(&self, tx: &mut Tx, server: &Server) -> Result<(), Fault> {
        for nic in &server.fixed.nics {
            self.0.network.unbind_port(tx, &nic.port_id).await?;
        }
        Ok(())
    }

    async fn place(&self, c: &mut StepContext<'_>, s: &mut CreateState) -> Result<Outcome, Fault> {
        let mut server = wanted(c.tx, s.server).await?;
        if s.leaving {
            let left = remove_from_host(c.tx, &server).await?;
            if !left && !planted("leave_host_unproven") {
                return Ok(wait_for(s.server));
            }
            if !self.move_on(c, s, &mut server).await? {
                return Ok(Outcome::Retry {
                    after: Duration::from_millis(100),
                    why: "other servers took the room on every host that was chosen".to_owned(),
                });
            }
        }
        let host = placed(&server)?.clone();
        if server.state.task != Some(TaskState::Spawning) {
            let before = server.clone();
            server.state.task = Some(TaskState::Spawning);
            server.progress = 30;
            store::save(c.tx, &before, &mut server).await?;
        }
        put_document(c.tx, &server, &host).await?;
        match last_word(c.tx, &server, &host).await? {
            Word::None | Word::Done(PowerState::Crashed) => Ok(wait_for(s.server)),
            // It ran: a guest that has ended since then ended by itself.
            Word::Done(PowerState::Running | PowerState::Paused | PowerState::Shutdown) => {
                Ok(Outcome::Done)
            }
            Word::Failed { code, message, .. } if NO_HOST_CAN.contains(&code.as_str()) => {
                Err(host_failed(&host, &message))
            }
            Word::Failed { message, retrying, .. } => {
                let since = *s.failing_since.get_or_insert(c.tx.now());
                if retrying && c.tx.now().since(since) < PATIENCE {
                    return Ok(wait_for(s.server));
                }
                self.give_up_host(c, s, &server, &host, message).await
            }
        }
    }

    /// The host could not: it is left for another, if one may still be tried.
    async fn give_up_host(
        &self,
        c: &mut StepContext<'_>,
        s: &mut CreateState,
        server: &Server,
        host: &HostRef,
        message: String,
    ) -> Result<Outcome, Fault> {
        let turn = u32::try_from(s.failures.len()).unwrap_or(u32::MAX);
        store::finish_event(
            c.tx,
            server.id,
            &c.request_id,
            "spawn",
            turn,
            Some(&host.name),
            false,
            &message,
        )
        .await?;
        let failure = Failure { host: host.id, name: host.name.clone(), message };
        if s.failures.len() + 1 >= MAX_HOSTS || server.fixed.forced_host.is_some() {
            let last = host_failed(host, &failure.message);
            return Err(Fault::new(FaultKind::Internal, with_failures(&last.message, s)));
        }
        s.failures.push(failure);
        s.failing_since = None;
        s.leaving = true;
        if remove_from_host(c.tx, server).await? || planted("leave_host_unproven") {
            // Nothing is there already; the next look moves on.
            return Ok(Outcome::Retry {
                after: Duration::ZERO,
                why: "trying another host".to_owned(),
            });
        }
        Ok(wait_for(s.server))
    }

    /// The old host has nothing left of the server: claims another and binds there. `false` when
    /// others were faster every time.
    async fn move_on(
        &self,
        c: &mut StepContext<'_>,
        s: &mut CreateState,
        server: &mut Server,
    ) -> Result<bool, Fault> {
        let before = server.clone();
        let left = s.failures.last().map(|failure| failure.host);
        if server.host.as_ref().map(|host| host.id) == left {
            self.unbind(c.tx, server).await?;
            claims::release(c.tx, &server.id).await?;
        }
        if !self.claim(c, s, server).await? {
            return Ok(false);
        }
        store::save(c.tx, &before, server).await?;
        self.bind(c.tx, server).await?;
        s.leaving = false;
        Ok(true)
    }
}

fn placed(server: &Server) -> Result<&HostRef, Fault> {
    server
        .host
        .as_ref()
        .ok_or_else(|| Fault::internal(format!("Server {} has no host.", server.id)))
}

fn no_host(refusal: &str, s: &CreateState) -> Fault {
    Fault::new(FaultKind::Internal, with_failures(refusal, s)).named("NoValidHost")
}

/// Adds what was tried before.
fn with_failures(message: &str, s: &CreateState) -> String {
    let mut whole = message.to_owned();
    for failure in &s.failures {
        whole.push_str(&format!(" Host {} failed before: {}.", failure.name, failure.message));
    }
    whole
}

async fn release(c: &mut StepContext<'_>, s: &mut CreateState) -> Result<Outcome, Fault> {
    let Some(before) = store::get_locked(c.tx, s.server).await? else { return Ok(Outcome::Done) };
    if !planted("forget_undo_of_claim") {
        claims::release(c.tx, &s.server).await?;
    }
    let mut server = before.clone();
    server.host = None;
    store::save(c.tx, &before, &mut server).await?;
    Ok(Outcome::Done)
}

/// Removes the guest from its host. The owner sees the failure at once; the host may take its time.
async fn displace(c: &mut StepContext<'_>, s: &mut CreateState) -> Result<Outcome, Fault> {
    let Some(before) = store::get_locked(c.tx, s.server).await? else { return Ok(Outcome::Done) };
    let mut server = before.clone();
    let fault = workflow_engine::get(c.tx, &c.workflow).await?.and_then(|view| view.fault);
    if let Some(fault) = fault {
        mark_failed(c.tx, &mut server, &fault);
        store::save(c.tx, &before, &mut server).await?;
    }
    if remove_from_host(c.tx, &server).await? {
        return Ok(Outcome::Done);
    }
    Ok(wait_for(s.server))
}

fn mark_failed(tx: &Tx, server: &mut Server, fault: &Fault) {
    if !server.state.is_going() {
        server.state = State::settled(VmState::Error);
        server.fault.get_or_insert(server_fault(tx, fault));
    }
}

async fn finish(tx: &mut Tx, state: &CreateState, end: &End) -> Result<(), Fault> {
    Images::let_go(tx, &state.server.to_string()).await?;
    let Some(before) = store::get_locked(tx, state.server).await? else { return Ok(()) };
    let mut server = before.clone();
    let mut failure = None;
    match end {
        End::Succeeded if !server.state.is_going() => {
            let host = placed(&server)?.clone();
            server.state = State::settled(VmState::Active);
            server.progress = 0;
            server.launched_at.get_or_insert(tx.now());
            if let Word::Done(power) = last_word(tx, &server, &host).await? {
                let settled = settle(VmState::Active, power);
                server.power = power.into();
                server.state.vm = settled.vm;
                server.desired = settled.desired.unwrap_or(DesiredPower::Running);
            }
            store::save(tx, &before, &mut server).await?;
            put_document(tx, &server, &host).await?;
        }
        End::Succeeded => {}
        End::Undone { fault } => {
            failure = Some(fault.message.clone());
            mark_failed(tx, &mut server, fault);
            store::save(tx, &before, &mut server).await?;
        }
        End::Cancelled => failure = Some("The server was deleted meanwhile.".to_owned()),
    }
    workflow_engine::wake(tx, &EventKey::server(state.server)).await?;
    end_action(tx, state.server, "server_create", server.host.as_ref(), failure.as_deref()).await
}
