//! The SQL of `identity_directory_entries` and `identity_directory_sessions`, of the mirror in the
//! tables of users and groups, and reading a domain's configuration.

use cloud_types::{DomainId, Timestamp, UserId};
use database::{DatabaseError, Tx, params};

use super::entry::Kind;

/// A mirrored entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub public_id: String,
    pub domain_id: DomainId,
    pub local_id: String,
    /// The serial that a user's row has to have at least, if it is made anew.
    pub serial: u64,
}

pub(crate) async fn entry(
    tx: &mut Tx,
    kind: Kind,
    public_id: &str,
) -> Result<Option<Entry>, DatabaseError> {
    let row = tx
        .query_opt(
            "SELECT * FROM identity_directory_entries WHERE public_id = $1 AND kind = $2",
            &params![public_id, kind.as_str()],
        )
        .await?;
    row.map(|row| {
        Ok(Entry {
            public_id: row.text("public_id")?,
            domain_id: row.parse("domain_id")?,
            local_id: row.text("local_id")?,
            serial: u64::try_from(row.int("serial")?).unwrap_or(0),
        })
    })
    .transpose()
}

/// The mirrored entries of a domain that have a row: ids of users or groups.
pub(crate) async fn mirrored(
    tx: &mut Tx,
    kind: Kind,
    domain: &DomainId,
) -> Result<Vec<String>, DatabaseError> {
    let sql = match kind {
        Kind::User => {
            "SELECT e.public_id FROM identity_directory_entries e
             JOIN identity_users u ON u.id = e.public_id
             WHERE e.domain_id = $1 AND e.kind = 'user' ORDER BY e.public_id"
        }
        Kind::Group => {
            "SELECT e.public_id FROM identity_directory_entries e
             JOIN identity_groups g ON g.id = e.public_id
             WHERE e.domain_id = $1 AND e.kind = 'group' ORDER BY e.public_id"
        }
    };
    let rows = tx.query(sql, &params![domain]).await?;
    rows.iter().map(|row| row.text("public_id")).collect()
}

pub(crate) async fn remember(tx: &mut Tx, kind: Kind, entry: &Entry) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_directory_entries (public_id, domain_id, kind, local_id, serial)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        &params![entry.public_id, entry.domain_id, kind.as_str(), entry.local_id, entry.serial],
    )
    .await?;
    Ok(())
}

/// Takes the row of a user away who is not in the directory any more, with their memberships in its
/// groups. What an administrator gave, roles and memberships in other groups, stays, should they come
/// back; so does the serial that their next tokens have to have.
pub(crate) async fn forget_row(
    tx: &mut Tx,
    user: &UserId,
    serial: u64,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE identity_directory_entries SET serial = $2 WHERE public_id = $1",
        &params![user, serial],
    )
    .await?;
    tx.execute(
        "DELETE FROM identity_group_members WHERE user_id = $1 AND group_id IN
             (SELECT public_id FROM identity_directory_entries WHERE kind = 'group')",
        &params![user],
    )
    .await?;
    tx.execute("DELETE FROM identity_directory_sessions WHERE user_id = $1", &params![user])
        .await?;
    tx.execute("DELETE FROM identity_users WHERE id = $1", &params![user]).await?;
    Ok(())
}

/// Takes the row of a group away; its roles stay.
pub(crate) async fn forget_group_row(tx: &mut Tx, group: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_group_members WHERE group_id = $1", &params![group]).await?;
    tx.execute("DELETE FROM identity_groups WHERE id = $1", &params![group]).await?;
    Ok(())
}

/// With a domain that is deleted.
pub(crate) async fn forget_domain(tx: &mut Tx, domain: &DomainId) -> Result<(), DatabaseError> {
    let domain = &params![domain];
    tx.execute(
        "DELETE FROM identity_directory_sessions WHERE user_id IN
             (SELECT public_id FROM identity_directory_entries WHERE domain_id = $1)",
        domain,
    )
    .await?;
    tx.execute(
        "DELETE FROM identity_group_members WHERE user_id IN
             (SELECT public_id FROM identity_directory_entries
              WHERE domain_id = $1 AND kind = 'user')",
        domain,
    )
    .await?;
    tx.execute("DELETE FROM identity_directory_entries WHERE domain_id = $1", domain).await?;
    Ok(())
}

/// The groups of the domain's directory in which a user is, by the mirror.
pub(crate) async fn mirrored_groups_of(
    tx: &mut Tx,
    domain: &DomainId,
    user: &UserId,
) -> Result<Vec<String>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT m.group_id FROM identity_group_members m
             JOIN identity_directory_entries e ON e.public_id = m.group_id AND e.kind = 'group'
             WHERE m.user_id = $1 AND e.domain_id = $2 ORDER BY m.group_id",
            &params![user, domain],
        )
        .await?;
    rows.iter().map(|row| row.text("group_id")).collect()
}

/// Somebody of a directory has tokens until then.
pub(crate) async fn note_session(
    tx: &mut Tx,
    user: &UserId,
    until: Timestamp,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO identity_directory_sessions (user_id, checked_at, expires_at)
         VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET expires_at = excluded.expires_at
         WHERE identity_directory_sessions.expires_at < excluded.expires_at",
        &params![user, now, until],
    )
    .await?;
    Ok(())
}

/// Takes people who have tokens and were last looked up before a time, and marks them looked up
/// now: no other process takes them meanwhile.
pub(crate) async fn take_due(
    tx: &mut Tx,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<UserId>, DatabaseError> {
    let now = tx.now();
    let rows = tx
        .query(
            "UPDATE identity_directory_sessions SET checked_at = $1
             WHERE user_id IN (
                 SELECT user_id FROM identity_directory_sessions
                 WHERE checked_at <= $2 AND expires_at > $1 ORDER BY checked_at LIMIT $3)
             RETURNING user_id",
            &params![now, before, limit],
        )
        .await?;
    rows.iter().map(|row| row.parse("user_id")).collect()
}

/// Forgets those whose tokens are all over.
pub(crate) async fn sweep(tx: &mut Tx) -> Result<u64, DatabaseError> {
    let now = tx.now();
    tx.execute("DELETE FROM identity_directory_sessions WHERE expires_at <= $1", &params![now])
        .await
}

/// Gives a name back that another entry has now: the row is called by its id until it is seen again.
pub(crate) async fn free_user_name(
    tx: &mut Tx,
    domain: &DomainId,
    name: &str,
    keeper: &UserId,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE identity_users SET name = id, generation = generation + 1
         WHERE domain_id = $1 AND name = $2 AND id <> $3
           AND id IN (SELECT public_id FROM identity_directory_entries WHERE kind = 'user')",
        &params![domain, name, keeper],
    )
    .await?;
    Ok(())
}

/// The same for groups.
pub(crate) async fn free_group_name(
    tx: &mut Tx,
    domain: &DomainId,
    name: &str,
    keeper: &str,
) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE identity_groups SET name = id
         WHERE domain_id = $1 AND name = $2 AND id <> $3
           AND id IN (SELECT public_id FROM identity_directory_entries WHERE kind = 'group')",
        &params![domain, name, keeper],
    )
    .await?;
    Ok(())
}
