//! What a policy says, and whose use of an object rests on it. Pure.

use std::collections::BTreeSet;

use cloud_types::{Fault, ProjectId, RbacPolicyId};
use database::ObjectLock;
use serde::Serialize;
use serde_json::Value;

use crate::attributes::plain;
use crate::faults::{self, invalid_attribute};
use crate::groups_lock;

/// The target that means everybody.
pub const EVERYBODY: &str = "*";
/// The action that lets a project see and use an object.
pub const SHARED: &str = "access_as_shared";

/// What can be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectType {
    /// A network, with its subnets.
    Network,
    /// A security group, for ports and as the remote side of rules.
    SecurityGroup,
    /// An address group, for rules.
    AddressGroup,
    /// An address scope, for subnet pools.
    AddressScope,
    /// A subnet pool, for subnets.
    #[serde(rename = "subnetpool")]
    SubnetPool,
}

impl ObjectType {
    /// All of them.
    pub const ALL: [ObjectType; 5] = [
        ObjectType::Network,
        ObjectType::SecurityGroup,
        ObjectType::AddressGroup,
        ObjectType::AddressScope,
        ObjectType::SubnetPool,
    ];

    /// The word in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectType::Network => "network",
            ObjectType::SecurityGroup => "security_group",
            ObjectType::AddressGroup => "address_group",
            ObjectType::AddressScope => "address_scope",
            ObjectType::SubnetPool => "subnetpool",
        }
    }

    /// Reads [`ObjectType::as_str`] back.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// 404 for an object of the type.
    pub fn not_found(self, id: &str) -> Fault {
        match self {
            ObjectType::Network => faults::network_not_found(id),
            ObjectType::SecurityGroup => faults::security_group_not_found(id),
            ObjectType::AddressGroup => faults::address_group_not_found(id),
            ObjectType::AddressScope => faults::address_scope_not_found(id),
            ObjectType::SubnetPool => faults::subnet_pool_not_found(id),
        }
    }

    /// The lock under which the object, its policies and its uses change. Groups of both kinds
    /// change under their owner's.
    pub fn lock(self, id: &str, owner: &ProjectId) -> ObjectLock {
        match self {
            ObjectType::Network => ObjectLock::new("network", id),
            ObjectType::SecurityGroup | ObjectType::AddressGroup => groups_lock(owner),
            ObjectType::AddressScope => ObjectLock::new("address_scope", id),
            ObjectType::SubnetPool => ObjectLock::new("subnet_pool", id),
        }
    }
}

/// A policy as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyRow {
    /// Its id.
    pub id: RbacPolicyId,
    /// Who made it; it alone sees it, beside operators.
    pub project_id: ProjectId,
    /// What is shared.
    pub object_type: ObjectType,
    /// Which one.
    pub object_id: String,
    /// How.
    pub action: String,
    /// With whom: a project's id, or [`EVERYBODY`].
    pub target: String,
    /// Whether the object made it by itself.
    pub implied: bool,
}

/// Reads an object's type.
pub fn read_type(value: &Value) -> Result<ObjectType, Fault> {
    value.as_str().and_then(ObjectType::from_name).ok_or_else(|| {
        let names: Vec<&str> = ObjectType::ALL.iter().map(|one| one.as_str()).collect();
        invalid_attribute("object_type", format!("'{}' is not in {names:?}", plain(value)))
    })
}

/// Reads an action. Networks know another one upstream, which makes them lead outside.
pub fn read_action(object: ObjectType, value: &Value) -> Result<String, Fault> {
    match value.as_str() {
        Some(SHARED) => Ok(SHARED.to_owned()),
        Some("access_as_external") if object == ObjectType::Network => Err(Fault::bad_request(
            "Invalid action 'access_as_external' for object type 'network': this cloud has no \
             external networks yet; valid actions: ['access_as_shared']",
        )
        .named("InvalidInput")),
        _ => Err(Fault::bad_request(format!(
            "Invalid action '{}' for object type '{}'. Valid actions: ['{SHARED}']",
            plain(value),
            object.as_str()
        ))
        .named("InvalidInput")),
    }
}

/// Reads a target: a project's id, or everybody.
pub fn read_target(value: &Value) -> Result<String, Fault> {
    let text = value.as_str().unwrap_or_default();
    if text == EVERYBODY || text.parse::<ProjectId>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(invalid_attribute(
        "target_tenant",
        format!("'{}' is neither the id of a project nor '*'", plain(value)),
    ))
}

/// The projects that use an object now and could not any more: `users` use it, `owner` always may,
/// `removed` is the target that goes, and `left` are those that stay.
pub fn stranded<'u>(
    users: &'u BTreeSet<ProjectId>,
    owner: &ProjectId,
    removed: &str,
    left: &[String],
) -> Vec<&'u ProjectId> {
    let still = |project: &ProjectId| {
        left.iter().any(|target| target == EVERYBODY || target == project.as_str())
    };
    users
        .iter()
        .filter(|project| *project != owner)
        .filter(|project| removed == EVERYBODY || removed == project.as_str())
        .filter(|project| !still(project))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn project(name: &str) -> ProjectId {
        name.parse().unwrap()
    }

    #[test]
    fn only_those_who_lose_their_only_permission_are_stranded() {
        let users: BTreeSet<ProjectId> = ["a", "b", "owner"].map(project).into();
        let owner = project("owner");
        let stranded = |removed: &str, left: &[&str]| {
            let left: Vec<String> = left.iter().map(|l| (*l).to_owned()).collect();
            super::stranded(&users, &owner, removed, &left).len()
        };
        assert_eq!(stranded("a", &[]), 1);
        assert_eq!(stranded("a", &["*"]), 0);
        assert_eq!(stranded("c", &[]), 0);
        assert_eq!(stranded("owner", &[]), 0);
        assert_eq!(stranded("*", &[]), 2);
        assert_eq!(stranded("*", &["a"]), 1);
        assert_eq!(stranded("*", &["a", "b"]), 0);
    }

    #[test]
    fn words_are_read_and_others_are_refused() {
        for one in ObjectType::ALL {
            assert_eq!(read_type(&json!(one.as_str())).unwrap(), one);
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
        assert!(read_type(&json!("qos_policy")).is_err());
        assert!(read_action(ObjectType::Network, &json!("access_as_external")).is_err());
        assert!(read_action(ObjectType::SubnetPool, &json!("access_as_shared")).is_ok());
        for bad in [json!(null), json!(""), json!(5), json!("1234".repeat(100)), json!("a b")] {
            assert!(read_target(&bad).is_err(), "{bad}");
        }
        assert_eq!(read_target(&json!("*")).unwrap(), "*");
    }
}
