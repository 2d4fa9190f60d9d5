//! The SQL of `identity_domain_config`.

use database::{DatabaseError, Tx, params};
use serde_json::Value;

use super::model::Config;

/// Everything that a domain has set, secrets included.
pub(crate) async fn get(tx: &mut Tx, domain: &str) -> Result<Config, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_domain_config
             WHERE domain_id = $1 ORDER BY option_group, option_name",
            &params![domain],
        )
        .await?;
    let mut config = Config::new();
    for row in rows {
        let value: Value = row.json("option_value")?;
        let group = config.entry(row.text("option_group")?).or_default();
        group.insert(row.text("option_name")?, value);
    }
    Ok(config)
}

/// Sets options; others stay.
pub(crate) async fn set(tx: &mut Tx, domain: &str, config: &Config) -> Result<(), DatabaseError> {
    for (group, options) in config {
        for (option, value) in options {
            tx.execute(
                "INSERT INTO identity_domain_config
                     (domain_id, option_group, option_name, option_value)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (domain_id, option_group, option_name)
                     DO UPDATE SET option_value = excluded.option_value",
                &params![domain, group, option, value.to_string()],
            )
            .await?;
        }
    }
    Ok(())
}

/// Unsets all, a group, or an option.
pub(crate) async fn delete(
    tx: &mut Tx,
    domain: &str,
    group: Option<&str>,
    option: Option<&str>,
) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_domain_config
         WHERE domain_id = $1 AND ($2 = '' OR option_group = $2)
             AND ($3 = '' OR option_name = $3)",
        &params![domain, group.unwrap_or(""), option.unwrap_or("")],
    )
    .await?;
    Ok(())
}
