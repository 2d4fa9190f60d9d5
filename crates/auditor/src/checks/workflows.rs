//! Workflows: none late, none asleep that should be awake, none written by a worker that had lost it.

use std::collections::BTreeMap;
use std::time::Duration;

use cloud_types::Timestamp;

use crate::model::{Finding, Kind};
use crate::rows::{StepRow, WorkflowRow};

/// Clocks of control planes may differ by so much before it says anything about a wake-up.
const CLOCKS_DIFFER: Duration = Duration::from_secs(4);

/// Checks workflows that have not ended. `word` is when a host last said something about a
/// server.
pub fn workflows(
    open: &[WorkflowRow],
    word: &BTreeMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for workflow in open {
        if workflow.deadline < now {
            found.push(Finding::new(
                Kind::Overdue,
                "workflow",
                &workflow.id,
                format!(
                    "{} of {} {} should have ended {} seconds ago; it is {} at {}",
                    workflow.kind,
                    workflow.owner_kind,
                    workflow.owner,
                    now.since(workflow.deadline).as_secs(),
                    workflow.status,
                    workflow.step
                ),
            ));
        }
        if let Some(said) = slept_through(workflow, word) {
            found.push(Finding::new(
                Kind::LateWakeUp,
                "workflow",
                &workflow.id,
                format!(
                    "{} of {} {} sleeps at {} although its host has said something since ({said})",
                    workflow.kind, workflow.owner_kind, workflow.owner, workflow.step
                ),
            ));
        }
    }
    found
}

/// When the host said what the workflow waits for, if that did not wake it.
fn slept_through(workflow: &WorkflowRow, word: &BTreeMap<String, Timestamp>) -> Option<Timestamp> {
    let server = workflow.wait_event.as_deref()?.strip_prefix("server/")?;
    let said = *word.get(server)?;
    let asleep = workflow.status == "waiting" && !workflow.leased;
    let since = said > workflow.updated_at.after(CLOCKS_DIFFER);
    // A workflow that was woken became due at the moment of the word.
    (asleep && since && workflow.due_at > said.after(CLOCKS_DIFFER)).then_some(said)
}

/// Checks the histories of workflows. Each step's epoch is at least that of the step before it, in
/// the order in which steps run, because a lower one had lost its lease; and an epoch is given to
/// one worker, so nobody else runs anything under it.
pub fn written_after_loss(steps: &[StepRow]) -> Vec<Finding> {
    let mut by_workflow: BTreeMap<&str, Vec<&StepRow>> = BTreeMap::new();
    for step in steps {
        by_workflow.entry(&step.workflow).or_default().push(step);
    }
    let mut found = Vec::new();
    for (workflow, mut steps) in by_workflow {
        found.extend(borrowed_epoch(workflow, &steps));
        // Forward steps rise; then undone ones, from the last to the first.
        steps.sort_by_key(|step| (step.undo, if step.undo { -step.index } else { step.index }));
        let fell = steps.windows(2).find_map(|pair| match pair {
            [earlier, later] if later.epoch < earlier.epoch => Some((*earlier, *later)),
            _ => None,
        });
        if let Some((earlier, later)) = fell {
            found.push(Finding::new(
                Kind::LostLease,
                "workflow",
                workflow,
                format!(
                    "step {} was last run under epoch {}, after step {} under {}",
                    later.index, later.epoch, earlier.index, earlier.epoch
                ),
            ));
        }
    }
    found
}

/// A step that was run under an epoch which another worker has.
fn borrowed_epoch(workflow: &str, steps: &[&StepRow]) -> Option<Finding> {
    let mut holders: BTreeMap<i64, &str> = BTreeMap::new();
    let leases = steps.iter().map(|step| (step.lease.0, step.lease.1.as_str()));
    for (epoch, worker) in leases.filter(|(_, worker)| !worker.is_empty()) {
        holders.insert(epoch, worker);
    }
    for step in steps.iter().filter(|step| !step.worker.is_empty()) {
        let holder = *holders.entry(step.epoch).or_insert(&step.worker);
        if holder != step.worker {
            let message = format!(
                "step {} was run by {} under epoch {}, which {holder} has",
                step.index, step.worker, step.epoch
            );
            return Some(Finding::new(Kind::LostLease, "workflow", workflow, message));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeping() -> WorkflowRow {
        WorkflowRow {
            id: "w1".into(),
            status: "waiting".into(),
            wait_event: Some("server/s1".into()),
            updated_at: Timestamp(10_000_000),
            due_at: Timestamp(25_000_000),
            deadline: Timestamp(100_000_000),
            ..WorkflowRow::default()
        }
    }

    fn kinds(open: &[WorkflowRow], said: i64, now: i64) -> Vec<Kind> {
        let word = BTreeMap::from([("s1".to_owned(), Timestamp(said))]);
        workflows(open, &word, Timestamp(now)).into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_workflow_past_its_deadline_is_found() {
        assert_eq!(kinds(&[sleeping()], 0, 20_000_000), []);
        assert_eq!(kinds(&[sleeping()], 0, 100_000_001), [Kind::Overdue]);
    }

    #[test]
    fn a_workflow_that_slept_through_its_hosts_word_is_found() {
        assert_eq!(kinds(&[sleeping()], 16_000_000, 20_000_000), [Kind::LateWakeUp]);
        let woken = WorkflowRow { due_at: Timestamp(16_000_000), ..sleeping() };
        assert_eq!(kinds(&[woken], 16_000_000, 20_000_000), []);
        let at_work = WorkflowRow { leased: true, ..sleeping() };
        assert_eq!(kinds(&[at_work], 16_000_000, 20_000_000), []);
    }

    #[test]
    fn a_step_under_an_epoch_that_was_lost_is_found() {
        let step = |undo, index, epoch| StepRow {
            workflow: "w1".into(),
            undo,
            index,
            epoch,
            ..StepRow::default()
        };
        let history =
            vec![step(false, 0, 1), step(false, 1, 2), step(true, 1, 2), step(true, 0, 4)];
        assert_eq!(written_after_loss(&history), []);
        let history = vec![step(false, 0, 2), step(false, 1, 1)];
        assert_eq!(written_after_loss(&history).len(), 1);
    }

    #[test]
    fn a_step_under_an_epoch_that_another_worker_has_is_found() {
        let step = |index, epoch, worker: &str, holder: &str| StepRow {
            workflow: "w1".into(),
            index,
            epoch,
            worker: worker.into(),
            lease: (2, holder.into()),
            ..StepRow::default()
        };
        let taken_over = vec![step(0, 1, "a", "b"), step(1, 2, "b", "b")];
        assert_eq!(written_after_loss(&taken_over), []);
        let went_on = vec![step(0, 1, "a", "b"), step(1, 2, "a", "b")];
        assert_eq!(written_after_loss(&went_on).len(), 1);
        let both = vec![step(0, 1, "a", "c"), step(1, 1, "b", "c")];
        assert_eq!(written_after_loss(&both).len(), 1);
        // Histories of a release that did not write workers down say nothing.
        let unknown = vec![step(0, 1, "", ""), step(1, 2, "", "b")];
        assert_eq!(written_after_loss(&unknown), []);
    }
}
