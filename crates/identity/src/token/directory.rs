//! The roles of the cloud in memory: their names and what they imply. Tokens carry role ids only;
//! with this a process turns them into the names that policy asks for without any I/O. It is read
//! at start and again whenever a role changes.

use std::collections::{BTreeMap, BTreeSet};

use cloud_types::RoleId;
use service_kit::TokenRole;

/// A snapshot of the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoleDirectory {
    /// Raised with every change, so that what was derived from an older one is recognised.
    pub version: u64,
    pub names: BTreeMap<RoleId, String>,
    /// Roles that belong to a domain. They stand in no token: what counts is what they imply, so
    /// that a domain's role cannot pass for one of the cloud by its name.
    pub of_domains: BTreeSet<RoleId>,
    /// From a role to those that it implies directly.
    pub implied: BTreeMap<RoleId, BTreeSet<RoleId>>,
}

impl RoleDirectory {
    /// Whether the role is in this copy.
    pub fn knows(&self, role: &RoleId) -> bool {
        self.names.contains_key(role) || self.of_domains.contains(role)
    }

    /// The roles with all that they imply, in a stable order: the assigned ones first. Unknown
    /// (deleted) roles are left out.
    pub fn expand(&self, assigned: &[RoleId]) -> Vec<TokenRole> {
        let mut seen = BTreeSet::new();
        let mut expanded = Vec::new();
        let mut queue: std::collections::VecDeque<&RoleId> = assigned.iter().collect();
        while let Some(id) = queue.pop_front() {
            let name = self.names.get(id);
            if name.is_none() && !self.of_domains.contains(id) || !seen.insert(id) {
                continue;
            }
            if let Some(name) = name {
                expanded.push(TokenRole { id: id.clone(), name: name.clone() });
            }
            queue.extend(self.implied.get(id).into_iter().flatten());
        }
        expanded
    }
}
