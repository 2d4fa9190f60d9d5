//! Who may do what. A rule (`compute:servers:create`) has an expression in the part of
//! oslo.policy's language that policy files use:
//!
//! ```text
//! expression := conjunctions joined by "or"; "and" binds tighter; "not"; parentheses
//! check      := @ (always) | ! (never) | role:NAME | rule:NAME
//!             | ATTRIBUTE:%(TARGET)s | ATTRIBUTE:literal | 'literal':%(TARGET)s
//! ```
//! Attributes of the caller: `project_id`, `user_id`, `domain_id` (the token's scope),
//! `user_domain_id`, `system_scope` (`all` in a system token), `is_admin`. Attributes of the
//! target: those of [`Target`]. What the target does not say matches nothing: default deny, also
//! for a rule that does not exist (which start-up refuses anyway). An attribute that is known to be
//! unset is written `None`: `None:%(role.domain_id)s`, `not domain_id:None`.
//!
//! A rule may also say which scopes a token must have ([`TokenScope`]); that is looked at when the
//! rule itself is asked for, not where another refers to it.
//!
//! Services declare their rules in a `POLICY` constant; an operator's file overrides them, in
//! oslo.policy's form (YAML or JSON) or as TOML. Both are checked when the process starts.

mod explain;
mod expression;
mod file;
mod parse;

use std::collections::BTreeMap;

use cloud_types::{DomainId, Fault, ProjectId, UserId};

pub use explain::Explanation;
pub use expression::{Expression, Operand, Verdict};
pub use file::PolicyFile;
pub use parse::{ParseError, parse};

use crate::Service;
use crate::token::Token;

/// What a token is scoped to, as rules ask for it. As in oslo.policy a token without any scope
/// counts as one of a project: it has no roles that a rule could accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScope {
    /// The whole system.
    System,
    /// A domain.
    Domain,
    /// A project, or nothing.
    Project,
}

impl TokenScope {
    /// The scope of a token.
    pub fn of(token: &Token) -> TokenScope {
        match (token.system, &token.domain) {
            (true, _) => TokenScope::System,
            (false, Some(_)) => TokenScope::Domain,
            (false, None) => TokenScope::Project,
        }
    }

    /// Its word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenScope::System => "system",
            TokenScope::Domain => "domain",
            TokenScope::Project => "project",
        }
    }
}

/// A rule as a service declares it.
#[derive(Clone, Copy, Debug)]
pub struct PolicyRule {
    /// `service:resource:action`.
    pub name: &'static str,
    /// The expression that holds unless the operator's file says otherwise.
    pub expression: &'static str,
    /// What the rule allows, for people.
    pub description: &'static str,
    /// The scopes of which a token must have one; empty where any will do. A file cannot change it.
    pub scopes: &'static [TokenScope],
}

impl PolicyRule {
    /// A rule for tokens of any scope.
    pub const fn new(
        name: &'static str,
        expression: &'static str,
        description: &'static str,
    ) -> PolicyRule {
        PolicyRule { name, expression, description, scopes: &[] }
    }
}

/// The personas that other rules build upon. `admin` implies `manager` implies `member` implies
/// `reader`, by the roles that identity puts into a token.
pub const PERSONAS: &[PolicyRule] = &[
    PolicyRule::new("admin", "role:admin", "An operator of the cloud."),
    PolicyRule::new("service", "role:service", "Another service of the cloud."),
    PolicyRule::new(
        "project_reader",
        "role:reader and project_id:%(project_id)s",
        "May look at what the project has.",
    ),
    PolicyRule::new(
        "project_member",
        "role:member and project_id:%(project_id)s",
        "May use the project.",
    ),
    PolicyRule::new(
        "project_manager",
        "role:manager and project_id:%(project_id)s",
        "May run the project for its members.",
    ),
    PolicyRule::new(
        "project_reader_or_admin",
        "rule:project_reader or rule:admin",
        "A reader of the project, or an operator.",
    ),
    PolicyRule::new(
        "project_member_or_admin",
        "rule:project_member or rule:admin",
        "A member of the project, or an operator.",
    ),
    PolicyRule::new(
        "project_manager_or_admin",
        "rule:project_manager or rule:admin",
        "A manager of the project, or an operator.",
    ),
    PolicyRule::new(
        "system_reader",
        "role:reader and system_scope:all",
        "May look at the whole system.",
    ),
    PolicyRule::new("anybody", "@", "Every valid token."),
    PolicyRule::new("nobody", "!", "No token at all."),
];

/// What is acted upon, as far as rules ask about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// `project_id`, and its old name `tenant_id`.
    pub project: Option<ProjectId>,
    /// `user_id`: the owner among users.
    pub user: Option<UserId>,
    /// `domain_id`.
    pub domain: Option<DomainId>,
    /// Whatever else the service's rules name, for example `visibility`.
    pub extra: Vec<(&'static str, String)>,
}

impl Target {
    /// Something that belongs to nobody: only rules without a target attribute can match.
    pub fn none() -> Target {
        Target::default()
    }

    /// Something of a project.
    pub fn project(project: &ProjectId) -> Target {
        Target { project: Some(project.clone()), ..Target::default() }
    }

    /// Something of a user.
    pub fn user(user: &UserId) -> Target {
        Target { user: Some(user.clone()), ..Target::default() }
    }

    /// Something of a domain.
    pub fn domain(domain: &DomainId) -> Target {
        Target { domain: Some(domain.clone()), ..Target::default() }
    }

    /// A target of attributes as an operator writes them: `NAME=VALUE`, where `target.` before the
    /// name may be left out.
    ///
    /// # Errors
    /// The text that is no such pair.
    pub fn from_pairs(pairs: &[String]) -> Result<Target, String> {
        let mut target = Target::none();
        for pair in pairs {
            let (name, value) = pair.split_once('=').ok_or_else(|| pair.clone())?;
            let name = name.strip_prefix("target.").unwrap_or(name);
            match name {
                "project_id" | "tenant_id" => {
                    target.project = Some(value.parse().map_err(|_| pair.clone())?);
                }
                "user_id" => target.user = Some(value.parse().map_err(|_| pair.clone())?),
                "domain_id" => target.domain = Some(value.parse().map_err(|_| pair.clone())?),
                // A few words for the life of a command.
                _ => target.extra.push((String::from(name).leak(), value.to_owned())),
            }
        }
        Ok(target)
    }

    /// The same target with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Target {
        self.extra.push((name, value.into()));
        self
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "project_id" | "tenant_id" => self.project.as_ref().map(ProjectId::as_str),
            "user_id" => self.user.as_ref().map(UserId::as_str),
            "domain_id" => self.domain.as_ref().map(DomainId::as_str),
            _ => self.extra.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str()),
        }
    }
}

/// Why a policy is refused at start-up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Two services declare the same rule.
    #[error("the rule {0:?} is declared twice")]
    Twice(String),
    /// An expression does not parse.
    #[error("the rule {rule:?}{place}: {error}")]
    Syntax {
        /// Which rule.
        rule: String,
        /// ` (line N of the policy file)`, or nothing.
        place: String,
        /// What is wrong, with the column.
        error: ParseError,
    },
    /// A file names a rule that no service has.
    #[error(
        "{place} overrides the rule {rule:?}, which no service declares; did you mean {near:?}?"
    )]
    UnknownRule {
        /// Which rule.
        rule: String,
        /// `line N of the policy file`.
        place: String,
        /// The declared rule that is spelled most like it.
        near: String,
    },
    /// `rule:NAME` or a route names a rule that does not exist.
    #[error("{by} refers to the rule {rule:?}, which does not exist")]
    Dangling {
        /// Which rule is missing.
        rule: String,
        /// Who refers to it.
        by: String,
    },
    /// Rules that refer to each other in a circle.
    #[error("the rule {rule:?}{place} refers to itself by way of others")]
    Cycle {
        /// Which rule.
        rule: String,
        /// ` (line N of the policy file)`, or nothing.
        place: String,
    },
    /// A file makes a rule of its own that no rule refers to: most likely a misspelled name.
    #[error(
        "{place} makes the rule {rule:?}, which no service declares and no rule of the file refers \
         to; did you mean {near:?}?"
    )]
    Unused {
        /// Which rule.
        rule: String,
        /// `line N of the policy file`.
        place: String,
        /// The declared rule that is spelled most like it.
        near: String,
    },
    /// The file is not a table of rules and expressions.
    #[error("the policy file is not readable: {0}")]
    File(String),
}

/// The rules in force.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: BTreeMap<String, Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    text: String,
    expression: Expression,
    description: &'static str,
    scopes: &'static [TokenScope],
    /// ` (line N of the policy file)`, or nothing: for messages.
    place: String,
}

impl Policy {
    /// The declared rules of all services, the personas included, without an operator's file.
    ///
    /// # Errors
    /// What [`PolicyError`] says; all of it is a fault of the code.
    pub fn new(declared: &[&[PolicyRule]]) -> Result<Policy, PolicyError> {
        Policy::with_overrides(declared, None)
    }

    /// The declared rules with an operator's file over them.
    ///
    /// # Errors
    /// What [`PolicyError`] says, with the line of the file.
    pub fn with_overrides(
        declared: &[&[PolicyRule]],
        file: Option<PolicyFile<'_>>,
    ) -> Result<Policy, PolicyError> {
        let mut rules = BTreeMap::new();
        for rule in declared.iter().copied().chain([PERSONAS]).flatten() {
            let expression = parse(rule.expression).map_err(|error| PolicyError::Syntax {
                rule: rule.name.to_owned(),
                place: String::new(),
                error,
            })?;
            let entry = Rule {
                place: String::new(),
                text: rule.expression.to_owned(),
                expression,
                description: rule.description,
                scopes: rule.scopes,
            };
            if rules.insert(rule.name.to_owned(), entry).is_some() {
                return Err(PolicyError::Twice(rule.name.to_owned()));
            }
        }
        let mut policy = Policy { rules };
        if let Some(file) = file {
            policy.override_with(file)?;
        }
        policy.check_references()?;
        Ok(policy)
    }

    /// A file changes what declared rules say, and may make rules of its own for them to refer to
    /// (`"lead": "role:lead"`). A name of its own has no colon, as a service's rules have.
    fn override_with(&mut self, file: PolicyFile<'_>) -> Result<(), PolicyError> {
        let mut own = Vec::new();
        for file::Entry { rule: name, expression: text, line } in file.entries()? {
            let expression = parse(&text).map_err(|error| PolicyError::Syntax {
                rule: name.clone(),
                place: format!(" (line {line} of the policy file)"),
                error,
            })?;
            let place = format!("line {line} of the policy file");
            if let Some(rule) = self.rules.get_mut(&name) {
                rule.text = text;
                rule.expression = expression;
                rule.place = format!(" ({place})");
                continue;
            }
            if name.contains(':') {
                let near = self.nearest(&name);
                return Err(PolicyError::UnknownRule { rule: name, place, near });
            }
            own.push((
                name,
                place.clone(),
                Rule {
                    place: format!(" ({place})"),
                    text,
                    expression,
                    description: "A rule of the operator's file.",
                    scopes: &[],
                },
            ));
        }
        for (name, place, rule) in &own {
            let rules = self.rules.values().chain(own.iter().map(|(_, _, rule)| rule));
            let mut references = rules.flat_map(|rule| rule.expression.references());
            if !references.any(|wanted| wanted == name) {
                return Err(PolicyError::Unused {
                    rule: name.clone(),
                    place: place.clone(),
                    near: self.nearest(name),
                });
            }
            for wanted in rule.expression.references() {
                if !self.rules.contains_key(wanted)
                    && !own.iter().any(|(known, ..)| known == wanted)
                {
                    return Err(PolicyError::Dangling {
                        rule: wanted.to_owned(),
                        by: format!("the rule {name:?} ({place})"),
                    });
                }
            }
        }
        self.rules.extend(own.into_iter().map(|(name, _, rule)| (name, rule)));
        Ok(())
    }

    fn nearest(&self, name: &str) -> String {
        self.rules
            .keys()
            .min_by_key(|known| edit_distance(known, name))
            .cloned()
            .unwrap_or_default()
    }

    fn check_references(&self) -> Result<(), PolicyError> {
        for (name, rule) in &self.rules {
            for wanted in rule.expression.references() {
                if !self.rules.contains_key(wanted) {
                    return Err(PolicyError::Dangling {
                        rule: wanted.to_owned(),
                        by: format!("the rule {name:?}{}", rule.place),
                    });
                }
            }
        }
        for name in self.rules.keys() {
            self.check_acyclic(name, &mut vec![name.as_str()])?;
        }
        Ok(())
    }

    fn check_acyclic<'a>(&'a self, name: &str, path: &mut Vec<&'a str>) -> Result<(), PolicyError> {
        let Some(rule) = self.rules.get(name) else {
            return Ok(());
        };
        for next in rule.expression.references() {
            if path.contains(&next) {
                let place = [next].into_iter().chain(path.iter().copied()).find_map(|name| {
                    self.rules.get(name).map(|rule| &rule.place).filter(|place| !place.is_empty())
                });
                let place = place.cloned().unwrap_or_default();
                return Err(PolicyError::Cycle { rule: next.to_owned(), place });
            }
            path.push(next);
            self.check_acyclic(next, path)?;
            path.pop();
        }
        Ok(())
    }

    /// The declared rule that is spelled most like a name, for suggesting it.
    pub fn most_like(&self, name: &str) -> String {
        self.nearest(name)
    }

    /// Whether the rule exists.
    pub fn contains(&self, rule: &str) -> bool {
        self.rules.contains_key(rule)
    }

    /// Every rule: name, expression in force, description.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.rules.iter().map(|(name, rule)| (name.as_str(), rule.text.as_str(), rule.description))
    }

    /// The scopes of which a token must have one for the rule; empty where any will do.
    pub fn scopes(&self, rule: &str) -> &'static [TokenScope] {
        self.rules.get(rule).map_or(&[], |found| found.scopes)
    }

    /// Whether a rule takes tokens of this one's scope at all.
    pub fn takes_scope(&self, rule: &str, token: &Token) -> bool {
        let scopes = self.scopes(rule);
        scopes.is_empty() || token.is_recovery() || scopes.contains(&TokenScope::of(token))
    }

    /// Whether `token` may do `rule` to `target`.
    pub fn allows(&self, rule: &str, token: &Token, target: &Target) -> bool {
        self.takes_scope(rule, token) && self.verdict(rule, token, Some(target)) == Verdict::Yes
    }

    /// Whether there is a target to which `token` may do `rule`: what a route asks before its
    /// handler has looked up the target.
    pub fn could_allow(&self, rule: &str, token: &Token) -> bool {
        self.takes_scope(rule, token) && self.verdict(rule, token, None) != Verdict::No
    }

    fn verdict(&self, rule: &str, token: &Token, target: Option<&Target>) -> Verdict {
        match self.rules.get(rule) {
            // The way back in for whoever has the machine; see `Token::is_recovery`.
            Some(_) if token.is_recovery() => Verdict::Yes,
            Some(found) => found.expression.evaluate(self, token, target),
            None => Verdict::No,
        }
    }

    /// Why a rule says what it says.
    pub fn explain(&self, rule: &str, token: &Token, target: &Target) -> Explanation {
        explain::explain(self, rule, token, target)
    }
}

/// The refusal that clients of `service` know.
pub fn denied(service: Service, rule: &str) -> Fault {
    match service {
        Service::Identity => Fault::forbidden(format!(
            "You are not authorized to perform the requested action: {rule}."
        )),
        Service::Compute => {
            Fault::forbidden(format!("Policy doesn't allow {rule} to be performed."))
        }
        Service::Network => Fault::forbidden(format!("(rule:{rule}) is disallowed by policy"))
            .named("PolicyNotAuthorized"),
        Service::Image => {
            Fault::forbidden(format!("You are not authorized to complete {rule} action."))
        }
        Service::Meridian => Fault::forbidden(format!(
            "Your roles do not allow {rule}. `meridian policy explain` says why."
        )),
    }
}

/// Levenshtein's distance, for suggesting a name.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
