//! What a tenant knows that it has.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::network::Dice;

/// Objects of a kind that are remembered; older ones are forgotten first.
const MOST: usize = 60;

/// Identifiers by collection.
#[derive(Default)]
pub struct Pool(Mutex<BTreeMap<&'static str, Vec<String>>>);

/// Collections whose objects a tenant makes: as in paths, and as the answer's only field.
pub const COLLECTIONS: &[(&str, &str)] = &[
    ("networks", "network"),
    ("subnets", "subnet"),
    ("ports", "port"),
    ("security-groups", "security_group"),
    ("security-group-rules", "security_group_rule"),
    ("address-groups", "address_group"),
    ("address-scopes", "address_scope"),
    ("subnetpools", "subnetpool"),
    ("rbac-policies", "rbac_policy"),
    ("default-security-group-rules", "default_security_group_rule"),
    ("servers", "server"),
    ("flavors", "flavor"),
    ("os-keypairs", "keypair"),
    ("images", "image"),
    ("projects", "project"),
    ("users", "user"),
    ("groups", "group"),
    ("roles", "role"),
    ("domains", "domain"),
    ("services", "service"),
    ("endpoints", "endpoint"),
    ("regions", "region"),
    ("credentials", "credential"),
    ("application_credentials", "application_credential"),
    ("access_rules", "access_rule"),
    ("trusts", "trust"),
    ("consumers", "consumer"),
    ("policies", "policy"),
    ("endpoint_groups", "endpoint_group"),
    ("registered_limits", "registered_limit"),
    ("limits", "limit"),
];

/// The journal's word for an object of a collection.
pub fn singular(collection: &str) -> &'static str {
    COLLECTIONS.iter().find(|(many, _)| *many == collection).map_or("", |(_, one)| *one)
}

/// What an answer says was made: collection and id.
pub fn made(path: &str, answer: &Value) -> Vec<(&'static str, String)> {
    let last = path.split('/').next_back().unwrap_or_default();
    let Some((collection, one)) = COLLECTIONS
        .iter()
        .find(|(many, _)| *many == last)
        .or_else(|| COLLECTIONS.iter().find(|(many, _)| path.contains(&format!("/{many}/"))))
    else {
        return Vec::new();
    };
    let field = if *collection == "os-keypairs" { "name" } else { "id" };
    let objects: Vec<&Value> = match (&answer[*one], &answer[*collection]) {
        (Value::Object(_), _) => vec![&answer[*one]],
        (_, Value::Array(several)) => several.iter().collect(),
        _ => vec![answer],
    };
    let ids = objects.into_iter().filter_map(|object| object[field].as_str());
    ids.map(|id| (*collection, id.to_owned())).collect()
}

impl Pool {
    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, Vec<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is one more.
    pub fn add(&self, collection: &'static str, id: &str) {
        let mut all = self.all();
        let known = all.entry(collection).or_default();
        if !known.iter().any(|other| other == id) {
            known.push(id.to_owned());
        }
        if known.len() > MOST {
            known.remove(0);
        }
    }

    /// There is one less.
    pub fn remove(&self, collection: &str, id: &str) {
        if let Some(known) = self.all().get_mut(collection) {
            known.retain(|other| other != id);
        }
    }

    /// One of them.
    pub fn any(&self, dice: &Dice, collection: &str) -> Option<String> {
        let all = self.all();
        let known = all.get(collection)?;
        dice.pick(known).cloned()
    }

    /// How many there are.
    pub fn count(&self, collection: &str) -> usize {
        self.all().get(collection).map_or(0, Vec::len)
    }
}
