//! What is imported, and how it stands to what is there. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cloud_types::Timestamp;
use serde_json::{Map, Value};

use crate::assignment::model::{ActorKind, TargetKind};

/// A domain elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Domain {
    pub id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
}

/// A project elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    pub id: String,
    pub domain_id: String,
    /// Another project; `None` below the domain itself.
    pub parent_id: Option<String>,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
    pub extra: Map<String, Value>,
}

/// A user elsewhere. Holds a hash: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub id: String,
    pub domain_id: String,
    pub name: String,
    pub enabled: bool,
    pub default_project_id: Option<String>,
    pub password: Option<Password>,
    pub options: Map<String, Value>,
    pub extra: Map<String, Value>,
    pub created_at: Option<Timestamp>,
}

/// A password as a hash.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password {
    pub hash: String,
    pub created_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// The user chose it.
    pub chosen: bool,
}

/// A group elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub id: String,
    pub domain_id: String,
    pub name: String,
    pub description: String,
}

/// A role elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
}

/// Who has which role where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kinds {
    pub actor: Actor,
    pub target: Place,
}

/// The kinds of [`ActorKind`], in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    User,
    Group,
}

/// The kinds of [`TargetKind`], in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Project,
    Domain,
    System,
}

impl Actor {
    pub fn kind(self) -> ActorKind {
        match self {
            Actor::User => ActorKind::User,
            Actor::Group => ActorKind::Group,
        }
    }
}

impl Place {
    pub fn kind(self) -> TargetKind {
        match self {
            Place::Project => TargetKind::Project,
            Place::Domain => TargetKind::Domain,
            Place::System => TargetKind::System,
        }
    }
}

/// An assignment elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Assignment {
    pub kinds: Kinds,
    pub actor_id: String,
    pub target_id: String,
    pub role_id: String,
    pub inherited: bool,
}

/// Everything that is imported.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(crate) domains: Vec<Domain>,
    pub(crate) projects: Vec<Project>,
    pub(crate) users: Vec<User>,
    pub(crate) groups: Vec<Group>,
    pub(crate) roles: Vec<Role>,
    /// Group, user.
    pub(crate) members: BTreeSet<(String, String)>,
    /// Prior, implied.
    pub(crate) implied: BTreeSet<(String, String)>,
    pub(crate) assignments: BTreeSet<Assignment>,
    /// What was left out, and why.
    pub(crate) left_out: Vec<String>,
}

/// The objects of one kind that are there: id to where and what it is called.
pub(crate) type Known = BTreeMap<String, (String, String)>;

/// What is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Present {
    /// Each kind by its name in messages.
    pub objects: BTreeMap<&'static str, Known>,
}

/// What an import would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Kind to how many are new.
    pub new: BTreeMap<&'static str, usize>,
    /// Kind to how many are there already.
    pub there: BTreeMap<&'static str, usize>,
    /// One line for each object that is new.
    pub lines: Vec<String>,
    /// Why nothing can be imported; empty when it can.
    pub conflicts: Vec<String>,
    /// What the other cloud has and this one does not take over.
    pub left_out: Vec<String>,
    /// Ids elsewhere to ids here, by kind, where they differ.
    pub(crate) renamed: BTreeMap<(&'static str, String), String>,
    /// Ids elsewhere that are new here, by kind.
    pub(crate) fresh: BTreeSet<(&'static str, String)>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.new.values().all(|count| *count == 0)
    }

    /// The id that an object has here.
    pub(crate) fn here(&self, kind: &'static str, id: &str) -> String {
        self.renamed.get(&(kind, id.to_owned())).cloned().unwrap_or_else(|| id.to_owned())
    }

    pub(crate) fn is_new(&self, kind: &'static str, id: &str) -> bool {
        self.fresh.contains(&(kind, id.to_owned()))
    }

    fn count(&mut self, kind: &'static str, new: bool) {
        let (counted, other) =
            if new { (&mut self.new, &mut self.there) } else { (&mut self.there, &mut self.new) };
        *counted.entry(kind).or_default() += 1;
        other.entry(kind).or_default();
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "  new  {line}")?;
        }
        for line in &self.left_out {
            writeln!(f, "  left out  {line}")?;
        }
        for line in &self.conflicts {
            writeln!(f, "  conflict  {line}")?;
        }
        for (kind, new) in &self.new {
            let there = self.there.get(kind).copied().unwrap_or_default();
            writeln!(f, "{kind}: {new} new, {there} there already")?;
        }
        Ok(())
    }
}

/// The roles that policies speak of, which are the same in every cloud.
const COMMON_ROLES: [&str; 5] = ["admin", "manager", "member", "reader", "service"];

/// Compares objects one by one; `by_name`: those of the same name are the same.
pub(crate) fn compare(snapshot: &Snapshot, present: &Present, by_name: bool) -> Plan {
    let mut plan = Plan { left_out: snapshot.left_out.clone(), ..Plan::default() };
    let mut compared = Compared { plan: &mut plan, present, by_name };
    for role in &snapshot.roles {
        let common = COMMON_ROLES.contains(&role.name.as_str());
        compared.object("role", &role.id, "", &role.name, common);
    }
    for domain in &snapshot.domains {
        compared.object("domain", &domain.id, "", &domain.name, false);
    }
    for project in &snapshot.projects {
        compared.object("project", &project.id, &project.domain_id, &project.name, false);
    }
    for user in &snapshot.users {
        compared.object("user", &user.id, &user.domain_id, &user.name, false);
    }
    for group in &snapshot.groups {
        compared.object("group", &group.id, &group.domain_id, &group.name, false);
    }
    let (members, implied) = (&snapshot.members, &snapshot.implied);
    compared.pairs("membership", members, ["group", "user"]);
    compared.pairs("implied role", implied, ["role", "role"]);
    for assignment in &snapshot.assignments {
        compared.assignment(assignment);
    }
    plan.lines.sort();
    plan
}

struct Compared<'p> {
    plan: &'p mut Plan,
    present: &'p Present,
    by_name: bool,
}

impl Compared<'_> {
    fn known(&self, kind: &'static str) -> Option<&Known> {
        self.present.objects.get(kind)
    }

    fn object(&mut self, kind: &'static str, id: &str, domain: &str, name: &str, common: bool) {
        let domain =
            if domain.is_empty() { String::new() } else { self.plan.here("domain", domain) };
        let place = (domain.clone(), name.to_owned());
        let shown = if domain.is_empty() {
            format!("{kind} {name} ({id})")
        } else {
            format!("{kind} {name} ({id}) in domain {domain}")
        };
        let known = self.known(kind);
        if known.is_some_and(|known| known.contains_key(id)) {
            self.plan.count(kind, false);
            return;
        }
        let same_name = known.and_then(|known| {
            known.iter().find(|(_, there)| **there == place).map(|(id, _)| id.clone())
        });
        match same_name {
            Some(here) if common || self.by_name => {
                self.plan.renamed.insert((kind, id.to_owned()), here);
                self.plan.count(kind, false);
            }
            Some(here) => {
                self.plan.conflicts.push(format!(
                    "{shown}: {here} has that name here. Rename one of them, or say that objects \
                     of the same name are the same"
                ));
            }
            None if !domain.is_empty() && !self.exists("domain", &domain) => {
                self.plan.left_out.push(format!("{shown}: that domain is nowhere"));
            }
            None => {
                self.plan.fresh.insert((kind, id.to_owned()));
                self.plan.lines.push(shown);
                self.plan.count(kind, true);
            }
        }
    }

    /// Whether an object will be there, under its id here.
    fn exists(&self, kind: &'static str, id: &str) -> bool {
        let here = self.plan.here(kind, id);
        self.plan.is_new(kind, id)
            || self.known(kind).is_some_and(|known| known.contains_key(&here))
    }

    fn pairs(
        &mut self,
        kind: &'static str,
        pairs: &BTreeSet<(String, String)>,
        of: [&'static str; 2],
    ) {
        for (one, other) in pairs {
            if !self.exists(of[0], one) || !self.exists(of[1], other) {
                // The object itself is in conflict, and was told of, or was left out.
                continue;
            }
            let (one, other) = (self.plan.here(of[0], one), self.plan.here(of[1], other));
            let there = self.known(kind).is_some_and(|k| k.contains_key(&format!("{one} {other}")));
            if !there {
                self.plan.lines.push(format!("{kind}: {} {one}, {} {other}", of[0], of[1]));
            }
            self.plan.count(kind, !there);
        }
    }

    fn assignment(&mut self, assignment: &Assignment) {
        let Assignment { kinds, actor_id, target_id, role_id, .. } = assignment;
        let (actor, target) = names(*kinds);
        let target_exists = kinds.target == Place::System || self.exists(target, target_id);
        if !self.exists(actor, actor_id) || !target_exists || !self.exists("role", role_id) {
            return;
        }
        let key = self.plan.key(assignment);
        let there = self.known("assignment").is_some_and(|known| known.contains_key(&key));
        if !there {
            self.plan.lines.push(format!("assignment: {key}"));
        }
        self.plan.count("assignment", !there);
    }
}

fn names(kinds: Kinds) -> (&'static str, &'static str) {
    let actor = match kinds.actor {
        Actor::User => "user",
        Actor::Group => "group",
    };
    let target = match kinds.target {
        Place::Project => "project",
        Place::Domain => "domain",
        Place::System => "system",
    };
    (actor, target)
}

impl Plan {
    /// An assignment as one line, with the ids that hold here.
    pub(crate) fn key(&self, assignment: &Assignment) -> String {
        let Assignment { kinds, actor_id, target_id, role_id, inherited } = assignment;
        let (actor, target) = names(*kinds);
        let target_id = match kinds.target {
            Place::System => "all".to_owned(),
            _ => self.here(target, target_id),
        };
        key(
            actor,
            &self.here(actor, actor_id),
            target,
            &target_id,
            &self.here("role", role_id),
            *inherited,
        )
    }
}

/// An assignment as one line.
pub(crate) fn key(
    actor: &str,
    actor_id: &str,
    target: &str,
    target_id: &str,
    role: &str,
    inherited: bool,
) -> String {
    let inherited = if inherited { ", inherited" } else { "" };
    format!("{actor} {actor_id} has role {role} on {target} {target_id}{inherited}")
}
