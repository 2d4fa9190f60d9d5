//! Planning and carrying out an import.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use cloud_types::Timestamp;
use database::{Database, DatabaseError, JournalEntry, Origin, Tx};
use serde_json::{Map, Value, json};

use super::dump::DumpError;
use super::model::{self, Place, Plan, Snapshot};
use super::store;
use crate::assignment::model::Assignment;
use crate::compliance::model::day_of;
use crate::user::model::Standing;
use crate::{assignment, domain, group, password, project, role, user};

/// What an operator may say about an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Objects of the same name (and, but for roles and domains, in the same domain) are the same.
    pub same_names: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The text is no dump.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The other cloud's data cannot be understood.
    #[error("{0}")]
    Broken(String),
    /// Objects there contradict objects here.
    #[error("nothing was imported, since some of it contradicts what is here:\n{0}")]
    Conflicts(Box<Plan>),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// What an import would do.
///
/// # Errors
/// When the database fails.
pub async fn plan(
    db: &Database,
    snapshot: &Snapshot,
    options: ImportOptions,
) -> Result<Plan, ImportError> {
    let present = db.read(|tx| Box::pin(async move { store::present(tx).await })).await?;
    Ok(compared(snapshot, &present, options))
}

fn compared(snapshot: &Snapshot, present: &model::Present, options: ImportOptions) -> Plan {
    let mut plan = model::compare(snapshot, present, options.same_names);
    for user in &snapshot.users {
        let strange = user.password.as_ref().is_some_and(|p| !password::is_known(&p.hash));
        if strange && plan.is_new("user", &user.id) {
            plan.left_out.push(format!(
                "the password of user {} ({}): its hash is of no kind that is understood",
                user.name, user.id
            ));
        }
    }
    plan
}

/// Imports what is new, all of it or nothing.
///
/// # Errors
/// When something contradicts what is there, or cannot be stored.
pub async fn apply(
    db: &Database,
    snapshot: Snapshot,
    options: ImportOptions,
) -> Result<Plan, ImportError> {
    let snapshot = Arc::new(snapshot);
    db.transact(&Origin::system("identity-import"), move |tx| {
        let snapshot = snapshot.clone();
        Box::pin(async move {
            let present = store::present(tx).await?;
            let plan = compared(&snapshot, &present, options);
            if !plan.conflicts.is_empty() {
                return Err(ImportError::Conflicts(Box::new(plan)));
            }
            Importer { plan: &plan, tx }.all(&snapshot).await?;
            Ok(plan)
        })
    })
    .await
}

struct Importer<'i> {
    plan: &'i Plan,
    tx: &'i mut Tx,
}

fn id<T: FromStr>(kind: &str, text: &str) -> Result<T, ImportError> {
    text.parse().map_err(|_| ImportError::Broken(format!("{text:?} is no id of a {kind}")))
}

impl Importer<'_> {
    fn journal(&mut self, kind: &'static str, id: &str, after: Value) {
        self.tx.journal(JournalEntry {
            kind,
            id: id.to_owned(),
            project: None,
            action: "import",
            before: None,
            after: Some(after),
        });
    }

    fn taken(stored: bool, kind: &str, name: &str) -> Result<(), ImportError> {
        if stored {
            return Ok(());
        }
        Err(ImportError::Broken(format!("{kind} {name} is twice in what is imported")))
    }

    async fn all(&mut self, snapshot: &Snapshot) -> Result<(), ImportError> {
        let now = self.tx.now();
        self.roles(snapshot, now).await?;
        self.domains(snapshot, now).await?;
        self.projects(snapshot, now).await?;
        self.users(snapshot, now).await?;
        for wanted in snapshot.groups.iter().filter(|g| self.plan.is_new("group", &g.id)) {
            let group = group::model::Group {
                id: wanted.id.clone(),
                domain_id: id("domain", &self.plan.here("domain", &wanted.domain_id))?,
                name: wanted.name.clone(),
                description: wanted.description.clone(),
                extra: Map::new(),
                serial: 0,
            };
            Self::taken(group::store::insert(self.tx, &group).await?, "group", &group.name)?;
            self.journal("group", &wanted.id, group.public());
        }
        self.bonds(snapshot).await
    }

    async fn roles(&mut self, snapshot: &Snapshot, now: Timestamp) -> Result<(), ImportError> {
        for wanted in snapshot.roles.iter().filter(|r| self.plan.is_new("role", &r.id)) {
            let role = role::model::Role {
                id: id("role", &wanted.id)?,
                name: wanted.name.clone(),
                description: wanted.description.clone(),
                domain_id: None,
                options: Map::new(),
                created_at: now,
            };
            Self::taken(role::store::insert(self.tx, &role).await?, "role", &role.name)?;
            self.journal("role", &wanted.id, role.public());
            self.tx.notify("identity_roles", wanted.id.clone());
        }
        Ok(())
    }

    async fn domains(&mut self, snapshot: &Snapshot, now: Timestamp) -> Result<(), ImportError> {
        for wanted in snapshot.domains.iter().filter(|d| self.plan.is_new("domain", &d.id)) {
            let domain = domain::model::Domain {
                id: id("domain", &wanted.id)?,
                name: wanted.name.clone(),
                description: wanted.description.clone(),
                enabled: wanted.enabled,
                tags: Vec::new(),
                options: Map::new(),
                extra: Map::new(),
                serial: 0,
                generation: 1,
                created_at: now,
            };
            Self::taken(domain::store::insert(self.tx, &domain).await?, "domain", &domain.name)?;
            self.journal("domain", &wanted.id, domain.public());
        }
        Ok(())
    }

    async fn projects(&mut self, snapshot: &Snapshot, now: Timestamp) -> Result<(), ImportError> {
        for wanted in snapshot.projects.iter().filter(|p| self.plan.is_new("project", &p.id)) {
            let parent = wanted.parent_id.as_ref().map(|parent| self.plan.here("project", parent));
            let project = project::model::Project {
                id: id("project", &wanted.id)?,
                domain_id: id("domain", &self.plan.here("domain", &wanted.domain_id))?,
                parent_id: parent.map(|parent| id("project", &parent)).transpose()?,
                is_domain: false,
                name: wanted.name.clone(),
                description: wanted.description.clone(),
                enabled: wanted.enabled,
                tags: wanted.tags.clone(),
                options: Map::new(),
                extra: wanted.extra.clone(),
                serial: 0,
                generation: 1,
                created_at: now,
            };
            Self::taken(
                project::store::insert(self.tx, &project).await?,
                "project",
                &project.name,
            )?;
            self.journal("project", &wanted.id, project.public());
        }
        Ok(())
    }

    async fn users(&mut self, snapshot: &Snapshot, now: Timestamp) -> Result<(), ImportError> {
        for wanted in snapshot.users.iter().filter(|u| self.plan.is_new("user", &u.id)) {
            let password = wanted.password.as_ref().filter(|p| password::is_known(&p.hash));
            let default = wanted.default_project_id.as_ref();
            let default = default.map(|project| self.plan.here("project", project));
            let mut extra = wanted.extra.clone();
            let description = match extra.remove("description") {
                Some(Value::String(text)) => Some(text),
                _ => None,
            };
            let user = user::model::User {
                id: id("user", &wanted.id)?,
                domain_id: id("domain", &self.plan.here("domain", &wanted.domain_id))?,
                name: wanted.name.clone(),
                description,
                enabled: wanted.enabled,
                default_project_id: default.map(|p| id("project", &p)).transpose()?,
                password_hash: password.map(|p| p.hash.clone()),
                password_changed_at: password.map(|p| p.created_at.unwrap_or(now)),
                standing: Standing {
                    password_expires_at: password.and_then(|p| p.expires_at),
                    chosen: password.is_some_and(|p| p.chosen),
                    // Who was imported has until then to log in.
                    last_active_day: Some(day_of(now)),
                    valid_until: None,
                },
                options: wanted.options.clone(),
                extra,
                serial: 0,
                generation: 1,
                created_at: wanted.created_at.unwrap_or(now),
            };
            Self::taken(user::store::insert(self.tx, &user).await?, "user", &user.name)?;
            self.journal("user", &wanted.id, user.public());
        }
        Ok(())
    }

    /// Memberships, implications and assignments, between objects of which all are there by now.
    async fn bonds(&mut self, snapshot: &Snapshot) -> Result<(), ImportError> {
        let mut added: BTreeMap<&'static str, usize> = BTreeMap::new();
        let is_new =
            |line: &str| self.plan.lines.binary_search_by(|l| l.as_str().cmp(line)).is_ok();
        for (group, member) in &snapshot.members {
            let (group, member) = (self.plan.here("group", group), self.plan.here("user", member));
            if is_new(&format!("membership: group {group}, user {member}")) {
                group::store::add_member(self.tx, &group, &id("user", &member)?).await?;
                *added.entry("memberships").or_default() += 1;
            }
        }
        for (prior, implied) in &snapshot.implied {
            let (prior, implied) = (self.plan.here("role", prior), self.plan.here("role", implied));
            if is_new(&format!("implied role: role {prior}, role {implied}")) {
                role::store::imply(self.tx, &id("role", &prior)?, &id("role", &implied)?).await?;
                self.tx.notify("identity_roles", prior);
                *added.entry("implications").or_default() += 1;
            }
        }
        let mut assigned = Vec::new();
        for wanted in &snapshot.assignments {
            let line = self.plan.key(wanted);
            if !is_new(&format!("assignment: {line}")) {
                continue;
            }
            let (actor, target) = (wanted.kinds.actor, wanted.kinds.target);
            let target_id = match target {
                Place::Project => self.plan.here("project", &wanted.target_id),
                Place::Domain => self.plan.here("domain", &wanted.target_id),
                Place::System => assignment::model::SYSTEM.to_owned(),
            };
            let actor_id = match actor {
                model::Actor::User => self.plan.here("user", &wanted.actor_id),
                model::Actor::Group => self.plan.here("group", &wanted.actor_id),
            };
            let made = Assignment {
                actor_kind: actor.kind(),
                actor_id,
                target_kind: target.kind(),
                target_id,
                role_id: id("role", &self.plan.here("role", &wanted.role_id))?,
                inherited: wanted.inherited,
            };
            assignment::store::add(self.tx, &made).await?;
            assigned.push((made.path(), line));
        }
        for (path, line) in assigned {
            self.journal("role_assignment", &path, json!({"imported": line}));
        }
        for (what, count) in added {
            self.journal("identity_import", what, json!({"added": count}));
        }
        Ok(())
    }
}
