//! Applying rules to an assertion: a pure function, which also tells why.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::model::{
    Local, LocalDomain, LocalProject, Part, Requirement, Rule, Rules, SchemaVersion, Test,
    UserKind, template,
};

/// What the identity provider says: each attribute with its values.
pub(crate) type Assertion = BTreeMap<String, Vec<String>>;

/// A domain by id or name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DomainName {
    pub id: Option<String>,
    pub name: Option<String>,
    /// Whether a value of the assertion stands in it: then it may only be the provider's own.
    pub asserted: bool,
}

/// Who the person is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MappedUser {
    pub id: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub domain: Option<DomainName>,
    pub kind: UserKind,
}

/// A project that the person gets roles on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MappedProject {
    pub name: String,
    pub roles: Vec<String>,
    pub domain: Option<DomainName>,
}

/// What the rules make of an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub user: MappedUser,
    /// Groups by id, each with whether it comes out of the assertion: whoever writes that does not
    /// choose among the groups of all domains.
    pub group_ids: BTreeMap<String, bool>,
    /// Groups by name and domain; those that do not exist count for nothing.
    pub group_names: BTreeSet<(String, DomainName)>,
    pub projects: Vec<MappedProject>,
    pub version: SchemaVersion,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub applied: bool,
    pub why: String,
}

/// The outcome, and what became of each rule in turn.
pub(crate) struct Outcome {
    /// The error says why nobody can log in with this assertion.
    pub mapped: Result<Mapped, String>,
    pub verdicts: Vec<Verdict>,
}

/// Applies all rules.
pub(crate) fn apply(rules: &Rules, assertion: &Assertion) -> Outcome {
    let mut made = Made::default();
    let mut verdicts = Vec::with_capacity(rules.rules.len());
    let mut failure = None;
    for (index, rule) in rules.rules.iter().enumerate() {
        let verdict = match requirements(&rule.remote, assertion) {
            Err(why) => Verdict { applied: false, why },
            Ok(values) => match contribute(&mut made, rules.version, rule, &values) {
                Ok(why) => Verdict { applied: true, why },
                Err(why) => {
                    failure.get_or_insert(format!("rule {index} holds, but {why}"));
                    Verdict { applied: false, why }
                }
            },
        };
        verdicts.push(verdict);
    }
    let mapped = match (failure, made.user) {
        (Some(why), _) => Err(why),
        (None, _) if !made.any => {
            Err("no rule holds for what the identity provider says".to_owned())
        }
        (None, user) => Ok(Mapped {
            user: user.unwrap_or(MappedUser {
                id: None,
                name: None,
                email: None,
                domain: None,
                kind: UserKind::Ephemeral,
            }),
            group_ids: made.group_ids,
            group_names: made.group_names,
            projects: made.projects,
            version: rules.version,
        }),
    };
    Outcome { mapped, verdicts }
}

#[derive(Default)]
struct Made {
    any: bool,
    user: Option<MappedUser>,
    group_ids: BTreeMap<String, bool>,
    group_names: BTreeSet<(String, DomainName)>,
    projects: Vec<MappedProject>,
}

impl Made {
    /// One that the mapping itself names is the operator's, whoever else names it.
    fn add_group(&mut self, id: String, asserted: bool) {
        *self.group_ids.entry(id).or_insert(true) &= asserted;
    }
}

/// The values that the requirements hand on, or which of them does not hold.
fn requirements<'a>(
    remote: &[Requirement],
    assertion: &'a Assertion,
) -> Result<Vec<Vec<&'a str>>, String> {
    let mut handed_on = Vec::new();
    for Requirement { attribute, test } in remote {
        let values: Vec<&str> =
            assertion.get(attribute).into_iter().flatten().map(String::as_str).collect();
        if values.is_empty() {
            return Err(format!("the assertion has no {attribute:?}"));
        }
        let holds = |patterns: &super::model::Patterns| values.iter().any(|v| patterns.matches(v));
        match test {
            Test::Present => handed_on.push(values),
            Test::AnyOneOf(patterns) if !holds(patterns) => {
                return Err(format!("no value of {attribute:?} is one of any_one_of"));
            }
            Test::NotAnyOf(patterns) if holds(patterns) => {
                return Err(format!("a value of {attribute:?} is one of not_any_of"));
            }
            Test::AnyOneOf(_) | Test::NotAnyOf(_) => {}
            Test::Whitelist(patterns) => {
                handed_on.push(values.into_iter().filter(|v| patterns.matches(v)).collect());
            }
            Test::Blacklist(patterns) => {
                handed_on.push(values.into_iter().filter(|v| !patterns.matches(v)).collect());
            }
        }
    }
    Ok(handed_on)
}

/// Fills values into the texts of one rule.
struct Filling<'v> {
    values: &'v [Vec<&'v str>],
}

impl Filling<'_> {
    /// A text that is one: every value in it must be a single one.
    fn one(&self, text: &str) -> Result<(String, bool), String> {
        if self.values.is_empty() {
            return Ok((text.to_owned(), false));
        }
        let mut out = String::new();
        let mut asserted = false;
        for part in template(text)? {
            match part {
                Part::Text(text) => out.push_str(&text),
                Part::Value(index) => {
                    asserted = true;
                    match self.values.get(index).map(Vec::as_slice) {
                        Some([value]) => out.push_str(value),
                        Some([]) => return Err(format!("no value is left for {text:?}")),
                        Some(_) => {
                            return Err(format!("{text:?} takes one value, and there are several"));
                        }
                        None => return Err(format!("there is no value for {text:?}")),
                    }
                }
            }
        }
        Ok((out, asserted))
    }

    /// A text that may stand for several: `{0}` alone is each of its values.
    fn many(&self, text: &str) -> Result<Vec<String>, String> {
        if self.values.is_empty() {
            return Ok(vec![text.to_owned()]);
        }
        match template(text)?.as_slice() {
            [Part::Value(index)] => match self.values.get(*index) {
                Some(values) => Ok(values.iter().map(|value| (*value).to_owned()).collect()),
                None => Err(format!("there is no value for {text:?}")),
            },
            _ => Ok(vec![self.one(text)?.0]),
        }
    }

    /// Whether any of a text comes out of the assertion.
    fn is_asserted(&self, text: &str) -> Result<bool, String> {
        let parts = if self.values.is_empty() { Vec::new() } else { template(text)? };
        Ok(parts.iter().any(|part| matches!(part, Part::Value(_))))
    }

    fn optional(&self, text: Option<&String>) -> Result<Option<String>, String> {
        text.map(|text| self.one(text).map(|(text, _)| text)).transpose()
    }

    fn domain(&self, domain: &LocalDomain) -> Result<DomainName, String> {
        let fill = |text: &Option<String>| match text {
            None => Ok::<_, String>((None, false)),
            Some(text) => self.one(text).map(|(text, asserted)| (Some(text), asserted)),
        };
        let ((id, one), (name, other)) = (fill(&domain.id)?, fill(&domain.name)?);
        if id.is_none() && name.is_none() {
            return Err("a domain has neither id nor name".into());
        }
        Ok(DomainName { id, name, asserted: one || other })
    }

    fn project(&self, project: &LocalProject) -> Result<MappedProject, String> {
        Ok(MappedProject {
            name: self.one(&project.name)?.0,
            roles: project
                .roles
                .iter()
                .map(|role| self.one(&role.name).map(|(name, _)| name))
                .collect::<Result<_, _>>()?,
            domain: project.domain.as_ref().map(|domain| self.domain(domain)).transpose()?,
        })
    }
}

/// Adds what a rule that holds gives; says what that is.
fn contribute(
    made: &mut Made,
    version: SchemaVersion,
    rule: &Rule,
    values: &[Vec<&str>],
) -> Result<String, String> {
    let filling = Filling { values };
    let mut gave = Vec::new();
    for local in &rule.local {
        contribute_one(made, version, local, &filling, &mut gave)?;
        made.any = true;
    }
    Ok(if gave.is_empty() { "gives nothing".to_owned() } else { gave.join(", ") })
}

fn contribute_one(
    made: &mut Made,
    version: SchemaVersion,
    local: &Local,
    filling: &Filling<'_>,
    gave: &mut Vec<String>,
) -> Result<(), String> {
    let domain = local.domain.as_ref().map(|domain| filling.domain(domain)).transpose()?;
    // From 2.0 on the rule's domain is what its user and projects fall back to.
    let fallback = domain.clone().filter(|_| version >= SchemaVersion::V2);
    if let Some(user) = &local.user {
        let own = user.domain.as_ref().map(|domain| filling.domain(domain)).transpose()?;
        let mapped = MappedUser {
            id: filling.optional(user.id.as_ref())?,
            name: filling.optional(user.name.as_ref())?,
            email: filling.optional(user.email.as_ref())?,
            domain: own.or_else(|| fallback.clone()),
            kind: user.kind.unwrap_or(UserKind::Ephemeral),
        };
        if made.user.is_none() {
            gave.push("the user".to_owned());
            made.user = Some(mapped);
        } else {
            gave.push("a user (not taken: an earlier rule gave one)".to_owned());
        }
    }
    if let Some(group) = &local.group {
        match (&group.id, &group.name, &group.domain) {
            (Some(id), _, _) => {
                let (id, asserted) = filling.one(id)?;
                made.add_group(id, asserted);
            }
            (None, Some(name), Some(domain)) => {
                made.group_names.insert((filling.one(name)?.0, filling.domain(domain)?));
            }
            _ => return Err("'group' has an 'id', or a 'name' and a 'domain'".into()),
        }
        gave.push("a group".to_owned());
    }
    if let Some(groups) = &local.groups {
        let Some(domain) = &domain else {
            return Err("'groups' needs a 'domain' beside it, which says whose they are".into());
        };
        let names = filling.many(groups)?;
        gave.push(format!("{} groups by name", names.len()));
        made.group_names.extend(names.into_iter().map(|name| (name, domain.clone())));
    }
    if let Some(ids) = &local.group_ids {
        let asserted = filling.is_asserted(ids)?;
        let ids = filling.many(ids)?;
        gave.push(format!("{} groups by id", ids.len()));
        ids.into_iter().for_each(|id| made.add_group(id, asserted));
    }
    if local.projects.is_some() || local.projects_json.is_some() {
        let mut projects: Vec<MappedProject> = local
            .projects
            .iter()
            .flatten()
            .map(|project| filling.project(project))
            .collect::<Result<_, _>>()?;
        if let Some(text) = &local.projects_json {
            projects.extend(projects_from_json(&filling.one(text)?.0)?);
        }
        for project in &mut projects {
            if project.domain.is_none() {
                project.domain.clone_from(&fallback);
            }
        }
        gave.push(format!("{} projects", projects.len()));
        made.projects = projects;
    }
    Ok(())
}

/// The provider's own list of projects. Its domains are asserted, like all of it.
fn projects_from_json(text: &str) -> Result<Vec<MappedProject>, String> {
    let listed: Vec<LocalProject> = serde_json::from_str(text)
        .map_err(|error| format!("'projects_json' is not a list of projects: {error}"))?;
    Ok(listed
        .into_iter()
        .map(|project| MappedProject {
            name: project.name,
            roles: project.roles.into_iter().map(|role| role.name).collect(),
            domain: project.domain.map(|LocalDomain { id, name }| DomainName {
                id,
                name,
                asserted: true,
            }),
        })
        .collect())
}

impl DomainName {
    fn view(&self) -> Value {
        match (&self.id, &self.name) {
            (Some(id), _) => json!({"id": id}),
            (None, name) => json!({"name": name}),
        }
    }
}

impl Mapped {
    /// For people, in upstream's shape.
    pub fn view(&self) -> Value {
        let kind = match self.user.kind {
            UserKind::Ephemeral => "ephemeral",
            UserKind::Local => "local",
        };
        let mut user = json!({"type": kind});
        for (key, value) in
            [("id", &self.user.id), ("name", &self.user.name), ("email", &self.user.email)]
        {
            if let Some(value) = value {
                user[key] = json!(value);
            }
        }
        if let Some(domain) = &self.user.domain {
            user["domain"] = domain.view();
        }
        let group_ids: Vec<&String> = self.group_ids.keys().collect();
        let group_names: Vec<Value> = self
            .group_names
            .iter()
            .map(|(name, domain)| json!({"name": name, "domain": domain.view()}))
            .collect();
        let projects: Vec<Value> = self
            .projects
            .iter()
            .map(|project| {
                let roles: Vec<Value> =
                    project.roles.iter().map(|name| json!({"name": name})).collect();
                let mut view = json!({"name": project.name, "roles": roles});
                if let Some(domain) = &project.domain {
                    view["domain"] = domain.view();
                }
                view
            })
            .collect();
        json!({"user": user, "group_ids": group_ids, "group_names": group_names,
               "projects": projects, "schema_version": self.version.as_str()})
    }
}
