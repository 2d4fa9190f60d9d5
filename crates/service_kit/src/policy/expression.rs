//! Expressions and their evaluation. Before a handler has looked up its target the answer has
//! three values: a check on an attribute of the target is then [`Verdict::Perhaps`].

use super::{Policy, Target};
use crate::token::Token;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `@`, or an empty text.
    Always,
    /// `!`.
    Never,
    /// `role:NAME`.
    Role(String),
    /// `rule:NAME`.
    Rule(String),
    /// `left:right`.
    Equal(Operand, Operand),
    /// `not x`.
    Not(Box<Expression>),
    /// `x and y …`.
    All(Vec<Expression>),
    /// `x or y …`.
    Any(Vec<Expression>),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// An attribute of the token.
    Caller(String),
    /// `%(name)s`: an attribute of the target.
    Target(String),
    /// A fixed text.
    Literal(String),
}

/// The value of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Yes,
    /// It does not hold.
    No,
    /// It depends on a target that is not known yet.
    Perhaps,
}

impl From<bool> for Verdict {
    fn from(value: bool) -> Self {
        if value { Verdict::Yes } else { Verdict::No }
    }
}

impl Expression {
    /// The rules that the expression refers to.
    pub fn references(&self) -> Vec<&str> {
        match self {
            Expression::Rule(name) => vec![name],
            Expression::Not(inner) => inner.references(),
            Expression::All(parts) | Expression::Any(parts) => {
                parts.iter().flat_map(Expression::references).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The expression's value for a token and, where it is known, a target.
    pub fn evaluate(&self, policy: &Policy, token: &Token, target: Option<&Target>) -> Verdict {
        match self {
            Expression::Always => Verdict::Yes,
            Expression::Never => Verdict::No,
            Expression::Role(name) => token.has_role(name).into(),
            Expression::Rule(name) => policy.verdict(name, token, target),
            Expression::Equal(left, right) => equal(left, right, token, target),
            Expression::Not(inner) => match inner.evaluate(policy, token, target) {
                Verdict::Yes => Verdict::No,
                Verdict::No => Verdict::Yes,
                Verdict::Perhaps => Verdict::Perhaps,
            },
            Expression::All(parts) => {
                let mut verdict = Verdict::Yes;
                for part in parts {
                    match part.evaluate(policy, token, target) {
                        Verdict::No => return Verdict::No,
                        Verdict::Perhaps => verdict = Verdict::Perhaps,
                        Verdict::Yes => {}
                    }
                }
                verdict
            }
            Expression::Any(parts) => {
                let mut verdict = Verdict::No;
                for part in parts {
                    match part.evaluate(policy, token, target) {
                        Verdict::Yes => return Verdict::Yes,
                        Verdict::Perhaps => verdict = Verdict::Perhaps,
                        Verdict::No => {}
                    }
                }
                verdict
            }
        }
    }
}

fn equal(left: &Operand, right: &Operand, token: &Token, target: Option<&Target>) -> Verdict {
    if let (Operand::Caller(name), Operand::Literal(text)) = (left, right)
        && text == "None"
    {
        return caller_attribute(token, name).is_none().into();
    }
    let unknown = |operand: &Operand| target.is_none() && matches!(operand, Operand::Target(_));
    let value = |operand: &Operand| -> Option<String> {
        match operand {
            Operand::Caller(name) => caller_attribute(token, name).map(str::to_owned),
            Operand::Target(name) => target?.attribute(name).map(str::to_owned),
            Operand::Literal(text) => Some(text.clone()),
        }
    };
    // A caller without the attribute can never match, whatever the target turns out to be.
    for operand in [left, right] {
        if !unknown(operand) && value(operand).is_none() {
            return Verdict::No;
        }
    }
    if unknown(left) || unknown(right) {
        return Verdict::Perhaps;
    }
    (value(left) == value(right)).into()
}

pub(super) fn caller_attribute<'t>(token: &'t Token, name: &str) -> Option<&'t str> {
    match name {
        "user_id" => Some(token.user_id.as_str()),
        "project_id" | "tenant_id" | "tenant" | "project" => {
            token.project.as_ref().map(|project| project.id.as_str())
        }
        "project_domain_id" | "token.project.domain.id" => {
            token.project.as_ref().map(|project| project.domain_id.as_str())
        }
        "domain_id" | "token.domain.id" => token.domain.as_ref().map(|domain| domain.as_str()),
        "user_domain_id" | "token.user.domain.id" => Some(token.user_domain_id.as_str()),
        "system_scope" => token.system.then_some("all"),
        "is_admin" => Some(if token.has_role("admin") { "True" } else { "False" }),
        _ => None,
    }
}

/// The attributes of the caller that expressions may name.
pub(super) const CALLER_ATTRIBUTES: &[&str] = &[
    "user_id",
    "project_id",
    "tenant_id",
    "tenant",
    "project",
    "project_domain_id",
    "token.project.domain.id",
    "domain_id",
    "token.domain.id",
    "user_domain_id",
    "token.user.domain.id",
    "system_scope",
    "is_admin",
];
