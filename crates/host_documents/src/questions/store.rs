//! SQL of questions.

use cloud_types::{HostId, Timestamp};
use database::{DatabaseError, Tx, params};
use host_protocol::{HostAnswer, HostQuery};

fn json(value: &impl serde::Serialize) -> Result<String, DatabaseError> {
    serde_json::to_string(value)
        .map_err(|error| DatabaseError::Misuse(format!("cannot be written as JSON: {error}")))
}

pub async fn insert(
    tx: &mut Tx,
    id: &str,
    host: &HostId,
    question: &HostQuery,
) -> Result<(), DatabaseError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO host_questions (id, host_id, question, asked_at) VALUES ($1, $2, $3, $4)",
        &params![id, host, json(question)?, now],
    )
    .await?;
    Ok(())
}

pub async fn take(tx: &mut Tx, id: &str, by: &str) -> Result<Option<HostQuery>, DatabaseError> {
    let row = tx
        .query_opt(
            "UPDATE host_questions SET taken_by = $2 WHERE id = $1 AND taken_by IS NULL
             RETURNING question",
            &params![id, by],
        )
        .await?;
    row.map(|row| row.json("question")).transpose()
}

pub async fn answer(tx: &mut Tx, id: &str, answer: &HostAnswer) -> Result<bool, DatabaseError> {
    let changed = tx
        .execute(
            "UPDATE host_questions SET answer = $2 WHERE id = $1 AND answer IS NULL",
            &params![id, json(answer)?],
        )
        .await?;
    Ok(changed == 1)
}

pub async fn collect(tx: &mut Tx, id: &str) -> Result<Option<HostAnswer>, DatabaseError> {
    let row = tx
        .query_opt("DELETE FROM host_questions WHERE id = $1 RETURNING answer", &params![id])
        .await?;
    match row {
        Some(row) => row.opt_json("answer"),
        None => Ok(None),
    }
}

pub async fn forget(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, DatabaseError> {
    tx.execute(
        "DELETE FROM host_questions WHERE id IN (
             SELECT id FROM host_questions WHERE asked_at < $1 ORDER BY asked_at, id LIMIT $2)",
        &params![before, limit],
    )
    .await
}
