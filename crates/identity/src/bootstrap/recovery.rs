//! A way back in for whoever has the machine: an administrator for an hour, made past the API.
//! It works whatever became of the others: disabled, locked, with an expired password, without a
//! role, in a disabled domain, or refused by every rule of a policy file.
//!
//! ```text
//!   meridian identity recover ──► domain `recovery`, user `recovery-…` with the role `admin` on
//!                                 the system, both journalled
//!      login ──► a token that says `recovery` among its methods ──► every rule allows it
//!      an hour later ──► no login, no token, and the sweeper removes the user
//! ```
//! Nobody else can be given what makes a token say so: it is a column that no route writes.

use std::time::Duration;

use cloud_types::{DomainId, Timestamp, UserId};
use database::{Database, Origin, Tx};
use serde_json::{Map, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{BootstrapError, fixed_id, give, hashed, journal, make_roles};
use crate::assignment::model::{SYSTEM, TargetKind};
use crate::compliance::options::UserOption;
use crate::domain::model::Domain;
use crate::password::HashParams;
use crate::user::model::{Standing, User};
use crate::{domain, user};

/// How long the administrator lasts.
pub const RECOVERY_LASTS: Duration = Duration::from_secs(3600);
/// The name of the domain in which recovery's administrators are.
pub const RECOVERY_DOMAIN: &str = "recovery";

/// How to log in. Holds a password: it has no `Debug`.
pub struct Recovered {
    /// The user's name.
    pub user: String,
    /// Its domain's id; the name may have been taken by another one.
    pub domain: DomainId,
    /// The password, which is shown once.
    pub password: Zeroizing<String>,
    /// When the user ends.
    pub until: Timestamp,
}

/// Makes an administrator for an hour. The schema must have been migrated.
///
/// # Errors
/// When the database fails or the password cannot be hashed; then nothing was stored.
pub async fn recover(db: &Database, hashing: HashParams) -> Result<Recovered, BootstrapError> {
    let password = Zeroizing::new(Uuid::new_v4().simple().to_string());
    let hash = hashed(hashing, password.to_string()).await?;
    let until = db.clock().now().after(RECOVERY_LASTS);
    let made = db
        .transact(&Origin::system("recovery"), move |tx| {
            let hash = hash.clone();
            Box::pin(async move { make(tx, hash, until).await })
        })
        .await?;
    Ok(Recovered { user: made.name, domain: made.domain_id, password, until })
}

async fn make(tx: &mut Tx, hash: String, until: Timestamp) -> Result<User, BootstrapError> {
    let domain_id = make_domain(tx).await?;
    let roles = make_roles(tx).await?;
    let id = UserId::random();
    let exemptions = [
        UserOption::IgnoreChangePasswordUponFirstUse,
        UserOption::IgnorePasswordExpiry,
        UserOption::IgnoreLockoutFailureAttempts,
        UserOption::IgnoreUserInactivity,
        UserOption::LockPassword,
    ];
    let now = tx.now();
    let user = User {
        name: format!("recovery-{}", &id.as_str()[..8]),
        id,
        domain_id,
        description: Some("An administrator for an hour, made at the machine's console.".into()),
        enabled: true,
        default_project_id: None,
        password_hash: Some(hash),
        password_changed_at: Some(now),
        standing: Standing { valid_until: Some(until), ..Standing::default() },
        options: exemptions.iter().map(|o| (o.name().to_owned(), json!(true))).collect(),
        extra: Map::new(),
        serial: 0,
        generation: 1,
        created_at: now,
    };
    user::store::insert(tx, &user).await?;
    user::service::journal(tx, "recover", &user.id, None, Some(&user));
    give(tx, &user.id, TargetKind::System, SYSTEM, &roles["admin"].0).await?;
    Ok(user)
}

/// The domain is enabled again where somebody disabled it.
async fn make_domain(tx: &mut Tx) -> Result<DomainId, BootstrapError> {
    let id: DomainId = fixed_id("domain:recovery").parse().unwrap_or_else(|_| DomainId::random());
    let mut wanted = Domain {
        id: id.clone(),
        name: RECOVERY_DOMAIN.to_owned(),
        description: "Administrators that were made at the machine's console.".to_owned(),
        enabled: true,
        tags: Vec::new(),
        options: Map::new(),
        extra: Map::new(),
        serial: 0,
        generation: 1,
        created_at: tx.now(),
    };
    match domain::store::get(tx, &id).await? {
        Some(found) if found.enabled => {}
        Some(mut found) => {
            found.enabled = true;
            domain::store::update(tx, &found).await?;
            journal(tx, "domain", id.as_str(), found.public());
        }
        None => {
            if !domain::store::insert(tx, &wanted).await? {
                wanted.name = format!("{RECOVERY_DOMAIN}-{}", &id.as_str()[..8]);
                domain::store::insert(tx, &wanted).await?;
            }
            journal(tx, "domain", id.as_str(), wanted.public());
        }
    }
    Ok(id)
}
