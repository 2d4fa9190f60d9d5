//! Whether to do what a workflow's step asks: pure, from what is remembered.
//!
//! ```text
//!   (nothing) ──forward──► pending ──► done | failed      repeated forward: the same answer
//!       │                     │            │
//!       └───────undo──────────┴────────────┴──► undone    forward after that: refused
//! ```
//! A worker whose lease was taken over may still send: what carries a lower epoch than the
//! workflow has shown is refused.

use host_protocol::{OperationDirection, OperationSpec};

use crate::store::{OperationMemory, OperationOutcome};

/// What to do about an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New: remember it with this memory, and act if its outcome is pending.
    Accept(OperationMemory),
    /// Accepted before, and still to do.
    Continue(OperationMemory),
    /// Done before: answer the same.
    Answer(OperationOutcome),
    /// Not to be done; why.
    Refuse {
        /// A stable word.
        code: &'static str,
        /// Why.
        message: String,
    },
}

/// Decides. `incarnation` is the server's count of starts now, from which a reboot is measured.
pub fn decide(
    spec: &OperationSpec,
    workflow_epoch: u64,
    memory: Option<&OperationMemory>,
    incarnation: u64,
) -> Verdict {
    if spec.worker_epoch < workflow_epoch {
        return Verdict::Refuse {
            code: "stale_worker",
            message: format!(
                "worker epoch {} has been taken over by {workflow_epoch}",
                spec.worker_epoch
            ),
        };
    }
    match (spec.direction, memory) {
        (OperationDirection::Undo, Some(memory))
            if memory.direction == OperationDirection::Undo =>
        {
            Verdict::Answer(memory.outcome.clone())
        }
        // What these operations do leaves nothing to take back; what is pending is dropped.
        (OperationDirection::Undo, _) => Verdict::Accept(OperationMemory {
            direction: OperationDirection::Undo,
            outcome: OperationOutcome::Done,
            from_incarnation: incarnation,
        }),
        (OperationDirection::Forward, Some(memory))
            if memory.direction == OperationDirection::Undo =>
        {
            Verdict::Refuse { code: "undone", message: "this step has been undone".to_owned() }
        }
        (OperationDirection::Forward, Some(memory)) => match &memory.outcome {
            OperationOutcome::Pending => Verdict::Continue(memory.clone()),
            outcome => Verdict::Answer(outcome.clone()),
        },
        (OperationDirection::Forward, None) => Verdict::Accept(OperationMemory {
            direction: OperationDirection::Forward,
            outcome: OperationOutcome::Pending,
            from_incarnation: incarnation,
        }),
    }
}

#[cfg(test)]
mod tests {
    use host_protocol::OperationAction;

    use super::*;

    fn spec(direction: OperationDirection, worker_epoch: u64) -> OperationSpec {
        OperationSpec {
            workflow: "w".to_owned(),
            step: "reboot".to_owned(),
            direction,
            attempt: 1,
            worker_epoch,
            action: OperationAction::Reboot { server_id: "s".to_owned(), hard: true },
        }
    }

    fn accepted(verdict: Verdict) -> OperationMemory {
        match verdict {
            Verdict::Accept(memory) => memory,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_done_twice() {
        let forward = spec(OperationDirection::Forward, 3);
        let mut memory = accepted(decide(&forward, 0, None, 7));
        assert_eq!(memory.from_incarnation, 7);
        assert_eq!(
            decide(&forward, 3, Some(&memory), 8),
            Verdict::Continue(memory.clone()),
            "also by a restarted agent, and measured from the first acceptance"
        );
        memory.outcome = OperationOutcome::Done;
        assert_eq!(decide(&forward, 3, Some(&memory), 8), Verdict::Answer(OperationOutcome::Done));
    }

    #[test]
    fn a_stopped_worker_cannot_bring_back_what_was_undone() {
        let undone = accepted(decide(&spec(OperationDirection::Undo, 4), 3, None, 7));
        let late = spec(OperationDirection::Forward, 4);
        assert!(matches!(
            decide(&late, 4, Some(&undone), 7),
            Verdict::Refuse { code: "undone", .. }
        ));
        let stale = spec(OperationDirection::Forward, 2);
        assert!(matches!(decide(&stale, 4, None, 7), Verdict::Refuse { code: "stale_worker", .. }));
    }
}
