//! Why a rule says yes or no, as an indented tree that a person can follow.

use std::fmt;

use super::expression::{Expression, Operand, Verdict, caller_attribute};
use super::{Policy, Target, TokenScope};
use crate::token::Token;

/// The answer and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the rule allows it.
    pub allowed: bool,
    /// One line for each part of the expression, indented by its depth.
    pub lines: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        f.write_str(if self.allowed { "allowed" } else { "refused" })
    }
}

pub(super) fn explain(policy: &Policy, rule: &str, token: &Token, target: &Target) -> Explanation {
    let mut lines = Vec::new();
    if token.is_recovery() {
        lines.push("yes a recovery's administrator may do everything".to_owned());
    }
    if !policy.takes_scope(rule, token) {
        let wanted: Vec<&str> = policy.scopes(rule).iter().map(|scope| scope.as_str()).collect();
        lines.push(format!(
            "no  the rule takes tokens for a {}, and this one is for a {}",
            wanted.join(" or "),
            TokenScope::of(token).as_str()
        ));
    }
    describe_rule(policy, rule, token, target, 0, &mut lines);
    Explanation { allowed: policy.allows(rule, token, target), lines }
}

fn describe_rule(
    policy: &Policy,
    name: &str,
    token: &Token,
    target: &Target,
    depth: usize,
    lines: &mut Vec<String>,
) {
    let pad = "  ".repeat(depth);
    let Some(rule) = policy.rules.get(name) else {
        lines.push(format!("{pad}no  {name}: there is no such rule"));
        return;
    };
    let word = word(rule.expression.evaluate(policy, token, Some(target)));
    lines.push(format!("{pad}{word} {name}: {}", rule.text));
    describe(policy, &rule.expression, token, target, depth + 1, lines);
}

fn describe(
    policy: &Policy,
    expression: &Expression,
    token: &Token,
    target: &Target,
    depth: usize,
    lines: &mut Vec<String>,
) {
    let pad = "  ".repeat(depth);
    let word = word(expression.evaluate(policy, token, Some(target)));
    match expression {
        Expression::Always => lines.push(format!("{pad}{word} always")),
        Expression::Never => lines.push(format!("{pad}{word} never")),
        Expression::Role(role) => {
            let held: Vec<&str> = token.roles.iter().map(|held| held.name.as_str()).collect();
            lines.push(format!(
                "{pad}{word} the token has the role {role} (it has: {})",
                held.join(", ")
            ));
        }
        Expression::Rule(name) => describe_rule(policy, name, token, target, depth, lines),
        Expression::Equal(left, right) => lines.push(format!(
            "{pad}{word} {} equals {}",
            shown(left, token, target),
            shown(right, token, target)
        )),
        Expression::Not(inner) => {
            lines.push(format!("{pad}{word} not:"));
            describe(policy, inner, token, target, depth + 1, lines);
        }
        Expression::All(parts) | Expression::Any(parts) => {
            let join = if matches!(expression, Expression::All(_)) { "all" } else { "any" };
            lines.push(format!("{pad}{word} {join} of:"));
            for part in parts {
                describe(policy, part, token, target, depth + 1, lines);
            }
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Yes => "yes",
        _ => "no ",
    }
}

fn shown(operand: &Operand, token: &Token, target: &Target) -> String {
    let value =
        |value: Option<&str>| value.map_or("nothing".to_owned(), |text| format!("{text:?}"));
    match operand {
        Operand::Caller(name) => {
            format!("the caller's {name} ({})", value(caller_attribute(token, name)))
        }
        Operand::Target(name) => format!("the target's {name} ({})", value(target.attribute(name))),
        Operand::Literal(text) => format!("{text:?}"),
    }
}
