//! The SQL with which secrets in every [`Column`] are sealed anew. All else that is done with them is
//! in the stores of their tables.

use database::{DatabaseError, Tx, params};

use super::{Column, Plain, Sealed};

/// A row as it is stored.
pub(super) struct SealedRow {
    pub key: String,
    pub bytes: Vec<u8>,
}

/// Rows after one that another key sealed, in the order of their keys.
pub(super) async fn sealed_otherwise(
    tx: &mut Tx,
    column: &Column,
    key_id: &[u8],
    after: &str,
    most: i64,
) -> Result<Vec<SealedRow>, DatabaseError> {
    let Column { table, key, sealed, .. } = column;
    let sql = format!(
        "SELECT {key} AS row_key, {sealed} AS row_sealed FROM {table}
         WHERE {sealed} IS NOT NULL AND substr({sealed}, 1, 4) <> $1 AND {key} > $2
         ORDER BY row_key LIMIT $3"
    );
    let rows = tx.query_dynamic(sql, &params![key_id, after, most]).await?;
    rows.iter()
        .map(|row| Ok(SealedRow { key: row.text("row_key")?, bytes: row.bytes("row_sealed")? }))
        .collect()
}

/// Stores what was sealed anew, unless the row has changed meanwhile: then it has been sealed
/// anew, too, or comes up again.
pub(super) async fn reseal(
    tx: &mut Tx,
    column: &Column,
    before: &SealedRow,
    now: &Sealed,
) -> Result<(), DatabaseError> {
    let Column { table, key, sealed, .. } = column;
    let id = column.key_id.map_or_else(String::new, |column| format!(", {column} = $4"));
    let sql = format!("UPDATE {table} SET {sealed} = $3{id} WHERE {key} = $1 AND {sealed} = $2");
    let mut params = params![before.key, before.bytes, now.bytes].to_vec();
    if column.key_id.is_some() {
        params.extend(params![now.key].to_vec());
    }
    tx.execute_dynamic(sql, &params).await?;
    Ok(())
}

/// A secret that an earlier release left as it is.
pub(super) struct PlainRow {
    pub key: String,
    pub text: zeroize::Zeroizing<String>,
}

/// Rows that an earlier release wrote.
pub(super) async fn plain_rows(
    tx: &mut Tx,
    column: &Column,
    plain: &Plain,
    most: i64,
) -> Result<Vec<PlainRow>, DatabaseError> {
    let Column { table, key, sealed, .. } = column;
    let Plain { column: text, rows, .. } = plain;
    let sql = format!(
        "SELECT {key} AS row_key, {text} AS row_text FROM {table}
         WHERE {sealed} IS NULL AND {rows} ORDER BY row_key LIMIT $1"
    );
    let rows = tx.query_dynamic(sql, &params![most]).await?;
    rows.iter()
        .map(|row| {
            let text = zeroize::Zeroizing::new(row.text("row_text")?);
            Ok(PlainRow { key: row.text("row_key")?, text })
        })
        .collect()
}

/// Puts a sealed secret in the place of a plain one, unless the row has changed meanwhile.
pub(super) async fn seal_row(
    tx: &mut Tx,
    column: &Column,
    plain: &Plain,
    before: &PlainRow,
    now: &Sealed,
) -> Result<(), DatabaseError> {
    let Column { table, key, sealed, .. } = column;
    let Plain { column: text, empty, .. } = plain;
    let sql = format!(
        "UPDATE {table} SET {sealed} = $3, {text} = $4
         WHERE {key} = $1 AND {text} = $2 AND {sealed} IS NULL"
    );
    let params = params![before.key, before.text.as_str(), now.bytes, *empty].to_vec();
    tx.execute_dynamic(sql, &params).await?;
    Ok(())
}
