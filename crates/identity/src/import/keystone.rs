//! The tables of Keystone's database, as a snapshot. Domains are rows of `project`; a user's name
//! and passwords are in `local_user` and `password`; options in `user_option` by codes.
//!
//! Users that another system knows (LDAP, federation) have no name here and are left out: they come
//! by themselves when that system is connected.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::Timestamp;
use serde_json::{Map, Value};

use super::dump::{Cell, Table, Tables};
use super::model::{
    Actor, Assignment, Domain, Group, Kinds, Password, Place, Project, Role, Snapshot, User,
};
use super::service::ImportError;
use crate::compliance::options;

/// Keystone's row that is no domain but the root of all.
const ROOT: &str = "<<keystone.domain.root>>";
/// A role's domain when it has none.
const NO_DOMAIN: &str = "<<null>>";

/// Codes of `user_option`.
const OPTIONS: [(&str, &str); 7] = [
    ("1000", "ignore_change_password_upon_first_use"),
    ("1001", "ignore_password_expiry"),
    ("1002", "ignore_lockout_failure_attempts"),
    ("1003", "lock_password"),
    ("1004", "ignore_user_inactivity"),
    ("MFAR", options::MFA_RULES),
    ("MFAE", "multi_factor_auth_enabled"),
];

/// A row whose columns are asked for by name.
struct Row<'t> {
    table: &'static str,
    columns: &'t [String],
    cells: &'t [Cell],
}

impl<'t> Row<'t> {
    fn opt(&self, column: &str) -> Option<&'t str> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.cells.get(at)?.text()
    }

    fn text(&self, column: &str) -> Result<String, ImportError> {
        self.opt(column)
            .map(str::to_owned)
            .ok_or_else(|| ImportError::Broken(format!("a row of {} has no {column}", self.table)))
    }

    fn flag(&self, column: &str) -> bool {
        self.opt(column).is_some_and(|text| text != "0")
    }

    fn json(&self, column: &str) -> Result<Map<String, Value>, ImportError> {
        match self.opt(column) {
            None | Some("") => Ok(Map::new()),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                ImportError::Broken(format!("{} of a row of {}: {error}", column, self.table))
            }),
        }
    }

    fn time(&self, column: &str) -> Option<Timestamp> {
        self.opt(column).and_then(|text| Timestamp::parse(&text.replace(' ', "T")))
    }
}

fn rows<'t>(tables: &'t Tables, table: &'static str) -> impl Iterator<Item = Row<'t>> {
    static NONE: Table = Table { columns: Vec::new(), rows: Vec::new() };
    let found = tables.get(table).unwrap_or(&NONE);
    found.rows.iter().map(move |cells| Row { table, columns: &found.columns, cells })
}

/// What the tables say.
pub(super) fn snapshot(tables: &Tables) -> Result<Snapshot, ImportError> {
    for table in ["project", "user", "local_user", "password", "role", "assignment"] {
        if !tables.contains_key(table) {
            return Err(ImportError::Broken(format!(
                "the dump has no table {table}: it is not one of Keystone's whole database"
            )));
        }
    }
    let mut snapshot = Snapshot::default();
    projects(tables, &mut snapshot)?;
    users(tables, &mut snapshot)?;
    for row in rows(tables, "group") {
        snapshot.groups.push(Group {
            id: row.text("id")?,
            domain_id: row.text("domain_id")?,
            name: row.text("name")?,
            description: row.opt("description").unwrap_or_default().to_owned(),
        });
    }
    for row in rows(tables, "user_group_membership") {
        snapshot.members.insert((row.text("group_id")?, row.text("user_id")?));
    }
    roles(tables, &mut snapshot)?;
    Ok(snapshot)
}

fn projects(tables: &Tables, snapshot: &mut Snapshot) -> Result<(), ImportError> {
    let mut tags: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows(tables, "project_tag") {
        tags.entry(row.text("project_id")?).or_default().insert(row.text("name")?);
    }
    for row in rows(tables, "project") {
        let (id, name) = (row.text("id")?, row.text("name")?);
        if id == ROOT {
            continue;
        }
        let description = row.opt("description").unwrap_or_default().to_owned();
        let enabled = row.flag("enabled");
        if row.flag("is_domain") {
            snapshot.domains.push(Domain { id, name, description, enabled });
            continue;
        }
        let domain_id = row.text("domain_id")?;
        let parent_id = row.opt("parent_id").filter(|parent| *parent != domain_id);
        snapshot.projects.push(Project {
            tags: tags.remove(&id).unwrap_or_default().into_iter().collect(),
            parent_id: parent_id.map(str::to_owned),
            extra: row.json("extra")?,
            id,
            domain_id,
            name,
            description,
            enabled,
        });
    }
    Ok(())
}

fn users(tables: &Tables, snapshot: &mut Snapshot) -> Result<(), ImportError> {
    let mut locals = BTreeMap::new();
    for row in rows(tables, "local_user") {
        locals.insert(row.text("user_id")?, (row.text("id")?, row.text("name")?));
    }
    let passwords = passwords(tables)?;
    let mut given: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for row in rows(tables, "user_option") {
        let code = row.text("option_id")?;
        let Some((_, name)) = OPTIONS.iter().find(|(known, _)| *known == code) else { continue };
        let value = row.opt("option_value").unwrap_or("null");
        let value: Value = serde_json::from_str(value).map_err(|error| {
            ImportError::Broken(format!("option_value of a row of user_option: {error}"))
        })?;
        if !value.is_null() {
            given.entry(row.text("user_id")?).or_default().insert((*name).to_owned(), value);
        }
    }
    let mut nameless = 0;
    for row in rows(tables, "user") {
        let id = row.text("id")?;
        let Some((local, name)) = locals.remove(&id) else {
            nameless += 1;
            continue;
        };
        let mut extra = row.json("extra")?;
        // Keystone keeps it there when it came with an update.
        extra.remove("password");
        let options = given.remove(&id).unwrap_or_default();
        options::check(&options)
            .map_err(|fault| ImportError::Broken(format!("user {id}: {}", fault.message)))?;
        snapshot.users.push(User {
            domain_id: row.text("domain_id")?,
            enabled: row.flag("enabled"),
            default_project_id: row.opt("default_project_id").map(str::to_owned),
            password: passwords.get(&local).cloned(),
            created_at: row.time("created_at"),
            options,
            id,
            name,
            extra,
        });
    }
    if nameless > 0 {
        snapshot.left_out.push(format!(
            "{nameless} user(s) whom another system knows (LDAP, federation): connect that system"
        ));
    }
    Ok(())
}

/// The current password of each local user: the one that was made last.
fn passwords(tables: &Tables) -> Result<BTreeMap<String, Password>, ImportError> {
    let mut current: BTreeMap<String, (i64, i64, Password)> = BTreeMap::new();
    for row in rows(tables, "password") {
        let number = |column: &str| row.opt(column).and_then(|text| text.parse::<i64>().ok());
        let made = number("created_at_int").unwrap_or(0);
        let order = (made, number("id").unwrap_or(0));
        let local = row.text("local_user_id")?;
        if current.get(&local).is_some_and(|(made, id, _)| (*made, *id) > order) {
            continue;
        }
        let micros = |column: &str, older: &str| {
            number(column).filter(|micros| *micros > 0).map(Timestamp).or_else(|| row.time(older))
        };
        let password = row.opt("password_hash").map(|hash| Password {
            hash: hash.to_owned(),
            created_at: micros("created_at_int", "created_at"),
            expires_at: micros("expires_at_int", "expires_at"),
            chosen: row.flag("self_service"),
        });
        match password {
            Some(password) => {
                current.insert(local, (order.0, order.1, password));
            }
            None => {
                // The last word is that there is no password.
                current.remove(&local);
            }
        }
    }
    Ok(current.into_iter().map(|(local, (_, _, password))| (local, password)).collect())
}

fn roles(tables: &Tables, snapshot: &mut Snapshot) -> Result<(), ImportError> {
    for row in rows(tables, "role") {
        let (id, name) = (row.text("id")?, row.text("name")?);
        if row.opt("domain_id").is_some_and(|domain| domain != NO_DOMAIN) {
            snapshot.left_out.push(format!("role {name} ({id}), which belongs to a domain"));
            continue;
        }
        let description = row.opt("description").filter(|text| !text.is_empty());
        snapshot.roles.push(Role { id, name, description: description.map(str::to_owned) });
    }
    for row in rows(tables, "implied_role") {
        snapshot.implied.insert((row.text("prior_role_id")?, row.text("implied_role_id")?));
    }
    for row in rows(tables, "assignment") {
        let kind = row.text("type")?;
        let (actor, target) = match kind.as_str() {
            "UserProject" => (Actor::User, Place::Project),
            "GroupProject" => (Actor::Group, Place::Project),
            "UserDomain" => (Actor::User, Place::Domain),
            "GroupDomain" => (Actor::Group, Place::Domain),
            other => {
                return Err(ImportError::Broken(format!("an assignment of the type {other}")));
            }
        };
        snapshot.assignments.insert(Assignment {
            kinds: Kinds { actor, target },
            actor_id: row.text("actor_id")?,
            target_id: row.text("target_id")?,
            role_id: row.text("role_id")?,
            inherited: row.flag("inherited"),
        });
    }
    for row in rows(tables, "system_assignment") {
        let kind = row.text("type")?;
        let actor = match kind.as_str() {
            "UserSystem" => Actor::User,
            "GroupSystem" => Actor::Group,
            other => {
                return Err(ImportError::Broken(format!("an assignment of the type {other}")));
            }
        };
        snapshot.assignments.insert(Assignment {
            kinds: Kinds { actor, target: Place::System },
            actor_id: row.text("actor_id")?,
            target_id: "all".to_owned(),
            role_id: row.text("role_id")?,
            inherited: false,
        });
    }
    Ok(())
}
