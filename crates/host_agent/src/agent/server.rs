//! The task of one server: asks the plan, does what it says, waits for something to happen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use host_protocol::{
    DesiredPower, DocumentKind, PowerState, ReportError, ReportState, ServerFacts, ServerSpec,
};
use tokio::time::Instant;
use tracing::Instrument;

use super::documents::Wanted;
use super::failure::{Failure, Retry};
use super::plan::{Action, Guest, Wish, Word, World, plan};
use super::reboot::PendingReboot;
use super::shared::{Inbox, Shared, lock};
use crate::hypervisor::{Ending, GuestChange, GuestSeen};
use crate::store::{OperationOutcome, ServerMemory};

/// How long a paused guest stands still before it is woken again.
const RESUME_INTERVAL: Duration = Duration::from_secs(30);

/// The state of one server's task.
pub(super) struct ServerTask {
    pub(super) shared: Arc<Shared>,
    pub(super) id: String,
    pub(super) inbox: Arc<Inbox>,
    pub(super) memory: ServerMemory,
    /// The living guest: its state and its start.
    pub(super) guest: Option<(Guest, u64)>,
    /// When the power button was pressed for this guest.
    button: Option<Instant>,
    pub(super) reboot: Option<PendingReboot>,
    /// Generations of operations that were looked at.
    pub(super) operations: HashMap<String, u64>,
    pub(super) retry: Retry,
    failure: Option<Failure>,
    crashed: bool,
    generation: u64,
    /// Whether a start of this generation has begun; the first one's timing counts from the
    /// document's arrival.
    pub(super) begun: bool,
    pub(super) stages: Vec<(String, u64)>,
    pub(super) image_checksum: Option<String>,
}

impl ServerTask {
    /// Starts the task of a server. `seen` is its guest when one was taken over.
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        id: &str,
        inbox: Arc<Inbox>,
        seen: Option<GuestSeen>,
    ) {
        let mut task = ServerTask {
            shared: Arc::clone(shared),
            id: id.to_owned(),
            inbox,
            memory: ServerMemory::default(),
            guest: None,
            button: None,
            reboot: None,
            operations: HashMap::new(),
            retry: Retry::default(),
            failure: None,
            crashed: false,
            generation: 0,
            begun: false,
            stages: Vec::new(),
            image_checksum: None,
        };
        if let Some(seen) = seen {
            task.set_guest(Some((guest_of(seen.power), seen.incarnation)));
        }
        let shutdown = shared.shutdown.clone();
        let span = tracing::info_span!("server", id = %id);
        let work = async move {
            tokio::select! {
                () = task.run() => {}
                () = shutdown.cancelled() => {}
            }
        };
        shared.tasks.spawn(work.instrument(span));
    }

    async fn run(&mut self) {
        self.remember().await;
        loop {
            self.hear();
            let wanted = lock(&self.shared.documents).servers.get(&self.id).cloned();
            let Some(wanted) = wanted else {
                // Nothing is said of this server: what runs is left as it is. A task that has
                // nothing to look after ends.
                if self.guest.is_none() && self.retire() {
                    return;
                }
                self.inbox.wake.notified().await;
                continue;
            };
            let wait = self.step(&wanted).await;
            match wait {
                Next::Again => {}
                Next::Wait(None) => self.inbox.wake.notified().await,
                Next::Wait(Some(wait)) => {
                    tokio::select! {
                        () = self.inbox.wake.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// Reads what was kept over a restart.
    async fn remember(&mut self) {
        loop {
            match self.shared.store.server_memory(&self.id).await {
                Ok(memory) => {
                    self.memory = memory;
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read what is remembered of a server");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        if let Some((_, incarnation)) = self.guest {
            self.memory.incarnation = self.memory.incarnation.max(incarnation);
        }
        let last = self.shared.store.last_report(DocumentKind::Server, &self.id).await;
        if let Ok(Some(report)) = last
            && let Ok(facts) = serde_json::from_value::<ServerFacts>(report.facts)
            && facts.incarnation == self.memory.incarnation
        {
            self.stages = facts.stages;
            self.image_checksum = facts.image_checksum;
        }
    }

    /// Takes the task off the list, unless a document has come meanwhile.
    fn retire(&self) -> bool {
        let mut inboxes = lock(&self.shared.inboxes);
        if lock(&self.shared.documents).servers.contains_key(&self.id) {
            return false;
        }
        inboxes.remove(&self.id);
        true
    }

    /// One round: plan and act.
    async fn step(&mut self, wanted: &Wanted<ServerSpec>) -> Next {
        if wanted.generation != self.generation {
            self.generation = wanted.generation;
            self.begun = false;
            self.retry.reset();
        }
        if let Some(why) = &wanted.unreadable {
            let error = ReportError {
                code: "unreadable_document".to_owned(),
                message: format!(
                    "this host's agent cannot read the server's description: {why}; upgrade it"
                ),
                retrying: false,
            };
            self.report(wanted, ReportState::Failed, Some(error)).await;
            return Next::Wait(None);
        }
        self.look_at_operations().await;
        let spec = wanted.spec.as_ref();
        let wish = Wish {
            known: wanted.known,
            tombstone: wanted.tombstone,
            power: match spec {
                Some(spec) if !self.ending() => spec.power,
                _ => DesiredPower::Stopped,
            },
        };
        let mut next = Next::Again;
        for action in plan(wish, self.world()) {
            next = match self.act(action, wanted).await {
                Ok(next) => next,
                Err(Stopped::Superseded) => return Next::Again,
                Err(Stopped::Failed(failure)) => {
                    tracing::warn!(
                        code = failure.code, message = %failure.message,
                        request_id = %wanted.request_id, "could not carry out a document"
                    );
                    self.retry.failed(&failure, Instant::now());
                    self.failure = Some(failure);
                    return Next::Again;
                }
            };
        }
        next
    }

    /// The machine is going down.
    fn ending(&self) -> bool {
        *self.shared.ending.borrow()
    }

    fn world(&self) -> World {
        let now = Instant::now();
        World {
            guest: self.guest.map(|(guest, _)| guest),
            powered_off: self
                .memory
                .powered_off_generation
                .is_some_and(|generation| generation >= self.generation),
            button: self.button.map(|pressed| now.duration_since(pressed)),
            reboot: self.reboot.as_ref().map(|reboot| reboot.kind),
            backoff: self.retry.backoff(now),
            given_up: self.retry.given_up(),
        }
    }

    async fn act(&mut self, action: Action, wanted: &Wanted<ServerSpec>) -> Result<Next, Stopped> {
        let hypervisor = Arc::clone(&self.shared.edges.hypervisor);
        match action {
            Action::Start => {
                let spec = wanted.spec.as_ref().ok_or(Stopped::Superseded)?;
                let seen = match self.start(wanted, spec).await {
                    Ok(seen) => seen,
                    Err(stopped) => {
                        self.set_guest(None);
                        return Err(stopped);
                    }
                };
                self.set_guest(Some((guest_of(seen.power), seen.incarnation)));
                self.crashed = false;
                self.failure = None;
                self.retry.succeeded();
                let rebooted = self
                    .reboot
                    .as_ref()
                    .is_some_and(|reboot| seen.incarnation > reboot.memory.from_incarnation);
                if rebooted {
                    self.settle_reboot(OperationOutcome::Done).await;
                }
                self.shared.facts_wake.notify_one();
            }
            Action::PressButton => {
                tracing::info!("pressing the power button");
                self.button = Some(Instant::now());
                if let Err(error) = hypervisor.power_button(&self.id).await {
                    tracing::warn!(%error, "the power button could not be pressed; the guest is ended after its grace");
                }
            }
            Action::End | Action::Kill => {
                let ending = match action {
                    Action::Kill => Ending::Kill,
                    _ => Ending::Quit,
                };
                tracing::info!(?ending, request_id = %wanted.request_id, "ending the guest");
                hypervisor.end(&self.id, ending).await?;
                self.set_guest(None);
                self.crashed = false;
                self.failure = None;
            }
            Action::Resume => {
                self.retry.pause(Instant::now() + RESUME_INTERVAL);
                hypervisor.resume(&self.id).await?;
            }
            Action::NotePowerOff => {
                tracing::info!("the guest switched itself off");
                self.memory.powered_off_generation = Some(wanted.generation);
                self.keep_memory().await?;
            }
            Action::FailReboot(why) => {
                self.settle_reboot(OperationOutcome::Failed(why.to_owned())).await;
            }
            Action::Remove => {
                // Also proves that no process is left that was never taken over.
                hypervisor.end(&self.id, Ending::Kill).await?;
                self.shared.edges.pool.remove(&self.id).await?;
                self.shared.store.forget_server(&self.id).await?;
                self.memory = ServerMemory::default();
                self.stages.clear();
                self.image_checksum = None;
                self.shared.facts_wake.notify_one();
            }
            Action::Report(word) => {
                let (state, error) = match word {
                    Word::Done => (ReportState::Done, None),
                    Word::Working => (ReportState::Working, None),
                    Word::Gone => (ReportState::Gone, None),
                    Word::Failed => {
                        let retrying = !self.retry.given_up();
                        let error = self.failure.as_ref().map(|failure| failure.report(retrying));
                        // A wait without a failure: a paused guest between two tries.
                        match error {
                            Some(error) => (ReportState::Failed, Some(error)),
                            None => (ReportState::Done, None),
                        }
                    }
                };
                self.report(wanted, state, error).await;
                return Ok(Next::Wait(None));
            }
            Action::Wait(wait) => return Ok(Next::Wait(Some(wait))),
        }
        Ok(Next::Again)
    }

    /// Reports on the server's document.
    pub(super) async fn report(
        &self,
        wanted: &Wanted<ServerSpec>,
        state: ReportState,
        error: Option<ReportError>,
    ) {
        if self.ending() && state != ReportState::Gone {
            return;
        }
        let power_state = match self.guest {
            Some((Guest::Running, _)) => PowerState::Running,
            Some((Guest::Paused, _)) => PowerState::Paused,
            Some((Guest::PoweredOff, _)) => PowerState::Shutdown,
            None if self.crashed => PowerState::Crashed,
            None => PowerState::Shutdown,
        };
        let facts = ServerFacts {
            power_state,
            incarnation: self.memory.incarnation,
            stages: self.stages.clone(),
            image_checksum: self.image_checksum.clone(),
        };
        self.shared.report(DocumentKind::Server, &self.id, wanted, state, &facts, error).await;
    }

    fn set_guest(&mut self, guest: Option<(Guest, u64)>) {
        self.guest = guest;
        self.button = None;
        self.shared.set_running(&self.id, guest.is_some());
    }

    /// Takes what the hypervisor said.
    fn hear(&mut self) {
        for event in self.inbox.take_events() {
            let Some((_, incarnation)) = self.guest else {
                continue;
            };
            if event.incarnation != incarnation {
                continue;
            }
            match event.what {
                GuestChange::Resumed => {
                    self.guest = Some((Guest::Running, incarnation));
                    self.failure = None;
                    self.retry.succeeded();
                }
                GuestChange::Paused => self.guest = Some((Guest::Paused, incarnation)),
                GuestChange::PoweredOff => self.guest = Some((Guest::PoweredOff, incarnation)),
                GuestChange::Reset => {}
                GuestChange::Exited { detail } => {
                    let asked = self.button.is_some();
                    self.set_guest(None);
                    if !asked {
                        tracing::error!(%detail, incarnation, "a guest ended unasked");
                        self.crashed = true;
                        self.failure = Some(Failure::crashed(&detail));
                        self.retry.crashed(Instant::now());
                    }
                }
            }
        }
    }

    pub(super) async fn keep_memory(&self) -> Result<(), Failure> {
        Ok(self.shared.store.set_server_memory(&self.id, self.memory.clone()).await?)
    }
}

/// What to do after a step.
enum Next {
    /// Plan again at once.
    Again,
    /// Wait for something to happen, or for so long.
    Wait(Option<Duration>),
}

/// Why a step stopped.
pub(super) enum Stopped {
    /// The document changed while the step was prepared.
    Superseded,
    /// It failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Failed(error.into())
    }
}

fn guest_of(power: PowerState) -> Guest {
    match power {
        PowerState::Running => Guest::Running,
        PowerState::Paused => Guest::Paused,
        PowerState::Shutdown | PowerState::Crashed => Guest::PoweredOff,
    }
}
