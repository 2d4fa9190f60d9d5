//! The operator's file: which rule, which expression, on which line. oslo.policy's files are YAML
//! (JSON is a part of it): one table of texts.
//!
//! ```yaml
//! # Members may list users of their own domain, too.
//! "identity:list_users": "rule:admin_required or role:member and domain_id:%(target.domain_id)s"
//! ```

use std::collections::BTreeMap;

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

use super::PolicyError;

/// An operator's policy file.
#[derive(Clone, Copy, Debug)]
pub enum PolicyFile<'t> {
    /// oslo.policy's form: YAML or JSON.
    Yaml(&'t str),
    /// `"rule" = "expression"`.
    Toml(&'t str),
}

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub rule: String,
    pub expression: String,
    pub line: usize,
}

impl PolicyFile<'_> {
    /// What the file says, in its order.
    pub(super) fn entries(self) -> Result<Vec<Entry>, PolicyError> {
        match self {
            PolicyFile::Yaml(text) => yaml(text),
            PolicyFile::Toml(text) => toml(text),
        }
    }
}

fn toml(text: &str) -> Result<Vec<Entry>, PolicyError> {
    let table: BTreeMap<String, String> =
        toml::from_str(text).map_err(|error| PolicyError::File(error.to_string()))?;
    let line_of = |name: &str| {
        let quoted = format!("\"{name}\"");
        let on_line = |line: &str| {
            let line = line.trim_start();
            line.starts_with(name) || line.starts_with(&quoted)
        };
        text.lines().position(on_line).map_or(1, |index| index + 1)
    };
    Ok(table
        .into_iter()
        .map(|(rule, expression)| Entry { line: line_of(&rule), rule, expression })
        .collect())
}

/// Collects the pairs of a flat table; the first thing that is something else ends it.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
    key: Option<(String, usize)>,
    depth: usize,
    wrong: Option<String>,
}

impl Table {
    fn refuse(&mut self, line: usize, what: &str) {
        self.wrong.get_or_insert_with(|| format!("line {line}: {what}"));
    }
}

impl MarkedEventReceiver for Table {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = mark.line();
        match event {
            Event::MappingStart(..) if self.depth == 0 => self.depth = 1,
            Event::MappingEnd => self.depth = 0,
            Event::Scalar(text, style, ..) if self.depth == 1 => {
                match self.key.take() {
                    None => self.key = Some((text, line)),
                    Some((rule, line)) => {
                        let is_null = style == yaml_rust2::scanner::TScalarStyle::Plain
                            && matches!(text.as_str(), "" | "~" | "null");
                        if is_null {
                            self.refuse(line, &format!("the rule {rule:?} has no expression; an empty one is written \"\""));
                        } else if self.entries.iter().any(|entry| entry.rule == rule) {
                            self.refuse(line, &format!("the rule {rule:?} stands there twice"));
                        } else {
                            self.entries.push(Entry { rule, expression: text, line });
                        }
                    }
                }
            }
            // A file of comments only is an empty document.
            Event::Scalar(text, ..) if text.is_empty() || text == "~" => {}
            Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..)
            | Event::Alias(..) => {
                self.refuse(
                    line,
                    "expected a table in which each rule has a text as its expression",
                );
            }
            _ => {}
        }
    }
}

fn yaml(text: &str) -> Result<Vec<Entry>, PolicyError> {
    let mut table = Table::default();
    Parser::new_from_str(text)
        .load(&mut table, false)
        .map_err(|error| PolicyError::File(error.to_string()))?;
    match table.wrong {
        Some(wrong) => Err(PolicyError::File(wrong)),
        None => Ok(table.entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_are_read_with_their_lines() {
        let entries = PolicyFile::Yaml("# who\n\"a:b\": \"role:x\"\n\nlead: role:lead\n").entries();
        let entry = |rule: &str, expression: &str, line| Entry {
            rule: rule.into(),
            expression: expression.into(),
            line,
        };
        assert_eq!(entries.unwrap(), [entry("a:b", "role:x", 2), entry("lead", "role:lead", 4)]);
        let entries = PolicyFile::Yaml("{\n  \"a:b\": \"\",\n  \"c:d\": \"!\"\n}").entries();
        assert_eq!(entries.unwrap(), [entry("a:b", "", 2), entry("c:d", "!", 3)]);
        assert_eq!(PolicyFile::Yaml("# nothing is changed\n").entries().unwrap(), []);
    }

    #[test]
    fn what_is_no_table_of_texts_is_refused_with_its_line() {
        for (text, line) in [
            ("- a\n- b\n", "line 1"),
            ("\"a:b\":\n  - [\"role:x\"]\n", "line 2"),
            ("\"a:b\": \"@\"\n\"a:b\": \"!\"\n", "line 2"),
            ("x: y\n\"a:b\":\n", "line 2"),
            ("a: {b: c}\n", "line 1"),
            ("just words\n", "line 1"),
        ] {
            let message = PolicyFile::Yaml(text).entries().unwrap_err().to_string();
            assert!(message.contains(line), "{text:?}: {message}");
        }
        assert!(PolicyFile::Yaml("\"a:b: c\n").entries().is_err());
    }
}
