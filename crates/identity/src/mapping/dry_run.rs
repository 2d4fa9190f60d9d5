//! Trying a mapping on what a provider would say, without a database: `meridian identity mapping
//! test`.

use serde_json::Value;

use super::engine::{Assertion, apply};
use super::model::{Rules, SchemaVersion};

/// What the rules make of the assertion, in words: each rule with why it holds or not, then the
/// outcome. The error is for people, too: what cannot be read, or why nobody could log in.
///
/// `rules` is a JSON list of rules, or a mapping (`{"schema_version": …, "rules": […]}`, also below
/// `mapping`). `input` is a JSON object of texts and lists of texts, or lines `NAME: VALUE`, where
/// semicolons part several values.
///
/// # Errors
/// Why there is no outcome. What was found out about the rules stands before it.
pub fn explain(rules: &str, input: &str) -> Result<String, String> {
    let rules = read_rules(rules)?;
    let assertion = read_assertion(input)?;
    let outcome = apply(&rules, &assertion);
    let mut text = String::new();
    for (index, verdict) in outcome.verdicts.iter().enumerate() {
        let word = if verdict.applied { "holds" } else { "does not apply" };
        text.push_str(&format!("rule {index} {word}: {}\n", verdict.why));
    }
    match outcome.mapped {
        Ok(mapped) => {
            let view = serde_json::to_string_pretty(&mapped.view()).unwrap_or_default();
            Ok(format!("{text}{view}\n"))
        }
        Err(why) => Err(format!("{text}nobody can log in with this: {why}")),
    }
}

fn read_rules(text: &str) -> Result<Rules, String> {
    let mut value: Value =
        serde_json::from_str(text).map_err(|error| format!("the rules are not JSON: {error}"))?;
    if let Some(inner) = value.get_mut("mapping") {
        value = inner.take();
    }
    let version = value.get("schema_version").and_then(Value::as_str).unwrap_or("1.0").to_owned();
    let list = if value.is_array() { value } else { value["rules"].take() };
    let version = SchemaVersion::parse(&version).map_err(|fault| fault.message)?;
    Rules::parse(version, &list).map_err(|fault| fault.message)
}

fn read_assertion(text: &str) -> Result<Assertion, String> {
    if let Ok(Value::Object(map)) = serde_json::from_str::<Value>(text) {
        return map
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), values_of(&name, &value)?)))
            .collect();
    }
    let mut assertion = Assertion::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("line {} of the input is not NAME: VALUE", number + 1))?;
        let values = value.trim().split(';').map(str::to_owned).collect();
        assertion.insert(name.trim().to_owned(), values);
    }
    Ok(assertion)
}

fn values_of(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("{name:?} of the input is neither a text nor a list of texts")),
    };
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        other => Ok(vec![text(other)?]),
    }
}
