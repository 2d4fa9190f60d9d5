//! Sums of hosts, and references to what is not there.

use crate::model::{Finding, Kind, Repair};
use crate::rows::{HostRow, OrphanRow};

const NAMES: [&str; 4] = ["processors", "MiB of memory", "GiB of disk", "servers"];

/// Checks hosts. `percent` is how much of its processors, memory and disk may be promised.
pub fn hosts(rows: &[HostRow], percent: [u64; 3]) -> Vec<Finding> {
    let mut found = Vec::new();
    for row in rows {
        for (name, (written, claimed)) in NAMES.iter().zip(row.written.iter().zip(row.claimed)) {
            if *written != claimed {
                let message = format!(
                    "{written} {name} are written as claimed, but the claims are {claimed}"
                );
                let repair = Repair::AddUp { host: row.id.clone() };
                found.push(
                    Finding::new(Kind::HostSums, "host", &row.id, message).repaired_by(repair),
                );
            }
        }
        let Some(capacity) = row.capacity else { continue };
        for (at, name) in NAMES.iter().take(3).enumerate() {
            let allowed = capacity[at].saturating_mul(percent[at].cast_signed()) / 100;
            if row.claimed[at] > allowed {
                let message = format!(
                    "{} {name} are claimed, and {allowed} may be promised",
                    row.claimed[at]
                );
                found.push(Finding::new(Kind::Overcommitted, "host", &row.id, message));
            }
        }
    }
    found
}

/// References to what is not there.
pub fn orphans(rows: &[OrphanRow]) -> Vec<Finding> {
    rows.iter()
        .map(|row| {
            let message = format!("{} refer to it, and it is not there", row.reference);
            let finding = Finding::new(Kind::Orphan, "object", &row.missing, message);
            match row.disposable {
                true => finding.repaired_by(Repair::DeleteOrphan {
                    reference: row.reference,
                    missing: row.missing.clone(),
                }),
                false => finding,
            }
        })
        .collect()
}

/// Reports, as (host, kind, id), on documents that are not there.
pub fn reports_without_documents(rows: &[(String, String, String)]) -> Vec<Finding> {
    rows.iter()
        .map(|(host, kind, id)| {
            let message = format!("there is a report on its {kind} {id}, which it has no more");
            Finding::new(Kind::Report, "host", host, message).repaired_by(Repair::ForgetReport {
                host: host.clone(),
                kind: kind.clone(),
                id: id.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> HostRow {
        HostRow {
            id: "h1".into(),
            written: [16, 1024, 10, 2],
            claimed: [16, 1024, 10, 2],
            capacity: Some([1, 1024, 10]),
        }
    }

    #[test]
    fn wrong_sums_are_found_and_can_be_added_up_again() {
        assert_eq!(hosts(&[full()], [1600, 100, 100]), []);
        let found = hosts(&[HostRow { written: [16, 1024, 10, 3], ..full() }], [1600, 100, 100]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].repair, Some(Repair::AddUp { host: "h1".into() }));
    }

    #[test]
    fn a_host_with_more_claimed_than_it_has_is_found() {
        let row = HostRow { capacity: Some([1, 1023, 10]), ..full() };
        let found = hosts(&[row], [1600, 100, 100]);
        assert_eq!(found.iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::Overcommitted]);
        assert_eq!(hosts(&[HostRow { capacity: None, ..full() }], [0, 0, 0]), []);
    }

    #[test]
    fn a_reference_to_nothing_is_found_and_deleted_only_where_it_means_nothing() {
        let row = OrphanRow { reference: "x", missing: "m".into(), disposable: false };
        assert_eq!(orphans(std::slice::from_ref(&row))[0].repair, None);
        assert!(orphans(&[OrphanRow { disposable: true, ..row }])[0].repair.is_some());
        assert_eq!(reports_without_documents(&[Default::default()]).len(), 1);
    }
}
