//! What a workflow is made of.

use std::fmt;
use std::time::Duration;

use cloud_types::{Fault, Timestamp, WorkflowId};
use database::{BoxFuture, Tx};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A kind of durable work. The value carries handles to the services that its steps use; what
/// belongs to one run of it is in `State`.
pub trait Workflow: Send + Sync + Sized + 'static {
    /// Names the kind in the database: `server_create`.
    const KIND: &'static str;
    /// Raised when the steps or the state change in a way that older runs cannot follow. A
    /// release registers every version that may still be under way.
    const VERSION: u32;
    /// The input, and what the steps decided. Stored after every step. Must hold no secret.
    type State: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// The steps, in order. The list must not depend on anything that changes.
    fn steps(&self) -> Vec<Step<Self>>;

    /// The step from which there is only forward; `None` when everything can be undone.
    fn point_of_no_return(&self) -> Option<&'static str>;

    /// How long it may take, and why that long.
    fn deadline(&self) -> (Duration, &'static str);

    /// Called in the last transaction: gives the resource its final status. A fault makes the
    /// last step fail.
    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c Self::State,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>>;
}

/// How a workflow ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Every step is done.
    Succeeded,
    /// A step failed, or the deadline passed, and everything was undone.
    Undone {
        /// Why.
        fault: Fault,
    },
    /// Somebody cancelled it, and everything was undone.
    Cancelled,
}

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next step may run.
    Done,
    /// Run this step again, from its start, when the event fires or the timeout has passed; it
    /// then looks at the world and decides. What it changed so far is stored.
    Wait {
        /// Fired by [`crate::wake`].
        event: EventKey,
        /// The longest wait.
        timeout: Duration,
    },
    /// Run this step again after a while. What it changed so far is stored.
    Retry {
        /// How long to wait.
        after: Duration,
        /// For the operator.
        why: String,
    },
}

/// Names something that a workflow waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventKey(String);

impl EventKey {
    /// Something of an object: `EventKey::new("volume", id)`.
    pub fn new(kind: &str, id: impl fmt::Display) -> Self {
        EventKey(format!("{kind}/{id}"))
    }

    /// A report about a server, or a change of one.
    pub fn server(id: impl fmt::Display) -> Self {
        Self::new("server", id)
    }

    /// A report about a port.
    pub fn port(id: impl fmt::Display) -> Self {
        Self::new("port", id)
    }

    /// A report about an operation document.
    pub fn operation(id: impl fmt::Display) -> Self {
        Self::new("operation", id)
    }

    /// The key as stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a step knows of its run.
pub struct StepContext<'t> {
    /// The step's transaction.
    pub tx: &'t mut Tx,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step's name.
    pub step: &'static str,
    /// Which try of the step this is, from 1; not counting wake-ups of one that waited.
    pub attempt: u32,
    /// The worker's lease: rises whenever a worker takes the workflow up.
    pub epoch: u64,
    /// When the workflow must have ended.
    pub deadline: Timestamp,
    /// The request that began it.
    pub request_id: String,
}

/// The body of a step: a closure that captures nothing (what it needs is in the workflow and the
/// state), `|workflow, context, state| Box::pin(async move { Ok(Outcome::Done) })`.
pub type StepFn<W> = for<'c, 't> fn(
    &'c W,
    &'c mut StepContext<'t>,
    &'c mut <W as Workflow>::State,
) -> BoxFuture<'c, Result<Outcome, Fault>>;

/// One step of a workflow.
///
/// `forward` and `undo` may each run more than once, and `undo` also when `forward` never ran or
/// ran in part (it waited, then failed): both look at the world before they change it. An `Err`
/// of `forward` takes back what that run of it changed, and begins the undoing with this step's
/// own `undo`; past the point of no return it is tried again instead. Failures of the database
/// are not the step's: it is then run again.
pub struct Step<W: Workflow> {
    pub(crate) name: &'static str,
    pub(crate) progress: u8,
    pub(crate) sentence: &'static str,
    pub(crate) forward: StepFn<W>,
    pub(crate) undo: Option<StepFn<W>>,
}

impl<W: Workflow> Step<W> {
    /// A step that does nothing yet: `Step::<Self>::new(…)`, so that the closures that follow know
    /// their types. `progress` (0 to 100) and `sentence` are what people see
    /// while it is under way.
    pub fn new(name: &'static str, progress: u8, sentence: &'static str) -> Self {
        Step {
            name,
            progress: progress.min(100),
            sentence,
            forward: |_, _, _| Box::pin(async { Ok(Outcome::Done) }),
            undo: None,
        }
    }

    /// What the step does.
    pub fn forward(mut self, body: StepFn<W>) -> Self {
        self.forward = body;
        self
    }

    /// How it is taken back. Without it there is nothing to take back.
    pub fn undo(mut self, body: StepFn<W>) -> Self {
        self.undo = Some(body);
        self
    }
}
