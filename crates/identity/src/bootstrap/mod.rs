//! The first administrator, the roles that policies speak of, and the catalogue. Idempotent: what
//! exists stays as it is (also a password that was changed since, and names that were chosen), and
//! what is missing is made. Endpoints follow the configuration, so that a cloud that moved to
//! another address tells its clients.

mod recovery;

use cloud_types::{DomainId, Fault, ProjectId, RoleId, UserId};
use database::{Database, DatabaseError, JournalEntry, Origin, Tx};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::assignment::model::{ActorKind, Assignment, SYSTEM, TargetKind};
use crate::catalog::model::{CatalogService, Endpoint, Region};
use crate::domain::model::Domain;
use crate::password::{HashParams, hash_now};
use crate::project::model::Project;
use crate::role::model::Role;
use crate::user::model::{Standing, User};
use crate::{assignment, catalog, domain, project, role, user};

pub use recovery::{RECOVERY_DOMAIN, RECOVERY_LASTS, Recovered, recover};

/// The built-in roles. Their ids follow from their names, so that every cloud has the same.
pub(crate) const ROLES: [(&str, &str); 5] = [
    ("admin", "Runs the cloud."),
    ("manager", "Runs a project or a domain for its members."),
    ("member", "Uses a project."),
    ("reader", "Looks at a project."),
    ("service", "Is another service of the cloud."),
];

/// Each implies the next.
const LADDER: [&str; 4] = ["admin", "manager", "member", "reader"];

/// What the first start needs to know. Holds passwords: it has no `Debug`.
#[derive(Clone)]
pub struct BootstrapConfig {
    /// The administrator's password, used when there is no administrator yet.
    pub admin_password: String,
    /// The name of this region, for example `region-1`.
    pub region: String,
    /// `scheme://host[:port]` at which clients reach the cloud; the services are below it.
    pub base_url: String,
    /// A project and a user to try the cloud with.
    pub demo: Option<DemoConfig>,
    /// Cost of the passwords' hashes.
    pub hashing: HashParams,
}

/// A project and a user to try the cloud with, both with the same name.
#[derive(Clone)]
pub struct DemoConfig {
    /// For example `demo`.
    pub name: String,
    /// The user's password, used when there is no such user yet.
    pub password: String,
}

/// Why bootstrap failed; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A password could not be hashed.
    #[error("{0}")]
    Password(Fault),
}

/// The identifiers of what bootstrap made or found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrapped {
    /// The administrator.
    pub admin_user: UserId,
    /// The administrator's project.
    pub admin_project: ProjectId,
    /// The demo user and project.
    pub demo: Option<(UserId, ProjectId)>,
}

/// The domain in which everything is that names none.
pub(crate) fn default_domain() -> DomainId {
    "default".parse().unwrap_or_else(|_| DomainId::random())
}

/// The id of a built-in object: a hash of what it is, as 32 hexadecimal digits.
fn fixed_id(what: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("meridian:identity:{what}").as_bytes())
        .simple()
        .to_string()
}

/// The id of a built-in role (`admin`, `manager`, `member`, `reader`, `service`).
pub fn well_known_role(name: &str) -> RoleId {
    fixed_id(&format!("role:{name}")).parse().unwrap_or_else(|_| RoleId::random())
}

/// Makes what is missing, in one transaction. The schema must have been migrated.
///
/// # Errors
/// When the database fails or a password cannot be hashed.
pub async fn bootstrap(
    db: &Database,
    config: &BootstrapConfig,
) -> Result<Bootstrapped, BootstrapError> {
    let admin_hash = hashed(config.hashing, config.admin_password.clone()).await?;
    let demo = match &config.demo {
        Some(demo) => {
            Some((demo.name.clone(), hashed(config.hashing, demo.password.clone()).await?))
        }
        None => None,
    };
    let (region, base_url) = (config.region.clone(), config.base_url.clone());
    db.transact(&Origin::system("bootstrap"), move |tx| {
        let (admin_hash, demo) = (admin_hash.clone(), demo.clone());
        let (region, base_url) = (region.clone(), base_url.clone());
        Box::pin(async move {
            make_domain(tx).await?;
            let roles = make_roles(tx).await?;
            let admin_project = make_project(tx, "admin", "The administrators' project.").await?;
            let admin_user = make_user(tx, "admin", &admin_hash, &admin_project).await?;
            let (admin, member) = (&roles["admin"].0, &roles["member"].0);
            give(tx, &admin_user, TargetKind::Project, admin_project.as_str(), admin).await?;
            give(tx, &admin_user, TargetKind::System, SYSTEM, admin).await?;
            let demo = match &demo {
                None => None,
                Some((name, hash)) => {
                    let project =
                        make_project(tx, name, "A project to try the cloud with.").await?;
                    let user = make_user(tx, name, hash, &project).await?;
                    give(tx, &user, TargetKind::Project, project.as_str(), member).await?;
                    Some((user, project))
                }
            };
            make_catalog(tx, &region, &base_url).await?;
            Ok(Bootstrapped { admin_user, admin_project, demo })
        })
    })
    .await
}

async fn hashed(params: HashParams, password: String) -> Result<String, BootstrapError> {
    tokio::task::spawn_blocking(move || hash_now(params, &password))
        .await
        .unwrap_or_else(|_| Err(Fault::internal("The password could not be hashed.")))
        .map_err(BootstrapError::Password)
}

fn journal(tx: &mut Tx, kind: &'static str, id: &str, after: Value) {
    tx.journal(JournalEntry {
        kind,
        id: id.to_owned(),
        project: None,
        action: "create",
        before: None,
        after: Some(after),
    });
}

async fn make_domain(tx: &mut Tx) -> Result<(), BootstrapError> {
    let wanted = Domain {
        id: default_domain(),
        name: "Default".to_owned(),
        description: "The default domain".to_owned(),
        enabled: true,
        tags: Vec::new(),
        options: Map::new(),
        extra: Map::new(),
        serial: 0,
        generation: 1,
        created_at: tx.now(),
    };
    if domain::store::get(tx, &wanted.id).await?.is_none()
        && domain::store::insert(tx, &wanted).await?
    {
        journal(tx, "domain", wanted.id.as_str(), wanted.public());
    }
    Ok(())
}

/// The built-in roles' ids by name, and whether they were made just now.
type RolesByName = std::collections::BTreeMap<&'static str, (RoleId, bool)>;

/// A role of the name under another id (a cloud that was imported) is not touched.
async fn make_roles(tx: &mut Tx) -> Result<RolesByName, BootstrapError> {
    let mut ids = RolesByName::new();
    for (name, description) in ROLES {
        let wanted = Role {
            id: well_known_role(name),
            name: name.to_owned(),
            description: Some(description.to_owned()),
            domain_id: None,
            options: Map::new(),
            created_at: tx.now(),
        };
        match role::store::by_name(tx, None, name).await? {
            Some(found) => {
                ids.insert(name, (found.id, false));
            }
            None => {
                role::store::insert(tx, &wanted).await?;
                journal(tx, "role", wanted.id.as_str(), wanted.public());
                tx.notify("identity_roles", wanted.id.to_string());
                ids.insert(name, (wanted.id, true));
            }
        }
    }
    for pair in LADDER.windows(2) {
        let (prior, implied) = (&ids[pair[0]], &ids[pair[1]]);
        // An administrator may have ended an implication between roles that were there.
        if prior.1 || implied.1 {
            role::store::imply(tx, &prior.0, &implied.0).await?;
        }
    }
    Ok(ids)
}

async fn make_project(
    tx: &mut Tx,
    name: &str,
    description: &str,
) -> Result<ProjectId, BootstrapError> {
    let domain_id = default_domain();
    if let Some(found) = project::store::by_name(tx, &domain_id, name).await? {
        return Ok(found.id);
    }
    let project = Project {
        id: ProjectId::random(),
        domain_id,
        parent_id: None,
        is_domain: false,
        name: name.to_owned(),
        description: description.to_owned(),
        enabled: true,
        tags: Vec::new(),
        options: Map::new(),
        extra: Map::new(),
        serial: 0,
        generation: 1,
        created_at: tx.now(),
    };
    project::store::insert(tx, &project).await?;
    project::service::journal(tx, "create", &project.id, None, Some(&project));
    Ok(project.id)
}

async fn make_user(
    tx: &mut Tx,
    name: &str,
    hash: &str,
    default_project: &ProjectId,
) -> Result<UserId, BootstrapError> {
    let domain_id = default_domain();
    if let Some(found) = user::store::by_name(tx, &domain_id, name).await? {
        return Ok(found.id);
    }
    let user = User {
        id: UserId::random(),
        domain_id,
        name: name.to_owned(),
        description: None,
        enabled: true,
        default_project_id: Some(default_project.clone()),
        password_hash: Some(hash.to_owned()),
        password_changed_at: Some(tx.now()),
        standing: Standing::default(),
        options: Map::new(),
        extra: Map::new(),
        serial: 0,
        generation: 1,
        created_at: tx.now(),
    };
    user::store::insert(tx, &user).await?;
    user::service::journal(tx, "create", &user.id, None, Some(&user));
    Ok(user.id)
}

async fn give(
    tx: &mut Tx,
    user: &UserId,
    target_kind: TargetKind,
    target: &str,
    wanted: &RoleId,
) -> Result<(), BootstrapError> {
    let assignment = Assignment {
        actor_kind: ActorKind::User,
        actor_id: user.to_string(),
        target_kind,
        target_id: target.to_owned(),
        role_id: wanted.clone(),
        inherited: false,
    };
    if assignment::store::add(tx, &assignment).await? {
        let shown = json!({"user": user, "target": assignment.scope_key(), "role": wanted});
        journal(tx, "role_assignment", &assignment.path(), shown);
    }
    Ok(())
}

/// Type, name, description, and the path below the base URL. Clients of identity and image find
/// the version below by discovery; compute's is part of the endpoint, as everywhere.
const SERVICES: [(&str, &str, &str, &str); 4] = [
    ("identity", "keystone", "Identity", "/identity"),
    ("compute", "nova", "Compute", "/compute/v2.1"),
    ("network", "neutron", "Networking", "/network"),
    ("image", "glance", "Images", "/image"),
];

async fn make_catalog(tx: &mut Tx, region: &str, base_url: &str) -> Result<(), BootstrapError> {
    let wanted =
        Region { id: region.to_owned(), description: String::new(), parent_region_id: None };
    catalog::store::add_region(tx, &wanted).await?;
    let base = base_url.trim_end_matches('/');
    for (kind, name, description, path) in SERVICES {
        let service = CatalogService {
            id: fixed_id(&format!("service:{kind}")),
            kind: kind.to_owned(),
            name: name.to_owned(),
            description: description.to_owned(),
            enabled: true,
        };
        if catalog::store::service(tx, &service.id).await?.is_none() {
            catalog::store::put_service(tx, &service).await?;
        }
        for interface in ["public", "internal", "admin"] {
            let endpoint = Endpoint {
                id: fixed_id(&format!("endpoint:{region}:{kind}:{interface}")),
                service_id: service.id.clone(),
                region_id: Some(region.to_owned()),
                interface: interface.to_owned(),
                url: format!("{base}{path}"),
                enabled: true,
                makes_region: false,
            };
            catalog::store::put_endpoint(tx, &endpoint).await?;
        }
    }
    Ok(())
}
