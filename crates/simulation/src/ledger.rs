//! What the region promised to those who asked, compared with what it did: acknowledged means
//! durable, and nothing is done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auditor::{Finding, Kind};
use serde_json::Value;

#[derive(Default)]
struct State {
    /// Objects whose making was acknowledged: kind of the journal, and id.
    made: BTreeSet<(String, String)>,
    /// Objects whose removal was acknowledged.
    removed: BTreeSet<(String, String)>,
    /// Promises that were seen broken while it ran.
    broken: Vec<Finding>,
}

/// The ledger. Clones are the same one.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<State>>);

/// An entry of the journal, as far as the ledger reads it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The kind of object.
    pub kind: String,
    /// The object.
    pub id: String,
    /// `create`, `update`, `delete`.
    pub action: String,
    /// After.
    pub after: Option<Value>,
}

/// Kinds that are journalled under the id that the API gives them.
const KINDS: &[&str] = &["server", "network", "subnet", "port", "security_group"];

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region said that it made this.
    pub fn made(&self, kind: &str, id: &str) {
        self.state().made.insert((kind.to_owned(), id.to_owned()));
    }

    /// The region said that it removed this.
    pub fn removed(&self, kind: &str, id: &str) {
        self.state().removed.insert((kind.to_owned(), id.to_owned()));
    }

    /// A promise was seen broken.
    pub fn broken(&self, object_kind: &'static str, object: &str, message: &str) {
        let finding = Finding {
            kind: Kind::Journal,
            object_kind,
            object: object.to_owned(),
            message: message.to_owned(),
            repair: None,
        };
        let mut state = self.state();
        if !state.broken.contains(&finding) {
            state.broken.push(finding);
        }
    }

    /// Promises that were seen broken while it ran.
    pub fn check_broken(&self) -> Vec<Finding> {
        self.state().broken.clone()
    }

    /// What was promised and is not in the journal, and what is there twice.
    pub fn check(&self, journal: &[Entry]) -> Vec<Finding> {
        let state = self.state();
        let mut found = state.broken.clone();
        let mut say = |object: &str, message: String| {
            found.push(Finding {
                kind: Kind::Journal,
                object_kind: "object",
                object: object.to_owned(),
                message,
                repair: None,
            });
        };
        let with = |action: &str| -> BTreeSet<(&str, &str)> {
            let entries = journal.iter().filter(|entry| entry.action == action);
            entries.map(|entry| (entry.kind.as_str(), entry.id.as_str())).collect()
        };
        let (created, deleted) = (with("create"), with("delete"));
        for (kind, id) in &state.made {
            if KINDS.contains(&kind.as_str()) && !created.contains(&(kind.as_str(), id.as_str())) {
                say(id, format!("its making as a {kind} was acknowledged, and never happened"));
            }
        }
        for (kind, id) in &state.removed {
            let checked = KINDS.contains(&kind.as_str()) && kind != "server";
            if checked && !deleted.contains(&(kind.as_str(), id.as_str())) {
                say(id, format!("its removal as a {kind} was acknowledged, and never happened"));
            }
        }
        // Each wish has a name of its own, so a name that stands twice was carried out twice.
        let mut names: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for entry in journal.iter().filter(|entry| entry.action == "create") {
            let name = entry.after.as_ref().and_then(|after| after["name"].as_str());
            if let Some(name) = name.filter(|name| name.starts_with("wish-")) {
                names.entry((&entry.kind, name)).or_default().insert(&entry.id);
            }
        }
        for ((kind, name), ids) in names {
            if let (true, Some(last)) = (ids.len() > 1, ids.last()) {
                say(
                    last,
                    format!("the request for {kind} {name} was carried out {} times", ids.len()),
                );
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(action: &str, id: &str) -> Entry {
        Entry {
            kind: "network".into(),
            id: id.into(),
            action: action.into(),
            after: Some(json!({"name": "wish-1"})),
        }
    }

    #[test]
    fn what_was_promised_and_not_done_or_done_twice_is_found() {
        let ledger = Ledger::default();
        ledger.made("network", "a");
        assert_eq!(ledger.check(&[entry("create", "a")]), []);
        assert_eq!(ledger.check(&[]).len(), 1);
        assert_eq!(ledger.check(&[entry("create", "a"), entry("create", "b")]).len(), 1);
        ledger.removed("network", "a");
        assert_eq!(ledger.check(&[entry("create", "a")]).len(), 1);
        ledger.broken("report", "h", "x");
        assert_eq!(ledger.check(&[entry("create", "a"), entry("delete", "a")]).len(), 1);
    }
}
