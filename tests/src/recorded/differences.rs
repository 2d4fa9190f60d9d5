//! The table of differences that are meant: `tests/recorded/differences.toml`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::compare::Difference;
use super::directory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    difference: Vec<Entry>,
}

/// One kind of difference; `*` in a pattern stands for any text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// `GROUP: NAME` of requests.
    requests: Vec<String>,
    /// Where in the answer.
    places: Vec<String>,
    /// Only this kind.
    kind: Option<String>,
    /// Why, in a sentence.
    reason: String,
}

/// The table, and which of its entries were needed.
pub struct Differences {
    entries: Vec<Entry>,
    used: RefCell<BTreeSet<(usize, String, String)>>,
}

impl Differences {
    /// Reads the table.
    ///
    /// # Errors
    /// When it cannot be read, or an entry gives no reason.
    pub fn read() -> Result<Self> {
        let path = directory().join("differences.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let table: Table = toml::from_str(&text).context("differences.toml")?;
        for entry in &table.difference {
            if entry.reason.trim().is_empty() || entry.places.is_empty() {
                bail!("an entry for {:?} says not where, or not why", entry.requests);
            }
        }
        Ok(Differences { entries: table.difference, used: RefCell::default() })
    }

    /// Whether the table has it.
    pub fn allow(&self, difference: &Difference) -> bool {
        let mut allowed = false;
        for (index, entry) in self.entries.iter().enumerate() {
            if entry.kind.as_ref().is_some_and(|kind| kind != difference.kind) {
                continue;
            }
            for request in &entry.requests {
                for place in &entry.places {
                    if matches(request, &difference.request) && matches(place, &difference.place) {
                        self.used.borrow_mut().insert((index, request.clone(), place.clone()));
                        allowed = true;
                    }
                }
            }
        }
        allowed
    }

    /// Patterns for `group` that nothing matched: what they excuse is not so any more.
    pub fn stale(&self, group: &str) -> Vec<String> {
        let used = self.used.borrow();
        let mut stale = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let ours = |pattern: &&String| pattern.starts_with(&format!("{group}: "));
            let before = stale.len();
            for request in entry.requests.iter().filter(ours) {
                if !used.iter().any(|(at, pattern, _)| *at == index && pattern == request) {
                    stale.push(format!("{request} | {}", entry.places.join(", ")));
                }
            }
            let whole = stale.len() == before;
            if whole && entry.requests.iter().all(|pattern| ours(&pattern)) {
                for place in &entry.places {
                    if !used.iter().any(|(at, _, pattern)| *at == index && pattern == place) {
                        stale.push(format!("{} | {place}", entry.requests.join(", ")));
                    }
                }
            }
        }
        stale
    }
}

/// A pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| matches(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("compute: server show*", "compute: server show at 2.1"));
        assert!(matches("*/id", "/servers/*/id"));
        assert!(!matches("compute: a", "compute: ab"));
    }
}
