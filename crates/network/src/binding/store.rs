//! All SQL on the numbers inside locators, and on what hosts say of ports.

use cloud_types::{HostId, PortId, ProjectId};
use database::{DatabaseError, Tx, params};
use host_protocol::DocumentKind;
use planted_bugs::planted;

use crate::port::model::PortStatus;

/// Highest port number of a host: it must fit in a locator.
pub const PORT_NUMBER_MAX: u32 = 0x00ff_ffff;

/// The next number of a scope, going round after 2^24 - 1; it may be in use.
pub async fn next_number(tx: &mut Tx, scope: &str) -> Result<u32, DatabaseError> {
    let row = tx
        .query_one(
            "INSERT INTO locator_cursors (scope, next_number) VALUES ($1, 1) \
             ON CONFLICT (scope) DO UPDATE SET next_number = \
             CASE WHEN locator_cursors.next_number >= 16777215 THEN 1 \
             ELSE locator_cursors.next_number + 1 END RETURNING next_number",
            &params![scope],
        )
        .await?;
    Ok(u32::try_from(row.int("next_number")?).unwrap_or(PORT_NUMBER_MAX))
}

/// Takes a number; `false` when it is in use or quarantined.
pub async fn take(
    tx: &mut Tx,
    scope: &str,
    number: u32,
    owner: &str,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "INSERT INTO locator_numbers (scope, number, owner, released) VALUES ($1, $2, $3, 0) \
             ON CONFLICT DO NOTHING",
            &params![scope, number, owner],
        )
        .await?;
    Ok(rows == 1)
}

/// Marks the number of an owner as no longer wanted.
pub async fn release(tx: &mut Tx, scope: &str, owner: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE locator_numbers SET released = 1 WHERE owner = $1 AND scope = $2",
        &params![owner, scope],
    )
    .await?;
    Ok(())
}

/// Remembers that a document must be done or gone, at this generation or later, before a number
/// may be used again.
pub async fn wait_for(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    document: &str,
    generation: u64,
    scope: &str,
    number: u32,
) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO locator_waits (host_id, kind, document_id, generation, scope, number) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (host_id, kind, document_id, scope, number) \
         DO UPDATE SET generation = excluded.generation",
        &params![host, kind.as_str(), document, generation, scope, number],
    )
    .await?;
    Ok(())
}

/// A document is done or gone: forgets what waited for it. Whether anything did.
pub async fn confirm(
    tx: &mut Tx,
    host: &HostId,
    kind: DocumentKind,
    document: &str,
    generation: u64,
) -> Result<bool, DatabaseError> {
    let rows = tx
        .execute(
            "DELETE FROM locator_waits WHERE host_id = $1 AND kind = $2 AND document_id = $3 \
             AND generation <= $4",
            &params![host, kind.as_str(), document, generation],
        )
        .await?;
    Ok(rows > 0)
}

/// Queues behind every other transaction that lets go of a number of the owner, or of what waits for
/// it. Two hosts that say at the same moment that they are done would each see what waited for the
/// other one, and the number would rest for ever.
pub async fn queue_for_numbers(tx: &mut Tx, owner: &str) -> Result<(), DatabaseError> {
    // An update, because it locks the rows on both databases.
    tx.execute("UPDATE locator_numbers SET released = released WHERE owner = $1", &params![owner])
        .await?;
    Ok(())
}

/// [`queue_for_numbers`] for every number that waits for a host.
pub async fn queue_for_host(tx: &mut Tx, host: &HostId) -> Result<(), DatabaseError> {
    tx.execute(
        "UPDATE locator_numbers SET released = released WHERE EXISTS (\
         SELECT 1 FROM locator_waits w WHERE w.scope = locator_numbers.scope \
         AND w.number = locator_numbers.number AND w.host_id = $1)",
        &params![host],
    )
    .await?;
    Ok(())
}

/// A host will never say anything again: forgets what waited for it. Whether anything did.
pub async fn forget_host(tx: &mut Tx, host: &HostId) -> Result<bool, DatabaseError> {
    let rows = tx.execute("DELETE FROM locator_waits WHERE host_id = $1", &params![host]).await?;
    Ok(rows > 0)
}

/// Frees released numbers for which nothing waits; their owners are returned. Looks only at the
/// owner's numbers when one is named.
pub async fn free_unawaited(
    tx: &mut Tx,
    owner: Option<&str>,
) -> Result<Vec<String>, DatabaseError> {
    let rows = match owner {
        Some(owner) if planted("reuse_port_number_early") => {
            tx.query(
                "DELETE FROM locator_numbers WHERE owner = $1 AND released = 1 RETURNING owner",
                &params![owner],
            )
            .await?
        }
        Some(owner) => {
            tx.query(
                "DELETE FROM locator_numbers WHERE owner = $1 AND released = 1 AND NOT EXISTS (\
                 SELECT 1 FROM locator_waits w WHERE w.scope = locator_numbers.scope \
                 AND w.number = locator_numbers.number) RETURNING owner",
                &params![owner],
            )
            .await?
        }
        None => {
            tx.query(
                "DELETE FROM locator_numbers WHERE released = 1 AND NOT EXISTS (\
                 SELECT 1 FROM locator_waits w WHERE w.scope = locator_numbers.scope \
                 AND w.number = locator_numbers.number) RETURNING owner",
                &[],
            )
            .await?
        }
    };
    rows.iter().map(|row| row.text("owner")).collect()
}

/// Whether the owner still has a quarantined number.
pub async fn is_quarantined(tx: &mut Tx, owner: &str) -> Result<bool, DatabaseError> {
    let rows = tx
        .query(
            "SELECT number FROM locator_numbers WHERE owner = $1 AND released = 1 LIMIT 1",
            &params![owner],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// Whose port changed its status, and what uses it.
#[derive(Clone, Debug)]
pub struct StatusChange {
    /// The owner.
    pub project_id: ProjectId,
    /// What uses it.
    pub device_id: String,
    /// What kind of user that is.
    pub device_owner: String,
}

/// Sets a bound port's status as its host reports it; `None` when it is no news, or the port lives
/// elsewhere by now.
pub async fn set_status(
    tx: &mut Tx,
    port: &PortId,
    host: &HostId,
    status: PortStatus,
) -> Result<Option<StatusChange>, DatabaseError> {
    let now = tx.now();
    let row = tx
        .query_opt(
            "UPDATE ports SET status = $3, revision = revision + 1, updated_at = $4 \
             WHERE id = $1 AND bound_host = $2 AND status <> $3 \
             RETURNING project_id, device_id, device_owner",
            &params![port, host, status.as_str(), now],
        )
        .await?;
    row.map(|row| {
        Ok(StatusChange {
            project_id: row.parse("project_id")?,
            device_id: row.text("device_id")?,
            device_owner: row.text("device_owner")?,
        })
    })
    .transpose()
}
