//! What may be done with key pairs.

use cloud_types::{Fault, UserId};
use database::{JournalEntry, ObjectLock, Tx};
use serde_json::json;
use service_kit::{Ctx, Kit, Target};

use super::model;
use super::store::{self, KeyPair};
use crate::server::KeySnapshot;

/// The most key pairs of a user (Nova's default quota).
pub const MAX_PER_USER: i64 = 100;

/// A request for a key pair.
#[derive(Clone, Debug)]
pub struct KeyPairRequest {
    /// Its name.
    pub name: String,
    /// The public key; absent asks for a new pair.
    pub public_key: Option<String>,
    /// For another user: administrators only.
    pub user: Option<UserId>,
}

fn authorise(ctx: &Ctx, rule: &str, user: Option<UserId>) -> Result<UserId, Fault> {
    let user = match user {
        Some(user) => user,
        None => ctx.user()?,
    };
    ctx.authorise(rule, &Target::user(&user))?;
    Ok(user)
}

fn missing(user: &UserId, name: &str) -> Fault {
    let name: String = name.chars().take(64).collect();
    Fault::not_found(format!("Keypair {name} not found for user {user}"))
}

/// Keeps a public key, or makes a pair; then the private half is returned beside it.
///
/// # Errors
/// 400 for what is no key, 403 over the limit, 409 when the name is taken.
pub async fn create(
    kit: &Kit,
    ctx: &Ctx,
    request: KeyPairRequest,
) -> Result<(KeyPair, Option<String>), Fault> {
    let user = authorise(ctx, "compute:keypairs:create", request.user)?;
    let (public, private) = match &request.public_key {
        Some(text) => (model::read_public_key(text)?, None),
        None => {
            let made = model::generate(rand::random(), rand::random(), "Generated-by-Meridian");
            (made.public, Some(made.private_pem))
        }
    };
    let name = request.name;
    kit.transact(ctx, move |tx| {
        let (user, name) = (user.clone(), name.clone());
        let (public, private) = (public.clone(), private.clone());
        Box::pin(async move {
            tx.lock(&[ObjectLock::new("keypairs", &user), ObjectLock::new("keypairs", "numbers")])
                .await?;
            let (held, highest) = store::count(tx, &user).await?;
            if held >= MAX_PER_USER {
                return Err(Fault::forbidden(
                    "Quota exceeded, too many key pairs. Delete one that is not used.",
                ));
            }
            let pair = KeyPair {
                user: user.clone(),
                name,
                number: highest + 1,
                kind: "ssh".to_owned(),
                fingerprint: public.fingerprint,
                public_key: public.line,
                created_at: tx.now(),
            };
            if !store::insert(tx, &pair).await? {
                return Err(Fault::conflict(format!("Key pair '{}' already exists.", pair.name)));
            }
            journal(tx, "create", &pair);
            Ok((pair, private))
        })
    })
    .await
}

fn journal(tx: &mut Tx, action: &'static str, pair: &KeyPair) {
    let view = Some(json!({"name": pair.name, "user": pair.user, "fingerprint": pair.fingerprint}));
    let (before, after) = if action == "create" { (None, view) } else { (view, None) };
    tx.journal(JournalEntry {
        kind: "keypair",
        id: format!("{}/{}", pair.user, pair.name),
        project: None,
        action,
        before,
        after,
    });
}

/// One key pair.
///
/// # Errors
/// 403, 404.
pub async fn show(
    kit: &Kit,
    ctx: &Ctx,
    name: &str,
    user: Option<UserId>,
) -> Result<KeyPair, Fault> {
    let user = authorise(ctx, "compute:keypairs:show", user)?;
    let name = name.to_owned();
    kit.db
        .read(move |tx| {
            let (user, name) = (user.clone(), name.clone());
            Box::pin(async move {
                store::get(tx, &user, &name).await?.ok_or_else(|| missing(&user, &name))
            })
        })
        .await
}

/// A page of key pairs by name.
///
/// # Errors
/// 403, 400 for a marker that names none.
pub async fn list(
    kit: &Kit,
    ctx: &Ctx,
    user: Option<UserId>,
    marker: Option<String>,
    limit: i64,
) -> Result<Vec<KeyPair>, Fault> {
    let user = authorise(ctx, "compute:keypairs:list", user)?;
    kit.db
        .read(move |tx| {
            let (user, marker) = (user.clone(), marker.clone());
            Box::pin(async move {
                if let Some(marker) = &marker
                    && store::get(tx, &user, marker).await?.is_none()
                {
                    return Err(Fault::bad_request(format!(
                        "Marker {} could not be found.",
                        marker.chars().take(64).collect::<String>()
                    )));
                }
                Ok(store::list(tx, &user, marker.as_deref(), limit).await?)
            })
        })
        .await
}

/// Forgets a key pair. Servers that have it keep it.
///
/// # Errors
/// 403, 404.
pub async fn delete(kit: &Kit, ctx: &Ctx, name: &str, user: Option<UserId>) -> Result<(), Fault> {
    let user = authorise(ctx, "compute:keypairs:delete", user)?;
    let name = name.to_owned();
    kit.transact(ctx, move |tx| {
        let (user, name) = (user.clone(), name.clone());
        Box::pin(async move {
            let Some(pair) = store::get(tx, &user, &name).await? else {
                return Err(missing(&user, &name));
            };
            store::delete(tx, &user, &name).await?;
            journal(tx, "delete", &pair);
            Ok(())
        })
    })
    .await
}

/// The copy that a server keeps of its user's key.
///
/// # Errors
/// 400 when there is none of that name, as a request for a server answers.
pub async fn snapshot(tx: &mut Tx, user: &UserId, name: &str) -> Result<KeySnapshot, Fault> {
    match store::get(tx, user, name).await? {
        Some(pair) => Ok(KeySnapshot { name: pair.name, public_key: pair.public_key }),
        None => Err(Fault::bad_request("Invalid key_name provided.")),
    }
}
