//! What a project is.

use cloud_types::{DomainId, ProjectId, Timestamp};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use service_kit::Ctx;

use crate::domain::model::Domain;
use crate::wire::{self, Listed, Shown};

/// Attributes that are ours: what a caller stored under such a name is not shown.
const OWN: &[&str] = &[
    "id",
    "domain_id",
    "parent_id",
    "name",
    "description",
    "enabled",
    "is_domain",
    "tags",
    "options",
    "links",
];

/// A project.
#[derive(Clone, Debug)]
pub(crate) struct Project {
    pub id: ProjectId,
    pub domain_id: DomainId,
    /// The project above this one; `None` directly below the domain.
    pub parent_id: Option<ProjectId>,
    /// Whether this is a domain, seen as the project at the root of its tree. Its `domain_id` is
    /// its own id then.
    pub is_domain: bool,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub tags: Vec<String>,
    pub options: Map<String, Value>,
    pub extra: Map<String, Value>,
    pub serial: u64,
    pub generation: i64,
    pub created_at: Timestamp,
}

impl Project {
    /// The root of a domain's projects.
    pub fn of_domain(domain: &Domain) -> Project {
        Project {
            id: domain.id.as_str().parse().unwrap_or_else(|_| ProjectId::random()),
            domain_id: domain.id.clone(),
            parent_id: None,
            is_domain: true,
            name: domain.name.clone(),
            description: domain.description.clone(),
            enabled: domain.enabled,
            tags: domain.tags.clone(),
            options: domain.options.clone(),
            extra: domain.extra.clone(),
            serial: domain.serial,
            generation: domain.generation,
            created_at: domain.created_at,
        }
    }

    /// What is above it, as clients name it: a project, or the domain; nothing above a domain.
    pub fn parent(&self) -> Option<&str> {
        match &self.parent_id {
            _ if self.is_domain => None,
            Some(parent) => Some(parent.as_str()),
            None => Some(self.domain_id.as_str()),
        }
    }

    /// A project directly below its domain, enabled, without anything else.
    pub fn blank(id: ProjectId, domain_id: DomainId, name: String, now: Timestamp) -> Project {
        Project {
            id,
            domain_id,
            parent_id: None,
            is_domain: false,
            name,
            description: String::new(),
            enabled: true,
            tags: Vec::new(),
            options: Map::new(),
            extra: Map::new(),
            serial: 0,
            generation: 1,
            created_at: now,
        }
    }

    /// What the API shows.
    pub fn view(&self, ctx: &Ctx) -> Value {
        Shown { what: self, base: Some(&ctx.service_url()) }.value()
    }

    /// What the journal keeps.
    pub fn public(&self) -> Value {
        Shown::bare(self).value()
    }
}

impl Serialize for Shown<'_, Project> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let project = self.what;
        let mut map = serializer.serialize_map(None)?;
        wire::write_extra(&mut map, &project.extra, OWN)?;
        map.serialize_entry("id", &project.id)?;
        map.serialize_entry("domain_id", &(!project.is_domain).then_some(&project.domain_id))?;
        map.serialize_entry("parent_id", &project.parent())?;
        map.serialize_entry("name", &project.name)?;
        map.serialize_entry("description", &project.description)?;
        map.serialize_entry("enabled", &project.enabled)?;
        map.serialize_entry("is_domain", &project.is_domain)?;
        map.serialize_entry("tags", &project.tags)?;
        map.serialize_entry("options", &project.options)?;
        if let Some(links) = self.links("projects", project.id.as_str()) {
            map.serialize_entry("links", &links)?;
        }
        map.end()
    }
}

impl Listed for Shown<'_, Project> {
    fn id(&self) -> Option<&str> {
        Some(self.what.id.as_str())
    }
}
