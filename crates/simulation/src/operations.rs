//! What hosts have done for operations (a reboot), from what they remember of them: each is carried
//! out once, whatever is sent again, comes late, or is killed in between.

use std::collections::BTreeMap;

use auditor::{Finding, Kind};
use host_agent::store::{OperationMemory, OperationOutcome};
use host_protocol::OperationDirection;

/// What was seen of all hosts' operations.
#[derive(Debug, Default)]
pub struct Operations(BTreeMap<(String, String), OperationMemory>);

impl Operations {
    /// Takes a look at one host in.
    pub fn look(&mut self, host: &str, now: BTreeMap<String, OperationMemory>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (id, memory) in now {
            let before = self.0.insert((host.to_owned(), id.clone()), memory.clone());
            let Some(wrong) = before.and_then(|before| again(&before, &memory)) else { continue };
            found.push(Finding {
                kind: Kind::Machine,
                object_kind: "operation",
                object: id,
                message: format!("{host} {wrong}"),
                repair: None,
            });
        }
        found
    }
}

/// What is wrong about a memory that follows another.
fn again(before: &OperationMemory, after: &OperationMemory) -> Option<String> {
    match (before.direction, after.direction) {
        (OperationDirection::Forward, OperationDirection::Undo) => None,
        (OperationDirection::Undo, OperationDirection::Forward) => {
            Some("took it up again after it was undone".to_owned())
        }
        _ if before.from_incarnation != after.from_incarnation => Some(format!(
            "took it up at start {} of the server, and again at start {}",
            before.from_incarnation, after.from_incarnation
        )),
        _ if before.outcome != OperationOutcome::Pending && before.outcome != after.outcome => {
            Some("had ended it, and it ended again".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(outcome: OperationOutcome, from_incarnation: u64) -> OperationMemory {
        OperationMemory { direction: OperationDirection::Forward, outcome, from_incarnation }
    }

    fn looks(several: &[OperationMemory]) -> usize {
        let mut operations = Operations::default();
        let looks = several.iter().map(|memory| [("w/reboot".to_owned(), memory.clone())].into());
        looks.map(|now| operations.look("host-1", now).len()).sum()
    }

    #[test]
    fn an_operation_that_is_taken_up_ends_and_is_undone_is_no_finding() {
        let undone = OperationMemory {
            direction: OperationDirection::Undo,
            ..memory(OperationOutcome::Done, 2)
        };
        let pending = memory(OperationOutcome::Pending, 1);
        assert_eq!(looks(&[pending.clone(), memory(OperationOutcome::Done, 1), undone]), 0);
        assert_eq!(looks(&[pending.clone(), pending]), 0);
    }

    #[test]
    fn an_operation_that_is_carried_out_again_is_found() {
        let done = memory(OperationOutcome::Done, 1);
        let undone = OperationMemory { direction: OperationDirection::Undo, ..done.clone() };
        assert_eq!(looks(&[done.clone(), memory(OperationOutcome::Done, 2)]), 1);
        assert_eq!(looks(&[done.clone(), memory(OperationOutcome::Pending, 1)]), 1);
        assert_eq!(looks(&[undone, done]), 1);
    }
}
