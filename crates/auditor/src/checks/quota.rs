//! Quotas: usage is what there is.

use crate::model::{Finding, Kind, Repair};
use crate::rows::UsageRow;

/// Checks what was counted against what is written.
pub fn quota(rows: &[UsageRow]) -> Vec<Finding> {
    rows.iter()
        .filter(|row| row.written != row.counted)
        .map(|row| {
            let message = format!(
                "its usage of {} is written as {}, and it has {}",
                row.resource, row.written, row.counted
            );
            Finding::new(Kind::Quota, "project", &row.project, message).repaired_by(
                Repair::Recount { project: row.project.clone(), resource: row.resource.clone() },
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_that_is_not_what_there_is_is_found_and_can_be_counted_again() {
        let right =
            UsageRow { project: "p".into(), resource: "port".into(), written: 3, counted: 3 };
        let wrong = UsageRow { written: 2, ..right.clone() };
        let found = quota(&[right, wrong]);
        assert_eq!(found.len(), 1);
        assert!(matches!(found[0].repair, Some(Repair::Recount { .. })));
    }
}
