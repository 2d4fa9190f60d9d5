//! The SQL of tokens: `identity_revocations`, and what a token is made from, read in one snapshot.

use cloud_types::{DomainId, ProjectId, RoleId, Timestamp, UserId};
use database::{DatabaseError, Row, ToValue, Tx, params};

use super::directory::RoleDirectory;
use super::revocation::{Revocation, RevocationKind};
use super::verifier::REVOCATIONS_CHANNEL;

pub(crate) async fn add_revocation(
    tx: &mut Tx,
    revocation: &Revocation,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_revocations (id, kind, subject, scope, serial, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        &params![
            revocation.id,
            revocation.kind.as_str(),
            revocation.subject,
            revocation.scope,
            i64::try_from(revocation.serial).unwrap_or(i64::MAX),
            revocation.expires_at
        ],
    )
    .await?;
    tx.notify(REVOCATIONS_CHANNEL, revocation.id.clone());
    Ok(())
}

fn revocation_of(row: &Row) -> Result<Option<Revocation>, DatabaseError> {
    // A kind that a later release wrote is that release's to understand; it is counted as absent.
    let Some(kind) = RevocationKind::parse(&row.text("kind")?) else {
        return Ok(None);
    };
    Ok(Some(Revocation {
        id: row.text("id")?,
        kind,
        subject: row.text("subject")?,
        scope: row.text("scope")?,
        serial: u64::try_from(row.int("serial")?).unwrap_or(0),
        expires_at: row.timestamp("expires_at")?,
    }))
}

pub(crate) async fn revocation(tx: &mut Tx, id: &str) -> Result<Option<Revocation>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT id, kind, subject, scope, serial, expires_at
             FROM identity_revocations WHERE id = $1",
            &params![id],
        )
        .await?;
    row.as_ref().map_or(Ok(None), revocation_of)
}

pub(crate) async fn live_revocations(tx: &mut Tx) -> Result<Vec<Revocation>, DatabaseError> {
    let now = tx.now();
    let rows = tx
        .query(
            "SELECT id, kind, subject, scope, serial, expires_at
             FROM identity_revocations WHERE expires_at >= $1",
            &params![now],
        )
        .await?;
    let mut revocations = Vec::with_capacity(rows.len());
    for row in &rows {
        revocations.extend(revocation_of(row)?);
    }
    Ok(revocations)
}

/// Those that may speak of a token, by what it names.
pub(crate) async fn revocations_of(
    tx: &mut Tx,
    subjects: &[String],
) -> Result<Vec<Revocation>, DatabaseError> {
    let now = tx.now();
    let places: Vec<String> = (2..subjects.len() + 2).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT id, kind, subject, scope, serial, expires_at
         FROM identity_revocations WHERE expires_at >= $1 AND subject IN ({})",
        places.join(", ")
    );
    let mut params = vec![now.to_value()];
    params.extend(subjects.iter().map(ToValue::to_value));
    let mut revocations = Vec::new();
    for row in &tx.query_dynamic(sql, &params).await? {
        revocations.extend(revocation_of(row)?);
    }
    Ok(revocations)
}

/// Removes revocations of tokens that are all dead by now. Answers how many.
pub(crate) async fn sweep_revocations(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let now: Timestamp = tx.now();
    tx.execute("DELETE FROM identity_revocations WHERE expires_at < $1", &params![now]).await
}

pub(crate) async fn role_directory(tx: &mut Tx) -> Result<RoleDirectory, DatabaseError> {
    let mut directory = RoleDirectory::default();
    for row in tx.query("SELECT id, name, domain_id FROM identity_roles", &[]).await? {
        if row.text("domain_id")?.is_empty() {
            directory.names.insert(row.parse("id")?, row.text("name")?);
        } else {
            directory.of_domains.insert(row.parse("id")?);
        }
    }
    let rows =
        tx.query("SELECT prior_role_id, implied_role_id FROM identity_implied_roles", &[]).await?;
    for row in rows {
        let prior: RoleId = row.parse("prior_role_id")?;
        directory.implied.entry(prior).or_default().insert(row.parse("implied_role_id")?);
    }
    Ok(directory)
}

/// What a token's scope looks like in `identity_assignments`.
pub(crate) enum Granted<'a> {
    Project(&'a ProjectId, &'a DomainId),
    Domain(&'a DomainId),
    System,
}

/// The roles that a user has in a scope, directly and by groups; for projects also those that the
/// domain or a parent project hands down. Implied roles are not added here.
pub(crate) async fn roles_in_scope(
    tx: &mut Tx,
    user: &UserId,
    scope: &Granted<'_>,
) -> Result<Vec<RoleId>, DatabaseError> {
    let now = tx.now();
    let rows = match scope {
        Granted::Project(project, domain) => {
            tx.query(
                "WITH RECURSIVE line (id) AS (
                     SELECT parent_id FROM identity_projects
                     WHERE id = $2 AND parent_id IS NOT NULL
                     UNION
                     SELECT p.parent_id FROM identity_projects p JOIN line ON p.id = line.id
                     WHERE p.parent_id IS NOT NULL
                 )
                 SELECT DISTINCT a.role_id FROM identity_assignments a
                 WHERE ((a.actor_kind = 'user' AND a.actor_id = $1)
                     OR (a.actor_kind = 'group' AND a.actor_id IN
                         (SELECT group_id FROM identity_group_members WHERE user_id = $1
                          AND (expires_at IS NULL OR expires_at > $4))))
                   AND ((a.target_kind = 'project' AND a.target_id = $2 AND a.inherited = 0)
                     OR (a.target_kind = 'domain' AND a.target_id = $3 AND a.inherited = 1)
                     OR (a.target_kind = 'project' AND a.inherited = 1
                         AND a.target_id IN (SELECT id FROM line)))
                 ORDER BY a.role_id",
                &params![user, project, domain, now],
            )
            .await?
        }
        Granted::Domain(domain) => direct(tx, user, "domain", domain.as_str()).await?,
        Granted::System => direct(tx, user, "system", "all").await?,
    };
    rows.iter().map(|row| row.parse("role_id")).collect()
}

async fn direct(
    tx: &mut Tx,
    user: &UserId,
    kind: &'static str,
    target: &str,
) -> Result<Vec<Row>, DatabaseError> {
    let now = tx.now();
    tx.query(
        "SELECT DISTINCT a.role_id FROM identity_assignments a
         WHERE ((a.actor_kind = 'user' AND a.actor_id = $1)
             OR (a.actor_kind = 'group' AND a.actor_id IN
                 (SELECT group_id FROM identity_group_members WHERE user_id = $1
                  AND (expires_at IS NULL OR expires_at > $4))))
           AND a.target_kind = $2 AND a.target_id = $3 AND a.inherited = 0
         ORDER BY a.role_id",
        &params![user, kind, target, now],
    )
    .await
}

/// The serial of what roles imply.
pub(crate) async fn implications_serial(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT serial FROM identity_serials WHERE name = 'role_implications'",
            &params![],
        )
        .await?;
    row.map_or(Ok(0), |row| Ok(u64::try_from(row.int("serial")?).unwrap_or(0)))
}

/// Raises it; answers the new one, which is the first good one.
pub(crate) async fn raise_implications_serial(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let row = tx
        .query_opt(
            "UPDATE identity_serials SET serial = serial + 1
             WHERE name = 'role_implications' RETURNING serial",
            &params![],
        )
        .await?;
    row.map_or(Ok(0), |row| Ok(u64::try_from(row.int("serial")?).unwrap_or(0)))
}
