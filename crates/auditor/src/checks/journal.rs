//! Journal and rows: what the journal says was made is there, what it says was deleted is not, and
//! each entry begins where the one before it ended.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{Finding, Kind};
use crate::rows::JournalRow;

/// Which of the objects in the journal there are, by kind; a kind that is missing is not checked.
pub type Existing = BTreeMap<String, BTreeSet<String>>;

/// Kinds whose identifiers are used once.
const KINDS: &[&str] = &["server", "network", "subnet", "port", "security_group", "host"];
/// Kinds whose entries hold the whole view of the object, so that one entry's end is the next
/// one's beginning.
const CHAINED: &[&str] = &["server"];

/// Checks entries in the order of the journal.
pub fn journal(entries: &[JournalRow], existing: &Existing) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut last: BTreeMap<(&str, &str), &JournalRow> = BTreeMap::new();
    for entry in entries {
        let former = last.insert((&entry.kind, &entry.id), entry);
        // Other kinds go by names, which come back.
        let Some(former) = former.filter(|_| KINDS.contains(&entry.kind.as_str())) else {
            continue;
        };
        if let Some(wrong) = break_between(former, entry) {
            found.push(say(entry, wrong));
        }
    }
    for entry in last.into_values() {
        let Some(there) = existing.get(&entry.kind) else { continue };
        match (entry.action.as_str(), there.contains(&entry.id)) {
            ("delete", true) => {
                found.push(say(entry, "the journal says that it was deleted, and it is there"));
            }
            ("create" | "update", false) => {
                found.push(say(
                    entry,
                    "the journal does not say that it was deleted, and it is gone",
                ));
            }
            _ => {}
        }
    }
    found
}

fn say(entry: &JournalRow, message: &str) -> Finding {
    let message = format!("{}: {message} (request {})", entry.kind, entry.request_id);
    Finding::new(Kind::Journal, "object", &entry.id, message)
}

fn break_between(former: &JournalRow, entry: &JournalRow) -> Option<&'static str> {
    if entry.action == "create" {
        return Some("it was made twice");
    }
    if former.action == "delete" {
        return Some("it was changed after it was deleted");
    }
    let chained = CHAINED.contains(&entry.kind.as_str());
    let differs = |a: &Option<Value>, b: &Option<Value>| a.is_some() && b.is_some() && a != b;
    (chained && differs(&former.after, &entry.before))
        .then_some("a change of it is missing in the journal")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(action: &str, before: Option<Value>, after: Option<Value>) -> JournalRow {
        JournalRow {
            kind: "server".into(),
            id: "s1".into(),
            action: action.into(),
            before,
            after,
            request_id: "r".into(),
        }
    }

    fn there() -> Existing {
        [("server".to_owned(), ["s1".to_owned()].into())].into()
    }

    fn gone() -> Existing {
        [("server".to_owned(), BTreeSet::new())].into()
    }

    #[test]
    fn a_journal_that_tells_the_whole_story_is_no_finding() {
        let made = entry("create", None, Some(json!(1)));
        let changed = entry("update", Some(json!(1)), Some(json!(2)));
        let deleted = entry("delete", Some(json!(2)), None);
        assert_eq!(journal(&[made.clone(), changed.clone()], &there()), []);
        assert_eq!(journal(&[made, changed, deleted], &gone()), []);
    }

    #[test]
    fn an_object_that_is_there_or_gone_against_the_journal_is_found() {
        let made = entry("create", None, Some(json!(1)));
        let deleted = entry("delete", Some(json!(1)), None);
        assert_eq!(journal(std::slice::from_ref(&made), &gone()).len(), 1);
        assert_eq!(journal(&[made, deleted], &there()).len(), 1);
    }

    #[test]
    fn a_missing_entry_and_a_second_making_are_found() {
        let made = entry("create", None, Some(json!(1)));
        let later = entry("update", Some(json!(2)), Some(json!(3)));
        assert_eq!(journal(&[made.clone(), later], &there()).len(), 1);
        assert_eq!(journal(&[made.clone(), made], &there()).len(), 1);
    }
}
