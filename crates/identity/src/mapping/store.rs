//! The SQL of `identity_mappings`.

use database::{DatabaseError, Row, Tx, params};

use super::model::{Mapping, SchemaVersion};

fn mapping_of(row: &Row) -> Result<Mapping, DatabaseError> {
    Ok(Mapping {
        id: row.text("id")?,
        // What is stored was checked; a later release's version is read as the newest known here.
        version: SchemaVersion::parse(&row.text("schema_version")?).unwrap_or(SchemaVersion::V3),
        rules: row.json("rules")?,
    })
}

pub(crate) async fn get(tx: &mut Tx, id: &str) -> Result<Option<Mapping>, DatabaseError> {
    let row = tx.query_opt("SELECT * FROM identity_mappings WHERE id = $1", &params![id]).await?;
    row.as_ref().map(mapping_of).transpose()
}

pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<Mapping>, DatabaseError> {
    let rows = tx.query("SELECT * FROM identity_mappings ORDER BY id", &[]).await?;
    rows.iter().map(mapping_of).collect()
}

/// False when the id is taken.
pub(crate) async fn insert(tx: &mut Tx, mapping: &Mapping) -> Result<bool, DatabaseError> {
    let now = tx.now();
    let inserted = tx
        .execute(
            "INSERT INTO identity_mappings (id, schema_version, rules, created_at)
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &params![mapping.id, mapping.version.as_str(), mapping.rules, now],
        )
        .await?;
    Ok(inserted == 1)
}

pub(crate) async fn update(tx: &mut Tx, mapping: &Mapping) -> Result<(), DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE identity_mappings SET schema_version = $2, rules = $3 WHERE id = $1",
            &params![mapping.id, mapping.version.as_str(), mapping.rules],
        )
        .await?;
    tx.expect_one(changed, "mapping", &mapping.id)
}

pub(crate) async fn delete(tx: &mut Tx, id: &str) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM identity_mappings WHERE id = $1", &params![id]).await?;
    Ok(())
}
