//! What an assignment is, and what follows from it.

use std::collections::BTreeMap;

use cloud_types::RoleId;
use serde_json::{Value, json};
use service_kit::Ctx;

use crate::project::model::Project;
use crate::token::Scope;

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
        let mut scope = match self.target_kind {
            TargetKind::System => json!({"system": {"all": true}}),
            kind => json!({kind.as_str(): {"id": self.target_id}}),
        };
        if self.inherited {
            scope["OS-INHERIT:inherited_to"] = json!("projects");
        }
        json!({
            "role": {"id": self.role_id},
            self.actor_kind.as_str(): {"id": self.actor_id},
            "scope": scope,
            "links": {"assignment": format!("{}/v3{}", ctx.service_url(), self.path())},
        })
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
                .filter(|project| is_below(world, project, assignment))
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

/// Whether the project gets what is handed down: it is in the domain, or below the project.
fn is_below(world: &World, project: &Project, assignment: &Assignment) -> bool {
    if assignment.target_kind == TargetKind::Domain {
        return project.domain_id.as_str() == assignment.target_id;
    }
    let mut at = project.parent_id.as_ref();
    // Bounded by the number of projects, should rows ever form a circle.
    for _ in 0..world.projects.len() {
        match at {
            None => return false,
            Some(id) if id.as_str() == assignment.target_id => return true,
            Some(id) => {
                at = world
                    .projects
                    .iter()
                    .find(|candidate| candidate.id == *id)
                    .and_then(|candidate| candidate.parent_id.as_ref());
            }
        }
    }
    false
}
