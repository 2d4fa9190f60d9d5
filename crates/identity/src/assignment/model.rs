//! What an assignment is, and what follows from it.

use std::collections::{BTreeMap, HashMap};

use cloud_types::RoleId;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;
use service_kit::Ctx;

use crate::project::model::Project;
use crate::token::Scope;
use crate::wire::Shown;

/// Who has the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ActorKind {
    User,
    Group,
}

impl ActorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::User => "user",
            ActorKind::Group => "group",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [ActorKind::User, ActorKind::Group].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TargetKind {
    Project,
    Domain,
    System,
}

/// The id of the one system.
pub(crate) const SYSTEM: &str = "all";

impl TargetKind {
    pub fn as_str(self) -> &'static str {
        match self {
            TargetKind::Project => "project",
            TargetKind::Domain => "domain",
            TargetKind::System => "system",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [TargetKind::Project, TargetKind::Domain, TargetKind::System]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// Which assignments are listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub user: Option<String>,
    pub group: Option<String>,
    pub role: Option<String>,
    pub project: Option<String>,
    /// The project with all below it, in place of `project`.
    pub tree: Option<Vec<String>>,
    pub domain: Option<String>,
    pub system: bool,
    pub only_inherited: bool,
    /// As they work out: groups as their members, roles as what they imply, and what is handed down
    /// at the projects that get it.
    pub effective: bool,
    pub with_names: bool,
    /// Only on this domain and its projects.
    pub within: Option<String>,
}

/// A row of `identity_assignments`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Assignment {
    pub actor_kind: ActorKind,
    pub actor_id: String,
    pub target_kind: TargetKind,
    pub target_id: String,
    pub role_id: RoleId,
    /// Handed down to the projects below, and not held on the target itself.
    pub inherited: bool,
}

impl Assignment {
    /// The key of the token scope that rests on it; see [`Scope::key`].
    pub fn scope_key(&self) -> String {
        match self.target_kind {
            TargetKind::System => Scope::System.key(),
            kind => format!("{}:{}", kind.as_str(), self.target_id),
        }
    }

    /// The path at which the assignment is granted and taken away.
    pub fn path(&self) -> String {
        let Assignment { actor_kind, actor_id, target_kind, target_id, role_id, inherited } = self;
        let actor = format!("{}s/{actor_id}", actor_kind.as_str());
        match (target_kind, inherited) {
            (TargetKind::System, _) => format!("/system/{actor}/roles/{role_id}"),
            (kind, false) => {
                format!("/{}s/{target_id}/{actor}/roles/{role_id}", kind.as_str())
            }
            (kind, true) => format!(
                "/OS-INHERIT/{}s/{target_id}/{actor}/roles/{role_id}/inherited_to_projects",
                kind.as_str()
            ),
        }
    }

    /// What the API shows, without names.
    pub fn view(&self, ctx: &Ctx) -> Value {
        Shown { what: self, base: Some(&ctx.service_url()) }.value()
    }
}

/// `{"id": …}`.
#[derive(Serialize)]
struct Id<'a> {
    id: &'a str,
}

struct ScopeOf<'a>(&'a Assignment);

impl Serialize for ScopeOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0.target_kind {
            TargetKind::System => map.serialize_entry("system", &All { all: true })?,
            kind => map.serialize_entry(kind.as_str(), &Id { id: &self.0.target_id })?,
        }
        if self.0.inherited {
            map.serialize_entry("OS-INHERIT:inherited_to", "projects")?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct All {
    all: bool,
}

#[derive(Serialize)]
struct Granted {
    assignment: String,
}

impl Serialize for Shown<'_, Assignment> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.what;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", &Id { id: row.role_id.as_str() })?;
        map.serialize_entry(row.actor_kind.as_str(), &Id { id: &row.actor_id })?;
        map.serialize_entry("scope", &ScopeOf(row))?;
        if let Some(base) = self.base {
            let assignment = format!("{base}/v3{}", row.path());
            map.serialize_entry("links", &Granted { assignment })?;
        }
        map.end()
    }
}

/// What expanding needs to know.
pub(crate) struct World {
    /// Members of each group.
    pub members: BTreeMap<String, Vec<String>>,
    /// All projects.
    pub projects: Vec<Project>,
    /// From a role to all that it implies, itself first.
    pub implied: BTreeMap<RoleId, Vec<RoleId>>,
}

/// What the assignments come to: users instead of groups, projects instead of what is handed down
/// to them, implied roles beside assigned ones. Sorted, without doubles.
pub(crate) fn effective(assignments: &[Assignment], world: &World) -> Vec<Assignment> {
    let parents: Parents<'_> = world
        .projects
        .iter()
        .filter_map(|project| Some((project.id.as_str(), project.parent_id.as_ref()?.as_str())))
        .collect();
    let mut all = Vec::new();
    for assignment in assignments {
        let actors: Vec<&str> = match assignment.actor_kind {
            ActorKind::User => vec![&assignment.actor_id],
            ActorKind::Group => world
                .members
                .get(&assignment.actor_id)
                .map_or_else(Vec::new, |members| members.iter().map(String::as_str).collect()),
        };
        let targets: Vec<(TargetKind, &str)> = if assignment.inherited {
            world
                .projects
                .iter()
                .filter(|project| is_below(&parents, project, assignment))
                .map(|project| (TargetKind::Project, project.id.as_str()))
                .collect()
        } else {
            vec![(assignment.target_kind, &assignment.target_id)]
        };
        let own = vec![assignment.role_id.clone()];
        let roles = world.implied.get(&assignment.role_id).unwrap_or(&own);
        for actor in &actors {
            for (kind, target) in &targets {
                all.extend(roles.iter().map(|role| Assignment {
                    actor_kind: ActorKind::User,
                    actor_id: (*actor).to_owned(),
                    target_kind: *kind,
                    target_id: (*target).to_owned(),
                    role_id: role.clone(),
                    inherited: false,
                }));
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// From a project to the one above it.
type Parents<'a> = HashMap<&'a str, &'a str>;

/// Whether the project gets what is handed down: it is in the domain, or below the project.
fn is_below(parents: &Parents<'_>, project: &Project, assignment: &Assignment) -> bool {
    if assignment.target_kind == TargetKind::Domain {
        return project.domain_id.as_str() == assignment.target_id;
    }
    let mut at = project.id.as_str();
    // Bounded by the number of projects, should rows ever form a circle.
    for _ in 0..parents.len() {
        match parents.get(at) {
            None => return false,
            Some(parent) if *parent == assignment.target_id => return true,
            Some(parent) => at = parent,
        }
    }
    false
}
