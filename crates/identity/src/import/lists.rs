//! The lists of a Keystone's API, as a snapshot. Passwords are not among them: users come without,
//! and get one from an administrator or from the single sign-on.

use serde_json::{Map, Value};

use super::model::{Actor, Assignment, Domain, Group, Kinds, Place, Project, Role, Snapshot, User};
use super::service::ImportError;

/// What was asked of the API: the arrays of its answers, all pages of each together.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// `GET /v3/domains`
    pub domains: Vec<Value>,
    /// `GET /v3/projects`
    pub projects: Vec<Value>,
    /// `GET /v3/users`
    pub users: Vec<Value>,
    /// `GET /v3/groups`
    pub groups: Vec<Value>,
    /// For each group's id, `GET /v3/groups/{id}/users`
    pub members: Vec<(String, Vec<Value>)>,
    /// `GET /v3/roles`
    pub roles: Vec<Value>,
    /// `GET /v3/role_inferences`
    pub inferences: Vec<Value>,
    /// `GET /v3/role_assignments`
    pub assignments: Vec<Value>,
}

fn text(value: &Value, list: &str, key: &str) -> Result<String, ImportError> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| ImportError::Broken(format!("an entry of {list} has no {key}")))
}

fn opt(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

fn without(value: &Value, known: &[&str]) -> Map<String, Value> {
    let mut extra = value.as_object().cloned().unwrap_or_default();
    extra.retain(|key, _| !known.contains(&key.as_str()));
    extra
}

impl Lists {
    /// The snapshot that they make.
    ///
    /// # Errors
    /// What an entry lacks.
    pub fn snapshot(&self) -> Result<Snapshot, ImportError> {
        let mut snapshot = Snapshot::default();
        for domain in &self.domains {
            snapshot.domains.push(Domain {
                id: text(domain, "domains", "id")?,
                name: text(domain, "domains", "name")?,
                description: opt(domain, "description").unwrap_or_default(),
                enabled: domain["enabled"] != false,
            });
        }
        for project in &self.projects {
            let domain_id = text(project, "projects", "domain_id")?;
            const KNOWN: [&str; 10] = [
                "id",
                "domain_id",
                "parent_id",
                "name",
                "description",
                "enabled",
                "tags",
                "is_domain",
                "links",
                "options",
            ];
            let tags = project["tags"].as_array().map_or(&[][..], Vec::as_slice);
            snapshot.projects.push(Project {
                id: text(project, "projects", "id")?,
                name: text(project, "projects", "name")?,
                parent_id: opt(project, "parent_id").filter(|parent| *parent != domain_id),
                description: opt(project, "description").unwrap_or_default(),
                enabled: project["enabled"] != false,
                tags: tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect(),
                extra: without(project, &KNOWN),
                domain_id,
            });
        }
        self.users(&mut snapshot)?;
        for group in &self.groups {
            snapshot.groups.push(Group {
                id: text(group, "groups", "id")?,
                domain_id: text(group, "groups", "domain_id")?,
                name: text(group, "groups", "name")?,
                description: opt(group, "description").unwrap_or_default(),
            });
        }
        for (group, users) in &self.members {
            for user in users {
                snapshot.members.insert((group.clone(), text(user, "a group's users", "id")?));
            }
        }
        self.roles(&mut snapshot)?;
        Ok(snapshot)
    }

    fn users(&self, snapshot: &mut Snapshot) -> Result<(), ImportError> {
        const KNOWN: [&str; 9] = [
            "id",
            "domain_id",
            "name",
            "enabled",
            "default_project_id",
            "options",
            "links",
            "password_expires_at",
            "federated",
        ];
        for user in &self.users {
            let id = text(user, "users", "id")?;
            let options = user["options"].as_object().cloned().unwrap_or_default();
            crate::compliance::options::check(&options)
                .map_err(|fault| ImportError::Broken(format!("user {id}: {}", fault.message)))?;
            snapshot.users.push(User {
                domain_id: text(user, "users", "domain_id")?,
                name: text(user, "users", "name")?,
                enabled: user["enabled"] != false,
                default_project_id: opt(user, "default_project_id"),
                password: None,
                extra: without(user, &KNOWN),
                created_at: None,
                options,
                id,
            });
        }
        if !self.users.is_empty() {
            snapshot.left_out.push(
                "passwords: the API does not tell hashes; a dump of the database has them".into(),
            );
        }
        Ok(())
    }

    fn roles(&self, snapshot: &mut Snapshot) -> Result<(), ImportError> {
        for role in &self.roles {
            let (id, name) = (text(role, "roles", "id")?, text(role, "roles", "name")?);
            if role["domain_id"].is_string() {
                snapshot.left_out.push(format!("role {name} ({id}), which belongs to a domain"));
                continue;
            }
            let description = opt(role, "description").filter(|text| !text.is_empty());
            snapshot.roles.push(Role { id, name, description });
        }
        for inference in &self.inferences {
            let prior = text(&inference["prior_role"], "role_inferences", "id")?;
            for implied in inference["implies"].as_array().map_or(&[][..], Vec::as_slice) {
                let implied = text(implied, "role_inferences", "id")?;
                snapshot.implied.insert((prior.clone(), implied));
            }
        }
        for assignment in &self.assignments {
            let scope = &assignment["scope"];
            let (target, target_id) = if let Some(id) = opt(&scope["project"], "id") {
                (Place::Project, id)
            } else if let Some(id) = opt(&scope["domain"], "id") {
                (Place::Domain, id)
            } else {
                (Place::System, "all".to_owned())
            };
            let (actor, actor_id) = match opt(&assignment["user"], "id") {
                Some(id) => (Actor::User, id),
                None => (Actor::Group, text(&assignment["group"], "role_assignments", "id")?),
            };
            snapshot.assignments.insert(Assignment {
                kinds: Kinds { actor, target },
                actor_id,
                target_id,
                role_id: text(&assignment["role"], "role_assignments", "id")?,
                inherited: scope["OS-INHERIT:inherited_to"].is_string(),
            });
        }
        Ok(())
    }
}
