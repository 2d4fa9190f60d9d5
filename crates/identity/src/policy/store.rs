//! The SQL of `identity_policies` and `identity_policy_associations`. What an association does not
//! name is the empty text, so that there is one for each follower.

use database::{DatabaseError, Row, Tx, params};

use super::model::{Association, Follower, PolicyDocument};

fn policy_of(row: &Row) -> Result<PolicyDocument, DatabaseError> {
    Ok(PolicyDocument { id: row.text("id")?, kind: row.text("type")?, blob: row.text("blob")? })
}

pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<PolicyDocument>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_policies ORDER BY id", &[]).await?;
    rows.iter().map(policy_of).collect()
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<PolicyDocument>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_policies WHERE id = $1", &params![id]).await?;
    row.as_ref().map(policy_of).transpose()
}

/// Adds the policy or replaces what it says.
pub(crate) async fn put(tx: &mut Tx, policy: &PolicyDocument) -> Result<(), DatabaseError> {
    tx.execute(
        "INSERT INTO identity_policies (id, type, blob) VALUES ($1, $2, $3)
         ON CONFLICT (id) DO UPDATE SET type = excluded.type, blob = excluded.blob",
        &params![policy.id, policy.kind, policy.blob],
    )
    .await?;
    Ok(())
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_policy_associations WHERE policy_id = $1", &params![id])
        .await?;
    tx.execute("DELETE FROM identity_policies WHERE id = $1", &params![id]).await?;
    Ok(())
}

/// Endpoint, service and region as they stand in the table.
fn columns(follower: &Follower) -> (&str, &str, &str) {
    match follower {
        Follower::Endpoint(id) => (id, "", ""),
        Follower::Service(id) => ("", id, ""),
        Follower::ServiceInRegion { service, region } => ("", service, region),
    }
}

fn association_of(row: &Row) -> Result<Association, DatabaseError> {
    let (endpoint, service, region) =
        (row.text("endpoint_id")?, row.text("service_id")?, row.text("region_id")?);
    let follower = match (endpoint.is_empty(), region.is_empty()) {
        (false, _) => Follower::Endpoint(endpoint),
        (true, true) => Follower::Service(service),
        (true, false) => Follower::ServiceInRegion { service, region },
    };
    Ok(Association { policy_id: row.text("policy_id")?, follower })
}

pub(crate) async fn associations(tx: &mut Tx) -> Result<Vec<Association>, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_policy_associations
             ORDER BY endpoint_id, service_id, region_id",
            &[],
        )
        .await?;
    rows.iter().map(association_of).collect()
}

/// Makes the policy the one that is followed.
pub(crate) async fn associate(
    tx: &mut Tx,
    policy: &str,
    follower: &Follower,
) -> Result<(), DatabaseError> {
    let (endpoint, service, region) = columns(follower);
    tx.execute(
        "INSERT INTO identity_policy_associations (policy_id, endpoint_id, service_id, region_id)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (endpoint_id, service_id, region_id)
             DO UPDATE SET policy_id = excluded.policy_id",
        &params![policy, endpoint, service, region],
    )
    .await?;
    Ok(())
}

/// False when it was not so.
pub(crate) async fn dissociate(
    tx: &mut Tx,
    policy: &str,
    follower: &Follower,
) -> Result<bool, DatabaseError> {
    let (endpoint, service, region) = columns(follower);
    let ended = tx
        .execute(
            "DELETE FROM identity_policy_associations
             WHERE policy_id = $1 AND endpoint_id = $2 AND service_id = $3 AND region_id = $4",
            &params![policy, endpoint, service, region],
        )
        .await?;
    Ok(ended == 1)
}

/// Drops what names an endpoint, service or region that is deleted.
pub(crate) async fn forget(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_policy_associations
         WHERE endpoint_id = $1 OR service_id = $1 OR region_id = $1",
        &params![id],
    )
    .await?;
    Ok(())
}
