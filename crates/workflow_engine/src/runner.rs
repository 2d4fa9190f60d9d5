//! A registered workflow with its types taken away, so that one engine runs all kinds.

use std::sync::Arc;
use std::time::Duration;

use cloud_types::Fault;
use database::{BoxFuture, Tx};

use crate::model::Direction;
use crate::step::{End, Outcome, Step, StepContext, Workflow};

/// What the engine shows of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepLabel {
    pub name: &'static str,
    pub progress: u8,
    pub sentence: &'static str,
}

/// Runs the steps of one kind and version.
pub(crate) trait Runner: Send + Sync {
    fn steps(&self) -> &[StepLabel];
    /// Place of the step from which there is only forward.
    fn point_of_no_return(&self) -> Option<usize>;
    fn deadline(&self) -> (Duration, &'static str);
    /// Runs a step one way; returns what it came to and the state after it, as JSON.
    fn run<'c>(
        &'c self,
        index: usize,
        direction: Direction,
        context: StepContext<'c>,
        state: &'c str,
    ) -> BoxFuture<'c, Result<(Outcome, String), Fault>>;
    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c str,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>>;
}

pub(crate) struct Registered<W: Workflow> {
    workflow: Arc<W>,
    steps: Vec<Step<W>>,
    labels: Vec<StepLabel>,
    point_of_no_return: Option<usize>,
}

impl<W: Workflow> Registered<W> {
    /// Checks the list of steps.
    pub fn new(workflow: Arc<W>) -> Result<Self, String> {
        let steps = workflow.steps();
        let labels: Vec<StepLabel> = steps
            .iter()
            .map(|step| StepLabel {
                name: step.name,
                progress: step.progress,
                sentence: step.sentence,
            })
            .collect();
        if labels.is_empty() {
            return Err(format!("workflow {} has no steps", W::KIND));
        }
        for (index, label) in labels.iter().enumerate() {
            if labels[..index].iter().any(|other| other.name == label.name) {
                return Err(format!("workflow {} has two steps {}", W::KIND, label.name));
            }
        }
        let point_of_no_return = match workflow.point_of_no_return() {
            None => None,
            Some(name) => {
                Some(labels.iter().position(|label| label.name == name).ok_or_else(|| {
                    format!("workflow {} has no step {name} to be its point of no return", W::KIND)
                })?)
            }
        };
        Ok(Registered { workflow, steps, labels, point_of_no_return })
    }
}

fn unreadable(kind: &str, error: &serde_json::Error) -> Fault {
    tracing::error!(kind, %error, "the state of a workflow cannot be read");
    Fault::internal("The stored state of the work cannot be read; the operator's log says why.")
}

impl<W: Workflow> Runner for Registered<W> {
    fn steps(&self) -> &[StepLabel] {
        &self.labels
    }

    fn point_of_no_return(&self) -> Option<usize> {
        self.point_of_no_return
    }

    fn deadline(&self) -> (Duration, &'static str) {
        self.workflow.deadline()
    }

    fn run<'c>(
        &'c self,
        index: usize,
        direction: Direction,
        mut context: StepContext<'c>,
        state: &'c str,
    ) -> BoxFuture<'c, Result<(Outcome, String), Fault>> {
        Box::pin(async move {
            let mut value: W::State =
                serde_json::from_str(state).map_err(|error| unreadable(W::KIND, &error))?;
            let step = &self.steps[index];
            let body = match direction {
                Direction::Forward => Some(step.forward),
                Direction::Undo => step.undo,
            };
            let outcome = match body {
                Some(body) => body(&self.workflow, &mut context, &mut value).await?,
                None => Outcome::Done,
            };
            let state =
                serde_json::to_string(&value).map_err(|error| unreadable(W::KIND, &error))?;
            Ok((outcome, state))
        })
    }

    fn finished<'c>(
        &'c self,
        tx: &'c mut Tx,
        state: &'c str,
        end: &'c End,
    ) -> BoxFuture<'c, Result<(), Fault>> {
        Box::pin(async move {
            let state: W::State =
                serde_json::from_str(state).map_err(|error| unreadable(W::KIND, &error))?;
            self.workflow.finished(tx, &state, end).await
        })
    }
}
