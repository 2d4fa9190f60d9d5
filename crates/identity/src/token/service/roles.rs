//! Roles that are cut out of what somebody has: named ones, and those that one has in effect.

use cloud_types::{Fault, RoleId, UserId};
use database::Tx;
use serde::Deserialize;
use serde_json::Value;
use service_kit::from_value;

use crate::token::store::{self, Granted};
use crate::{role, wire};

/// A role by its id, or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoleName {
    Id(RoleId),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RolePart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

impl RoleName {
    /// `{"id": …}` or `{"name": …}`.
    pub fn read(part: Value) -> Result<RoleName, Fault> {
        match from_value("roles", part)? {
            RolePart { id: Some(id), name: None } => Ok(RoleName::Id(wire::id("role", &id)?)),
            RolePart { id: None, name: Some(name) } => Ok(RoleName::Name(name)),
            _ => Err(Fault::bad_request(
                "Invalid input for field 'roles': each has an id or a name, not both.",
            )),
        }
    }
}

/// The ids of roles that exist.
pub(crate) async fn find_roles(tx: &mut Tx, names: &[RoleName]) -> Result<Vec<RoleId>, Fault> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let id = match name {
            RoleName::Id(id) => match role::store::get(tx, id).await? {
                Some(role) => role.id,
                None => return Err(wire::not_found("role", id)),
            },
            RoleName::Name(name) => match role::store::by_name(tx, None, name).await? {
                Some(role) => role.id,
                None => return Err(wire::not_found("role", name)),
            },
        };
        if !found.contains(&id) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The roles that a user has in a scope with all that they imply, as they are in this snapshot.
pub(crate) async fn effective_roles(
    tx: &mut Tx,
    user: &UserId,
    granted: &Granted<'_>,
) -> Result<Vec<RoleId>, Fault> {
    let assigned = store::roles_in_scope(tx, user, granted).await?;
    let directory = store::role_directory(tx).await?;
    Ok(directory.expand(&assigned).into_iter().map(|role| role.id).collect())
}
