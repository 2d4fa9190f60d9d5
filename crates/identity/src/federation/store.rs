//! The SQL of `identity_federated_users`, `identity_federated_sessions` and `identity_used_once`,
//! and of memberships that expire.

use cloud_types::{DomainId, ProjectId, RoleId, Timestamp, UserId};
use database::{DatabaseError, Row, ToValue, Tx, Value, params};

use super::model::{Link, SESSION, Session};
use crate::token::store::Granted;
use crate::vault::Column;

/// What is sealed here.
pub(crate) const SEALED: Column = Column {
    table: "identity_federated_sessions",
    prefix: SESSION,
    key: "chain",
    sealed: "word",
    key_id: None,
    plain: None,
};

/// The shadow user of a link.
pub(crate) async fn user_of(tx: &mut Tx, link: &Link) -> Result<Option<UserId>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT user_id FROM identity_federated_users
             WHERE idp_id = $1 AND protocol_id = $2 AND unique_id = $3",
            &params![link.idp_id, link.protocol_id, link.unique_id],
        )
        .await?;
    row.map(|row| row.parse("user_id")).transpose()
}

pub(crate) async fn add_link(tx: &mut Tx, link: &Link, user: &UserId) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_federated_users (idp_id, protocol_id, unique_id, user_id)
         VALUES ($1, $2, $3, $4)",
        &params![link.idp_id, link.protocol_id, link.unique_id, user],
    )
    .await?;
    Ok(())
}

/// By which providers a user comes.
pub(crate) async fn links_of(tx: &mut Tx, user: &UserId) -> Result<Vec<Link>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT idp_id, protocol_id, unique_id FROM identity_federated_users
             WHERE user_id = $1 ORDER BY idp_id, protocol_id, unique_id",
            &params![user],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Link {
                idp_id: row.text("idp_id")?,
                protocol_id: row.text("protocol_id")?,
                unique_id: row.text("unique_id")?,
            })
        })
        .collect()
}

/// With a user that is deleted.
pub(crate) async fn forget_user(tx: &mut Tx, user: &UserId) -> Result<(), DatabaseError> {
    let user = &params![user];
    tx.execute("DELETE FROM identity_federated_users WHERE user_id = $1", user).await?;
    tx.execute("DELETE FROM identity_federated_sessions WHERE user_id = $1", user).await?;
    Ok(())
}

/// Keeps a membership until a time. One that an administrator gave stays without end.
pub(crate) async fn keep_membership(
    tx: &mut Tx,
    group: &str,
    user: &UserId,
    idp: &str,
    until: Timestamp,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_group_members (group_id, user_id, idp_id, expires_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (group_id, user_id) DO UPDATE
         SET idp_id = excluded.idp_id, expires_at = excluded.expires_at
         WHERE identity_group_members.expires_at IS NOT NULL",
        &params![group, user, idp, until],
    )
    .await?;
    Ok(())
}

/// The groups in which a provider's word keeps a user.
pub(crate) async fn kept_groups(
    tx: &mut Tx,
    user: &UserId,
    idp: &str,
) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT group_id FROM identity_group_members
             WHERE user_id = $1 AND idp_id = $2 AND expires_at IS NOT NULL ORDER BY group_id",
            &params![user, idp],
        )
        .await?;
    rows.iter().map(|row| row.text("group_id")).collect()
}

/// Ends the memberships in which a provider's word keeps anybody; answers whose.
pub(crate) async fn drop_kept_by(tx: &mut Tx, idp: &str) -> Result<Vec<UserId>, DatabaseError> {
    let rows = tx
        .query(
            "DELETE FROM identity_group_members WHERE idp_id = $1 AND expires_at IS NOT NULL
             RETURNING user_id",
            &params![idp],
        )
        .await?;
    let mut users: Vec<UserId> =
        rows.iter().map(|row| row.parse("user_id")).collect::<Result<_, _>>()?;
    users.sort();
    users.dedup();
    Ok(users)
}

pub(crate) async fn drop_kept(
    tx: &mut Tx,
    group: &str,
    user: &UserId,
) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_group_members
         WHERE group_id = $1 AND user_id = $2 AND expires_at IS NOT NULL",
        &params![group, user],
    )
    .await?;
    Ok(())
}

/// Removes memberships that are over, at most `limit`; answers whose.
pub(crate) async fn expire_memberships(
    tx: &mut Tx,
    limit: u32,
) -> Result<Vec<UserId>, DatabaseError> {
    let now = tx.now();
    let rows = tx
        .query(
            "SELECT group_id, user_id FROM identity_group_members
             WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
            &params![now, limit],
        )
        .await?;
    let mut users: Vec<UserId> = Vec::new();
    for row in rows {
        let user: UserId = row.parse("user_id")?;
        drop_kept(tx, &row.text("group_id")?, &user).await?;
        users.push(user);
    }
    users.sort();
    users.dedup();
    Ok(users)
}

fn session_of(row: &Row) -> Result<Session, DatabaseError> {
    Ok(Session {
        chain: row.text("chain")?,
        user_id: row.parse("user_id")?,
        idp_id: row.text("idp_id")?,
        protocol_id: row.text("protocol_id")?,
        subject: row.text("subject")?,
        provider_session: row.opt_text("provider_session")?,
        word_kind: row.text("word_kind")?,
        word: row.opt_bytes("word")?,
        groups: row.json("groups")?,
        expires_at: row.timestamp("expires_at")?,
    })
}

pub(crate) async fn add_session(tx: &mut Tx, session: &Session) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO identity_federated_sessions
             (chain, user_id, idp_id, protocol_id, subject, provider_session, word_kind, word,
              groups, checked_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &params![
            session.chain,
            session.user_id,
            session.idp_id,
            session.protocol_id,
            session.subject,
            session.provider_session,
            session.word_kind,
            session.word,
            serde_json::json!(session.groups).to_string(),
            now,
            session.expires_at
        ],
    )
    .await?;
    Ok(())
}

/// Takes sessions that were last asked about before a time, and marks them asked about now: no
/// other process takes them meanwhile.
pub(crate) async fn take_due(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<Session>, DatabaseError> {
    let now = tx.now();
    let rows = tx
        .query(
            "UPDATE identity_federated_sessions SET checked_at = $1
             WHERE chain IN (
                 SELECT chain FROM identity_federated_sessions
                 WHERE checked_at <= $2 AND expires_at > $1 AND word IS NOT NULL
                 ORDER BY checked_at LIMIT $3)
             RETURNING *",
            &params![now, before, limit],
        )
        .await?;
    rows.iter().map(session_of).collect()
}

/// What the provider gave in place of the former word.
pub(crate) async fn renew_word(
    tx: &mut Tx,
    chain: &str,
    former: &[u8],
    word: &[u8],
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE identity_federated_sessions SET word = $3 WHERE chain = $1 AND word = $2",
        &params![chain, former, word],
    )
    .await?;
    Ok(())
}

/// Sessions of a person, or those of one session of the provider.
pub(crate) async fn sessions_of(
    tx: &mut Tx,
    idp: &str,
    protocol: &str,
    subject: Option<&str>,
    provider_session: Option<&str>,
) -> Result<Vec<Session>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_federated_sessions
             WHERE idp_id = $1 AND protocol_id = $2
               AND (CAST($3 AS TEXT) IS NULL OR subject = $3)
               AND (CAST($4 AS TEXT) IS NULL OR provider_session = $4)
             ORDER BY chain",
            &params![idp, protocol, subject, provider_session],
        )
        .await?;
    rows.iter().map(session_of).collect()
}

/// Sessions that one provider's word gave to a user.
pub(crate) async fn sessions_of_user(
    tx: &mut Tx,
    user: &UserId,
    idp: &str,
) -> Result<Vec<Session>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_federated_sessions WHERE user_id = $1 AND idp_id = $2
             ORDER BY chain",
            &params![user, idp],
        )
        .await?;
    rows.iter().map(session_of).collect()
}

/// False when it was gone already.
pub(crate) async fn end_session(tx: &mut Tx, chain: &str) -> Result<bool, DatabaseError> {
    let gone = tx
        .execute("DELETE FROM identity_federated_sessions WHERE chain = $1", &params![chain])
        .await?;
    Ok(gone == 1)
}

/// The same, where its word is still this one.
pub(crate) async fn end_session_with(
    tx: &mut Tx,
    chain: &str,
    word: &[u8],
) -> Result<bool, DatabaseError> {
    let gone = tx
        .execute(
            "DELETE FROM identity_federated_sessions WHERE chain = $1 AND word = $2",
            &params![chain, word],
        )
        .await?;
    Ok(gone == 1)
}

/// Remembers something that may happen once. False when it has happened already.
pub(crate) async fn use_once(
    tx: &mut Tx,
    id: &str,
    until: Timestamp,
) -> Result<bool, DatabaseError> {
    let inserted = tx
        .execute(
            "INSERT INTO identity_used_once (id, expires_at) VALUES ($1, $2)
             ON CONFLICT DO NOTHING",
            &params![id, until],
        )
        .await?;
    Ok(inserted == 1)
}

/// Forgets sessions whose tokens are all over, and what can no longer be replayed.
pub(crate) async fn sweep(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let now = &params![tx.now()];
    let sessions =
        tx.execute("DELETE FROM identity_federated_sessions WHERE expires_at <= $1", now).await?;
    let used = tx.execute("DELETE FROM identity_used_once WHERE expires_at <= $1", now).await?;
    Ok(sessions + used)
}

/// `$from, $from+1, …` for so many values.
fn places(from: usize, count: usize) -> String {
    (from..from + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

/// The roles that groups have in a scope; for projects also those that the domain or a project above
/// hands down.
pub(crate) async fn roles_of_groups(
    tx: &mut Tx,
    groups: &[String],
    scope: &Granted<'_>,
) -> Result<Vec<RoleId>, DatabaseError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let (line, target, mut params): (&str, &str, Vec<Value>) = match scope {
        Granted::Project(project, domain) => (
            "WITH RECURSIVE line (id) AS (
                 SELECT parent_id FROM identity_projects WHERE id = $1 AND parent_id IS NOT NULL
                 UNION
                 SELECT p.parent_id FROM identity_projects p JOIN line ON p.id = line.id
                 WHERE p.parent_id IS NOT NULL
             ) ",
            "((target_kind = 'project' AND target_id = $1 AND inherited = 0)
              OR (target_kind = 'domain' AND target_id = $2 AND inherited = 1)
              OR (target_kind = 'project' AND inherited = 1
                  AND target_id IN (SELECT id FROM line)))",
            vec![project.to_value(), domain.to_value()],
        ),
        Granted::Domain(domain) => (
            "",
            "target_kind = 'domain' AND target_id = $1 AND inherited = 0",
            vec![domain.to_value()],
        ),
        Granted::System => (
            "",
            "target_kind = 'system' AND target_id = $1 AND inherited = 0",
            params!["all"].to_vec(),
        ),
    };
    let groups_places = places(params.len() + 1, groups.len());
    params.extend(groups.iter().map(ToValue::to_value));
    let sql = format!(
        "{line}SELECT DISTINCT role_id FROM identity_assignments
         WHERE actor_kind = 'group' AND actor_id IN ({groups_places}) AND {target}
         ORDER BY role_id"
    );
    let rows = tx.query_dynamic(sql, &params).await?;
    rows.iter().map(|row| row.parse("role_id")).collect()
}

/// The projects on which groups have a role, directly or handed down.
pub(crate) async fn projects_of_groups(
    tx: &mut Tx,
    groups: &[String],
) -> Result<Vec<ProjectId>, DatabaseError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let params: Vec<Value> = groups.iter().map(ToValue::to_value).collect();
    let sql = format!(
        "WITH RECURSIVE granted (target_kind, target_id, inherited) AS (
             SELECT target_kind, target_id, inherited FROM identity_assignments
             WHERE actor_kind = 'group' AND actor_id IN ({})
         ), below (id) AS (
             SELECT id FROM identity_projects WHERE parent_id IN
                 (SELECT target_id FROM granted WHERE target_kind = 'project' AND inherited = 1)
             UNION
             SELECT p.id FROM identity_projects p JOIN below b ON p.parent_id = b.id
         )
         SELECT id FROM identity_projects WHERE
             id IN (SELECT target_id FROM granted
                    WHERE target_kind = 'project' AND inherited = 0)
             OR domain_id IN (SELECT target_id FROM granted
                              WHERE target_kind = 'domain' AND inherited = 1)
             OR id IN (SELECT id FROM below)
         ORDER BY id",
        places(1, groups.len())
    );
    let rows = tx.query_dynamic(sql, &params).await?;
    rows.iter().map(|row| row.parse("id")).collect()
}

/// The domains on which groups have a role.
pub(crate) async fn domains_of_groups(
    tx: &mut Tx,
    groups: &[String],
) -> Result<Vec<DomainId>, DatabaseError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let params: Vec<Value> = groups.iter().map(ToValue::to_value).collect();
    let sql = format!(
        "SELECT DISTINCT target_id FROM identity_assignments
         WHERE actor_kind = 'group' AND actor_id IN ({}) AND target_kind = 'domain'
           AND inherited = 0 ORDER BY target_id",
        places(1, groups.len())
    );
    let rows = tx.query_dynamic(sql, &params).await?;
    rows.iter().map(|row| row.parse("target_id")).collect()
}
